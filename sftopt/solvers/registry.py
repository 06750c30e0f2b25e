"""Solvers by name: our own, one file each, and third parties' entry points."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points

from sftopt.core.errors import RefusedError, UnknownNameError
from sftopt.solvers.base import Availability, Solver
from sftopt.solvers.isolate import probe_isolated

_MODULES = {
    "certify": "sftopt.solvers.certify",
    "exhaustive": "sftopt.solvers.exhaustive",
    "scip": "sftopt.solvers.engines.scip",
    "bonmin": "sftopt.solvers.engines.bonmin",
    "cyipopt": "sftopt.solvers.engines.cyipopt",
    "ipopt": "sftopt.solvers.engines.ipopt",
    "alpaqa": "sftopt.solvers.engines.alpaqa",
    "augmented-lagrangian": "sftopt.solvers.heuristics.augmented_lagrangian",
    "clarabel": "sftopt.solvers.engines.clarabel",
    "scs": "sftopt.solvers.engines.scs",
    "highs": "sftopt.solvers.engines.highs",
    "gurobi": "sftopt.solvers.engines.gurobi",
    "mindtpy": "sftopt.solvers.engines.mindtpy",
    "greedy": "sftopt.solvers.heuristics.greedy",
    "alternating": "sftopt.solvers.heuristics.alternating",
    "slsqp": "sftopt.solvers.engines.slsqp",
    "sqpmethod": "sftopt.solvers.engines.sqpmethod",
    "uno": "sftopt.solvers.engines.uno",
    "constructive": "sftopt.solvers.heuristics.constructive",
    "native-spectrum": "sftopt.solvers.spectrum.native",
}
"""Name -> module; the module's SOLVER is imported where it is used."""

ENTRY_POINT_GROUP = "sftopt.solvers"


@lru_cache(maxsize=1)
def _third_party() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def solver_names() -> list[str]:
    """All registered names, ours first."""
    return [*_MODULES, *(name for name in _third_party() if name not in _MODULES)]


def is_built_in(solver: Solver) -> bool:
    """Say whether ``solver`` is one of ours, whatever it calls itself."""
    module = _MODULES.get(solver.name)
    return module is not None and import_module(module).SOLVER is solver


def get_solver(name: str) -> Solver:
    """The solver of that name. Raises UnknownNameError, or RefusedError if it cannot load."""
    if name in _MODULES:
        found = import_module(_MODULES[name]).SOLVER
    elif name in _third_party():
        module, _, attribute = _third_party()[name].partition(":")
        try:
            found = getattr(import_module(module), attribute or "SOLVER")
            found = found() if isinstance(found, type) else found
        except (Exception, SystemExit) as error:  # noqa: BLE001  foreign code may fail
            text = f"solver '{name}' (a plug-in) cannot load: {type(error).__name__}: {error}"
            raise RefusedError(text) from None
    else:
        raise UnknownNameError("solver", name, solver_names())
    if not isinstance(found, Solver):
        raise RefusedError(f"solver '{name}': {found!r} is not an sftopt Solver")
    return found


def availability(solver: Solver) -> Availability:
    """The solver's own answer; a probe that fails in any way, as a plug-in's may, is a no.

    Plug-ins are probed in a process of their own: a crash there is an answer too.
    """
    if is_built_in(solver):
        return solver.available()
    return probe_isolated(solver)


def solvers_for(formulation: str) -> list[str]:
    """Names of the solvers that take ``formulation``; plug-ins that cannot load are left out."""
    names = []
    for name in solver_names():
        try:
            solver = get_solver(name)
        except RefusedError:
            continue
        if formulation in solver.formulations:
            names.append(name)
    return names
