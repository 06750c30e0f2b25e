"""The study of the small problem in small: it agrees, covers what it says, and hides nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies import small_timescale
from benchmarks.studies.small_timescale import KINDS, Row, Run
from sftopt.core.derived import derive

INDICES = (6, 9, 11, 13, 17)
"""Ten and two devices, one device, weak, identical and dominant ones, both laws."""


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Five rounds, studied once."""
    return [small_timescale.study(index, 60.0) for index in INDICES]


def test_every_method_agrees_on_small_rounds(rows: list[Row]) -> None:
    assert [row.errors for row in rows] == [()] * len(rows)
    assert {row.law for row in rows} == {"psd", "total"}
    for row in rows:
        assert len(row.runs) >= 7
        for run in row.runs:
            if run.solver not in ("scs", "native-spectrum"):
                assert run.off is not None, run.message
                assert abs(run.off) <= small_timescale.TOLERANCES.get(run.solver, 1e-6)


def test_two_hundred_rounds_cover_sizes_laws_and_kinds() -> None:
    drawn = [small_timescale.drawn(index) for index in range(200)]
    assert {devices for devices, _, _ in drawn} == {1, 2, 10, 100}
    for devices in (2, 10, 100):
        for law in ("psd", "total"):
            kinds = {kind for size, power, kind in drawn if (size, power) == (devices, law)}
            assert kinds == set(KINDS) - {"one device"}


def test_a_round_is_what_its_kind_says_and_the_same_each_time() -> None:
    weak = small_timescale.seeded_round(1)
    again = small_timescale.seeded_round(1)
    assert np.array_equal(weak.channel.uplink_gain, again.channel.uplink_gain)
    derived = derive(weak.instance, weak.channel)
    limit = weak.instance.radio.outage_rate_bits_per_s
    assert limit < derived.uplink_full_bits_per_s[0] <= 1e4 * limit
    assert not derived.outage.any()
    same = small_timescale.seeded_round(2)
    assert len(set(derive(same.instance, same.channel).uplink_full_bits_per_s.tolist())) == 1
    slow = small_timescale.seeded_round(3)
    forward = derive(slow.instance, slow.channel).s1_block_s
    assert forward[0] > forward[1:].sum()
    assert len(small_timescale.seeded_round(4).instance.devices) == 1


def run(solver: str, off: float | None, termination: str = "converged_local") -> Run:
    return Run(solver, termination, None if off is None else 1.0 + off, off, 3, 0.1, 0.2, "said so")


def test_a_claim_that_does_not_hold_is_an_error() -> None:
    assert small_timescale.errors_in([run("a", 1e-7), run("ipopt", 1e-9)]) == []
    (off,) = small_timescale.errors_in([run("a", 2e-6)])
    assert "off by 2e-06" in off
    (off,) = small_timescale.errors_in([run("ipopt", 1e-7)])
    assert "ipopt says converged_local" in off
    (below,) = small_timescale.errors_in([run("a", -1e-5)])
    assert "below the native optimum" in below
    assert small_timescale.errors_in([run("a", 1e-2, "numerical_error")]) == []
    (ended,) = small_timescale.errors_in([run("a", None, "error")])
    assert "a ended with 'error': said so" in ended


def test_an_error_shows_in_table_file_and_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Row]
) -> None:
    bad = replace(rows[0], errors=("a is off",))
    monkeypatch.setattr(small_timescale, "study", lambda index, limit: (bad, rows[1])[index])
    out = tmp_path / "small.json"
    assert small_timescale.main(["--rounds", "2", "--out", str(out)]) == 1
    text = out.with_suffix(".md").read_text()
    assert f"ERROR in round {rows[0].index}" in text
    assert "python -m benchmarks.studies.small_timescale --rounds 2 --out" in text
    assert len(json.loads(out.read_text())["rows"]) == 2
    monkeypatch.setattr(small_timescale, "study", lambda index, limit: rows[1])
    assert small_timescale.main(["--rounds", "1"]) == 0
