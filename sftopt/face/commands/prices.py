"""``sftopt prices``: what a little more of each resource is worth to a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.face.arguments import InstanceArgument, JsonOption
from sftopt.face.output import Answer
from sftopt.face.warned import as_data, tell_delay, tell_warnings, warnings_of

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.instance import Instance
    from sftopt.studies.prices import Price, Prices

_NAMES = {
    "uplink_bandwidth": ("uplink band", 1e6, "MHz"),
    "downlink_bandwidth": ("downlink band", 1e6, "MHz"),
    "server_speed": ("server speed", 1e9, "GFLOP/s"),
    "accuracy_limit": ("accuracy limit", 1.0, ""),
}
"""By price: what is bought, and the unit in which its range is shown."""


def prices(
    instance: InstanceArgument,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file.", show_default=False)],
    json: JsonOption = False,
) -> Answer:
    """Price each resource: what a little more of it is worth to a plan.

    Seconds of round delay gained per MHz up and down, GFLOP/s of server, 0.01 of accuracy and
    GiB of device memory, at the plan's cuts and modes, with the range where each price holds.

    Exit code 2: the plan is for another instance; 5: the judge refutes it.
    """
    from sftopt.core.library import load
    from sftopt.core.plan import Plan
    from sftopt.studies.prices import prices as prices_of

    given = load(instance)
    made = Plan.load(plan)
    tell_warnings(given)
    found = prices_of(given, made)
    tell_delay(found.round_s)
    return Answer(
        {
            "instance": given.name,
            **found.model_dump(mode="json"),
            "warnings": as_data(warnings_of(given, found.round_s)),
        },
        lambda console: _show(console, given, found),
    )


def _show(console: Console, instance: Instance, found: Prices) -> None:
    from rich.text import Text

    from sftopt.face.tables import bytes_text, counted, facts, name_text, seconds_text, table

    rows = [
        ("instance", instance.name),
        ("round", f"{seconds_text(found.round_s)} at these cuts and modes, the rest at its best"),
    ]
    if abs(found.plan_round_s - found.round_s) > 1e-6 * found.round_s:
        rows.append(("plan's round", seconds_text(found.plan_round_s)))
    console.print(facts(rows))
    console.print()
    made = table("what", "gain", "per", "now", "holds from", "to", left=["per"])
    for price in found.prices:
        made.add_row(*_cells(price))
    console.print(made)
    tolerance = f"{100.0 * found.range_tolerance:.0f} %"
    console.print(
        Text(
            "gain: seconds of round delay for more of it (of accuracy: for less). "
            f"holds: the change of delay is within {tolerance} of what the price says."
        )
    )
    console.print()
    if not found.memory:
        console.print(Text("No device lacks memory for one more block."))
        return
    made = table("one more block on", "gain s", "missing", "s per GiB", title="device memory")
    for step in found.memory:
        made.add_row(
            name_text(step.device, 24),
            f"{step.gain_s:.4g}",
            bytes_text(step.missing_bytes),
            f"{step.value:.4g}",
        )
    console.print(made)
    short = counted(found.binding_devices, "device")
    lacks = "lacks" if found.binding_devices == 1 else "lack"
    text = f"{short} {lacks} memory for one more block; less than what is missing gains nothing."
    left_out = found.binding_devices - len(found.memory)
    console.print(Text(text + (f" {left_out} less promising not tried." if left_out else "")))


def _cells(price: Price) -> list[str]:
    what, factor, unit = _NAMES[price.name]

    def shown(value: float | None) -> str:
        # six digits: the range of an accuracy limit is narrow
        return "no end" if value is None else f"{value / factor:.6g}"

    per = price.unit.removeprefix("s per ")
    return [
        what,
        f"{price.value:.4g} s",
        per if len(per) <= 14 else per[:13] + "…",
        f"{shown(price.at)} {unit}".rstrip(),
        shown(price.low),
        shown(price.high),
    ]
