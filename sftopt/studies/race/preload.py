"""What an agent loads before its first run, so that no run is charged for it."""

from __future__ import annotations

from collections.abc import Iterable

from sftopt.core.errors import SftoptError
from sftopt.core.families import generate
from sftopt.solvers.registry import availability, default_formulation, get_solver, is_built_in
from sftopt.solvers.run import solve
from sftopt.solvers.start import load_start

_WARMED = {"psd": "jetson-vit-b", "total": "weichen"}
"""Rate law -> the family that our own compiled code is run on once."""
_WARM_DEVICES = 3
"""Number of devices of those cells."""


def preload(solvers: Iterable[str], laws: Iterable[str]) -> dict[str, dict[str, str]]:
    """Import and probe solvers and run our own once a rate law; return the versions by solver.

    Plug-ins are only probed, in a process of their own: what they load, they load in each run.
    """
    load_start()
    families = [_WARMED[law] for law in laws if law in _WARMED]
    versions: dict[str, dict[str, str]] = {}
    for name in solvers:
        try:
            solver = get_solver(name)
        except SftoptError:
            versions[name] = {}
            continue
        there = availability(solver)
        versions[name] = {
            "wrapper": there.version,
            "engine": there.engine_version,
            "library": there.linked_library,
        }
        if is_built_in(solver) and solver.in_process and "native" in default_formulation(solver):
            _warm(name, families)
    return versions


def _warm(solver: str, families: Iterable[str]) -> None:
    for family in families:
        solve(generate(family, _WARM_DEVICES), solver=solver, time_limit=10.0, rel_gap=1e-2)


__all__ = ["preload"]
