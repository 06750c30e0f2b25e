"""The page of the closed loops: every goal with by how much it was missed, both references."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.studies.closed_loop import RESULTS, page


def result() -> dict[str, Any]:
    """The committed result of the images."""
    found: dict[str, Any] = json.loads((RESULTS / "closed_loop_images.json").read_text())
    return found


def test_a_missed_goal_says_by_how_much() -> None:
    found = result()
    found["goals"] = [
        {"goal": "cut", "limit": 0.936, "value": 0.935, "met": False},
        {"goal": "plan changes", "limit": True, "value": False, "met": False},
        {"goal": "points", "limit": -1.0, "value": -0.5, "met": True},
    ]
    rows = [line for line in page([found]).splitlines() if line.startswith("| ")]
    assert "| cut | 0.936 | 0.935 | **missed** by 0.001 |" in rows
    assert "| plan changes | yes | no | **missed** |" in rows
    assert "| points | -1 | -0.5 | met |" in rows


def test_cuts_stand_against_both_references() -> None:
    found = result()
    arm = found["traffic"][1]
    line = next(row for row in page([found]).splitlines() if row.startswith(f"| {arm['arm']} |"))
    for reference in ("cut_of_fp32", "cut_of_fp16"):
        for link in ("uplink", "downlink", "total"):
            assert f"{100 * arm[reference][link]:.2f} %" in line


def test_the_solver_of_a_plan_is_named_where_it_is_told() -> None:
    found = result()
    found["plan"] |= {"solver": "exhaustive", "gap_rel": 1.2e-8}
    assert "Plan (by exhaustive, gap 1e-08):" in page([found])


def test_the_committed_page_is_that_of_the_committed_results() -> None:
    results = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("closed_loop_*.json"))]
    assert (RESULTS / "closed_loop.md").read_text() == page(results)
