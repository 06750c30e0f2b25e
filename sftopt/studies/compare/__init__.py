"""Schemes side by side on one cell: rules into plans, plans before the judge, rows for people."""

from sftopt.studies.compare.comparison import Comparison, compare, compare_cell
from sftopt.studies.compare.decide import Settings
from sftopt.studies.compare.one import scheme_plan
from sftopt.studies.compare.row import SchemeRow

__all__ = ["Comparison", "SchemeRow", "Settings", "compare", "compare_cell", "scheme_plan"]
