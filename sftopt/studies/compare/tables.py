"""A comparison as files for other programs: CSV, Parquet, and a LaTeX table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sftopt.core.files import write_csv, write_text
from sftopt.core.latex import booktabs, latex_text
from sftopt.core.table_files import write_table
from sftopt.studies.compare.comparison import Comparison, flat_rows
from sftopt.studies.compare.notes import PARTS_NOTE
from sftopt.studies.compare.row import SchemeRow


def write_comparison_csv(comparison: Comparison, path: Path) -> None:
    """Write one line for each scheme; numbers to the last digit. Raises InputError."""
    write_csv(_named_rows(comparison), path)


def write_comparison_table(comparison: Comparison, path: Path) -> None:
    """Write the same lines as the name's ending says: .csv, .parquet, .tex. Raises InputError."""
    write_table(_named_rows(comparison), path, f"sftopt compare {comparison.instance}")


def _named_rows(comparison: Comparison) -> list[dict[str, Any]]:
    head = {"instance": comparison.instance, "reference_bits": comparison.reference_bits}
    return [{**head, **row} for row in flat_rows(comparison)]


def write_latex(comparison: Comparison, path: Path) -> None:
    """Write a booktabs table: round, ratio, parts, traffic and accuracy. Raises InputError."""
    refused = any(row.refused is not None for row in comparison.schemes)
    note = " A dagger marks schemes that are refused by their own choice." if refused else ""
    text = booktabs(
        "l" + "r" * len(_COLUMNS),
        ["Scheme", *map(latex_text, _COLUMNS)],
        [_cells(row) for row in comparison.schemes],
        origin=f"sftopt compare {comparison.instance}",
        caption=f"Schemes on {comparison.instance}: {comparison.devices} devices, "
        f"{comparison.reference_bits} bits per boundary element uncompressed. {PARTS_NOTE}{note}",
        label=f"compare-{comparison.instance}",
    )
    write_text(path, text)


_COLUMNS = (
    "Round delay (s)", "Times sft's", "Devices (s)", "Uplink (s)", "Server (s)", "Downlink (s)",
    "Adapters (s)", "Up (MB)", "Down (MB)", "Accuracy",
)  # fmt: skip
"""Heads of the table for LaTeX."""


def _cells(row: SchemeRow) -> list[str]:
    part, sent = row.parts, row.bytes
    parts = (None,) * 5 if part is None else (
        part.device_s, part.uplink_s, part.server_s, part.downlink_s, part.adapters_s
    )  # fmt: skip
    traffic = (None, None) if sent is None else (sent.up, sent.down)
    megabytes = [None if value is None else value / 1e6 for value in traffic]
    name = latex_text(row.scheme)
    mark = r"$^\dagger$" if row.refused is not None else ""
    numbers = (row.round_s, row.ratio_to_sft, *parts, *megabytes, row.accuracy)
    return [name + mark, *("--" if value is None else f"{value:.4g}" for value in numbers)]
