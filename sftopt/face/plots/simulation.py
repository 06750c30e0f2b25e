"""Pictures of a simulation: delay per round, distribution of delays, shares over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sftopt.core.errors import InputError
from sftopt.core.files import write_text
from sftopt.core.pictures.paper import SCREEN, Look
from sftopt.core.pictures.saving import save_for_paper
from sftopt.core.pictures.style import finished
from sftopt.studies.simulate import frames_of
from sftopt.studies.summary import POLICIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "resolved_s": "#0072b2",
    "held_s": "#e69f00",
    "equal_s": "#cc79a7",
    "scenario_s": "#009e73",
    "clairvoyant_bound_s": "#000000",
}
"""Okabe and Ito's colours, which the colour-blind can tell apart."""
MOST_NAMED = 20
"""Devices that a legend names."""


def draw(
    rows: Sequence[dict[str, Any]], title: str, folder: Path, look: Look = SCREEN
) -> list[Path]:
    """Write ``delay.{png,pdf}``, ``simulation.html`` and, where rows hold them, shares.

    Raises InputError where nothing can be drawn or a file cannot be written.
    """
    used = [row for row in rows if row.get("resolved_s") is not None]
    if not used:
        raise InputError("no round of this simulation has a delay; there is nothing to draw")
    figures = {"delay": delay_figure(used, title, look)}
    if "shares" in used[0]:
        figures["shares"] = shares_figure(used, title, look)
    made = save_for_paper(figures, folder)
    page = folder / "simulation.html"
    write_text(page, interactive_page(used, title))
    return [*made, page]


def delay_figure(rows: Sequence[dict[str, Any]], title: str, look: Look = SCREEN) -> Figure:
    """Draw the delay against the round, and the share of rounds below a delay."""
    from matplotlib.figure import Figure

    shape = (2, 1) if look.narrow else (1, 2)
    figure = Figure(figsize=look.size((10, 4.2), *shape), layout="constrained")
    ratios = None if look.narrow else (1.7, 1.0)
    over_time, distribution = figure.subplots(*shape, width_ratios=ratios)
    rounds = [row["round"] for row in rows]
    for name, label in _present(rows):
        delays = [row[name] for row in rows]
        style = {"clairvoyant_bound_s": "--", "scenario_s": ":"}.get(name, "-")
        options: dict[str, Any] = {"color": COLOURS[name], "linewidth": 1.1, "linestyle": style}
        over_time.plot(rounds, delays, label=label, **options)
        fraction = np.arange(1, len(delays) + 1) / len(delays)
        distribution.step(np.sort(delays), fraction, where="post", **options)
    _mark_frames(over_time, rows)
    over_time.set(xlabel="round", ylabel="round delay in s", title=title if look.title else "")
    distribution.set(
        xlabel="round delay in s", ylabel="fraction of rounds at or below", ylim=(0, 1)
    )
    for axes in (over_time, distribution):
        axes.grid(alpha=0.25)
    return finished(figure, look, over_time, columns=3)


def shares_figure(rows: Sequence[dict[str, Any]], title: str, look: Look = SCREEN) -> Figure:
    """Draw the uplink and downlink shares of the devices over the rounds, stacked."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=look.size((10, 5.6), rows=2), layout="constrained")
    both = figure.subplots(2, 1, sharex=True)
    rounds = [row["round"] for row in rows]
    ids = list(rows[0]["shares"]["uplink"])
    palette = colormaps["tab20"](np.linspace(0.0, 1.0, max(len(ids), 2)))[: len(ids)]
    for axes, link in zip(both, ("uplink", "downlink"), strict=True):
        values = np.array([[row["shares"][link].get(name, 0.0) for row in rows] for name in ids])
        axes.stackplot(rounds, values, labels=ids, colors=palette, linewidth=0)
        axes.set(ylabel=f"{link} share", ylim=(0, 1), xlim=(rounds[0], max(rounds[-1], 1)))
        _mark_frames(axes, rows)
    both[0].set_title(title if look.title else "")
    both[1].set_xlabel("round")
    if len(ids) <= MOST_NAMED and not look.for_paper:
        figure.legend(*both[0].get_legend_handles_labels(), loc="outside right upper",
                      frameon=False, fontsize=8)  # fmt: skip
        return finished(figure, look)
    return finished(figure, look, both[0] if len(ids) <= MOST_NAMED else None)


def interactive_page(rows: Sequence[dict[str, Any]], title: str) -> str:
    """Render one HTML file that works from disk: hover, zoom, switch policies and devices."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    shares = "shares" in rows[0]
    count = 3 if shares else 1
    figure = make_subplots(
        rows=count, cols=1, shared_xaxes=True, vertical_spacing=0.06,
        row_heights=[0.5, 0.25, 0.25] if shares else [1.0],
    )  # fmt: skip
    rounds = [row["round"] for row in rows]
    for name, label in _present(rows):
        dash = "dash" if name == "clairvoyant_bound_s" else "solid"
        figure.add_trace(
            go.Scatter(x=rounds, y=[row[name] for row in rows], name=label,
                       line={"color": COLOURS[name], "dash": dash, "width": 1.5}),
            row=1, col=1,
        )  # fmt: skip
    figure.update_yaxes(title_text="round delay in s", row=1, col=1)
    for place, link in ((2, "uplink"), (3, "downlink")) if shares else ():
        for device in rows[0]["shares"][link]:
            values = [row["shares"][link].get(device, 0.0) for row in rows]
            figure.add_trace(
                go.Scatter(x=rounds, y=values, name=device, stackgroup=link, legendgroup=device,
                           showlegend=place == 2, line={"width": 0.5}),
                row=place, col=1,
            )  # fmt: skip
        figure.update_yaxes(title_text=f"{link} share", range=[0, 1], row=place, col=1)
    figure.update_xaxes(title_text="round", row=count, col=1)
    figure.update_layout(title=title, template="plotly_white", hovermode="x unified",
                         height=900 if shares else 500)  # fmt: skip
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _present(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """The policies every round has a delay for."""
    return [
        (name, label)
        for name, label in POLICIES.items()
        if all(row.get(name) is not None for row in rows)
    ]


def _mark_frames(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    for start in list(frames_of(list(rows)))[1:]:
        axes.axvline(start, color="0.6", linewidth=0.8, linestyle=":")
