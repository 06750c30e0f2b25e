"""What a calibration with a menu is refused for before anything is measured or written."""

from __future__ import annotations

from collections.abc import Sequence

from sftopt.training.calibrate.budgets import MenuItem
from sftopt.training.calibrate.check import check_fits
from sftopt.training.calibrate.fit import check_cells
from sftopt.training.calibrate.points import check_menu
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.calibrate.workers import Sources


def check_start(
    sources: Sources, settings: CalibrationSettings, menu: Sequence[MenuItem] | None = (),
    *, fine_tunings: bool = True,
) -> None:  # fmt: skip
    """Refuse model, data, settings or a ``menu`` that cannot be, naming the way out.

    Seconds for a small model, and nothing is written; a calibration finds the same faults, those of
    the menu only when all else is measured. Raises InputError.
    """
    task = sources.load_task()
    base = sources.load_model(task)
    check_fits(base, task, settings, sources.model or "")
    if fine_tunings:
        check_cells(len(set(settings.keeps)) * len(set(settings.bits)))
    if menu is None or menu:
        check_menu(base, task, sources, settings, menu)
