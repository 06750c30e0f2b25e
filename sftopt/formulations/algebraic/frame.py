"""What every family of constraints is given: the model under construction and its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyomo.environ as pyo
from numpy.typing import NDArray
from pyomo.core.expr.numeric_expr import LinearExpression

from sftopt.core.derived import Derived, Option
from sftopt.core.instance import AccuracyScope
from sftopt.formulations.base import Start
from sftopt.formulations.bounds import DelayBounds, require_domain
from sftopt.formulations.scaling import Scaled, scale

Expr = Any
"""A Pyomo expression, variable or plain number."""

EVERYONE = "all"
"""Index of what is chosen once for the whole cell: mode and keep fraction under scope common."""


@dataclass(frozen=True)
class Frame:
    """The model under construction, the data in model units, and who chooses what."""

    model: pyo.ConcreteModel
    derived: Derived
    scaled: Scaled
    bounds: DelayBounds
    place: dict[str, int]
    """Device id -> row in the arrays."""
    options: dict[str, Option]
    """Option label -> option, in the order of ``Derived.options``."""
    choosers: tuple[str, ...]
    """The device ids, or (EVERYONE,) under scope common."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the device ids in the order of the arrays."""
        return self.derived.ids

    def chooser(self, device: str) -> str:
        """Return the index under which the mode and keep fraction of ``device`` are chosen."""
        return EVERYONE if self.derived.scope is AccuracyScope.COMMON else device

    @property
    def masked(self) -> dict[str, Option]:
        """Return the options whose keep fraction is a decision."""
        return {label: option for label, option in self.options.items() if option.has_mask}


def new_frame(model: pyo.ConcreteModel, derived: Derived, start: Start | None) -> Frame:
    """Create the frame of ``model``. Raises InfeasibleError where a domain is empty."""
    require_domain(derived)
    scaled, bounds = scale(derived, start)
    common = derived.scope is AccuracyScope.COMMON
    return Frame(
        model=model,
        derived=derived,
        scaled=scaled,
        bounds=bounds,
        place={device: row for row, device in enumerate(derived.ids)},
        options=dict(zip(option_labels(derived), derived.options, strict=True)),
        choosers=(EVERYONE,) if common else derived.ids,
    )


def option_labels(derived: Derived) -> list[str]:
    """Return a unique name per option: ``topk4``, for an interval of omega ``topk4@0.05-0.3``."""
    counts = Counter(option.label for option in derived.options)
    labels = [
        option.label
        if counts[option.label] == 1
        else f"{option.label}@{option.keep_low:.6g}-{option.keep_high:.6g}"
        for option in derived.options
    ]
    again = Counter(labels)
    return [label if again[label] == 1 else f"{label}#{row}" for row, label in enumerate(labels)]


def linear(constant: float, coefficients: Iterable[float], variables: Iterable[Any]) -> Expr:
    """Return constant + SUM coefficient * variable, without Pyomo's term-by-term bookkeeping."""
    return LinearExpression(
        constant=float(constant),
        linear_coefs=[float(c) for c in coefficients],
        linear_vars=list(variables),
    )


def pairs(low: NDArray[Any], high: NDArray[Any], names: Iterable[str]) -> dict[str, Any]:
    """Return bounds by name, as Pyomo takes them."""
    return dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True))
