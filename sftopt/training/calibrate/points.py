"""Operating points: codecs at set rates, measured in fine-tunings at several cuts, as modes.

A point's bits up and down are those its fine-tunings sent; its loss at a cut is the upper end of
the paired 95 % interval against the uncompressed runs of the same seeds at that cut, at least 0. A
cut that was not measured has the loss of the next one upward, so the last cut must be measured.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from transformers import PreTrainedModel

from sftopt.core.calibration_file import Calibration, OperatingPoint
from sftopt.core.errors import InputError
from sftopt.core.files import canonical_json, read_json, write_json
from sftopt.core.instance import Mode, ModeKind
from sftopt.training.bases import BASES_NAME
from sftopt.training.books import learn_books
from sftopt.training.calibrate.budgets import Budgets, MenuItem
from sftopt.training.calibrate.cells import (
    CELLS_NAME,
    Cell,
    CellResult,
    FinishedCells,
    content_key,
)
from sftopt.training.calibrate.fit import mean_half_width
from sftopt.training.calibrate.payloads import BoundaryPair, boundary_pairs
from sftopt.training.calibrate.run import run_here
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.calibrate.workers import Sources, run_in_processes
from sftopt.training.codec import CodecConfig, TokensConfig, codec_from
from sftopt.training.codec.rest import told_of_cut
from sftopt.training.data import Task
from sftopt.training.model_hash import model_hash
from sftopt.training.split import SplitModel, known
from sftopt.training.threads import one_thread

SECONDS_NAME = "codec_seconds.json"
"""File of the codecs' seconds per element, by what was measured."""
_REPEATS = 5
"""Timings of a codec; the median counts."""
_REFERENCE_BITS = 32.0
"""Bits of an element of the uncompressed runs."""

Run = Callable[
    [Sources, CalibrationSettings, Sequence[Cell], int, Callable[[Cell, CellResult], None]], None
]
"""Runs cells in a number of processes."""


@dataclass(frozen=True)
class _Measuring:
    """Where the points' fine-tunings come from and go to."""

    sources: Sources
    settings: CalibrationSettings
    task: Task
    key: str
    """The model's hash."""
    work: Path
    workers: int
    run: Run
    tell: Callable[[str], None]

    def results(self, cut: int, cells: Sequence[Cell]) -> list[CellResult]:
        """The results of cells with ``cut`` blocks on every device; finished ones are read."""
        settings = replace(self.settings, cuts=(cut,) * len(self.settings.cuts))
        finished = FinishedCells(self.work / CELLS_NAME, self.key, self.task, settings)
        missing = [cell for cell in cells if finished.get(cell) is None]

        def kept(cell: Cell, result: CellResult) -> None:
            finished.add(cell, result)
            self.tell(f"cut {cut}, {cell.label}: {result.metric:.4g}")

        if missing:
            self.run(self.sources, settings, missing, self.workers, kept)
        results = [finished.get(cell) for cell in cells]
        return [result for result in results if result is not None]


def with_points(
    calibration: Calibration,
    sources: Sources,
    settings: CalibrationSettings,
    menu: Sequence[MenuItem] | None,
    work: Path,
    workers: int,
    *,
    cuts: Sequence[int] = (),
    tell: Callable[[str], None] = lambda _: None,
    run: Run | None = None,
) -> Calibration:
    """Return ``calibration`` with the points of ``menu``; finished runs in ``work`` are used again.

    One worker runs in this process. ``menu`` None is the one that suits model and task. ``cuts``
    are measured besides the last one; by default the settings' first. Raises InputError for fewer
    than two seeds, which tell no interval, and, before anything is run, for a codec that cannot be
    had at its rate.
    """
    task = sources.load_task()
    base = sources.load_model(task)
    blocks = calibration.workload.blocks
    measured = sorted({*(cuts or settings.cuts[:1]), blocks - 1})
    cut = settings.cuts[0]
    with one_thread():
        budgets, pair = _budgets(base, task, sources, settings, work)
        codecs = {item: budgets.codec(item) for item in _chosen(menu, budgets, pair)}
    measuring = _Measuring(
        sources, settings, task, model_hash(base), work, workers, run or _run, tell
    )  # fmt: skip
    plain = {
        cut: measuring.results(cut, [Cell("none", seed) for seed in settings.seeds])
        for cut in measured
    }
    points = []
    for item, codec in codecs.items():
        options = canonical_json(codec.to_dict())
        cells = [
            Cell("codec", seed, name=item.label, options=options) for seed in settings.seeds
        ]  # fmt: skip
        found = {cut: measuring.results(cut, cells) for cut in measured}
        seconds = _kept_seconds(codec, cells[0], pair, cut, work)
        factor = seconds / calibration.codec.seconds_per_element
        tokens = pair.activation.shape[1]
        points.append(_point(item.label, codec, plain, found, (blocks, tokens), factor))
    return calibration.model_copy(update={"points": tuple(points)})


def check_menu(
    base: PreTrainedModel, task: Task, sources: Sources, settings: CalibrationSettings,
    menu: Sequence[MenuItem] | None,
) -> None:  # fmt: skip
    """Refuse a menu that :func:`with_points` would, before anything is run or written.

    Raises InputError.
    """
    with one_thread():
        budgets, pair = _budgets(base, task, sources, settings, Path())
        for item in _chosen(menu, budgets, pair):
            budgets.check(item)


def _budgets(
    base: PreTrainedModel, task: Task, sources: Sources, settings: CalibrationSettings, work: Path
) -> tuple[Budgets, BoundaryPair]:
    """What makes codecs for this model, codebooks learnt into ``work``, and by what boundary."""
    if len(settings.seeds) < 2:
        raise InputError("a menu needs at least 2 seeds: a point's loss is the end of an interval.")
    split = SplitModel(copy.deepcopy(base), settings.split_config(settings.seeds[0]))
    pair = boundary_pairs(split, task, settings, 1, held_out=False)[0]
    bases = Path(sources.model or "") / BASES_NAME
    batches = task.train_batches(0, 1, settings.batch, settings.seeds[0])

    def books(width: int) -> Path:
        return learn_books(base, batches, bases, width, work / f"books-{width}.safetensors")

    return Budgets([pair], bases, settings.cuts[0], books), pair


def _chosen(
    menu: Sequence[MenuItem] | None, budgets: Budgets, pair: BoundaryPair
) -> Sequence[MenuItem]:
    """The menu, or the one that suits."""
    return budgets.default(padded=known.MASK in pair.batch) if menu is None else menu


def _run(
    sources: Sources, settings: CalibrationSettings, cells: Sequence[Cell], workers: int,
    on_cell: Callable[[Cell, CellResult], None],
) -> None:  # fmt: skip
    if workers > 1:
        run_in_processes(sources, settings, cells, workers, on_cell)
        return
    task = sources.load_task()
    run_here(sources.load_model(task), task, settings, cells, on_cell)


def _point(
    label: str,
    codec: CodecConfig,
    plain: dict[int, list[CellResult]],
    found: dict[int, list[CellResult]],
    sizes: tuple[int, int],
    factor: float,
) -> OperatingPoint:
    """The mode of what was measured; ``sizes`` are the model's blocks and a sample's tokens."""
    blocks, tokens = sizes
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
    sent = codec.tokens + 1 if isinstance(codec, TokensConfig) else None
    if sent is not None:  # bits are then of each element of the tokens that are sent
        up, down = up * tokens / sent, down * tokens / sent
    mode = Mode(
        name=label,
        kind=ModeKind.DENSE if sent is None else ModeKind.TOKENS,
        bits=max(1, round(up)),
        tokens=sent,
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


def _kept_seconds(
    codec: CodecConfig, cell: Cell, pair: BoundaryPair, cut: int, work: Path
) -> float:
    """Seconds per element from the work folder, measured where they are not there yet.

    Measured anew they would differ, and with them the plan of a loop that is gone on with.
    """
    path = work / SECONDS_NAME
    known = read_json(path, "codec's seconds") if path.is_file() else {}
    key = content_key(
        {"codec": cell.to_dict()["options"], "cut": cut, "shape": list(pair.activation.shape)}
    )
    if not isinstance(known.get(key), float):
        known[key] = device_seconds(codec, pair, cut)
        write_json(path, known)
    return float(known[key])


def device_seconds(codec: CodecConfig, pair: BoundaryPair, cut: int) -> float:
    """Return a device's seconds per element: the mean of encoding and of decoding the gradient."""
    coder = codec_from(told_of_cut(codec, cut))
    sent = known.compress(coder, pair.activation, 0, pair.batch)
    received = known.expand(coder, sent.payload, pair.batch)
    gradient = pair.gradient[:, : received.tensor.shape[1]].contiguous()
    back = coder.compress_gradient(gradient, received.support).payload
    spent = []
    for _ in range(_REPEATS):
        start = time.thread_time()
        known.compress(coder, pair.activation, 0, pair.batch)
        coder.decode_gradient(back, sent.support)
        spent.append(time.thread_time() - start)
    return 0.5 * median(spent) / pair.activation.numel()


__all__ = ["device_seconds", "with_points"]
