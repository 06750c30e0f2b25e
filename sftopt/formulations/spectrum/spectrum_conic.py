"""``spectrum-conic``: the small problem (14) as a disciplined convex problem with parameters.

Everything that changes from round to round is a CVXPY parameter, and enters as the rules of
disciplined parametrised programming ask: a problem is compiled once for its number of devices,
its rate law and its number of coherence blocks, and solved again for every round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import Derived
from sftopt.core.entropy import LN2
from sftopt.core.limits import least_loss_candidate
from sftopt.core.round import RoundProblem, round_problem
from sftopt.core.status import Promise
from sftopt.formulations.base import Problem, ProblemClass, Start
from sftopt.formulations.conic.base import ConicFormulation, ProblemBuilder
from sftopt.formulations.conic.cvxpy_layer import cp
from sftopt.formulations.spectrum.scaling import (
    TIMES,
    ScaledLink,
    ScaledRound,
    scale_round,
    shares_from,
    widened,
)

Array = NDArray[np.float64]


class ConicLink:
    """The variables and parameters of one link over all N devices, scaled as ``ScaledLink``.

    Devices without payload have a share of weight 0, so that the compiled problem stays the same
    whoever sends. ``blocks`` is the number of fading terms, 0 under a linear law.
    """

    def __init__(self, builder: ProblemBuilder, name: str, ids: tuple[str, ...], blocks: int):
        count = len(ids)
        self.u = cp.Variable(name=f"var_{TIMES[name]}", nonneg=True)
        self.z = cp.Variable(count, name=f"var_{name}_share", nonneg=True)
        self.share_unit = cp.Parameter(count, nonneg=True, name=f"{name}_share_unit")
        self.slope = cp.Parameter(count, nonneg=True, name=f"{name}_slope")
        self.low = cp.Parameter(count, nonneg=True, name=f"{name}_low")
        self.high = cp.Parameter(count, nonneg=True, name=f"{name}_high")
        builder.add(f"con_{name}_share_low", self.z >= self.low, ids)
        builder.add(f"con_{name}_share_high", self.z <= self.high, ids)
        rate: Any = self.z
        if blocks:
            rate = self._fading_terms(builder, name, ids, blocks)
        room = self.slope * self.u + (1.0 - self.slope)
        builder.add(f"con_{name}_time", room >= cp.inv_pos(rate), ids)
        builder.add(f"con_{name}_share", self.share_unit @ self.z <= 1.0)

    def _fading_terms(
        self, builder: ProblemBuilder, name: str, ids: tuple[str, ...], blocks: int
    ) -> Any:
        """q_n(z) of equation (3) under ``total``: a mean of terms below both log and cap.

        Term k of device n is in units of its own value at z = 1, so that a weak device's terms are
        as near to 1 as a strong one's: unit t <= z ln(1 + alpha/z) and unit t <= C ln 2 z. The
        logarithm is split at z = 1, into z ln(1 + alpha) and z ln((z + alpha) / (z (1 + alpha))):
        with alpha beyond 1e5 its cone would hold numbers of that size beside others near 1.
        """
        shape = (len(ids), blocks)
        self.term = cp.Variable(shape, name=f"var_{name}_term", nonneg=True)
        self.near = cp.Parameter(shape, nonneg=True, name=f"{name}_near")
        self.far = cp.Parameter(shape, nonneg=True, name=f"{name}_far")
        self.log = cp.Parameter(shape, nonneg=True, name=f"{name}_log")
        self.term_unit = cp.Parameter(shape, nonneg=True, name=f"{name}_term_unit")
        self.term_cap = cp.Parameter(shape, nonneg=True, name=f"{name}_term_cap")
        self.term_weight = cp.Parameter(shape, nonneg=True, name=f"{name}_term_weight")
        wide = cp.reshape(self.z, (len(ids), 1), order="C") @ np.ones((1, blocks))
        inside = cp.multiply(self.near, wide) + self.far
        log = cp.multiply(self.log, wide) - cp.rel_entr(wide, inside)
        pairs = tuple(f"{device},{k}" for device in ids for k in range(blocks))
        builder.add(f"con_{name}_term", cp.multiply(self.term_unit, self.term) <= log, pairs)
        builder.add(f"con_{name}_cap", self.term <= cp.multiply(self.term_cap, wide), pairs)
        return cp.sum(cp.multiply(self.term_weight, self.term), axis=1)

    def update(self, link: ScaledLink) -> None:
        """Set the parameters to ``link``, and the variables to its reference."""
        count, rows = link.devices, link.rows
        self.share_unit.value = _padded(link.share_unit, rows, count, 0.0)
        self.slope.value = _padded(link.slope, rows, count, 0.0)
        self.low.value = _padded(link.z_low, rows, count, 0.5)
        self.high.value = _padded(link.z_high, rows, count, 2.0)
        self.u.value, self.z.value = 1.0, np.ones(count)
        if link.fading is None:
            return
        capped = LN2 * link.cap
        log = np.log1p(link.fading)
        value = np.minimum(log, capped)
        weight = value / value.sum(axis=1, keepdims=True)
        self.near.value = _padded(1.0 / (1.0 + link.fading), rows, count, 0.5)
        self.far.value = _padded(link.fading / (1.0 + link.fading), rows, count, 0.5)
        self.log.value = _padded(log, rows, count, LN2)
        self.term_unit.value = _padded(value, rows, count, LN2)
        self.term_cap.value = _padded(capped / value, rows, count, 2.0)
        self.term_weight.value = _padded(weight, rows, count, 1.0 / weight.shape[1])
        self.term.value = np.ones(self.term.shape)


def _padded(values: Array, rows: NDArray[np.int64], count: int, other: float) -> Array:
    found = np.full((count, *values.shape[1:]), other)
    found[rows] = values
    return found


class SpectrumConic:
    """Problem (14) compiled once, for rounds of the same devices, law and coherence blocks.

    ``problem`` is the ``cvxpy.Problem``. After :meth:`update` it stands for a new round; once it is
    solved, by whatever CVXPY solver, :meth:`shares` reads the answer.
    """

    def __init__(
        self,
        derived: Derived,
        first: RoundProblem,
        candidate: Candidate,
        slowest_plan_s: float | None = None,
    ) -> None:
        self.derived, self.candidate = derived, candidate
        self.slowest_plan_s = slowest_plan_s
        self.scaled: ScaledRound = self._scaled(first)
        builder = ProblemBuilder()
        self.links = {
            name: ConicLink(
                builder, name, derived.ids, 0 if link.fading is None else link.fading.shape[1]
            )
            for name, link in self.scaled.links.items()
        }
        self.weight = cp.Parameter(len(self.links), nonneg=True, name="weight")
        self.constant = cp.Parameter(nonneg=True, name="constant")
        barriers = cp.hstack([link.u for link in self.links.values()])
        self.problem = builder.problem(self.weight @ barriers + self.constant, 1.0)
        self.update(first)

    def _scaled(self, problem: RoundProblem) -> ScaledRound:
        """The round in units of its links, with bounds as wide as ``slowest_plan_s`` asks for."""
        scaled = scale_round(problem)
        return scaled if self.slowest_plan_s is None else widened(scaled, self.slowest_plan_s)

    def update(self, problem: RoundProblem) -> None:
        """Set every parameter to this round. Raises ValueError where it has other links."""
        scaled = self._scaled(problem)
        if scaled.links.keys() != self.links.keys():
            raise ValueError(f"compiled for {list(self.links)}, not for {list(scaled.links)}")
        for name, link in scaled.links.items():
            self.links[name].update(link)
        unit = scaled.objective_unit_s
        self.weight.value = np.array(list(scaled.weight_s.values())) / unit
        self.constant.value = scaled.constant_s / unit
        self.problem.objective_unit_s = unit
        self.scaled = scaled

    def shares(self) -> Shares:
        """Read the shares at the variables' present values; sums above 1 are scaled down to 1."""
        z = {
            name: np.asarray(link.z.value)[self.scaled.links[name].rows]
            for name, link in self.links.items()
        }
        return shares_from(self.derived, self.candidate, self.scaled, z)


def resolve(conic: SpectrumConic, problem: RoundProblem, solver: str = "CLARABEL") -> Shares:
    """Solve another round, equation (14), with the problem compiled before, and return its shares.

    Raises ValueError where the round has other links, and what CVXPY raises where its solver fails.
    """
    conic.update(problem)
    conic.problem.solve(solver=solver)
    return conic.shares()


class SpectrumConicFormulation(ConicFormulation):
    """Problem (14): shares alone are free; cuts, options and keep fractions are the start's.

    A restriction of (13): its optimum is a plan, and no bound on (13). 1/q is a second-order cone,
    z ln(1 + alpha/z) an exponential one. Variables: ``var_uplink_share``, ``var_downlink_share``
    and, under ``total``, ``var_adapter_share``, ``var_uplink_term`` and ``var_adapter_term``, with
    the barriers ``var_tau_up``, ``var_tau_down`` and ``var_tau_adapter_up``, in units of their
    link. The model's ``spectrum`` is its :class:`SpectrumConic`.
    """

    name = "spectrum-conic"
    promise = Promise.RESTRICTION
    problem_class = ProblemClass.CONIC
    problem = Problem.ROUND
    summary = "problem (14) at the start's cuts, options and keeps, conic, with parameters"
    keeps_start = True

    def build(self, derived: Derived, start: Start | None) -> Any:
        """Build the ``cvxpy.Problem``; least cuts and least loss without a start."""
        candidate = least_loss_candidate(derived) if start is None else start.candidate
        slowest = None if start is None else start.slowest_plan_s
        conic = SpectrumConic(derived, round_problem(derived, candidate), candidate, slowest)
        conic.problem.spectrum = conic
        return conic.problem

    def read(self, derived: Derived, model: Any) -> Candidate:
        """Read the model's present shares, with the start's cuts, options and keep fractions."""
        conic: SpectrumConic = model.spectrum
        fixed = conic.candidate
        return Candidate(fixed.cuts, fixed.option_weights, fixed.keep, conic.shares())


FORMULATION = SpectrumConicFormulation()
"""The registered formulation."""
