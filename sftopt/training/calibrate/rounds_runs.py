"""The finished fine-tunings of a calibration as curves, and the laws of rounds that fit them."""

from __future__ import annotations

import logging
from typing import Any

from sftopt.core.calibration import AccuracyFit
from sftopt.core.target_laws import TargetLaws
from sftopt.training.calibrate.cells import Cell, FinishedCells
from sftopt.training.calibrate.rounds_fit import Curves, fit_laws
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.evaluation import Task

LOGGER = logging.getLogger(__name__)
"""Tells where no law comes of what was measured; on standard error by default."""


def laws_of(
    finished: FinishedCells, task: Task, settings: CalibrationSettings, fit: AccuracyFit
) -> TargetLaws | None:
    """Fit the laws of rounds to all finished runs; None, and told, where there are none."""
    laws = fit_laws(curves_of(finished, task, settings, fit), settings.targets)
    if laws is None:
        LOGGER.warning(
            "no level of the metric was reached by enough runs: the calibration holds no law of "
            "rounds; give lower --targets, or more --rounds"
        )
    return laws


def curves_of(
    finished: FinishedCells, task: Task, settings: CalibrationSettings, fit: AccuracyFit
) -> Curves:
    """Return the metric after every round of all finished runs, by the loss that the fit says."""

    def runs(**cell: Any) -> tuple[tuple[float, ...], ...]:
        found = [finished.get(Cell(seed=seed, **cell)) for seed in settings.seeds]
        return tuple(one.metrics for one in found if one is not None)

    return Curves(
        metric=task.metric,
        uncompressed=fit.fit.uncompressed,
        seeds=settings.seeds,
        plain=runs(kind="none"),
        settings={
            fit.fit.loss(keep, bits): runs(kind="topk", keep=keep, bits=bits)
            for keep in sorted(set(settings.keeps))
            for bits in sorted(set(settings.bits))
        },
        ranks={rank: runs(kind="none", rank=rank) for rank in sorted(set(settings.ranks))},
        conducts={name: runs(kind="none", conduct=name) for name in sorted(settings.conducts)},
        learning_rate=settings.learning_rate,
        local_steps=settings.local_steps,
    )
