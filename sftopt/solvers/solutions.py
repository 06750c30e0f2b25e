"""A solution file of another solver, read into the model that was exported, as a verified plan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived, derive
from sftopt.core.errors import InputError, NoPointError, RefusedError, VerificationError
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan, Provenance
from sftopt.core.point import IntegralPoint, to_plan
from sftopt.core.status import Promise
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE
from sftopt.core.verify import Verification, verify_plan
from sftopt.formulations.base import Formulation
from sftopt.formulations.files.linear_program import (
    OBJECTIVE_CONSTANT,
    linear_program,
    set_columns,
)
from sftopt.formulations.files.solutions import SolutionFile, Value, read_solution
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.heuristics.nudge import within_limits
from sftopt.solvers.heuristics.repair import keep_as_is, repair
from sftopt.solvers.judge import CLAIM_TOLERANCE, own_version, why_no_plan
from sftopt.solvers.models import build

POINT_TOLERANCE = 1e-4
"""How far a point may be from a limit of the model, relative to the limit's terms: tables of six
digits are read. The plan is judged by the judge's own tolerance."""
_TOLD = 3
"""Broken limits named one by one."""


@dataclass(frozen=True)
class ImportedPlan:
    """A plan made of a solution file's point, and the judge's word on it."""

    plan: Plan
    verdict: Verification
    writer: str
    status: str
    """What the file says of itself."""
    objective_claimed_s: float
    how: str
    """What had to change for a plan; empty where the decisions are the file's."""


def import_solution(
    instance: Instance,
    formulation: str,
    path: str | os.PathLike[str],
    *,
    upper_bound_s: float | None = None,
    feas_tol: float = FEASIBILITY_TOLERANCE,
) -> ImportedPlan:
    """Make a verified plan of the point in a solution file at ``path``.

    The file answers an export of ``instance`` as ``formulation`` (``sftopt export``), with the same
    ``upper_bound_s``. Decisions are the file's, shares are the best for them, keep fractions are
    polished as in a solve; fractional points of relaxations are rounded and repaired, and ``how``
    says so. A plan that breaks a limit is returned with the verdict.

    Raises InputError, naming file, line and variable, for a file that is damaged or of another
    model, NoPointError for a file without a point, and VerificationError for a point that breaks
    the model's limits or is worth less than it claims.
    """
    found = get_formulation(formulation)
    derived = derive(instance, feas_tol=feas_tol)
    solution = read_solution(path)
    if not solution.has_point:
        status = solution.status or "no status"
        raise NoPointError(f"{solution.path} holds no point ({solution.writer}: {status})")
    model = build(instance, formulation, upper_bound_s=upper_bound_s)
    if found.layer == "pyomo":
        in_model, broken = _into_pyomo(model, solution)
    elif found.layer == "cvxpy":
        in_model, broken = _into_cvxpy(model, solution, formulation)
    else:
        raise RefusedError(f"formulation '{formulation}' has no model that is written to files")
    if broken:
        more = f" and {len(broken) - _TOLD} more" if len(broken) > _TOLD else ""
        raise VerificationError(
            f"{solution.path}: the point breaks the model: {'; '.join(broken[:_TOLD])}{more}. "
            "Was this model exported, with the same --upper-bound?"
        )
    candidate = found.read(derived, model)
    fault = why_no_plan(derived, candidate)
    if fault is not None:
        raise VerificationError(f"{solution.path}: no plan can be made of the point: {fault}")
    case = _Case(instance, derived, found, solution.writer, feas_tol)
    plan, verdict, answered_s, how = case.plan_of(candidate)
    claimed = in_model if solution.objective is None else solution.objective
    claimed_s = claimed * float(model.objective_unit_s)
    exact = found.promise is Promise.EXACT
    if exact and answered_s is not None and claimed_s < answered_s * (1.0 - CLAIM_TOLERANCE):
        raise VerificationError(
            f"{solution.path} claims {claimed_s:.9g} s, the judge finds {answered_s:.9g} s"
        )
    return ImportedPlan(plan, verdict, solution.writer, solution.status, claimed_s, how)


@dataclass(frozen=True)
class _Case:
    """What a plan is made for and by whom."""

    instance: Instance
    derived: Derived
    formulation: Formulation
    writer: str
    feas_tol: float

    def plan_of(self, candidate: Candidate) -> tuple[Plan, Verification, float | None, str]:
        """The plan, the verdict, the value of the file's own decisions, and what changed."""
        promise = self.formulation.promise
        if not candidate.is_integral():
            point = repair(self.derived, candidate)
            if point is None:
                raise NoPointError("the point is fractional, and rounding and repair find no plan")
            how = "heuristic: rounded and repaired"
            return *self.verified(point, candidate=None, how=how), None, how
        candidate = within_limits(self.derived, candidate)
        cuts = np.rint(candidate.cuts).astype(np.int64)
        raw = IntegralPoint(cuts, candidate.choices().astype(np.int64), candidate.keep)
        plan, verdict = self.verified(raw, candidate)
        own_s = verdict.objective_s
        fixed = candidate.shares is not None or promise is Promise.RESTRICTION
        point = None if fixed or not verdict.feasible else keep_as_is(self.derived, candidate)
        if point is None or own_s is None:
            return plan, verdict, own_s, ""
        better, found = self.verified(point, None, "keep fractions polished")
        if not found.feasible or found.objective_s is None or found.objective_s >= own_s:
            return plan, verdict, own_s, ""
        return better, found, own_s, "keep fractions polished"

    def verified(
        self, point: IntegralPoint, candidate: Candidate | None, how: str = ""
    ) -> tuple[Plan, Verification]:
        """The plan of ``point``, at the candidate's shares where it has some, and the verdict."""
        provenance = Provenance(
            sftopt_version=own_version(),
            formulation=self.formulation.name,
            solver=f"solution file of {self.writer}",
            note=how,
        )
        shares = None if candidate is None else candidate.shares
        plan = to_plan(self.derived, point, provenance, self.instance.name, shares)
        verdict = verify_plan(self.instance, plan, feas_tol=self.feas_tol)
        return plan.model_copy(update={"breakdown": verdict.breakdown}), verdict


def _into_pyomo(model: Any, solution: SolutionFile) -> tuple[float, list[str]]:
    """Set the model's variables; return its objective there and the limits that are broken."""
    from pyomo.environ import Constraint, Objective, value

    from sftopt.formulations.export import nl_text

    variables = nl_text(model)[1]
    names = [variable.name for variable in variables]
    values = _values(solution, names)
    broken = []
    for variable, given in zip(variables, values, strict=True):
        low, high = variable.bounds
        whole = not variable.is_continuous()
        broken += _beyond(solution, variable.name, given, low, high, whole)
        variable.set_value(given.number, skip_validation=True)
    if broken:
        return 0.0, broken
    for row in model.component_data_objects(Constraint, active=True):
        try:
            body = value(row.body)
        except (ValueError, ZeroDivisionError):  # a logarithm of what is not positive
            broken.append(f"{row.name} has no value")
            continue
        low, high = value(row.lower), value(row.upper)
        broken += _off(row.name, body, low, high, max(1.0, abs(body)))
    (goal,) = model.component_data_objects(Objective, active=True)
    return float(value(goal)) if not broken else 0.0, broken


def _into_cvxpy(problem: Any, solution: SolutionFile, formulation: str) -> tuple[float, list[str]]:
    """Set the problem's variables; return its objective there and the limits that are broken."""
    try:
        program = linear_program(problem)
    except InputError as error:
        raise RefusedError(
            f"formulation '{formulation}' is not written to files ({error}), so no solution file "
            "is of it; take joint-grid-milp, or a formulation of the .nl format"
        ) from None
    solution.named.pop(OBJECTIVE_CONSTANT, None)
    values = _values(solution, program.columns)
    broken = []
    for j, given in enumerate(values):
        low, high, whole = program.low[j], program.high[j], bool(program.integer[j])
        broken += _beyond(solution, program.columns[j], given, low, high, whole)
    point = np.array([given.number for given in values])
    set_columns(problem, point)
    activity = program.matrix @ point
    size = np.maximum(1.0, abs(program.matrix) @ abs(point))
    for j, name in enumerate(program.rows):
        broken += _off(name, activity[j], program.row_low[j], program.row_high[j], size[j])
    return float(program.cost @ point) + program.constant, broken


def _values(solution: SolutionFile, given: Sequence[str]) -> list[Value]:
    """A value for every name. Raises InputError where the file has other variables."""
    names = list(given)
    if solution.ordered:
        _check_order(solution, names)
        return solution.ordered
    unknown = [name for name in solution.named if name not in set(names)]
    if unknown:
        raise solution.fault(
            solution.named[unknown[0]].line,
            f"the model has no variable '{unknown[0]}'"
            + (f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else "")
            + "; give the formulation and the --upper-bound that the file is of",
        )
    missing = [name for name in names if name not in solution.named]
    if missing and not solution.zeros_left_out:
        raise InputError(
            f"{solution.path} has no value for variable '{missing[0]}'"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + "; give the formulation and the --upper-bound that the file is of"
        )
    return [solution.named.get(name, Value(0.0, 0)) for name in names]


def _check_order(solution: SolutionFile, names: list[str]) -> None:
    """Compare the columns that a file without names counts on with the model's."""
    count, path = len(solution.ordered), solution.path
    if count != len(names):
        raise InputError(
            f"{path} has values of {count} variables, the model has {len(names)}; give the "
            "formulation and the --upper-bound that it was exported with"
        )
    columns = path.with_suffix(".col")
    if not columns.is_file():
        return
    written = columns.read_text(encoding="utf-8").splitlines()
    for line, (own, other) in enumerate(zip(names, written, strict=False), start=1):
        if own != other:
            raise InputError(
                f"{columns} line {line}: the model's variable there is '{own}', not '{other}'; "
                "give the formulation and the --upper-bound that it was exported with"
            )


def _beyond(
    solution: SolutionFile, name: str, given: Value, low: Any, high: Any, whole: bool
) -> list[str]:
    """What is wrong with a variable's value by its bounds and kind; empty where nothing is."""
    where = f"line {given.line}: {name}" if given.line else f"{name} (not in the file, so 0)"
    room = POINT_TOLERANCE * max(1.0, abs(given.number))
    number = given.number
    if low is not None and number < low - room:
        return [f"{where} = {number:.9g} is below its limit {low:.9g}"]
    if high is not None and number > high + room:
        return [f"{where} = {number:.9g} is above its limit {high:.9g}"]
    if whole and abs(number - round(number)) > POINT_TOLERANCE:
        return [f"{where} = {number:.9g} is not a whole number"]
    return []


def _off(name: str, body: float, low: Any, high: Any, size: float) -> list[str]:
    """By how much a row is broken, in model units; empty where it is not."""
    short = 0.0 if low is None else float(low) - body
    over = 0.0 if high is None else body - float(high)
    amount = max(short, over)
    return [f"{name} by {amount:.3g}"] if not amount <= POINT_TOLERANCE * size else []
