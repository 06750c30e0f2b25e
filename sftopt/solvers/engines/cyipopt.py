"""Ipopt through cyipopt: the relaxed model, locally, with sparse derivatives from CasADi."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import InputError
from sftopt.formulations.base import CONTINUOUS
from sftopt.solvers.base import Availability, Outcome, Takes, Task
from sftopt.solvers.engines.engine import Pulse
from sftopt.solvers.engines.ipopt_common import NO_FILE, common_options, ipopt_outcome
from sftopt.solvers.engines.local_nlp import LocalNlp
from sftopt.solvers.engines.messages import complaint
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import linked_library, probe_verdict
from sftopt.solvers.engines.silence import listening, quiet
from sftopt.solvers.options import as_number

Array = NDArray[np.float64]
Structure = tuple[NDArray[np.int64], NDArray[np.int64]]

_STATUS_WORDS = {
    0: "Solve_Succeeded",
    1: "Solved_To_Acceptable_Level",
    2: "Infeasible_Problem_Detected",
    3: "Search_Direction_Becomes_Too_Small",
    4: "Diverging_Iterates",
    5: "User_Requested_Stop",
    6: "Feasible_Point_Found",
    -1: "Maximum_Iterations_Exceeded",
    -2: "Restoration_Failed",
    -3: "Error_In_Step_Computation",
    -4: "Maximum_CpuTime_Exceeded",
    -5: "Maximum_WallTime_Exceeded",
    -10: "Not_Enough_Degrees_Of_Freedom",
    -11: "Invalid_Problem_Definition",
    -12: "Invalid_Option",
    -13: "Invalid_Number_Detected",
    -100: "Unrecoverable_Exception",
    -101: "NonIpopt_Exception_Thrown",
    -102: "Insufficient_Memory",
    -199: "Internal_Error",
}
"""Ipopt's ApplicationReturnStatus; cyipopt's own words lag behind it."""


class Cyipopt(LocalNlp):
    """Ipopt by way of cyipopt. Native options carry Ipopt's own names (``max_iter``, ``tol``)."""

    name = "cyipopt"
    takes = (Takes("pyomo", CONTINUOUS),)
    default = "joint-relaxed"
    summary = "Ipopt (through cyipopt): local optimum of the relaxation, rounded to a plan"
    fix = "python -m sftopt.solvers.engines.install_cyipopt"

    def solve(self, task: Task, nlp: Nlp) -> Outcome:
        """Hand ``nlp`` to Ipopt function by function."""
        import cyipopt

        functions = _Functions(task, nlp)
        problem = cyipopt.Problem(
            n=nlp.x.shape[0],
            m=nlp.g.shape[0],
            problem_obj=functions,
            lb=nlp.x_low,
            ub=nlp.x_high,
            cl=nlp.g_low,
            cu=nlp.g_high,
        )
        for name, value in common_options(task).items():
            problem.add_option(name, value)
        for name, value in task.options.native.items():
            _set_native(problem, name, value)
        x, info = problem.solve(nlp.start)
        if functions.error is not None:
            raise functions.error
        return ipopt_outcome(
            task,
            nlp,
            _STATUS_WORDS.get(info["status"], f"code {info['status']}"),
            np.asarray(x, dtype=float),
            np.asarray(info["mult_g"], dtype=float),
            functions.iterations,
        )

    def probe(self) -> Availability:
        """Solve min (x - 1)^2 + (y - 2)^2, x + y <= 2: (0.5, 1.5)."""
        import cyipopt

        with quiet():
            problem = cyipopt.Problem(n=2, m=1, problem_obj=_ProbeProblem(), cl=[-1e20], cu=[2.0])
            for name, value in (("print_level", 0), ("sb", "yes"), *NO_FILE.items()):
                problem.add_option(name, value)
            problem.add_option("hessian_approximation", "limited-memory")
            point, _ = problem.solve(np.zeros(2))
        engine = ".".join(str(part) for part in cyipopt.IPOPT_VERSION)
        return probe_verdict(
            (float(point[0]), float(point[1])),
            (0.5, 1.5),
            "cyipopt",
            engine_version=f"Ipopt {engine}",
            linked_library=linked_library("libipopt", engine),
        )


def _set_native(problem: Any, name: str, value: Any) -> None:
    """Set one option; Ipopt insists on its type, so 100 is tried as 100.0 too."""
    number = as_number(value)
    spellings = [number, float(number)] if isinstance(number, int) else [number]
    for spelling in spellings:
        try:
            with listening() as heard:
                problem.add_option(name, spelling)
            return
        except TypeError:
            continue
    raise InputError(f"option '{name}' cannot be {value!r}: {complaint(heard.text)}")


class _Functions:
    """The problem as cyipopt asks for it. The method names are cyipopt's."""

    def __init__(self, task: Task, nlp: Nlp) -> None:
        import casadi

        sigma, multipliers, hessian = nlp.lagrangian_hessian
        x, function = nlp.x, casadi.Function
        self._pulse = Pulse(task)
        self._f = function("f", [x], [nlp.f])
        self._gradient = function("grad_f", [x], [casadi.densify(casadi.gradient(nlp.f, x))])
        self._g = function("g", [x], [casadi.densify(nlp.g)])
        self._jacobian = function("jac_g", [x], [nlp.jacobian.nz[:]])
        self._hessian = function("hess_lag", [x, sigma, multipliers], [hessian.nz[:]])
        self._jacobian_structure = _structure(nlp.jacobian)
        upper_rows, upper_columns = _structure(hessian)
        self._hessian_structure = (upper_columns, upper_rows)  # Ipopt wants the lower triangle
        self.iterations: int | None = None
        self.error: BaseException | None = None

    def objective(self, x: Array) -> float:
        return float(self._f(x))

    def gradient(self, x: Array) -> Array:
        return _flat(self._gradient(x))

    def constraints(self, x: Array) -> Array:
        return _flat(self._g(x))

    def jacobianstructure(self) -> Structure:
        return self._jacobian_structure

    def jacobian(self, x: Array) -> Array:
        return _flat(self._jacobian(x))

    def hessianstructure(self) -> Structure:
        return self._hessian_structure

    def hessian(self, x: Array, multipliers: Array, factor: float) -> Array:
        return _flat(self._hessian(x, factor, multipliers))

    def intermediate(self, algorithm: int, iteration: int, *figures: float) -> bool:
        """Called once per iteration; False ends the run."""
        self.iterations = iteration
        try:
            return not self._pulse.stop()
        except BaseException as error:  # noqa: BLE001  none may cross Ipopt's C code
            self.error = error
            return False


def _flat(matrix: Any) -> Array:
    return np.asarray(matrix.full(), dtype=float).ravel()


def _structure(matrix: Any) -> Structure:
    rows, columns = matrix.sparsity().get_triplet()
    return np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64)


class _ProbeProblem:
    """min (x - 1)^2 + (y - 2)^2, x + y <= 2: (0.5, 1.5)."""

    def objective(self, x: Array) -> float:
        return float((x[0] - 1.0) ** 2 + (x[1] - 2.0) ** 2)

    def gradient(self, x: Array) -> Array:
        slope: Array = 2.0 * (x - np.array([1.0, 2.0]))
        return slope

    def constraints(self, x: Array) -> Array:
        return np.array([x.sum()])

    def jacobian(self, x: Array) -> Array:
        return np.ones(2)


SOLVER = Cyipopt()
