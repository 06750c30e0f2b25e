"""What the codec makes of real boundary tensors: the terms of equations (1) and (2), and seconds.

eta_q and sigma are one number each for both equations, but at rate ``levels`` kept activations and
gradients differ in entropy. They are taken from the gradients, so that equation (2) errs least over
all keep fractions (sigma then is what of a payload does not grow with keep); omega by intervals of
the keep fraction carries the rest of equation (1), which holds on each interval whatever they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.optimize import nnls

from sftopt.core.calibration import CodecProfile, CodecRow
from sftopt.core.instance import DownlinkPayload, MaskOverhead, Mode, ModeKind
from sftopt.core.payload import (
    binary_entropy_bits,
    downlink_bits_per_element,
    uplink_bits_per_element,
)
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.codec import Codec, codec_from, statistics_of
from sftopt.training.evaluation import Task
from sftopt.training.split import SplitModel
from sftopt.training.split.stack import capturing_at, entering_at

_REFERENCE_BITS = 32
"""Bits of an element that is sent uncompressed."""
_SIDE_BATCHES = 64
"""Batches of text whose labels and masks are measured."""


@dataclass(frozen=True)
class BoundaryPair:
    """A boundary activation and the gradient that came back for it, (batch, tokens, hidden)."""

    activation: torch.Tensor
    gradient: torch.Tensor
    """Where the activation arrives as it is."""
    gradient_at: Callable[[torch.Tensor], torch.Tensor]
    """The gradient for what arrived in the activation's place."""
    batch: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What the boundary is of: both ends know its mask."""


@dataclass(frozen=True)
class _Measured:
    """One codec over several tensors: means per element."""

    keep: float
    uplink_bits: float
    downlink_bits: float
    encode_s: float
    decode_s: float
    encode_gradient_s: float
    decode_gradient_s: float


def boundary_pairs(
    split: SplitModel, task: Task, settings: CalibrationSettings, count: int, *, held_out: bool
) -> list[BoundaryPair]:
    """Collect boundaries of real batches at ``settings.cuts[0]``: training or test data."""
    batches: Iterable[Any]
    if held_out:
        samples = settings.batch * count
        batches = task.evaluation(settings.batch, part="test", limit=samples)
    else:
        batches = task.train_batches(
            device=0, devices=1, batch=settings.batch, seed=settings.seeds[0]
        )
    pairs = []
    for batch in batches:
        pairs.append(_pair(split, settings.cuts[0], dict(batch)))
        if len(pairs) == count:
            break
    return pairs


def _pair(split: SplitModel, cut: int, batch: dict[str, torch.Tensor]) -> BoundaryPair:
    model, stack = split.server.model, split.stack
    batch = {name: value.to(model.device) for name, value in batch.items()}
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad(), capturing_at(model, stack, cut) as captured:
        model.base_model(**inputs)
    activation = captured[0].detach()

    def gradient_at(received: torch.Tensor) -> torch.Tensor:
        hidden = received.detach().to(activation).requires_grad_()
        with entering_at(model, stack, cut, hidden):
            (gradient,) = torch.autograd.grad(model(**batch).loss, (hidden,))
        return gradient

    return BoundaryPair(activation, gradient_at(activation), gradient_at, batch)


def codec_profile(
    pairs: Sequence[BoundaryPair],
    held_out: Sequence[BoundaryPair],
    settings: CalibrationSettings,
    on_keep: Callable[[float], None] = lambda keep: None,
) -> CodecProfile:
    """Measure Top-K modes and how well they predict other tensors.

    ``held_out`` takes no part in any figure but the ``_held_out`` ones. ``on_keep`` is told each
    keep fraction before it is measured. The server differentiates at what arrived: what is lost at
    a keep fraction changes the gradients that go down, the bits of a value hardly do.
    """
    keeps, bits = sorted(set(settings.statistics_keeps)), sorted(set(settings.statistics_bits))
    found: dict[int, list[tuple[_Measured, _Measured]]] = {count: [] for count in bits}
    for keep in keeps:
        on_keep(keep)
        finest = codec_from(settings.topk(bits[-1], keep))
        arrived = [[_arrived(finest, pair) for pair in some] for some in (pairs, held_out)]
        for count in bits:
            codec = codec_from(settings.topk(count, keep))
            own, other = (_measure(codec, some) for some in arrived)
            found[count].append((own, other))
    modes, rows = [], []
    for count, measured in found.items():
        mode = fitted_mode(count, keeps, [own for own, _ in measured])
        modes.append(mode)
        rows += [_row(mode, keep, *both) for keep, both in zip(keeps, measured, strict=True)]
    seconds = [0.5 * (own.encode_s + own.decode_gradient_s) for m in found.values() for own, _ in m]
    return CodecProfile(
        config=settings.base_codec(),
        cut=settings.cuts[0],
        tensors=len(pairs),
        elements=pairs[0].activation.numel(),
        seconds_per_element=float(np.mean(seconds)),
        modes=tuple(modes),
        rows=tuple(rows),
    )


def _arrived(codec: Codec[Any], pair: BoundaryPair) -> BoundaryPair:
    """The pair with the gradient for what ``codec`` makes of the activation."""
    received = codec.expand(codec.compress(pair.activation).payload).tensor
    return replace(pair, gradient=pair.gradient_at(received))


def fitted_mode(bits: int, keeps: Sequence[float], measured: Sequence[_Measured]) -> Mode:
    """Fit eta_q, sigma and omega by intervals to what was measured at ``keeps``."""
    # least relative squares of rho eta + sigma, neither below zero
    measured_bits = np.array([one.downlink_bits for one in measured])
    terms = np.array([[one.keep, 1.0] for one in measured]) / measured_bits[:, None]
    value_bits, side = (float(value) for value in nnls(terms, np.ones(len(measured)))[0])
    if len(set(keeps)) < 2 or value_bits == 0.0:
        # one keep fraction does not tell values from side information: all counts as values
        value_bits, side = float(nnls(terms[:, :1], np.ones(len(measured)))[0][0]), 0.0
    factors = []
    for one in measured:
        entropy = binary_entropy_bits(one.keep)
        rest = one.uplink_bits - one.keep * value_bits - side
        factors.append(min(max(rest / entropy, 0.0), 10.0) if entropy > 0.0 else 1.0)
    edges = [0.0, *(math.sqrt(left * right) for left, right in pairwise(keeps)), 1.0]
    return Mode(
        kind=ModeKind.TOPK,
        bits=bits,
        value_bits=value_bits,
        side_bits_per_element=side,
        mask_overhead=tuple(
            MaskOverhead(keep_from=low, keep_to=high, factor=factor)
            for (low, high), factor in zip(pairwise(edges), factors, strict=True)
        ),
    )


def _row(mode: Mode, keep: float, one: _Measured, other: _Measured) -> CodecRow:
    return CodecRow(
        mode=mode.label,
        bits=mode.bits,
        keep=keep,
        uplink_bits=one.uplink_bits,
        uplink_bits_predicted=uplink_bits_per_element(mode, keep, _REFERENCE_BITS),
        uplink_bits_held_out=other.uplink_bits,
        downlink_bits=one.downlink_bits,
        downlink_bits_predicted=downlink_bits_per_element(
            mode, keep, _REFERENCE_BITS, DownlinkPayload.KEPT
        ),
        downlink_bits_held_out=other.downlink_bits,
        encode_s_per_element=one.encode_s,
        decode_gradient_s_per_element=one.decode_gradient_s,
        decode_s_per_element=one.decode_s,
        encode_gradient_s_per_element=one.encode_gradient_s,
    )


def _measure(codec: Codec[Any], pairs: Sequence[BoundaryPair]) -> _Measured:
    found = []
    for number, pair in enumerate(pairs):
        elements, device = pair.activation.numel(), pair.activation.device
        encode_s, sent = _timed(partial(codec.compress, pair.activation, seed=number), device)
        decode_s, received = _timed(partial(codec.expand, sent.payload), device)
        back_s, back = _timed(
            partial(codec.compress_gradient, pair.gradient, received.support, seed=number), device
        )
        end_s, _ = _timed(partial(codec.decode_gradient, back.payload, sent.support), device)
        up, down = statistics_of(sent), statistics_of(back)
        found.append(
            (
                up.keep,
                up.bits_per_element,
                down.bits_per_element,
                *(value / elements for value in (encode_s, decode_s, back_s, end_s)),
            )
        )
    return _Measured(*(float(np.mean(column)) for column in zip(*found, strict=True)))


_Result = TypeVar("_Result")


def _timed(work: Callable[[], _Result], device: torch.device) -> tuple[float, _Result]:
    """The lesser of two times, and the result: processor seconds, on a GPU wall seconds."""
    best = math.inf
    for _ in range(2):
        began = _now(device)
        result = work()
        best = min(best, _now(device) - began)
    return best, result


def _now(device: torch.device) -> float:
    if device.type == "cuda":  # its work is queued
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.thread_time()


def side_bits(split: SplitModel, task: Task, settings: CalibrationSettings) -> float:
    """Measure S_side in bits per sample: the mean over the side messages of real batches."""
    device = next(iter(split.devices.values()))
    batches = task.train_batches(device=0, devices=1, batch=settings.batch, seed=settings.seeds[0])
    one = next(batches)
    # labels of images are all alike; of text, paddings and prompts differ in length
    many = _SIDE_BATCHES if one["labels"].ndim > 1 or "attention_mask" in one else 1
    sizes = [len(device.side_message(batch)) for batch in (one, *islice(batches, many - 1))]
    return 8.0 * sum(sizes) / len(sizes) / settings.batch
