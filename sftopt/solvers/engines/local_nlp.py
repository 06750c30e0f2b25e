"""What the local solvers of a bridged NLP share: Ctrl-C and deadline, and reading the end point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.status import Termination
from sftopt.solvers.base import Outcome, Task
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import Pulse, read_candidate

Array = NDArray[np.float64]

CLAIM_VIOLATION = 1e-5
"""Above this violation the objective of a point is no claim."""
KKT_TOLERANCE = 1e-6
"""A search that ends without descent is convergence where the gradient of the Lagrangian is this
small against the objective's own, at a point that holds to as much."""
_SOLVED = (Termination.CONVERGED_LOCAL, Termination.ACCEPTABLE)


def nlp_outcome(
    task: Task,
    nlp: Nlp,
    termination: Termination,
    x: Array,
    multipliers: Array | None,
    iterations: int | None,
    message: str,
) -> Outcome:
    """A local solver's answer at ``x`` (n,), ``multipliers`` (m,) of L = f + multipliers.g.

    No bound: a local optimum proves nothing about problem (13).
    """
    usable = bool(np.isfinite(x).all()) and termination is not Termination.INFEASIBLE_LOCAL
    if usable:
        nlp.nl.load(x)
    unit_s = float(task.model.objective_unit_s)
    claims = usable and nlp.violation(x) <= CLAIM_VIOLATION
    shown = multipliers is not None and termination in _SOLVED
    return Outcome(
        termination,
        candidate=read_candidate(task) if usable else None,
        claimed_s=nlp.objective(x) * unit_s if claims else None,
        iterations=iterations,
        duals=nlp.duals(multipliers, unit_s) if shown and multipliers is not None else {},
        start_used=start_used(task),
        message=message,
    )


def stationarity(nlp: Nlp, x: Array, multipliers: Array) -> float:
    """|d L / d x| away from bounds that hold it, relative to |d f / d x|, of L = f + lambda.g.

    ``x`` (n,), ``multipliers`` (m,). Infinite where something is no number.
    """
    import casadi

    gradient = casadi.densify(casadi.gradient(nlp.f, nlp.x))
    parts = casadi.Function("kkt", [nlp.x], [gradient, nlp.jacobian])(x)
    objective = np.asarray(parts[0].full()).ravel()
    slope = objective + np.asarray((parts[1].T @ multipliers).full()).ravel()
    room = 1e-9 * np.maximum(1.0, np.abs(x))
    held = ((x <= nlp.x_low + room) & (slope > 0.0)) | ((x >= nlp.x_high - room) & (slope < 0.0))
    size = float(np.abs(objective).max(initial=0.0))
    found = float(np.abs(np.where(held, 0.0, slope)).max(initial=0.0)) / max(size, 1e-300)
    return found if np.isfinite(found) else float("inf")


def start_used(task: Task) -> str:
    """What of the start the model's initial values hold; '' without a start."""
    if task.start is None:
        return ""
    if not task.formulation.name.startswith("spectrum-"):
        return "yes"
    if task.start.shares is None:
        return "its cuts, modes and keep fractions; shares from the model's scales"
    return "its cuts, modes and keep fractions, and its shares, scaled to a sum of 1"


def why_stopped(task: Task) -> Termination:
    """Why a run ended that the callback ended: Ctrl-C, or the deadline."""
    return Termination.INTERRUPTED if task.stop_requested() else Termination.TIME_LIMIT


def iteration_callback(task: Task, nlp: Nlp) -> Any:
    """A CasADi callback that ends the run when it is asked to stop or the deadline has passed."""
    import casadi

    pulse = Pulse(task)
    sizes = {"f": 1, "x": nlp.x.shape[0], "lam_x": nlp.x.shape[0]}
    sizes |= {"g": nlp.g.shape[0], "lam_g": nlp.g.shape[0]}

    class Watch(casadi.Callback):
        error: BaseException | None = None

        def __init__(self) -> None:
            casadi.Callback.__init__(self)
            self.construct("watch", {})

        def get_n_in(self) -> int:
            return int(casadi.nlpsol_n_out())

        def get_n_out(self) -> int:
            return 1

        def get_name_in(self, index: int) -> str:
            return str(casadi.nlpsol_out(index))

        def get_name_out(self, index: int) -> str:
            return "stop"

        def get_sparsity_in(self, index: int) -> Any:
            return casadi.Sparsity.dense(sizes.get(casadi.nlpsol_out(index), 0), 1)

        def eval(self, arguments: Any) -> list[int]:
            try:
                return [int(pulse.stop() or task.deadline.passed())]
            except BaseException as error:  # noqa: BLE001  none may cross the engine's C code
                self.error = error
                return [1]

    return Watch()
