"""The stochastic quantiser is unbiased: tests with stated power.

Errors are counted in level widths. An error lies between -1 and 1 and its variance is at most 1/4,
so the mean over n of them has a standard error of at most 1/(2 sqrt n). Each test rejects at
Z = 4.9 standard errors (chance of a false alarm 1e-6) and n is chosen so that a bias of
``DETECTABLE`` level widths is found with a probability of at least 0.99 (Z + 2.33 standard errors).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sftopt.training.codec import QuantiseConfig, RandTopKConfig, TopKConfig, codec_from
from sftopt.training.codec.quantiser import Rate, dequantise, quantise
from tests.training.codec.activations import heavy_tailed

Z = 4.9
DETECTABLE = 0.005
NEEDED = math.ceil(((Z + 2.33) / (2.0 * DETECTABLE)) ** 2)  # 522,729 errors


def errors_in_levels(
    values: np.ndarray[tuple[int], np.dtype[np.float32]],
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]],
    *,
    bits: int,
    rate: Rate,
    from_threshold: bool,
    repeats: int,
) -> tuple[np.ndarray[tuple[int, int]], np.ndarray[tuple[int]]]:
    """(errors of the magnitudes, in level widths, per repeat; position between two levels)."""
    errors = np.empty((repeats, values.size))
    generator = np.random.default_rng(12345)
    for repeat in range(repeats):
        coded = quantise(
            values,
            sizes,
            bits=bits,
            rate=rate,
            from_threshold=from_threshold,
            generator=generator,
        )
        received, scale = dequantise(coded), coded.scale
        tops = (scale.of_group.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        widths = np.repeat((tops - scale.floor) / scale.steps, sizes)
        errors[repeat] = (np.abs(received) - np.abs(values).astype(np.float64)) / widths
    return errors, np.modf((np.abs(values) - scale.floor) / widths)[0]


@pytest.mark.parametrize("rate", list(Rate))
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("from_threshold", [True, False], ids=["kept", "gradient"])
def test_mean_error_is_zero_overall_and_anywhere_between_levels(
    bits: int, rate: Rate, from_threshold: bool
) -> None:
    generator = np.random.default_rng(bits)
    values = generator.standard_t(4, 6000).astype(np.float32)
    if from_threshold:
        values = values[np.abs(values) > 1.0]
    sizes = np.full(values.size // 50, 50)
    values = values[: 50 * sizes.size]
    repeats = math.ceil(NEEDED / values.size)
    errors, between = errors_in_levels(
        values, sizes, bits=bits, rate=rate, from_threshold=from_threshold, repeats=repeats
    )
    assert np.abs(errors).max() <= 1.0 + 1e-3
    assert abs(errors.mean()) < Z / (2.0 * math.sqrt(errors.size))
    # nearest rounding, say, is unbiased overall and biased at most places between two levels
    for low in np.arange(0.0, 1.0, 0.2):
        part = errors[:, (between >= low) & (between < low + 0.2)]
        if part.size:
            assert abs(part.mean()) < Z / (2.0 * math.sqrt(part.size))
    # and the sizes are right: the variance is that of two-point rounding, p (1 - p)
    expected = (between * (1.0 - between)).mean()
    assert errors.var() == pytest.approx(expected, rel=0.02)


def test_the_test_has_the_power_it_states() -> None:
    generator = np.random.default_rng(0)
    values = np.abs(generator.standard_t(4, 6000)).astype(np.float32)
    sizes = np.full(60, 100)
    repeats = math.ceil(NEEDED / values.size)
    errors, _ = errors_in_levels(
        values, sizes, bits=4, rate=Rate.LEVELS, from_threshold=False, repeats=repeats
    )
    biased = errors + DETECTABLE
    assert abs(biased.mean()) > Z / (2.0 * math.sqrt(biased.size))


@pytest.mark.parametrize(
    "config",
    [TopKConfig(keep=0.3, bits=2), RandTopKConfig(keep=0.3, bits=3), QuantiseConfig(bits=2)],
    ids=lambda config: config.codec,
)
def test_payloads_average_to_the_kept_values(config: TopKConfig | QuantiseConfig) -> None:
    """Through real bytes: the mean of many decodings, each position against its own error."""
    tensor = heavy_tailed(7, (2, 10, 32))
    codec = codec_from(config)
    repeats = 600
    received = torch.stack(
        [codec.decode(codec.encode(tensor, seed=seed)) for seed in range(repeats)]
    )
    sent = received != 0 if not isinstance(config, QuantiseConfig) else torch.ones_like(received)
    times = sent.sum(0)
    errors = ((received - tensor) * sent).double()
    mean = errors.sum(0) / times.clamp(min=1)
    deviation = torch.sqrt((errors**2).sum(0)) / times.clamp(min=1)
    # where one of the two levels is hardly ever drawn, 600 repeats give no deviation to go by
    known = torch.minimum((errors > 0).sum(0), (errors < 0).sum(0)) >= 20
    scores = (mean / deviation)[known]
    assert int(known.sum()) > 100
    assert float(scores.abs().max()) < 5.5
    assert abs(float(scores.mean())) < Z / math.sqrt(scores.numel())


def test_gradient_payloads_average_to_the_gradient() -> None:
    tensor = heavy_tailed(8, (2, 10, 32))
    codec = codec_from(TopKConfig(keep=0.5, bits=2))
    support = codec.compress(tensor).support
    gradient = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(3))
    received = torch.stack(
        [
            codec.decode_gradient(codec.encode_gradient(gradient, support, seed=seed), support)
            for seed in range(600)
        ]
    ).double()
    kept = torch.zeros(tensor.numel(), dtype=torch.bool)
    kept[torch.from_numpy(support.positions)] = True
    kept = kept.view(tensor.shape)
    assert bool((received[:, ~kept] == 0).all())
    deviation = received.std(0)[kept] / math.sqrt(600)
    scores = (received.mean(0) - gradient)[kept][deviation > 0] / deviation[deviation > 0]
    assert float(scores.abs().max()) < 5.5
    assert abs(float(scores.mean())) < Z / math.sqrt(scores.numel())


def test_forward_and_gradient_of_one_seed_draw_apart() -> None:
    tensor = heavy_tailed(9, (2, 16, 32))
    codec = codec_from(QuantiseConfig(bits=2))
    sent = codec.compress(tensor, seed=4)
    forward = codec.decode(sent.payload) - tensor
    back = codec.encode_gradient(tensor, sent.support, seed=4)
    backward = codec.decode_gradient(back, sent.support) - tensor
    # the same generator would round every element the same way both times
    agree = float((forward.sign() == backward.sign()).double().mean())
    assert agree < 0.95
