"""What got slower since the committed timings: by ratio to the reference kernel alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.timings import against_last
from benchmarks.timings.against_last import LAST, REFERENCE, compared, told


def a_run(**least_s: float) -> dict[str, Any]:
    """A run as pytest-benchmark writes it."""
    return {
        "machine_info": {"cpu": {"brand_raw": "a processor"}, "python_version": "3.11"},
        "commit_info": {"id": "abc"},
        "datetime": "2026-01-02T03:04:05",
        "benchmarks": [{"name": name, "stats": {"min": time}} for name, time in least_s.items()],
    }


def test_a_slower_machine_is_no_slower_code() -> None:
    last = {REFERENCE: 1.0, "a": 2.0, "b": 3.0}
    (one, other) = compared(last, {REFERENCE: 2.0, "a": 4.0, "b": 12.0})
    assert (one.case, one.factor) == ("b", 2.0)
    assert (other.case, other.factor) == ("a", 1.0)


def test_what_got_slower_is_printed_and_the_rest_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last, run = tmp_path / "last.json", tmp_path / "run.json"
    run.write_text(json.dumps(a_run(**{REFERENCE: 1.0, "slow": 1.0, "same": 1.0, "old": 1.0})))
    assert against_last.main([str(run), "--last", str(last), "--keep"]) == 0
    run.write_text(json.dumps(a_run(**{REFERENCE: 0.5, "slow": 1.0, "same": 0.5, "new": 1.0})))
    capsys.readouterr()
    assert against_last.main([str(run), "--last", str(last)]) == 0
    said = capsys.readouterr().out
    assert "2 cases against 2026-01-02 (abc)" in said
    assert "1 slower by more than 1.3 times\n   2.00  slow: 1 s then, 1 s now" in said
    assert "same" not in said
    assert "new: new" in said
    assert "gone: old" in said


def test_a_run_without_the_reference_is_not_compared() -> None:
    made = {"least_s": {"a": 1.0}, "date": "", "commit": ""}
    assert "no comparison" in told(made, made)


def test_the_committed_timings_can_be_compared_with() -> None:
    last = json.loads(LAST.read_text(encoding="utf-8"))
    assert last["least_s"][REFERENCE] > 0.0
    assert len(last["least_s"]) > 50
    assert "0 slower" in told(last, last)
