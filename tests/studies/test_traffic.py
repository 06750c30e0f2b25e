"""Traffic arms: intervals against scipy's paired test, bytes counted, goals, the chain's cut."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from sftopt.studies.traffic import (
    CUT_CLAIMED,
    Arm,
    ArmRow,
    arms_of,
    bits_left,
    goals_of,
    summary_of_arms,
)
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.codec import (
    CodecConfig,
    EcsqConfig,
    RotatedConfig,
    RotatedTopKConfig,
    TopKConfig,
)
from sftopt.training.data import TaskKind
from tests.calibration_samples import sample_calibration

CHAIN = Arm("chain", CUT_CLAIMED, TopKConfig(bits=3, keep=0.3))
PLAIN = Arm("uncompressed", None, None)


@dataclass(frozen=True)
class _Task:
    """What a summary asks of a task."""

    kind: TaskKind = TaskKind.IMAGE_CLASSIFICATION
    recommended_codecs: dict[str, CodecConfig] = field(default_factory=dict)


LANGUAGE = _Task(TaskKind.LANGUAGE_MODELLING)


def rows_of(plain: list[float], coded: list[float], cut: float = 0.94) -> list[ArmRow]:
    """Both arms; ``cut`` of the uplink's and half of that of the downlink's bytes are spared."""
    rows = [ArmRow("uncompressed", seed, value, 1000, 3000) for seed, value in enumerate(plain)]
    up, down = round(1000 * (1.0 - cut)), round(3000 * (1.0 - 0.5 * cut))
    return rows + [ArmRow("chain", seed, value, up, down) for seed, value in enumerate(coded)]


def summary(task: Any, rows: list[ArmRow]) -> dict[str, Any]:
    """The chain's part of the summary."""
    plain, chain = summary_of_arms(task, [PLAIN, CHAIN], rows)
    assert plain["change_mean"] == plain["change_low"] == plain["change_high"] == 0.0
    return chain


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    generator = np.random.Generator(np.random.SFC64(5))
    plain = 0.8 + 0.05 * generator.standard_normal(10)
    coded = plain - 0.004 + 0.003 * generator.standard_normal(10)
    found = summary(_Task(), rows_of(plain.tolist(), coded.tolist()))
    test = ttest_rel(coded, plain).confidence_interval(0.95)
    assert found["change_low"] == pytest.approx(test.low, rel=1e-12)
    assert found["change_high"] == pytest.approx(test.high, rel=1e-12)
    assert found["change_mean"] == pytest.approx(np.mean(coded - plain), rel=1e-12)
    assert found["points_low"] == pytest.approx(100.0 * test.low)
    # pairing tells more than two samples would
    assert test.high - test.low < 0.2 * np.ptp(plain)


def test_pairs_are_matched_by_seed_not_by_order() -> None:
    rows = rows_of([0.5, 0.6, 0.9], [0.49, 0.59, 0.89])
    for order in (rows, [*rows[:3], rows[5], rows[3], rows[4]]):
        found = summary(_Task(), order)
        assert found["change_low"] == pytest.approx(-0.01)
        assert found["change_high"] == pytest.approx(-0.01)


def test_loss_in_nats_becomes_per_cent_of_perplexity() -> None:
    found = summary(LANGUAGE, rows_of([-2.0, -2.1], [-2.03, -2.12]))
    ratios = np.exp([0.03, 0.02])
    assert found["perplexity_percent"] == pytest.approx(100.0 * (np.sqrt(ratios.prod()) - 1.0))
    assert found["perplexity_percent_low"] < found["perplexity_percent"]
    assert found["perplexity_percent_high"] > found["perplexity_percent"]


def test_cuts_are_of_the_bytes_against_32_and_16_bits() -> None:
    found = summary(_Task(), rows_of([0.5, 0.6], [0.5, 0.6], cut=0.94))
    assert found["cut_of_fp32"] == pytest.approx(
        {"uplink": 0.94, "downlink": 0.47, "total": 1.0 - (60 + 1590) / 4000}
    )
    assert found["cut_of_fp16"] == pytest.approx(
        {"uplink": 0.88, "downlink": 1.0 - 1590 / 1500, "total": 1.0 - 1650 / 2000}
    )


def test_labels_count_in_both_arms_and_leave_the_codec_less() -> None:
    rows = [replace(row, side_bytes=40) for row in rows_of([0.5, 0.6], [0.5, 0.6], cut=0.94)]
    found = summary(_Task(), rows)
    assert found["cut_of_fp32"]["uplink"] == pytest.approx(1.0 - (60 + 40) / (1000 + 40))
    assert found["cut_of_fp16"]["uplink"] == pytest.approx(1.0 - (60 + 40) / (500 + 40))
    assert found["cut_of_fp32"]["downlink"] == pytest.approx(0.47)
    codecs: dict[str, CodecConfig] = {"ecsq at 93.6 %": EcsqConfig(bits=2.048)}
    measured = sample_calibration()
    elements = measured.workload.boundary_elements
    work = measured.workload.model_copy(update={"side_bits": elements / 12.0})
    measured = measured.model_copy(update={"workload": work})
    _, dead = arms_of(_Task(recommended_codecs=codecs), measured, None)
    sent = dead.codec.bits + 1 / 12.0  # type: ignore[union-attr, operator]
    assert 1.0 - sent / (32.0 + 1 / 12.0) == pytest.approx(CUT_CLAIMED, abs=1e-5)
    assert dead.codec.bits == pytest.approx(bits_left(1 / 12.0), abs=1e-4)  # type: ignore[union-attr]


@pytest.mark.parametrize(("lost", "met"), [(0.005, True), (0.03, False)])
def test_image_goals_ask_for_the_lower_end(lost: float, met: bool) -> None:
    rows = rows_of([0.8, 0.82, 0.81], [0.8 - lost, 0.82 - lost, 0.811 - lost], cut=0.937)
    cut, quality = goals_of(_Task(), summary_of_arms(_Task(), [PLAIN, CHAIN], rows))
    assert (cut["limit"], cut["value"], cut["met"]) == (0.936, pytest.approx(0.937), True)
    assert quality["limit"] == -1.0
    assert quality["value"] < -100.0 * lost + 0.04, "the end of the interval, not its mean"
    assert quality["met"] is met


def test_a_cut_that_is_short_is_missed() -> None:
    summed = summary_of_arms(_Task(), [PLAIN, CHAIN], rows_of([0.8, 0.8], [0.8, 0.8], cut=0.93))
    assert [goal["met"] for goal in goals_of(_Task(), summed)] == [False, True]


@pytest.mark.parametrize(
    ("codec", "limit"),
    [(CHAIN.codec, 3.0), (RotatedTopKConfig(bases="b"), 3.0), (EcsqConfig(bits=1.88), 1.0)],
)
def test_language_goals_depend_on_the_codec(codec: Any, limit: float) -> None:
    """The chain's limit in any basis, and that of the best codec."""
    arm = Arm("arm", CUT_CLAIMED, codec)
    for lost, met in ((0.009, True), (0.02, limit == 3.0), (0.04, False)):
        rows = [
            replace(row, arm="arm") if row.arm != PLAIN.name else row
            for row in rows_of([-2.0, -2.1], [-2.0 - lost, -2.1 - lost])
        ]
        quality = goals_of(LANGUAGE, summary_of_arms(LANGUAGE, [PLAIN, arm], rows))[1]
        assert quality["limit"] == limit
        assert quality["value"] == pytest.approx(100.0 * np.expm1(lost))
        assert quality["met"] is met


def test_arms_of_a_task_are_its_best_codecs_at_the_claimed_cut() -> None:
    codecs: dict[str, CodecConfig] = {
        "ecsq at 93.6 %": EcsqConfig(bits=1.88), "ecsq at 92.5 %": EcsqConfig(bits=2.22),
    }  # fmt: skip
    chain = TopKConfig(bits=4, keep=0.27)
    for kind in TaskKind:
        arms = arms_of(_Task(kind, recommended_codecs=codecs), sample_calibration(), chain)
        assert [(arm.name, arm.cut_goal, arm.codec) for arm in arms] == [
            ("uncompressed", None, None), ("chain at 93.6 %", CUT_CLAIMED, chain),
            ("ecsq at 93.6 %", CUT_CLAIMED, EcsqConfig(bits=1.88)),
        ]  # fmt: skip
    codecs |= {
        "topk, one scale at 93.6 %": TopKConfig(keep=0.4),
        "rotated-topk at 93.6 %": RotatedTopKConfig(bases="b"),
        "rotated at 93.6 %": RotatedConfig(bits=2.048, bases="b"),
    }
    arms = arms_of(_Task(recommended_codecs=codecs), sample_calibration(), None)
    assert [arm.name for arm in arms] == ["uncompressed", *list(codecs)[3:]], (
        "turned, the dead zone loses less; the chain has but one form"
    )


def test_an_arms_cell_and_settings_carry_its_codec() -> None:
    base = CalibrationSettings()
    assert PLAIN.cell(3).kind == "none"
    assert PLAIN.settings(base) == base
    for arm in (CHAIN, Arm("dead zone", None, EcsqConfig(bits=1.5))):
        codec = arm.cell(3).codec(arm.settings(base), 2)
        assert codec.config == arm.codec  # type: ignore[attr-defined]
