"""The published chain in its best form at the cut claimed: tried, at equal bytes, and chosen.

Top-K, quantisation and lossless coding leave open how many bits a value has, and how many values
share a scale; the fraction kept follows from the bytes. Equation (12) cannot choose: its grid lies
where plans do, at more bytes than 93.6 % less leaves, and a form outside it would be left out or
judged by an extrapolation. So every form is fine-tuned, on the seeds of the calibration, and judged
on validation data; the test data, on which the arms are compared, take no part.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sftopt.core.calibration import Calibration
from sftopt.core.instance import ModeKind
from sftopt.studies.traffic import CUT_CLAIMED, Arm, ArmRow, bits_left, measured_arms
from sftopt.training.calibrate.payloads import BoundaryPair, boundary_pairs
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.calibrate.workers import Sources
from sftopt.training.codec import TopKConfig, codec_from
from sftopt.training.data.task import Part
from sftopt.training.split import SplitModel, known
from sftopt.training.threads import one_thread

_ONE_SCALE = 2**20
"""Elements that share a scale: all of a boundary."""
_FINALISTS = 3
"""Forms, best by one seed, that are tried with all."""
_BOUNDARIES = 2
"""Boundaries of training data on which a form's keep fraction is searched."""
_HALVINGS = 14
"""Halvings of the keep fraction's range: to a ten-thousandth, as it is written."""
_LEAST_KEEP = 1e-3
"""Least fraction of the elements that is kept."""
_MARGIN = 0.998
"""Of the bits left: a run's bytes differ from seed to seed, on the default tasks by 0.2 %."""
_REFERENCE_BITS = 32.0
"""Bits of an element of the uncompressed boundary."""


@dataclass(frozen=True)
class _Trial:
    """One form as it was fine-tuned."""

    codec: TopKConfig
    rows: tuple[ArmRow, ...]
    bits: float
    """Sent up per element of the boundary, mean of the runs."""
    side: float
    """Bits of labels and masks per element."""

    @property
    def metric(self) -> float:
        """Mean over the runs, on validation data."""
        return float(np.mean([row.metric for row in self.rows]))

    def to_dict(self, *, chosen: bool) -> dict[str, Any]:
        """Return what was tried and what came out, as plain data."""
        whole = _REFERENCE_BITS + self.side
        return {
            "bits": self.codec.bits, "keep": self.codec.keep, "group": self.codec.group,
            "seeds": [row.seed for row in self.rows], "metric": [row.metric for row in self.rows],
            "uplink_cut": 1.0 - (self.bits + self.side) / whole, "chosen": chosen,
        }  # fmt: skip


def best_chain(
    measured: Calibration,
    sources: Sources,
    grid: CalibrationSettings,
    work: Path,
    workers: int,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[TopKConfig | None, list[dict[str, Any]]]:
    """Return the chain's best form at 93.6 % less uplink, and all that was tried, as plain data.

    Every calibrated number of bits, with the calibration's scales and with one scale a boundary, is
    fine-tuned with one seed at the keep fraction that fills the bytes on the base model; the best
    three then with all seeds, at the fraction that fills them as measured in that run: payloads
    grow while a model learns. Most of the mean metric on validation data decides. Finished runs in
    folder ``work`` are used again. None where the bytes hold no form at all.
    """
    trials = _Trials(measured, sources, grid, work, workers, tell)
    seeds = grid.seeds
    first = trials.run({form: None for form in _forms(measured)}, seeds[:1])
    best = sorted(first, key=lambda one: one.metric, reverse=True)[:_FINALISTS]
    last = trials.run({one.codec: one for one in best}, seeds)
    if not last:
        return None, [one.to_dict(chosen=False) for one in first]
    winner = max(last, key=lambda one: one.metric)
    return winner.codec, [one.to_dict(chosen=one is winner) for one in (*first, *last)]


def _forms(measured: Calibration) -> list[TopKConfig]:
    """All forms, their keep fraction open."""
    base = measured.codec.config
    groups = dict.fromkeys([base.get("group"), _ONE_SCALE])
    bits = sorted(mode.bits for mode in measured.codec.modes if mode.kind is ModeKind.TOPK)
    return [
        TopKConfig.from_dict({**base, "keep": 1.0, "bits": count, "group": group})
        for count in bits
        for group in groups
    ]


class _Trials:
    """Fine-tunings of forms, each at the keep fraction that fills the bytes."""

    def __init__(
        self, measured: Calibration, sources: Sources, grid: CalibrationSettings, work: Path,
        workers: int, tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._sources, self._work, self._workers, self._tell = sources, work, workers, tell
        self._grid = replace(grid, evaluation_part=Part.VALIDATION.value)
        steps = grid.rounds * grid.local_steps * len(grid.cuts) * grid.batch
        self._elements = steps * measured.workload.boundary_elements
        self._side = measured.workload.side_bits / measured.workload.boundary_elements
        self._pairs = _boundaries(sources, grid)

    def run(self, forms: dict[TopKConfig, _Trial | None], seeds: Sequence[int]) -> list[_Trial]:
        """Fine-tune forms; a form's earlier trial says how its bytes grow, and what goes beside."""
        found = []
        for form, before in forms.items():
            side, grown = self._side, 1.0
            if before is not None:
                side, grown = before.side, before.bits / self._bits(form)
            codec = self._filling(form, _MARGIN * bits_left(side) / grown)
            if codec is not None:
                found.append(self._trial(codec, seeds))
        return found

    def _trial(self, codec: TopKConfig, seeds: Sequence[int]) -> _Trial:
        scales = "one scale" if codec.group == _ONE_SCALE else "the calibration's scales"
        arm = Arm(f"{codec.bits} bits at keep {codec.keep:g}, {scales}", CUT_CLAIMED, codec)
        rows = measured_arms(
            self._sources, self._grid, [arm], seeds, self._work, self._workers, self._tell
        )
        up, side = (
            8.0 * sum(getattr(row, name) for row in rows) / (len(rows) * self._elements)
            for name in ("uplink_bytes", "side_bytes")
        )
        return _Trial(codec, tuple(rows), up, side)

    def _filling(self, form: TopKConfig, allowed: float) -> TopKConfig | None:
        """The form that keeps most within so many bits per element; None where none does."""
        low, high = _LEAST_KEEP, 1.0
        if self._bits(replace(form, keep=low)) > allowed:
            return None
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            if self._bits(replace(form, keep=middle)) > allowed:
                high = middle
            else:
                low = middle
        return replace(form, keep=round(low, 4))

    def _bits(self, form: TopKConfig) -> float:
        """Bits per element up, headers and scales counted, on boundaries of the base model."""
        codec = codec_from(form)
        sent = [
            len(known.compress(codec, pair.activation, 1, pair.batch).payload)
            for pair in self._pairs
        ]
        return 8.0 * sum(sent) / sum(pair.activation.numel() for pair in self._pairs)


def _boundaries(sources: Sources, grid: CalibrationSettings) -> list[BoundaryPair]:
    """Boundaries of training data on the base model."""
    task = sources.load_task()
    with one_thread():
        split = SplitModel(
            copy.deepcopy(sources.load_model(task)), grid.split_config(grid.seeds[0])
        )
        return boundary_pairs(split, task, grid, _BOUNDARIES, held_out=False)
