"""What came of a claim: where on the grid it is reached, where not, and the condition in words."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from sftopt.core.fields import Reported
from sftopt.studies.reproduce.claims import Claim, Trial

Row = dict[str, Any]


class TrialFinding(Reported):
    """One claim against one baseline over the grid."""

    against: str
    scheme: str
    note: str
    figure: str
    cells: int = Field(description="cells in which both have a figure")
    reached: int
    least: float | None
    median: float | None
    most: float | None
    refused: int = Field(description="cells in which either is refused; they count all the same")
    condition: str
    by_cell: dict[str, float] = Field(description="the figure reached, by cell")


class Finding(Reported):
    """One claim on the grid. Never a bare "reproduced": the trials say where and against what."""

    claim: str
    system: str
    text: str
    source: str
    public: str
    assumed: str
    at_least: float
    unit: str
    trials: tuple[TrialFinding, ...]


_FIGURES: dict[str, Callable[[Row], float | None]] = {
    "round_s": lambda row: row.get("round_s"),
    "up": lambda row: row.get("bytes.up"),
    "boundary": lambda row: _sum(row, "bytes.up", "bytes.down"),
    "all": lambda row: _sum(row, "bytes.up", "bytes.down", "bytes.adapters", "bytes.side"),
    "server_j": lambda row: row.get("energy.server_j"),
    "server_memory": lambda row: row.get("server_memory_bytes"),
    "device_memory": lambda row: row.get("device_memory_max_bytes"),
}
"""Figures that claims speak of, from a flat row of a comparison."""


_REDUCTION_DIGITS = 3
"""Digits after the point to which claims state a reduction: 80.2 %."""
_FACTOR_DIGITS = 1
"""Digits after the point to which claims state a factor: 6.8 times."""


def _sum(row: Row, *names: str) -> float | None:
    values = [row.get(name) for name in names]
    return None if values[0] is None else float(sum(value or 0.0 for value in values))


def finding_of(claim: Claim, rows: Sequence[Row]) -> Finding:
    """Return what came of ``claim`` on the cells of ``rows``, each with its schemes' flat rows."""
    wanted = [row for row in rows if not claim.families or row["family"] in claim.families]
    return Finding(
        claim=claim.name,
        system=claim.system,
        text=claim.text,
        source=claim.source,
        public=claim.public,
        assumed=claim.assumed,
        at_least=claim.at_least,
        unit="less, as a fraction" if claim.reduces else "times",
        trials=tuple(_tried(claim, trial, wanted) for trial in claim.trials),
    )


def _tried(claim: Claim, trial: Trial, rows: Sequence[Row]) -> TrialFinding:
    figure = _FIGURES[trial.figure]
    scheme = trial.scheme or claim.scheme
    values: dict[str, float] = {}
    refused = 0
    for row in rows:
        schemes = {one["scheme"]: one for one in row["schemes"]}
        ours, theirs = schemes.get(scheme), schemes.get(trial.against)
        if ours is None or theirs is None:
            continue
        a, b = figure(ours), figure(theirs)
        if a is None or b is None or a <= 0.0 or b <= 0.0:
            continue
        values[row["cell"]] = 1.0 - a / b if claim.reduces else b / a
        refused += ours["refused"] is not None or theirs["refused"] is not None
    known = list(values.values())
    digits = _REDUCTION_DIGITS if claim.reduces else _FACTOR_DIGITS
    reached = {c for c, value in values.items() if round(value, digits) >= claim.at_least}
    return TrialFinding(
        against=trial.against,
        scheme=scheme,
        note=trial.note,
        figure=trial.figure,
        cells=len(known),
        reached=len(reached),
        least=min(known, default=None),
        median=statistics.median(known) if known else None,
        most=max(known, default=None),
        refused=refused,
        condition=condition([row for row in rows if row["cell"] in values], reached),
        by_cell=values,
    )


def condition(rows: Sequence[Row], reached: set[str]) -> str:
    """Say in words on which bands and server speeds a claim is reached."""
    if not rows:
        return "not tried on any cell"
    if not reached:
        return "nowhere on the grid"
    if len(reached) == len(rows):
        return "everywhere on the grid"
    groups: dict[tuple[float, float], list[bool]] = {}
    for row in rows:
        place = (row["band_mhz"], row["server_tflops"])
        groups.setdefault(place, []).append(row["cell"] in reached)
    always = [place for place, hits in sorted(groups.items()) if all(hits)]
    never = [place for place, hits in sorted(groups.items()) if not any(hits)]
    said = []
    if always:
        said.append("always at " + _places(always))
    if never:
        said.append("never at " + _places(never))
    if len(always) + len(never) < len(groups):
        where = "elsewhere" if said else "at every band and speed"
        said.append(f"{where} it depends on family and devices")
    return "; ".join(said)


def _places(places: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{mhz:g} MHz with {tflops:g} TFLOP/s" for mhz, tflops in places)
