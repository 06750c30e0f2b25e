"""Models handed out to be edited, and how an edited one comes back to be solved."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from sftopt.core.asked import asked_plainly
from sftopt.core.candidate import Candidate
from sftopt.core.channel import RoundChannel
from sftopt.core.derived import Derived, derive
from sftopt.core.errors import InputError, RefusedError
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.status import Promise, Termination
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE
from sftopt.formulations.base import Formulation, Problem, Start
from sftopt.formulations.bounds import delay_bounds
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Outcome, Solver
from sftopt.solvers.deadline import Deadline
from sftopt.solvers.start import first_start

_MARK = "sftopt_formulation"
"""Attribute of a model handed out: the name of the formulation that reads it."""
_HASH = "sftopt_instance_hash"
"""Attribute of a model handed out: the hash of the instance it was built for."""
_SOURCE = "sftopt_source"
"""Attribute of every CVXPY variable handed out: the problem it was made for."""


@asked_plainly
def build(
    instance: Instance,
    formulation: str = "joint-product",
    *,
    upper_bound_s: float | None = None,
    feas_tol: float = FEASIBILITY_TOLERANCE,
) -> Any:
    """Build the model of ``instance`` as the modelling layer's own object, with a feasible start.

    A Pyomo ConcreteModel or a ``cvxpy.Problem`` with named components, to edit and give back
    (``solve(model=..., instance=...)``), export (``sftopt export``) or solve elsewhere. Its
    objective times ``model.objective_unit_s`` is the round delay in seconds.

    The start gives values only. The bounds of the variables hold the best plan of every restriction
    of cuts, modes and keep fractions that is added, however slow it is (up to the worst delay at
    equal shares). ``upper_bound_s`` bounds times and shares by a delay of one's own: a smaller one
    makes a model that solvers finish sooner and may cut off plans that are slower; a larger one
    makes room for limits on shares or times, which can be slower than equal shares.

    ``feas_tol``, at most 1e-6, is by what the model's limits are relaxed, as in ``solve``.

    Raises UnknownNameError for an unknown formulation, RefusedError where it has no model or
    cannot take the instance, and InputError for an upper bound that no plan can meet.
    """
    found = get_formulation(formulation)
    derived = derive(instance, feas_tol=feas_tol)
    reason = found.refusal(derived)
    if found.layer == "native":
        reason = f"formulation '{formulation}' has no algebraic model to hand out"
    if reason is not None:
        raise RefusedError(reason)
    model = found.build(derived, _start_of_a_model(derived, found, upper_bound_s))
    setattr(model, _MARK, found.name)
    setattr(model, _HASH, derived.instance_hash)
    if found.layer == "cvxpy":
        for variable in model.variables():
            setattr(variable, _SOURCE, model)
    return model


def _start_of_a_model(
    derived: Derived, formulation: Formulation, upper_bound_s: float | None
) -> Start | None:
    """The constructed start, with the bounds that a model to be edited needs."""
    if upper_bound_s is not None and not 0.0 < upper_bound_s < math.inf:
        raise InputError(
            f"upper_bound_s: {upper_bound_s:g} is no delay; give seconds above 0, or leave it out"
        )
    start = first_start(derived, formulation, None, Deadline(None))
    if start is None:
        return None
    if upper_bound_s is not None and formulation.problem is Problem.PLAN:
        least = delay_bounds(derived, start).objective_s.low
        if upper_bound_s < least:
            raise InputError(
                f"upper_bound_s: {upper_bound_s:g} s is less than every plan needs, which is "
                f"{least:.6g} s at least; give more, such as {start.objective_s:.6g} (a plan of "
                "that delay is known), or leave it out"
            )
    slowest = math.inf if upper_bound_s is None else upper_bound_s
    return replace(start, slowest_plan_s=slowest)


class Edited(Formulation):
    """A model of ``original`` as its user left it, which may have any constraints added.

    Its points are plans where the original's are; it bounds nothing but itself. The model's own
    variable bounds are part of it: they hold restrictions of cuts, modes and keep fractions, as
    long as :func:`build` was given no ``upper_bound_s``.
    """

    summary = "a model that its user has edited"

    def __init__(self, original: Formulation, model: Any) -> None:
        plans = original.promise in (Promise.EXACT, Promise.RESTRICTION)
        self.original, self.model = original, model
        self.name = original.name  # type: ignore[misc]
        self.layer = original.layer  # type: ignore[misc]
        self.problem_class = original.problem_class  # type: ignore[misc]
        self.problem = original.problem  # type: ignore[misc]
        self.promise = Promise.RESTRICTION if plans else Promise.HEURISTIC  # type: ignore[misc]

    def refusal(self, derived: Derived) -> str | None:
        """Say why ``derived`` cannot be written in the original's way; None where it can."""
        return self.original.refusal(derived)

    def build(self, derived: Derived, start: Start | None) -> Any:
        """Return the model as it is."""
        return self.model

    def read(self, derived: Derived, model: Any) -> Candidate:
        """Read the candidate at the model's present values as the original does."""
        return self.original.read(derived, model)


def given_model(
    model: Any,
    instance: Instance,
    formulation: str | None,
    x0: Plan | None,
    channel: RoundChannel | None,
) -> Edited:
    """Take the model to solve as it is; raise InputError where it or its company makes no sense."""
    if x0 is not None:
        raise InputError("x0 and model: a model starts from its variables' values; set them there")
    if channel is not None:
        raise InputError("channel and model: a model holds the gains that it was built with")
    return edited(model, instance, formulation)


def edited(model: Any, instance: Instance, formulation: str | None) -> Edited:
    """Take back a model, read as ``formulation`` says or, without, as it remembers.

    Raises InputError in words where it is not one of ours or was built for another instance.
    """
    model = _adopted(model)
    name = formulation or getattr(model, _MARK, None)
    if name is None:
        raise InputError(
            f"this {type(model).__name__} does not say which formulation it was built by: start "
            "from sftopt.build(instance, ...), or name one in formulation="
        )
    original = get_formulation(name)
    if original.layer == "native":
        raise InputError(f"formulation '{name}' has no model; name the one that this was built by")
    built_for = getattr(model, _HASH, instance.hash)
    if built_for != instance.hash:
        raise InputError(
            f"the model was built for another instance (hash {built_for[:12]}..., "
            f"'{instance.name}' has {instance.hash[:12]}...); build it again from this one"
        )
    fault = _fault(model, original, derive(instance))
    if fault is not None:
        raise InputError(
            f"the model cannot be read as '{name}': {fault}. Start from sftopt.build(instance, "
            f"'{name}') and keep its named components"
        )
    return Edited(original, model)


def about_the_model(outcome: Outcome, solver: Solver) -> Outcome:
    """Return an edited model's ``outcome`` with infeasibility said of the model, and no bound."""
    outcome = replace(outcome, bound_s=None, bound_source=None)
    if outcome.termination not in (Termination.INFEASIBLE_LOCAL, Termination.INFEASIBLE_PROVEN):
        return outcome
    # engines call it local where the formulation bounds nothing; a global one has proven it
    proven = solver.kind == "global"
    text = (
        f"the model as it was given {'has' if proven else 'seems to have'} no point; that says "
        "nothing of the instance, and the bounds of the model's variables (upper_bound_s of "
        "sftopt.build) are part of it"
    )
    return replace(
        outcome,
        termination=Termination.INFEASIBLE_PROVEN if proven else Termination.INFEASIBLE_LOCAL,
        message="; ".join(part for part in (outcome.message, text) if part),
    )


def _adopted(model: Any) -> Any:
    """An edited ``cvxpy.Problem`` is a new object: it gets what the one handed out carries."""
    if not type(model).__module__.startswith("cvxpy") or not hasattr(model, "variables"):
        return model
    sources = (getattr(variable, _SOURCE, None) for variable in model.variables())
    source = next((found for found in sources if found is not None), None)
    if source is not None and source is not model:
        for name, value in vars(source).items():
            if name not in vars(model):
                setattr(model, name, value)
    return model


def _fault(model: Any, formulation: Formulation, derived: Derived) -> str | None:
    """What a model lacks to be read; None where nothing is missing."""
    if formulation.layer == "pyomo":
        return _pyomo_fault(model, formulation, derived)
    if formulation.layer == "cvxpy":
        if not hasattr(model, "variables") or not hasattr(model, "constraints"):
            return f"it is a {type(model).__name__}, not a cvxpy.Problem"
        if getattr(model, "objective_unit_s", None) is None:
            return "none of its variables is of a problem that sftopt built"
    return None


def _pyomo_fault(model: Any, formulation: Formulation, derived: Derived) -> str | None:
    from pyomo.environ import ConcreteModel

    if not isinstance(model, ConcreteModel):
        return f"it is a {type(model).__name__}, not a pyomo ConcreteModel"
    if formulation.problem is Problem.ROUND:
        needed = {"var_uplink_share": True, "var_downlink_share": True}
    else:
        needed = {
            "var_blocks": True,
            "var_mode": len(derived.options) > 1,
            "var_keep": any(option.has_mask for option in derived.options),
        }
    missing = [name for name, asked in needed.items() if asked and model.component(name) is None]
    if missing:
        return f"it has no {', '.join(missing)}"
    if getattr(model, "objective_unit_s", None) is None:
        return "it has no attribute objective_unit_s, the seconds of one unit of its objective"
    blocks = model.component("var_blocks")
    if blocks is not None and set(blocks) != set(derived.ids):
        return f"var_blocks has other devices than the instance: {sorted(blocks)[:5]}"
    return None
