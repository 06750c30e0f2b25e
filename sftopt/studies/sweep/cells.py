"""The cells of a sweep: one for each combination of values and each seed, drawn and then edited."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sftopt.core.carried import carried
from sftopt.core.errors import InputError
from sftopt.core.families import FAMILIES, generate
from sftopt.core.instance import Instance
from sftopt.core.library import load
from sftopt.studies.sweep.axes import Axis, Value

MOST_CELLS = 100_000
"""Cells of one sweep."""
_SECTIONS = ("workload", "accuracy", "server", "radio", "training")
"""Where to look for what a family makes depend on the number of devices."""


@dataclass(frozen=True)
class Point:
    """One combination of values, and the seed of the cell that it is set in."""

    values: dict[str, Value]
    seed: int


class Cells:
    """Where cells come from: a family, drawn by seed and number of devices, or one instance.

    Raises InputError where one instance is to have several seeds or numbers of devices.
    """

    def __init__(self, given: str | os.PathLike[str] | Instance, axes: Sequence[Axis], seeds: int):
        self.axes = tuple(axes)
        self.family = given if isinstance(given, str) and given in FAMILIES else None
        self._instance = (
            None if self.family else given if isinstance(given, Instance) else load(given)
        )
        if seeds < 1:
            raise InputError(f"seeds is {seeds}; at least 1 is needed")
        if self._instance is not None:
            what = f"instance '{self._instance.name}' is one cell"
            if seeds > 1:
                raise InputError(f"{what}: it has no other seeds; use 1, or name a family")
            if any(axis.counts_devices for axis in axes):
                raise InputError(f"{what}: it has its devices; name a family to vary their number")
        count = seeds
        for axis in axes:
            count *= len(axis.values)
        if count > MOST_CELLS:
            raise InputError(f"a sweep of {count:,} cells; at most {MOST_CELLS:,} are taken")
        self.count = count

    @property
    def name(self) -> str:
        """Return what the sweep starts from: the family or the instance."""
        return self.family or (self._instance.name if self._instance is not None else "")

    def points(self, first_seed: int, seeds: int) -> Iterator[Point]:
        """Yield every point, seeds innermost: figures fill from the left."""
        names = [axis.name for axis in self.axes]
        for values in itertools.product(*(axis.values for axis in self.axes)):
            for seed in range(first_seed, first_seed + seeds):
                yield Point(dict(zip(names, values, strict=True)), seed)

    def instance(self, point: Point) -> Instance:
        """Return the cell of a point. Raises InputError for a path or value that cannot be."""
        base = self._base(point)
        edits: dict[str, Any] = {}
        for axis in self.axes:
            if not axis.counts_devices:
                edits |= axis.edits(base, point.values[axis.name])
        told = ", ".join(f"{name}={_shown(value)}" for name, value in point.values.items())
        edits |= carried(base, edits)
        return base.replace(name=f"{base.name} {told}"[:200], **edits)

    def _base(self, point: Point) -> Instance:
        if self._instance is not None:
            return self._instance
        assert self.family is not None
        number = next((point.values[a.name] for a in self.axes if a.counts_devices), None)
        assert number is None or isinstance(number, int)
        return generate(self.family, number, point.seed)

    def scaling(self, seed: int) -> dict[str, list[Any]]:
        """Return what else changes with the number of devices: field -> its value at each number.

        Empty where the number of devices is not varied. Devices themselves are drawn anew.
        """
        axis = next((a for a in self.axes if a.counts_devices), None)
        if axis is None or self.family is None:
            return {}
        drawn = [generate(self.family, number, seed) for number in axis.values]  # type: ignore[arg-type]
        found = {}
        for section in _SECTIONS:
            for field in type(getattr(drawn[0], section)).model_fields:
                values = [getattr(getattr(one, section), field) for one in drawn]
                numbers = all(isinstance(v, int | float) for v in values)
                if numbers and any(value != values[0] for value in values):
                    found[f"{section}.{field}"] = values
        return found


def _shown(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
