"""The dead-zone quantiser, token selection, and gradients through the boundary."""

from __future__ import annotations

import pytest
import torch

from sftopt.training.codec import (
    CodecError,
    Direction,
    EcsqConfig,
    NoneConfig,
    TokensConfig,
    TopKConfig,
    codec_from,
    decode,
    statistics_of,
    through_boundary,
)
from tests.training.codec.activations import heavy_tailed, transformer_activations


@pytest.mark.parametrize("bits", [0.5, 1.0, 2.05, 2.4, 4.0])
@pytest.mark.parametrize("scaling", [0.0, 0.5, 1.0])
def test_ecsq_meets_its_rate(bits: float, scaling: float) -> None:
    for tensor in (heavy_tailed(1), transformer_activations()[0]):
        codec = codec_from(EcsqConfig(bits=bits, scaling=scaling))
        terms = statistics_of(codec.compress(tensor))
        assert terms.value_bits == pytest.approx(bits, rel=0.02, abs=0.02)
        rows = tensor.numel() // tensor.shape[-1]
        assert terms.side_bits_per_element < 32.0 / rows + 0.01


@pytest.mark.parametrize("dead_zone", [0.5, 0.6, 0.8])
def test_ecsq_error_is_bounded_by_the_dead_zone(dead_zone: float) -> None:
    tensor = heavy_tailed(2)
    codec = codec_from(EcsqConfig(step=0.5, dead_zone=dead_zone))
    received = codec.decode(codec.encode(tensor))
    rows = tensor.flatten(0, 1)
    spread = rows.std(0, correction=0)
    distance = ((received - tensor).abs() / spread).max()
    # centres and spreads are rounded to 2^-8 and 1/32 of a spread, far out errors grow with them
    assert float(distance) < 0.5 * dead_zone + 0.2
    centred = received.flatten(0, 1) - rows.mean(0)
    inside = ((rows - rows.mean(0)).abs() / spread) < 0.5 * (dead_zone - 0.2)
    assert float((centred.abs() / spread)[inside].max()) < 0.04


def test_ecsq_beats_top_k_at_the_same_bytes() -> None:
    for tensor in (heavy_tailed(3), transformer_activations()[1]):
        chain = codec_from(TopKConfig(keep=0.3, bits=4))
        payload = chain.encode(tensor)
        # per element, less the centres and spreads
        bits = 8.0 * len(payload) / tensor.numel() - 0.07
        dead_zone = codec_from(EcsqConfig(bits=bits, scaling=0.0))
        smaller = dead_zone.encode(tensor)
        assert len(smaller) <= len(payload)
        lost = (chain.decode(payload) - tensor).square().sum()
        assert float((dead_zone.decode(smaller) - tensor).square().sum()) < 0.6 * float(lost)


def test_ecsq_scaling_trades_squared_error_for_even_error() -> None:
    tensor = heavy_tailed(3)
    spread = tensor.std((0, 1))
    plain, relative = [], []
    for scaling in (0.0, 0.5, 1.0):
        codec = codec_from(EcsqConfig(bits=2.0, scaling=scaling))
        error = codec.decode(codec.encode(tensor)) - tensor
        plain.append(float(error.square().mean()))
        relative.append(float((error / spread).square().mean()))
    assert plain == sorted(plain)
    assert relative == sorted(relative, reverse=True)
    assert plain[2] > 2.0 * plain[0]


def test_ecsq_reconstructs_at_the_mean_of_each_level() -> None:
    tensor = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    codec = codec_from(EcsqConfig(step=1.5))
    received = codec.decode(codec.encode(tensor))
    spread = tensor.std(0, correction=0)
    level_one = (received / spread).abs().mul(2).round().clamp(max=6)
    for level in level_one.unique()[1:3]:
        chosen = level_one == level
        sign = received.sign()
        difference = ((tensor - received) * sign / spread)[chosen].mean()
        assert abs(float(difference)) < 0.03


def test_ecsq_constant_channels_cost_nothing_and_stay() -> None:
    tensor = heavy_tailed(4, (2, 64, 8))
    tensor[:, :, 2], tensor[:, :, 5] = 7.25, 0.0
    codec = codec_from(EcsqConfig(bits=2.0))
    received = codec.decode(codec.encode(tensor))
    assert float((received[:, :, 2] - 7.25).abs().max()) < 0.01
    assert float(received[:, :, 5].abs().max()) == 0.0


def scores_of(tensor: torch.Tensor) -> torch.Tensor:
    return torch.rand(tensor.shape[:2], generator=torch.Generator().manual_seed(1))


def test_tokens_are_the_best_in_order_and_their_mean() -> None:
    tensor, config = heavy_tailed(5, (3, 12, 64)), TokensConfig(tokens=4, bits=8)
    scores = scores_of(tensor)
    scores[:, 0] = 0.0  # CLS stays whatever its score
    sent = codec_from(config).compress(tensor, scores=scores)
    received = decode(sent.payload).tensor
    assert received.shape == (3, 5, 64)
    for sample in range(3):
        best = scores[sample, 1:].topk(3).indices + 1
        kept = torch.cat([torch.tensor([0]), best]).sort().values
        dropped = torch.tensor([at for at in range(12) if at not in kept.tolist()])
        weights = scores[sample, dropped]
        merged = (weights[:, None] * tensor[sample, dropped]).sum(0) / weights.sum()
        expected = torch.cat([tensor[sample, kept], merged[None]])
        width = expected.abs().amax(1, keepdim=True) * 1.01 / 127
        assert bool(((received[sample] - expected).abs() <= width).all())


def test_token_gradients_return_in_the_proportions_of_the_merge() -> None:
    tensor, config = heavy_tailed(6, (2, 10, 64)), TokensConfig(tokens=3, bits=8)
    scores = scores_of(tensor)
    codec = codec_from(config)
    sent = codec.compress(tensor, scores=scores)
    received = codec.expand(sent.payload)
    gradient = torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(2))
    back = codec.decode_gradient(codec.encode_gradient(gradient, received.support), sent.support)
    # independent: autograd through the same merge, without quantisation
    leaf = tensor.clone().requires_grad_()
    kept = scores.clone()
    kept[:, 0] = 2.0
    chosen = kept.topk(3, dim=1).indices.sort(1).values
    mask = torch.ones_like(scores).scatter(1, chosen, 0.0)
    weights = scores * mask / (scores * mask).sum(1, keepdim=True)
    merged = (weights[:, :, None] * leaf).sum(1, keepdim=True)
    sent_exactly = torch.cat([leaf.gather(1, chosen[:, :, None].expand(-1, -1, 64)), merged], 1)
    (sent_exactly * gradient).sum().backward()
    assert leaf.grad is not None
    assert float((back - leaf.grad).abs().max()) < float(gradient.abs().max()) * 1.01 / 127


@pytest.mark.parametrize(
    ("tokens", "shape", "scores", "message"),
    [
        (12, (3, 12, 8), torch.ones(3, 12), "none is left to merge"),
        (4, (12, 8), torch.ones(12), "samples, tokens, hidden"),
        (4, (3, 12, 8), torch.ones(3, 11), "samples, tokens, hidden"),
        (4, (3, 12, 8), -torch.ones(3, 12), "not negative"),
        (4, (3, 12, 8), torch.full((3, 12), torch.nan), "finite"),
        (4, (3, 12, 8), None, "needs scores"),
    ],
)
def test_token_faults(
    tokens: int, shape: tuple[int, ...], scores: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(CodecError, match=message):
        codec_from(TokensConfig(tokens=tokens)).encode(torch.ones(shape), scores=scores)


def test_tokens_without_scores_among_the_dropped_are_averaged() -> None:
    tensor = heavy_tailed(7, (1, 5, 8))
    scores = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]])
    received = codec_from(TokensConfig(tokens=2, bits=8)).compress(tensor, scores=scores)
    merged = decode(received.payload).tensor[0, -1]
    assert torch.allclose(merged, tensor[0, 2:].mean(0), atol=float(tensor.abs().max()) / 60)


def test_boundary_carries_values_forward_and_gradients_back() -> None:
    tensor = heavy_tailed(8, (2, 32, 16)).requires_grad_()
    codec = codec_from(TopKConfig(keep=0.25, bits=8))
    sizes: list[tuple[Direction, int]] = []
    received = through_boundary(
        codec, tensor, seed=3, record=lambda way, size: sizes.append((way, size))
    )
    assert torch.equal(received, codec.decode(codec.encode(tensor, seed=3)))
    weights = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(4))
    (received * weights).sum().backward()
    assert tensor.grad is not None
    kept = received != 0
    assert bool((tensor.grad[~kept] == 0).all())
    assert float((tensor.grad - weights)[kept].abs().max()) < float(weights.abs().max()) / 100
    (up, up_bytes), (down, down_bytes) = sizes
    assert (up, down) == (Direction.FORWARD, Direction.GRADIENT)
    assert up_bytes == len(codec.encode(tensor, seed=3))
    assert 0 < down_bytes < up_bytes


def test_boundary_without_compression_changes_nothing() -> None:
    tensor = heavy_tailed(9, (2, 4, 16)).requires_grad_()
    (through_boundary(codec_from(NoneConfig()), tensor) ** 2).sum().backward()
    assert tensor.grad is not None
    assert torch.equal(tensor.grad, 2 * tensor.detach())


def test_boundary_of_tokens_reaches_every_token() -> None:
    tensor = heavy_tailed(10, (2, 10, 16)).requires_grad_()
    codec = codec_from(TokensConfig(tokens=3, bits=8))
    received = through_boundary(codec, tensor, scores=scores_of(tensor))
    assert received.shape == (2, 4, 16)
    received.sum().backward()
    assert tensor.grad is not None
    assert bool((tensor.grad.abs().sum(-1) > 0).all())
