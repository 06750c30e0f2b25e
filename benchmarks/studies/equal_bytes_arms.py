"""Codecs at equal bytes, for equal_bytes: what each is called, and its setting that fills a budget.

A budget is the mean of both directions in bits per element of the whole boundary, headers and
tables included; every codec but the peers in their own settings is fitted to it on boundaries of
the base model. What a run then really sent stands in its row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from benchmarks.studies.learned_projection import learned_bases
from sftopt.training.bases import BASES_NAME
from sftopt.training.books import books_width, learn_books
from sftopt.training.calibrate.budgets import bits_both_ways, fitted
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
    TopKConfig,
)
from sftopt.training.codec.rest import told_of_cut
from sftopt.training.data import Task, TaskKind
from sftopt.training.split import find_blocks
from sftopt.training.split.stack import capturing_at

RATES = (1.0, 0.5, 2.0)
"""Budgets in bits per element, mean of both directions."""
UNCOMPRESSED = "uncompressed"
"""The arm that the others are paired with: 32 bits for every element."""
CHAIN = "topk, 0.30 at 4 bits"
"""The published chain."""
CHAIN_AT_CLAIM = "topk, 0.42 at 4 bits"
"""The published chain where it sends what its authors claim, 93.6 % less, on padded text."""
NO_PADDING = "rotated, no padding"
"""The codec of least error, where there is padding."""
MEMORY = "rotated, memory"
"""The same against a sample's last visit."""
SPLIT_LITE = "SplitLite's own (rank by an eighth of the tokens)"
"""SplitLite's bits and, of its rank, the share of a sample's tokens."""
AQ_SGD = "AQ-SGD's own (4 bits up, 8 down)"
"""AQ-SGD's bits."""
RAND_TOP_K = "Rand-Top-k's own (0.3, values of 8 bits)"
"""Rand-Top-k's share; its values have 16 bits in print, of which 8 are the most we code."""
LOW_RATE = 0.25
"""A further budget of the codecs that do best."""
EPOCHS = 4
"""Visits of each sample where samples return."""
OTHER_EPOCHS = (2, 8)
"""Further numbers of visits, at the lowest budget of all codecs."""
_FITTED_ON = 1
"""Batches that settings are fitted on."""


@dataclass(frozen=True)
class Arm:
    """One way to carry the boundary."""

    name: str
    rate: float | None = None
    """Budget in bits per element; None: no budget."""
    epochs: int = 0
    """Visits of each sample of a fixed set; 0: samples never return."""

    @property
    def label(self) -> str:
        """Name the arm with its budget and visits."""
        rate = "" if self.rate is None else f" at {self.rate:g} bit"
        return f"{self.name}{rate}" + (f", {self.epochs} visits" if self.epochs else "")


def arms_of(task: Task) -> list[Arm]:
    """List all arms, the most wanted first."""
    padded = "attention_mask" in next(task.train_batches(0, 1, 1, 0))
    best = NO_PADDING if padded else "rotated"
    names = [
        "topk, one scale", "rotated", "ecsq", "rotated-topk", "low-rank", "learned projection",
        "codebook", "singular", "rand-topk",
    ]  # fmt: skip
    if padded:
        names = [NO_PADDING, *names, "topk, one scale, no padding", "ecsq, no padding"]
    names += ["tokens"] if task.kind is not TaskKind.LANGUAGE_MODELLING else []
    arms = [Arm(UNCOMPRESSED), Arm(CHAIN)]
    arms += [Arm(name, rate) for rate in RATES for name in names]
    arms.append(Arm(best, LOW_RATE))
    for epochs in (EPOCHS, *OTHER_EPOCHS):
        arms.append(Arm(UNCOMPRESSED, None, epochs))
        for rate in (*RATES, LOW_RATE) if epochs == EPOCHS else (LOW_RATE,):
            arms += [Arm(MEMORY, rate, epochs), Arm(best, rate, epochs)]
    if padded:
        arms.append(Arm(CHAIN_AT_CLAIM))
    return [*arms, Arm(SPLIT_LITE, None, EPOCHS), Arm(AQ_SGD, None, EPOCHS), Arm(RAND_TOP_K)]


@dataclass(frozen=True)
class Boundary:
    """One batch at the cut of the base model."""

    activation: torch.Tensor
    gradient: torch.Tensor
    batch: Mapping[str, torch.Tensor]


def boundaries(
    base: PreTrainedModel, task: Task, cut: int, count: int, skip: int = 0
) -> list[Boundary]:
    """Return ``count`` training batches' activations and gradients at ``cut``."""
    stack = find_blocks(base)
    mode = base.training
    base.train(False)
    found = []
    batches = task.train_batches(0, 1, task.training.batch, 0, skip=skip)
    for _ in range(count):
        batch = next(batches)
        with capturing_at(base, stack, cut) as captured:
            loss = base(**{name: value.to(base.device) for name, value in batch.items()}).loss
        (gradient,) = torch.autograd.grad(loss, captured[0])
        found.append(Boundary(captured[0].detach(), gradient, batch))
    base.train(mode)
    return found


class Maker:
    """Makes the codec of an arm; files that codecs need are kept in ``work``."""

    def __init__(self, base: PreTrainedModel, task: Task, model: Path, work: Path) -> None:
        self.base, self.task, self.work = base, task, work
        self.cut = task.training.cut
        self.bases = str(model / BASES_NAME)
        self.measured = boundaries(base, task, self.cut, _FITTED_ON)
        self.whole = self.measured[0].activation.numel()
        self._made: dict[Arm, CodecConfig] = {}

    def of(self, arm: Arm) -> CodecConfig | None:
        """Return the codec of an arm; None for 32 bits of every element."""
        if arm.name == UNCOMPRESSED:
            return None
        if arm not in self._made:
            own = self._own(arm.name)
            if own is None:
                assert arm.rate is not None
                memory = arm.name == MEMORY
                own = (
                    self._memory(arm.rate, arm.epochs) if memory else self.codec(arm.name, arm.rate)
                )
            self._made[arm] = own
        return self._made[arm]

    def codec(self, name: str, rate: float) -> CodecConfig:
        """Return the codec that fills the budget."""
        at_cut = partial(told_of_cut, cut=self.cut)
        bases, fit = self.bases, partial(self._fit, rate)
        if name == "topk, one scale":
            return fit(lambda keep: TopKConfig(keep=keep, bits=4, group=self.whole), 1e-3, 1.0)
        if name == "topk, one scale, no padding":
            return fit(
                lambda keep: _rest(TopKConfig(keep=keep, bits=4, group=self.whole)), 1e-3, 1.0
            )
        if name == "rand-topk":
            return fit(lambda keep: RandTopKConfig(keep=keep, bits=4, group=self.whole), 1e-3, 1.0)
        if name == "rotated-topk":
            return fit(
                lambda keep: at_cut(RotatedTopKConfig(keep=keep, centre=True, bases=bases)),
                1e-3, 1.0,
            )  # fmt: skip
        if name == "ecsq":
            return fit(lambda bits: EcsqConfig(bits=bits), 0.05, rate)
        if name == "ecsq, no padding":
            return fit(lambda bits: _rest(EcsqConfig(bits=bits)), 0.05, rate)
        if name == "rotated":
            return at_cut(RotatedConfig(bits=rate, bases=bases))
        if name == "rotated, no padding":
            return at_cut(_rest(RotatedConfig(bits=rate, bases=bases)))
        hidden = self.measured[0].activation.shape[-1]
        if name == "low-rank":
            rank = max(2, round(hidden * rate / 4))
            return at_cut(LowRankConfig(bits=rate, bases=bases, rank=rank))
        if name == "learned projection":
            rank = max(2, round(hidden * rate / 4))
            return at_cut(LowRankConfig(bits=rate, bases=str(self._learned(rank)), rank=rank))
        if name == "tokens":
            return self._tokens(rate)
        if name == "codebook":
            return CodebookConfig(books=str(self._books(rate)), cut=self.cut)
        assert name == "singular"
        return self._singular(rate)

    def _fit(
        self, rate: float, make: Callable[[float], CodecConfig], low: float, high: float
    ) -> CodecConfig:
        return fitted(make, low, high, rate, self.measured)

    def _singular(self, rate: float) -> CodecConfig:
        """As many singular triples as fit."""
        most = min(self.measured[0].activation.shape[1:])
        best = SingularConfig(rank=1)
        for rank in range(1, most + 1):
            if bits_both_ways(SingularConfig(rank=rank), self.measured) > rate:
                break
            best = SingularConfig(rank=rank)
        return best

    def _memory(self, rate: float, epochs: int) -> CodecConfig:
        """First visits take twice the budget, later ones what is left."""
        later = (epochs - 2.0) * rate / (epochs - 1.0)
        config = RestConfig.from_dict(
            {
                "inner": "rotated", "bits": max(later, 0.05), "first_bits": 2.0 * rate,
                "gradient_bits": rate, "bases": self.bases, "memory": True,
            }
        )  # fmt: skip
        return told_of_cut(config, self.cut)

    def _tokens(self, rate: float) -> CodecConfig:
        """As many tokens as fit."""
        for count in range(self.measured[0].activation.shape[1] - 1, 1, -1):
            config = TokensConfig(tokens=count, bits=4)
            if bits_both_ways(config, self.measured) <= rate:
                return config
        return TokensConfig(tokens=1, bits=4)

    def _own(self, name: str) -> CodecConfig | None:
        """A published method in its own setting, whatever it sends; None for other names."""
        least = min(self.measured[0].activation.shape[1:])
        rank = max(1, least // 8)
        made = {
            CHAIN: TopKConfig(keep=0.30, bits=4),
            CHAIN_AT_CLAIM: TopKConfig(keep=0.42, bits=4),
            RAND_TOP_K: RandTopKConfig(keep=0.3, bits=8),
            SPLIT_LITE: RestConfig(
                SingularConfig(rank=rank, bits=4), SingularConfig(rank=least, bits=8),
                SingularConfig(rank=2 * rank, bits=8), padding=False, memory=True,
            ),
            AQ_SGD: RestConfig(
                QuantiseConfig(bits=4), QuantiseConfig(bits=8), QuantiseConfig(bits=8),
                padding=False, memory=True,
            ),
        }  # fmt: skip
        return made.get(name)

    def _books(self, rate: float) -> Path:
        """The file of codebooks whose groups fill the budget."""
        width = books_width(rate, self.measured[0].activation.shape[-1])
        batches = self.task.train_batches(0, 1, self.task.training.batch, 0, skip=_FITTED_ON)
        path = self.work / f"books-{width}.safetensors"
        return learn_books(self.base, batches, Path(self.bases), width, path)

    def _learned(self, rank: int) -> Path:
        path = self.work / f"learned-{rank}.safetensors"
        if not path.is_file():
            _put(path, lambda fresh: learned_bases(self.base, self.task, self.bases, rank, fresh))
        return path


def _rest(inner: CodecConfig) -> CodecConfig:
    return RestConfig(inner, inner, inner)


def _put(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside its place first: other processes look for it."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    write(fresh)
    fresh.replace(path)
