"""The published systems and fair baselines on one cell, under one judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.asked import asked_plainly
from sftopt.core.data_frame import data_frame
from sftopt.core.errors import InputError
from sftopt.core.fields import Reported
from sftopt.core.html_table import html_table
from sftopt.core.instance import Instance
from sftopt.core.schemes.base import Scheme
from sftopt.studies.compare.decide import Draft, Settings, draft
from sftopt.studies.compare.notes import notes_of
from sftopt.studies.compare.request import FIRST, Request, requests_of
from sftopt.studies.compare.row import SchemeRow, row_of
from sftopt.studies.compare.suits import check_named

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


OnScheme = Callable[[int, int, str], None]
"""Hears of each scheme when its row is there: number done, of how many, its name."""


class Comparison(Reported):
    """Schemes on one instance, sft first; every number is the judge's."""

    instance: str
    instance_hash: str
    devices: int
    reference_bits: int
    schemes: tuple[SchemeRow, ...]

    def row(self, scheme: str) -> SchemeRow:
        """Return the row of ``scheme``, named as it was asked for. Raises InputError."""
        for one in self.schemes:
            if one.scheme == scheme:
                return one
        known = ", ".join(one.scheme for one in self.schemes)
        raise InputError(f"no scheme '{scheme}' in this comparison; there are: {known}")

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON data."""
        return self.model_dump(mode="json")

    def to_dataframe(self) -> pandas.DataFrame:
        """Return one row per scheme, nested figures as ``parts.device_s``. Needs pandas."""
        return data_frame(flat_rows(self), "Comparison", "scheme")

    def plot(
        self,
        path: str | Path | None = None,
        *,
        width: str | float | None = None,
        title: bool | None = None,
    ) -> Figure:
        """Draw delay and traffic of every scheme as stacked bars; write the picture to ``path``.

        ``width``: inches, ``"column"`` (3.5) or ``"page"`` (7.16); title and notes are left to the
        caption then, unless ``title`` says otherwise. Raises InputError where the width is none or
        the file cannot be written.
        """
        from sftopt.core.pictures.paper import look_of
        from sftopt.core.pictures.saving import save
        from sftopt.studies.compare.figure import figure_of

        title_text = f"{self.instance}: {self.devices} devices, b_ref {self.reference_bits} bits"
        figure = figure_of(self.schemes, title_text, look_of(width, title))
        if path is not None:
            save(figure, Path(path))
        return figure

    def notes(self) -> list[str]:
        """Return what has to be said beside the numbers: parts, variants, equal plans, refusals."""
        return notes_of(self.schemes)

    def __repr__(self) -> str:
        refused = sum(one.refused is not None for one in self.schemes)
        first = self.schemes[0]
        round_s = "no plan" if first.round_s is None else f"{first.round_s:.6g} s"
        return (
            f"Comparison({self.instance}: {len(self.schemes)} schemes, sft {round_s}, "
            f"{refused} refused, b_ref {self.reference_bits} bits)"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        rows = [
            (one.scheme, one.round_s, one.ratio_to_sft, one.accuracy, one.refused or "")
            for one in self.schemes
        ]
        head = ("scheme", "round s", "ratio to sft", "accuracy", "refused")
        title = f"{self.instance}: {self.devices} devices, b_ref {self.reference_bits} bits"
        return html_table(title, head, rows)


def flat_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows as flat data for tables: no plan, nested figures by dotted names."""
    return flat_scheme_rows(comparison.schemes)


def flat_scheme_rows(schemes: Sequence[SchemeRow]) -> list[dict[str, Any]]:
    """Return :func:`flat_rows` of rows that are not in a comparison."""
    rows = []
    for one in schemes:
        data = one.model_dump(mode="json", exclude={"plan", "refusals", "options"})
        flat: dict[str, Any] = {}
        for name, value in data.items():
            nested = _NESTED.get(name)
            if nested is not None:
                given = value or {}
                flat.update({f"{name}.{part}": given.get(part) for part in nested})
            elif isinstance(value, list):
                flat[name] = "; ".join(map(str, value)) if name == "changes" else _span(value)
            else:
                flat[name] = value
        rows.append(flat)
    return rows


_NESTED = {
    "parts": ("device_s", "uplink_s", "server_s", "downlink_s", "adapters_s"),
    "bytes": ("up", "down", "adapters", "side", "head"),
    "energy": ("server_j", "device_j"),
}
"""Figures of a row that have parts, and the parts."""


def _span(values: Sequence[int]) -> str:
    return "-".join(str(value) for value in values)


@asked_plainly
def compare(
    instance: Instance,
    schemes: Sequence[str | Scheme] | None = None,
    *,
    time_limit: float | None = 60.0,
    rel_gap: float = 1e-4,
    seed: int = 0,
    baselines: bool = True,
    on_scheme: OnScheme | None = None,
) -> Comparison:
    """Compare schemes on one instance: every plan is judged, and sft's row stands first.

    ``schemes``: names such as ``"card"``, with options such as ``"card:w=0.5"``, or
    :class:`~sftopt.core.schemes.base.Scheme` objects; None: all. The fair baselines stand in every
    comparison, but for ``baselines=False``. ``time_limit`` (seconds) and ``rel_gap`` are those of
    schemes that solve problem (13). ``on_scheme`` hears of each: number done, of how many, its
    name.

    A scheme whose own choice breaks a limit keeps its numbers; ``refused`` says what it breaks and
    by how much. Raises InputError for unknown names and options, and for a named scheme that has no
    meaning on the instance; unnamed ones are refused then.
    """
    rows = compare_cell(
        instance, schemes, Settings(time_limit, rel_gap, seed), on_scheme, baselines=baselines
    )
    return Comparison(
        instance=instance.name,
        instance_hash=instance.hash,
        devices=len(instance.devices),
        reference_bits=instance.workload.reference_bits,
        schemes=tuple(rows),
    )


def compare_cell(
    instance: Instance,
    schemes: Sequence[str | Scheme] | None = None,
    settings: Settings | None = None,
    on_scheme: OnScheme | None = None,
    *,
    baselines: bool = True,
) -> list[SchemeRow]:
    """Return the rows of one cell, sft's first; :func:`compare` says what may be asked for."""
    asked = requests_of(schemes, baselines)
    known = settings or Settings()
    check_named(instance, asked)  # misuse is told before anything is solved
    rows = []
    for number, request in enumerate(asked, 1):
        rows.append(row_of(request, _drafted(instance, request, known)))
        if on_scheme is not None:
            on_scheme(number, len(asked), rows[-1].scheme)
    first = rows[0].round_s
    assert asked[0].scheme.name == FIRST
    return [_with_ratio(row, first) for row in rows]


def _drafted(instance: Instance, request: Request, settings: Settings) -> Draft:
    """The draft; a scheme that nobody named and that has no meaning here has no plan."""
    try:
        return draft(instance, request, settings)
    except InputError as error:
        if request.named:
            raise
        return Draft(instance, None, message=str(error))


def _with_ratio(row: SchemeRow, first_s: float | None) -> SchemeRow:
    if row.round_s is None or first_s is None or first_s <= 0.0:
        return row
    return row.model_copy(update={"ratio_to_sft": row.round_s / first_s})
