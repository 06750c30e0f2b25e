"""``sftopt instance template | from-csv | set``: cells from what people have at hand."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.face.arguments import InstanceArgument, JsonOption, OutOption
from sftopt.face.output import Answer, ensure_writable, tell
from sftopt.face.warned import as_data, tell_warnings, warnings_of

if TYPE_CHECKING:
    from sftopt.core.device_gains import Propagation
    from sftopt.core.instance import Instance

TEMPLATE = """\
# Devices of a cell, one row each (or `count` of them). Lines that begin with # are not read.
# Headers name the unit: compute_tflops or compute_gflops; memory_gb or memory_gib; power_dbm,
# power_mw or power_w; gain_db (both links, antennas included), uplink_gain_db and downlink_gain_db,
# or path_loss_db; or x_m and y_m (base station at 0, 0) or distance_m, with --path-loss umi|uma.
# Optional: id, kind, count, batch, samples (data set sizes, which become weights) or weight,
# blocks_min (privacy floor), blocks_max, bandwidth_mhz (one value for all rows).
id,kind,count,compute_tflops,memory_gb,power_dbm,gain_db,batch,samples
phone,phone,3,0.8,6,23,-98,16,500
tablet,tablet,2,1.5,8,23,-102,16,800
laptop,laptop,1,3.0,16,23,-95,32,1200
"""
"""What ``instance template`` writes: it is a table that ``from-csv`` reads as it is."""

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a field of the cell, as in server.compute_tflops=20; repeatable.",
        show_default=False,
    ),
]


def template(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the table here.")],
    json: JsonOption = False,
) -> Answer:
    """Write a commented table of devices to start from."""
    from sftopt.core.files import write_bytes

    ensure_writable(out)
    write_bytes(out, TEMPLATE.encode())
    return Answer(
        {"file": str(out)}, f"wrote {out}; next: sftopt instance from-csv {out} --out cell.json"
    )


def from_csv(
    table: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV table of devices.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the instance here.")],
    workload: Annotated[
        Path | None,
        typer.Option(
            "--workload",
            metavar="FILE",
            help="The model, as 'sftopt workload --out' writes it.",
            show_default="the model of --like",
        ),
    ] = None,
    like: Annotated[
        str,
        typer.Option("--like", help="Cell whose server, radio and limits are taken."),
    ] = "jetson-vit-b",
    set_: SetOption = None,
    path_loss: Annotated[
        str | None,
        typer.Option(
            "--path-loss",
            metavar="umi|uma",
            help="Gains from positions, by 3GPP TR 38.901.",
            show_default=False,
        ),
    ] = None,
    carrier_ghz: Annotated[
        float, typer.Option("--carrier-ghz", help="Carrier of --path-loss.")
    ] = 3.5,
    antenna_gain_db: Annotated[
        float, typer.Option("--antenna-gain-db", help="Both antennas together, of --path-loss.")
    ] = 8.0,
    json: JsonOption = False,
) -> Answer:
    """Make an instance of a table of devices, with units in its headers.

    Server, radio, accuracy curve and schedule come from --like; what is taken from there and what
    the table leaves to a default is said, and written into the instance's source. Change it with
    --set, here or later ('sftopt instance set').
    """
    from sftopt.core.device_table import read_device_table
    from sftopt.core.files import write_json
    from sftopt.core.instance import Source
    from sftopt.core.library import load

    ensure_writable(out)
    base = load(like)
    read = read_device_table(table, propagation_of(path_loss, carrier_ghz, antenna_gain_db))
    made = _with_workload(base, workload)
    made = made.replace(devices=list(read.devices), **dict(read.cell))
    made = changed(made, set_ or [])
    taken = "server, radio, accuracy curve, modes and schedule" + ("" if workload else ", model")
    notes = [f"{taken} are those of {base.name}, but for what is set: {_cell_text(made)}"]
    if workload is not None:
        notes.append(
            f"the accuracy curve is {made.accuracy.provenance}; 'sftopt calibrate' measures it"
        )
    notes += read.notes
    source = Source(generator="sftopt instance from-csv", text="; ".join(notes))
    made = made.model_copy(update={"name": out.stem or "cell", "source": source})
    write_json(out, made.to_dict())
    for note in notes:
        tell(f"note: {note}")
    tell_warnings(made)
    text = (
        f"wrote {out}: {len(made.devices)} devices, {made.workload.name}; next: sftopt check {out}"
    )
    return Answer(
        {"file": str(out), "instance": made.name, "instance_hash": made.hash,
         "devices": len(made.devices), "notes": notes, "warnings": as_data(warnings_of(made))},
        text,
    )  # fmt: skip


def set_fields(
    instance: InstanceArgument,
    edits: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="Fields by dotted path: server.memory_gb=64, devices[dev03].batch=8, "
            "devices[*].power_dbm=20, radio.bandwidth_mhz=40.",
            show_default=False,
        ),
    ],
    out: OutOption = None,
    json: JsonOption = False,
) -> Answer:
    """Change fields of an instance file, all of them checked together.

    Values are in SI, or in the unit that the last word names (compute_tflops, memory_gb,
    power_dbm, bandwidth_mhz, gain_db). The file itself is changed, or --out written. A changed
    cell has another hash: plans of the old one are not plans of it.
    """
    from sftopt.core.files import write_json
    from sftopt.core.library import load

    given = load(instance)
    target = out if out is not None else Path(instance)
    if out is None and not target.is_file():
        raise InputError(
            f"'{instance}' is a bundled instance; name a file for the new one: --out FILE"
        )
    ensure_writable(target)
    made = changed(given, edits)
    write_json(target, made.to_dict())
    tell_warnings(made)
    text = f"wrote {target}: hash {given.hash[:12]} -> {made.hash[:12]}"
    return Answer(
        {"file": str(target), "instance": made.name, "instance_hash": made.hash,
         "instance_hash_before": given.hash, "warnings": as_data(warnings_of(made))},
        text,
    )  # fmt: skip


def _cell_text(instance: Instance) -> str:
    """What the devices share, in people's units."""
    from sftopt.face.tables import bytes_text

    server, radio = instance.server, instance.radio
    return (
        f"server of {server.compute_flops_per_s / 1e12:.4g} TFLOP/s and "
        f"{bytes_text(server.memory_bytes)}, {radio.uplink_bandwidth_hz / 1e6:.4g} MHz up and "
        f"{radio.downlink_bandwidth_hz / 1e6:.4g} down"
    )


def propagation_of(
    path_loss: str | None, carrier_ghz: float, antenna_gain_db: float
) -> Propagation | None:
    """Return how gains follow from positions; None where nobody asked. Raises InputError."""
    from sftopt.core.device_gains import Propagation
    from sftopt.core.path_loss import URBAN_MACRO, URBAN_MICRO

    if path_loss is None:
        return None
    scenarios = {one.name: one for one in (URBAN_MICRO, URBAN_MACRO)}
    if path_loss not in scenarios:
        raise UnknownNameError("path loss", path_loss, scenarios)
    if not 0.5 <= carrier_ghz <= 100.0:
        raise InputError(f"--carrier-ghz is {carrier_ghz:g}; TR 38.901 holds for 0.5 to 100 GHz")
    if not -50.0 <= antenna_gain_db <= 100.0:
        raise InputError(f"--antenna-gain-db is {antenna_gain_db:g}; -50 to 100 dB are taken")
    return Propagation(scenarios[path_loss], carrier_ghz * 1e9, antenna_gain_db)


def _with_workload(base: Instance, path: Path | None) -> Instance:
    """The cell with the model of a file; what belongs to the old model's cuts is left out."""
    from sftopt.core.files import read_json
    from sftopt.core.instance import Workload
    from sftopt.core.parse import parse_model

    if path is None:
        return base
    read = parse_model(Workload, read_json(path, "workload"), f"workload '{path}'")
    curve = f"that of {base.workload.name} in {base.name}, assumed for {read.name}: not measured"
    return base.replace(
        workload=read.model_dump(mode="json"),
        **{"accuracy.cut_factor": None, "accuracy.provenance": curve},
    )


def changed(instance: Instance, edits: Sequence[str]) -> Instance:
    """Return the instance with ``KEY=VALUE`` texts applied. Raises InputError with all faults.

    What moves along with a speed is said (:mod:`sftopt.core.carried`).
    """
    from sftopt.core.carried import carried, carried_note, set_in_si

    found = set_in_si(instance, written_values(edits))
    moved = carried(instance, found)
    made = instance.replace(**found, **moved)
    note = carried_note(moved)
    if note is not None:
        tell(f"note: {note}")
    return made


def written_values(edits: Sequence[str]) -> dict[str, Any]:
    """Return what ``KEY=VALUE`` texts set: path -> value, both as written. Raises InputError."""
    found: dict[str, Any] = {}
    for text in edits:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise InputError(f"'{text}': write KEY=VALUE, as in server.memory_gb=64")
        if key in found:
            raise InputError(f"'{key}' is set twice")
        found[key] = _value(value)
    return found


def _value(text: str) -> Any:
    """A number, list, true, false or null as JSON has them; else the text itself."""
    try:
        return json_module.loads(text)
    except ValueError:
        return text
