"""Low rank, codebooks and singular vectors: what they keep, what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sftopt.core.errors import InputError
from sftopt.training.bases import write_bases
from sftopt.training.codec import (
    CodebookConfig,
    Codec,
    CodecError,
    LowRankConfig,
    SingularConfig,
    codec_from,
    decode,
)
from sftopt.training.codec.codebook import learnt_books, save_books

CHANNELS = 16
BASIS = torch.linalg.qr(
    torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(0))
)[0]
SPREADS = torch.logspace(0.5, -1.5, CHANNELS)


def correlated(seed: int) -> torch.Tensor:
    values = torch.randn(4, 64, CHANNELS, generator=torch.Generator().manual_seed(seed))
    return values * SPREADS @ BASIS.T + 0.5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learnt")
    names = ("activation.01", "gradient.01")
    write_bases(folder / "bases.safetensors", {name: BASIS.clone() for name in names})
    rows = torch.cat([correlated(seed).reshape(-1, CHANNELS) for seed in range(4)])
    tensors: dict[str, torch.Tensor] = {}
    for name in names:
        tensors |= learnt_books(name, rows, BASIS, width=4, stages=2)
    save_books(folder / "books.safetensors", tensors)
    return folder


def codecs(files: Path) -> dict[str, Codec[object]]:
    return {
        "low-rank": codec_from(
            LowRankConfig(bits=2.0, rank=6, bases=str(files / "bases.safetensors"), cut=1)
        ),
        "codebook": codec_from(CodebookConfig(books=str(files / "books.safetensors"), cut=1)),
        "singular": codec_from(SingularConfig(rank=8, bits=6)),
    }


@pytest.mark.parametrize(
    ("name", "most_error", "bits"), [("low-rank", 0.05, 2.0), ("codebook", 0.12, 4.1),
                                     ("singular", 0.05, 6.0)]
)  # fmt: skip
def test_tensor_and_gradient_come_back_near(
    files: Path, name: str, most_error: float, bits: float
) -> None:
    codec, tensor = codecs(files)[name], correlated(9)
    sent = codec.compress(tensor, seed=1)
    received = codec.expand(sent.payload)
    assert torch.equal(decode(sent.payload).tensor, received.tensor)
    around = (tensor - tensor.mean((0, 1))).square().mean()
    assert float((received.tensor - tensor).square().mean() / around) < most_error
    assert 8 * len(sent.payload) / tensor.numel() < bits
    gradient = 1e-3 * (correlated(10) - 0.5)
    payload = codec.encode_gradient(gradient, received.support, seed=1)
    back = codec.decode_gradient(payload, sent.support)
    assert float((back - gradient).square().mean() / gradient.square().mean()) < 3 * most_error


def test_what_low_rank_leaves_out_is_the_mean(files: Path) -> None:
    """The error along directions that are not kept is their own spread, no more."""
    tensor = correlated(11)
    received = decode(codecs(files)["low-rank"].encode(tensor)).tensor
    off = (received - tensor) @ BASIS
    assert torch.allclose(off[..., 6:].std((0, 1)), SPREADS[6:], rtol=0.2)


def test_damaged_and_foreign_payloads_are_refused(files: Path, tmp_path: Path) -> None:
    for name, codec in codecs(files).items():
        payload = codec.encode(correlated(12), seed=1)
        for cut in (len(payload) // 2, len(payload) - 1):
            with pytest.raises(CodecError):
                codec.decode(payload[:cut])
        with pytest.raises(CodecError, match=r"channels|rank|expected"):
            codec.encode(torch.randn(2, 3, CHANNELS // 2 if name != "singular" else 5))
    with pytest.raises(InputError, match="cannot be read"):
        codec_from(CodebookConfig(books=str(tmp_path / "none")))
    with pytest.raises(InputError, match="file of codebooks is needed"):
        CodebookConfig()
    with pytest.raises(InputError, match="rank = 0"):
        SingularConfig(rank=0)
    with pytest.raises(InputError, match="divisor"):
        learnt_books("activation.01", correlated(0).reshape(-1, CHANNELS), BASIS, 5, 1)
