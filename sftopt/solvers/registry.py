"""Solvers by name: our own, one file each, and third parties' entry points."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points

from sftopt.core.derived import Derived
from sftopt.core.errors import RefusedError, UnknownNameError
from sftopt.core.plugin_import import load_plugin
from sftopt.formulations.base import Formulation, Problem
from sftopt.formulations.registry import formulation_names, get_formulation
from sftopt.formulations.registry import is_built_in as is_built_in_formulation
from sftopt.solvers.base import Availability, Solver
from sftopt.solvers.isolate import probe_isolated, refusal_isolated

_MODULES = {
    "certify": "sftopt.solvers.certify",
    "exhaustive": "sftopt.solvers.exhaustive",
    "cyipopt": "sftopt.solvers.engines.cyipopt",
    "ipopt": "sftopt.solvers.engines.ipopt",
    "clarabel": "sftopt.solvers.engines.clarabel",
    "scs": "sftopt.solvers.engines.scs",
    "highs": "sftopt.solvers.engines.highs",
    "scip": "sftopt.solvers.engines.scip",
    "maingo": "sftopt.solvers.engines.maingo",
    "bonmin": "sftopt.solvers.engines.bonmin",
    "gurobi": "sftopt.solvers.engines.gurobi",
    "mindtpy": "sftopt.solvers.engines.mindtpy",
    "alpaqa": "sftopt.solvers.engines.alpaqa",
    "augmented-lagrangian": "sftopt.solvers.heuristics.augmented_lagrangian",
    "greedy": "sftopt.solvers.heuristics.greedy",
    "alternating": "sftopt.solvers.heuristics.alternating",
    "slsqp": "sftopt.solvers.engines.slsqp",
    "sqpmethod": "sftopt.solvers.engines.sqpmethod",
    "uno": "sftopt.solvers.engines.uno",
    "constructive": "sftopt.solvers.heuristics.constructive",
    "native-spectrum": "sftopt.solvers.spectrum.native",
}
"""Name -> module; the module's SOLVER is imported where it is used.

The order is that of preference where no solver is named: one made for a class of problems stands
before those that take it beside harder ones.
"""

_NEEDED = ("name", "kind", "honours", "summary")
"""What every solver says of itself."""

ENTRY_POINT_GROUP = "sftopt.solvers"
"""Where third parties' distributions register theirs."""


@lru_cache(maxsize=1)
def _third_party() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def solver_names() -> list[str]:
    """List the registered names, ours first."""
    return [*_MODULES, *(name for name in _third_party() if name not in _MODULES)]


def is_built_in(solver: Solver) -> bool:
    """Say whether ``solver`` is one of ours, whatever it calls itself."""
    module = _MODULES.get(solver.name)
    return module is not None and import_module(module).SOLVER is solver


def get_solver(name: str) -> Solver:
    """Return the solver called ``name``.

    Raises UnknownNameError, or RefusedError if it cannot load.
    """
    if name in _MODULES:
        found = import_module(_MODULES[name]).SOLVER
    elif name in _third_party():
        found = load_plugin("solver", name, _third_party()[name], "SOLVER", _NEEDED)
        if isinstance(found, Solver) and found.name != name:
            text = f"solver '{name}' (a plug-in) calls itself '{found.name}'; give both one name"
            raise RefusedError(text)
    else:
        raise UnknownNameError("solver", name, solver_names())
    if not isinstance(found, Solver):
        raise RefusedError(f"solver '{name}': {found!r} is not an sftopt Solver")
    return found


def availability(solver: Solver) -> Availability:
    """Ask ``solver`` whether it runs here; a probe that fails in any way is a no.

    Plug-ins are probed in a process of their own: a crash there is an answer too.
    """
    if is_built_in(solver):
        return solver.available()
    return probe_isolated(solver)


def solvers_for(formulation: Formulation) -> list[str]:
    """List the names of the solvers that accept ``formulation``, the preferred one first.

    Plug-ins that cannot load are left out. Whether one also runs here and takes an instance, says
    :func:`why_refused`.
    """
    names = []
    for name in solver_names():
        try:
            solver = get_solver(name)
        except RefusedError:
            continue
        if solver.accepts(formulation):
            names.append(name)
    return names


def formulations_for(solver: Solver, problem: Problem | None = None) -> list[str]:
    """List the names of the registered formulations that ``solver`` accepts, its default first.

    With ``problem`` only those that decide it.
    """
    names = []
    for name in formulation_names():
        try:
            formulation = get_formulation(name)
        except RefusedError:
            continue
        if solver.accepts(formulation) and problem in (None, formulation.problem):
            names.append(name)
    return sorted(names, key=lambda name: name != solver.default)


def default_formulation(solver: Solver) -> str:
    """Name the formulation that ``solver`` solves where none is given.

    Raises RefusedError where it declares none.
    """
    name = solver.default or next(iter(solver.formulations), "")
    if not name:
        raise RefusedError(
            f"solver '{solver.name}' declares no default formulation; name one of: "
            f"{', '.join(formulations_for(solver)) or 'none here, it takes none of the registered'}"
        )
    return name


def why_refused(solver: Solver, formulation: Formulation, derived: Derived) -> str | None:
    """Say why ``solver`` does not solve ``derived`` as ``formulation``; None where it does.

    The one place that decides it. Solvers that a refusal names instead are asked here too.
    """
    if is_built_in_formulation(formulation):
        unwritable = formulation.refusal(derived)
    else:
        unwritable = refusal_isolated(formulation.refusal, derived)
    if unwritable is not None:
        return unwritable
    if not solver.accepts(formulation):
        able = [
            name
            for name in solvers_for(formulation)
            if why_refused(get_solver(name), formulation, derived) is None
        ]
        return (
            f"solver '{solver.name}' does not take formulation '{formulation.name}'; it takes: "
            f"{', '.join(formulations_for(solver)) or 'none'}. "
            f"'{formulation.name}' is taken by: {', '.join(able) or 'no solver here'}."
        )
    there = availability(solver)
    if not there:
        fix = f" Mend it with: {there.fix}" if there.fix else ""
        return f"solver '{solver.name}' does not run here: {there.reason}.{fix}"
    if is_built_in(solver):
        return solver.refusal(derived)
    return refusal_isolated(solver.refusal, derived)
