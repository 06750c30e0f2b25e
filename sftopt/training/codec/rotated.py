"""The dead-zone quantiser in the directions in which activations really differ (``rotated``).

The channels of a boundary are strongly correlated: in the basis of their covariance's eigenvectors
(Karhunen-Loeve) a few directions carry most of the variance and most need no bit at all. At equal
distortion this saves about one bit per element over channels coded apart. Directions that matter
more to the loss are stretched first, so that the one step of the quantiser is finer there; how a
basis is measured stands in ``sftopt.training.bases``. The bases belong to the model, as its weights
do: they are measured once, before fine-tuning, and stand in a file that both ends hold
(``boundary_bases.safetensors``), so they cost no traffic.

A file has several bases, one per cut and direction; the sender takes the one in which its tensor is
most concentrated and tells its number. A payload names the file by the first 8 bytes of its
sha256; a receiver that has not loaded that file refuses it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load

from sftopt.core.errors import InputError
from sftopt.training.codec.base import (
    Codec,
    Decoded,
    Encoded,
    FloatArray,
    Support,
    register,
    to_array,
)
from sftopt.training.codec.container import Direction, Header, Reader, unseal
from sftopt.training.codec.ecsq import Ecsq, EcsqConfig
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.sparse import TopK, TopKConfig

BASES_NAME = "boundary_bases.safetensors"
"""Of the file beside a model's weights."""

_LAYOUT = struct.Struct("<8sH")
"""Layout of the head of a body: the mark of the bases and the number of the basis."""
_ROWS = 2048
"""Rows that the basis is chosen from."""
_FLOOR = 1e-3
"""Least variance, as a share of the mean one: below, a direction costs next to nothing anyway."""
_TRIES = 4
"""Most rates tried until the bits allowed are used."""
_NEAR = 0.99
"""Share of the bits allowed that is good enough."""
_MIDDLE = 0.996
"""Share of the bits allowed that is aimed at."""
_LEAST_BITS = 0.05
"""Least entropy per element that is asked for."""
_WORST_CONDITION = 1e4
"""Largest condition number of a basis: beyond, single precision would show."""


@dataclass(frozen=True)
class RotatedConfig(EcsqConfig):
    """The dead-zone quantiser's parameters and the file of bases.

    ``bits`` is here what the whole payload may take per element, header and side information
    included; it is met from below.
    """

    codec = "rotated"

    scaling: float = 0.0
    """As in ``ecsq``; 0, one step for all directions, is what makes the rotation pay."""
    bases: str = ""
    """Path of the file of bases, at either end a copy of the same."""

    def faults(self) -> list[str]:
        """List the faults of the parameters; the file is looked at when the codec is made."""
        faults = super().faults()
        if not isinstance(self.bases, str) or not self.bases:
            faults.append("bases: the path of a file of bases is needed")
        return faults


@dataclass(frozen=True)
class Bases:
    """The content of a file: matrices (channels, channels) with directions in columns."""

    mark: bytes
    """First 8 bytes of the file's sha256."""
    matrices: tuple[FloatArray, ...]
    """Those of activations by cut, then those of gradients; in the order of their names."""
    inverses: tuple[FloatArray, ...]

    def fitting(self, rows: FloatArray) -> int:
        """Return the index of the basis in which ``rows`` (rows, channels) are most
        concentrated.
        """
        sample = rows[:: max(1, rows.shape[0] // _ROWS)].astype(np.float64)
        sample -= sample.mean(axis=0)
        scores = []
        for matrix, inverse in zip(self.matrices, self.inverses, strict=True):
            if matrix.shape[0] != rows.shape[1]:
                raise CodecError(
                    f"the bases are of {matrix.shape[0]} channels, the tensor has {rows.shape[1]}"
                )
            variances = np.mean(np.square(sample @ matrix), axis=0)
            floor = _FLOOR * float(variances.mean()) + 1e-300
            # at the same volume of the quantiser's cell
            volume = float(np.linalg.slogdet(inverse)[1]) / inverse.shape[0]
            scores.append(float(np.mean(np.log(variances + floor))) + 2.0 * volume)
        return int(np.argmin(scores))


_LOADED: dict[bytes, Bases] = {}
"""Bases by file, read once."""


def load_bases(path: str | os.PathLike[str]) -> Bases:
    """Read a file of bases; payloads made with it can be decoded from then on.

    Raises InputError for a file that is missing, damaged, or holds other than invertible matrices.
    """
    file = Path(path).expanduser()
    try:
        stat = file.stat()
    except OSError:
        raise InputError(
            f"file of bases '{file}' does not exist. `sftopt pretrain` writes one beside the model;"
            " for other models see sftopt.training.bases."
        ) from None
    bases = _read(str(file), stat.st_mtime_ns, stat.st_size)
    _LOADED[bases.mark] = bases
    return bases


@lru_cache(maxsize=16)
def _read(path: str, modified_ns: int, size: int) -> Bases:
    """Cached as long as the file is not touched."""
    try:
        content = Path(path).read_bytes()
        tensors = load(content)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"file of bases '{path}' cannot be read: {error}.") from None
    matrices = [tensors[name].float().numpy() for name in sorted(tensors)]
    sizes = {matrix.shape for matrix in matrices}
    if len(sizes) != 1 or not all(_is_invertible(matrix) for matrix in matrices):
        raise InputError(f"file of bases '{path}' must hold invertible matrices of one size.")
    inverses = [np.linalg.inv(matrix.astype(np.float64)).astype(np.float32) for matrix in matrices]
    return Bases(hashlib.sha256(content).digest()[:8], tuple(matrices), tuple(inverses))


def _is_invertible(matrix: NDArray[np.float32]) -> bool:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        return False
    return bool(np.linalg.cond(matrix.astype(np.float64)) < _WORST_CONDITION)


def _turned(bases: Bases, tensor: torch.Tensor) -> tuple[int, torch.Tensor]:
    """The number of the fitting basis and the tensor in it, float32."""
    rows = to_array(tensor).reshape(-1, tensor.shape[-1])
    if not np.isfinite(rows).all():
        raise CodecError("the tensor holds NaN or infinity")
    number = bases.fitting(rows)
    return number, torch.from_numpy(rows @ bases.matrices[number]).reshape(tensor.shape)


def _opened(
    header: Header, reader: Reader, wire_id: int, direction: Direction
) -> tuple[Bases, int, Header, Reader]:
    """Bases, basis number and the payload inside; raises CodecError unless all of it fits."""
    mark, number = reader.unpack(_LAYOUT, "the basis")
    inner, body = unseal(reader.take(reader.left, "values"), max_elements=header.elements)
    same = inner.shape == header.shape and inner.direction is direction
    if inner.codec_id != wire_id or not same:
        raise CodecError("payload damaged: what is inside does not belong there")
    bases = _LOADED.get(mark)
    if bases is None:
        raise CodecError(f"payload of bases {mark.hex()}, which are not loaded here")
    if number >= len(bases.matrices):
        raise CodecError(f"payload damaged: basis {number} of {len(bases.matrices)}")
    channels = bases.matrices[number].shape[0]
    if channels != header.shape[-1]:
        raise CodecError(f"payload damaged: {header.shape[-1]} channels, not {channels}")
    return bases, number, inner, body


def _in_dtype(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (values.clamp(-65504.0, 65504.0) if dtype is torch.float16 else values).to(dtype)


@register
class Rotated(Codec[RotatedConfig]):
    """Turn into the basis that fits, then as ``ecsq``; mode ``dense``."""

    name = "rotated"
    wire_id = 7
    config_class = RotatedConfig

    def __init__(self, config: RotatedConfig) -> None:
        super().__init__(config)
        self._bases = load_bases(config.bases)

    def _compress(
        self, tensor: torch.Tensor, generator: np.random.Generator, scores: torch.Tensor | None
    ) -> Encoded:
        return self._coded(tensor, Direction.FORWARD)

    def _compress_gradient(
        self, gradient: torch.Tensor, support: Support, generator: np.random.Generator
    ) -> Encoded:
        return self._coded(gradient, Direction.GRADIENT)

    def _coded(self, tensor: torch.Tensor, direction: Direction) -> Encoded:
        number, turned = _turned(self._bases, tensor)
        head = _LAYOUT.pack(self._bases.mark, number)

        def coded(bits: float | None) -> Encoded:
            config = self.config
            inner = Ecsq(EcsqConfig(bits, config.step, config.dead_zone, config.scaling))
            found = inner.compress(turned)
            payload = self._seal(tensor, direction, [head, found.payload])
            return Encoded(payload, found.support, found.parts)

        if self.config.bits is None:
            return coded(None)
        return _within(coded, self.config.bits, tensor.numel())

    @classmethod
    def expand_body(cls, header: Header, reader: Reader) -> Decoded:
        """Turn back what ``ecsq`` gives. Refuses a payload of bases that are not loaded."""
        bases, number, inner, body = _opened(header, reader, Ecsq.wire_id, Direction.FORWARD)
        turned = Ecsq.expand_body(inner, body).tensor.float()
        values = turned @ torch.from_numpy(bases.inverses[number])
        return Decoded(_in_dtype(values, header.dtype), Support(header.shape))

    @classmethod
    def expand_gradient_body(cls, header: Header, reader: Reader, support: Support) -> torch.Tensor:
        """Return the gradient, dense: nothing was dropped."""
        if header.shape != support.shape:
            raise CodecError(f"gradient of {header.shape} for a tensor of {support.shape}")
        return cls.expand_body(header, reader).tensor


def _within(coded: Callable[[float], Encoded], bits: float, elements: int) -> Encoded:
    """The payload whose size is at most, and nearly, ``bits`` per element.

    Side information (centres, tables) is not known beforehand: where it matters, in small tensors,
    the entropy asked for is lowered by what the payload was too large, and raised likewise.
    """
    target, best = bits, None
    for _ in range(_TRIES):
        made = coded(min(max(target, _LEAST_BITS), bits))
        size = 8.0 * len(made.payload) / elements
        if size <= bits and (best is None or len(made.payload) > len(best.payload)):
            best = made
        if _NEAR * bits <= size <= bits or (target <= _LEAST_BITS and size > bits):
            break
        target -= 1.02 * (size - _MIDDLE * bits)
    return made if best is None else best


@dataclass(frozen=True)
class RotatedTopKConfig(TopKConfig):
    """The published chain's parameters and the file of bases.

    One scale for all (``group``) lets the coder pay for each direction by its spread; many bits
    cost little then, since most values are small.
    """

    codec = "rotated-topk"

    bits: int = 7
    group: int | None = 2**20
    bases: str = ""
    """As of ``rotated``."""

    def faults(self) -> list[str]:
        """List the faults of the parameters; the file is looked at when the codec is made."""
        faults = super().faults()
        if not isinstance(self.bases, str) or not self.bases:
            faults.append("bases: the path of a file of bases is needed")
        return faults


@dataclass(frozen=True)
class TurnedSupport(Support):
    """Positions in a basis, and which one that is."""

    number: int = 0


@register
class RotatedTopK(Codec[RotatedTopKConfig]):
    """Turn into the basis that fits, then Top-K, quantise and code as ``topk``; mode ``topk``.

    The gradient comes back for the kept values alone: it is the gradient in the turned space,
    where the dropped positions are zero, turned back.
    """

    name = "rotated-topk"
    wire_id = 8
    config_class = RotatedTopKConfig

    def __init__(self, config: RotatedTopKConfig) -> None:
        super().__init__(config)
        self._bases = load_bases(config.bases)
        plain = {field.name: getattr(config, field.name) for field in fields(TopKConfig)}
        self._inner = TopK(TopKConfig(**plain))

    def _compress(
        self, tensor: torch.Tensor, generator: np.random.Generator, scores: torch.Tensor | None
    ) -> Encoded:
        number, turned = _turned(self._bases, tensor)
        found = self._inner.compress(turned, seed=_seed(generator))
        head = _LAYOUT.pack(self._bases.mark, number)
        payload = self._seal(tensor, Direction.FORWARD, [head, found.payload])
        support = TurnedSupport(found.support.shape, found.support.positions, number=number)
        return Encoded(payload, support, found.parts)

    def _compress_gradient(
        self, gradient: torch.Tensor, support: Support, generator: np.random.Generator
    ) -> Encoded:
        if not isinstance(support, TurnedSupport):
            raise CodecError("this support is not of a rotated payload")
        inverse = torch.from_numpy(self._bases.inverses[support.number])
        turned = gradient.detach().cpu().float() @ inverse.T
        found = self._inner.compress_gradient(turned, support, seed=_seed(generator))
        head = _LAYOUT.pack(self._bases.mark, support.number)
        payload = self._seal(gradient, Direction.GRADIENT, [head, found.payload])
        return Encoded(payload, support, found.parts)

    @classmethod
    def expand_body(cls, header: Header, reader: Reader) -> Decoded:
        """Turn back what ``topk`` gives."""
        bases, number, inner, body = _opened(header, reader, TopK.wire_id, header.direction)
        found = TopK.expand_body(inner, body)
        values = found.tensor.float() @ torch.from_numpy(bases.inverses[number])
        support = TurnedSupport(found.support.shape, found.support.positions, number=number)
        return Decoded(_in_dtype(values, header.dtype), support)

    @classmethod
    def expand_gradient_body(cls, header: Header, reader: Reader, support: Support) -> torch.Tensor:
        """Return the gradient at the kept values, turned back."""
        if header.shape != support.shape:
            raise CodecError(f"gradient of {header.shape} for a tensor of {support.shape}")
        bases, number, inner, body = _opened(header, reader, TopK.wire_id, header.direction)
        if not isinstance(support, TurnedSupport) or support.number != number:
            raise CodecError("payload of another basis than its activation's")
        turned = TopK.expand_gradient_body(inner, body, support).float()
        return _in_dtype(turned @ torch.from_numpy(bases.matrices[number]).T, header.dtype)


def _seed(generator: np.random.Generator) -> int:
    """A seed for the codec inside."""
    return int(generator.integers(2**62))
