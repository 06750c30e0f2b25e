"""The cells of a sweep: one for each combination of values and each seed, drawn and then edited."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sftopt.core.carried import carried, set_in_si
from sftopt.core.errors import InputError
from sftopt.core.families import FAMILIES, generate
from sftopt.core.instance import Instance
from sftopt.core.library import load
from sftopt.core.written_paths import fields_meant
from sftopt.studies.sweep.axes import DEVICES, Axis, Value

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

    ``fixed``: paths, as people write them, and what they are set to in every cell. Raises
    InputError where one instance is to have several seeds or numbers of devices, and where a field
    is both set and varied.
    """

    def __init__(
        self,
        given: str | os.PathLike[str] | Instance,
        axes: Sequence[Axis],
        seeds: int,
        fixed: Mapping[str, Any] | None = None,
    ):
        self.axes = tuple(axes)
        self.fixed = dict(fixed or {})
        _check_fixed(self.fixed, axes)
        self.family = given if isinstance(given, str) and given in FAMILIES else None
        self._instance = (
            None if self.family else given if isinstance(given, Instance) else load(given)
        )
        if seeds < 1:
            raise InputError(f"seeds is {seeds}; at least 1 is needed")
        if self._instance is not None:
            what = f"instance '{self._instance.name}' is one cell"
            if seeds > 1:
                raise InputError(
                    f"{what}, and seeds draw none: a seed draws the devices of a family's cell. "
                    "Leave --seeds out, or name a family ('sftopt instance list')"
                )
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
        if self.fixed:
            held = set_in_si(base, self.fixed)
            base = base.replace(**held, **carried(base, held))
        edits: dict[str, Any] = {}
        for axis in self.axes:
            if not axis.counts_devices:
                edits |= axis.edits(base, point.values[axis.name])
        told = ", ".join(f"{name}={_shown(value)}" for name, value in point.values.items())
        edits |= carried(base, edits)
        return base.replace(**{"name": f"{base.name} {told}"[:200], **edits})

    def _base(self, point: Point) -> Instance:
        if self._instance is not None:
            return self._instance
        assert self.family is not None
        number = next((point.values[a.name] for a in self.axes if a.counts_devices), None)
        assert number is None or isinstance(number, int)
        return generate(self.family, number, point.seed)

    def scaling(self, seed: int) -> dict[str, list[Any]]:
        """Return what else changes with the number of devices: field -> its value at each number.

        Taken from the cells as they are swept, so what is set or varied does not appear. Empty
        where the number of devices is not varied. Devices themselves are drawn anew.
        """
        axis = next((a for a in self.axes if a.counts_devices and len(a.values) > 1), None)
        if axis is None:
            return {}
        first = {one.name: one.values[0] for one in self.axes}
        drawn = [self.instance(Point({**first, axis.name: number}, seed)) for number in axis.values]
        found = {}
        for section in _SECTIONS:
            for field in type(getattr(drawn[0], section)).model_fields:
                values = [getattr(getattr(one, section), field) for one in drawn]
                numbers = all(isinstance(v, int | float) for v in values)
                if numbers and any(value != values[0] for value in values):
                    found[f"{section}.{field}"] = values
        return found


def _check_fixed(fixed: Mapping[str, Any], axes: Sequence[Axis]) -> None:
    """Refuse what is both set and varied. Raises InputError."""
    if DEVICES in fixed:
        raise InputError(
            "devices cannot be set: the number of devices is an axis, as in --vary devices=8"
        )
    set_fields = {field: key for key in fixed for field, _ in fields_meant(key)}
    for axis in axes:
        for field, _ in (pair for path in axis.paths for pair in fields_meant(path)):
            if field in set_fields and not axis.scales:
                raise InputError(f"'{field}' is varied, and set by '{set_fields[field]}'")


def _shown(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
