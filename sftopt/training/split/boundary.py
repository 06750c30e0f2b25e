"""What crosses the cut: the protocol of a boundary codec, and the codec that changes nothing.

A codec keeps no state between calls, so that a killed run resumes exactly: what the two directions
of one step share (the kept positions) is handed from call to call as ``support``, and what is
random in it comes from ``seed``. Every :class:`sftopt.training.codec.Codec` fits the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from sftopt.training.split.errors import WireError


class EncodedTensor(Protocol):
    """What encoding gives."""

    @property
    def payload(self) -> bytes:
        """Return what is sent."""
        ...

    @property
    def support(self) -> Any:
        """Return what the sender keeps for the gradient; the model hands it on unread."""
        ...


class DecodedTensor(Protocol):
    """What decoding gives."""

    @property
    def tensor(self) -> torch.Tensor:
        """Return the activation (batch, tokens, hidden) as the server sees it."""
        ...

    @property
    def support(self) -> Any:
        """Return what the receiver keeps for the gradient."""
        ...


class BoundaryCodec(Protocol):
    """Tensor -> bytes -> tensor, for both directions of the cut.

    Around one step the device calls ``compress`` and ``decode_gradient``, the server ``expand`` and
    ``compress_gradient`` between them. Positions cross once, upwards. ``decode_gradient`` must give
    zero at what was dropped: a gradient there would teach the device to change what nobody sees.
    Decoders raise an :class:`~sftopt.core.errors.SftoptError` for bytes they cannot read.
    """

    def compress(self, tensor: torch.Tensor, *, seed: int) -> EncodedTensor:
        """Encode the boundary activation as bytes, equation (1)."""
        ...

    def expand(self, payload: bytes) -> DecodedTensor:
        """Decode the activation as the server sees it."""
        ...

    def compress_gradient(
        self, gradient: torch.Tensor, support: Any, *, seed: int
    ) -> EncodedTensor:
        """Encode the gradient of what ``expand`` gave, kept positions only, equation (2)."""
        ...

    def decode_gradient(self, payload: bytes, support: Any) -> torch.Tensor:
        """Decode the gradient of what ``compress`` was given, in its full shape."""
        ...


@dataclass(frozen=True)
class _Encoded:
    payload: bytes
    support: None = None


@dataclass(frozen=True)
class _Decoded:
    tensor: torch.Tensor
    support: None = None


class LosslessCodec:
    """Codec off: every element at its own precision (mode ``none``), bit for bit."""

    def compress(self, tensor: torch.Tensor, *, seed: int) -> EncodedTensor:
        """Encode all elements; ``seed`` is not used."""
        return _Encoded(pack({"activation": tensor}))

    def expand(self, payload: bytes) -> DecodedTensor:
        """Decode the tensor that was sent. Raises WireError for bytes that hold none."""
        return _Decoded(_only(payload, "activation"))

    def compress_gradient(
        self, gradient: torch.Tensor, support: Any, *, seed: int
    ) -> EncodedTensor:
        """Encode all elements; ``support`` and ``seed`` are not used."""
        return _Encoded(pack({"gradient": gradient}))

    def decode_gradient(self, payload: bytes, support: Any) -> torch.Tensor:
        """Decode the gradient that was sent. Raises WireError for bytes that hold none."""
        return _only(payload, "gradient")


def pack(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Serialise named tensors as safetensors bytes; they are copied, never aliased."""
    return save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})


def unpack(payload: bytes) -> dict[str, torch.Tensor]:
    """Read named tensors out of :func:`pack`'s bytes. Raises WireError where they are not such."""
    try:
        return load(payload)
    except (SafetensorError, KeyError, ValueError) as error:
        raise WireError(f"a message of {len(payload)} bytes cannot be read: {error}.") from None


def _only(payload: bytes, name: str) -> torch.Tensor:
    tensors = unpack(payload)
    if set(tensors) != {name}:
        raise WireError(
            f"a message should hold one tensor '{name}'; it holds {sorted(tensors)}. The two ends "
            "are out of step or use different codecs."
        )
    return tensors[name]
