"""From a scheme and an instance to a plan: the rules of core/schemes carried out.

Nothing here computes a delay that is reported: rules that look for the least round take it from the
judge, or from the solvers' arithmetic for the ranking alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.plan import Aggregation, Order, Plan, Provenance, SequentialPower
from sftopt.core.point import to_plan
from sftopt.core.result import Result
from sftopt.core.schemes.base import CompressionRule, CutRule, ShareRule
from sftopt.core.status import Termination
from sftopt.core.verify import verify_plan
from sftopt.core.violations import Family
from sftopt.solvers.options import Options
from sftopt.solvers.run import solve
from sftopt.studies.compare.common import best_common
from sftopt.studies.compare.cuts import parallel_cuts, ranks_of, sequential_decisions
from sftopt.studies.compare.plans import plan_of
from sftopt.studies.compare.request import Request
from sftopt.studies.compare.shares import at_best_shares
from sftopt.studies.compare.suits import check_suits
from sftopt.studies.compare.variant import Variant, variant_of, with_devices


@dataclass(frozen=True)
class Settings:
    """How the schemes that solve problem (13) do it; raises InputError where a value is none."""

    time_limit: float | None = 60.0
    rel_gap: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what a solver would, before anything runs."""
        Options(time_limit=self.time_limit, rel_gap=self.rel_gap, seed=self.seed)


@dataclass(frozen=True)
class Draft:
    """A scheme's plan on the instance it is judged on."""

    instance: Instance
    plan: Plan | None
    changes: tuple[str, ...] = ()
    bound_s: float | None = None
    """What is proven of problem (13), where the scheme solves it."""
    termination: Termination | None = None
    """Why the solver stopped, where there is one."""
    message: str = ""
    """Why there is no plan."""


def draft(instance: Instance, request: Request, settings: Settings) -> Draft:
    """Make the plan of one scheme.

    Raises InputError where the scheme has no meaning on the instance or an option is out of range.
    """
    check_suits(instance, request)
    scheme, variant = request.scheme, variant_of(instance, request)
    if scheme.cut is CutRule.FREE:
        return _solved(variant, request, settings)
    if scheme.cut is CutRule.COMMON or scheme.compression is CompressionRule.COMMON:
        derived = derive(variant.instance)
        point = best_common(derived, variant.mode)
        made = to_plan(derived, point, Provenance(), variant.instance.name)
        return _drafted(variant, made, request)
    if scheme.order is Order.FEDERATED and request.options.get("participants") == "fitting":
        variant = _fitting(variant, request)
    return _drafted(variant, _planned(variant, request), request)


def _drafted(variant: Variant, plan: Plan, request: Request) -> Draft:
    """The draft, its plan named after the scheme."""
    note = f"scheme {request.label}"
    asked = request.options.get("aggregation")
    provenance = plan.provenance.model_copy(update={"note": note})
    update = {
        "scheme": request.scheme.name,
        "provenance": provenance,
        "aggregation": request.scheme.aggregation if asked is None else Aggregation(str(asked)),
    }
    return Draft(variant.instance, plan.model_copy(update=update), variant.changes)


def _solved(variant: Variant, request: Request, settings: Settings) -> Draft:
    """Problem (13), over the scheme's mode alone where its compression is fixed."""
    instance = variant.instance
    if variant.mode is not None:
        compression = instance.compression.model_copy(update={"modes": (variant.mode,)})
        instance = instance.model_copy(update={"compression": compression})
    result = _result(instance, request.scheme.solver, settings)
    if not request.scheme.solver and result.termination is Termination.TIME_LIMIT:
        # a proof that was cut short says nothing of the plan it stopped at: the better of two
        other = _result(instance, "greedy", settings)
        if (other.objective_s or math.inf) < (result.objective_s or math.inf):
            result = result.model_copy(
                update={"plan": other.plan, "objective_s": other.objective_s}
            )
    if result.plan is None:
        why = result.message or result.termination.value
        return Draft(instance, None, variant.changes, result.bound_s, result.termination, why)
    plan = result.plan.model_copy(
        update={"instance_hash": variant.instance.hash, "scheme": request.scheme.name}
    )
    return Draft(variant.instance, plan, variant.changes, result.bound_s, result.termination)


def _result(instance: Instance, solver: str, settings: Settings) -> Result:
    return solve(
        instance,
        solver=solver or None,
        time_limit=settings.time_limit,
        rel_gap=settings.rel_gap,
        seed=settings.seed,
    ).raise_if_interrupted()


def _planned(variant: Variant, request: Request) -> Plan:
    """The plan of a scheme whose decisions follow from rules, device by device."""
    scheme, instance, mode = request.scheme, variant.instance, variant.mode
    assert mode is not None
    speeds: Sequence[float | None] = [None] * len(instance.devices)
    if scheme.order is Order.SEQUENTIAL:
        cuts, speeds = sequential_decisions(instance, request, mode)
    else:
        cuts = parallel_cuts(instance, request)
    ranks = ranks_of(instance, request, cuts)
    power = SequentialPower(str(request.options.get("power", "band")))
    plan = plan_of(instance, scheme, mode, cuts, ranks, speeds, power)
    shares = request.options.get("shares", scheme.shares.value)
    return at_best_shares(instance, plan) if shares == ShareRule.BEST.value else plan


def _fitting(variant: Variant, request: Request) -> Variant:
    """The variant with the devices alone whose memory holds the whole model and its head.

    Raises InputError where there is none.
    """
    found = verify_plan(variant.instance, _planned(variant, request)).violations
    over = {v.index: v.amount for v in found if v.family is Family.DEVICE_MEMORY}
    kept = [device for device in variant.instance.devices if device.id not in over]
    if not kept:
        least = min(over, key=lambda name: over[name])
        raise InputError(
            f"scheme '{request.label}': zero devices hold the whole model; {least} lacks least, "
            f"{over[least]:.4g} bytes"
        )
    return with_devices(variant, kept) if over else variant
