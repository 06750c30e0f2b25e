"""Schemes over a range of cells: one field or several varied, one row a cell, lines for a paper."""

from sftopt.studies.sweep.axes import Axis, axis_of
from sftopt.studies.sweep.sweep import Sweep, sweep

__all__ = ["Axis", "Sweep", "axis_of", "sweep"]
