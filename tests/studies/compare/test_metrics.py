"""Every number of a row can be drawn, and nothing else."""

from __future__ import annotations

import pytest

import sftopt
from sftopt.core.errors import UnknownNameError
from sftopt.core.families import generate
from sftopt.studies.compare.comparison import flat_rows
from sftopt.studies.compare.metrics import METRICS, metric_of


def test_the_figures_are_the_numbers_of_a_row() -> None:
    cell = generate("jetson-vit-b", 2, 0)
    rows = flat_rows(sftopt.compare(cell, ["splitlora", "fedlora"]))
    numbers = {
        name
        for row in rows
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert numbers <= set(METRICS)
    assert set(METRICS) <= set(rows[0])


def test_words_and_units_are_those_of_people() -> None:
    assert metric_of("round_s").label == "round delay in s"
    assert metric_of("bytes.up").head == "Boundary up of a round (MB)"
    with pytest.raises(UnknownNameError, match="round_s"):
        metric_of("rounds_s")
