"""Equations (1) and (2), calibrated on some tensors, predict ``len(payload)`` of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from sftopt.core.errors import InputError
from sftopt.core.instance import DownlinkPayload, Mode, ModeKind
from sftopt.core.payload import downlink_bits_per_element, uplink_bits_per_element
from sftopt.training.codec import (
    EcsqConfig,
    NoneConfig,
    QuantiseConfig,
    TopKConfig,
    calibrated_mode,
    codec_from,
    config_of_mode,
    measure,
)
from sftopt.training.codec.quantiser import Rate
from tests.training.codec.activations import heavy_tailed, transformer_activations

KEEPS = (0.05, 0.06, 0.09, 0.1, 0.15, 0.21, 0.3, 0.4, 0.5)
SOURCES = {
    "transformer": transformer_activations,
    "heavy-tailed": lambda: tuple(heavy_tailed(seed) for seed in range(4)),
}


def predicted_bytes(mode: Mode, keep: float, elements: int) -> float:
    return elements * uplink_bits_per_element(mode, keep, 32) / 8.0


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("rate", list(Rate))
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_uplink_bytes_within_three_percent(source: str, rate: Rate, bits: int) -> None:
    tensors = SOURCES[source]()
    config = TopKConfig(bits=bits, rate=rate)
    mode = calibrated_mode(config, tensors[:2])
    for keep in KEEPS:
        for held_out in tensors[2:]:
            payload = codec_from(replace(config, keep=keep)).encode(held_out, seed=77)
            expected = predicted_bytes(mode, keep, held_out.numel())
            assert len(payload) == pytest.approx(expected, rel=0.03), keep


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_downlink_bytes_within_three_percent_at_a_given_entropy(source: str, bits: int) -> None:
    """eta_q is a target there, so it holds for gradients too, however they are distributed."""
    tensors = SOURCES[source]()
    config = TopKConfig(bits=bits, rate=Rate.ENTROPY)
    mode = calibrated_mode(config, tensors[:2])
    gradient = torch.randn(tensors[3].shape, generator=torch.Generator().manual_seed(1)) ** 3
    for keep in KEEPS:
        codec = codec_from(replace(config, keep=keep))
        support = codec.compress(tensors[3]).support
        payload = codec.encode_gradient(gradient, support)
        beta = downlink_bits_per_element(mode, keep, 32, DownlinkPayload.KEPT)
        assert len(payload) == pytest.approx(gradient.numel() * beta / 8.0, rel=0.03), keep


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_entropy_rate_sets_eta_to_the_bits(bits: int) -> None:
    mode = calibrated_mode(TopKConfig(bits=bits, rate=Rate.ENTROPY), [heavy_tailed(1)])
    assert mode.entropy_bits == pytest.approx(bits, rel=0.015)


@pytest.mark.parametrize(
    "config",
    [QuantiseConfig(bits=2), QuantiseConfig(bits=6), EcsqConfig(bits=2.05), EcsqConfig(step=0.7)],
)
def test_dense_modes(config: QuantiseConfig | EcsqConfig) -> None:
    tensors = transformer_activations()
    mode = calibrated_mode(config, tensors[:2])
    assert mode.kind is ModeKind.DENSE
    payload = codec_from(config).encode(tensors[3], seed=5)
    assert len(payload) == pytest.approx(predicted_bytes(mode, 1.0, tensors[3].numel()), rel=0.03)


def test_scales_are_sigma() -> None:
    tensor = heavy_tailed(2)
    for group in (192, 768):
        codec = codec_from(TopKConfig(keep=0.3, group=group))
        scale_bits = codec.compress(tensor).parts.scale_bits
        assert scale_bits / tensor.numel() == 16.0 / group
        # and the header, about 90 bytes
        header = measure(codec, [tensor]).side_bits_per_element * tensor.numel() - scale_bits
        assert 0 < header < 8 * 90


def test_calibration_without_tensors_is_refused() -> None:
    nothing: Sequence[torch.Tensor] = []
    with pytest.raises(InputError, match="no tensor"):
        calibrated_mode(TopKConfig(), nothing)
    with pytest.raises(InputError, match="no keep"):
        calibrated_mode(TopKConfig(), [heavy_tailed(1)], keeps=())


def test_codecs_of_a_plans_modes() -> None:
    assert config_of_mode(ModeKind.TOPK, 4, 0.2) == TopKConfig(bits=4, keep=0.2)
    assert config_of_mode(ModeKind.DENSE, 6, 1.0) == QuantiseConfig(bits=6)
    assert config_of_mode(ModeKind.DENSE, 2, 1.0, ecsq_bits=2.05) == EcsqConfig(bits=2.05)
    assert config_of_mode(ModeKind.NONE, 32, 1.0) == NoneConfig()
    sixteen = config_of_mode(ModeKind.NONE, 32, 1.0, reference_bits=16)
    assert sixteen == NoneConfig(precision="float16")
    with pytest.raises(InputError, match="16 or 32"):
        config_of_mode(ModeKind.NONE, 32, 1.0, reference_bits=8)
