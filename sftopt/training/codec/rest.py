"""Only what the other end does not know: padding stays off the wire, and so may the last visit.

Two things are known at both ends before a boundary crosses. Which tokens are padding: the attention
mask travels with the labels, nobody attends to those tokens, and their gradient is zero. And, where
samples return (a fixed set visited in epochs), what a sample's activation was at its last visit: it
drifts little between two visits, so the difference is coded in its place, as in AQ-SGD
(arXiv 2206.01299), SplitCom (2602.10564) and SplitLite (2608.23018). Both ends add up the same
differences; what an end remembers is float16, and is part of its memory and of the checkpoint.

Any other codec codes the rest. The gradient has no memory. Held-out samples, and those that come
for the first time, are coded whole, by ``first``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.codec.base import (
    REGISTRY,
    Codec,
    CodecConfig,
    Decoded,
    Encoded,
    Support,
    codec_from,
    flag_faults,
    in_dtype,
    register,
)
from sftopt.training.codec.base import decode as decoded_by_any
from sftopt.training.codec.codebook import CodebookConfig
from sftopt.training.codec.container import MAX_ELEMENTS
from sftopt.training.codec.ecsq import EcsqConfig
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.rotated import at_cut
from sftopt.training.codec.visits import Visits

_MOST_BITS = 10.0
"""Most bits per element that a codec inside is asked for."""


@dataclass(frozen=True)
class Known:
    """What both ends know of a batch besides its boundary."""

    samples: torch.Tensor | None = None
    """Number of each sample, its own for the whole run, shape (samples,); None: none returns."""
    mask: torch.Tensor | None = None
    """Not zero where a token counts, shape (samples, tokens); None: all do."""


@dataclass(frozen=True)
class RestConfig(CodecConfig):
    """The codec inside, by direction and visit, and what is left out.

    As plain data flat: ``inner`` is the name of the codec inside, other names are its options, and
    those that begin with ``first_`` and ``gradient_`` change them there. ``bits`` of ``ecsq`` and
    ``rotated`` count per element of the whole boundary, padding included.
    """

    codec = "rest"

    inner: CodecConfig
    """Codes the activation."""
    first: CodecConfig
    """Codes the activation of samples that are not known yet, and held-out ones."""
    gradient: CodecConfig
    """Codes the gradient."""
    padding: bool = True
    """Leave padding out."""
    memory: bool = False
    """Code the difference to a sample's last visit."""

    def faults(self) -> list[str]:
        """List the faults of the parameters; the codecs inside have told theirs."""
        faults = flag_faults("padding", self.padding) + flag_faults("memory", self.memory)
        for name in ("inner", "first", "gradient"):
            kind = REGISTRY[getattr(self, name).codec]
            if kind.needs_scores or kind is Rest:
                faults.append(f"{name}: codec '{kind.name}' cannot be inside")
        return faults

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, flat as :meth:`from_dict` takes it."""
        own = {"codec": self.codec, "padding": self.padding, "memory": self.memory}
        inside = self.inner.to_dict()
        plain = {"inner": inside.pop("codec"), **inside}
        for name in ("first", "gradient"):
            other = getattr(self, name).to_dict()
            other.pop("codec")
            plain |= {f"{name}_{k}": v for k, v in other.items() if v != inside[k]}
        return {**own, **plain}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the configuration of flat plain data; unknown names are refused."""
        if data.get("codec", cls.codec) != cls.codec:
            raise InputError(f"these are options of codec '{data['codec']}', not '{cls.codec}'")
        given = {name: value for name, value in data.items() if name != "codec"}
        name = str(given.pop("inner", "rotated"))
        if name not in REGISTRY or name == cls.codec:
            raise UnknownNameError("codec inside", name, [n for n in REGISTRY if n != cls.codec])
        kind = REGISTRY[name].config_class
        own = {flag: given.pop(flag) for flag in ("padding", "memory") if flag in given}
        options = {field.name for field in fields(kind)}
        changed: dict[str, dict[str, Any]] = {"first": {}, "gradient": {}}
        for option in list(given):
            where, _, rest = option.partition("_")
            if option not in options and where in changed and rest in options:
                changed[where][rest] = given.pop(option)
        return cls(
            kind.from_dict(given),
            kind.from_dict({**given, **changed["first"]}),
            kind.from_dict({**given, **changed["gradient"]}),
            **own,
        )


def told_of_cut(config: CodecConfig, cut: int) -> CodecConfig:
    """Return ``config``, and codecs inside it, told of their cut where they can be."""
    if isinstance(config, RestConfig):
        return replace(
            config,
            inner=_told_of_cut(config.inner, cut),
            first=_told_of_cut(config.first, cut),
            gradient=_told_of_cut(config.gradient, cut),
        )
    return _told_of_cut(config, cut)


def _told_of_cut(config: CodecConfig, cut: int) -> CodecConfig:
    if isinstance(config, CodebookConfig) and config.cut is None:
        return replace(config, cut=cut)
    return at_cut(config, cut)


@dataclass(frozen=True)
class RestSupport(Support):
    """What crossed: the codec inside has its own support, over the tokens that count."""

    inside: Support | None = None
    rows: torch.Tensor | None = None
    """True where a token counts, shape (samples, tokens); None: all do."""


@register
class Rest(Codec[RestConfig]):
    """Another codec on what the other end does not know. Its payloads are the other codec's."""

    name = "rest"
    wire_id = 9  # never on the wire
    config_class = RestConfig

    def __init__(self, config: RestConfig) -> None:
        super().__init__(config)
        self.visits = Visits()

    def compress(
        self,
        tensor: torch.Tensor,
        *,
        seed: int = 0,
        scores: torch.Tensor | None = None,
        known: Known | None = None,
    ) -> Encoded:
        """Encode what is not known of ``tensor``; what is sent is proposed to the memory."""
        if scores is not None:
            raise CodecError(f"codec '{self.name}' takes no scores")
        rows, samples = self._told(known)
        past = None if samples is None else self.visits.of(samples, tensor)
        rest = tensor if past is None else (tensor.detach().float() - past).to(tensor.dtype)
        config = self._forward_config(samples)
        sent = _counting(rest, rows)
        found = codec_from(_within_whole(config, rest, sent)).compress(sent, seed=seed)
        if samples is not None and past is not None:
            received = decoded_by_any(found.payload, device=tensor.device).tensor
            self.visits.propose(samples, past + _whole(received, rows, tensor.shape).float())
        support = RestSupport(tuple(tensor.shape), None, None, found.support, rows)
        return Encoded(found.payload, support, replace(found.parts, elements=tensor.numel()))

    def expand(
        self,
        payload: bytes,
        *,
        device: torch.device | str = "cpu",
        max_elements: int = MAX_ELEMENTS,
        known: Known | None = None,
    ) -> Decoded:
        """Decode a payload and add what is known; what was sent is proposed to the memory."""
        rows, samples = self._told(known)
        found = decoded_by_any(payload, device=device, max_elements=max_elements)
        shape = _shape(found.tensor, rows)
        tensor = _whole(found.tensor, rows, shape)
        if samples is not None:
            if len(samples) != shape[0]:
                raise CodecError(f"{len(samples)} numbers for {shape[0]} samples")
            whole = self.visits.of(samples, tensor) + tensor.float()
            self.visits.propose(samples, whole)
            tensor = in_dtype(whole, tensor.dtype)
        return Decoded(tensor, RestSupport(shape, None, None, found.support, rows))

    def compress_gradient(
        self, gradient: torch.Tensor, support: Support, *, seed: int = 0
    ) -> Encoded:
        """Encode the gradient at the tokens that count."""
        inside = _inside(support, gradient.shape)
        sent = _counting(gradient, inside.rows)
        codec = codec_from(_within_whole(self.config.gradient, gradient, sent))
        assert inside.inside is not None
        found = codec.compress_gradient(sent, inside.inside, seed=seed)
        return Encoded(found.payload, support, replace(found.parts, elements=gradient.numel()))

    def decode_gradient(
        self, payload: bytes, support: Support, *, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Decode the gradient; zero at padding."""
        inside = _inside(support, support.shape)
        assert inside.inside is not None
        found = codec_from(self.config.gradient).decode_gradient(
            payload, inside.inside, device=device
        )
        return _whole(found, inside.rows, support.shape)

    def _told(self, known: Known | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Which tokens count and the samples' numbers, as far as this codec uses them."""
        if known is None:
            return None, None
        mask = known.mask if self.config.padding else None
        rows = None if mask is None or bool((mask != 0).all()) else mask != 0
        return rows, known.samples if self.config.memory else None

    def _forward_config(self, samples: torch.Tensor | None) -> CodecConfig:
        returns = samples is not None and self.visits.known(samples)
        return self.config.inner if returns else self.config.first


def _within_whole(config: CodecConfig, whole: torch.Tensor, sent: torch.Tensor) -> CodecConfig:
    """``config`` with its bits per element of the whole turned into those of what is sent."""
    if not isinstance(config, EcsqConfig) or config.bits is None:
        return config
    return replace(config, bits=min(config.bits * whole.numel() / sent.numel(), _MOST_BITS))


def _counting(tensor: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    """The tokens that count as one sample, (1, tokens that count, hidden)."""
    if rows is None:
        return tensor
    if rows.shape != tensor.shape[:2]:
        raise CodecError(f"a mask of {tuple(rows.shape)} for a tensor of {tuple(tensor.shape)}")
    return tensor[rows.to(tensor.device)].unsqueeze(0)


def _shape(tensor: torch.Tensor, rows: torch.Tensor | None) -> tuple[int, ...]:
    """Shape of the boundary of which ``tensor`` holds the tokens that count."""
    if rows is None:
        return tuple(tensor.shape)
    expected = (1, int(rows.sum()))
    if tensor.dim() != 3 or tuple(tensor.shape[:2]) != expected:
        raise CodecError(f"a payload of {tuple(tensor.shape)} where {expected} tokens count")
    return (*rows.shape, tensor.shape[-1])


def _whole(tensor: torch.Tensor, rows: torch.Tensor | None, shape: tuple[int, ...]) -> torch.Tensor:
    """The tokens that count in their places, zero elsewhere."""
    if rows is None:
        return tensor
    full = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
    full[rows.to(tensor.device)] = tensor[0]
    return full


def _inside(support: Support, shape: tuple[int, ...]) -> RestSupport:
    if not isinstance(support, RestSupport) or support.inside is None:
        raise CodecError("this support is not of a payload of codec 'rest'")
    if support.shape != tuple(shape):
        raise CodecError(f"gradient of shape {tuple(shape)} for a tensor of {support.shape}")
    return support
