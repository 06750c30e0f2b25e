"""Solvers that misbehave on purpose, and a fixture's worth of plumbing to put them in place."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.instance import Instance
from sftopt.core.status import Termination
from sftopt.formulations import registry as formulation_registry
from sftopt.formulations.base import Formulation
from sftopt.solvers import registry
from sftopt.solvers.base import Availability, Outcome, Progress, Solver, Task
from tests.samples import sample_instance

Action = Callable[[Task], Outcome]


class Fake(Solver):
    """Runs whatever it is given. Isolated unless ``in_process``."""

    name = "fake"
    kind = "local"
    formulations = ("native", "joint-product", "joint-relaxed")
    honours = frozenset({"time_limit"})
    summary = "a solver made for tests"

    def __init__(self, action: Action, there: Availability | None = None) -> None:
        self.action = action
        self.there = there or Availability(True, version="fake 1", engine_version="engine 2")

    def available(self) -> Availability:
        return self.there

    def run(self, task: Task) -> Outcome:
        return self.action(task)


class FakeGlobal(Fake):
    """A global engine, ours where it is installed by :func:`install_ours`."""

    kind = "global"


class FakeRestricted(Fake):
    """Takes a restriction."""

    formulations = ("joint-grid-conic", "joint-fixed-socp")


class FakeHere(Fake):
    """The same, in the calling process where it is installed as one of ours."""

    in_process = True


def install_ours(patch: pytest.MonkeyPatch, solver: Solver) -> None:
    """Make ``solver`` a built-in one."""
    patch.setitem(registry._MODULES, solver.name, __name__)
    patch.setitem(globals(), "SOLVER", solver)


def install(patch: pytest.MonkeyPatch, solver: Solver) -> None:
    """Make ``solver`` a plug-in called by its own name, as an entry point would.

    One that runs in the calling process is made a built-in one: no other may.
    """
    if solver.in_process:
        install_ours(patch, solver)
    else:
        install_foreign(patch, solver)


def install_foreign(patch: pytest.MonkeyPatch, solver: Solver) -> None:
    """Make ``solver`` a plug-in whatever it says of itself."""
    patch.delitem(registry._MODULES, solver.name, raising=False)
    patch.setattr(registry, "_third_party", lambda: {solver.name: f"{__name__}:INSTALLED"})
    patch.setitem(globals(), "INSTALLED", solver)


SOLVER: Any = None
"""What the made-up module of a built-in solver has at its foot."""
INSTALLED: Any = None
"""What the made-up entry point leads to."""


def install_formulations(patch: pytest.MonkeyPatch, *formulations: Formulation) -> None:
    """Make every one of ``formulations`` a plug-in called by its own name."""
    points = {one.name: f"{__name__}:FORM_{number}" for number, one in enumerate(formulations)}
    patch.setattr(formulation_registry, "_third_party", lambda: points)
    for number, one in enumerate(formulations):
        patch.setitem(globals(), f"FORM_{number}", one)


def tiny(**changes: Any) -> Instance:
    """Two devices, four blocks, two modes: solved in milliseconds."""
    return sample_instance(2, 0, blocks=4, modes=(2, 4), **changes)


def start_of(task: Task) -> Candidate:
    """The feasible candidate every run is given."""
    assert task.start is not None
    return task.start.candidate


def news(task: Task, **changes: Any) -> Progress:
    """The start as an incumbent."""
    assert task.start is not None
    sent = Progress(task.start.objective_s, None, task.start.candidate)
    return replace(sent, **changes)


def answer(task: Task, **changes: Any) -> Outcome:
    """The start as a local optimum."""
    assert task.start is not None
    said = Outcome(Termination.CONVERGED_LOCAL, task.start.candidate, task.start.objective_s)
    return replace(said, **changes)


def lowest_keep(derived: Derived, candidate: Candidate) -> Candidate:
    """The candidate with every keep fraction at its lowest: too inaccurate."""
    low = np.array([derived.options[o].keep_low for o in candidate.choices()])
    return replace(candidate, keep=low)


def hang(task: Task) -> Outcome:
    """Never end, whoever asks."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


def after_news(action: Callable[[Task], Outcome]) -> Callable[[Task], Outcome]:
    def run(task: Task) -> Outcome:
        task.report(news(task, bound_s=1.0, bound_source="the fake"))
        return action(task)

    return run
