"""A CVXPY problem whose every row is linear, as one matrix with a name for each row and column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sftopt.core.errors import InputError

Array = NDArray[np.float64]

OBJECTIVE_CONSTANT = "objective_constant"
"""The column, fixed at 1, that carries the objective's constant: formats differ on constants."""
_LINEAR_ROWS = {"Equality": True, "Zero": True, "Inequality": False, "NonPos": False}
"""CVXPY's linear constraints by class: is expr == 0 meant (else expr <= 0)?"""


@dataclass(frozen=True)
class LinearProgram:
    """min cost x + constant: row_low <= matrix x <= row_high and x in [low, high], shape (n,)."""

    name: str
    objective_unit_s: float
    """The objective times this is in seconds."""
    columns: tuple[str, ...]
    integer: NDArray[np.bool_]
    low: Array
    high: Array
    cost: Array
    constant: float
    rows: tuple[str, ...]
    matrix: Any
    """Sparse by row, shape (m, n)."""
    row_low: Array
    row_high: Array


def linear_program(problem: Any) -> LinearProgram:
    """Return the rows and columns of a ``cvxpy.Problem``, which is not changed.

    Raises InputError where a constraint or the objective is not linear.
    """
    variables = sorted(problem.variables(), key=lambda variable: int(variable.id))
    crooked = [c for c in problem.constraints if type(c).__name__ not in _LINEAR_ROWS]
    crooked += [c for c in problem.constraints if c not in crooked and not c.args[0].is_affine()]
    if crooked or not problem.objective.args[0].is_affine():
        kinds = ", ".join(sorted({type(c).__name__ for c in crooked})) or "its objective"
        raise InputError(f"the model is not linear ({kinds})")
    places = _places(variables)
    with _at_zero(variables):
        cost, constant = _affine(problem.objective.args[0], places)
        parts = [_affine(c.expr, places) for c in problem.constraints]
    equal = [_LINEAR_ROWS[type(c).__name__] for c in problem.constraints]
    count = sum(variable.size for variable in variables)
    matrices = [matrix for matrix, _ in parts]
    limit = np.concatenate([-offset for _, offset in parts]) if parts else np.zeros(0)
    same = np.concatenate([np.full(len(p[1]), e) for p, e in zip(parts, equal, strict=True)])
    low, high = _limits(variables)
    return LinearProgram(
        name=str(getattr(problem, "sftopt_formulation", "model")),
        objective_unit_s=float(problem.objective_unit_s),
        columns=column_names(problem),
        integer=np.concatenate([np.full(v.size, _is_integer(v)) for v in variables]),
        low=low,
        high=high,
        cost=np.asarray(cost.todense(), dtype=float).reshape(count),
        constant=float(constant[0]),
        rows=tuple(_row_names(problem)),
        matrix=sp.csr_matrix(sp.vstack(matrices)) if matrices else sp.csr_matrix((0, count)),
        row_low=np.where(same, limit, -np.inf),
        row_high=limit,
    )


def column_names(problem: Any) -> tuple[str, ...]:
    """Return a name for every entry of the variables, in the order of the columns.

    Entries of a variable are in column-major order, as CVXPY counts them.
    """
    index = getattr(problem, "variable_index", {})
    names: list[str] = []
    for variable in sorted(problem.variables(), key=lambda found: int(found.id)):
        axes = index.get(variable.name())
        if axes is None or tuple(len(axis) for axis in axes) != variable.shape:
            axes = tuple(tuple(str(k) for k in range(size)) for size in variable.shape)
        entries = [tuple(reversed(entry)) for entry in product(*reversed(axes))]
        names += [_name(variable.name(), entry) for entry in entries]
    return _unique(names)


def set_columns(problem: Any, values: Array) -> None:
    """Give the variables of ``problem`` the values of all columns, shape (n,)."""
    place = 0
    for variable in sorted(problem.variables(), key=lambda found: int(found.id)):
        entries = values[place : place + variable.size]
        variable.save_value(entries.reshape(variable.shape, order="F"))
        place += variable.size


def _name(base: str, entry: Sequence[str]) -> str:
    """``base(entry)``, of characters that both .lp and .mps allow in names."""
    words = [re.sub(r"[^A-Za-z0-9_.]", "_", word) for word in (base, "_".join(entry))]
    return words[0] if not entry else f"{words[0]}({words[1]})"


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once: what reads alike without its special characters is numbered."""
    seen: set[str] = set()
    found = []
    for name in names:
        own, number = name, 1
        while own in seen:
            number += 1
            own = f"{name}_{number}"
        seen.add(own)
        found.append(own)
    return tuple(found)


def _row_names(problem: Any) -> tuple[str, ...]:
    index = getattr(problem, "constraint_index", {})
    names: list[str] = []
    for number, constraint in enumerate(problem.constraints):
        base = constraint.label or f"con_{number}"
        entries = index.get(base, ())
        if len(entries) != constraint.size:
            entries = [str(k) for k in range(constraint.size)]
        alone = constraint.size == 1 and not index.get(base)
        names += [base] if alone else [_name(base, (str(entry),)) for entry in entries]
    return _unique(names)


def _is_integer(variable: Any) -> bool:
    return bool(variable.attributes["boolean"] or variable.attributes["integer"])


def _places(variables: Sequence[Any]) -> dict[int, tuple[int, int]]:
    """The first column and the number of columns of each variable, by its id."""
    ends = np.cumsum([variable.size for variable in variables])
    return {
        int(variable.id): (int(end) - variable.size, variable.size)
        for variable, end in zip(variables, ends, strict=True)
    }


_ATTRIBUTES = ("nonneg", "boolean", "integer")
"""What variables of these models may be; others, which a user may add, are not written."""


def _limits(variables: Sequence[Any]) -> tuple[Array, Array]:
    lows, highs = [], []
    for variable in variables:
        others = [name for name, on in variable.attributes.items() if on is not False]
        others = [name for name in others if variable.attributes[name] is not None]
        strange = [name for name in others if name not in _ATTRIBUTES]
        if strange or any(variable.attributes[name] is not True for name in others):
            raise InputError(
                f"variable '{variable.name()}' has attributes that are not written "
                f"({', '.join(strange or others)}); state them as constraints"
            )
        binary = bool(variable.attributes["boolean"])
        least = 0.0 if binary or variable.attributes["nonneg"] else -np.inf
        lows.append(np.full(variable.size, least))
        highs.append(np.full(variable.size, 1.0 if binary else np.inf))
    return np.concatenate(lows), np.concatenate(highs)


@contextmanager
def _at_zero(variables: Sequence[Any]) -> Iterator[None]:
    """Set all variables to 0 for a while: affine expressions are then their constants."""
    before = [variable.value for variable in variables]
    try:
        for variable in variables:
            variable.save_value(np.zeros(variable.shape))
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.save_value(value)


def _affine(expression: Any, places: dict[int, tuple[int, int]]) -> tuple[Any, Array]:
    """Matrix (rows, n) and constant (rows,) of an affine expression of variables that are 0."""
    constant = np.asarray(expression.value, dtype=float).reshape(-1, order="F")
    width = sum(size for _, size in places.values())
    rows, columns, entries = [], [], []
    for variable, gradient in expression.grad.items():
        start, size = places[int(variable.id)]
        block = sp.coo_matrix(np.atleast_2d(gradient) if np.isscalar(gradient) else gradient)
        block = block.reshape((size, len(constant)))
        rows.append(block.col)
        columns.append(block.row + start)
        entries.append(block.data)
    shape = (len(constant), width)
    if not entries:
        return sp.csr_matrix(shape), constant
    places_of = (np.concatenate(rows), np.concatenate(columns))
    return sp.csr_matrix((np.concatenate(entries), places_of), shape=shape), constant
