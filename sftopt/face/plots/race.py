"""Pictures of a race for papers: profiles, time against devices, gap against time, counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sftopt.core.pictures.paper import SCREEN, Look
from sftopt.core.pictures.saving import save_for_paper
from sftopt.core.pictures.style import finished
from sftopt.studies.race.checks import Finding
from sftopt.studies.race.measures import (
    PROFILE_FROM,
    counted_s,
    entries_of,
    gap_curves,
    lines_of,
    profile,
    times_table,
)
from sftopt.studies.race.row import RaceRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#000000", "#8c6d1f")
"""Okabe and Ito's colours, the yellow darkened; told apart by the colour-blind."""
DASHES = ("-", "--", ":", "-.")
"""Lines differ in dash as well: eleven entries are more than there are colours."""
MOST_TAU = 1e4
"""Largest ratio of a profile's axis."""


def draw(
    rows: Sequence[RaceRow], wrong: Sequence[Finding], title: str, folder: Path,
    look: Look = SCREEN,
) -> list[Path]:  # fmt: skip
    """Write the pictures that the rows allow, PNG and PDF; return their paths.

    Raises InputError where a file cannot be written.
    """
    figures: dict[str, Figure | None] = {
        "counts": counts_figure(rows, wrong, title, look),
        "profile": profile_figure(rows, title, look),
        "time_against_devices": sizes_figure(rows, title, look),
        "gap_against_time": gap_figure(rows, wrong, title, look),
    }
    return save_for_paper(figures, folder)


def style_of(entries: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return colour and dash by entry: the same in every picture."""
    return {
        entry: {
            "color": COLOURS[place % len(COLOURS)],
            "linestyle": DASHES[place // len(COLOURS) % len(DASHES)],
        }
        for place, entry in enumerate(entries)
    }


def counts_figure(
    rows: Sequence[RaceRow], wrong: Sequence[Finding], title: str, look: Look = SCREEN
) -> Figure | None:
    """Draw how many runs of each entry proved, found a plan, failed, were refused or wrong."""
    from matplotlib.figure import Figure

    lines = lines_of(rows, wrong)[::-1]
    if not lines:
        return None
    high = (0.9 if look.for_paper else 1.2) + (0.2 if look.for_paper else 0.34) * len(lines)
    figure = Figure(figsize=(look.width_in or 9, high), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(lines))
    parts = {
        "proved the gap": ([line.proved for line in lines], "#009e73"),
        "a plan, no proof": ([line.planned - line.proved for line in lines], "#56b4e9"),
        "wrong": ([line.wrong for line in lines], "#d55e00"),
        "failed": ([line.failed for line in lines], "#e69f00"),
        "refused": ([line.refused for line in lines], "#bbbbbb"),
    }
    for label, (counts, colour) in parts.items():
        values = np.maximum(np.array(counts, dtype=float), 0.0)
        axes.barh([line.entry for line in lines], values, left=left, label=label, color=colour)
        left += values
    axes.set(xlabel="runs", title=title if look.title else "")
    return finished(figure, look, axes)


def profile_figure(rows: Sequence[RaceRow], title: str, look: Look = SCREEN) -> Figure | None:
    """Draw the Dolan-More profile of times to a proof; None for fewer than 20 instances."""
    from matplotlib.figure import Figure

    instances, entries, times = times_table(rows)
    if len(instances) < PROFILE_FROM or not np.isfinite(times).any():
        return None
    taus = np.geomspace(1.0, MOST_TAU, 400)
    shares = profile(times, taus)
    figure = Figure(figsize=look.size((9, 4.6)), layout="constrained")
    axes = figure.subplots()
    styles = style_of(entries)
    for place, entry in enumerate(entries):
        if np.isfinite(times[:, place]).any():
            axes.step(taus, shares[place], where="post", label=entry, **styles[entry])
    axes.set(
        xscale="log", xlabel="time to the proof, over the least of all", ylim=(0, 1.02),
        ylabel=f"fraction of {len(instances)} instances", title=title if look.title else "",
    )  # fmt: skip
    axes.grid(alpha=0.25)
    return _named(figure, axes, look)


def sizes_figure(rows: Sequence[RaceRow], title: str, look: Look = SCREEN) -> Figure | None:
    """Draw median seconds against the number of devices, over families that are at every size."""
    from matplotlib.figure import Figure

    kept = of_every_size(rows)
    sizes = sorted({row.instance.devices for row in kept})
    if len(sizes) < 2:
        return None
    figure = Figure(figsize=look.size((9, 4.8)), layout="constrained")
    axes = figure.subplots()
    entries = entries_of(kept)
    styles = style_of(entries)
    for entry in entries:
        mine = [row for row in kept if row.entry.name == entry and row.outcome.verdict != "refused"]
        here = [size for size in sizes if any(row.instance.devices == size for row in mine)]
        values = [
            float(np.median([_shown_s(row) for row in mine if row.instance.devices == size]))
            for size in here
        ]
        axes.plot(here, values, marker="o", markersize=3.5, label=entry, **styles[entry])
    limits = sorted({row.limit_s for row in kept})
    if len(limits) == 1:
        axes.axhline(limits[0], color="0.5", linewidth=0.8)
        axes.annotate("limit", (sizes[0], limits[0]), fontsize=8, va="bottom", color="0.4")
    axes.set(xscale="log", yscale="log", xlabel="number of devices N",
             ylabel="median of build and engine seconds")  # fmt: skip
    axes.set_title(title if look.title else "")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.margins(y=0.1)  # room for the word above the limit
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    if look.for_paper:
        return finished(figure, look, axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False,
                  fontsize=8)  # fmt: skip
    return figure


def _named(figure: Figure, axes: Axes, look: Look) -> Figure:
    """Name the lines in the panel, or below it where that is small."""
    if look.for_paper:
        return finished(figure, look, axes)
    axes.legend(frameon=False, fontsize=9)
    return figure


def of_every_size(rows: Sequence[RaceRow]) -> list[RaceRow]:
    """Return the rows of families that are there at every size: lines over others zigzag."""
    sizes = {row.instance.devices for row in rows}
    there: dict[str, set[int]] = {}
    for row in rows:
        there.setdefault(row.instance.family, set()).add(row.instance.devices)
    return [row for row in rows if there[row.instance.family] == sizes]


def _shown_s(row: RaceRow) -> float:
    """Seconds of a run as it ended: one that claims nothing counts with what it took."""
    ended = row.outcome.termination not in ("time_limit", "")
    return max(row.solve_s if ended else counted_s(row), 1e-4)


def gap_figure(
    rows: Sequence[RaceRow], wrong: Sequence[Finding], title: str, look: Look = SCREEN
) -> Figure | None:
    """Draw the median distance of incumbents from the best bound over time; None without traces."""
    from matplotlib.figure import Figure

    longest = max((row.limit_s for row in rows), default=1.0)
    times = np.geomspace(1e-3, longest, 300)
    curves = gap_curves(rows, wrong, times)
    if not curves:
        return None
    figure = Figure(figsize=look.size((9, 4.6)), layout="constrained")
    axes = figure.subplots()
    styles = style_of(entries_of(rows))
    for entry, gaps in curves.items():
        axes.step(times, np.maximum(gaps, 1e-7), where="post", label=entry, **styles[entry])
    axes.set(
        xscale="log", yscale="log", xlabel="seconds", title=title if look.title else "",
        ylabel="incumbent above the best bound, median fraction",
    )  # fmt: skip
    axes.grid(alpha=0.25)
    return _named(figure, axes, look)


__all__ = ["draw", "of_every_size", "style_of"]
