"""Linear programmes as .lp and .mps text, with names and the unit of the objective in comments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from sftopt.formulations.files.linear_program import OBJECTIVE_CONSTANT, LinearProgram

_TERMS = 6
"""Terms on a line of .lp: some readers take 255 characters a line at most."""


def _remarks(program: LinearProgram) -> list[str]:
    return [
        f"sftopt: {program.name}",
        f"objective_unit_s = {program.objective_unit_s!r}",
        "the objective times objective_unit_s is the round delay in seconds",
    ]


def lp_text(program: LinearProgram) -> str:
    """Return ``program`` in the LP format."""
    columns = program.columns
    lines = [f"\\ {remark}" for remark in _remarks(program)]
    lines.append("Minimize")
    used = np.flatnonzero(program.cost)
    terms = [(columns[j], float(program.cost[j])) for j in used]
    lines += _expression("obj", [*terms, (OBJECTIVE_CONSTANT, program.constant)])
    lines.append("Subject To")
    for row, name, entries in _rows(program):
        sense = "=" if program.row_low[row] == program.row_high[row] else "<="
        lines += _expression(name, entries)
        lines[-1] += f" {sense} {_number(float(program.row_high[row]))}"
    lines += ["Bounds", f" {OBJECTIVE_CONSTANT} = 1"]
    lines += [f" {columns[j]} free" for j in np.flatnonzero(np.isneginf(program.low))]
    binary = program.integer & (program.low == 0.0) & (program.high == 1.0)
    for title, chosen in (("General", program.integer & ~binary), ("Binary", binary)):
        if np.any(chosen):
            lines += [title, *(f" {columns[j]}" for j in np.flatnonzero(chosen))]
    return "\n".join([*lines, "End", ""])


def mps_text(program: LinearProgram) -> str:
    """Return ``program`` in the free MPS format."""
    columns = [*program.columns, OBJECTIVE_CONSTANT]
    same = program.row_low == program.row_high
    lines = [f"* {remark}" for remark in _remarks(program)]
    lines += [f"NAME {program.name}", "ROWS", " N obj"]
    lines += [f" {'E' if e else 'L'} {name}" for name, e in zip(program.rows, same, strict=True)]
    lines.append("COLUMNS")
    by_column = program.matrix.tocsc()
    whole = False
    for j, name in enumerate(columns):
        last = j == len(program.columns)
        integer = not last and bool(program.integer[j])
        if integer != whole:
            lines.append(f" MARKER 'MARKER' '{'INTORG' if integer else 'INTEND'}'")
            whole = integer
        cost = program.constant if last else float(program.cost[j])
        entries = [] if last else list(_column(by_column, j))
        if cost != 0.0 or not entries:  # a column without entries is not known otherwise
            lines.append(f" {name} obj {_number(cost)}")
        lines += [f" {name} {program.rows[row]} {_number(value)}" for row, value in entries]
    lines.append("RHS")
    lines += [
        f" RHS {name} {_number(float(value))}"
        for name, value in zip(program.rows, program.row_high, strict=True)
        if value != 0.0
    ]
    lines += ["BOUNDS", f" FX BND {OBJECTIVE_CONSTANT} 1"]
    for j, name in enumerate(program.columns):
        lines += _bound(program, j, name)
    return "\n".join([*lines, "ENDATA", ""])


def _bound(program: LinearProgram, j: int, name: str) -> list[str]:
    if math.isinf(program.low[j]):
        return [f" FR BND {name}"]
    if program.integer[j]:  # readers differ on the default upper bound of an integer
        return [f" BV BND {name}"] if program.high[j] == 1.0 else [f" PL BND {name}"]
    return []


def _rows(program: LinearProgram) -> Iterator[tuple[int, str, list[tuple[str, float]]]]:
    matrix = program.matrix
    for row, name in enumerate(program.rows):
        span = slice(matrix.indptr[row], matrix.indptr[row + 1])
        places, values = matrix.indices[span], matrix.data[span]
        entries = [
            (program.columns[j], float(value)) for j, value in zip(places, values, strict=True)
        ]
        yield row, name, [entry for entry in entries if entry[1] != 0.0]


def _column(matrix: object, j: int) -> Iterator[tuple[int, float]]:
    start, end = matrix.indptr[j], matrix.indptr[j + 1]  # type: ignore[attr-defined]
    rows, values = matrix.indices[start:end], matrix.data[start:end]  # type: ignore[attr-defined]
    for row, value in zip(rows, values, strict=True):
        if value != 0.0:
            yield int(row), float(value)


def _expression(name: str, terms: Iterable[tuple[str, float]]) -> list[str]:
    """A named linear expression over as many lines as it needs."""
    words = [
        f"{'-' if value < 0.0 else '+'} {_number(abs(value))} {column}" for column, value in terms
    ]
    words = words or [f"0 {OBJECTIVE_CONSTANT}"]
    lines = [" ".join(words[k : k + _TERMS]) for k in range(0, len(words), _TERMS)]
    return [f" {name}: {lines[0]}", *(f"  {line}" for line in lines[1:])]


def _number(value: float) -> str:
    return repr(value)
