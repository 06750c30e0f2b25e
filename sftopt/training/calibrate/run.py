"""A calibration from start to file: profile, payloads, grid, fit; resumable at every step."""

from __future__ import annotations

import copy
import logging
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from transformers import PreTrainedModel

from sftopt.core.calibration import (
    AccuracyFit,
    Calibration,
    CodecProfile,
    EcsqCell,
    Profile,
    Source,
)
from sftopt.core.files import json_digest, read_json, write_json
from sftopt.core.folder_lock import FolderLock
from sftopt.core.instance import Workload
from sftopt.training.calibrate.cells import (
    CELLS_NAME,
    Cell,
    CellResult,
    FinishedCells,
    OnCell,
    cells_of,
    content_key,
    run_cell,
)
from sftopt.training.calibrate.check import check_fits
from sftopt.training.calibrate.fit import Runs, check_cells, fit_accuracy, mean_half_width
from sftopt.training.calibrate.payloads import boundary_pairs, codec_profile
from sftopt.training.calibrate.profile import profile_model
from sftopt.training.calibrate.rounds_runs import laws_of
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.calibrate.workers import Sources, run_in_processes
from sftopt.training.codec import codec_from, measure
from sftopt.training.evaluation import Task
from sftopt.training.model_hash import model_hash
from sftopt.training.split import SplitModel
from sftopt.training.threads import one_thread

LOGGER = logging.getLogger(__name__)
"""Tells what was found damaged and what is done about it; on standard error by default."""

MEASURED_NAME = "measured.json"
"""File of the profile and the modes as measured."""
_PACKAGES = ("sftopt", "torch", "transformers", "peft", "numpy")
"""Packages whose versions a calibration records."""


@dataclass(frozen=True)
class CalibrationNews:
    """How far it is. ``left_s`` is None until the pace is known."""

    stage: str
    """``profile``, ``payloads``, ``fine-tunings`` or ``fit``."""
    done: int
    total: int
    """Fine-tunings in all, finished before or now; 0 outside that stage."""
    elapsed_s: float
    left_s: float | None
    text: str


News = Callable[[CalibrationNews], None]
RunCells = Callable[[Sequence[Cell], OnCell], None]
"""Runs cells and tells each result as it comes."""


@dataclass(frozen=True)
class _Measured:
    """What comes before the grid."""

    profile: Profile
    workload: Workload
    codec: CodecProfile
    ecsq: dict[float, tuple[float, float]]
    """Target entropy -> (eta_q, sigma) measured."""


def calibrate(
    sources: Sources,
    settings: CalibrationSettings,
    *,
    work: Path,
    workers: int = 2,
    fine_tunings: bool = True,
    device: str = "cpu",
    fresh: bool = False,
    command: str = "",
    news: News | None = None,
) -> Calibration:
    """Measure a model on a task; everything finished is kept in folder ``work`` and reused.

    ``workers`` processes run the fine-tunings, on the processor; 1 runs them in this one.
    ``fine_tunings`` false leaves the accuracy out. ``device`` is where profile and payloads are
    measured. ``fresh`` runs everything anew. Raises InputError for model, data or settings that do
    not fit, DivergedError, and what a failed process said.
    """
    task = sources.load_task()
    base = sources.load_model(task)

    def run(cells: Sequence[Cell], on_cell: OnCell) -> None:
        if workers > 1:
            run_in_processes(sources, settings, cells, workers, on_cell)
        else:
            run_here(base, task, settings, cells, on_cell)

    return calibrate_model(
        base,
        task,
        settings,
        work=work,
        run=run if fine_tunings else None,
        model_name=sources.model or "",
        device=device,
        fresh=fresh,
        command=command,
        news=news,
    )


def run_here(
    base: PreTrainedModel,
    task: Task,
    settings: CalibrationSettings,
    cells: Sequence[Cell],
    on_cell: OnCell,
) -> None:
    """Run the cells one after the other in this process."""
    for cell in cells:
        on_cell(cell, run_cell(base, task, settings, cell))


def calibrate_model(
    base: PreTrainedModel,
    task: Task,
    settings: CalibrationSettings,
    *,
    work: Path,
    run: RunCells | None,
    model_name: str = "",
    device: str = "cpu",
    fresh: bool = False,
    command: str = "",
    news: News | None = None,
) -> Calibration:
    """Calibrate a model and a task at hand; ``run`` None leaves the accuracy out."""
    tell = _Teller(news or (lambda _: None))
    key = model_hash(base)
    check_fits(base, task, settings, model_name)
    if run is not None:
        check_cells(len(set(settings.keeps)) * len(set(settings.bits)))
    with FolderLock(work):
        if fresh:
            for name in (CELLS_NAME, MEASURED_NAME):
                (work / name).unlink(missing_ok=True)
        with one_thread():
            measured = _measured(base, task, settings, work, key, device, tell)
        accuracy = laws = None
        if run is not None:
            finished = FinishedCells(work / CELLS_NAME, key, task, settings)
            _run_missing(finished, settings, run, tell)
            tell("fit", "equation (12)")
            accuracy = _fit(finished, task, settings, measured)
            if settings.every_round:
                tell("fit", "rounds to a target")
                laws = laws_of(finished, task, settings, accuracy)
    return Calibration(
        name=f"{task.name} on {base.config.model_type} of {measured.workload.blocks} blocks",
        source=Source(
            model=model_name,
            model_hash=key,
            task=task.name,
            task_fingerprint=task.fingerprint,
            seed=settings.seeds[0],
            machine=_machine(device),
            threads=1,
            versions=_versions(),
            command=command,
        ),
        workload=measured.workload,
        profile=measured.profile,
        codec=measured.codec,
        accuracy=accuracy,
        time_to_target=laws,
    )


class _Teller:
    """News with the time since the start."""

    def __init__(self, news: News) -> None:
        self._news = news
        self._began = time.monotonic()

    def __call__(
        self, stage: str, text: str, done: int = 0, total: int = 0, left_s: float | None = None
    ) -> None:
        elapsed = time.monotonic() - self._began
        self._news(CalibrationNews(stage, done, total, elapsed, left_s, text))


def _run_missing(
    finished: FinishedCells, settings: CalibrationSettings, run: RunCells, tell: _Teller
) -> None:
    """Run what is not in the file yet; each result is on disk before the next is told."""
    cells = cells_of(settings)
    missing = [cell for cell in cells if finished.get(cell) is None]
    done = known = len(cells) - len(missing)
    tell("fine-tunings", f"{known} of {len(cells)} known", known, len(cells))
    began = time.monotonic()

    def on_cell(cell: Cell, result: CellResult) -> None:
        nonlocal done
        finished.add(cell, result)
        done += 1
        pace = (time.monotonic() - began) / (done - known)
        text = f"{cell.label}: {result.metric:.4g}"
        tell("fine-tunings", text, done, len(cells), pace * (len(cells) - done))

    if missing:
        run(missing, on_cell)


def _fit(
    finished: FinishedCells, task: Task, settings: CalibrationSettings, measured: _Measured
) -> AccuracyFit:
    """The fit of all finished cells."""

    def metrics(**cell: Any) -> list[float]:
        found = [finished.get(Cell(seed=seed, **cell)) for seed in settings.seeds]
        return [one.metric for one in found if one is not None]

    base = metrics(kind="none")
    runs = Runs(
        metric=task.metric,
        uncompressed=base,
        cells={
            (keep, bits): metrics(kind="topk", keep=keep, bits=bits)
            for keep in sorted(set(settings.keeps))
            for bits in sorted(set(settings.bits))
        },
    )
    ecsq = []
    for target, (value_bits, side) in measured.ecsq.items():
        reached = metrics(kind="ecsq", target_bits=target)
        losses = [plain - coded for plain, coded in zip(base, reached, strict=True)]
        tensor = torch.tensor(losses, dtype=torch.float64).numpy()
        ecsq.append(
            EcsqCell(
                target_bits=target,
                value_bits=value_bits,
                side_bits_per_element=side,
                metric=tuple(reached),
                loss=tuple(losses),
                mean_loss=float(tensor.mean()),
                half_width=mean_half_width(tensor),
            )
        )
    return fit_accuracy(runs, settings.seeds, settings.run_dict(), ecsq)


def _measured(
    base: PreTrainedModel,
    task: Task,
    settings: CalibrationSettings,
    work: Path,
    model: str,
    device: str,
    tell: _Teller,
) -> _Measured:
    """Profile and payloads, from the work folder where the very same were measured before."""
    key = content_key(
        {
            "model": model,
            "task": task.fingerprint,
            "settings": settings.to_dict(),
            "machine": _machine(device),
            "threads": torch.get_num_threads(),
            "gradients": "of what arrived",  # not, as earlier, of what was sent
        }
    )
    path = work / MEASURED_NAME
    found = _read_measured(path, key)
    if found is not None:
        return found
    tell("profile", "seconds, FLOP and bytes of every block")
    split = SplitModel.from_pretrained(
        copy.deepcopy(base), settings.split_config(settings.seeds[0], settings.cuts[:1]),
        device_map=None if device == "cpu" else device,
    )  # fmt: skip
    profile, workload = profile_model(split, task, settings)
    tell("payloads", "boundaries of real batches")
    calibrated_on = boundary_pairs(split, task, settings, settings.tensors, held_out=False)
    others = boundary_pairs(split, task, settings, max(2, settings.tensors // 2), held_out=True)
    codec = codec_profile(
        calibrated_on, others, settings, lambda keep: tell("payloads", f"keep fraction {keep:g}")
    )
    ecsq = {}
    for target in sorted(set(settings.ecsq)):
        statistics = measure(
            codec_from(settings.dead_zone(target)), [pair.activation for pair in calibrated_on]
        )
        ecsq[target] = (statistics.value_bits, statistics.side_bits_per_element)
    data = {
        "key": key,
        "profile": profile.model_dump(mode="json"),
        "workload": workload.model_dump(mode="json"),
        "codec": codec.model_dump(mode="json"),
        "ecsq": [[target, *values] for target, values in ecsq.items()],
    }
    write_json(path, {**data, "sha256": json_digest(data)})
    return _Measured(profile, workload, codec, ecsq)


def _read_measured(path: Path, key: str) -> _Measured | None:
    """What the file holds, if it is of this key and whole."""
    if not path.is_file():
        return None
    data = read_json(path, "calibration's work")
    digest = data.pop("sha256", None)
    if digest is not None and digest != json_digest(data):  # earlier versions wrote none
        LOGGER.warning("'%s' is not as it was written; profile and payloads are made again", path)
        return None
    if data.get("key") != key:
        return None
    try:
        return _Measured(
            Profile.model_validate(data["profile"]),
            Workload.model_validate(data["workload"]),
            CodecProfile.model_validate(data["codec"]),
            {float(target): (float(eta), float(sigma)) for target, eta, sigma in data["ecsq"]},
        )
    except (ValidationError, KeyError, TypeError, ValueError):
        return None  # written by another version: measured again


def _machine(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a bare checkout that was never installed
            found[name] = "unknown"
    return found
