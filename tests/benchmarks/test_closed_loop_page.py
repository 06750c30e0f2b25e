"""The page of the closed loops: every goal with by how much it was missed, both references."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from benchmarks.studies.closed_loop import RESULTS, page
from benchmarks.studies.equal_bytes_arms import CHAIN
from benchmarks.studies.menu_of_rows import HALF, NARROWER, limits, pairs_of, rows_of
from sftopt.studies.loop_menu import goals_of_menu
from sftopt.training.calibrate.fit import mean_half_width


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


def readme() -> str:
    """The README without its line breaks."""
    return " ".join((RESULTS.parents[1] / "README.md").read_text(encoding="utf-8").split())


def test_the_readme_says_what_the_committed_loops_say() -> None:
    text = readme()
    loops = [
        json.loads((RESULTS / f"closed_loop_{name}.json").read_text())
        for name in ("images", "language")
    ]
    worst: dict[str, float] = {}
    for loop in loops:
        for goal in loop["goals"]:
            quantity = goal["goal"].partition(":")[0]
            worst[quantity] = max(worst.get(quantity, 0.0), float(goal["value"]))
    sent = max(worst[name] for name in ("uplink", "downlink", "adapters up", "adapters down"))
    assert f"bytes come out within {math.ceil(100 * sent)} % of the prediction" in text
    assert f"tensors within {math.ceil(1000 * worst['saved tensors']) / 10} %" in text
    assert f"a step's delay within {math.ceil(100 * worst['step'])} %" in text
    images, language = ({arm["arm"]: arm for arm in loop["traffic"]} for loop in loops)
    chain, turned = "chain at 93.6 %", "rotated at 93.6 %"
    for arms, where in ((images, "than 32 bits on images"), (language, "on language")):
        assert (
            f"{100 * arms[chain]['cut_of_fp32']['uplink']:.1f} %" in text[: text.index(where) + 40]
        )
    points, perplexity = (arms[chain] for arms in (images, language))
    said = f"loses {-points['points']:.1f} points of accuracy and"
    assert f"{said} {perplexity['perplexity_percent']:.1f} % of perplexity" in text
    points, perplexity = images[turned], language[turned]
    low, high = -points["points_high"], -points["points_low"]
    said = f"loses {-points['points']:.2f} points ({low:.2f} to {high:.2f}) and "
    said += f"{perplexity['perplexity_percent']:.2f} %"
    assert said in text
    both = language["rotated-topk at 93.6 %"]
    cut = 100 * both["cut_of_fp32"]["uplink"]
    said = f"(`rotated-topk`) loses {both['perplexity_percent']:.2f} % of perplexity at {cut:.2f} %"
    assert said in text


def test_the_readme_says_what_menus_gained() -> None:
    text = readme()
    for name, band in (("images", 0.25), ("language", 0.25), ("senses", NARROWER)):
        gain = json.loads((RESULTS / f"closed_loop_menu_{name}.json").read_text())["menu"]
        row = next(one for one in gain["bands"] if one["band"] == band)
        assert f"payload is {100 * row['alone_payload_share']:.0f} % of" in text
        assert f"takes {100 * row['less_delay']:.0f} % less" in text
        if name == "language":
            less, least, most = (
                -gain[f"perplexity_percent{end}"] for end in ("", "_high", "_low")
            )  # fmt: skip
            said = f"at {less:.2f} % less perplexity ({least:.2f} to {most:.2f} over "
        else:
            low, high = gain["points_low"], gain["points_high"]
            said = f"at {gain['points']:+.2f} points ({low:+.2f} to {high:+.2f} over "
        assert f"{said}{len(gain['runs'])}" in text


def test_goals_of_a_menu_are_those_of_its_figures() -> None:
    for file in RESULTS.glob("closed_loop_menu_*.json"):
        result = json.loads(file.read_text())
        gain = result["menu"]
        minimum = result.get("accuracy_minimum") or result["plan"]["accuracy_minimum"]
        goals = [goal for goal in result["goals"] if goal["goal"].startswith("menu:")]
        assert goals == goals_of_menu(gain, minimum, result["metric"])
        for row in gain["bands"]:
            assert row["less_delay"] == pytest.approx(1 - row["round_s"] / row["alone_round_s"])


def senses() -> dict[str, Any]:
    """The committed result of MiniLM."""
    found: dict[str, Any] = json.loads((RESULTS / "closed_loop_menu_senses.json").read_text())
    return found


def test_a_menu_on_the_real_model_is_of_the_committed_rows() -> None:
    offered = {one["mode"]: one for one in senses()["menu"]["offered"]}
    assert len(offered) == 3
    for label, one in offered.items():
        pairs = pairs_of(label)
        lost = np.array([pairs.plain[at]["metric"] - pairs.mine[at]["metric"] for at in pairs.mine])
        end = max(0.0, float(lost.mean()) + mean_half_width(lost))
        others = [one["loss"][at] for at in range(len(one["loss"])) if at != 2]
        assert one["loss"][2] == pytest.approx(end)
        assert set(others) == {1.0}  # what was not measured is not on offer
        sent, whole = (
            sum(row["uplink_bytes"] for row in each.values()) for each in (pairs.mine, pairs.plain)
        )
        assert one["value_bits"] == pytest.approx(32.0 * sent / whole)
    plain, minimum = limits()
    assert len(pairs_of(CHAIN).mine) == 10
    assert senses()["accuracy_minimum"] == pytest.approx(minimum)
    assert minimum == pytest.approx(plain - offered[CHAIN]["loss"][2])


def test_the_real_models_plan_was_fine_tuned_and_gave_its_rows() -> None:
    gain = senses()["menu"]
    rows = rows_of(HALF.label)
    assert gain["fine_tuned"]["devices"][0]["mode_name"] == HALF.label
    assert all(row["by_plan"] for row in rows.values())
    if gain["plan"]["devices"] == gain["fine_tuned"]["devices"]:
        assert {run["seed"]: run["final_metric"] for run in gain["runs"]} == {
            seed: row["metric"] for seed, row in rows.items()
        }
    compared = {row["quantity"]: row for row in gain["predicted_against_measured"]}
    for quantity, key in (("uplink", "uplink_bytes"), ("downlink", "downlink_bytes")):
        assert compared[quantity]["measured"] == pytest.approx(rows[0][key] / 500)
    assert compared["accuracy"]["measured"] == rows[0]["metric"]


def test_the_chain_stands_in_the_best_form_that_was_tried() -> None:
    for name in ("images", "language"):
        found = json.loads((RESULTS / f"closed_loop_{name}.json").read_text())
        arm = next(one for one in found["traffic"] if one["arm"] == "chain at 93.6 %")
        tried = found["chain_tried"]
        last = [one for one in tried if len(one["seeds"]) > 1]
        best = max(last, key=lambda one: float(np.mean(one["metric"])))
        assert [one for one in tried if one["chosen"]] == [best]
        for key in ("bits", "keep", "group"):
            assert arm["codec"][key] == best[key]
        # all forms at equal bytes: as many as leave 93.6 % less, but for what a seed changes
        assert all(0.936 <= one["uplink_cut"] < 0.9375 for one in last)
        assert arm["cut_of_fp32"]["uplink"] >= 0.936
