"""Every codec: tensor -> bytes -> tensor, what is exact about it and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.payload import binary_entropy_bits
from sftopt.training.codec import (
    Codec,
    CodecConfig,
    CodecError,
    EcsqConfig,
    NoneConfig,
    QuantiseConfig,
    RandTopKConfig,
    TokensConfig,
    TopKConfig,
    codec_from,
    compression_ratio,
    decode,
    statistics_of,
)
from sftopt.training.codec.base import REGISTRY
from tests.training.codec.activations import heavy_tailed

CONFIGS: tuple[CodecConfig, ...] = (
    NoneConfig(),
    NoneConfig(precision="float16"),
    QuantiseConfig(bits=8),
    QuantiseConfig(bits=3, rate="entropy", group=100),
    TopKConfig(keep=0.1, bits=4),
    TopKConfig(keep=0.3, bits=2, rate="entropy", per_sample=True),
    TopKConfig(keep=1.0, bits=6),
    TopKConfig(keep=0.2, bits=4, centre=True),
    RandTopKConfig(keep=0.2, bits=8, outside=0.3),
    TokensConfig(tokens=5, bits=8),
    EcsqConfig(bits=2.4),
    EcsqConfig(step=0.5, scaling=0.0),
)
LABELS = [f"{number}-{config.codec}" for number, config in enumerate(CONFIGS)]
EVERY_CODEC = pytest.mark.parametrize("config", CONFIGS, ids=LABELS)


def tensor_and_scores(
    config: CodecConfig, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor | None]:
    tensor = heavy_tailed(1, (3, 20, 16)).to(dtype)
    scores = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
    return tensor, scores if isinstance(config, TokensConfig) else None


@EVERY_CODEC
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_payload_alone_gives_the_tensor_back(config: CodecConfig, dtype: torch.dtype) -> None:
    codec = codec_from(config)
    tensor, scores = tensor_and_scores(config, dtype)
    before = tensor.clone()
    payload = codec.encode(tensor, seed=3, scores=scores)
    received = decode(payload).tensor
    assert torch.equal(tensor, before)
    assert received.dtype is dtype
    expected = (3, 6, 16) if isinstance(config, TokensConfig) else tensor.shape
    assert received.shape == expected
    assert bool(torch.isfinite(received).all())
    assert torch.equal(received, codec.decode(payload))
    # the receiver's configuration is not used: any codec of that kind reads it
    assert torch.equal(
        received,
        type(codec)(REGISTRY[codec.name].config_class(**other_options(config))).decode(payload),
    )


def other_options(config: CodecConfig) -> dict[str, float]:
    return {"step": 3.0} if isinstance(config, EcsqConfig) else {}


@EVERY_CODEC
def test_seed_decides_the_payload(config: CodecConfig) -> None:
    codec = codec_from(config)
    tensor, scores = tensor_and_scores(config)
    first, again, other = (codec.encode(tensor, seed=seed, scores=scores) for seed in (3, 3, 4))
    assert first == again
    deterministic = config.codec in ("none", "ecsq")
    assert (first == other) is deterministic


@EVERY_CODEC
def test_parts_add_up_to_the_payload(config: CodecConfig) -> None:
    tensor, scores = tensor_and_scores(config)
    encoded = codec_from(config).compress(tensor, scores=scores)
    terms = statistics_of(encoded)
    mask = terms.mask_factor * binary_entropy_bits(terms.keep)
    if encoded.parts.mask_bits == 0.0:
        assert mask_free(config)
        mask = 0.0
    total = terms.keep * terms.value_bits + mask + terms.side_bits_per_element
    assert total * terms.elements == pytest.approx(8 * len(encoded.payload))
    assert terms.side_bits_per_element * terms.elements >= encoded.parts.scale_bits > -1.0
    ratio = compression_ratio(terms.elements, len(encoded.payload))
    assert ratio == pytest.approx(32.0 / terms.bits_per_element)


def mask_free(config: CodecConfig) -> bool:
    return not isinstance(config, TopKConfig)


@EVERY_CODEC
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_comes_back_where_something_was_sent(
    config: CodecConfig, dtype: torch.dtype
) -> None:
    codec = codec_from(config)
    tensor, scores = tensor_and_scores(config, dtype)
    sent = codec.compress(tensor, seed=1, scores=scores)
    received = codec.expand(sent.payload)
    gradient = torch.randn(received.tensor.shape, generator=torch.Generator().manual_seed(2))
    payload = codec.encode_gradient(gradient.to(dtype), received.support, seed=1)
    back = codec.decode_gradient(payload, sent.support)
    assert back.shape == tensor.shape
    assert back.dtype is dtype
    if sent.support.positions is not None:
        dropped = torch.ones(tensor.numel(), dtype=torch.bool)
        dropped[torch.from_numpy(sent.support.positions)] = False
        assert bool((back.flatten()[dropped] == 0).all())
        # no mask travels down: the payload is that of the values alone
        kept_bits = config.to_dict()["bits"] * sent.support.positions.size
        assert 8 * len(payload) <= kept_bits + 16 * 60 + 8 * 128
    if not isinstance(config, TokensConfig):
        known = back != 0
        error = (back.float() - gradient)[known].abs().max()
        assert float(error) < 2.0 * float(gradient.abs().max())


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_none_is_exact(precision: str) -> None:
    codec = codec_from(NoneConfig(precision=precision))
    tensor = heavy_tailed(2, (2, 5, 8)).to(getattr(torch, precision))
    sent = codec.compress(tensor)
    assert torch.equal(codec.decode(sent.payload), tensor)
    assert torch.equal(
        codec.decode_gradient(codec.encode_gradient(tensor, sent.support), sent.support), tensor
    )
    assert len(sent.payload) == tensor.numel() * tensor.element_size() + 13 + 12 + 1


@pytest.mark.parametrize("keep", [0.001, 0.05, 0.0999, 0.1, 0.37, 0.999, 1.0])
@pytest.mark.parametrize("shape", [(17,), (4, 33), (2, 8, 512), (5, 200, 192)])
def test_top_k_keeps_exactly_the_largest(keep: float, shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    kept = min(max(math.floor(keep * tensor.numel() + 0.5), 1), tensor.numel())
    codec = codec_from(TopKConfig(keep=keep, bits=8))
    received = codec.expand(codec.encode(tensor))
    assert received.support.positions is not None
    expected = torch.topk(tensor.abs().flatten(), kept).indices.sort().values
    assert received.support.positions.tolist() == expected.tolist()
    assert int((received.tensor != 0).sum()) == kept


def test_top_k_is_exact_where_the_sample_misleads() -> None:
    # large enough for the sampled bound; almost all elements equal, so the sample sees ties only
    tensor = torch.ones(600, 512)
    tensor[::7, 3] = 2.0
    tensor[5, :40] = -3.0
    codec = codec_from(TopKConfig(keep=0.01, bits=4))
    positions = codec.expand(codec.encode(tensor)).support.positions
    assert positions is not None
    kept = round(0.01 * tensor.numel())
    large = torch.nonzero(tensor.flatten().abs() > 1.0).flatten().tolist()
    first_ones = [at for at in range(tensor.numel()) if float(tensor.flatten()[at]) == 1.0]
    expected = sorted(large + first_ones[: kept - len(large)])
    assert positions.tolist() == expected


def test_per_sample_keeps_the_same_number_in_each() -> None:
    tensor = heavy_tailed(3, (6, 50, 32)) * torch.logspace(-3, 3, 6).view(6, 1, 1)
    codec = codec_from(TopKConfig(keep=0.13, bits=8, per_sample=True))
    received = codec.decode(codec.encode(tensor))
    assert (received != 0).flatten(1).sum(1).tolist() == [208] * 6
    over_all = codec_from(TopKConfig(keep=0.13, bits=8))
    shares = (over_all.decode(over_all.encode(tensor)) != 0).flatten(1).sum(1)
    assert int(shares[0]) == 0  # the smallest sample loses everything to the largest


def test_centred_top_k_puts_the_mean_where_it_sends_nothing() -> None:
    tensor = heavy_tailed(3, (4, 64, 32)) + torch.linspace(-20, 20, 32)
    codec = codec_from(TopKConfig(keep=0.1, bits=8, centre=True))
    sent = codec.compress(tensor)
    received = codec.decode(sent.payload)
    assert sent.support.positions is not None
    dropped = torch.ones(tensor.numel(), dtype=torch.bool)
    dropped[torch.from_numpy(sent.support.positions)] = False
    means = tensor.mean((0, 1)).expand_as(tensor)
    assert torch.allclose(received.flatten()[dropped], means.flatten()[dropped], rtol=2**-8)
    deviations = (tensor - means.bfloat16()).abs().flatten()
    assert float(deviations[dropped].max()) <= float(deviations[~dropped].min()) + 1e-5
    plain = codec_from(TopKConfig(keep=0.1, bits=8))
    lost = (plain.decode(plain.encode(tensor)) - tensor).square().mean()
    assert float((received - tensor).square().mean()) < 0.05 * float(lost)


def test_random_top_k_takes_the_stated_share_from_outside() -> None:
    tensor = torch.randn(40, 1000, generator=torch.Generator().manual_seed(1))
    top = set(torch.topk(tensor.abs().flatten(), 8000).indices.tolist())
    codec = codec_from(RandTopKConfig(keep=0.2, bits=8, outside=0.1))
    positions = codec.compress(tensor, seed=5).support.positions
    assert positions is not None
    assert positions.size == 8000
    outside = sum(at not in top for at in positions.tolist())
    assert abs(outside - 800) < 5 * math.sqrt(8000 * 0.1 * 0.9)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_error_stays_below_one_level(bits: int) -> None:
    tensor = heavy_tailed(4)
    codec = codec_from(TopKConfig(keep=0.2, bits=bits))
    received = codec.decode(codec.encode(tensor))
    kept = received != 0
    magnitudes = tensor.abs()
    floor = float(magnitudes[kept].min())
    # scales are rounded up to bfloat16: at most 2^-7 above the largest magnitude
    widths = (magnitudes.amax(-1, keepdim=True) * (1 + 2**-7) - floor) / (2 ** (bits - 1) - 1)
    error = (received - tensor).abs()
    assert bool((error <= widths * 1.0001)[kept].all())
    assert bool((torch.sign(received) == torch.sign(tensor))[kept].all())
    levels = torch.unique(received[0, 0][kept[0, 0]])
    assert levels.numel() <= 2**bits


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(4, 16),
        torch.full((4, 16), -2.5),
        torch.full((1, 1), 3e-42),
        torch.tensor([[1e-38, -1e-44], [1e32, -1.0]]),
        torch.zeros(2, 64, 8).index_fill(2, torch.tensor([3]), 65504.0).half(),
    ],
    ids=["zeros", "constant", "denormal", "extremes", "largest-half"],
)
@pytest.mark.parametrize(
    "config", [config for config in CONFIGS if config.codec != "tokens"], ids=lambda c: c.codec
)
def test_unusual_tensors(config: CodecConfig, tensor: torch.Tensor) -> None:
    if config == NoneConfig(precision="float16") and float(tensor.abs().max()) > 1e30:
        with pytest.raises(CodecError, match="float16"):
            codec_from(config).encode(tensor)
        return
    codec = codec_from(config)
    received = codec.decode(codec.encode(tensor))
    assert bool(torch.isfinite(received).all())
    if not bool(tensor.any()):
        assert not bool(received.any())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@EVERY_CODEC
def test_non_finite_elements_are_refused(config: CodecConfig, value: float) -> None:
    tensor, scores = tensor_and_scores(config)
    tensor[1, 7, 3] = value
    with pytest.raises(CodecError, match="NaN"):
        codec_from(config).encode(tensor, scores=scores)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(3, 4, dtype=torch.float64), "float64"),
        (torch.zeros(()), "0 dimensions"),
        (torch.zeros(0, 4), "0 elements"),
    ],
)
def test_tensors_no_payload_can_carry(tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        codec_from(TopKConfig()).encode(tensor)


def test_non_contiguous_and_attached_tensors() -> None:
    tensor = heavy_tailed(5, (4, 6, 8)).requires_grad_()
    codec = codec_from(QuantiseConfig(bits=8))
    turned = tensor.transpose(1, 2)
    assert codec.encode(turned) == codec.encode(turned.detach().contiguous())


@EVERY_CODEC
def test_configuration_through_json(config: CodecConfig) -> None:
    data = json.loads(json.dumps(config.to_dict()))
    assert codec_from(data).config == config
    assert type(config).from_dict(data) == config


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"codec": "topkk"}, "Did you mean 'topk'"),
        ({"codec": "topk", "kept": 0.1}, "Did you mean 'keep'"),
        ({"codec": "topk", "keep": 0.0}, "keep = 0.0"),
        ({"codec": "topk", "keep": "0.1"}, "keep = '0.1'"),
        ({"codec": "topk", "bits": 1}, "bits = 1"),
        ({"codec": "topk", "bits": 4.0}, "bits = 4.0"),
        ({"codec": "quantise", "group": 0}, "group = 0"),
        ({"codec": "quantise", "rate": "fast"}, "rate = 'fast'"),
        ({"codec": "none", "precision": "int8"}, "precision = 'int8'"),
        ({"codec": "ecsq"}, "either bits or step"),
        ({"codec": "ecsq", "bits": 2.0, "step": 1.0}, "either bits or step"),
        ({"codec": "ecsq", "step": 1.0, "dead_zone": 0.4}, "dead_zone = 0.4"),
        ({"codec": "ecsq", "step": 1.0, "scaling": 1.5}, "scaling = 1.5"),
        ({"codec": "tokens", "tokens": 0}, "tokens = 0"),
        ({"codec": "rand-topk", "outside": 1.0}, "outside = 1.0"),
    ],
)
def test_wrong_parameters_are_named(data: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        codec_from(data)


def test_options_of_another_codec_are_refused() -> None:
    with pytest.raises(InputError, match="not 'topk'"):
        TopKConfig.from_dict({"codec": "quantise"})
    with pytest.raises(UnknownNameError):
        TopKConfig.from_dict({"codec": "topk", "tokens": 4})


def test_payloads_of_another_codec_or_direction_are_refused() -> None:
    tensor = heavy_tailed(6, (2, 4, 8))
    top_k, dense = codec_from(TopKConfig(keep=0.5)), codec_from(QuantiseConfig())
    sent = top_k.compress(tensor)
    gradient = top_k.encode_gradient(tensor, sent.support)
    with pytest.raises(CodecError, match="not of 'quantise'"):
        dense.decode(sent.payload)
    with pytest.raises(CodecError, match="gradient"):
        top_k.decode(gradient)
    with pytest.raises(CodecError, match="support"):
        decode(gradient)
    with pytest.raises(CodecError, match="forward"):
        top_k.decode_gradient(sent.payload, sent.support)
    with pytest.raises(CodecError, match="shape"):
        top_k.encode_gradient(tensor[0], sent.support)
    with pytest.raises(CodecError, match="scores"):
        top_k.encode(tensor, scores=torch.ones(2, 4))


def test_wire_ids_are_what_they_always_were() -> None:
    # stored payloads depend on these numbers
    expected = {"none": 1, "quantise": 2, "topk": 3, "rand-topk": 4, "tokens": 5, "ecsq": 6}
    expected |= {"rotated": 7, "rotated-topk": 8, "rest": 9, "low-rank": 10, "codebook": 11}
    expected |= {"singular": 12}
    assert {name: codec.wire_id for name, codec in REGISTRY.items()} == expected
    assert all(issubclass(codec, Codec) for codec in REGISTRY.values())


def test_a_stored_payload_still_decodes() -> None:
    # written by version 1: a change of the format must raise the version instead
    tensor = torch.arange(-8, 8, dtype=torch.float32).reshape(2, 8)
    payload = codec_from(TopKConfig(keep=0.5, bits=4)).encode(tensor, seed=11)
    assert payload.hex() == STORED
    received = decode(bytes.fromhex(STORED)).tensor
    assert np.count_nonzero(received.numpy()) == 8
    assert float(received[0, 0]) == -8.0


STORED = (
    "534654430103000002d4bd3d9202000000080000000800000000000080000080400000e040080000"
    "00020000000041e0400000210000212100212100002100002121a0f507f888515c6a"
)
