"""Settings that suit a task: what is asked for stands; bytes are measured over the grid's range."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sftopt.core.errors import InputError
from sftopt.training.calibrate.defaults import between, settings_for
from sftopt.training.data import load_task


def test_bytes_are_measured_densely_over_the_range_of_the_grid() -> None:
    made = settings_for(load_task("digit-scenes"), keeps=(0.6, 0.1, 0.3))
    measured = made.statistics_keeps
    assert (measured[0], measured[-1]) == (0.1, 0.6)
    assert all(1.0 < after / before < 1.2 for before, after in pairwise(measured))
    assert settings_for(load_task("digit-scenes"), keeps=(0.4,)).statistics_keeps == (0.4,)
    assert between((0.05, 0.5), 3) == (0.05, 0.1581, 0.5)


def test_what_is_asked_for_stands() -> None:
    task = load_task("digit-scenes")
    made = settings_for(task, statistics_keeps=(0.2, 0.5), local_steps=5, batch=None)
    assert made.statistics_keeps == (0.2, 0.5)
    assert made.rounds * 5 == task.training.steps
    assert made.batch == task.training.batch
    with pytest.raises(InputError, match="keeps: 0 is no fraction"):
        settings_for(task, keeps=(0.0, 0.5))
    with pytest.raises(InputError, match="targets: numbers in the unit of the metric"):
        settings_for(task, every_round=True, targets=(float("nan"),))
    with pytest.raises(InputError, match="local_steps = 0; at least 1"):
        settings_for(task, local_steps=0)
