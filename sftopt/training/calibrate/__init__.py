"""Calibration: what the planner must know of a model and a task, measured, as one file.

Profile of the blocks, payloads of the codec, a grid of short fine-tunings and the fit of equation
(12) to them; :mod:`sftopt.core.calibration` reads the file.
"""

from sftopt.training.calibrate.cells import Cell, CellResult, cells_of
from sftopt.training.calibrate.fit import Runs, fit_accuracy
from sftopt.training.calibrate.run import CalibrationNews, calibrate, calibrate_model, run_here
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.calibrate.workers import Sources

__all__ = [
    "CalibrationNews",
    "CalibrationSettings",
    "Cell",
    "CellResult",
    "Runs",
    "Sources",
    "calibrate",
    "calibrate_model",
    "cells_of",
    "fit_accuracy",
    "run_here",
]
