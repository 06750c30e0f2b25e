"""Tables for people: plain columns that fit 80 characters, with or without a terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from sftopt.core.unit_suffixes import people_unit
from sftopt.face.escaped import visible

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.faults import Fault
    from sftopt.core.instance import Instance
    from sftopt.core.plan import Breakdown, DeviceBreakdown, DevicePlan, Plan
    from sftopt.core.verify import Violation

ROWS_SHOWN = 20
"""Devices listed one by one; of more, the extremes are named."""

NAME_WIDTH = 12
"""Width of a column of names in characters."""


def percent(fraction: float) -> str:
    """Format a fraction in percent: ``0.1234`` -> ``12.3``."""
    return f"{100.0 * fraction:.1f}"


def short_number(value: float) -> str:
    """Format a non-negative number in at most six characters."""
    if value == 0.0:
        return "0"
    if value < 1e-4:
        return f"{value:.0e}"
    for digits in (4, 3, 2, 1, 0):
        text = f"{value:.{digits}f}"
        if len(text) <= 6:
            return text
    return f"{value:.0e}".replace("e+0", "e")


def enough(change: float) -> float:
    """Round away from zero to six digits, in the unit of ``change``: applying it suffices."""
    rounded = float(f"{change:.5e}")
    if abs(rounded) >= abs(change):
        return rounded
    step = math.copysign(10.0 ** (math.floor(math.log10(abs(change))) - 5), change)
    return float(f"{rounded + step:.5e}")


def as_setting(fault: Fault) -> str:
    """Return what 'sftopt instance set' takes to mend a fault: ``server.memory_gb=4.93``.

    Empty where the fault names no change. Rounded to the far side at five digits, so it suffices.
    """
    change, value = fault.needed_change, fault.value
    if change is None or not isinstance(value, int | float):
        return ""
    path = fault.field if fault.device is None else f"devices[{fault.device}].{fault.field}"
    holder, _, field = path.rpartition(".")
    if isinstance(value, int):
        return f"{path}={math.ceil(value + change) if change > 0 else math.floor(value + change)}"
    name, divisor = people_unit(field)
    target = (value + change) / divisor
    if target == 0.0:
        return f"{path}=0"
    step = 10.0 ** (math.floor(math.log10(abs(target))) - 4)
    turned = (math.ceil if change > 0 else math.floor)(target / step) * step
    return f"{holder}.{name}={turned:.5g}" if holder else f"{name}={turned:.5g}"


def counted(number: int, noun: str) -> str:
    """Format a number with its noun: ``1 error``, ``2 errors``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def bytes_text(amount: float) -> str:
    """Format bytes with a decimal prefix: ``1234567`` -> ``1.23 MB``."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(amount) >= factor:
            return f"{amount / factor:.3g} {unit}"
    return f"{amount:.0f} bytes"


def seconds_text(value: float | None) -> str:
    """Format seconds with six significant digits; ``none`` where there are none."""
    return "none" if value is None else f"{value:.6g} s"


def table(*columns: str, left: Iterable[str] = (), title: str | None = None) -> Table:
    """Make an empty table; columns are right-aligned but the first and those in ``left``."""
    names = set(left) | set(columns[:1])
    made = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0),
        title=None if title is None else visible(title), title_justify="left", title_style="bold",
    )  # fmt: skip
    for name in columns:
        made.add_column(name, justify="left" if name in names else "right", overflow="fold")
    return made


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Name and value, one fact a line; empty values are left out. Long values wrap."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value:
            made.add_row(name, Text(visible(value)))
    return made


def name_text(name: str, width: int = NAME_WIDTH) -> str:
    """Cut a name to fit its column; a cut one ends in an ellipsis."""
    name = visible(name)
    return name if len(name) <= width else name[: width - 1] + "…"


def delay_table(instance: Instance, breakdown: Breakdown) -> Table:
    """Tabulate the round by parts, equation (9): seconds of a step, of the round, and the share."""
    steps = instance.training.local_steps
    rows = [
        ("device forward + uplink (tau_u)", breakdown.tau_u_s, steps),
        ("server (all devices)", breakdown.server_s, steps),
        ("downlink + device backward (tau_d)", breakdown.tau_d_s, steps),
        ("adapter exchange (tau_a)", breakdown.tau_a_s, 1),
    ]
    made = table("part of the round", "once s", "times", "round s", "%")
    for name, once, times in rows:
        total = once * times
        share = total / breakdown.round_s if breakdown.round_s > 0.0 else 0.0
        made.add_row(name, f"{once:.5g}", str(times), f"{total:.5g}", percent(share))
    made.add_row("round", "", "", f"{breakdown.round_s:.6g}", "100.0")
    return made


def show_devices(console: Console, plan: Plan, breakdown: Breakdown | None) -> None:
    """Print decisions, delays and memory by device; of many the first and the extremes."""
    shown = plan.devices if len(plan.devices) <= ROWS_SHOWN else plan.devices[:ROWS_SHOWN]
    made = table("device", "l", "mode", "keep", "up", "down", left=["mode"])
    times: dict[str, DeviceBreakdown] = {}
    if breakdown is not None:
        times = {part.id: part for part in breakdown.devices}
        for name in ("s1", "s2", "s3", "s4", "s5", "mem"):
            made.add_column(name, justify="right")
    for part in shown:
        made.add_row(*_device_cells(part, times.get(part.id)))
    console.print(made)
    legend = "l: blocks on the device; keep, shares of the band up and down"
    if times:
        legend += (
            ", memory used: %. s1..s5: seconds of one step (device forward, uplink, server, "
            "downlink, device backward)"
        )
    legend += "."
    if any(part.blocks == 0 for part in shown):
        legend += " 0 blocks: embeddings alone; blocks_min of a device asks for more there."
    console.print(Text(legend))
    left_out = len(plan.devices) - len(shown)
    if left_out > 0:
        console.print(Text(f"{left_out} of {len(plan.devices)} devices left out (--json has all)."))
        console.print(_extremes(plan, times))


def _device_cells(part: DevicePlan, times: DeviceBreakdown | None) -> list[str]:
    usual = part.mode.value if part.mode.value == "none" else f"{part.mode.value}{part.bits}"
    mode = usual if part.mode_name is None else name_text(part.mode_name)
    cells = [
        name_text(part.id),
        str(part.blocks),
        mode,
        percent(part.keep_fraction),
        percent(part.uplink_share),
        percent(part.downlink_share),
    ]
    if times is not None:
        delays = (times.s1_s, times.s2_s, times.s3_s, times.s4_s, times.s5_s)
        cells += [short_number(value) for value in delays]
        cells.append(f"{100.0 * _memory_used(times):.0f}")
    return cells


def _memory_used(times: DeviceBreakdown) -> float:
    limit = times.memory_bytes + times.memory_slack_bytes
    return times.memory_bytes / limit if limit > 0.0 else 0.0


def _extremes(plan: Plan, times: dict[str, DeviceBreakdown]) -> Table:
    """The devices that stand out, one line each."""
    made = table("extreme", "device", "value", left=["device"], title="extremes over all devices")

    def add(name: str, key: Callable[[DevicePlan], float], text: Callable[[float], str]) -> None:
        found = max(plan.devices, key=key)
        made.add_row(name, name_text(found.id, 30), text(key(found)))

    add("most blocks", lambda part: part.blocks, lambda value: f"{value:.0f}")
    add("fewest blocks", lambda part: -part.blocks, lambda value: f"{-value:.0f}")
    add("keeps most", lambda part: part.keep_fraction, lambda value: percent(value) + " %")
    add("keeps least", lambda part: -part.keep_fraction, lambda value: percent(-value) + " %")
    add("largest uplink share", lambda part: part.uplink_share, lambda v: percent(v) + " %")
    if times:
        add("slowest forward", lambda part: times[part.id].s1_s, seconds_text)
        add("slowest uplink", lambda part: times[part.id].s2_s, seconds_text)
        add("slowest downlink", lambda part: times[part.id].s4_s, seconds_text)
        add("slowest backward", lambda part: times[part.id].s5_s, seconds_text)
        add(
            "fullest memory", lambda part: _memory_used(times[part.id]), lambda v: percent(v) + " %"
        )
    return made


def show_faults(console: Console, faults: Sequence[Fault]) -> None:
    """Print each fault on its own lines, with what would have to give."""
    for fault in faults:
        console.print(Text(visible(f"{fault.severity.value}: {fault.message}")))
        line = fault.field if fault.device is None else f"{fault.field} of device {fault.device}"
        if fault.needed_change is not None:
            line += f": change by {enough(fault.needed_change):+.6g} {fault.unit}".rstrip()
            if isinstance(fault.value, int | float):
                line += f", from {fault.value:.6g}"
        console.print(Text(visible("   " + line)))
        setting = as_setting(fault)
        if setting:
            console.print(Text(visible(f"   sftopt instance set FILE {shlex.quote(setting)}")))


def violation_table(violations: Sequence[Violation]) -> Table:
    """Tabulate the first violations, worst first within the order of families."""
    made = table("violated limit", "where", "by", "unit", "tolerance", left=["where", "unit"])
    for item in violations[:ROWS_SHOWN]:
        made.add_row(
            item.family.value,
            name_text(item.index, 24),
            f"{item.amount:.4g}",
            item.unit,
            f"{item.tolerance:.1g}",
        )
    if len(violations) > ROWS_SHOWN:
        made.add_row(f"... and {len(violations) - ROWS_SHOWN} more", "", "", "", "")
    return made


def options_text(instance: Instance) -> str:
    """List the variants of the model that an instance asks for, on one line."""
    return ", ".join(f"{name} {value}" for name, value in instance.option_names().items())
