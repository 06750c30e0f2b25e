"""Pictures of a plan show what the judge says: bars of the right length, at the right place."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

import sftopt
from sftopt.core.errors import NoPointError
from sftopt.core.pictures import gantt_figure, map_figure, parts_figure, svg_of
from sftopt.core.pictures.cell_map import PATH_LOSS_EXPONENT, positions_m
from sftopt.core.pictures.picture import Picture
from sftopt.core.pictures.saving import save
from sftopt.core.pictures.style import (
    LEAST_LABELS,
    MOST_DEVICES_SHOWN,
    logarithmic_ticks,
    most_binding,
    plain_logarithms,
)
from sftopt.core.plan import Breakdown, Order

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def solved() -> tuple[sftopt.Instance, sftopt.Result]:
    cell = sftopt.load("tight-memory")
    return cell, sftopt.solve(cell, solver="greedy", time_limit=20)


def rows_of(breakdown: Breakdown, order: Order = Order.PARALLEL) -> list[list[tuple[float, float]]]:
    """Beginning and end of every bar, by row."""
    (axes,) = gantt_figure(breakdown, order).axes
    rows: dict[int, list[tuple[float, float]]] = {}
    for bar in axes.patches:
        place = round(bar.get_y() + bar.get_height() / 2)
        rows.setdefault(place, []).append((bar.get_x(), bar.get_x() + bar.get_width()))
    return [rows[place] for place in sorted(rows)]


def test_a_step_has_no_hole_and_ends_with_the_step(
    solved: tuple[sftopt.Instance, sftopt.Result],
) -> None:
    _, result = solved
    assert result.breakdown is not None
    rows = rows_of(result.breakdown)
    assert len(rows) == len(result.breakdown.devices) + 1  # and the server
    for row in rows:
        assert row[0][0] == 0.0
        assert row[-1][1] == pytest.approx(result.breakdown.step_s, rel=1e-9)
        for (_, end), (begin, _) in itertools.pairwise(row):
            assert begin == pytest.approx(end, rel=1e-9, abs=1e-12)


def test_sequential_devices_follow_one_another(
    solved: tuple[sftopt.Instance, sftopt.Result],
) -> None:
    breakdown = solved[1].breakdown
    assert breakdown is not None
    rows = rows_of(breakdown, Order.SEQUENTIAL)
    flat = [bar for row in rows for bar in row]
    assert len(rows) == len(breakdown.devices)
    assert all(a[1] == pytest.approx(b[0]) for a, b in itertools.pairwise(flat))


def test_parts_sum_to_the_round(solved: tuple[sftopt.Instance, sftopt.Result]) -> None:
    _, result = solved
    assert result.breakdown is not None
    bar = parts_figure(result.breakdown).axes[0]
    assert math.fsum(patch.get_width() for patch in bar.patches) == pytest.approx(
        result.breakdown.round_s, rel=1e-9
    )


def test_the_map_keeps_distances_by_gain_and_positions_as_given() -> None:
    cell = sftopt.load("jetson-vit-b")
    at = positions_m(cell)
    gains = [device.uplink_gain for device in cell.devices]
    radii = [math.hypot(x, y) for x, y in at]
    for gain, radius in zip(gains, radii, strict=True):
        assert radius == pytest.approx(10.0 * (max(gains) / gain) ** (1 / PATH_LOSS_EXPONENT))
    placed = cell.replace(
        **{f"devices[{i}].position_m": [float(i), 2.0] for i in range(len(cell.devices))}
    )
    assert positions_m(placed).tolist() == [[float(i), 2.0] for i in range(len(cell.devices))]
    assert map_figure(placed).axes[0].get_xlabel() == "x in m"


def test_of_many_devices_the_binding_ones_are_shown() -> None:
    entries = list(range(100))
    slacks = [float((7 * index) % 100) for index in entries]
    shown = most_binding(entries, slacks)
    assert len(shown) == MOST_DEVICES_SHOWN
    assert shown == sorted(shown)
    assert max(slacks[index] for index in shown) < min(
        slacks[index] for index in entries if index not in shown
    )


def test_an_svg_is_one_element_with_a_name_and_ids_of_its_own(
    solved: tuple[sftopt.Instance, sftopt.Result],
) -> None:
    import re

    breakdown = solved[1].breakdown
    assert breakdown is not None
    first, second = (svg_of(gantt_figure(breakdown), name) for name in ('A "step"', "another"))
    assert first.startswith('<svg role="img" aria-label="A &quot;step&quot;"')
    assert first.count("<svg") == 1
    ids = [set(re.findall(r'id="([^"]+)"', text)) for text in (first, second)]
    assert not ids[0] & ids[1]
    used = set(re.findall(r"url\(#([^)]+)\)", first)) | set(re.findall(r'href="#([^"]+)"', first))
    assert used <= ids[0]
    assert first == svg_of(gantt_figure(breakdown), 'A "step"')


def test_a_result_draws_itself_or_says_that_there_is_nothing(
    solved: tuple[sftopt.Instance, sftopt.Result],
) -> None:
    cell, result = solved
    assert result.plot().axes
    assert result.gantt().axes
    for shown in (result, result.plan, cell):
        html = shown._repr_html_()  # type: ignore[union-attr]
        assert html.startswith("<div><strong>")
        assert len(repr(shown)) < 200
    nothing = sftopt.solve(sftopt.load("infeasible"))
    with pytest.raises(NoPointError, match="no round to draw"):
        nothing.plot()
    odd = cell.replace(name="<b>&")
    assert "&lt;b&gt;&amp;" in odd._repr_html_()


@pytest.mark.parametrize(
    ("least", "most"),
    [(21.0, 260.0), (57.3, 99.8), (8.0, 70.0), (99.0, 101.0), (1e-3, 1e5), (2.1, 17.0), (3.0, 3.1)],
)
def test_a_logarithmic_axis_has_three_plain_numbers_whatever_its_range(
    least: float, most: float
) -> None:
    ticks = logarithmic_ticks(least, most)
    assert len(ticks) >= LEAST_LABELS
    assert all(least <= tick <= most for tick in ticks)
    assert all(float(f"{tick:.4g}") == pytest.approx(tick, rel=1e-12) for tick in ticks)
    figure = Picture()
    axes = figure.subplots()
    axes.plot([1.0, 2.0], [least, most])
    axes.set_yscale("log")
    plain_logarithms(axes.yaxis)
    figure.canvas.draw()
    low, high = axes.get_ylim()
    shown = [
        label.get_text()
        for label, tick in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
        if low <= tick <= high and label.get_text()
    ]
    assert len(shown) >= LEAST_LABELS
    assert not any("10^" in text or "mathdefault" in text for text in shown)


def test_the_letters_of_a_pdf_are_what_publishers_take(tmp_path: Path) -> None:
    """IEEE PDF eXpress refuses Type 3, which is matplotlib's default."""
    picture = Picture()
    picture.subplots().set_title("letters")
    picture.savefig(tmp_path / "own.pdf")
    save(picture, tmp_path / "ours.pdf")
    for name in ("own.pdf", "ours.pdf"):
        data = (tmp_path / name).read_bytes()
        assert b"/Type3" not in data
        assert b"/TrueType" in data or b"/CIDFontType2" in data


def test_every_picture_is_written_in_one_place() -> None:
    """A savefig elsewhere would write Type 3 letters again."""
    own = ROOT / "sftopt" / "core" / "pictures"
    elsewhere = [
        path
        for path in (ROOT / "sftopt").rglob("*.py")
        if ".savefig(" in path.read_text(encoding="utf-8") and own not in path.parents
    ]
    assert elsewhere == []
