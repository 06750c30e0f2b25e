"""MAiNGO through maingopy: McCormick relaxations of the whole model, with a proven bound.

It branches on what is written and adds no variables of its own, so the form it is handed decides:
the fewer variables, the better; its default is ``joint-reduced``.
"""

from __future__ import annotations

from typing import Any

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.formulations.base import Problem, ProblemClass
from sftopt.solvers.base import Availability, Outcome, Takes, Task
from sftopt.solvers.engines.engine import (
    PROVES_BOUNDS,
    Engine,
    infeasible,
    out_of_time,
    read_candidate,
)
from sftopt.solvers.engines.probe import probe_verdict
from sftopt.solvers.engines.silence import quiet
from sftopt.solvers.engines.working_folder import in_an_empty_folder

ABSOLUTE_GAP = 1e-9
"""MAiNGO ends at an absolute gap, in units of the objective, or a relative one: this is never met
before the one that is asked for."""
LARGEST_BOUND = 1e8
"""What stands for a bound that a user's variable lacks; MAiNGO takes none without."""


class Maingo(Engine):
    """MAiNGO, global on the exact algebraic models; for a few devices.

    Native options carry MAiNGO's own names (``LBP_solver``, ``UBP_maxStepsPreprocessing`` ...) and
    take numbers. It cannot be asked to stop; whoever runs it ends its process.
    """

    name = "maingo"
    kind = "global"
    takes = (Takes("pyomo", {ProblemClass.MINLP}, Problem.PLAN),)
    default = "joint-reduced"
    honours = frozenset({"time_limit", "rel_gap", "abs_gap", "feas_tol", "x0", "tee"})
    summary = "MAiNGO: McCormick branch and bound with a proven bound; few devices"
    fix = "pip install 'sftopt[maingo]'"

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for a native option that MAiNGO does not take."""
        with quiet(task.options.tee), in_an_empty_folder():
            return _run(task)

    def probe(self) -> Availability:
        """Solve min x + y, x y >= 2, x >= 1 integer, 0.5 <= y <= 1.5: (2, 1)."""
        import pyomo.environ as pyo

        model = pyo.ConcreteModel()
        model.x = pyo.Var(bounds=(1, 4), domain=pyo.Integers)
        model.y = pyo.Var(bounds=(0.5, 1.5))
        model.row = pyo.Constraint(expr=model.x * model.y >= 2)
        model.cost = pyo.Objective(expr=model.x + model.y)
        with quiet(), in_an_empty_folder():
            solver, _, kept = _prepared(model)
            solver.solve()
            found = solver.get_solution_point()
            del kept  # MAiNGO asked it until here
        return probe_verdict((found[0], found[1]), (2.0, 1.0), "maingopy", engine_version="MAiNGO")


def _run(task: Task) -> Outcome:
    solver, variables, kept = _prepared(task.model)
    _set_options(solver, task)
    if task.deadline.passed():
        return out_of_time("building")
    solver.solve()
    outcome = _outcome(task, solver, variables)
    del kept  # MAiNGO asks it by address
    return outcome


def _prepared(model: Any) -> tuple[Any, list[Any], Any]:
    """(the solver with a model in it, Pyomo's variables in its order, what it asks by address)."""
    import maingopy
    import pyomo.environ as pyo

    variables = list(model.component_data_objects(pyo.Var, descend_into=True))
    place = {id(variable): row for row, variable in enumerate(variables)}
    objective = next(model.component_data_objects(pyo.Objective, active=True))
    rows = list(model.component_data_objects(pyo.Constraint, active=True))
    floor = getattr(model, "least_denominator", None)

    class Written(maingopy.MAiNGOmodel):  # type: ignore[misc]
        """The model as MAiNGO asks for it."""

        def __init__(self) -> None:
            maingopy.MAiNGOmodel.__init__(self)

        def get_variables(self) -> list[Any]:
            """List the variables with their bounds."""
            return [_variable(maingopy, variable) for variable in variables]

        def get_initial_point(self) -> list[float]:
            """Return the start, scaled as the model's variables are."""
            return [_inside(variable) for variable in variables]

        def evaluate(self, values: list[Any]) -> Any:
            """Write objective and rows in MAiNGO's variables."""
            visitor = _visitor(maingopy, values, place, floor)
            made = maingopy.EvaluationContainer()
            made.objective = _plus(visitor.dfs_postorder_stack(objective.expr), values)
            equal, below = [], []
            for row in rows:
                body = visitor.dfs_postorder_stack(row.body)
                if row.equality:
                    equal.append(_plus(body - pyo.value(row.lower), values))
                    continue
                if row.upper is not None:
                    below.append(_plus(body - pyo.value(row.upper), values))
                if row.lower is not None:
                    below.append(_plus(pyo.value(row.lower) - body, values))
            made.eq, made.ineq = equal, below
            return made

    written = Written()
    solver = maingopy.MAiNGO(written)
    for name in ("loggingDestination", "writeCsv", "writeJson", "writeResultFile"):
        solver.set_option(name, 0)
    return solver, variables, written


def _visitor(maingopy: Any, values: list[Any], place: dict[int, int], floor: float | None) -> Any:
    """Pyomo's way through an expression; denominators stay above ``floor``, which rows ensure.

    MAiNGO bounds expressions one by one, and would divide by an interval that holds 0.
    """
    from pyomo.contrib.appsi.solvers.maingo_solvermodel import ToMAiNGOVisitor
    from pyomo.core.expr import DivisionExpression

    class Visitor(ToMAiNGOVisitor):  # type: ignore[misc]
        def visit(self, node: Any, values: list[Any]) -> Any:
            """Return an expression of MAiNGO's for a Pyomo one whose arguments are done."""
            below = values[1] if node.__class__ is DivisionExpression else None
            if floor is not None and below is not None and not isinstance(below, int | float):
                return values[0] / maingopy.max(below, floor)
            return super().visit(node, values)

    return Visitor(values, place)


def _plus(expression: Any, values: list[Any]) -> Any:
    """An expression of MAiNGO's, also where it is a plain number."""
    return expression + 0.0 * values[0] if isinstance(expression, int | float) else expression


def _variable(maingopy: Any, variable: Any) -> Any:
    low, high = _ends(variable)
    kind = maingopy.VT_CONTINUOUS
    if not variable.is_continuous():
        kind = maingopy.VT_BINARY if (low, high) == (0.0, 1.0) else maingopy.VT_INTEGER
    return maingopy.OptimizationVariable(maingopy.Bounds(low, high), kind, variable.name)


def _ends(variable: Any) -> tuple[float, float]:
    if variable.fixed:
        return float(variable.value), float(variable.value)
    low = -LARGEST_BOUND if variable.lb is None else float(variable.lb)
    return low, LARGEST_BOUND if variable.ub is None else float(variable.ub)


def _inside(variable: Any) -> float:
    low, high = _ends(variable)
    value = 0.5 * (low + high) if variable.value is None else float(variable.value)
    return min(max(value, low), high)


def _set_options(solver: Any, task: Task) -> None:
    """Common options in MAiNGO's terms, then the native ones."""
    options = task.options
    solver.set_option("epsilonR", max(options.rel_gap, ABSOLUTE_GAP))
    solver.set_option("epsilonA", max(options.abs_gap / task.unit_s, ABSOLUTE_GAP))
    solver.set_option("deltaIneq", options.engine_tol)
    solver.set_option("deltaEq", options.engine_tol)
    left = task.deadline.left()
    if left < LARGEST_BOUND:
        solver.set_option("maxTime", left)
        solver.set_option("maxwTime", left)
    if options.tee:
        solver.set_option("loggingDestination", 1)
    for name, value in options.native_numbers().items():
        if not isinstance(value, int | float) or not solver.set_option(name, value):
            raise InputError(f"MAiNGO does not take the option {name}={value}")


def _outcome(task: Task, solver: Any, variables: list[Any]) -> Outcome:
    import maingopy

    status = solver.get_status()
    message = f"MAiNGO status {status.name}"
    if status == maingopy.INFEASIBLE:
        return infeasible(task, message)
    unit_s = task.unit_s
    bound_s = float(solver.get_final_LBD()) * unit_s
    bounds = task.formulation.promise in PROVES_BOUNDS
    known: dict[str, Any] = {
        "bound_s": bound_s if bounds else None,
        "bound_source": "maingo" if bounds else None,
        "nodes": int(solver.get_iterations()),
        "start_used": "yes",
        "message": message,
    }
    proven = status == maingopy.GLOBALLY_OPTIMAL
    if not proven and status not in (maingopy.FEASIBLE_POINT, maingopy.BOUND_TARGETS):
        return Outcome(Termination.TIME_LIMIT, **known)
    for variable, value in zip(variables, solver.get_solution_point(), strict=True):
        whole = not variable.is_continuous()
        variable.set_value(round(value) if whole else float(value), skip_validation=True)
    return Outcome(
        Termination.GAP_LIMIT if proven else Termination.TIME_LIMIT,
        candidate=read_candidate(task),
        claimed_s=float(solver.get_objective_value()) * unit_s,
        **known,
    )


SOLVER = Maingo()
