"""Pictures of a fine-tuning run: loss and metric over rounds and virtual time, bytes per round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.files import write_text
from sftopt.core.pictures.paper import SCREEN, Look
from sftopt.core.pictures.saving import save_for_paper
from sftopt.core.pictures.style import finished

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSS = "#0072b2"
"""Colour of the training loss."""
METRIC = "#d55e00"
"""Colour of the metric."""
BYTE_COLOURS = {
    "uplink_boundary": "#0072b2",
    "downlink_gradient": "#56b4e9",
    "uplink_adapters": "#009e73",
    "downlink_adapters": "#f0e442",
    "uplink_side": "#999999",
}
"""Okabe and Ito's colours, which the colour-blind can tell apart."""

BYTE_LABELS = {
    "uplink_boundary": "activations up",
    "downlink_gradient": "gradients down",
    "uplink_adapters": "adapters up",
    "downlink_adapters": "adapters down",
    "uplink_side": "labels, masks up",
}
"""What each kind of bytes is called in figures, in the order of stacking."""

Row = dict[str, Any]


def draw(
    rows: Sequence[Row], metric: str, predicted: float | None, title: str, folder: Path,
    look: Look = SCREEN,
) -> list[Path]:  # fmt: skip
    """Write ``curves.{png,pdf}``, ``bytes.{png,pdf}`` and ``finetune.html``; ``rows`` of a run.

    ``predicted`` is the metric the plan promises, None where that is another one. Raises InputError
    where a file cannot be written.
    """
    figures = {
        "curves": curves_figure(rows, metric, predicted, title, look),
        "bytes": bytes_figure(rows, title, look),
    }
    made = save_for_paper(figures, folder)
    page = folder / "finetune.html"
    write_text(page, interactive_page(rows, metric, predicted, title))
    return [*made, page]


def curves_figure(
    rows: Sequence[Row], metric: str, predicted: float | None, title: str, look: Look = SCREEN
) -> Figure:
    """Draw training loss and metric, against the round and against virtual time."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=look.size((10, 5.6), 2, 2), layout="constrained")
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    tested = _evaluated(rows)
    for column, (key, label) in enumerate((("round", "round"), ("time_s", "virtual time in s"))):
        top, bottom = grid[0][column], grid[1][column]
        top.plot([row[key] for row in rows], [row["loss"] for row in rows], color=LOSS)
        bottom.plot([row[key] for row in tested], [row["metric"] for row in tested],
                    color=METRIC, marker="o", markersize=3, label="measured")  # fmt: skip
        if predicted is not None:
            bottom.axhline(predicted, color="0.4", linestyle="--", linewidth=1, label="planned")
        bottom.set_xlabel(label)
        for axes in (top, bottom):
            axes.grid(alpha=0.25)
    grid[1][0].xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0][0].set(ylabel="training loss in nats", title=title if look.title else "")
    grid[1][0].set_ylabel(metric.replace("_", " "))
    return finished(figure, look, grid[1][0])


def bytes_figure(rows: Sequence[Row], title: str, look: Look = SCREEN) -> Figure:
    """Draw the bytes of each round by kind, stacked."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=look.size((10, 4.2)), layout="constrained")
    axes = figure.subplots()
    rounds = [row["round"] for row in rows]
    below = [0.0] * len(rows)
    for kind, label in BYTE_LABELS.items():
        values = [row["bytes"][kind] / 1e6 for row in rows]
        axes.bar(rounds, values, bottom=below, color=BYTE_COLOURS[kind], label=label, width=0.8)
        below = [low + value for low, value in zip(below, values, strict=True)]
    axes.set(xlabel="round", ylabel="MB in the round, all devices")
    axes.set_title(title if look.title else "")
    axes.grid(alpha=0.25, axis="y")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return finished(figure, look, axes)


def interactive_page(rows: Sequence[Row], metric: str, predicted: float | None, title: str) -> str:
    """Render one HTML file that works from disk; buttons switch between rounds and virtual time."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    tested = _evaluated(rows)
    used: list[Sequence[Row]] = []

    def add(trace: Any, of: Sequence[Row], place: int) -> None:
        used.append(of)
        figure.add_trace(trace, row=place, col=1)

    rounds = [row["round"] for row in rows]
    for device in dict.fromkeys(name for row in rows for name in row["losses"]):
        mine = [row for row in rows if device in row["losses"]]
        line = {"width": 0.8}
        add(go.Scatter(x=[r["round"] for r in mine], y=[r["losses"][device] for r in mine],
                       name=f"loss, {device}", line=line), mine, 1)  # fmt: skip
    add(go.Scatter(x=rounds, y=[row["loss"] for row in rows], name="loss, mean",
                   line={"color": LOSS, "width": 2}), rows, 1)  # fmt: skip
    name = metric.replace("_", " ")
    add(go.Scatter(x=[r["round"] for r in tested], y=[r["metric"] for r in tested], name=name,
                   line={"color": METRIC}, mode="lines+markers"), tested, 2)  # fmt: skip
    for kind, label in BYTE_LABELS.items():
        add(go.Bar(x=rounds, y=[row["bytes"][kind] / 1e6 for row in rows], name=label,
                   marker={"color": BYTE_COLOURS[kind]}), rows, 3)  # fmt: skip
    if predicted is not None:
        figure.add_hline(y=predicted, line_dash="dash", line_color="#666666", row=2, col=1)
    figure.update_yaxes(title_text="training loss, nats", row=1, col=1)
    figure.update_yaxes(title_text=name, row=2, col=1)
    figure.update_yaxes(title_text="MB per round", row=3, col=1)
    figure.update_xaxes(title_text="round", row=3, col=1)
    buttons = [
        {
            "label": label,
            "method": "update",
            "args": [
                {"x": [[row[key] for row in of] for of in used]},
                {"xaxis3.title.text": label},
            ],
        }
        for key, label in (("round", "round"), ("time_s", "virtual time in s"))
    ]
    figure.update_layout(
        title=title, template="plotly_white", barmode="stack", height=900,
        updatemenus=[{"buttons": buttons, "type": "buttons", "direction": "right", "x": 1.0,
                      "xanchor": "right", "y": 1.08}],
    )  # fmt: skip
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _evaluated(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["metric"] is not None]
