"""``sftopt instance``: make, list and show instances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.core.errors import InputError
from sftopt.face.arguments import (
    HIDDEN_JSON,
    InstanceArgument,
    JsonOption,
    OutOption,
    ReportOption,
)
from sftopt.face.calibrated import (
    CalibrationOption,
    CurveOption,
    ExtrapolateOption,
    MinimumOption,
    SpeedsOption,
    load_given,
)
from sftopt.face.inputs import keeps_inputs
from sftopt.face.output import Answer, ensure_writable, tell

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.instance import Device, Instance

group = typer.Typer(help="Make, list and show instances.", rich_markup_mode=None)


@group.callback(invoke_without_command=True)
def need_verb(context: typer.Context, json: Annotated[bool, HIDDEN_JSON] = False) -> None:
    """Make, list and show instances."""
    if context.invoked_subcommand is None:
        raise InputError(
            "instance: Missing command. Known: new, list, show, template, from-csv, set "
            "('sftopt instance --help')"
        )


@group.command("new")
def new(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the instance here.")],
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices",
            help="Number of devices, 1..10000.",
            show_default="the family's own",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same instance.")] = 0,
    family: Annotated[
        str, typer.Option("--family", help="A family by name ('sftopt instance list').")
    ] = "jetson-vit-b",
    json: JsonOption = False,
) -> Answer:
    """Generate an instance of a family: same family, seed and size, same file."""
    from sftopt.core.families import generate
    from sftopt.core.files import write_json

    ensure_writable(out)
    made = generate(family, devices, seed)
    write_json(out, made.to_dict())
    tell(f"wrote {out}")
    text = f"{made.name}: {len(made.devices)} devices of family {family}, seed {seed}"
    return Answer(
        {"file": str(out), "instance": made.name, "instance_hash": made.hash,
         "family": family, "devices": len(made.devices), "seed": seed},
        text,
    )  # fmt: skip


@group.command("list")
def list_bundled(json: JsonOption = False) -> Answer:
    """List bundled instances; each is also a family for 'instance new'."""
    from dataclasses import asdict

    from sftopt.core.families import FAMILIES
    from sftopt.core.library import descriptions

    rows = descriptions()

    def show(console: Console) -> None:
        from rich.text import Text

        from sftopt.face.tables import table

        made = table("instance, family", "devices", "blocks", "what it is", left=["what it is"])
        for row in rows:
            made.add_row(row.name, str(row.devices), str(row.blocks), Text(row.text))
        console.print(made)

    return Answer({"instances": [asdict(row) for row in rows], "families": list(FAMILIES)}, show)


@group.command("show")
@keeps_inputs
def show_instance(
    instance: InstanceArgument,
    calibration: CalibrationOption = None,
    accuracy_curve: CurveOption = None,
    speeds: SpeedsOption = None,
    accuracy_minimum: MinimumOption = None,
    extrapolate: ExtrapolateOption = False,
    out: OutOption = None,
    report: ReportOption = None,
    json: JsonOption = False,
) -> Answer:
    """Show devices, options and workload of an instance; with --out, write it as JSON."""
    from sftopt.core.files import write_json

    for target in filter(None, (out, report)):
        ensure_writable(target)
    loaded = load_given(
        instance, calibration, accuracy_curve, speeds, accuracy_minimum, extrapolate
    )
    if out is not None:
        write_json(out, loaded.to_dict())
        tell(f"wrote {out}")
    if report is not None:
        from sftopt.face.report.cells import cell_page
        from sftopt.face.report.page import write_page

        write_page(cell_page(loaded, f"sftopt instance show {loaded.name}"), report)
        tell(f"wrote {report}")
    return Answer(
        {
            "instance": loaded.to_dict(),
            "instance_hash": loaded.hash,
            "file": None if out is None else str(out),
            "report_file": None if report is None else str(report),
        },
        lambda console: _show(console, loaded),
    )


def _show(console: Console, instance: Instance) -> None:
    from rich.text import Text

    from sftopt.face.commands.workload import workload_facts
    from sftopt.face.tables import ROWS_SHOWN, bytes_text, facts, name_text, table

    limits, radio, server = instance.accuracy, instance.radio, instance.server
    source = instance.source
    origin = f"family {source.family}" if source.family else ""
    if source.seed is not None:
        origin += f", seed {source.seed}"
    rows = [
        ("instance", instance.name),
        ("hash", instance.hash),
        ("source", ". ".join(filter(None, [origin, " ".join(source.text.split())]))),
        ("devices", str(len(instance.devices))),
        ("server", f"{server.compute_flops_per_s / 1e12:.4g} TFLOP/s, "
                   f"{bytes_text(server.memory_bytes)}, {server.transmit_power_w:.4g} W, "
                   f"{instance.server_order.value}"),
        ("radio", f"{radio.uplink_bandwidth_hz / 1e6:.4g} MHz up, "
                  f"{radio.downlink_bandwidth_hz / 1e6:.4g} MHz down, power law "
                  f"{radio.power.value}, downlink payload {radio.downlink.value}, adapters "
                  f"{radio.adapter_downlink.value}, fading {radio.fading.value}"),
        ("compression", ", ".join(mode.label for mode in instance.compression.modes)
                        + f"; keep at least {instance.keep_min:.4g}"),
        (limits.metric, f"at least {limits.minimum:.6g} ({limits.scope.value}), "
                        f"{limits.uncompressed:.6g} uncompressed; {limits.provenance}"),
        ("training", f"{instance.training.local_steps} local steps per round"),
    ]  # fmt: skip
    console.print(facts([*rows, *workload_facts(instance.workload)]))
    console.print()
    made = table("device", "kind", "TFLOP/s", "memory", "batch", "weight", "W", "gain dB", "blocks",
                 left=["kind"])  # fmt: skip
    for device in instance.devices[:ROWS_SHOWN]:
        made.add_row(
            name_text(device.id), name_text(device.kind, 14),
            f"{device.compute_flops_per_s / 1e12:.3g}", bytes_text(device.memory_bytes),
            str(device.batch), f"{device.weight:.3g}", f"{device.transmit_power_w:.3g}",
            _decibel(device.uplink_gain), f"{device.blocks_min}-{_most_blocks(instance, device)}",
        )  # fmt: skip
    console.print(made)
    left_out = len(instance.devices) - ROWS_SHOWN
    if left_out > 0:
        console.print(Text(f"{left_out} of {len(instance.devices)} devices left out."))


def _most_blocks(instance: Instance, device: Device) -> int:
    """Return the blocks that a device may hold at most, memory aside."""
    last = instance.workload.blocks - 1
    return last if device.blocks_max is None else min(device.blocks_max, last)


def _decibel(gain: float) -> str:
    from math import log10

    return "none" if gain <= 0.0 else f"{10.0 * log10(gain):.1f}"
