"""The grid of short fine-tunings: its cells, one run, and the file of finished ones."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.core.files import canonical_json
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.codec import CodecConfig, codec_from
from sftopt.training.evaluation import Task
from sftopt.training.loop import RunSettings, Schedule, fine_tune
from sftopt.training.split import BoundaryCodec, DivergedError, LosslessCodec, SplitModel

CELLS_NAME = "cells.jsonl"
"""File of the finished runs, one line each."""
_VERSION = 1
"""Raised when the same settings would give other results than before."""


@dataclass(frozen=True)
class Cell:
    """One fine-tuning: ``kind`` is ``none``, ``topk`` (keep, bits) or ``ecsq`` (target_bits)."""

    kind: str
    seed: int
    keep: float = 1.0
    bits: int = 32
    target_bits: float = 0.0

    @property
    def label(self) -> str:
        """Name the run for progress lines."""
        what = {
            "none": "no compression",
            "topk": f"keep {self.keep:g}, {self.bits} bits",
            "ecsq": f"dead zone at {self.target_bits:g} bits",
        }[self.kind]
        return f"{what}, seed {self.seed}"

    def codec(self, settings: CalibrationSettings) -> BoundaryCodec:
        """Make the codec that carries the boundary in this run."""
        if self.kind == "none":
            return LosslessCodec()
        config: CodecConfig
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


def cells_of(settings: CalibrationSettings) -> list[Cell]:
    """List all runs, those without compression first; seed by seed, so that an early stop is
    even.
    """
    cells = []
    for seed in settings.seeds:
        cells.append(Cell("none", seed))
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
    config = settings.split_config(cell.seed)
    split = SplitModel(copy.deepcopy(base), config, codecs=lambda device: cell.codec(settings))
    run = RunSettings(
        rounds=settings.rounds,
        local_steps=settings.local_steps,
        batches={device.id: settings.batch for device in config.devices},
        seed=cell.seed,
        evaluate_every=0,
        evaluation_limit=settings.evaluation_limit,
        schedule=Schedule(settings.schedule),
    )
    try:
        record = fine_tune(split, task, run)
    except DivergedError as error:
        raise DivergedError(f"calibration run ({cell.label}): {error}") from None
    return CellResult(
        metric=record.final_metric,
        uplink_bytes=sum(row.bytes_of("uplink_boundary") for row in record.rounds),
        downlink_bytes=sum(row.bytes_of("downlink_gradient") for row in record.rounds),
        cpu_s=time.process_time() - cpu,
        wall_s=time.perf_counter() - wall,
    )


def model_hash(model: PreTrainedModel) -> str:
    """Hash configuration and weights by sha256, whatever folder they lie in."""
    digest = hashlib.sha256()
    config = {
        name: value
        for name, value in model.config.to_dict().items()
        if name not in ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
    }
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def content_key(parts: Mapping[str, Any]) -> str:
    """Return the cache key of plain data that decides on a result."""
    versions = {"torch": str(torch.__version__), "transformers": transformers.__version__}
    data = {"version": _VERSION, **versions, **parts}
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


class FinishedCells:
    """Results by content, in a file of JSON lines that grows by one line as each run ends.

    A line cut short by a kill is dropped. Several calibrations may share the file.
    """

    def __init__(self, path: Path, model: str, task: Task, settings: CalibrationSettings) -> None:
        """``model`` is the model's hash. Raises InputError where the file cannot be read."""
        self.path = path
        self._common = {"model": model, "task": task.fingerprint, "run": settings.run_dict()}
        self._results: dict[str, CellResult] = {}
        if not path.exists():
            return
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"'{path}' cannot be read: {error}.") from None
        for line in text.splitlines():
            row = _row(line)
            if row is not None:
                self._results[row[0]] = row[1]
        if text and not text.endswith("\n"):
            self._append("\n")

    def get(self, cell: Cell) -> CellResult | None:
        """Return the result, if this very run was done before."""
        return self._results.get(self._key(cell))

    def add(self, cell: Cell, result: CellResult) -> None:
        """Keep a result for good. Raises InputError where the disk does not take it."""
        key = self._key(cell)
        self._results[key] = result
        row = {"key": key, "cell": asdict(cell), "result": asdict(result)}
        self._append(json.dumps(row, allow_nan=False) + "\n")

    def _key(self, cell: Cell) -> str:
        return content_key({**self._common, "cell": asdict(cell)})

    def _append(self, text: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise InputError(f"cannot write '{self.path}': {error.strerror}.") from None


def _row(line: str) -> tuple[str, CellResult] | None:
    """Key and result of a line; None for one that is not whole."""
    try:
        data = json.loads(line)
        return str(data["key"]), CellResult(**data["result"])
    except (ValueError, KeyError, TypeError):
        return None


OnCell = Callable[[Cell, CellResult], None]
