"""A solver in one file: random changes of single cuts, kept where the round gets shorter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sftopt.plugins import (
    Availability,
    Outcome,
    Problem,
    ProblemClass,
    Progress,
    Solver,
    Takes,
    Task,
    Termination,
    delay_s,
    repaired_candidate,
)

TRIES = 200
"""Changes that are tried at most."""


class ExampleSearch(Solver):
    """Random search over the cuts of problem (13), from the start that every run is given."""

    name = "example-search"
    kind = "heuristic"
    takes = (Takes("native", {ProblemClass.NATIVE}, Problem.PLAN),)
    default = "native"
    honours = frozenset({"time_limit", "seed", "x0"})
    native_options = False
    summary = "random changes of single cuts (an example plug-in)"

    def available(self) -> Availability:
        """Say that it runs here: it needs nothing but NumPy."""
        return Availability(True, version="0.1.0", engine_version=f"NumPy {np.__version__}")

    def run(self, task: Task) -> Outcome:
        """Search until the tries, the time or the user's patience are over."""
        if task.start is None:
            return Outcome(Termination.NUMERICAL_ERROR, message="there is no start")
        random = np.random.default_rng(task.options.seed)
        best, best_s = task.start.candidate, task.start.objective_s
        for _ in range(TRIES):
            if task.deadline.passed() or task.stop_requested():
                return Outcome(Termination.TIME_LIMIT, best, best_s)
            cuts = best.cuts.copy()
            cuts[random.integers(len(cuts))] += random.choice([-1, 1])
            tried = repaired_candidate(task.derived, replace(best, cuts=cuts))
            if tried is not None and delay_s(task.derived, tried) < best_s:
                best, best_s = tried, delay_s(task.derived, tried)
                task.report(Progress(incumbent_s=best_s, candidate=best))  # survives a kill
        return Outcome(Termination.HEURISTIC_DONE, best, best_s)
