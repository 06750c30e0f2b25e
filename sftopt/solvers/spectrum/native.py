"""``native-spectrum``: the small problem (14) by root search, exact for both rate laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sftopt.core.candidate import Shares
from sftopt.core.least_time import Array, least_time
from sftopt.core.limits import least_loss_candidate
from sftopt.core.round import LinkProblem, RoundProblem
from sftopt.core.spectrum import ConcaveRate, LinearRate
from sftopt.core.status import Termination
from sftopt.formulations.base import Problem, ProblemClass, Start
from sftopt.solvers.base import Availability, Outcome, Solver, Takes, Task


class SpectrumNativeSolver(Solver):
    """Every link by itself: equation (14) is convex and its links share nothing."""

    name = "native-spectrum"
    kind = "global"
    takes = (Takes("native", {ProblemClass.NATIVE}, Problem.ROUND),)
    default = "spectrum-native"
    honours = frozenset({"x0"})
    native_options = False
    in_process = True
    summary = "exact shares of one round by compiled root search; any size"

    def available(self) -> Availability:
        """Solve a link with a known answer under each law."""
        try:
            import numba

            law = ConcaveRate(1.0, np.ones((2, 1)), 1.0)  # at shares of 1/2 the rates are 1/2
            found = [
                least_time(np.zeros(2), np.array([1.0, 2.0]), LinearRate(np.ones(2)))[0],
                least_time(np.zeros(2), np.ones(2), law)[0],
            ]
        except ImportError as error:
            return Availability(False, f"numba is missing: {error}", "pip install numba")
        if not np.allclose(found, [3.0, 2.0], rtol=1e-12):
            return Availability(False, f"the probe gave {found}")
        return Availability(True, engine_version=f"Numba {numba.__version__}")

    def run(self, task: Task) -> Outcome:
        """Find the best shares at the start's cuts, options and keep fractions."""
        problem: RoundProblem = task.model
        candidate = task.start.candidate if task.start else least_loss_candidate(task.derived)
        exchange = problem.adapter
        if exchange is None:  # psd: tau_a is a constant, but a plan names the shares that reach it
            bits = task.derived.adapter_bits(np.rint(candidate.cuts))
            exchange = LinkProblem(np.zeros(len(bits)), bits, task.derived.uplink_law)
        near = None if task.start is None else task.start.shares
        tau_up, up = _least(problem.uplink, None if near is None else near.uplink)
        tau_down, down = _least(problem.downlink, None)
        tau_a, adapter = _least(exchange, None if near is None else near.adapter)
        claimed = problem.steps * (tau_up + tau_down) + problem.constant_s
        claimed += tau_a if problem.adapter is not None else 0.0
        if not np.isfinite(claimed):
            text = "a device has a payload and no rate"
            return Outcome(Termination.NUMERICAL_ERROR, message=text)
        return Outcome(
            Termination.CONVERGED_GLOBAL,
            candidate=replace(candidate, shares=Shares(up, down, adapter)),
            claimed_s=claimed,
            start_used=_said(task.start, task.options.x0 is not None),
            message="optimal for problem (14) at the start's cuts, modes and keep fractions",
        )


def _least(link: LinkProblem, near: Array | None) -> tuple[float, Array]:
    return least_time(link.fixed_s, link.payload_bits, link.law, near)


def _said(start: Start | None, given: bool) -> str:
    if start is None:
        return "least cuts and least loss"
    return "x0" if given else "constructed"


SOLVER = SpectrumNativeSolver()
