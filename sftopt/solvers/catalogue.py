"""What there is: every formulation and solver, with availability probed, as plain data."""

from __future__ import annotations

from typing import Any

from sftopt.core.errors import SftoptError
from sftopt.formulations.registry import formulation_names, get_formulation
from sftopt.solvers.registry import (
    availability,
    formulations_for,
    get_solver,
    solver_names,
)


def list_solvers() -> dict[str, Any]:
    """List every formulation and solver as ``{"formulations": [...], "solvers": [...]}``.

    Which formulations a solver takes is computed from its declaration. Never raises: a plug-in that
    cannot load is a row that says why.
    """
    formulations = []
    for name in formulation_names():
        try:
            found = get_formulation(name)
        except SftoptError as error:
            formulations.append(
                {"name": name, "promise": None, "problem_class": None, "summary": str(error)}
            )
            continue
        formulations.append(
            {
                "name": name,
                "promise": found.promise.value,
                "problem_class": found.problem_class.value,
                "layer": found.layer,
                "summary": found.summary,
            }
        )
    return {"formulations": formulations, "solvers": [_solver_row(n) for n in solver_names()]}


def _solver_row(name: str) -> dict[str, Any]:
    try:
        solver = get_solver(name)
    except (SftoptError, ImportError) as error:
        return {
            "name": name,
            "available": False,
            "version": "",
            "engine_version": "",
            "linked_library": "",
            "reason": str(error),
            "fix": "",
            "formulations": [],
            "kind": None,
            "summary": "",
        }
    there = availability(solver)
    return {
        "name": name,
        "available": bool(there),
        "version": there.version,
        "engine_version": there.engine_version,
        "linked_library": there.linked_library,
        "reason": there.reason,
        "fix": there.fix,
        "formulations": formulations_for(solver),
        "kind": solver.kind,
        "summary": solver.summary,
    }
