"""From a suite to planned runs, each with the key that says whether a row answers it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.fields import LARGEST
from sftopt.core.files import json_digest
from sftopt.studies.race.cases import Case, cases_of
from sftopt.studies.race.suite import Entry, Suite

Versions = Mapping[str, Mapping[str, str]]
"""By solver: its wrapper's and engine's versions."""


@dataclass(frozen=True)
class PlannedRun:
    """One run that a suite asks for."""

    suite: str
    case: Case
    entry: Entry
    seed: int
    limit: float | dict[str, Any]
    """Wall seconds, or what they are a multiple of."""
    rel_gap: float
    memory_mb: float
    threads: int
    start: str
    key: str = ""

    @property
    def name(self) -> str:
        """Return what messages call it."""
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{self.entry.name} on {self.case.name}{seed}"

    def keyed(self, versions: Versions) -> PlannedRun:
        """Return the run with its key: sha256 of what was asked, without machine and commit."""
        asked = {
            "instance": self.case.instance.hash,
            "round": self.case.round_hash,
            "entry": [self.entry.solver, self.entry.formulation],
            "options": self.entry.options,
            "seed": self.seed,
            "limit": self.limit,
            "rel_gap": self.rel_gap,
            "memory_mb": self.memory_mb,
            "start": self.start,
            "threads": self.threads,
            "versions": dict(versions.get(self.entry.solver, {})),
        }
        return replace(self, key=json_digest(asked))


@dataclass(frozen=True)
class Wanted:
    """What of a suite is run; empty: all of it."""

    solvers: tuple[str, ...] = ()
    formulations: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    limit_s: float | None = None
    memory_mb: float | None = None
    shard: tuple[int, int] | None = None
    """(i, n): the i-th of n parts, counted from 1; an instance is in one of them."""


ALL = Wanted()
"""The whole suite."""


def planned(suite: Suite, wanted: Wanted = ALL) -> list[PlannedRun]:
    """Expand a suite: every wanted pair of instance, entry and seed, in the order they run.

    What another's limit is a multiple of runs before it. Runs have no key yet. Raises
    UnknownNameError for a name that the suite does not have, InputError where nothing is left or
    something cannot be planned.
    """
    suite = _limited(suite, wanted)
    _check_names(suite, wanted)
    first = suite.limit.of if suite.limit is not None else ""
    entries = [entry for entry in suite.entries if _is_wanted(entry, wanted, first)]
    entries.sort(key=lambda entry: entry.name != first)
    runs: list[PlannedRun] = []
    cases = [case for case in cases_of(suite) if _is_wanted_case(case, wanted)]
    if wanted.shard is not None:
        part, parts = wanted.shard
        cases = cases[part - 1 :: parts]
    for case in cases:
        devices = len(case.instance.devices)
        for entry in entries:
            if not entry.min_devices <= devices <= (entry.max_devices or devices):
                continue
            for seed in suite.seeds:
                run = PlannedRun(
                    suite.name, case, entry, seed, _limit(suite, entry), suite.rel_gap,
                    suite.memory_mb, suite.threads, suite.start,
                )  # fmt: skip
                runs.append(run)
    if not runs and wanted.shard is None:
        raise InputError(f"suite '{suite.name}': nothing is left of it with these options")
    return runs


def solver_names_of(runs: Iterable[PlannedRun]) -> list[str]:
    """List the solvers of runs, each once."""
    return list(dict.fromkeys(run.entry.solver for run in runs))


def rate_laws_of(runs: Iterable[PlannedRun]) -> list[str]:
    """List the rate laws of the instances of runs, each once."""
    return list(dict.fromkeys(run.case.instance.radio.power.value for run in runs))


def _limited(suite: Suite, wanted: Wanted) -> Suite:
    update: dict[str, Any] = {}
    asked = (("--time-limit", wanted.limit_s, "s"), ("--memory", wanted.memory_mb, "MB"))
    for name, value, unit in asked:
        if value is not None and not 0.0 < value <= LARGEST:
            raise InputError(f"{name} is {value:g} {unit}; a number above 0 is needed")
    if wanted.limit_s is not None:
        update |= {"limit_s": wanted.limit_s, "limit": None}
        update["entries"] = tuple(one.model_copy(update={"limit_s": None}) for one in suite.entries)
    if wanted.memory_mb is not None:
        update["memory_mb"] = wanted.memory_mb
    return suite.model_copy(update=update) if update else suite


def _check_names(suite: Suite, wanted: Wanted) -> None:
    known: dict[str, tuple[Iterable[str], Iterable[str]]] = {
        "solver of this suite": (wanted.solvers, {one.solver for one in suite.entries}),
        "formulation of this suite": (
            wanted.formulations,
            {one.formulation for one in suite.entries},
        ),
        "family of this suite": (
            wanted.families,
            {
                name
                for part in suite.instances
                for name in ([part.family] if isinstance(part.family, str) else part.family)
            },
        ),
    }
    for kind, (asked, there) in known.items():
        for name in asked:
            if name not in there:
                raise UnknownNameError(kind, name, there)


def _is_wanted(entry: Entry, wanted: Wanted, needed: str) -> bool:
    if entry.name == needed:
        return True
    return (not wanted.solvers or entry.solver in wanted.solvers) and (
        not wanted.formulations or entry.formulation in wanted.formulations
    )


def _is_wanted_case(case: Case, wanted: Wanted) -> bool:
    family = case.generator.get("family", "")
    return (not wanted.families or family in wanted.families) and (
        not wanted.sizes or len(case.instance.devices) in wanted.sizes
    )


def _limit(suite: Suite, entry: Entry) -> float | dict[str, Any]:
    if entry.limit_s is not None:
        return entry.limit_s
    if suite.limit is None:
        assert suite.limit_s is not None  # one of the two is there
        return suite.limit_s
    if entry.name == suite.limit.of:
        return FIRST_LIMIT_S
    return suite.limit.model_dump(mode="json")


FIRST_LIMIT_S = 60.0
"""Limit in seconds of the entry whose time the others' limits are multiples of."""


__all__ = ["ALL", "PlannedRun", "Versions", "Wanted", "planned", "rate_laws_of", "solver_names_of"]
