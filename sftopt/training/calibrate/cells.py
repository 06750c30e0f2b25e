"""The grid of short fine-tunings: its cells, one run, and the file of finished ones."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from sftopt.core.codec_files import is_file_option
from sftopt.core.errors import DiskError, InputError
from sftopt.core.files import canonical_json, json_digest, write_bytes
from sftopt.core.rows import set_lines_aside
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.codec import CodecConfig, codec_from
from sftopt.training.codec.rest import told_of_cut
from sftopt.training.evaluation import Task
from sftopt.training.loop import RoundRow, RunSettings, fine_tune
from sftopt.training.schedule import Schedule
from sftopt.training.split import BoundaryCodec, DivergedError, LosslessCodec, SplitModel
from sftopt.training.split.kept_folders import sha256_of

LOGGER = logging.getLogger(__name__)
"""Tells what was found damaged and what is done about it; on standard error by default."""

CELLS_NAME = "cells.jsonl"
"""File of the finished runs, one line each."""
_HASH_DIGITS = 16
"""Of a file's hash that stand for it."""
_VERSION = 2
"""Raised when the same settings would give other results than before."""


@dataclass(frozen=True)
class Cell:
    """One fine-tuning: ``kind`` is ``none``, ``topk`` (keep, bits), ``ecsq`` (target_bits) or
    ``codec`` (name, options).
    """

    kind: str
    seed: int
    keep: float = 1.0
    bits: int = 32
    target_bits: float = 0.0
    rank: int | None = None
    """Of the adapters; None: the settings' own."""
    name: str | None = None
    """What a run of kind ``codec`` is called in progress lines."""
    options: str | None = None
    """Its codec as JSON; it is told of the cut."""
    conduct: str | None = None
    """Its order or aggregation (``settings.CONDUCTS``); None: parallel, averaging."""

    @property
    def label(self) -> str:
        """Name the run for progress lines."""
        what = {
            "none": "no compression",
            "topk": f"keep {self.keep:g}, {self.bits} bits",
            "ecsq": f"dead zone at {self.target_bits:g} bits",
            "codec": f"{self.name}",
        }[self.kind]
        what += "" if self.rank is None else f", rank {self.rank}"
        what += "" if self.conduct is None else f", {self.conduct}"
        return f"{what}, seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """Return the run as plain data; without what came later than files and it has not.

        Files that a codec reads are named by their content.
        """
        data = {name: value for name, value in asdict(self).items() if value is not None}
        if self.options is not None:
            data["options"] = {
                name: sha256_of(Path(value))[:_HASH_DIGITS]
                if value and is_file_option(name)
                else value
                for name, value in json.loads(self.options).items()
            }
        return data

    def codec(self, settings: CalibrationSettings, cut: int) -> BoundaryCodec:
        """Make the codec that carries the boundary of a device with ``cut`` blocks in this run."""
        if self.kind == "none":
            return LosslessCodec()
        config: CodecConfig
        if self.options is not None:
            return codec_from(told_of_cut(codec_from(json.loads(self.options)).config, cut))
        if self.kind == "topk":
            config = settings.topk(self.bits, self.keep)
        else:
            config = settings.dead_zone(self.target_bits)
        return codec_from(config)


@dataclass(frozen=True)
class CellResult:
    """What a run ended with. Only the seconds differ from run to run."""

    metric: float
    uplink_bytes: int
    """Of all boundary messages of the run."""
    downlink_bytes: int
    cpu_s: float
    wall_s: float
    side_bytes: int = 0
    """Of all labels and masks, which go up too; releases before version 2 did not count them."""
    metrics: tuple[float, ...] = ()
    """After every round, where that was asked for."""
    losses: tuple[float, ...] = ()
    """Mean training loss of every round in nats, likewise."""


def cells_of(settings: CalibrationSettings) -> list[Cell]:
    """List all runs, uncompressed ones first; seed by seed, so that an early stop is even."""
    cells = []
    for seed in settings.seeds:
        cells.append(Cell("none", seed))
        cells += [Cell("none", seed, rank=rank) for rank in sorted(set(settings.ranks))]
        cells += [Cell("none", seed, conduct=name) for name in sorted(settings.conducts)]
        cells += [Cell("topk", seed, keep, bits) for bits in sorted(set(settings.bits))
                  for keep in sorted(set(settings.keeps))]  # fmt: skip
        cells += [Cell("ecsq", seed, target_bits=bits) for bits in sorted(set(settings.ecsq))]
    return cells


def run_cell(
    base: PreTrainedModel, task: Task, settings: CalibrationSettings, cell: Cell
) -> CellResult:
    """Fine-tune a copy of ``base``. Runs of one seed draw the same adapters and batches.

    Raises DivergedError naming the cell where the loss is no number.
    """
    cpu, wall = time.process_time(), time.perf_counter()
    config = settings.split_config(cell.seed, rank=cell.rank, conduct=cell.conduct)
    split = SplitModel(
        copy.deepcopy(base), config, codecs=lambda device: cell.codec(settings, device.blocks)
    )
    run = RunSettings(
        rounds=settings.rounds,
        local_steps=settings.local_steps,
        batches={device.id: settings.batch for device in config.devices},
        seed=cell.seed,
        evaluate_every=1 if settings.every_round else 0,
        evaluation_limit=settings.evaluation_limit,
        evaluation_part=settings.evaluation_part,
        schedule=Schedule(settings.schedule),
        accumulation=settings.accumulation,
    )
    try:
        record = fine_tune(split, task, run)
    except DivergedError as error:
        raise DivergedError(f"calibration run ({cell.label}): {error}") from None
    known = [row for row in record.rounds if settings.every_round]
    return CellResult(
        metrics=tuple(row.metric for row in known if row.metric is not None),
        losses=tuple(_loss(row) for row in known),
        metric=record.final_metric,
        uplink_bytes=sum(row.bytes_of("uplink_boundary") for row in record.rounds),
        downlink_bytes=sum(row.bytes_of("downlink_gradient") for row in record.rounds),
        cpu_s=time.process_time() - cpu,
        wall_s=time.perf_counter() - wall,
        side_bytes=sum(row.bytes_of("uplink_side") for row in record.rounds),
    )


def content_key(parts: Mapping[str, Any]) -> str:
    """Return the cache key of plain data that decides on a result."""
    versions = {"torch": str(torch.__version__), "transformers": transformers.__version__}
    data = {"version": _VERSION, **versions, **parts}
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


class FinishedCells:
    """Results by content, in a file of JSON lines that grows by one line as each run ends.

    A line cut short by a kill is dropped; others that cannot be read are moved to a file beside it,
    and told. Calibrations with different settings may share the file, one at a time.
    """

    def __init__(self, path: Path, model: str, task: Task, settings: CalibrationSettings) -> None:
        """``model`` is the model's hash. Raises InputError where the file cannot be read."""
        self.path = path
        self._common = {"model": model, "task": task.fingerprint, "run": settings.run_dict()}
        self._results: dict[str, CellResult] = {}
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise InputError(f"'{path}' cannot be read: {error.strerror}.") from None
        *lines, torn = content.split(b"\n")
        damaged = []
        for line in lines:
            row = _row(line)
            if row is not None:
                self._take(*row)
            elif line.strip():
                damaged.append(line)
        if torn or damaged:
            self._clean([line for line in lines if line not in damaged], damaged)

    def _take(self, key: str, result: CellResult) -> None:
        known = self._results.setdefault(key, result)
        if (known.metric, known.uplink_bytes) != (result.metric, result.uplink_bytes):
            raise InputError(
                f"'{self.path}' has two results of one run: {known.metric:.6g} and "
                f"{result.metric:.6g}. Remove the line that is wrong, or start with --fresh."
            )

    def _clean(self, whole: Sequence[bytes], damaged: Sequence[bytes]) -> None:
        """Leave the whole lines in the file, and say which others were there."""
        if damaged:
            where = set_lines_aside(self.path, damaged)
            LOGGER.warning(
                "'%s': %d lines cannot be read as results and are now in '%s'; those runs are made "
                "again", self.path, len(damaged), where.name,
            )  # fmt: skip
        write_bytes(self.path, b"".join(line + b"\n" for line in whole))

    def get(self, cell: Cell) -> CellResult | None:
        """Return the result, if this very run was done before."""
        return self._results.get(self._key(cell))

    def add(self, cell: Cell, result: CellResult) -> None:
        """Keep a result for good. Raises InputError where the disk does not take it."""
        key = self._key(cell)
        self._results[key] = result
        data = {"key": key, "cell": cell.to_dict(), "result": asdict(result)}
        row = {**data, "sha256": json_digest(data)}
        self._append(json.dumps(row, allow_nan=False) + "\n")

    def _key(self, cell: Cell) -> str:
        return content_key({**self._common, "cell": cell.to_dict()})

    def _append(self, text: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise DiskError(
                self.path, error, "Finished runs are kept: make room and go on with --resume."
            ) from None


def _row(line: bytes) -> tuple[str, CellResult] | None:
    """Key and result of a line; None for one that is not whole, or not as it was written."""
    try:
        data = json.loads(line)
        digest = data.pop("sha256", None)
        if digest is not None and digest != json_digest(data):  # earlier versions wrote none
            return None
        return str(data["key"]), result_of(data["result"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def result_of(data: Mapping[str, Any]) -> CellResult:
    """Return a result from plain data, whose lists were tuples."""
    curves = {name: tuple(data.get(name, ())) for name in ("metrics", "losses")}
    return CellResult(**{**data, **curves})


OnCell = Callable[[Cell, CellResult], None]


def _loss(row: RoundRow) -> float:
    if row.loss is None:
        raise InputError(
            f"calibration, round {row.round}: no batch has a label that counts (all are -100). "
            "Give data with labels, or more local steps."
        )
    return row.loss
