"""Pictures of a calibration: the fit of equation (12) with its band, and what it leaves over."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from sftopt.core.files import write_text
from sftopt.core.pictures.paper import SCREEN, Look
from sftopt.core.pictures.saving import save_for_paper
from sftopt.core.pictures.style import finished

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sftopt.core.calibration import AccuracyFit

COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's colours, which the colour-blind can tell apart."""
_POINTS = 80
"""Number of keep fractions at which a curve is drawn."""


def draw(fit: AccuracyFit, title: str, folder: Path, look: Look = SCREEN) -> list[Path]:
    """Write ``calibration.{png,pdf}`` and ``calibration.html``.

    Raises InputError where a file cannot be written.
    """
    made = save_for_paper({"calibration": fit_figure(fit, title, look)}, folder)
    page = folder / "calibration.html"
    write_text(page, interactive_page(fit, title))
    return [*made, page]


def fit_figure(fit: AccuracyFit, title: str, look: Look = SCREEN) -> Figure:
    """Draw the loss against the keep fraction by bits, and the residuals with the band."""
    from matplotlib.figure import Figure

    shape = (2, 1) if look.narrow else (1, 2)
    figure = Figure(figsize=look.size((10, 4.4), *shape), layout="constrained")
    losses, residuals = figure.subplots(*shape)
    keeps = _keeps(fit)
    for bits, colour in zip(_bits(fit), _cycle(), strict=False):
        losses.plot(keeps, _losses(fit, bits, keeps), color=colour, label=f"{bits} bits")
        low = [fit.fit.uncompressed - fit.lower.value(keep, bits) for keep in keeps]
        losses.plot(keeps, low, color=colour, linewidth=0.8, linestyle="--")
        for cell in _cells(fit, bits):
            spots = [cell.keep] * len(cell.loss)
            losses.plot(spots, cell.loss, ".", color=colour, markersize=4, alpha=0.6)
            rest = fmean(cell.loss) - cell.fitted_loss
            residuals.errorbar(cell.keep, rest, yerr=cell.half_width, color=colour, fmt="o",
                               markersize=4, capsize=2, linewidth=0.8)  # fmt: skip
    losses.plot([], [], color="#555555", linewidth=0.8, linestyle="--", label="lower curve")
    residuals.axhline(0.0, color="#555555", linewidth=0.8)
    losses.set(xlabel="keep fraction", ylabel=f"{fit.metric} lost")
    residuals.set(xlabel="keep fraction", ylabel="measured mean less fit")
    if look.title:
        losses.set_title(title)
        residuals.set_title("residuals and band")
    for axes in (losses, residuals):
        axes.grid(alpha=0.25)
    return finished(figure, look, losses)


def interactive_page(fit: AccuracyFit, title: str) -> str:
    """Render one HTML file that works from disk: hover over runs, switch bits on and off."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, subplot_titles=("loss", "residuals and band"))
    keeps = _keeps(fit)
    for bits, colour in zip(_bits(fit), _cycle(), strict=False):
        group: dict[str, Any] = {"legendgroup": str(bits), "showlegend": False}
        line = {"color": colour, "width": 2}
        figure.add_trace(
            go.Scatter(x=keeps, y=_losses(fit, bits, keeps), name=f"{bits} bits", mode="lines",
                       line=line, legendgroup=str(bits)), row=1, col=1,
        )  # fmt: skip
        lower = [fit.fit.uncompressed - fit.lower.value(keep, bits) for keep in keeps]
        figure.add_trace(
            go.Scatter(x=keeps, y=lower, mode="lines", line={**line, "width": 1, "dash": "dash"},
                       name=f"{bits} bits, lower curve", **group), row=1, col=1,
        )  # fmt: skip
        cells = _cells(fit, bits)
        figure.add_trace(
            go.Scatter(
                x=[cell.keep for cell in cells for _ in cell.loss],
                y=[loss for cell in cells for loss in cell.loss],
                text=[f"seed {seed}: {value:.5g}" for cell in cells
                      for seed, value in zip(fit.seeds, cell.metric, strict=True)],
                mode="markers", marker={"color": colour, "size": 6, "opacity": 0.6},
                name=f"{bits} bits, runs", **group,
            ), row=1, col=1,
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=[cell.keep for cell in cells],
                y=[fmean(cell.loss) - cell.fitted_loss for cell in cells],
                error_y={"type": "data", "array": [cell.half_width for cell in cells]},
                mode="markers", marker={"color": colour, "size": 8},
                name=f"{bits} bits, residual", **group,
            ), row=1, col=2,
        )  # fmt: skip
    figure.update_xaxes(title_text="keep fraction")
    figure.update_yaxes(title_text=f"{fit.metric} lost", row=1, col=1)
    figure.update_layout(title=title, template="plotly_white", hovermode="closest")
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return page


def _keeps(fit: AccuracyFit) -> list[float]:
    return [float(keep) for keep in np.linspace(fit.keep_from, fit.keep_to, _POINTS)]


def _bits(fit: AccuracyFit) -> list[int]:
    return sorted({cell.bits for cell in fit.cells})


def _cells(fit: AccuracyFit, bits: int) -> list[Any]:
    return [cell for cell in fit.cells if cell.bits == bits]


def _losses(fit: AccuracyFit, bits: int, keeps: list[float]) -> list[float]:
    return [fit.fit.loss(keep, bits) for keep in keeps]


def _cycle() -> list[str]:
    return [*COLOURS] * 2
