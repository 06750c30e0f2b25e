"""A sweep: schemes compared on every cell of a range, one row a cell, resumable."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sftopt.core.data_frame import data_frame
from sftopt.core.errors import InputError
from sftopt.core.fields import Reported
from sftopt.core.files import write_json
from sftopt.core.html_table import html_table
from sftopt.core.instance import Instance
from sftopt.core.pictures.paper import look_of
from sftopt.core.rows import BY_CELL, RowFile
from sftopt.studies.compare import SchemeRow, Settings, compare_cell
from sftopt.studies.compare.comparison import flat_scheme_rows
from sftopt.studies.compare.metrics import metric_of
from sftopt.studies.compare.request import Request, requests_of
from sftopt.studies.compare.suits import check_named
from sftopt.studies.sweep.axes import AxisNote, Value, axes_of
from sftopt.studies.sweep.caption import Shown
from sftopt.studies.sweep.cells import Cells, Point

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class SweepRow(Reported):
    """One cell of a sweep: its values, its seed, and a row of figures for every scheme."""

    cell: str
    values: dict[str, Value]
    seed: int
    instance_hash: str
    devices: int
    reference_bits: int
    schemes: tuple[dict[str, Any], ...]


class Sweep(Reported):
    """Schemes over a range of cells; every number is the judge's."""

    instance: str
    axes: tuple[AxisNote, ...]
    fixed: dict[str, Any] = Field(
        default_factory=dict, description="what is set in every cell, as it was written"
    )
    seeds: tuple[int, ...]
    schemes: tuple[str, ...]
    reference_bits: tuple[int, ...]
    scales_with_devices: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="fields that the family makes depend on the number of devices, where that is "
        "varied; the value at each number",
    )
    rows: tuple[SweepRow, ...]

    def flat_rows(self) -> list[dict[str, Any]]:
        """Return one row per cell and scheme: values, seed, and figures as ``parts.uplink_s``."""
        return [
            {**row.values, "seed": row.seed, "devices_n": row.devices,
             "reference_bits": row.reference_bits, "instance_hash": row.instance_hash, **scheme}
            for row in self.rows
            for scheme in row.schemes
        ]  # fmt: skip

    def spread(self, metric: str = "round_s") -> list[dict[str, Any]]:
        """Return least, median and most of a figure over the seeds, by point and scheme.

        ``refused`` counts the cells in which the scheme is refused; they have figures all the same.
        Raises UnknownNameError where there is no such figure.
        """
        metric_of(metric)
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        names = [axis.name for axis in self.axes]
        for row in self.flat_rows():
            groups.setdefault((*(row[name] for name in names), row["scheme"]), []).append(row)
        found = []
        for key, rows in groups.items():
            values = [row[metric] for row in rows if row.get(metric) is not None]
            point = dict(zip(names, key, strict=False))
            found.append({
                **point, "scheme": key[-1], "metric": metric, "cells": len(rows),
                "known": len(values), "refused": sum(row["refused"] is not None for row in rows),
                "least": min(values, default=None),
                "median": statistics.median(values) if values else None,
                "most": max(values, default=None),
            })  # fmt: skip
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the sweep as plain JSON data, the rows left to ``rows.jsonl``."""
        data = self.model_dump(mode="json", exclude={"rows"})
        return {**data, "cells": len(self.rows), "spread": self.spread()}

    def to_dataframe(self) -> pandas.DataFrame:
        """Return one row per cell and scheme. Needs pandas."""
        return data_frame(self.flat_rows(), "Sweep")

    def shown(self, metric: str = "round_s") -> Shown:
        """Return what a figure or table shows of the sweep, with its title and caption.

        Raises UnknownNameError for a name that is no figure.
        """
        return Shown(
            cells=self.instance, axes=self.axes, fixed=self.fixed, seeds=len(self.seeds),
            schemes=self.schemes, reference_bits=self.reference_bits, metric=metric,
            spread=self.spread(metric),
        )  # fmt: skip

    def plot(
        self,
        path: str | Path | None = None,
        metric: str = "round_s",
        *,
        width: str | float | None = None,
        title: bool | None = None,
    ) -> Figure:
        """Draw lines of a figure over the first axis, a panel for each value of the second.

        Axes of a single value are not counted. The range over the seeds is drawn beside each
        median. ``width``: inches, ``"column"`` (3.5) or ``"page"`` (7.16); there is no title then
        unless ``title`` says so. Raises InputError where there is no such figure, nothing of it is
        known, more than two axes are varied, or the file cannot be written.
        """
        from sftopt.core.pictures.saving import save
        from sftopt.studies.sweep.figure import figure_of

        look, shown = look_of(width, title), self.shown(metric)
        if shown.unknown is not None:
            raise InputError(f"there is nothing to draw: {shown.unknown}")
        figure = figure_of(shown, look)
        if path is not None:
            save(figure, Path(path))
        return figure

    def __repr__(self) -> str:
        axes = " x ".join(f"{axis.name} ({len(axis.values)})" for axis in self.axes)
        return (
            f"Sweep({self.instance}: {axes}, {len(self.seeds)} seeds, {len(self.rows)} cells, "
            f"{len(self.schemes)} schemes)"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Medians of the round delay: a line for each point, a column for each scheme."""
        names = [axis.name for axis in self.axes]
        points: dict[tuple[Any, ...], dict[str, float | None]] = {}
        for row in self.spread():
            point = tuple(row[name] for name in names)
            points.setdefault(point, {})[row["scheme"]] = row["median"]
        rows = [
            (*point, *(cells.get(scheme) for scheme in self.schemes))
            for point, cells in points.items()
        ]
        seeds = f", median of {len(self.seeds)} seeds" if len(self.seeds) > 1 else ""
        return html_table(f"{self.instance}: round s{seeds}", (*names, *self.schemes), rows)


def sweep(
    given: str | os.PathLike[str] | Instance,
    vary: Mapping[str, Sequence[Value] | str],
    *,
    schemes: Sequence[str] | None = None,
    seeds: int = 1,
    seed: int = 0,
    fixed: Mapping[str, Any] | None = None,
    baselines: bool = True,
    time_limit: float | None = 60.0,
    rel_gap: float = 1e-4,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_cell: Callable[[int, int, SweepRow], None] | None = None,
) -> Sweep:
    """Compare schemes on every cell of a range of fields, and on ``seeds`` cells at each point.

    ``given``: a family, whose cells are drawn by seed, or one instance (a file, an object) with a
    single seed. ``vary``: values by dotted path, as ``{"radio.uplink_bandwidth_hz": [5e6, 2e7],
    "devices": [4, 10]}``; :mod:`sftopt.studies.sweep.axes` has the rest. ``fixed``: fields of every
    cell, as ``{"server.compute_tflops": 20}``. ``baselines``: the fair ones beside the ``schemes``
    that are named. ``time_limit`` (seconds) and ``rel_gap`` are those of the solver of problem (13)
    on each cell. With ``out``, rows go to ``rows.jsonl`` there as they come and ``resume`` goes on
    with them. ``on_cell`` hears of each cell: number done, of how many, its row.

    Raises InputError for paths, values and schemes that cannot be, before any cell is solved, and
    for a folder that holds another sweep.
    """
    axes = axes_of(vary)
    cells = Cells(given, axes, seeds, fixed)
    Settings(time_limit, rel_gap, seed)  # refuses what the planner would
    asked = requests_of(schemes, baselines)
    labels = [request.label for request in asked]
    points = list(cells.points(seed, seeds))
    _check(cells, points[::seeds], asked)
    settings = {
        "sweep": cells.name, "schemes": labels, "rel_gap": rel_gap, "time_limit_s": time_limit,
        "axes": {axis.name: list(axis.values) for axis in axes}, "seeds": [seed, seeds],
        "first_hash": cells.instance(points[0]).hash, **({"fixed": cells.fixed} if fixed else {}),
    }  # fmt: skip
    file = None if out is None else RowFile(Path(out), settings, resume=resume, model=SweepRow,
                                            identity=BY_CELL)  # fmt: skip
    found: dict[str, SweepRow] = {}
    with file if file is not None else nullcontext():
        for known in file.rows if file is not None else []:
            found[known["cell"]] = SweepRow.model_validate(known)
        for point in points:
            key = _key(point)
            if key not in found:
                instance = cells.instance(point)
                compared = compare_cell(
                    instance, schemes, Settings(time_limit, rel_gap, point.seed),
                    baselines=baselines,
                )  # fmt: skip
                row = _row(instance, point, compared)
                found[key] = row
                if file is not None:
                    file.append(row.model_dump(mode="json"))
            if on_cell is not None:
                on_cell(len(found), len(points), found[key])
    rows = tuple(found[_key(point)] for point in points)
    made = Sweep(
        instance=cells.name,
        axes=tuple(AxisNote(name=axis.name, values=axis.values) for axis in axes),
        fixed=cells.fixed,
        seeds=tuple(range(seed, seed + seeds)),
        schemes=tuple(labels),
        reference_bits=tuple(sorted({row.reference_bits for row in rows})),
        scales_with_devices=cells.scaling(seed),
        rows=rows,
    )
    if out is not None:
        write_json(Path(out) / "summary.json", made.to_dict())
    return made


def _check(cells: Cells, points: Sequence[Point], asked: Sequence[Request]) -> None:
    """Make every cell of the first seed once: what cannot be is told before the work.

    Raises InputError for a value that the cell does not take, and for a scheme that was named and
    has no meaning there.
    """
    for point in points:
        instance = cells.instance(point)
        try:
            check_named(instance, asked)
        except InputError as error:
            raise InputError(f"at {_key(point)}: {error}", error.faults) from None


def _row(instance: Instance, point: Point, compared: Sequence[SchemeRow]) -> SweepRow:
    return SweepRow(
        cell=_key(point),
        values=point.values,
        seed=point.seed,
        instance_hash=instance.hash,
        devices=len(instance.devices),
        reference_bits=instance.workload.reference_bits,
        schemes=tuple(flat_scheme_rows(compared)),
    )


def _key(point: Point) -> str:
    """What tells a cell from the others of its sweep."""
    values = ";".join(f"{name}={value!r}" for name, value in point.values.items())
    return f"{values};seed={point.seed}"
