"""``sftopt verify``: the judge's word on a plan file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import ExitCode
from sftopt.face.arguments import InstanceArgument, JsonOption
from sftopt.face.calibrated import (
    CalibrationOption,
    CurveOption,
    ExtrapolateOption,
    MinimumOption,
    SpeedsOption,
    load_given,
)
from sftopt.face.many_devices import shortened
from sftopt.face.output import Answer, tell
from sftopt.face.warned import as_data, tell_delay, tell_warnings, warnings_of

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.instance import Instance
    from sftopt.core.plan import Plan
    from sftopt.core.verify import Verification

_SAME_REL = 1e-9
"""A stored delay that differs by more than this, relative, is pointed out."""


def verify(
    instance: InstanceArgument,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file.", show_default=False)],
    feas_tol: Annotated[
        float | None,
        typer.Option(
            "--feas-tol",
            help="Tolerance, at most 1e-6: on shares, keep, accuracy; relative on memory, rates. "
            "Usually the plan's own, or 1e-9.",
            show_default=False,
        ),
    ] = None,
    calibration: CalibrationOption = None,
    accuracy_curve: CurveOption = None,
    speeds: SpeedsOption = None,
    accuracy_minimum: MinimumOption = None,
    extrapolate: ExtrapolateOption = False,
    schedules: Annotated[
        bool, typer.Option("--schedules", help="Also rounds without barriers: cpsfl, pipesfl.")
    ] = False,
    json: JsonOption = False,
) -> Answer:
    """Judge a plan file.

    Delay, memory and accuracy are recomputed from the instance and the plan alone. With --schedules
    the same plan's round is simulated without the barriers after uplink and server, so that one
    sees what they cost.

    Exit code 0: feasible; 5: a limit is violated, or the plan belongs to another instance.
    """
    from sftopt.core.plan import Plan
    from sftopt.core.verify import verify_plan

    given = load_given(instance, calibration, accuracy_curve, speeds, accuracy_minimum, extrapolate)
    judged = Plan.load(plan)
    tell_warnings(given)
    verdict = verify_plan(given, judged, feas_tol=feas_tol)
    tell_delay(verdict.objective_s)
    _point_out_stored_delay(judged, verdict)
    simulated = _simulated(given, judged) if schedules else None
    extra = {} if simulated is None else {"schedules": simulated}
    return Answer(
        shortened(
            {
                **extra,
                "instance": given.name,
                "instance_hash": given.hash,
                "plan_instance_hash": judged.instance_hash,
                "hash_matches": verdict.hash_matches,
                "feasible": verdict.feasible,
                "objective_s": verdict.objective_s,
                "breakdown": None
                if verdict.breakdown is None
                else verdict.breakdown.model_dump(mode="json"),
                "violations": [item.model_dump(mode="json") for item in verdict.violations],
                "warnings": as_data(warnings_of(given, verdict.objective_s)),
            }
        ),
        lambda console: _show(console, given, judged, verdict, simulated),
        code=ExitCode.OK if verdict.feasible else ExitCode.REFUTED,
        problem="" if verdict.feasible else _why(given, judged, verdict),
    )


def _simulated(instance: Instance, plan: Plan) -> list[dict[str, Any]]:
    """The plan's round under every schedule; ``barriers_cost_s`` is what (7) takes longer."""
    from sftopt.core.schedules import scheduled_rounds

    return [
        {"schedule": one.schedule.value, "round_s": one.round_s,
         "barriers_cost_s": one.barriers_cost_s}
        for one in scheduled_rounds(instance, plan)
    ]  # fmt: skip


def _why(instance: Instance, plan: Plan, verdict: Verification) -> str:
    reasons = []
    if not verdict.hash_matches:
        reasons.append(
            f"the plan was made for another instance (hash {plan.instance_hash[:12]}..., "
            f"'{instance.name}' has {instance.hash[:12]}...)"
        )
    if verdict.violations and (verdict.hash_matches or verdict.breakdown is not None):
        count = len(verdict.violations)
        reasons.append("1 limit is violated" if count == 1 else f"{count} limits are violated")
    if not reasons:
        reasons.append("the plan has no finite delay")
    return "refuted: " + " and ".join(reasons)


def _point_out_stored_delay(plan: Plan, verdict: Verification) -> None:
    """The file's own breakdown is never believed; where it is wrong, say so."""
    if plan.breakdown is None or verdict.objective_s is None:
        return
    stored = plan.breakdown.round_s
    if abs(stored - verdict.objective_s) > _SAME_REL * abs(verdict.objective_s):
        tell(
            f"note: the plan file states a round of {stored:.9g} s; recomputed it is "
            f"{verdict.objective_s:.9g} s"
        )


def _show(
    console: Console, instance: Instance, plan: Plan, verdict: Verification,
    simulated: list[dict[str, Any]] | None,
) -> None:  # fmt: skip
    from sftopt.face.tables import (
        bytes_text,
        delay_table,
        facts,
        seconds_text,
        show_devices,
        table,
        violation_table,
    )

    breakdown = verdict.breakdown
    rows = [
        ("verdict", "feasible" if verdict.feasible else "refuted"),
        ("instance", f"{instance.name}" + ("" if verdict.hash_matches else " (not the plan's)")),
        ("round", seconds_text(verdict.objective_s)),
    ]
    if breakdown is not None:
        limits = instance.accuracy
        known = breakdown.accuracy
        reached = "not known" if known is None else f"{known:.6g}"
        rows += [
            (
                limits.metric,
                f"{reached} (at least {limits.minimum:.6g}); curve: {limits.provenance}",
            ),
            (
                "server memory",
                f"{bytes_text(breakdown.server_memory_bytes)} of "
                f"{bytes_text(instance.server.memory_bytes)}",
            ),
        ]
    console.print(facts(rows))
    foreign = breakdown is None and not verdict.hash_matches  # a row per device says no more
    if verdict.violations and not foreign:
        console.print()
        console.print(violation_table(verdict.violations))
    if breakdown is not None:
        console.print()
        console.print(delay_table(instance, breakdown))
        console.print()
        show_devices(console, plan, breakdown)
    if simulated:
        console.print()
        rounds = table("schedule", "round s", "with barriers",
                       title="the same plan without the barriers of a step")  # fmt: skip
        for one in simulated:
            longer = f"{one['barriers_cost_s']:+.4g} s"
            rounds.add_row(one["schedule"], f"{one['round_s']:.5g}", longer)
        console.print(rounds)
