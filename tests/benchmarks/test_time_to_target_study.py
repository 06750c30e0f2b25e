"""The study of time to target in small: pairs by seed, errors over settings, and a page of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies.time_to_target import CALIBRATION, FITTED, OUT, TRIED, compared, error_of
from benchmarks.studies.time_to_target_page import page_of
from sftopt.core.calibration import load_calibration
from sftopt.core.target_laws import (
    LinearLaw,
    LinearLevel,
    RoundFactor,
    SaturatingLaw,
    TargetLaws,
)

LAWS = TargetLaws(
    linear=LinearLaw(levels=(LinearLevel(target=0.7, rounds=5.0, slope=4.0),)),
    saturating=SaturatingLaw(scale_rounds=3.0, start=0.1),
    factors=(RoundFactor(rank=4, factor=1.03),), seeds=(0, 1), learning_rate=3e-3, local_steps=10,
)  # fmt: skip


def run(arm: str, seed: int, seconds: float, *, reached: bool = True) -> dict[str, Any]:
    return {"arm": arm, "seed": seed, "reached": reached, "rounds": 6.0, "time_s": seconds,
            "time_whole_s": seconds, "final_metric": 0.75}  # fmt: skip


RUNS = [
    run("time to target", 0, 8.0), run("round delay", 0, 10.0),
    run("time to target", 1, 9.0), run("round delay", 1, 12.0, reached=False),
    run("time to target", 2, 9.0),
]  # fmt: skip


def prediction(loss: float, measured: float | None) -> dict[str, Any]:
    return {"keep": 0.3, "bits": 3, "loss": loss, "target": 0.7, "measured": measured,
            "linear": 6.0, "saturating": None}  # fmt: skip


def test_no_setting_is_fitted_and_tried() -> None:
    assert len(TRIED) == 5
    assert not set(FITTED) & set(TRIED)


def test_plans_are_paired_by_seed() -> None:
    found = compared(RUNS)
    assert found["seconds"]["runs"] == 2
    assert found["seconds"]["mean"] == pytest.approx(-2.5)
    assert found["relative"]["mean"] == pytest.approx((-0.2 - 0.25) / 2)
    assert found["seconds"]["low"] < -2.5 < found["seconds"]["high"]
    assert found["not_reached"] == 1


def test_errors_are_over_settings_that_got_there() -> None:
    rows = [prediction(0.1, 5.0), prediction(0.2, 6.0), prediction(0.3, None)]
    error = error_of(rows, "linear")
    assert error is not None
    assert error.settings == 2
    assert error.median_abs_rel == pytest.approx(0.1)
    assert error_of(rows, "saturating") is None  # it says never, and they were there


@pytest.mark.parametrize("runs", [[], RUNS[:4]])
def test_the_page_says_what_is_known(runs: list[dict[str, Any]]) -> None:
    rows = [prediction(0.1, 5.0), prediction(0.2, None)]
    error = error_of(rows, "linear")
    assert error is not None
    device = {"id": "a", "blocks": 2, "bits": 4, "keep": 0.5}
    plan = {"round_s": 1.5, "accuracy": 0.82, "predicted_rounds": 5.4, "devices": [device]}
    text = page_of(
        {
            "laws": LAWS.model_dump(mode="json"), "predictions": rows, "goal": 0.15,
            "errors": {"linear": error.model_dump(mode="json"), "saturating": None},
            "target": 0.7, "predicted_s": 8.1, "bound_s": 8.0, "runs": runs,
            "plans": {"time to target": plan, "round delay": plan},
            "compared": compared(runs) if runs else None,
        }
    )  # fmt: skip
    assert "| 0.3 | 3 | 0.1000 | 0.7 | 5 | 6 | never |" in text
    assert "goal 15 %: **missed**" in text
    assert "mu of rank 4, parallel: 1.03" in text
    if runs:
        assert "| 1 | 6.00 | 9.000 | > 6.00 | > 12.000 |" in text
        assert "-2.500 s" in text
    else:
        assert "have not been run yet" in text


def committed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(OUT.read_text(encoding="utf-8"))
    return found


def test_the_committed_page_is_that_of_the_committed_runs() -> None:
    data = committed()
    assert data["compared"] == compared(data["runs"])
    assert OUT.with_suffix(".md").read_text(encoding="utf-8") == page_of(data)
    for kind, kept in data["errors"].items():
        error = error_of(data["predictions"], kind)
        assert error is not None
        assert error.model_dump(mode="json") == kept


def test_the_bundled_calibration_has_the_laws_of_the_study() -> None:
    laws = load_calibration(CALIBRATION).time_to_target
    assert laws is not None
    assert laws.model_dump(mode="json") == committed()["laws"]
    assert laws.linear is not None
    assert laws.linear.error is not None  # what every answer says


def test_readme_and_how_to_say_what_came_out() -> None:
    root, data = Path(__file__).parents[2], committed()
    words = [" ".join((root / name).read_text(encoding="utf-8").split())
             for name in ("README.md", "docs/how-to/time-to-target.md")]  # fmt: skip
    linear, saturating = (data["errors"][kind] for kind in ("linear", "saturating"))
    off = f"off by {100 * linear['median_abs_rel']:.1f} % in the median"
    assert all(off in text for text in words)
    part = [100 * saturating[name] for name in ("median_abs_rel", "low", "high")]
    said = f"by the saturating one by {part[0]:.1f} % ({part[1]:.1f} to {part[2]:.1f} %)"
    assert said in words[1]
    rounds, relative = data["compared"]["rounds"], data["compared"]["relative"]
    few = [-100 * rounds[name] for name in ("mean", "high", "low")]
    assert f"{few[0]:.1f} % fewer rounds ({few[1]:.1f} to {few[2]:.1f} %)" in words[1]
    part = [100 * relative[name] for name in ("mean", "low", "high")]
    said = f"{part[0]:+.1f} % of the measured seconds ({part[1]:+.1f} to {part[2]:+.1f} %)"
    assert said in words[1]
