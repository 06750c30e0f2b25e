"""Files of bases: a cut's two matrices alone are read, and what was not written is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sftopt.core.errors import InputError
from sftopt.training.codec import RotatedConfig, TopKConfig, basis_file, codec_from, decode
from sftopt.training.codec.basis_file import load_bases, save_bases
from sftopt.training.codec.container import Direction
from sftopt.training.codec.rotated import at_cut

CHANNELS = 16
NAMES = [f"{kind}.{cut:02d}" for kind in ("activation", "gradient") for cut in range(4)]


def orthogonal(seed: int) -> torch.Tensor:
    matrix = np.random.default_rng(seed).normal(size=(CHANNELS, CHANNELS))
    return torch.tensor(np.linalg.qr(matrix)[0], dtype=torch.float32)


BASES = {name: orthogonal(seed) for seed, name in enumerate(NAMES)}


def concentrated(name: str) -> torch.Tensor:
    """A tensor with few large directions in the basis ``name``."""
    values = np.random.default_rng(9).normal(size=(4, 64, CHANNELS))
    spreads = torch.logspace(1.0, -1.0, CHANNELS)
    return torch.tensor(values, dtype=torch.float32) * spreads @ BASES[name].T


@pytest.fixture
def path(tmp_path: Path) -> str:
    save_bases(tmp_path / "bases", BASES)
    return str(tmp_path / "bases")


def test_a_cut_reads_its_two_matrices_and_needs_no_search(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = basis_file.Bases._read

    def recorded(self: basis_file.Bases, number: int) -> Any:
        read.append(self.names[number])
        return original(self, number)

    monkeypatch.setattr(basis_file.Bases, "_read", recorded)
    codec = codec_from(RotatedConfig(bits=2.0, bases=path, cut=2))
    tensor = concentrated("activation.02")
    sent = codec.compress(tensor)
    codec.encode_gradient(tensor, sent.support)
    assert read == ["activation.02", "gradient.02"]
    searched = codec_from(RotatedConfig(bits=2.0, bases=path))
    assert searched.encode(tensor) == sent.payload


def test_a_cut_says_the_direction_too(path: str) -> None:
    bases = load_bases(path)
    assert [bases.names[bases.number_of(which, 3)] for which in Direction] == [
        "activation.03",
        "gradient.03",
    ]
    with pytest.raises(InputError, match=r"no 'activation\.07'; it has activation\.00"):
        codec_from(RotatedConfig(bits=2.0, bases=path, cut=7))
    with pytest.raises(InputError, match="cut = -1"):
        RotatedConfig(bits=2.0, bases=path, cut=-1)


def test_configurations_are_told_the_cut_where_the_file_has_it(path: str) -> None:
    config = RotatedConfig(bits=2.0, bases=path)
    assert at_cut(config, 1) == RotatedConfig(bits=2.0, bases=path, cut=1)
    assert at_cut(config, 4) is config
    assert at_cut(RotatedConfig(bits=2.0, bases=path, cut=0), 1).to_dict()["cut"] == 0
    assert at_cut(TopKConfig(), 1) == TopKConfig()


def test_a_matrix_that_was_changed_is_refused(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[-2] ^= 1  # of the last matrix
    Path(path).write_bytes(bytes(content))
    codec_from(RotatedConfig(bits=2.0, bases=path, cut=0))
    with pytest.raises(InputError, match=r"'gradient\.03' is not what was written"):
        codec_from(RotatedConfig(bits=2.0, bases=path, cut=3))


def test_matrices_without_inverse_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="invertible"):
        save_bases(tmp_path / "bases", {"activation.00": torch.ones(4, 4)})
    assert not (tmp_path / "bases").exists()


def test_determinants_come_from_the_manifest(path: str) -> None:
    stretched = {name: 2.0 * value for name, value in BASES.items()}
    save_bases(Path(path), stretched)
    bases = load_bases(path)
    assert bases.log_determinant(5) == pytest.approx(CHANNELS * np.log(2.0), rel=1e-6)


def test_payloads_name_the_matrices_not_the_place(path: str, tmp_path: Path) -> None:
    other = {name: BASES[name].flip(0) for name in NAMES}
    save_bases(tmp_path / "other", other)
    save_bases(tmp_path / "again", BASES)
    marks = [load_bases(tmp_path / name).mark for name in ("bases", "other", "again")]
    assert marks[0] == marks[2] != marks[1]
    tensor = concentrated("activation.01")
    payload = codec_from(RotatedConfig(bits=3.0, bases=path, cut=1)).encode(tensor)
    received = decode(payload).tensor
    assert float((received - tensor).square().mean() / tensor.square().mean()) < 0.1
