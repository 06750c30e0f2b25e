"""Laws of rounds: known ones found again, what is not reached left out, errors that are honest."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sftopt.core.calibration import load_calibration
from sftopt.core.errors import InputError
from sftopt.core.plan import Aggregation, Order
from sftopt.core.target_laws import SaturatingLaw
from sftopt.training.calibrate import Cell, cells_of
from sftopt.training.calibrate.rounds_fit import Curves, fit_laws, law_error, rounds_to
from tests.training.calibrate.small import SETTINGS, go

A_0 = 0.9
START = 0.2
SCALE = 5.0


def curve(loss: float, stretch: float = 1.0, rounds: int = 60) -> list[float]:
    """A run by the saturating law: towards a_0 - loss."""
    end = A_0 - loss
    return [end - (end - START) * math.exp(-n / (SCALE * stretch)) for n in range(1, rounds + 1)]


def curves(losses: tuple[float, ...] = (0.02, 0.05, 0.1)) -> Curves:
    """Two seeds, one of them 10 % slower."""
    return Curves(
        metric="accuracy", uncompressed=A_0, seeds=(0, 1), plain=(curve(0.0), curve(0.0, 1.1)),
        settings={loss: (curve(loss), curve(loss, 1.1)) for loss in losses},
        ranks={4: (curve(0.0, 1.2), curve(0.0, 1.32))}, learning_rate=1e-3, local_steps=10,
    )  # fmt: skip


def test_a_level_is_reached_between_two_rounds() -> None:
    assert rounds_to([0.1, 0.3, 0.5], 0.4) == 2.5
    assert rounds_to([0.1, 0.3, 0.2, 0.5], 0.3) == 2.0
    assert rounds_to([0.5, 0.6], 0.4) == 1.0
    assert math.isnan(rounds_to([0.1, 0.3], 0.4))


def test_a_saturating_world_is_found_again_and_predicted() -> None:
    laws = fit_laws(curves(), (0.5, 0.6, 0.7))
    assert laws is not None
    assert laws.saturating is not None
    assert laws.saturating.scale_rounds == pytest.approx(SCALE * 1.05, rel=0.02)
    assert laws.saturating.start == pytest.approx(START, abs=0.02)
    assert laws.saturating.scale_half_width is not None
    assert laws.saturating.scale_half_width > 0.0
    assert laws.saturating.error is not None
    assert laws.saturating.error.median_abs_rel < 0.03
    assert laws.saturating.error.settings == 3
    (factor,) = laws.factors
    assert (factor.order, factor.rank, factor.aggregation) == (
        Order.PARALLEL, 4, Aggregation.AVERAGING,
    )  # fmt: skip
    assert factor.factor == pytest.approx(1.2, rel=0.02)


def test_the_linear_law_is_near_where_it_was_fitted_and_says_by_how_much_it_is_off() -> None:
    laws = fit_laws(curves(), (0.5, 0.6, 0.7))
    assert laws is not None
    assert laws.linear is not None
    assert [level.target for level in laws.linear.levels] == [0.5, 0.6, 0.7]
    assert laws.linear.loss_to == 0.1
    truth = SaturatingLaw(scale_rounds=SCALE * 1.05, start=START)
    for loss in (0.0, 0.03, 0.08):
        found = laws.linear.rounds(loss, 0.6, A_0)
        assert found == pytest.approx(truth.rounds(loss, 0.6, A_0), rel=0.08)
    error = laws.linear.error
    assert error is not None
    assert 0.0 < error.low <= error.median_abs_rel <= error.high
    # a world that is linear leaves no error
    flat = {
        loss: tuple(
            [0.1 * n / (1.0 + 5.0 * loss) for n in range(1, 30)] for _ in range(2)
        )
        for loss in (0.0, 0.1, 0.2, 0.3)
    }  # fmt: skip
    straight = replace(curves(), plain=flat.pop(0.0), settings=flat, uncompressed=3.0, ranks={})
    exact = fit_laws(straight, (0.5, 1.0))
    assert exact is not None
    assert exact.linear is not None
    assert exact.linear.levels[0].slope == pytest.approx(5.0)
    assert exact.linear.error is not None
    assert exact.linear.error.median_abs_rel < 1e-9


def test_what_is_not_reached_is_left_out() -> None:
    """0.85 is out of reach at a loss of 0.1; 0.95 of everything."""
    laws = fit_laws(curves((0.01, 0.02, 0.1)), (0.6, 0.85, 0.95))
    assert laws is not None
    assert laws.linear is not None
    assert [level.target for level in laws.linear.levels] == [0.6, 0.85]
    assert fit_laws(curves(), (0.95,)) is None
    chosen = fit_laws(curves())
    assert chosen is not None
    assert chosen.linear is not None
    targets = [level.target for level in chosen.linear.levels]
    assert targets == sorted(targets)
    assert 0.5 < targets[0] < targets[-1] < 0.9


def test_the_interval_of_an_error_is_over_settings() -> None:
    assert law_error({}, "") is None
    found = law_error({0.1: [0.1, 0.1], 0.2: [0.1, 0.1], 0.3: [0.4, 0.5]}, "text")
    assert found is not None
    assert found.median_abs_rel == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)
    assert found.high > 0.35
    assert law_error({0.1: [np.inf]}, "") is None


def test_a_calibration_measures_rounds_where_it_is_asked_to(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS, every_round=True, rounds=3, ranks=(2,), targets=(0.01,), ecsq=(),
        keeps=(0.1, 0.5), seeds=(0, 1), conducts=("sequential", "corrected"),
    )  # fmt: skip
    cells = cells_of(settings)
    assert [cell.rank for cell in cells[:2]] == [None, 2]
    assert "rank 2" in cells[1].label
    assert [cell.label for cell in cells[2:4]] == [
        "no compression, corrected, seed 0", "no compression, sequential, seed 0"
    ]  # fmt: skip
    ran: list[Cell] = []
    made = go(tmp_path / "work", settings, ran=ran)
    assert len(ran) == len(cells)
    laws = made.time_to_target
    assert laws is not None
    assert laws.linear is not None
    assert laws.linear.levels[0].target == 0.01
    assert laws.linear.levels[0].rounds == 1.0  # any accuracy is above it after one round
    assert [(f.order, f.rank, f.aggregation) for f in laws.factors] == [
        (Order.PARALLEL, 2, Aggregation.AVERAGING), (Order.PARALLEL, None, Aggregation.CORRECTED),
        (Order.SEQUENTIAL, None, None),
    ]  # fmt: skip
    # a plan in parallel that averages takes no other order's factor
    assert laws.factor(rank=4) == (1.0, False)
    assert laws.factor(Order.SEQUENTIAL, rank=4)[1]
    assert (laws.seeds, laws.local_steps) == ((0, 1), 2)
    made.save(tmp_path / "calibration.json")
    assert load_calibration(tmp_path / "calibration.json") == made
    again: list[Cell] = []
    assert go(tmp_path / "work", settings, ran=again).time_to_target == laws
    assert again == []


def test_settings_that_contradict_each_other_are_named() -> None:
    with pytest.raises(InputError, match="targets, ranks and conducts need every_round"):
        replace(SETTINGS, targets=(0.5,))
    with pytest.raises(InputError, match="constant learning rate, not linear"):
        replace(SETTINGS, every_round=True, schedule="linear")
    with pytest.raises(InputError, match="conducts: 'federated' is none; there are sequential, "):
        replace(SETTINGS, every_round=True, schedule="constant", conducts=("federated",))
    with pytest.raises(InputError, match="corrected needs adapters of float32 without dora"):
        replace(SETTINGS, every_round=True, dora=True, conducts=("corrected",))
    with pytest.raises(InputError, match=r"than lora_rank = 3"):
        replace(SETTINGS, every_round=True, ranks=(3,))
