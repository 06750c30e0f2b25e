"""``--json`` of a large cell: totals, the devices that bind most, and the rest in files."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet

import sftopt
from sftopt.face.many_devices import MOST_PRINTED, SHOWN
from tests.face.command_line import Run


def test_the_devices_that_bind_most_are_printed_and_files_have_all(
    run: Run, tmp_path: Path
) -> None:
    count = MOST_PRINTED + 1
    cell, out, table = (tmp_path / name for name in ("cell.json", "plan.json", "plan.parquet"))
    made = run("instance", "new", "--devices", count, "--seed", 1, "--family", "jetson-vit-b",
               "--out", cell)  # fmt: skip
    assert made.code == 0
    ran = run("plan", cell, "--out", out, "--table", table, "--rel-gap", 1e-2, "--quiet", "--json")
    assert ran.code == 0, ran.err
    assert ran.data["truncated"] is True
    assert ran.data["devices_total"] == count
    shown = [one["id"] for one in ran.data["breakdown"]["devices"]]
    assert len(shown) == SHOWN
    assert [one["id"] for one in ran.data["plan"]["devices"]] == shown
    assert ran.data["breakdown"]["round_s"] == ran.data["objective_s"]
    whole = sftopt.Plan.load(out)
    assert len(whole.devices) == count
    rows = pyarrow.parquet.read_table(table)
    assert rows.num_rows == count

    judged = run("verify", cell, out, "--json")
    assert judged.code == 0
    assert [one["id"] for one in judged.data["breakdown"]["devices"]] == shown
    left = {
        one.id: one.memory_slack_bytes / (one.memory_bytes + one.memory_slack_bytes)
        for one in sftopt.verify_plan(sftopt.load(str(cell)), whole).breakdown.devices
    }
    assert max(left[name] for name in shown) <= min(
        room for name, room in left.items() if name not in shown
    )


def test_a_plan_that_is_saved_nowhere_is_told(run: Run, tmp_path: Path) -> None:
    cell = tmp_path / "cell.json"
    run("instance", "new", "--devices", MOST_PRINTED + 1, "--family", "jetson-vit-b", "--out", cell)
    ran = run("plan", cell, "--rel-gap", 1e-2, "--quiet", "--json")
    assert ran.data["truncated"] is True
    assert "--out FILE has the whole plan" in ran.err


def test_fewer_devices_are_all_printed(run: Run, small: Path) -> None:
    ran = run("plan", small, "--quiet", "--json")
    assert "truncated" not in ran.data
    assert len(ran.data["plan"]["devices"]) == len(sftopt.load(str(small)).devices)
