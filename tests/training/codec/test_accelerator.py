"""What runs on a GPU, run on the CPU beside the host's way; and on a GPU where one is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sftopt.training.codec import (
    Codec,
    CodecConfig,
    CodecError,
    EcsqConfig,
    QuantiseConfig,
    RotatedConfig,
    RotatedTopKConfig,
    TopKConfig,
    accelerator,
    codec_from,
    ecsq,
    sparse,
    symbols,
    through_boundary,
)
from sftopt.training.codec.accelerator.top_k import packed, top_k_mask
from sftopt.training.codec.accelerator.transfer import fetched
from sftopt.training.codec.basis_file import save_bases
from sftopt.training.codec.selection import top_k
from tests.training.codec.activations import heavy_tailed

CHANNELS = 64
SHAPE = (4, 96, CHANNELS)
EXACT: tuple[CodecConfig, ...] = (
    TopKConfig(keep=0.1, bits=4),
    TopKConfig(keep=0.3, bits=2, group=100),
    TopKConfig(keep=0.3, bits=8, rate="entropy"),
    TopKConfig(keep=0.2, bits=4, per_sample=True, group=2**31),
    TopKConfig(keep=1.0, bits=3),
    TopKConfig(keep=0.001, bits=4, rate="entropy"),
    QuantiseConfig(bits=4),
    QuantiseConfig(bits=5, rate="entropy", group=7),
)
NEAR: tuple[CodecConfig, ...] = (
    TopKConfig(keep=0.2, bits=4, centre=True),
    EcsqConfig(bits=2.0),
    EcsqConfig(bits=4.0, scaling=0.0),
    EcsqConfig(step=0.05),
    RotatedConfig(bits=2.048, bases="here"),
    RotatedConfig(bits=3.0, bases="here", cut=1),
    RotatedTopKConfig(keep=0.3, bases="here", cut=0, centre=True),
)
PLACES = [pytest.param("cpu", id="its-way-on-the-cpu")]
if torch.cuda.is_available():
    PLACES.append(pytest.param("cuda", marks=pytest.mark.gpu, id="cuda"))
EVERY_PLACE = pytest.mark.parametrize("place", PLACES)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bases") / "bases"
    generator = np.random.default_rng(3)
    matrices = {
        f"{kind}.{cut:02d}": torch.tensor(
            np.linalg.qr(generator.normal(size=(CHANNELS, CHANNELS)))[0], dtype=torch.float32
        )
        for kind in ("activation", "gradient")
        for cut in range(2)
    }
    save_bases(path, matrices)
    return str(path)


def codec_of(config: CodecConfig, bases: str) -> Codec[CodecConfig]:
    data = config.to_dict()
    return codec_from({**data, "bases": bases} if "bases" in data else data)


def device_of(place: str, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The device; on the CPU everything is told that it is not the host."""
    for module in (sparse, symbols, ecsq):
        if place == "cpu":
            monkeypatch.setattr(module, "is_on_host", lambda _: False)
    return torch.device(place)


@EVERY_PLACE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", EXACT, ids=lambda config: config.codec)
def test_the_same_payload_to_the_byte(
    config: CodecConfig,
    dtype: torch.dtype,
    place: str,
    bases: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec = codec_of(config, bases)
    tensor, gradient = heavy_tailed(1, SHAPE).to(dtype), heavy_tailed(2, SHAPE).to(dtype)
    expected = codec.compress(tensor, seed=7)
    expected_back = codec.encode_gradient(gradient, expected.support, seed=7)
    tensors = codec.decode(expected.payload), codec.decode_gradient(expected_back, expected.support)
    device = device_of(place, monkeypatch)
    sent = codec.compress(tensor.to(device), seed=7)
    assert sent.payload == expected.payload
    assert sent.parts == expected.parts
    back = codec.encode_gradient(gradient.to(device), sent.support, seed=7)
    assert back == expected_back
    received = codec.decode(sent.payload, device=device)
    returned = codec.decode_gradient(back, sent.support, device=device)
    assert received.device.type == device.type
    assert torch.equal(received.cpu(), tensors[0])
    assert torch.equal(returned.cpu(), tensors[1])


@EVERY_PLACE
@pytest.mark.parametrize("config", NEAR, ids=lambda config: config.codec)
def test_the_same_error_where_sums_are_of_another_order(
    config: CodecConfig, place: str, bases: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = codec_of(config, bases)
    tensor, gradient = heavy_tailed(3, SHAPE), heavy_tailed(4, SHAPE)
    expected = codec.compress(tensor, seed=7)
    wanted = codec.decode(expected.payload)
    expected_back = codec.encode_gradient(gradient, expected.support, seed=7)
    returned = codec.decode_gradient(expected_back, expected.support)
    device = device_of(place, monkeypatch)
    sent = codec.compress(tensor.to(device), seed=7)
    received = codec.decode(sent.payload, device=device).cpu()
    assert len(sent.payload) == pytest.approx(len(expected.payload), rel=2e-3)
    errors = [float((one - tensor).square().mean()) for one in (wanted, received)]
    assert errors[1] == pytest.approx(errors[0], rel=2e-3)
    back = codec.encode_gradient(gradient.to(device), sent.support, seed=7)
    found = codec.decode_gradient(back, sent.support, device=device).cpu()
    errors = [float((one - gradient).square().mean()) for one in (returned, found)]
    assert errors[1] == pytest.approx(errors[0], rel=2e-3)


@EVERY_PLACE
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("config", [*EXACT, *NEAR], ids=lambda config: config.codec)
def test_non_finite_elements_are_refused(
    config: CodecConfig, value: float, place: str, bases: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = device_of(place, monkeypatch)
    tensor = heavy_tailed(1, SHAPE).to(device)
    tensor[1, 5, 3] = value
    with pytest.raises(CodecError, match="NaN"):
        codec_of(config, bases).encode(tensor)


@EVERY_PLACE
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
    "config", [TopKConfig(keep=0.5), QuantiseConfig(bits=3), EcsqConfig(bits=2.0)]
)
def test_unusual_tensors(
    config: CodecConfig, tensor: torch.Tensor, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = codec_from(config)
    expected = codec.decode(codec.encode(tensor))
    device = device_of(place, monkeypatch)
    received = codec.decode(codec.encode(tensor.to(device)), device=device)
    assert torch.equal(received.cpu(), expected)


@EVERY_PLACE
def test_ties_are_kept_from_the_front(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device = device_of(place, monkeypatch)
    values = torch.tensor(np.random.default_rng(1).integers(-3, 4, 1001), dtype=torch.float32)
    for kept in (1, 10, 300, 1000, 1001):
        expected = top_k(values.numpy(), kept)
        mask = top_k_mask(values.to(device)[None], kept)[0]
        bits, flags = fetched(packed(mask), mask)
        assert np.array_equal(flags, expected.mask)
        assert np.array_equal(bits, np.packbits(expected.mask))


@EVERY_PLACE
def test_a_training_step_never_leaves_the_device(
    place: str, bases: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The floats that cross to the host are per-channel moments and single numbers."""
    device = device_of(place, monkeypatch)
    sizes: list[int] = []
    original = fetched

    def watched(*tensors: torch.Tensor) -> list[np.ndarray]:  # type: ignore[type-arg]
        sizes.extend(one.numel() for one in tensors if one.is_floating_point())
        return original(*tensors)

    for module in (sparse, symbols, accelerator.quantiser, accelerator.dead_zone):
        monkeypatch.setattr(module, "fetched", watched)
    for module in (sparse, symbols, ecsq):
        monkeypatch.setattr(module, "to_array", lambda _: pytest.fail("to the host"))
    for config in (TopKConfig(keep=0.1), RotatedConfig(bits=2.0, bases="here", cut=0)):
        tensor = heavy_tailed(5, SHAPE).to(device).requires_grad_()
        received = through_boundary(codec_of(config, bases), tensor)
        received.square().sum().backward()
        assert tensor.grad is not None
        assert tensor.grad.device == received.device == tensor.device
    assert sizes
    assert max(sizes) <= CHANNELS
