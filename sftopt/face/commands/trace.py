"""``sftopt trace``: a trace of gains from what equipment and other programs write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer, ensure_writable


def trace(
    table: Annotated[Path, typer.Argument(metavar="FILE", help="Measurements: CSV or Parquet.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Write the trace: .csv or .parquet.")
    ],
    values: Annotated[
        str,
        typer.Option("--values", metavar="KIND", help="Numbers are gain-db, loss-db or linear."),
    ],
    device: Annotated[
        list[str],
        typer.Option(
            "--device",
            metavar="ID=NAME",
            help="A device and its column, or its name in --device-column; repeatable.",
        ),
    ],
    device_column: Annotated[
        str | None,
        typer.Option(
            "--device-column",
            metavar="NAME",
            help="Long tables: where devices are named.",
            show_default="a column for each device",
        ),
    ] = None,
    value_column: Annotated[
        str | None,
        typer.Option(
            "--value-column",
            metavar="NAME",
            help="Long tables: where the numbers are.",
            show_default=False,
        ),
    ] = None,
    round_column: Annotated[
        str | None,
        typer.Option(
            "--round-column",
            metavar="NAME",
            help="Where rounds are numbered.",
            show_default=False,
        ),
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(
            "--time-column",
            metavar="NAME",
            help="Where times are; they become rounds by --round-s.",
            show_default=False,
        ),
    ] = None,
    time_unit: Annotated[
        str, typer.Option("--time-unit", metavar="s|ms|iso", help="What times are.")
    ] = "s",
    round_s: Annotated[
        float | None,
        typer.Option(
            "--round-s",
            metavar="S",
            help="Seconds from one round to the next.",
            show_default=False,
        ),
    ] = None,
    resample: Annotated[
        str,
        typer.Option(
            "--resample",
            metavar="hold|mean",
            help="hold: the last measurement before a round; mean: of those within.",
        ),
    ] = "hold",
    json: JsonOption = False,
) -> Answer:
    """Turn a table of measurements into a trace for simulate and finetune.

    The mapping is declared, nothing is guessed: what the numbers are, which column or name is which
    device of the instance, and how times become rounds. Empty cells are no measurements.
    """
    from sftopt.core.table_files import write_table
    from sftopt.studies.trace_export import Mapped, Resample, TimeUnit, Values, trace_of
    from sftopt.studies.traces import read_trace

    if out.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"--out '{out}': end the name in .csv or .parquet")
    for flag, given, kinds in (
        ("--values", values, Values),
        ("--time-unit", time_unit, TimeUnit),
        ("--resample", resample, Resample),
    ):
        names = [kind.value for kind in kinds]
        if given not in names:
            raise UnknownNameError(flag, given, names)
    ensure_writable(out)
    made = trace_of(
        table,
        Mapped(
            Values(values), _devices(device), device_column, value_column, round_column,
            time_column, TimeUnit(time_unit), round_s, Resample(resample),
        ),
    )  # fmt: skip
    write_table(made.rows, out)
    read_trace(out)  # what is written is what simulate takes
    held = made.longest_held_s
    age = "" if held is None else f"; a measurement stands for up to {held:.3g} s"
    count = len({row["device"] for row in made.rows})
    return Answer(
        {"file": str(out), "rounds": made.rounds, "devices": count,
         "measurements": made.measurements, "longest_held_s": held},
        f"wrote {out}: {made.rounds} rounds of {count} devices from {made.measurements} "
        f"measurements{age}",
    )  # fmt: skip


def _devices(texts: list[str]) -> dict[str, str]:
    """``ID=NAME`` texts as a mapping. Raises InputError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, column = text.partition("=")
        if not equals or not name or not column:
            raise InputError(f"--device '{text}': write ID=NAME, as in dev01=rssi_1")
        if name in found:
            raise InputError(f"--device: '{name}' is given twice")
        found[name] = column
    return found
