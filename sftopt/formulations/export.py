"""Writing a model for other solvers: .nl for every class, .lp and .mps where the algebra allows."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pyomo.environ as pyo
from pyomo.repn.plugins.nl_writer import NLWriter

from sftopt.core.errors import InputError
from sftopt.core.files import write_text

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


def export_model(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a Pyomo ``model`` to ``path``, all or not at all; the ending chooses the format.

    ``.nl`` takes every formulation, ``.lp`` and ``.mps`` linear and quadratic ones, with the
    model's own names. Values are in model units: the objective times ``model.objective_unit_s``
    is in seconds. Raises InputError for another ending, a model that the format cannot hold, or a
    place that cannot be written.
    """
    file = Path(path)
    kind = _FORMATS.get(file.suffix.lower())
    if kind is None:
        raise InputError(
            f"cannot export to '{file}': the ending '{file.suffix}' names no format; "
            f"use one of {', '.join(_FORMATS)}."
        )
    if not isinstance(model, pyo.ConcreteModel):
        raise InputError(
            f"cannot export a {type(model).__name__} to '{file}': only Pyomo formulations are "
            "written as files; choose one, such as joint-product."
        )
    if kind != "nl" and algebraic_class(model) == "nonlinear":
        raise InputError(
            f"cannot export '{model.name}' to '{file}': the model is nonlinear (logarithms, "
            f"exponentials or products of three), and {file.suffix} holds linear and quadratic "
            f"rows only; write {file.with_suffix('.nl').name} instead."
        )
    write_text(file, _model_text(model, kind, file))


def _model_text(model: pyo.ConcreteModel, kind: str, file: Path) -> str:
    """The model as text; Pyomo writes files only, so into a folder that is thrown away."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / f"model.{kind}"
            if kind == "nl":
                with open(draft, "w", encoding="utf-8", newline="") as stream:
                    # no presolve: every variable and constraint of the model is in the file
                    NLWriter().write(model, stream, linear_presolve=False, scale_model=False)
            else:
                model.write(str(draft), format=kind, io_options={"symbolic_solver_labels": True})
            return draft.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write '{file}': no room for a draft in '{tempfile.gettempdir()}' "
            f"({error.strerror}). Nothing was written; set TMPDIR to another place."
        ) from None
