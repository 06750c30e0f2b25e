"""Pictures, notes and the table of a comparison: nothing is cut off or left unexplained."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

import sftopt
from sftopt.core.families import generate
from sftopt.core.schemes.registry import SCHEMES
from sftopt.studies.compare.notes import PARTS_NOTE, POWER_NOTE, equal, notes_of
from sftopt.studies.compare.tables import write_latex

LONG = (
    "scheme 'tsflora': 'qwen2' is a decoder; tokens are chosen by the attention of a class token, "
    "which a decoder has not; leave the scheme out or take an encoder"
)
"""A refusal that was cut off after 62 characters."""


@pytest.fixture(scope="module")
def compared() -> sftopt.Comparison:
    found = sftopt.compare(
        generate("jetson-vit-b", 3, 0), ["splitlora", "card", "card:power=share"]
    )
    rows = [
        row.model_copy(update={"refused": LONG}) if row.scheme == "splitlora" else row
        for row in found.schemes
    ]
    return found.model_copy(update={"schemes": tuple(rows)})


def words_of(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def ends_in_figure(figure: Figure) -> bool:
    """Whether every text lies inside the figure, on the left and on the right."""
    figure.canvas.draw()
    width = figure.bbox.width
    boxes = [
        text.get_window_extent()
        for axes in figure.axes
        for text in (*axes.texts, *axes.get_yticklabels())
    ]
    return all(box.x0 >= 0.0 and box.x1 <= width for box in boxes)


def test_notes_say_what_bars_variants_and_refusals_mean(compared: sftopt.Comparison) -> None:
    figure = compared.plot()
    told = words_of(figure)
    assert PARTS_NOTE in told
    assert POWER_NOTE in told
    assert f"refused: splitlora: {LONG}" in told
    assert "times sft's" in figure.axes[0].get_xlabel()
    assert ends_in_figure(figure)
    plain = [row for row in compared.schemes if "power" not in row.scheme and not row.refused]
    assert notes_of(plain) == [PARTS_NOTE]


@pytest.mark.parametrize(("width", "above_each_other"), [("column", True), ("page", False)])
def test_a_paper_gets_its_width(
    compared: sftopt.Comparison, width: str, above_each_other: bool, tmp_path: Path
) -> None:
    figure = compared.plot(tmp_path / "c.pdf", width=width)
    assert figure.get_size_inches()[0] == {"column": 3.5, "page": 7.16}[width]
    assert words_of(figure) == ""
    assert figure.get_suptitle() == ""
    assert ends_in_figure(figure)
    delay, traffic = figure.axes
    assert (delay.get_position().y0 > traffic.get_position().y1) == above_each_other
    texts = figure.findobj(lambda one: hasattr(one, "get_fontsize"))
    sizes = [text.get_fontsize() for text in texts if text.get_text()]
    assert min(sizes) >= 8.0
    assert b"/Type3" not in (tmp_path / "c.pdf").read_bytes()


def test_bars_fill_the_picture(compared: sftopt.Comparison) -> None:
    """There was an empty band above the first and below the last."""
    low, high = compared.plot().axes[0].get_ylim()
    assert low - high == pytest.approx(len(compared.schemes), abs=0.5)


def test_equal_plans_are_named() -> None:
    cell = generate("jetson-vit-b", 3, 0)
    cell = cell.replace(**{"workload.reference_bits": 16})
    found = sftopt.compare(cell, ["splitlora", "fp16", "int8"], baselines=False)
    assert equal(found.schemes) == [["splitlora", "fp16"]]
    assert "splitlora and fp16: the same plan." in found.notes()


def test_baselines_can_be_left_out() -> None:
    cell = generate("jetson-vit-b", 2, 0)
    found = sftopt.compare(cell, ["int8-best", "splitlora"], baselines=False)
    assert [row.scheme for row in found.schemes] == ["sft", "int8-best", "splitlora"]
    assert {name for name, scheme in SCHEMES.items() if scheme.fair} == {
        "one-for-all", "int8-best", "fp16-best"
    }  # fmt: skip


def test_the_table_for_latex_has_words_and_units(
    compared: sftopt.Comparison, tmp_path: Path
) -> None:
    write_latex(compared, tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text(encoding="utf-8")
    assert r"Scheme & Round delay (s) & Times sft's & Devices (s)" in text
    assert r"splitlora$^\dagger$ &" in text
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert r"% needs \usepackage{booktabs}" in comments
    assert any("3 devices, 32 bits per boundary element" in line for line in comments)
