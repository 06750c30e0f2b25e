"""Numbers and tables for people: readable, within their columns, nothing swallowed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sftopt.core.faults import Fault, Severity
from sftopt.core.verify import Family, Violation
from sftopt.face.tables import (
    ROWS_SHOWN,
    bytes_text,
    enough,
    facts,
    name_text,
    percent,
    short_number,
    show_faults,
    violation_table,
)


def _page() -> Console:
    return Console(file=io.StringIO(), width=80, markup=False, highlight=False)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3e-9, "3e-09"),
        (0.00012, "0.0001"),
        (0.12345, "0.1235"),
        (12.3456, "12.346"),
        (9.99999, "10.000"),
        (9999.96, "10000"),
        (1234.5, "1234.5"),
        (99999.4, "99999"),
        (123456.0, "123456"),
        (1234567.0, "1e6"),
    ],
)
def test_short_numbers_fit_six_characters(value: float, text: str) -> None:
    assert short_number(value) == text
    assert len(text) <= 6


@pytest.mark.parametrize(
    "change", [1.0, 1.0000001, -0.0100000049, 123456.4, -9.9999999e-7, 2e8 + 1]
)
def test_stated_changes_are_never_too_small(change: float) -> None:
    shown = enough(change)
    assert abs(change) <= abs(shown) <= abs(change) * (1.0 + 1.1e-5)
    assert shown * change > 0.0
    assert float(f"{shown:.6g}") == shown


def test_units() -> None:
    assert percent(0.12345) == "12.3"
    assert bytes_text(512.0) == "512 bytes"
    assert bytes_text(1.234e9) == "1.23 GB"
    assert bytes_text(-2e6) == "-2 MB"
    assert name_text("a" * 30, 10) == "a" * 9 + "…"


def test_facts_wrap_and_leave_out_what_is_empty() -> None:
    console = _page()
    console.print(facts([("one", "word " * 40), ("two", ""), ("three", "[x]")]))
    lines = _text(console).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line.startswith("two") for line in lines)
    assert lines[-1].split() == ["three", "[x]"]


def test_faults_say_what_to_change() -> None:
    console = _page()
    show_faults(
        console,
        [
            Fault(field="memory_bytes", device="d[7]", value=1e9, limit=1.5e9, unit="bytes",
                  needed_change=5e8, message="device d[7]: too small"),
            Fault(field="radio.noise", severity=Severity.WARNING, message="looks odd"),
        ],
    )  # fmt: skip
    assert _text(console).splitlines() == [
        "error: device d[7]: too small",
        "   memory_bytes of device d[7]: change by +5e+08 bytes, from 1e+09",
        "   sftopt instance set FILE 'devices[d[7]].memory_gb=1.5'",
        "warning: looks odd",
        "   radio.noise",
    ]


def test_violations_are_cut_at_a_screenful() -> None:
    many = [
        Violation(family=Family.DEVICE_MEMORY, index=f"device-{n}", amount=12345.6, unit="bytes",
                  tolerance=1.0)
        for n in range(ROWS_SHOWN + 5)
    ]  # fmt: skip
    console = _page()
    console.print(violation_table(many))
    text = _text(console)
    assert "... and 5 more" in text
    assert max(map(len, text.splitlines())) <= 80
