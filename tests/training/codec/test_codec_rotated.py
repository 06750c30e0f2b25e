"""The rotated codec: what it saves, what it refuses, and that both ends need the same bases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sftopt.core.errors import InputError
from sftopt.training.codec import (
    CodecError,
    EcsqConfig,
    RotatedConfig,
    RotatedTopKConfig,
    TopKConfig,
    codec_from,
    decode,
    load_bases,
    rotated,
    through_boundary,
)
from sftopt.training.codec.container import seal, unseal

CHANNELS = 32


def orthogonal(seed: int) -> torch.Tensor:
    matrix = np.random.default_rng(seed).normal(size=(CHANNELS, CHANNELS))
    return torch.tensor(np.linalg.qr(matrix)[0], dtype=torch.float32)


BASIS = orthogonal(1)
SPREADS = torch.logspace(0.8, -0.8, CHANNELS)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bases") / "bases.safetensors"
    save_file({"activation.00": orthogonal(2).clone(), "activation.01": BASIS.clone()}, path)
    return str(path)


def correlated(seed: int, rows: int = 512) -> torch.Tensor:
    """Independent in the directions of BASIS, of very uneven spread; correlated as channels."""
    values = np.random.default_rng(seed).normal(size=(4, rows // 4, CHANNELS))
    return torch.tensor(values, dtype=torch.float32) * SPREADS @ BASIS.T + 0.5


def error(config: EcsqConfig, tensor: torch.Tensor) -> float:
    return float((decode(codec_from(config).encode(tensor)).tensor - tensor).square().mean())


def test_a_bit_per_element_is_saved_on_correlated_channels(bases: str) -> None:
    """The oracle: Gaussian components need mean(log2(spread)) bits less than their channels."""
    tensor = correlated(3, rows=4096)
    spreads = tensor.reshape(-1, CHANNELS).std(0)
    gain_bits = float(spreads.log2().mean() - SPREADS.log2().mean())
    assert gain_bits > 1.0
    plain, turned = EcsqConfig(bits=5.0), RotatedConfig(bits=5.0, bases=bases)
    # at high rate the error falls by 6 dB per bit
    saved = 0.5 * np.log2(error(plain, tensor) / error(turned, tensor))
    assert saved == pytest.approx(gain_bits, abs=0.15)
    sizes = [8.0 * len(codec_from(c).encode(tensor)) / tensor.numel() for c in (plain, turned)]
    assert sizes[1] <= sizes[0]


@pytest.mark.parametrize("rows", [512, 8192])
@pytest.mark.parametrize("bits", [1.0, 2.048, 4.0])
def test_bits_bound_the_whole_payload_and_are_used(bases: str, rows: int, bits: float) -> None:
    tensor = correlated(13, rows=rows)
    size = 8.0 * len(codec_from(RotatedConfig(bits=bits, bases=bases)).encode(tensor))
    assert 0.97 * bits <= size / tensor.numel() <= bits


def test_the_fitting_basis_is_found(bases: str) -> None:
    known = load_bases(bases)
    assert known.fitting(correlated(4).reshape(-1, CHANNELS)) == 1


def test_error_is_bounded_by_the_step(bases: str) -> None:
    """Along each direction, half a step outside the dead zone; the length is kept by turning."""
    tensor = correlated(5)
    config = RotatedConfig(step=0.05, dead_zone=0.5, bases=bases)
    received = decode(codec_from(config).encode(tensor)).tensor
    common = float((tensor - tensor.mean((0, 1))).square().mean().sqrt())
    along = ((received - tensor) @ BASIS).abs().max()
    assert float(along) < 1.02 * 0.05 * common


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_round_trip_in_every_dtype(bases: str, dtype: torch.dtype) -> None:
    tensor = correlated(6).to(dtype)
    before = tensor.clone()
    sent = codec_from(RotatedConfig(bits=6.0, bases=bases)).compress(tensor)
    received = decode(sent.payload).tensor
    assert torch.equal(tensor, before)
    assert (received.dtype, received.shape) == (dtype, tensor.shape)
    assert float((received - tensor).float().square().mean()) < 0.01


def test_gradient_is_dense_and_comes_back_close(bases: str) -> None:
    tensor = correlated(7).requires_grad_()
    wanted = correlated(8)
    codec = codec_from(RotatedConfig(bits=6.0, bases=bases))
    (through_boundary(codec, tensor) * wanted).sum().backward()
    assert tensor.grad is not None
    assert float((tensor.grad - wanted).square().mean() / wanted.square().mean()) < 0.001


def test_receiver_without_the_file_refuses(bases: str, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = codec_from(RotatedConfig(bits=2.0, bases=bases)).encode(correlated(9))
    assert decode(payload).tensor.shape == correlated(9).shape
    monkeypatch.setattr(rotated, "LOADED", {})
    with pytest.raises(CodecError, match="not loaded here"):
        decode(payload)
    monkeypatch.undo()
    load_bases(bases)
    assert decode(payload).tensor.shape == correlated(9).shape


def test_a_copy_elsewhere_is_the_same_file(bases: str, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(Path(bases).read_bytes())
    sender = codec_from(RotatedConfig(bits=2.0, bases=bases))
    receiver = codec_from(RotatedConfig(bits=5.0, bases=str(tmp_path / "copy")))
    payload = sender.encode(correlated(10))
    assert torch.equal(receiver.decode(payload), sender.decode(payload))


def test_wrong_files_are_named(bases: str, tmp_path: Path) -> None:
    for name, tensors in (
        ("singular", {"a": torch.ones(4, 4)}),
        ("sizes", {"a": torch.eye(4), "b": torch.eye(5)}),
        ("oblong", {"a": torch.eye(4)[:2]}),
    ):
        save_file({key: value.clone() for key, value in tensors.items()}, tmp_path / name)
        with pytest.raises(InputError, match="invertible matrices of one size"):
            codec_from(RotatedConfig(bits=2.0, bases=str(tmp_path / name)))
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(InputError, match="cannot be read"):
        codec_from(RotatedConfig(bits=2.0, bases=str(tmp_path / "text")))
    with pytest.raises(InputError, match="does not exist"):
        codec_from(RotatedConfig(bits=2.0, bases=str(tmp_path / "none")))
    with pytest.raises(InputError, match="path of a file of bases"):
        RotatedConfig(bits=2.0)
    with pytest.raises(CodecError, match="32 channels, the tensor has 16"):
        codec_from(RotatedConfig(bits=2.0, bases=bases)).encode(torch.ones(4, 16, 16))


def test_what_is_stretched_gets_the_finer_step(tmp_path: Path) -> None:
    """A direction stretched by 4 keeps a quarter of the others' error."""
    stretch = torch.ones(CHANNELS)
    stretch[3] = 4.0
    save_file({"activation.00": torch.diag(stretch)}, tmp_path / "bases")
    values = np.random.default_rng(1).normal(size=(4096, CHANNELS))
    tensor = torch.tensor(values, dtype=torch.float32)
    config = RotatedConfig(step=0.2, dead_zone=0.5, bases=str(tmp_path / "bases"))
    deviation = (decode(codec_from(config).encode(tensor)).tensor - tensor).square().mean(0).sqrt()
    others = torch.cat([deviation[:3], deviation[4:]]).mean()
    assert float(deviation[3] / others) == pytest.approx(0.25, rel=0.1)


def test_nan_is_refused(bases: str) -> None:
    tensor = correlated(11)
    tensor[0, 0, 0] = torch.nan
    with pytest.raises(CodecError, match="NaN"):
        codec_from(RotatedConfig(bits=2.0, bases=bases)).encode(tensor)


@pytest.mark.parametrize("kind", ["rotated", "rotated-topk"])
@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_damage_ends_in_the_named_error(bases: str, kind: str, data: st.DataObject) -> None:
    """Also behind a right checksum: the inside is cut off, then sealed anew."""
    tensor = correlated(12, rows=64)
    codec = codec_from({"codec": kind, "bits": 2, "bases": bases})
    payload = bytearray(codec.encode(tensor))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CodecError):
        decode(bytes(payload))
    body = bytes(payload[25:])  # header of 13 bytes and three dimensions
    header, _ = unseal(codec.encode(tensor))
    forged = seal(header, [body[: data.draw(st.integers(0, len(body)))]])
    if forged != codec.encode(tensor):
        try:
            received = decode(forged).tensor
        except CodecError:
            return
        assert received.shape == tensor.shape


def test_top_k_keeps_more_in_the_right_directions(bases: str) -> None:
    tensor = correlated(14)
    plain = TopKConfig(keep=0.3, bits=6)
    turned = RotatedTopKConfig(keep=0.3, bits=6, bases=bases)
    payloads = [codec_from(config).encode(tensor) for config in (plain, turned)]
    errors = [float((decode(p).tensor - tensor).square().mean()) for p in payloads]
    assert errors[1] < 0.5 * errors[0]
    assert len(payloads[1]) < len(payloads[0])


def test_top_k_gradient_is_turned_and_nothing_comes_back_for_what_was_dropped(bases: str) -> None:
    """The oracle: with D keeping the sent positions, the gradient is g A^-T D A'."""
    tensor = correlated(15).requires_grad_()
    wanted = correlated(16)
    codec = codec_from(RotatedTopKConfig(keep=0.25, bits=8, bases=bases))
    (through_boundary(codec, tensor, seed=3) * wanted).sum().backward()
    sent = codec.compress(tensor.detach(), seed=3)
    assert sent.support.positions is not None
    mask = torch.zeros(tensor.numel())
    mask[torch.from_numpy(sent.support.positions)] = 1.0
    expected = (wanted @ BASIS * mask.reshape(tensor.shape)) @ BASIS.T
    assert tensor.grad is not None
    off = float((tensor.grad - expected).square().mean() / expected.square().mean())
    assert off < 0.01
    plain = codec_from(TopKConfig(keep=0.25)).compress(tensor.detach())
    with pytest.raises(CodecError, match="not of a rotated payload"):
        codec.compress_gradient(wanted, plain.support)


def test_top_k_about_the_means_spends_nothing_on_what_is_always_there(bases: str) -> None:
    tensor = correlated(19) + 5.0 * orthogonal(7)[0]
    plain = RotatedTopKConfig(keep=0.3, bases=bases)
    centred = RotatedTopKConfig(keep=0.28, centre=True, bases=bases)  # the means cost bytes
    payloads = [codec_from(config).encode(tensor) for config in (plain, centred)]
    errors = [float((decode(p).tensor - tensor).square().mean()) for p in payloads]
    assert errors[1] < 0.5 * errors[0]
    assert len(payloads[1]) <= len(payloads[0])


def test_top_k_is_unbiased_on_what_it_keeps(bases: str) -> None:
    tensor = correlated(17, rows=64)
    codec = codec_from(RotatedTopKConfig(keep=0.2, bits=3, bases=bases))
    positions = codec.compress(tensor).support.positions
    assert positions is not None
    kept = torch.from_numpy(positions)
    draws = [codec.decode(codec.encode(tensor, seed=seed)) @ BASIS for seed in range(200)]
    off = torch.stack(draws).flatten(1)[:, kept] - (tensor @ BASIS).flatten()[kept]
    # a bias would stay when the noise averages out: 200 draws, a 200th of the square
    assert float(off.mean(0).square().mean() / off.square().mean()) == pytest.approx(
        1 / 200, rel=0.4
    )


def test_top_k_in_every_dtype_and_without_bases(bases: str) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        tensor = correlated(18).to(dtype)
        codec = codec_from(RotatedTopKConfig(keep=0.5, bases=bases))
        assert codec.decode(codec.encode(tensor)).dtype is dtype
    with pytest.raises(InputError, match="path of a file of bases"):
        RotatedTopKConfig(keep=0.5)
