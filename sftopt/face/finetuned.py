"""A finished fine-tuning for people: what was run, what it came to, predicted against measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sftopt.core.instance import Instance
    from sftopt.training.run import Compared, RunSummary

_DEVICES_SHOWN = 3
"""Devices whose figures are all shown."""


def show(console: Console, given: Instance, summary: RunSummary) -> None:
    """Print a run's figures, then what was predicted beside what was measured."""
    from sftopt.face.tables import bytes_text, counted, facts

    data = summary.data
    sent, less = data["bytes"], data["compression"]
    absent = [f"{', '.join(names)} in round {number}" for number, names in data["absent"].items()]
    console.print(facts([
        ("instance", f"{given.name}: {counted(len(given.devices), 'device')}"),
        ("task", f"{data['task']}, {data['model']}"),
        ("rounds", f"{data['rounds']} of {counted(data['local_steps'], 'step')}"),
        ("scheme", data["scheme"] or ""),
        ("order", _conduct(data)),
        ("absent", "; ".join(absent)),
        ("loss", f"{data['loss']:.5g} nats in the last round"),
        (data["metric"], f"{data['final_metric']:.6g}"),
        ("sent up", f"{bytes_text(sent['uplink'] + sent['side'])}, "
                    f"{bytes_text(sent['side'])} of it labels and masks; "
                    f"{_less(less['uplink'])}"),
        ("sent down", f"{bytes_text(sent['downlink'])}, {_less(less['downlink'])}"),
        ("both", _less(less["total"])),
        ("adapters", f"{bytes_text(sent['adapters'])}, both ways{_rounded(data)}"),
        ("set-up", _setup(sent["setup"], less["amortised"])),
        ("virtual time", f"{data['time_s']:.5g} s at the planned speeds, "
                         f"{data['time_unscaled_s']:.5g} s at this machine's"),
        ("compute", f"{data['cpu_s']:.4g} s of processor, {data['wall_s']:.4g} s of wall time"),
        ("adapters in", data["adapters"]),
        ("for plain peft", f"{data['adapters']}/{_peft_folder(data)}"),
    ]))  # fmt: skip
    console.print()
    rows = [row for row in summary.compared if row.goal_rel is not None]
    if len(given.devices) > _DEVICES_SHOWN:
        rows = _furthest_off(rows)
        console.print("Of each figure the cell's, and the device's that is furthest off.")
    console.print(_comparison(rows))
    for notice in data["notices"]:
        console.print(f"note: {notice}")


def _conduct(data: dict[str, Any]) -> str:
    """Order, aggregation and ranks in words."""
    ranks = sorted(set(data["ranks"].values()))
    how = f"adapters by {data['aggregation']}" if data["aggregation"] else "adapters handed on"
    named = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    return f"{data['order']}, {how}, {named}"


def _setup(sent: int, less: dict[str, Any]) -> str:
    """Bases, which devices get once; facts leave out what is empty."""
    from sftopt.face.tables import bytes_text

    if not sent:
        return ""
    return f"{bytes_text(sent)} of bases, once; with them down and both {_less(less['total'])}"


def _rounded(data: dict[str, Any]) -> str:
    """What the type that adapters travel in costs."""
    lost = data["adapter_rounding_rel"]
    if not lost:
        return ""
    return f", as {data['split']['adapter_dtype']}: off by {lost:.1e} of their norm"


def _peft_folder(data: dict[str, Any]) -> str:
    """Which folder of the adapters is all that was learnt, as plain peft loads it."""
    from sftopt.core.plan import Aggregation

    moved = (Aggregation.CONCATENATION, Aggregation.CORRECTED)
    return "whole" if data["aggregation"] in moved else "server"


def _less(ratio: dict[str, float | None]) -> str:
    if ratio["cut_by"] is None:
        return "no boundary is there"
    return f"{100.0 * ratio['cut_by']:.2f} % less than at 32 bits"


def _furthest_off(rows: list[Compared]) -> list[Compared]:
    """Per quantity the cell's row and the worst device's."""
    from sftopt.training.run import ALL

    found = [row for row in rows if row.device == ALL]
    for name in dict.fromkeys(row.quantity for row in rows):
        mine = [row for row in rows if row.quantity == name and row.device != ALL]
        found += sorted(mine, key=lambda row: -abs(row.error_rel or 0.0))[:1]
    return found


def _comparison(rows: list[Compared]) -> Table:
    """Figures with a goal; --json and summary.json have all."""
    from sftopt.face.tables import name_text, table

    made = table("predicted against measured", "device", "predicted", "measured", "error %",
                 "goal %", "", left=["device"])  # fmt: skip
    for row in rows:
        error = "" if row.error_rel is None else f"{100.0 * row.error_rel:+.2f}"
        goal = "" if row.goal_rel is None else f"{100.0 * row.goal_rel:g}"
        made.add_row(
            f"{row.quantity}, {row.unit}" if row.unit else row.quantity, name_text(row.device),
            f"{row.predicted:.6g}", f"{row.measured:.6g}", error, goal,
            {True: "", False: "missed", None: ""}[row.met],
        )  # fmt: skip
    return made
