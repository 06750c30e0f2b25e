"""The fit of equation (12): known curves found again, bands that cover, a lower curve that is."""

from __future__ import annotations

import numpy as np
import pytest

from sftopt.core.calibration import AccuracyFit, Curve
from sftopt.core.errors import InputError
from sftopt.training.calibrate import Runs, fit_accuracy

KEEPS = (0.05, 0.1, 0.16, 0.25, 0.36, 0.5)
BITS = (2, 4, 8)
SEEDS = (0, 1, 2)
IMAGES = Curve(uncompressed=0.8, keep_loss=0.25, keep_decay=14.0, quantisation_loss=0.6,
               quantisation_scales_with_keep=True)  # fmt: skip
LANGUAGE = Curve(uncompressed=-1.4, keep_loss=0.9, keep_decay=9.0, quantisation_loss=1.2,
                 quantisation_scales_with_keep=False)  # fmt: skip


def drawn(curve: Curve, seed: int, noise: float, seed_noise: float = 0.0) -> Runs:
    """Runs of a true curve; ``seed_noise`` moves a seed's runs together, compressed or not."""
    draw = np.random.default_rng(seed)
    shift = seed_noise * draw.standard_normal(len(SEEDS))
    cells = {
        (keep, bits): [
            curve.value(keep, bits) + each + noise * draw.standard_normal() for each in shift
        ]
        for keep in KEEPS
        for bits in BITS
    }
    return Runs("accuracy", [curve.uncompressed + each for each in shift], cells)


def fitted(runs: Runs) -> AccuracyFit:
    return fit_accuracy(runs, SEEDS, {})


@pytest.mark.parametrize("truth", [IMAGES, LANGUAGE], ids=["noise with keep", "noise without"])
def test_a_curve_without_noise_is_found_exactly(truth: Curve) -> None:
    found = fitted(drawn(truth, 0, 0.0)).fit
    assert found.quantisation_scales_with_keep is truth.quantisation_scales_with_keep
    for name in ("uncompressed", "keep_loss", "keep_decay", "quantisation_loss"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=1e-4)


def test_what_a_seed_does_to_all_its_runs_cancels() -> None:
    quiet, moved = fitted(drawn(IMAGES, 3, 0.002)), fitted(drawn(IMAGES, 3, 0.002, 0.05))
    plain = [cell.fitted_loss for cell in quiet.cells]
    assert [cell.fitted_loss for cell in moved.cells] == pytest.approx(plain, abs=0.006)
    assert moved.half_width < 0.02
    assert moved.uncompressed_half_width > 0.02


def test_the_band_covers_the_truth_as_often_as_it_says() -> None:
    """Over 60 draws and all cells at least 90 % (goal 95), and not by being needlessly wide."""
    covered, widths = [], []
    for seed in range(60):
        fit = fitted(drawn(IMAGES, seed, 0.004))
        for cell in fit.cells:
            covered.append(abs(cell.fitted_loss - IMAGES.loss(cell.keep, cell.bits))
                           <= cell.half_width)  # fmt: skip
            widths.append(cell.half_width)
    assert np.mean(covered) >= 0.9, np.mean(covered)
    assert np.median(widths) < 3 * 0.004


def test_the_band_holds_what_the_shape_cannot() -> None:
    """Losses that no curve of the form has: the band must reach over the misfit."""
    runs = drawn(IMAGES, 1, 0.0005)
    bent = {
        (keep, bits): [value - 0.01 * (keep == 0.16) for value in values]
        for (keep, bits), values in runs.cells.items()
    }
    straight, crooked = fitted(runs), fitted(Runs(runs.metric, runs.uncompressed, bent))
    widths = [np.median([cell.half_width for cell in fit.cells]) for fit in (straight, crooked)]
    assert widths[1] > 3 * widths[0]
    inside = [abs(np.mean(cell.loss) - cell.fitted_loss) <= cell.half_width
              for cell in crooked.cells]  # fmt: skip
    assert np.mean(inside) >= 0.8


@pytest.mark.parametrize("truth", [IMAGES, LANGUAGE], ids=["noise with keep", "noise without"])
@pytest.mark.parametrize("seed", range(4))
def test_the_lower_curve_lies_below_the_band_everywhere(truth: Curve, seed: int) -> None:
    fit = fitted(drawn(truth, seed, 0.003))
    for cell in fit.cells:
        low = fit.fit.value(cell.keep, cell.bits) - cell.half_width
        assert fit.lower.value(cell.keep, cell.bits) <= low + 1e-9
    assert fit.lower.uncompressed <= fit.fit.uncompressed
    slack = [fit.fit.value(k, q) - fit.lower.value(k, q) for k in KEEPS for q in BITS]
    assert max(slack) < 4 * fit.half_width  # and not by giving up


def test_no_loss_at_all_is_a_flat_curve() -> None:
    flat = Curve(uncompressed=0.8, keep_loss=0.0, keep_decay=10.0, quantisation_loss=0.0,
                 quantisation_scales_with_keep=True)  # fmt: skip
    fit = fitted(drawn(flat, 0, 0.0))
    assert fit.fit.loss(0.05, 2) == pytest.approx(0.0, abs=1e-9)
    assert fit.half_width < 1e-4


def test_one_seed_gives_a_band_from_the_misfit_alone() -> None:
    runs = drawn(IMAGES, 5, 0.004)
    one = Runs(runs.metric, runs.uncompressed[:1], {k: v[:1] for k, v in runs.cells.items()})
    fit = fit_accuracy(one, (0,), {})
    assert 0.001 < fit.half_width < 0.1
    assert fit.uncompressed_half_width == 0.0


def test_too_few_cells_are_refused() -> None:
    with pytest.raises(InputError, match="at least 4 cells"):
        fit_accuracy(Runs("accuracy", [0.8], {(0.1, 2): [0.7], (0.2, 2): [0.75]}), (0,), {})
