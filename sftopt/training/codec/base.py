"""What a codec is: tensor -> bytes -> tensor, and the same for the gradient on its way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.codec.container import (
    MAX_ELEMENTS,
    Direction,
    Header,
    Reader,
    check_tensor,
    seal,
    unseal,
)
from sftopt.training.codec.errors import CodecError

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class CodecConfig:
    """Base of the codecs' parameters: frozen, JSON-able, named by the codec they belong to."""

    codec: ClassVar[str]

    def __post_init__(self) -> None:
        faults = self.faults()
        if faults:
            raise InputError(f"codec '{self.codec}': " + "; ".join(faults))

    def faults(self) -> list[str]:
        """List what is wrong with the parameters, in words; empty when nothing is."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the codec's name under ``codec``."""
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        return {"codec": self.codec, **plain}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the configuration that :meth:`to_dict` wrote; unknown names are refused."""
        known = [entry.name for entry in fields(cls)]
        for name in data:
            if name != "codec" and name not in known:
                raise UnknownNameError(f"option of codec '{cls.codec}'", name, known)
        if data.get("codec", cls.codec) != cls.codec:
            raise InputError(f"these are options of codec '{data['codec']}', not '{cls.codec}'")
        return cls(**{name: value for name, value in data.items() if name != "codec"})


def number_within(value: object, low: float, high: float) -> bool:
    """Return whether a parameter, also one read from a file, is a number in the range."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def is_whole(value: object, low: int, high: int) -> bool:
    """Return whether a parameter is a whole number from ``low`` to ``high``."""
    return isinstance(value, int) and number_within(value, low, high)


def flag_faults(name: str, value: object) -> list[str]:
    """List the fault of a parameter that is neither true nor false."""
    return [] if isinstance(value, bool) else [f"{name} = {value!r}, true or false expected"]


@dataclass(frozen=True)
class TokenMerge:
    """Which tokens of each sample were kept, and how the others were averaged into one."""

    kept: NDArray[np.int64]
    """Ascending token numbers, shape (samples, kept tokens)."""
    weights: FloatArray
    """Shape (samples, tokens): share of each token in the merged one; zero for kept tokens."""


@dataclass(frozen=True)
class Support:
    """What crossed the boundary; sender and receiver both know it after a forward payload."""

    shape: tuple[int, ...]
    """Shape of the tensor whose gradient comes back."""
    positions: NDArray[np.int64] | None = None
    """Flat positions of the kept elements, ascending; None: all."""
    merge: TokenMerge | None = None
    """Sender's side of a token selection."""


@dataclass(frozen=True)
class Parts:
    """Where a payload's bits went, the terms of equations (1) and (2)."""

    elements: int
    """E: elements of the tensor that was coded."""
    kept: int
    """Values sent."""
    value_bits: float = 0.0
    """Coded values with their table: kept x eta_q."""
    mask_bits: float = 0.0
    """Coded mask with its model: E omega H2(kept / E)."""
    scale_bits: float = 0.0
    """Group scales, channel centres and scales."""


@dataclass(frozen=True)
class Encoded:
    """A payload with what the sender keeps for the gradient."""

    payload: bytes
    support: Support
    parts: Parts


@dataclass(frozen=True)
class Decoded:
    """A tensor with what the receiver keeps for the gradient."""

    tensor: torch.Tensor
    support: Support


ConfigT = TypeVar("ConfigT", bound=CodecConfig)


class Codec(ABC, Generic[ConfigT]):
    """One way to compress a boundary tensor. Stateless but for ``rest``: the seed is an argument.

    ``encode`` and ``decode`` for the activation, ``encode_gradient`` and ``decode_gradient`` for
    the gradient with respect to what was decoded; the latter returns the gradient with respect to
    what was encoded, zero at every element that was dropped.
    """

    name: ClassVar[str]
    wire_id: ClassVar[int]
    config_class: ClassVar[type[CodecConfig]]
    needs_scores: ClassVar[bool] = False

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    @abstractmethod
    def compress(
        self, tensor: torch.Tensor, *, seed: int = 0, scores: torch.Tensor | None = None
    ) -> Encoded:
        """Encode ``tensor``; ``scores`` (samples, tokens) are for token selection alone.

        Raises :class:`CodecError` for NaN, infinity, and dtypes other than float32, bfloat16 and
        float16.
        """

    @abstractmethod
    def compress_gradient(
        self, gradient: torch.Tensor, support: Support, *, seed: int = 0
    ) -> Encoded:
        """Encode the gradient of a decoded tensor; positions are known and not sent."""

    @abstractmethod
    def expand(
        self,
        payload: bytes,
        *,
        device: torch.device | str = "cpu",
        max_elements: int = MAX_ELEMENTS,
    ) -> Decoded:
        """Decode a forward payload of this codec; raises :class:`CodecError`."""

    @abstractmethod
    def decode_gradient(
        self, payload: bytes, support: Support, *, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Decode the gradient with respect to the encoded tensor; raises :class:`CodecError`."""

    def encode(
        self, tensor: torch.Tensor, *, seed: int = 0, scores: torch.Tensor | None = None
    ) -> bytes:
        """Encode a tensor and return the payload alone."""
        return self.compress(tensor, seed=seed, scores=scores).payload

    def encode_gradient(self, gradient: torch.Tensor, support: Support, *, seed: int = 0) -> bytes:
        """Encode a gradient and return the payload alone."""
        return self.compress_gradient(gradient, support, seed=seed).payload

    def decode(
        self,
        payload: bytes,
        *,
        device: torch.device | str = "cpu",
        max_elements: int = MAX_ELEMENTS,
    ) -> torch.Tensor:
        """Decode a payload and return the tensor alone."""
        return self.expand(payload, device=device, max_elements=max_elements).tensor


class WireCodec(Codec[ConfigT]):
    """A codec with payloads of its own: they say themselves whose they are, and are checked."""

    def compress(
        self, tensor: torch.Tensor, *, seed: int = 0, scores: torch.Tensor | None = None
    ) -> Encoded:
        """Encode a tensor that is checked first; raises :class:`CodecError`."""
        check_tensor(tensor)
        if (scores is not None) != self.needs_scores:
            raise CodecError(
                f"codec '{self.name}' {'needs' if self.needs_scores else 'takes no'} scores"
            )
        return self._compress(tensor, _generator(seed, Direction.FORWARD), scores)

    def compress_gradient(
        self, gradient: torch.Tensor, support: Support, *, seed: int = 0
    ) -> Encoded:
        """Encode a gradient that is checked first; raises :class:`CodecError`."""
        check_tensor(gradient)
        if tuple(gradient.shape) != support.shape:
            raise CodecError(
                f"gradient of shape {tuple(gradient.shape)} for a tensor of {support.shape}"
            )
        return self._compress_gradient(gradient, support, _generator(seed, Direction.GRADIENT))

    def expand(
        self,
        payload: bytes,
        *,
        device: torch.device | str = "cpu",
        max_elements: int = MAX_ELEMENTS,
    ) -> Decoded:
        """Decode a forward payload of this codec; raises :class:`CodecError`."""
        header, reader = self._unseal(payload, Direction.FORWARD, max_elements)
        return self.expand_body(header, reader, torch.device(device))

    def decode_gradient(
        self, payload: bytes, support: Support, *, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Decode the gradient with respect to the encoded tensor; raises :class:`CodecError`."""
        limit = int(np.prod(support.shape))
        header, reader = self._unseal(payload, Direction.GRADIENT, limit)
        return self.expand_gradient_body(header, reader, support, torch.device(device))

    def _unseal(self, payload: bytes, direction: Direction, limit: int) -> tuple[Header, Reader]:
        header, reader = unseal(payload, max_elements=limit)
        if header.codec_id != self.wire_id:
            raise CodecError(f"payload of codec {header.codec_id}, not of '{self.name}'")
        if header.direction is not direction:
            raise CodecError(f"payload is {header.direction.name.lower()}, not {direction.name}")
        return header, reader

    @abstractmethod
    def _compress(
        self, tensor: torch.Tensor, generator: np.random.Generator, scores: torch.Tensor | None
    ) -> Encoded:
        """Encode a checked tensor."""

    @abstractmethod
    def _compress_gradient(
        self, gradient: torch.Tensor, support: Support, generator: np.random.Generator
    ) -> Encoded:
        """Encode a checked gradient."""

    @classmethod
    @abstractmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Decode a forward body onto ``device``; the payload says all, no config is asked."""

    @classmethod
    @abstractmethod
    def expand_gradient_body(
        cls, header: Header, reader: Reader, support: Support, device: torch.device
    ) -> torch.Tensor:
        """Decode a gradient's body into the gradient with respect to the encoded tensor."""

    def _seal(self, tensor: torch.Tensor, direction: Direction, parts: list[bytes]) -> bytes:
        header = Header(self.wire_id, tensor.dtype, direction, tuple(tensor.shape))
        return seal(header, parts)


class EvenCodec(WireCodec[ConfigT]):
    """A codec of both directions alike: every element of a gradient comes back."""

    @abstractmethod
    def _coded(
        self, tensor: torch.Tensor, direction: Direction, generator: np.random.Generator
    ) -> Encoded:
        """Encode a checked tensor, activation or gradient."""

    def _compress(
        self, tensor: torch.Tensor, generator: np.random.Generator, scores: torch.Tensor | None
    ) -> Encoded:
        return self._coded(tensor, Direction.FORWARD, generator)

    def _compress_gradient(
        self, gradient: torch.Tensor, support: Support, generator: np.random.Generator
    ) -> Encoded:
        return self._coded(gradient, Direction.GRADIENT, generator)

    @classmethod
    def expand_gradient_body(
        cls, header: Header, reader: Reader, support: Support, device: torch.device
    ) -> torch.Tensor:
        """Return the gradient, dense: nothing was dropped."""
        if header.shape != support.shape:
            raise CodecError(f"gradient of {header.shape} for a tensor of {support.shape}")
        return cls.expand_body(header, reader, device).tensor


def _generator(seed: int, direction: Direction) -> np.random.Generator:
    """The seeded generator of one payload (SFC64: the fastest NumPy has)."""
    if seed < 0:
        raise InputError(f"seed = {seed}, a number from 0 up expected")
    return np.random.Generator(np.random.SFC64([seed, int(direction)]))


def to_array(tensor: torch.Tensor) -> FloatArray:
    """Copy a tensor to a contiguous float32 array on the host, same shape and unit as the tensor;
    exact for the dtypes that are known.
    """
    array: FloatArray = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return array


def to_tensor(array: FloatArray, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Make a tensor on the host; values beyond float16 become its largest, not infinity."""
    return in_dtype(torch.from_numpy(array).reshape(shape), dtype)


def in_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``tensor`` in ``dtype``; values beyond float16 become its largest, not infinity."""
    return (tensor.clamp(-65504.0, 65504.0) if dtype is torch.float16 else tensor).to(dtype)


REGISTRY: dict[str, type[Codec[Any]]] = {}
"""Codecs by name; each registers itself at the foot of its file."""


def register(codec: type[Codec[Any]]) -> type[Codec[Any]]:
    """Add a codec under its name; wire ids are unique and never reused."""
    if codec.name in REGISTRY or any(codec.wire_id == other.wire_id for other in REGISTRY.values()):
        raise ValueError(f"codec name '{codec.name}' or wire id {codec.wire_id} is taken")
    REGISTRY[codec.name] = codec
    return codec


def codec_from(config: CodecConfig | Mapping[str, Any]) -> Codec[Any]:
    """Make the codec of a configuration, or of its plain data with the name under ``codec``."""
    if isinstance(config, CodecConfig):
        return REGISTRY[config.codec](config)
    name = str(config.get("codec", ""))
    if name not in REGISTRY:
        raise UnknownNameError("codec", name, REGISTRY)
    codec = REGISTRY[name]
    return codec(codec.config_class.from_dict(config))


def decode(
    payload: bytes, *, device: torch.device | str = "cpu", max_elements: int = MAX_ELEMENTS
) -> Decoded:
    """Decode any forward payload: it says itself which codec made it."""
    header, reader = unseal(payload, max_elements=max_elements)
    if header.direction is not Direction.FORWARD:
        raise CodecError("a gradient payload decodes only with the support of its forward payload")
    for codec in REGISTRY.values():
        if issubclass(codec, WireCodec) and codec.wire_id == header.codec_id:
            return codec.expand_body(header, reader, torch.device(device))
    raise CodecError(f"payload of codec {header.codec_id}: unknown")
