"""Codecs that fill a budget: the setting of each that sends at most so many bits per element.

A budget is the mean of both directions in bits per element of the whole boundary, headers, tables
and side information included. Codecs whose rate is an option of theirs take it; of the others the
option that decides on the bytes (keep fraction, tokens, rank) is searched on a boundary of the base
model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.books import books_width
from sftopt.training.codec import (
    CodebookConfig,
    CodecConfig,
    EcsqConfig,
    LowRankConfig,
    QuantiseConfig,
    RandTopKConfig,
    RestConfig,
    RotatedConfig,
    RotatedTopKConfig,
    SingularConfig,
    TokensConfig,
    TokenSelection,
    TopKConfig,
    codec_from,
    load_bases,
)
from sftopt.training.codec.rest import told_of_cut
from sftopt.training.split import known

RATES = (2.0, 1.0, 0.5)
"""Budgets of a codec that is named without one, in bits per element."""
CODECS = (
    RotatedConfig.codec, RestConfig.codec, LowRankConfig.codec, EcsqConfig.codec, TopKConfig.codec,
    RandTopKConfig.codec, RotatedTopKConfig.codec, CodebookConfig.codec, QuantiseConfig.codec,
    SingularConfig.codec, TokensConfig.codec,
)  # fmt: skip
"""Codecs that a menu may name."""
_HALVINGS = 8
"""Halvings of a setting's range."""
_LEAST_KEEP = 1e-3
"""Least fraction of the elements that is kept."""
_LEAST_ENTROPY = 0.05
"""Least entropy of ``ecsq`` in bits per element."""
_BITS = 4
"""Of each value that a searched codec sends."""
_ONE_SCALE = 2**20
"""Elements that share a scale: all of a boundary. A scale for each token costs up to 0.25 bit."""
_OVER = 1.05
"""Times the budget that a codec may send on the boundary it is fitted on."""


@dataclass(frozen=True)
class MenuItem:
    """A codec and the bits per element it may send, mean of both directions."""

    codec: str
    rate: float

    @property
    def label(self) -> str:
        """Name the item as the mode that it becomes."""
        return f"{self.codec} at {self.rate:g} bit"


class Crossed(Protocol):
    """A boundary that crossed: activation, gradient, and the batch it is of."""

    @property
    def activation(self) -> torch.Tensor:
        """Return the activation, (batch, tokens, hidden)."""

    @property
    def gradient(self) -> torch.Tensor:
        """Return the gradient that came back for it, of the same shape."""

    @property
    def batch(self) -> Mapping[str, torch.Tensor]:
        """Return the batch: both ends know its mask."""


def bits_both_ways(config: CodecConfig, pairs: Sequence[Crossed]) -> float:
    """Return the mean bits per element of both directions."""
    codec = codec_from(config)
    sent = elements = 0
    for one in pairs:
        up = known.compress(codec, one.activation, 1, one.batch)
        down = known.expand(codec, up.payload, one.batch)
        gradient = one.gradient
        if isinstance(codec, TokenSelection):  # the server's gradient is of the tokens it saw
            gradient = gradient[:, : down.tensor.shape[1]]
        back = codec.compress_gradient(gradient.contiguous(), down.support, seed=1)
        sent += len(up.payload) + len(back.payload)
        elements += 2 * one.activation.numel()
    return 8.0 * sent / elements


def fitted(
    make: Callable[[float], CodecConfig], low: float, high: float, rate: float,
    pairs: Sequence[Crossed],
) -> CodecConfig:  # fmt: skip
    """Return the codec of the largest setting within the budget, by halving its range."""
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if bits_both_ways(make(middle), pairs) > rate:
            high = middle
        else:
            low = middle
    return make(low)


class Budgets:
    """Makes the codec of an item for one model; ``bases`` is the file of its bases."""

    def __init__(
        self, pairs: Sequence[Crossed], bases: Path, cut: int, books: Callable[[int], Path]
    ) -> None:
        """``pairs`` are boundaries at ``cut``, on which settings are searched.

        ``books`` gives the file of codebooks in groups of so many coordinates.
        """
        self._books = books
        self._pairs, self._bases, self._cut = pairs, str(bases), cut
        self._has_bases = bases.is_file()
        self._makers: dict[str, Callable[[float], CodecConfig]] = {
            RotatedConfig.codec: lambda rate: RotatedConfig(bits=rate, bases=self._bases),
            RestConfig.codec: self._rest,
            LowRankConfig.codec: self._low_rank,
            EcsqConfig.codec: lambda rate: self._search(
                rate, lambda bits: EcsqConfig(bits=bits), _LEAST_ENTROPY, max(rate, 0.1)
            ),
            TopKConfig.codec: partial(self._kept, TopKConfig),
            RandTopKConfig.codec: partial(self._kept, RandTopKConfig),
            RotatedTopKConfig.codec: lambda rate: self._search(
                rate,
                lambda keep: RotatedTopKConfig(keep=keep, centre=True, bases=self._bases),
                _LEAST_KEEP, 1.0,
            ),
            CodebookConfig.codec: self._codebook,
            QuantiseConfig.codec: partial(self._largest, self._quantisers),
            SingularConfig.codec: partial(self._largest, self._singulars),
            TokensConfig.codec: partial(self._largest, self._tokens),
        }  # fmt: skip

    def codec(self, item: MenuItem) -> CodecConfig:
        """Return the codec of an item, not yet told of a cut.

        Raises InputError for one that has no bases, or cannot send so few bits.
        """
        if item.codec not in self._makers:
            raise UnknownNameError("codec of a menu", item.codec, self._makers)
        made = self._makers[item.codec](item.rate)
        sent = bits_both_ways(told_of_cut(made, self._cut), self._pairs)
        if sent > _OVER * item.rate:
            raise InputError(
                f"codec '{item.codec}' at {item.rate:g} bits per element: here it sends at least "
                f"{sent:.3g}. Give more bits, or another codec."
            )
        return made

    def check(self, item: MenuItem) -> None:
        """Refuse an item as :meth:`codec` does; codebooks are not learnt for it."""
        if item.codec == CodebookConfig.codec:
            load_bases(Path(self._bases))  # their groups are chosen so that the rate is kept
            return
        self.codec(item)

    def default(self, *, padded: bool) -> list[MenuItem]:
        """Return a sound menu: what loses least, at three rates, and the chain in its basis.

        Without a file of bases the dead-zone quantiser alone.
        """
        if not self._has_bases:
            return [MenuItem(EcsqConfig.codec, rate) for rate in RATES]
        best = RestConfig.codec if padded else RotatedConfig.codec
        items = [MenuItem(best, rate) for rate in RATES]
        return [*items, MenuItem(RotatedTopKConfig.codec, RATES[1])]

    def _search(
        self, rate: float, make: Callable[[float], CodecConfig], low: float, high: float
    ) -> CodecConfig:
        """The largest setting within the budget, without a cut."""
        told = fitted(
            lambda value: told_of_cut(make(value), self._cut), low, high, rate, self._pairs
        )
        return replace(told, cut=None) if isinstance(told, RotatedTopKConfig) else told

    def _kept(self, kind: type[TopKConfig], rate: float) -> CodecConfig:
        return self._search(
            rate, lambda keep: kind(keep=keep, bits=_BITS, group=_ONE_SCALE), _LEAST_KEEP, 1.0
        )

    def _rest(self, rate: float) -> CodecConfig:
        """What loses least of what is not padding; nothing is remembered."""
        if self._has_bases:
            return _all_of(RotatedConfig(bits=rate, bases=self._bases))
        return self._search(
            rate, lambda bits: _all_of(EcsqConfig(bits=bits)), _LEAST_ENTROPY, max(rate, 0.1)
        )

    def _low_rank(self, rate: float) -> CodecConfig:
        """As many directions as leave each coordinate about four bits."""
        hidden = self._pairs[0].activation.shape[-1]
        rank = min(hidden, max(2, round(hidden * rate / _BITS)))
        return LowRankConfig(bits=rate, bases=self._bases, rank=rank)

    def _codebook(self, rate: float) -> CodecConfig:
        hidden = self._pairs[0].activation.shape[-1]
        return CodebookConfig(books=str(self._books(books_width(rate, hidden))))

    def _largest(self, make: Callable[[], Sequence[CodecConfig]], rate: float) -> CodecConfig:
        """The last of ascending settings within the budget; the first where none is."""
        found, *others = make()
        for config in others:
            if bits_both_ways(config, self._pairs) > rate:
                break
            found = config
        return found

    def _quantisers(self) -> Sequence[CodecConfig]:
        return [QuantiseConfig(bits=bits, group=_ONE_SCALE) for bits in range(2, 9)]

    def _singulars(self) -> Sequence[CodecConfig]:
        most = min(self._pairs[0].activation.shape[1:])
        return [SingularConfig(rank=rank) for rank in range(1, most + 1)]

    def _tokens(self) -> Sequence[CodecConfig]:
        """Fewer tokens than there are, so that one is left to merge."""
        tokens = self._pairs[0].activation.shape[1]
        return [TokensConfig(tokens=count, bits=_BITS) for count in range(1, tokens)]


def _all_of(inner: CodecConfig) -> RestConfig:
    """One codec inside for all that crosses."""
    return RestConfig(inner, inner, inner)
