"""Pages of a cell and of a plan: the map, what binds, where the time goes, one step in detail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sftopt.core.instance import Instance
from sftopt.core.pictures import gantt_figure, map_figure, parts_figure
from sftopt.core.pictures.cell_map import PATH_LOSS_EXPONENT, positions_known
from sftopt.core.plan import Breakdown, Plan
from sftopt.core.verify import verify_plan
from sftopt.face.report.page import Page, Section, picture
from sftopt.face.tables import bytes_text

_MOST_ROWS = 200
"""Devices that a page's table lists; a file of results has all of them."""


def cell_page(instance: Instance, command: str) -> Page:
    """Make the page of a cell: the map, devices by kind, and what stands in a plan's way."""
    from sftopt.core.check import check

    report = check(instance)
    faults = [str(fault) for fault in report.faults]
    return Page(
        f"Cell {instance.name}",
        " ".join(instance.source.text.split())[:1_000],
        [
            _facts(instance),
            _map(instance, None),
            _kinds(instance),
            Section(
                "Is there a plan?",
                "Yes: every limit can be met."
                if report.feasible
                else "No. Each of these stands in the way, with what would have to change.",
                head=["finding"] if faults else (),
                rows=[[text] for text in faults],
            ),
            _most(instance),
        ],
        command,
    )


def plan_page(
    instance: Instance, plan: Plan, command: str, facts: Sequence[tuple[str, str]] = ()
) -> Page:
    """Make the page of a plan as the judge sees it; ``facts`` come first, such as the bound."""
    verdict = verify_plan(instance, plan)
    breakdown = verdict.breakdown
    sections = [Section(facts=[*facts, ("verdict", "feasible" if verdict.feasible else "refuted")])]
    if verdict.violations:
        rows = [
            [one.family, str(one.index), f"{one.amount:.6g}", one.unit]
            for one in verdict.violations[:_MOST_ROWS]
        ]
        sections.append(Section("Limits missed", head=["limit", "where", "by", "unit"], rows=rows))
    if breakdown is not None:
        sections += plan_sections(instance, plan, breakdown)
    title = f"Plan of {instance.name}"
    return Page(title, "Cuts, compression and shares of one frame.", sections, command)


def plan_sections(instance: Instance, plan: Plan, breakdown: Breakdown) -> list[Section]:
    """Make the sections that show a plan: time, one step, the map, every device."""
    return [
        picture(
            "Where the time goes",
            f"One round of {instance.training.local_steps} steps and an exchange of adapters.",
            parts_figure(breakdown, plan),
        ),
        picture(
            "One step",
            "Dotted lines are the barriers: the server begins when the last upload is there, the "
            "step ends when the last device is done."
            if plan.order.value == "parallel"
            else "One row for each device.",
            gantt_figure(breakdown, plan.order),
        ),
        _map(instance, plan),
        _devices(instance, plan, breakdown),
    ]


def _facts(instance: Instance) -> Section:
    radio, server, limits = instance.radio, instance.server, instance.accuracy
    return Section(
        facts=[
            ("model", f"{instance.workload.name}, {instance.workload.blocks} blocks, "
                      f"{instance.workload.tokens} tokens per sample"),
            ("devices", str(len(instance.devices))),
            ("server", f"{server.compute_flops_per_s / 1e12:.4g} TFLOP/s, "
                       f"{bytes_text(server.memory_bytes)}"),
            ("band", f"{radio.uplink_bandwidth_hz / 1e6:.4g} MHz up, "
                     f"{radio.downlink_bandwidth_hz / 1e6:.4g} MHz down, {radio.power.value}"),
            (limits.metric, f"at least {limits.minimum:.6g} of {limits.uncompressed:.6g}"),
            ("hash", instance.hash),
        ]
    )  # fmt: skip


def _map(instance: Instance, plan: Plan | None) -> Section:
    size = "" if plan is None else " Larger dots hold more blocks, which stand behind the names."
    where = (
        "Positions as given."
        if positions_known(instance)
        else "No positions are given: distances follow from the gains (path-loss exponent "
        f"{PATH_LOSS_EXPONENT}), angles mean nothing."
    )
    return picture("The cell", where + size, map_figure(instance, plan))


def _kinds(instance: Instance) -> Section:
    counts = Counter(device.kind or "device" for device in instance.devices)
    rows = []
    for kind, count in counts.items():
        mine = [device for device in instance.devices if (device.kind or "device") == kind]
        speeds = [device.compute_flops_per_s / 1e12 for device in mine]
        memory = [device.memory_bytes for device in mine]
        rows.append(
            [kind, str(count), _spread(speeds), f"{bytes_text(min(memory))} to "
             f"{bytes_text(max(memory))}", _spread([float(device.batch) for device in mine])]
        )  # fmt: skip
    return Section(
        "Devices by kind", head=["kind", "devices", "TFLOP/s", "memory", "batch"], rows=rows
    )


def _spread(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _most(instance: Instance) -> Section:
    """How many blocks memory lets each kind hold: the first thing that binds."""
    from sftopt.core.memory import device_memory_bytes

    rows = []
    for device in instance.devices[:_MOST_ROWS]:
        fits = [
            blocks
            for blocks in range(instance.workload.blocks)
            if device_memory_bytes(instance.workload, device, blocks) <= device.memory_bytes
        ]
        rows.append(
            [device.id, device.kind, f"{device.compute_flops_per_s / 1e12:.3g}",
             bytes_text(device.memory_bytes), str(max(fits)) if fits else "none"]
        )  # fmt: skip
    return Section(
        "What memory allows",
        f"Most blocks that fit, of {instance.workload.blocks}; the server keeps one at least.",
        head=["device", "kind", "TFLOP/s", "memory", "blocks"],
        rows=rows,
    )


def _devices(instance: Instance, plan: Plan, breakdown: Breakdown) -> Section:
    rows = []
    for part, times in zip(plan.devices, breakdown.devices, strict=True):
        mode = part.mode_name or f"{part.mode.value}{part.bits}"
        rows.append(
            [part.id, str(part.blocks), mode, f"{part.keep_fraction:.3g}",
             f"{100 * part.uplink_share:.3g}", f"{100 * part.downlink_share:.3g}",
             f"{times.s1_s:.3g}", f"{times.s2_s:.3g}", f"{times.s4_s:.3g}", f"{times.s5_s:.3g}",
             bytes_text(times.memory_slack_bytes)]
        )  # fmt: skip
    left_out = len(rows) - _MOST_ROWS
    return Section(
        "Every device",
        f"The first {_MOST_ROWS}; the plan file has {left_out} more." if left_out > 0 else "",
        head=["device", "blocks", "mode", "keep", "up %", "down %", "forward s", "uplink s",
              "downlink s", "backward s", "memory left"],
        rows=rows[:_MOST_ROWS],
    )  # fmt: skip
