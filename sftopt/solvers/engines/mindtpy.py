"""MindtPy: Pyomo's outer approximation as a decomposition baseline, a heuristic on these models.

A master MILP (HiGHS) of linear cuts proposes integers, an NLP with those fixed (Ipopt inside
CasADi, over our bridge) finds the rest and gives the next cuts. The cuts are linearisations of
constraints that are not convex here, so they may cut off the optimum: slack on the cuts (augmented
penalty) softens that, MindtPy's lower bound proves nothing and is not passed on.
"""

from __future__ import annotations

import logging
import math
from importlib.metadata import version as version_of
from typing import Any

import numpy as np

from sftopt.core.errors import InputError
from sftopt.core.status import Termination
from sftopt.formulations.base import INTEGER
from sftopt.solvers.base import Availability, Outcome, Progress, Takes, Task
from sftopt.solvers.engines.engine import Engine, infeasible, read_candidate
from sftopt.solvers.engines.ipopt_common import NO_FILE
from sftopt.solvers.engines.nl_bridge import Nlp, TriviallyInfeasible, bridge
from sftopt.solvers.engines.probe import probe_verdict
from sftopt.solvers.engines.silence import quiet

POINT_TOLERANCE = 1e-5
"""What a point may violate and still be passed on."""
NLP_TOLERANCE = 1e-8
"""Ipopt's ``tol``, scaled, without unit."""

_FOUND = ("optimal", "locallyOptimal", "feasible")
"""MindtPy's words where there is a point."""
_SOLVED = ("Solve_Succeeded", "Solved_To_Acceptable_Level", "Feasible_Point_Found")
"""Ipopt's words for an NLP that is solved."""


class MindtPy(Engine):
    """Outer approximation with equality relaxation and augmented penalty.

    Native options carry MindtPy's own names (``iteration_limit``, ``add_no_good_cuts``, ...). Its
    parts look at the time limit in whole seconds; whoever runs it ends its process. Every plan that
    an NLP finds is reported at once and survives that.
    """

    name = "mindtpy"
    kind = "local"
    takes = (Takes("pyomo", INTEGER),)
    default = "joint-ratio"
    honours = frozenset({"time_limit", "rel_gap", "abs_gap", "feas_tol", "x0", "tee"})
    summary = "MindtPy outer approximation: HiGHS proposes, Ipopt finishes; no bound"
    fix = "pip install pyomo highspy casadi"

    def run(self, task: Task) -> Outcome:
        """Solve ``task.model``. Raises InputError for a native option that it does not take."""
        with quiet(task.options.tee):
            if task.deadline.passed():
                return Outcome(Termination.TIME_LIMIT, message="the time limit was over")
            return _solve(task)

    def probe(self) -> Availability:
        """Solve max x + y, x + 2 y <= 5.5, x <= 4, y integer: (3.5, 1) by HiGHS; find Ipopt."""
        import casadi
        import highspy
        from pyomo.contrib.appsi.solvers import Highs

        if not casadi.has_nlpsol("ipopt"):
            return Availability(False, reason="CasADi has no Ipopt", fix="pip install casadi")
        if not Highs().available():
            return Availability(False, reason="Pyomo finds no HiGHS", fix="pip install highspy")
        with quiet():
            solver = highspy.Highs()  # type: ignore[no-untyped-call]
            solver.setOptionValue("output_flag", False)
            x = solver.addVariable(lb=0.0, ub=4.0)
            y = solver.addVariable(lb=0.0, ub=4.0, type=highspy.HighsVarType.kInteger)
            solver.addConstr(x + 2.0 * y <= 5.5)
            solver.maximize(x + y)
            answer = solver.getSolution().col_value
        return probe_verdict(
            (answer[0], answer[1]),
            (3.5, 1.0),
            "pyomo",
            engine_version=f"HiGHS {solver.version()}, Ipopt inside CasADi {version_of('casadi')}",
        )


def _solve(task: Task) -> Outcome:
    watch = _Watch(task)
    method = _outer_approximation(watch)
    try:
        options = {**_common(task), **task.options.native_numbers()}
        method.CONFIG(options)  # checks names and values
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"MindtPy does not take the options {task.options.native}: {reason}"
        ) from None
    try:
        found = method.solve(task.model, **options, call_after_subproblem_feasible=watch.feasible)
    except TriviallyInfeasible as error:
        return infeasible(task, str(error))
    except _OutOfTime:
        return watch.outcome(Termination.TIME_LIMIT, "the time limit passed in an NLP")
    except (ValueError, RuntimeError, ArithmeticError) as error:
        # MindtPy raises where a part of it ends in a way that it has no branch for
        text = " ".join(str(error).split()) or type(error).__name__
        return watch.outcome(Termination.NUMERICAL_ERROR, f"MindtPy gave up: {text}")
    return watch.outcome(*_ended(task, watch, str(found.solver.termination_condition)))


def _ended(task: Task, watch: _Watch, condition: str) -> tuple[Termination, str]:
    """Why it stopped. Its proofs are none here: they rest on cuts that may be wrong."""
    message = f"MindtPy status {condition}"
    if not watch.whole and watch.best_x is None and condition in _FOUND:
        watch.feasible(task.model)  # nothing to decompose: its one NLP solved the model itself
    if condition == "maxTimeLimit" or task.deadline.passed():
        return Termination.TIME_LIMIT, message
    if condition == "maxIterations":
        return Termination.ITERATION_LIMIT, message
    if watch.best_x is None:
        return Termination.INFEASIBLE_LOCAL, message + "; no NLP found a point"
    return Termination.CONVERGED_LOCAL, message


def _common(task: Task) -> dict[str, Any]:
    """The common options in MindtPy's terms."""
    left = task.deadline.left()
    return {
        "mip_solver": "appsi_highs",
        "nlp_solver": "ipopt",  # the name decides MindtPy's conventions; ours takes its place
        "time_limit": max(math.ceil(min(left, 1e8)), 1),
        "iteration_limit": 100,
        "heuristic_nonconvex": True,
        "relative_bound_tolerance": task.options.rel_gap,
        "absolute_bound_tolerance": max(task.options.abs_gap / task.unit_s, 1e-9),
        "threads": 1,
    }


class _OutOfTime(Exception):
    """The deadline passed before an NLP could begin."""


class _Watch:
    """What the NLPs find: the best point of the model so far, by its own functions."""

    def __init__(self, task: Task) -> None:
        import pyomo.environ as pyo

        self.task = task
        self.unit_s = task.unit_s
        self.best_s = np.inf
        self.best_x: dict[str, float] | None = None
        self.whole = any(
            not variable.is_continuous() and not variable.fixed
            for variable in task.model.component_data_objects(pyo.Var)
        )
        self.iterations = 0

    def feasible(self, nlp: Any) -> None:
        """MindtPy's call after an NLP that it calls feasible; ``nlp`` is its copy of the model."""
        import pyomo.environ as pyo

        self.iterations += 1
        values = {
            variable.name: variable.value
            for variable in nlp.component_data_objects(pyo.Var)
            if variable.value is not None and not variable.name.startswith("MindtPy")
        }
        self._load(values)
        objective = next(self.task.model.component_data_objects(pyo.Objective, active=True))
        value = float(pyo.value(objective)) * self.unit_s
        if value >= self.best_s or self._violation() > POINT_TOLERANCE:
            return
        self.best_s, self.best_x = value, values
        self.task.report(Progress(incumbent_s=value, candidate=read_candidate(self.task)))

    def outcome(self, termination: Termination, message: str) -> Outcome:
        """The best point there is, never what MindtPy leaves in the model."""
        if self.best_x is None:
            return Outcome(termination, iterations=self.iterations, message=message)
        self._load(self.best_x)
        return Outcome(
            termination,
            candidate=read_candidate(self.task),
            claimed_s=self.best_s,
            iterations=self.iterations,
            start_used="yes",
            message=message,
        )

    def _load(self, values: dict[str, float]) -> None:
        import pyomo.environ as pyo

        for variable in self.task.model.component_data_objects(pyo.Var):
            if variable.name in values:
                value = values[variable.name]
                whole = not variable.is_continuous()
                variable.set_value(round(value) if whole else value, skip_validation=True)

    def _violation(self) -> float:
        """The largest breach of a constraint of the task's own model, relative beyond 1."""
        import pyomo.environ as pyo

        worst = 0.0
        for row in self.task.model.component_data_objects(pyo.Constraint, active=True):
            body = float(pyo.value(row.body))
            for limit, sign in ((row.lower, 1.0), (row.upper, -1.0)):
                if limit is not None:
                    edge = float(pyo.value(limit))
                    worst = max(worst, sign * (edge - body) / max(1.0, abs(edge)))
        return worst


def _outer_approximation(watch: _Watch) -> Any:
    """MindtPy's algorithm with our road to Ipopt in the place of its NLP solver."""
    from pyomo.contrib.mindtpy.outer_approximation import MindtPy_OA_Solver

    class OuterApproximation(MindtPy_OA_Solver):  # type: ignore[misc]
        def check_subsolver_validity(self) -> None:
            """Called once its solvers are made: the moment to put ours in."""
            self.nlp_opt = self.feasibility_nlp_opt = BridgedIpopt(watch.task)
            super().check_subsolver_validity()

    logging.getLogger("pyomo.contrib.mindtpy").setLevel(logging.CRITICAL)
    return OuterApproximation()


class BridgedIpopt:
    """Ipopt inside CasADi as MindtPy calls an NLP solver; the method names are Pyomo's."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.options: dict[str, Any] = {}

    def available(self) -> bool:
        """Say that it is there: the probe has seen it."""
        return True

    def license_is_valid(self) -> bool:
        """Say that it may be used: it needs no licence."""
        return True

    def solve(self, model: Any, **ignored: Any) -> Any:
        """Solve ``model`` (continuous, others fixed) and load values and duals into it."""
        from pyomo.opt import SolverResults, TerminationCondition

        left = self.task.deadline.left()
        if left <= 0.0 or self.task.stop_requested():
            raise _OutOfTime
        results = SolverResults()
        try:
            nlp = bridge(model)
        except TriviallyInfeasible:
            results.solver.termination_condition = TerminationCondition.infeasible
            return results
        solver = nlp.nlpsol(
            "ipopt",
            {
                "ipopt.tol": NLP_TOLERANCE,
                "ipopt.constr_viol_tol": self.task.options.engine_tol,
                "ipopt.max_wall_time": min(max(left, 1e-3), 1e20),
                "ipopt.print_level": 0,
                "ipopt.sb": "yes",
                "print_time": False,
                **{f"ipopt.{name}": value for name, value in NO_FILE.items()},
            },
        )
        found = solver(**nlp.limits)
        status = solver.stats()["return_status"]
        x = np.array(found["x"].full()).ravel()
        if np.isfinite(x).all():
            nlp.nl.load(x)
            _load_duals(model, nlp, np.array(found["lam_g"].full()).ravel())
        results.solver.termination_condition = {
            "Maximum_WallTime_Exceeded": TerminationCondition.maxTimeLimit,
            "Maximum_CpuTime_Exceeded": TerminationCondition.maxTimeLimit,
            "Maximum_Iterations_Exceeded": TerminationCondition.maxIterations,
        }.get(
            status,
            TerminationCondition.locallyOptimal
            if status in _SOLVED
            else TerminationCondition.infeasible,
        )
        results.solver.message = status
        return results


def _load_duals(model: Any, nlp: Nlp, multipliers: Any) -> None:
    """d objective / d right-hand side, the sign that Ipopt's own AMPL driver uses."""
    suffix = model.component("dual")
    if suffix is not None:
        for row, value in zip(nlp.nl.constraints, multipliers.tolist(), strict=True):
            suffix[row] = -value


SOLVER = MindtPy()
