"""Figures of simulate, finetune, calibrate and race at a paper's width: nothing cut, 8 points."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from sftopt.core.calibration import load_calibration
from sftopt.core.pictures.paper import Look, look_of
from sftopt.face.plots import calibration, finetune, race, simulation
from tests.face.command_line import Run
from tests.studies.race.test_report import a_race

ROUNDS = [
    {"round": n, "time_s": 0.4 * n, "loss": math.exp(-n), "metric": 0.1 * n,
     "bytes": dict.fromkeys(finetune.BYTE_LABELS, 4e5)}
    for n in range(8)
]  # fmt: skip
SHARES = {link: {f"dev{k:02d}": 1 / 9 for k in range(9)} for link in ("uplink", "downlink")}
SIMULATED = [
    {"round": n, "frame": 0, "resolved_s": 1.0 + n, "held_s": 2.0 + n, "equal_s": 3.0 + n,
     "clairvoyant_bound_s": 0.9 + n, "shares": SHARES}
    for n in range(8)
]  # fmt: skip


def fit(look: Look) -> Figure | None:
    return calibration.fit_figure(load_calibration("digit-scenes").accuracy_fit(), "A TITLE", look)


FIGURES: dict[str, Callable[[Look], Figure | None]] = {
    "delay": lambda look: simulation.delay_figure(SIMULATED, "A TITLE", look),
    "shares": lambda look: simulation.shares_figure(SIMULATED, "A TITLE", look),
    "curves": lambda look: finetune.curves_figure(ROUNDS, "accuracy", 0.8, "A TITLE", look),
    "bytes": lambda look: finetune.bytes_figure(ROUNDS, "A TITLE", look),
    "calibration": fit,
    "counts": lambda look: race.counts_figure(a_race(), [], "A TITLE", look),
    "profile": lambda look: race.profile_figure(a_race(), "A TITLE", look),
    "sizes": lambda look: race.sizes_figure(a_race(), "A TITLE", look),
    "gap": lambda look: race.gap_figure(a_race(), [], "A TITLE", look),
}


def shown(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("width", ["column", "page", 2.5])
def test_a_paper_gets_its_width_and_letters(name: str, width: str | float) -> None:
    look = look_of(width)
    figure = FIGURES[name](look)
    assert figure is not None
    figure.draw_without_rendering()
    assert figure.get_figwidth() == look.width_in
    for text in shown(figure):
        assert text.get_fontsize() == 8.0
        assert text.get_text() != "A TITLE"
    words = [axes.yaxis.label for axes in figure.axes] + [axes.xaxis.label for axes in figure.axes]
    words += [text for legend in figure.legends for text in legend.get_texts()]
    for box in (word.get_window_extent() for word in words if word.get_text()):
        assert -1.0 <= box.x0 <= box.x1 <= figure.bbox.width + 1.0
        assert -1.0 <= box.y0 <= box.y1 <= figure.bbox.height + 1.0


@pytest.mark.parametrize("name", FIGURES)
def test_the_screen_keeps_its_size_and_title(name: str) -> None:
    figure = FIGURES[name](look_of())
    assert figure is not None
    assert figure.get_figwidth() >= 9.0
    assert "A TITLE" in [axes.get_title() for axes in figure.axes]
    titled = FIGURES[name](look_of("column", title=True))
    assert titled is not None
    assert "A TITLE" in [axes.get_title() for axes in titled.axes]


def test_simulate_draws_at_the_width_asked_for(run: Run, tmp_path: Path) -> None:
    ran = run("simulate", "equal-devices", "--rounds", 2, "--quiet", "--width", "column",
              "--out", tmp_path / "out")  # fmt: skip
    assert ran.code == 0, ran.err
    head = (tmp_path / "out" / "delay.png").read_bytes()[16:20]
    assert int.from_bytes(head, "big") == 560  # 3.5 inches of 160 dots


@pytest.mark.parametrize(
    ("command", "way"),
    [
        (("compare", "equal-devices"), "give --plot FILE"),
        (("pareto", "equal-devices"), "give --plot FILE"),
        (("sweep", "equal-devices", "--vary", "radio.bandwidth_mhz=5,10", "--no-plots", "--out",
          "made"), "leave --no-plots out"),
        (("simulate", "equal-devices", "--no-plots", "--out", "made"), "leave --no-plots out"),
        (("finetune", "equal-devices", "--scheme", "splitlora", "--data", "digit-scenes",
          "--no-plots", "--out", "made"), "leave --no-plots out"),
        (("calibrate", "--data", "digit-scenes", "--out", "made.json"), "give --plots DIR"),
    ],
)  # fmt: skip
def test_a_look_of_nothing_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[Any, ...], way: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for option in (("--width", "column"), ("--no-title",)):
        ran = run(*command, *option)
        assert ran.code == 2
        assert f"is of a figure, and none is drawn: {way}, or leave it out" in ran.err
    assert list(tmp_path.iterdir()) == []
