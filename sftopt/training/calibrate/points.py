"""Operating points: codecs at set rates, measured in fine-tunings at several cuts, as modes.

A point's bits up and down are those its fine-tunings sent; its loss at a cut is the upper end of
the paired 95 % interval against the uncompressed runs of the same seeds at that cut, at least 0. A
cut that was not measured has the loss of the next one upward, so the last cut must be measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from sftopt.core.calibration_file import Calibration, OperatingPoint
from sftopt.core.errors import InputError
from sftopt.core.instance import Mode, ModeKind
from sftopt.training.calibrate.cells import CELLS_NAME, Cell, CellResult, FinishedCells
from sftopt.training.calibrate.fit import mean_half_width
from sftopt.training.calibrate.payloads import BoundaryPair, boundary_pairs
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.calibrate.workers import Sources, run_in_processes
from sftopt.training.codec import EcsqConfig, codec_from
from sftopt.training.codec.rest import told_of_cut
from sftopt.training.data import Task
from sftopt.training.model_hash import model_hash
from sftopt.training.split import SplitModel
from sftopt.training.threads import one_thread

_REPEATS = 5
"""Timings of a codec; the median counts."""
_REFERENCE_BITS = 32.0
"""Bits of an element of the uncompressed runs."""

Run = Callable[
    [Sources, CalibrationSettings, Sequence[Cell], int, Callable[[Cell, CellResult], None]], None
]
"""Runs cells in a number of processes."""


def with_points(
    calibration: Calibration,
    sources: Sources,
    settings: CalibrationSettings,
    menu: Sequence[EcsqConfig],
    work: Path,
    workers: int,
    *,
    cuts: Sequence[int] = (),
    tell: Callable[[str], None] = lambda _: None,
    run: Run = run_in_processes,
) -> Calibration:
    """Return ``calibration`` with the points of ``menu``; finished runs in ``work`` are used again.

    ``cuts`` are measured besides the last one; by default the settings' first. Raises InputError
    for fewer than two seeds, which tell no interval.
    """
    if len(settings.seeds) < 2:
        raise InputError("a menu needs at least 2 seeds: a point's loss is the end of an interval.")
    task = sources.load_task()
    base = sources.load_model(task)
    blocks = calibration.workload.blocks
    measured = sorted({*(cuts or settings.cuts[:1]), blocks - 1})
    key = model_hash(base)
    points = []
    runs: dict[int, list[CellResult]] = {}
    for cut in measured:
        own = replace(settings, cuts=(cut,) * len(settings.cuts))
        plain = [Cell("none", seed) for seed in settings.seeds]
        runs[cut] = _results(sources, own, plain, key, task, work, workers, run, tell)
    with one_thread():
        split = SplitModel.from_pretrained(base, settings.split_config(settings.seeds[0]))
        pair = boundary_pairs(split, task, settings, 1, held_out=False)[0]
    for codec in menu:
        found = {}
        for cut in measured:
            own = replace(settings, cuts=(cut,) * len(settings.cuts), ecsq_codec=codec)
            assert codec.bits is not None
            cells = [Cell("ecsq", seed, target_bits=codec.bits) for seed in settings.seeds]
            found[cut] = _results(sources, own, cells, key, task, work, workers, run, tell)
        factor = _seconds(codec, pair, settings.cuts[0]) / calibration.codec.seconds_per_element
        points.append(_point(codec, runs, found, blocks, factor))
    return calibration.model_copy(update={"points": tuple(points)})


def _results(
    sources: Sources, settings: CalibrationSettings, cells: Sequence[Cell], key: str, task: Task,
    work: Path, workers: int, run: Run, tell: Callable[[str], None],
) -> list[CellResult]:  # fmt: skip
    finished = FinishedCells(work / CELLS_NAME, key, task, settings)
    missing = [cell for cell in cells if finished.get(cell) is None]

    def kept(cell: Cell, result: CellResult) -> None:
        finished.add(cell, result)
        tell(f"cut {settings.cuts[0]}, {settings.ecsq_codec.codec}: {cell.label}")

    if missing:
        run(sources, settings, missing, workers, kept)
    results = [finished.get(cell) for cell in cells]
    return [result for result in results if result is not None]


def _point(
    codec: EcsqConfig,
    plain: dict[int, list[CellResult]],
    found: dict[int, list[CellResult]],
    blocks: int,
    factor: float,
) -> OperatingPoint:
    """The mode of what was measured."""
    losses = {
        cut: np.array([one.metric for one in plain[cut]]) - np.array([one.metric for one in runs])
        for cut, runs in found.items()
    }
    ends = {cut: max(0.0, float(x.mean()) + mean_half_width(x)) for cut, x in losses.items()}
    upward = tuple(ends[min(cut for cut in ends if cut >= at)] for at in range(blocks))
    whole = sum(one.uplink_bytes for runs in plain.values() for one in runs)
    up, down = (
        _REFERENCE_BITS * sum(getattr(one, name) for runs in found.values() for one in runs) / whole
        for name in ("uplink_bytes", "downlink_bytes")
    )
    mode = Mode(
        name=f"{codec.codec} at {codec.bits:g} bit",
        kind=ModeKind.DENSE,
        bits=max(1, round(up)),
        value_bits=up,
        gradient_bits=down,
        loss=upward,
        codec_seconds_factor=factor,
    )
    return OperatingPoint(
        mode=mode,
        codec=codec.to_dict(),
        cuts=tuple(losses),
        losses=tuple(tuple(map(float, each)) for each in losses.values()),
    )


def _seconds(codec: EcsqConfig, pair: BoundaryPair, cut: int) -> float:
    """Seconds per element of what a device does: encode, decode the gradient; their mean."""
    coder = codec_from(told_of_cut(codec, cut))
    sent = coder.compress(pair.activation)
    gradient = coder.encode_gradient(pair.gradient, sent.support)
    spent = []
    for _ in range(_REPEATS):
        start = time.thread_time()
        coder.compress(pair.activation)
        coder.decode_gradient(gradient, sent.support)
        spent.append(time.thread_time() - start)
    return 0.5 * median(spent) / pair.activation.numel()


__all__ = ["with_points"]
