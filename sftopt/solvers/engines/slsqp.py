"""SciPy's SLSQP: sequential least squares, dense, with exact first derivatives.

SLSQP starts from a unit matrix for second derivatives. So variables are scaled by the diagonal of
the Lagrangian's Hessian at the start: on a round of 100 devices 5-20 iterations in place of 200.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.formulations.base import CONTINUOUS, Problem
from sftopt.solvers.base import Availability, Outcome, Takes, Task
from sftopt.solvers.engines.engine import Pulse
from sftopt.solvers.engines.local_nlp import (
    KKT_TOLERANCE,
    LocalNlp,
    nlp_outcome,
    stationarity,
    why_stopped,
)
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import probe_verdict

Array = NDArray[np.float64]

TOLERANCE = 1e-13
"""``ftol`` in units of the objective."""
POINT_TOLERANCE = 1e-6
"""Above this violation a point is none, whatever the status."""
SETTLED = 1e-9
"""At this violation and stationarity a point needs no further run, whatever its status."""
_FLAT = 1e-2
"""Least diagonal entry against the greatest: variables that enter linearly have none."""
_RUNS = 3
"""Fresh starts from the last point while it is not stationary, the last one without scales."""
_NATIVE = {"ftol": float, "maxiter": int}
"""The options it takes, and their type."""

_DONE = 0
"""SLSQP's status of an optimum."""
_ITERATIONS = 9
"""Its status at the limit of iterations."""
_STOPPED = 99
"""SciPy's status where a callback ended the run."""
_INFEASIBLE = (2, 4)
"""Its statuses of more equalities than variables, and of incompatible inequalities."""
_NO_DESCENT = 8
"""Its status of a line search without descent, of infeasible problems and converged ones alike."""


class Slsqp(LocalNlp):
    """SciPy's SLSQP. Native options: ``ftol``, ``maxiter``."""

    name = "slsqp"
    takes = (Takes("pyomo", CONTINUOUS, Problem.ROUND),)
    default = "spectrum-nlp"
    honours = frozenset({"time_limit", "x0"})
    summary = "SciPy's SLSQP: dense SQP with exact gradients, for up to about 100 devices"
    fix = "pip install scipy"

    def solve(self, task: Task, nlp: Nlp) -> Outcome:
        """Run SLSQP, again from its own end while that is not stationary."""
        options, dense = _options(task), _Dense(nlp)
        start, iterations = nlp.start, 0
        for turn in range(_RUNS):
            end = _one_run(task, dense, start, options, scaled=turn < _RUNS - 1)
            iterations += end.iterations
            kkt = stationarity(nlp, end.x, end.multipliers)
            if end.status == _STOPPED or max(nlp.violation(end.x), kkt) <= SETTLED:
                break
            start = end.x
        termination, message = _judged(task, end, nlp.violation(end.x), kkt)
        return nlp_outcome(task, nlp, termination, end.x, end.multipliers, iterations, message)

    def probe(self) -> Availability:
        """Solve min (x - 1)^2 + (y - 2)^2, x + y <= 2: (0.5, 1.5)."""
        import scipy.optimize

        minimize: Any = scipy.optimize.minimize
        found = minimize(
            lambda x: (x[0] - 1.0) ** 2 + (x[1] - 2.0) ** 2,
            np.zeros(2),
            method="SLSQP",
            constraints={"type": "ineq", "fun": lambda x: 2.0 - x.sum()},
        )
        return probe_verdict(
            (float(found.x[0]), float(found.x[1])),
            (0.5, 1.5),
            "scipy",
            engine_version=f"SLSQP of SciPy {distribution_version('scipy')}",
        )


def _options(task: Task) -> dict[str, Any]:
    options: dict[str, Any] = {"ftol": TOLERANCE, "maxiter": 300}
    for name, value in task.options.native_numbers().items():
        if name not in _NATIVE or not isinstance(value, int | float):
            raise InputError(
                f"SLSQP does not take the option '{name}' = {value!r}; "
                f"it takes numbers for: {', '.join(_NATIVE)}"
            )
        options[name] = _NATIVE[name](value)
    return options


@dataclass(frozen=True)
class _End:
    """One run's end; ``multipliers`` (m,) of L = f + multipliers.g, in the model's own units."""

    x: Array
    status: int
    message: str
    iterations: int
    multipliers: Array


def _judged(task: Task, end: _End, violation: float, kkt: float) -> tuple[Termination, str]:
    """SLSQP's status, with what its point really is."""
    message = f"SLSQP status {end.status}: {end.message}"
    holds = violation <= POINT_TOLERANCE
    if end.status == _STOPPED:
        return why_stopped(task), message
    if end.status == _DONE and holds and kkt <= KKT_TOLERANCE:
        return Termination.CONVERGED_LOCAL, f"{message}; stationary to {kkt:.1e}"
    ended = end.status == _ITERATIONS and max(violation, kkt) <= SETTLED
    if ended or (end.status == _NO_DESCENT and holds and kkt <= KKT_TOLERANCE):
        return Termination.ACCEPTABLE, f"{message}; stationary to {kkt:.1e}"
    if end.status in _INFEASIBLE and not holds:
        return Termination.INFEASIBLE_LOCAL, message
    if end.status == _ITERATIONS:
        return Termination.ITERATION_LIMIT, f"{message}; stationary to {kkt:.1e}"
    text = f"{message}; violation {violation:.1e}, stationary to {kkt:.1e}"
    return Termination.NUMERICAL_ERROR, text


class _Dense:
    """f, its gradient, and one-sided constraints c(x) >= 0 with a dense Jacobian."""

    def __init__(self, nlp: Nlp) -> None:
        import casadi

        sigma, multipliers, hessian = nlp.lagrangian_hessian
        diagonal = casadi.diag(casadi.substitute(hessian, sigma, 1))
        gradient = casadi.densify(casadi.gradient(nlp.f, nlp.x))
        self.nlp = nlp
        self._objective = casadi.Function("f", [nlp.x], [nlp.f, gradient])
        self._rows = casadi.Function("g", [nlp.x], [casadi.densify(nlp.g), nlp.jacobian])
        self._bend = casadi.Function("h", [nlp.x, multipliers], [casadi.densify(diagonal)])
        above, below = np.isfinite(nlp.g_high), np.isfinite(nlp.g_low)
        self.row = np.concatenate([np.flatnonzero(above), np.flatnonzero(below)])
        self.sign = np.concatenate([-np.ones(above.sum()), np.ones(below.sum())])
        self._limit = np.concatenate([nlp.g_high[above], nlp.g_low[below]])

    def objective(self, x: Array) -> float:
        """f(x)."""
        return float(self._objective(x)[0])

    def gradient(self, x: Array) -> Array:
        """df/dx, (n,)."""
        return np.asarray(self._objective(x)[1].full()).ravel()

    def slack(self, x: Array) -> Array:
        """c(x) >= 0."""
        g = np.asarray(self._rows(x)[0].full()).ravel()
        return np.asarray(self.sign * (g[self.row] - self._limit))

    def jacobian(self, x: Array) -> Array:
        """dc/dx."""
        rows = np.asarray(self._rows(x)[1].full())
        return np.asarray(self.sign[:, None] * rows[self.row])

    def scales(self, x: Array) -> tuple[Array, float]:
        """(d_i, s): with y = d x and s f the Lagrangian bends by about 1 in every y_i.

        The multipliers are those that come closest to stationarity at ``x``, >= 0.
        """
        from scipy.optimize import nnls

        try:
            found, _ = nnls(self.jacobian(x).T, self.gradient(x))
        except RuntimeError:  # it ran out of iterations
            return np.ones(len(x)), 1.0
        bend = np.asarray(self._bend(x, self.by_row(found)).full()).ravel()
        most = float(bend.max(initial=0.0))
        if not np.isfinite(most) or most <= 0.0:
            return np.ones(len(x)), 1.0
        factor = 1.0 / max(float(np.abs(self.gradient(x)).max()), 1e-300)
        return np.sqrt(factor * np.maximum(bend, _FLAT * most)), factor

    def by_row(self, one_sided: Array) -> Array:
        """Multipliers (m,) of L = f + multipliers.g from those >= 0 of the one-sided rows."""
        found = np.zeros(len(self.nlp.g_low))
        np.add.at(found, self.row, -self.sign * one_sided)
        return found


def _one_run(
    task: Task, dense: _Dense, start: Array, options: dict[str, Any], *, scaled: bool
) -> _End:
    import scipy.optimize

    minimize: Any = scipy.optimize.minimize  # its stubs know no scalar of a callable's result
    nlp, pulse = dense.nlp, Pulse(task)
    unit, factor = dense.scales(start) if scaled else (np.ones(len(start)), 1.0)

    def stop(y: Array) -> None:
        if pulse.stop() or task.deadline.passed():
            raise StopIteration

    found = minimize(
        lambda y: factor * dense.objective(y / unit),
        start * unit,
        jac=lambda y: factor * dense.gradient(y / unit) / unit,
        bounds=list(zip(nlp.x_low * unit, nlp.x_high * unit, strict=True)),
        constraints={
            "type": "ineq",
            "fun": lambda y: dense.slack(y / unit),
            "jac": lambda y: dense.jacobian(y / unit) / unit,
        },
        method="SLSQP",
        callback=stop,
        options={"ftol": options["ftol"] * factor, "maxiter": options["maxiter"]},
    )
    x = np.clip(np.asarray(found.x, dtype=float) / unit, nlp.x_low, nlp.x_high)
    one_sided = np.asarray(found.get("multipliers", np.zeros(len(dense.row))), dtype=float)
    return _End(
        x,
        int(found.status),
        str(found.message),
        int(found.nit),
        dense.by_row(one_sided / factor),
    )


SOLVER = Slsqp()
