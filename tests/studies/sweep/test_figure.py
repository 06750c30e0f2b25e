"""Figures and tables of a sweep: what a reader of the paper sees of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from sftopt.core.errors import InputError
from sftopt.core.pictures.paper import WIDTHS_IN, look_of
from sftopt.studies.sweep.axes import AxisNote
from sftopt.studies.sweep.figure import GAPS
from sftopt.studies.sweep.sweep import Sweep, SweepRow
from sftopt.studies.sweep.tables import write_latex
from sftopt.studies.sweep.words import (
    head_of,
    label_of,
    range_of,
    short_number,
    value_of,
    words_of,
    written_as,
)

BAND = "radio.bandwidth_mhz"
NUMBERS = {"sft": (20.0, 10.0), "one": (60.0, 25.0), "twin": (60.6, 24.9), "slow": (260.0, 120.0)}
"""Median seconds of made-up schemes at 5 and 20 MHz."""


def swept(
    *, seeds: int = 3, devices: tuple[int, ...] = (4,), metric: str = "round_s",
    refused: str = "", known: bool = True,
) -> Sweep:  # fmt: skip
    """A sweep by hand: seed s is s seconds beside the median."""
    rows = []
    for place, band in enumerate((5.0, 20.0)):
        for count in devices:
            for seed in range(seeds):
                figures: tuple[dict[str, Any], ...] = tuple(
                    {
                        "scheme": scheme,
                        "refused": "too big" if scheme == refused and place == 0 else None,
                        metric: at[place] + seed - (seeds - 1) // 2 if known else None,
                    }
                    for scheme, at in NUMBERS.items()
                )
                rows.append(
                    SweepRow(
                        cell=f"{band}{count}{seed}", values={BAND: band, "devices": count},
                        seed=seed, instance_hash="", devices=count, reference_bits=32,
                        schemes=figures,
                    )
                )  # fmt: skip
    return Sweep(
        instance="a_cell",
        axes=(AxisNote(name=BAND, values=(5.0, 20.0)), AxisNote(name="devices", values=devices)),
        fixed={"server.compute_tflops": 20},
        seeds=tuple(range(seeds)),
        schemes=tuple(NUMBERS),
        reference_bits=(32,),
        rows=tuple(rows),
    )


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("server.compute_tflops", "server compute in TFLOP/s"),
        ("radio.bandwidth_mhz", "bandwidth in MHz"),
        ("radio.uplink_noise_figure_db", "uplink noise figure in dB"),
        ("radio.uplink_bandwidth_hz+radio.snr_gap", "uplink bandwidth and others in MHz"),
        ("devices[*].memory_bytes", "device memory in GB"),
        ("devices[dev03].power_dbm", "dev03 power in dBm"),
        ("devices[*].transmit_power_w", "device power in W"),
        ("scale:server.memory_bytes", "server memory, times the cell's"),
        ("training.local_steps", "local steps"),
        ("accuracy.minimum", "accuracy minimum"),
        ("devices", "number of devices"),
        ("server.noise_w_per_hz", "server noise in W/Hz"),
    ],
)  # fmt: skip
def test_an_axis_says_whose_field_it_is_and_in_which_unit(name: str, label: str) -> None:
    assert label_of(name) == label


def test_values_are_told_in_the_units_of_people() -> None:
    assert value_of("radio.uplink_bandwidth_hz", 2.5e7) == "25 MHz"
    assert value_of("radio.power", "psd") == "psd"
    assert range_of("server.compute_flops_per_s", [1.8e12, 1.12e13]) == "1.8 to 11.2 TFLOP/s"
    assert head_of("server.memory_bytes") == "Server memory (GB)"
    assert written_as("server.compute_flops_per_s") == "server.compute_tflops"
    assert [short_number(v) for v in (9.10282, 16.5723, 54.928, 12.5, 100.0, 0.02)] == [
        "9.1", "16.6", "55", "12.5", "100", "0.02"
    ]  # fmt: skip


def test_an_axis_of_one_value_does_not_count() -> None:
    one = swept().plot()
    assert len([axes for axes in one.axes if axes.get_visible()]) == 1
    assert "number of devices 4" in str(one.get_suptitle())
    assert "server compute 20 TFLOP/s" in str(one.get_suptitle())
    two = swept(devices=(4, 8)).plot()
    assert [axes.get_title() for axes in two.axes] == [
        "number of devices = 4", "number of devices = 8"
    ]  # fmt: skip


def test_a_short_range_has_three_numbers() -> None:
    figure = swept().plot()
    figure.canvas.draw()
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log"
    inside = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert len(inside) >= 3
    assert len(axes.yaxis.get_minorticklocs()) > 3


def test_a_hidden_line_is_named_and_seen_through() -> None:
    made = swept()
    assert made.shown().near == {"twin": "one"}
    figure = made.plot()
    assert "twin\n\u2248 one (2 %)" in legend_of(figure)
    lines = {str(line.get_label()): line for line in figure.axes[0].get_lines()}
    assert lines["twin"].is_dashed()
    assert not lines["one"].is_dashed()
    assert GAPS[1]
    assert "twin is within 2 % of one" in made.shown().caption


def test_ranges_are_bars_in_the_colour_of_their_line_and_the_legend_has_marks() -> None:
    figure = swept().plot()
    (axes,) = figure.axes
    bars = [one for one in axes.collections if one.get_visible()]
    assert len(bars) == len(NUMBERS)
    colours = {to_hex(line.get_color()) for line in axes.get_lines() if line.get_label() in NUMBERS}
    assert {to_hex(bar.get_color()[0]) for bar in bars} == colours
    ends = {
        tuple(round(y, 6) for y in path.vertices[:, 1]) for bar in bars for path in bar.get_paths()
    }
    assert (19.0, 21.0) in ends
    marks = [line.get_marker() for line in figure.legends[0].get_lines()]
    assert len(set(marks)) == len(NUMBERS)
    assert not swept(seeds=1).plot().axes[0].collections


def test_refused_points_are_hollow_and_the_legend_says_so() -> None:
    assert not any("hollow" in text for text in legend_of(swept().plot()))
    figure = swept(refused="slow").plot()
    assert "hollow: refused\nin some cell" in legend_of(figure)


def test_a_paper_gets_its_width_no_title_and_letters_of_eight_points(tmp_path: Path) -> None:
    for name, inches in WIDTHS_IN.items():
        figure = swept(devices=(4, 8)).plot(tmp_path / f"{name}.pdf", width=name)
        assert figure.get_size_inches()[0] == inches
        assert figure.get_suptitle() == ""
        sizes = {
            text.get_fontsize()
            for text in figure.findobj(lambda one: hasattr(one, "get_fontsize"))
            if text.get_text()
        }
        assert min(sizes) >= 8.0
        data = (tmp_path / f"{name}.pdf").read_bytes()
        assert b"/Type3" not in data
        assert f"/MediaBox [ 0 0 {inches * 72:g} ".encode() in data
    assert swept().plot(width=5, title=True).get_suptitle()
    assert not swept().plot(title=False).get_suptitle()
    for bad in ("wide", "0.5", "nan", 100):
        with pytest.raises(InputError, match=r"column \(3.5\)"):
            look_of(bad)


def test_nothing_known_is_not_drawn() -> None:
    made = swept(metric="energy.server_j", known=False)
    told = made.shown("energy.server_j").unknown
    assert told is not None
    assert "server.energy_coefficient_j_s2_per_flop3 is null" in told
    with pytest.raises(InputError, match="nothing to draw"):
        made.plot(metric="energy.server_j")
    assert swept().shown().unknown is None


def test_the_table_for_latex_is_in_words_and_units_with_the_range(tmp_path: Path) -> None:
    write_latex(swept(refused="slow"), tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text(encoding="utf-8")
    assert r"Bandwidth (MHz) & sft & one & twin & slow \\" in text
    assert r"\multicolumn{4}{c}{Round delay (s)}" in text
    assert r"5 & 20 (19--21) & 60 (59--61) & 60.6 (59.6--61.6) & 260 (259--261)$^\dagger$" in text
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert r"% needs \usepackage{booktabs}" in comments
    caption = next(line for line in comments if "caption" in line)
    assert "number of devices 4" in caption
    assert "median of 3 cells drawn by seed" in caption
    assert r"a\_cell" in caption
    assert r"% \label{tab:sweep-a-cell}" in comments
    write_latex(swept(seeds=1), tmp_path / "one.tex")
    assert r"5 & 20 & 60 & 60.6 & 260 \\" in (tmp_path / "one.tex").read_text(encoding="utf-8")


def test_words_of_a_field_are_short() -> None:
    assert words_of("server.energy_coefficient_j_s2_per_flop3") == "server energy coefficient"
