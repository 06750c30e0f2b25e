"""The dead-zone quantiser in the directions in which activations really differ (``rotated``).

The channels of a boundary are strongly correlated: in the basis of their covariance's eigenvectors
(Karhunen-Loeve) a few directions carry most of the variance and most need no bit at all. At equal
distortion this saves about one bit per element over channels coded apart. Directions that matter
more to the loss are stretched first, so that the one step of the quantiser is finer there; how a
basis is measured stands in ``sftopt.training.bases``. The bases belong to the model, as its weights
do: they are measured once, before fine-tuning, and stand in a file that both ends hold
(``boundary_bases.safetensors``): a device is sent the two of its cut once, before the first round.

A file has several bases, one per cut and direction; the sender takes that of its cut, or, where it
is not told the cut, the one in which its tensor is most concentrated, and tells its number. A
payload names the file by a mark (``basis_file``); a receiver that has not opened it refuses it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from sftopt.training.codec.base import (
    CodecConfig,
    Decoded,
    Encoded,
    EvenCodec,
    Support,
    WireCodec,
    in_dtype,
    is_whole,
    register,
)
from sftopt.training.codec.basis_file import LOADED, Bases, basis_name, load_bases
from sftopt.training.codec.container import Direction, Header, Reader, unseal
from sftopt.training.codec.ecsq import Ecsq, EcsqConfig
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.sparse import TopK, TopKConfig

BASIS_LAYOUT = struct.Struct("<8sH")
"""Layout of the head of a body: the mark of the bases and the number of the basis."""
_TRIES = 4
"""Most rates tried until the bits allowed are used."""
_NEAR = 0.99
"""Share of the bits allowed that is good enough."""
_MIDDLE = 0.996
"""Share of the bits allowed that is aimed at."""
_LEAST_BITS = 0.05
"""Least entropy per element that is asked for."""
_MOST_TIMES = 1.5
"""Most entropy per element that is asked for, in times of the bits allowed: the sample that the
step is searched on may be richer than the tensor."""
_SIDE_BYTES = 320
"""Bytes of headers and of a few classes' tables in a payload."""
_SIDE_BYTES_PER_CHANNEL = 4.5
"""Bytes of a channel's centre, spread and class in a payload."""


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
    cut: int | None = None
    """Blocks before the boundary: the bases ``activation.CUT`` and ``gradient.CUT`` are used, and
    no other is read. None: for each tensor the fitting basis is searched among all."""

    def faults(self) -> list[str]:
        """List the faults of the parameters; the file is looked at when the codec is made."""
        return super().faults() + _file_faults(self.bases, self.cut)


def at_cut(config: CodecConfig, cut: int) -> CodecConfig:
    """Return ``config`` told of its cut, where it can be told and its file has the cut's bases."""
    if not isinstance(config, (RotatedConfig, RotatedTopKConfig)) or config.cut is not None:
        return config
    known = load_bases(config.bases).names
    if not {basis_name(direction, cut) for direction in Direction} <= set(known):
        return config
    return replace(config, cut=cut)


def _file_faults(bases: object, cut: object) -> list[str]:
    """Faults of what names a basis; the file is looked at when the codec is made."""
    faults = []
    if not isinstance(bases, str) or not bases:
        faults.append("bases: the path of a file of bases is needed")
    if cut is not None and not is_whole(cut, 0, 9999):
        faults.append(f"cut = {cut!r}, a number of blocks expected")
    return faults


class Turn:
    """The file of bases of a codec, and which of them a tensor is turned into."""

    def __init__(self, path: str, cut: int | None) -> None:
        self.bases = load_bases(path)
        self._numbers: dict[Direction, int] = {}
        if cut is not None:
            self._numbers = {which: self.bases.number_of(which, cut) for which in Direction}
            for number in self._numbers.values():
                self.bases.matrix(number)

    def __call__(self, tensor: torch.Tensor, direction: Direction) -> tuple[int, torch.Tensor]:
        """The basis number and the tensor in that basis, float32, where the tensor is."""
        self.bases.check_channels(tensor.shape[-1])
        rows = tensor.detach().float()
        if not bool(torch.isfinite(rows).all()):
            raise CodecError("the tensor holds NaN or infinity")
        number = self._numbers.get(direction)
        if number is None:
            number = self.bases.fitting(rows.reshape(-1, rows.shape[-1]))
        return number, product(rows, self.bases.on(rows.device, number))


def product(tensor: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return ``tensor @ matrix`` over its last dimension."""
    shape = (*tensor.shape[:-1], matrix.shape[1])
    return (tensor.reshape(-1, matrix.shape[0]) @ matrix).reshape(shape)


def opened_bases(
    header: Header,
    reader: Reader,
    wire_id: int,
    direction: Direction,
    place: tuple[Any, ...] | None = None,
    shape: tuple[int, ...] | None = None,
) -> tuple[Bases, int, Header, Reader]:
    """Return bases, number of the basis and the payload inside. Raises CodecError unless all fits.

    ``place`` are mark and number where they were read already, ``shape`` is that of what is inside
    where it is not the header's.
    """
    mark, number = place or reader.unpack(BASIS_LAYOUT, "the basis")
    inner, body = unseal(reader.take(reader.left, "values"), max_elements=header.elements)
    same = inner.shape == (shape or header.shape) and inner.direction is direction
    if inner.codec_id != wire_id or not same:
        raise CodecError("payload damaged: what is inside does not belong there")
    bases = LOADED.get(mark)
    if bases is None:
        raise CodecError(f"payload of bases {mark.hex()}, which are not loaded here")
    if number >= len(bases.names):
        raise CodecError(f"payload damaged: basis {number} of {len(bases.names)}")
    if bases.channels != header.shape[-1]:
        raise CodecError(f"payload damaged: {header.shape[-1]} channels, not {bases.channels}")
    return bases, number, inner, body


@register
class Rotated(EvenCodec[RotatedConfig]):
    """Turn into the basis that fits, then as ``ecsq``; mode ``dense``."""

    name = "rotated"
    wire_id = 7
    config_class = RotatedConfig

    def __init__(self, config: RotatedConfig) -> None:
        super().__init__(config)
        self._turn = Turn(config.bases, config.cut)

    def _coded(
        self, tensor: torch.Tensor, direction: Direction, generator: np.random.Generator
    ) -> Encoded:
        config = self.config
        number, turned = self._turn(tensor, direction)
        head = BASIS_LAYOUT.pack(self._turn.bases.mark, number)
        inner = Ecsq(EcsqConfig(config.bits, config.step, config.dead_zone, config.scaling))
        inside = inner.prepared(turned, Direction.FORWARD)  # what is inside is always that

        def coded(bits: float | None) -> Encoded:
            found = inside(bits)
            payload = self._seal(tensor, direction, [head, found.payload])
            return Encoded(payload, found.support, found.parts)

        if self.config.bits is None:
            return coded(None)
        return within(coded, self.config.bits, tensor.numel(), tensor.shape[-1])

    @classmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Turn back what ``ecsq`` gives. Refuses a payload of bases that are not loaded."""
        bases, number, inner, body = opened_bases(header, reader, Ecsq.wire_id, Direction.FORWARD)
        turned = Ecsq.expand_body(inner, body, device).tensor.float()
        values = product(turned, bases.on(device, number, inverse=True))
        return Decoded(in_dtype(values, header.dtype), Support(header.shape))


def within(coded: Callable[[float], Encoded], bits: float, elements: int, channels: int) -> Encoded:
    """Return the payload whose size is at most, and nearly, ``bits`` per element.

    Side information is known beforehand but for the tables: the entropy asked for leaves room for
    it, and is lowered by what the payload was too large, or raised likewise. Mostly the first
    payload fits.
    """
    side_bits = 8.0 * (_SIDE_BYTES + _SIDE_BYTES_PER_CHANNEL * channels) / elements
    target, best = _MIDDLE * bits - side_bits, None
    for _ in range(_TRIES):
        made = coded(min(max(target, _LEAST_BITS), _MOST_TIMES * bits))
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
    cut: int | None = None
    """As of ``rotated``."""

    def faults(self) -> list[str]:
        """List the faults of the parameters; the file is looked at when the codec is made."""
        return super().faults() + _file_faults(self.bases, self.cut)


@dataclass(frozen=True)
class TurnedSupport(Support):
    """Positions in a basis, and which one that is."""

    number: int = 0


@register
class RotatedTopK(WireCodec[RotatedTopKConfig]):
    """Turn into the basis that fits, then Top-K, quantise and code as ``topk``; mode ``topk``.

    The gradient comes back for the kept values alone: it is the gradient in the turned space,
    where the dropped positions are zero, turned back.
    """

    name = "rotated-topk"
    wire_id = 8
    config_class = RotatedTopKConfig

    def __init__(self, config: RotatedTopKConfig) -> None:
        super().__init__(config)
        self._turn = Turn(config.bases, config.cut)
        plain = {field.name: getattr(config, field.name) for field in fields(TopKConfig)}
        self._inner = TopK(TopKConfig(**plain))

    def _compress(
        self, tensor: torch.Tensor, generator: np.random.Generator, scores: torch.Tensor | None
    ) -> Encoded:
        number, turned = self._turn(tensor, Direction.FORWARD)
        found = self._inner.compress(turned, seed=_seed(generator))
        head = BASIS_LAYOUT.pack(self._turn.bases.mark, number)
        payload = self._seal(tensor, Direction.FORWARD, [head, found.payload])
        support = TurnedSupport(found.support.shape, found.support.positions, number=number)
        return Encoded(payload, support, found.parts)

    def _compress_gradient(
        self, gradient: torch.Tensor, support: Support, generator: np.random.Generator
    ) -> Encoded:
        if not isinstance(support, TurnedSupport):
            raise CodecError("this support is not of a rotated payload")
        inverse = self._turn.bases.on(gradient.device, support.number, inverse=True)
        turned = product(gradient.detach().float(), inverse.T)
        found = self._inner.compress_gradient(turned, support, seed=_seed(generator))
        head = BASIS_LAYOUT.pack(self._turn.bases.mark, support.number)
        payload = self._seal(gradient, Direction.GRADIENT, [head, found.payload])
        return Encoded(payload, support, found.parts)

    @classmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Turn back what ``topk`` gives."""
        bases, number, inner, body = opened_bases(header, reader, TopK.wire_id, header.direction)
        found = TopK.expand_body(inner, body, device)
        values = product(found.tensor.float(), bases.on(device, number, inverse=True))
        support = TurnedSupport(found.support.shape, found.support.positions, number=number)
        return Decoded(in_dtype(values, header.dtype), support)

    @classmethod
    def expand_gradient_body(
        cls, header: Header, reader: Reader, support: Support, device: torch.device
    ) -> torch.Tensor:
        """Return the gradient at the kept values, turned back."""
        if header.shape != support.shape:
            raise CodecError(f"gradient of {header.shape} for a tensor of {support.shape}")
        bases, number, inner, body = opened_bases(header, reader, TopK.wire_id, header.direction)
        if not isinstance(support, TurnedSupport) or support.number != number:
            raise CodecError("payload of another basis than its activation's")
        turned = TopK.expand_gradient_body(inner, body, support, device).float()
        return in_dtype(product(turned, bases.on(device, number).T), header.dtype)


def _seed(generator: np.random.Generator) -> int:
    """A seed for the codec inside."""
    return int(generator.integers(2**62))
