"""Writing a model for other solvers: .nl for Pyomo models, .lp and .mps where all rows allow."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pyomo.environ as pyo
from pyomo.repn.plugins.nl_writer import NLWriter

from sftopt.core.errors import InputError
from sftopt.core.files import write_text
from sftopt.formulations.files.linear_program import linear_program
from sftopt.formulations.files.linear_text import lp_text, mps_text

_FORMATS = {".nl": "nl", ".lp": "lp", ".mps": "mps"}
"""Endings of files and Pyomo's name of the format."""


def algebraic_class(model: pyo.ConcreteModel) -> str:
    """Return ``linear``, ``quadratic`` or ``nonlinear``: the highest degree in a model."""
    highest = 1
    for data in model.component_data_objects((pyo.Objective, pyo.Constraint), active=True):
        body = data.expr if data.ctype is pyo.Objective else data.body
        degree = body.polynomial_degree()
        if degree is None or degree > 2:
            return "nonlinear"
        highest = max(highest, degree)
    return "linear" if highest <= 1 else "quadratic"


def export_model(model: Any, path: str | os.PathLike[str]) -> list[Path]:
    """Write ``model`` to ``path``, all or not at all, and return the files written, it first.

    The ending chooses the format. ``.nl`` takes every Pyomo model; the names of its variables and
    rows are in two files beside it, ``.col`` and ``.row``, where solvers look for them. ``.lp`` and
    ``.mps`` take linear models (``joint-grid-milp``) and quadratic Pyomo ones, with the model's own
    names. Values are in model units: the objective times ``model.objective_unit_s`` is in seconds.

    Raises InputError for another ending, a model that the format cannot hold, or a place that
    cannot be written.
    """
    file = Path(path)
    kind = _FORMATS.get(file.suffix.lower())
    if kind is None:
        raise InputError(
            f"cannot export to '{file}': the ending '{file.suffix}' names no format; "
            f"use one of {', '.join(_FORMATS)}."
        )
    if not isinstance(model, pyo.ConcreteModel):
        write_text(file, _linear_text(model, kind, file))
        return [file]
    if kind == "nl":
        return _write_nl(model, file)
    if algebraic_class(model) == "nonlinear":
        raise InputError(
            f"cannot export '{model.name}' to '{file}': the model is nonlinear (logarithms, "
            f"exponentials or products of three), and {file.suffix} holds linear and quadratic "
            f"rows only; write {file.with_suffix('.nl').name} instead, or take joint-grid-milp."
        )
    write_text(file, _model_text(model, kind, file))
    return [file]


def nl_text(model: pyo.ConcreteModel) -> tuple[str, list[Any], list[str]]:
    """Return a Pyomo model as ``.nl`` text, its variables in order, and the names of its rows.

    No presolve: every variable and constraint of the model is in the text.
    """
    text = io.StringIO()
    found = NLWriter().write(model, text, linear_presolve=False, scale_model=False)
    rows = [row.name for row in (*found.constraints, *found.objectives)]
    return text.getvalue(), list(found.variables), rows


def _write_nl(model: pyo.ConcreteModel, file: Path) -> list[Path]:
    text, variables, rows = nl_text(model)
    columns, names = file.with_suffix(".col"), file.with_suffix(".row")
    write_text(columns, "".join(f"{variable.name}\n" for variable in variables))
    write_text(names, "".join(f"{row}\n" for row in rows))
    write_text(file, text)
    return [file, columns, names]


def _linear_text(problem: Any, kind: str, file: Path) -> str:
    """A CVXPY problem as text. Raises InputError in words where it is not linear."""
    if not hasattr(problem, "variables") or not hasattr(problem, "constraints"):
        raise InputError(
            f"cannot export a {type(problem).__name__} to '{file}': only Pyomo and CVXPY "
            "formulations are written as files; choose one, such as joint-product."
        )
    name = getattr(problem, "sftopt_formulation", "this model")
    try:
        program = linear_program(problem)
    except InputError as error:
        solver = "SCIP" if problem.is_mixed_integer() else "CLARABEL"
        raise InputError(
            f"cannot export '{name}' to '{file}': {error}, and no format here holds cones. In "
            f"Python sftopt.build(instance, '{name}').get_problem_data('{solver}') is its cone "
            "form; or write joint-product to .nl, or joint-grid-milp to .mps or .lp."
        ) from None
    if kind == "nl":
        raise InputError(
            f"cannot export '{name}' to '{file}': it is linear and a CVXPY problem; write "
            f"{file.with_suffix('.mps').name} or {file.with_suffix('.lp').name} instead, or "
            "joint-product to .nl."
        )
    return lp_text(program) if kind == "lp" else mps_text(program)


def _model_text(model: pyo.ConcreteModel, kind: str, file: Path) -> str:
    """The model as text; Pyomo writes files only, so into a folder that is thrown away."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / f"model.{kind}"
            model.write(str(draft), format=kind, io_options={"symbolic_solver_labels": True})
            return draft.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write '{file}': no room for a draft in '{tempfile.gettempdir()}' "
            f"({error.strerror}). Nothing was written; set TMPDIR to another place."
        ) from None
