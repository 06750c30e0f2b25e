"""Claims on the grid: published tables to the digit, figures from rows, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sftopt
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.studies.reproduce import CLAIMS, Reproduction
from sftopt.studies.reproduce.claims import Claim, Trial
from sftopt.studies.reproduce.exact import ExactEntry, exact_entries
from sftopt.studies.reproduce.figure import figure_of
from sftopt.studies.reproduce.findings import condition, finding_of
from sftopt.studies.reproduce.grid import cells
from sftopt.studies.reproduce.run import claim_names


def test_published_tables_are_met_to_the_printed_digit() -> None:
    entries = exact_entries()
    assert len(entries) == 26
    assert [entry.what for entry in entries if not entry.agrees] == []
    assert not ExactEntry("t", "off by a digit", 6.8, 6.86, "%", 1).agrees


def test_the_grid_is_what_was_fixed() -> None:
    grid = cells()
    assert len(grid) == len({cell.key for cell in grid}) == 75
    cell = next(c for c in grid if c.key == "jetson-vit-b|4|20|10|0")
    made = cell.instance()
    assert made.radio.uplink_bandwidth_hz == made.radio.downlink_bandwidth_hz == 2e7
    assert made.server.compute_flops_per_s == 1e13
    assert made.server.compute_min_flops_per_s == 2.5e12
    kappa = made.server.energy_coefficient_j_s2_per_flop3
    assert kappa is not None
    assert kappa * 1e39 == pytest.approx(250.0)
    assert {"dense4", "dense8", "none"} <= {mode.label for mode in made.compression.modes}


def rows() -> list[dict[str, Any]]:
    """Three cells by hand: ours takes 1, 2 and 5 s where the baseline takes 10."""
    return [
        {"cell": f"f|4|{mhz}|{tflops}|0", "family": "f", "band_mhz": float(mhz),
         "server_tflops": float(tflops), "schemes": [
             {"scheme": "sft", "round_s": ours, "refused": None},
             {"scheme": "splitlora", "round_s": 10.0, "refused": why}]}
        for mhz, tflops, ours, why in (
            (5, 1, 1.0, None), (5, 10, 2.0, "memory"), (20, 1, 5.0, None),
        )
    ]  # fmt: skip


def claim(at_least: float, reduces: bool = True) -> Claim:
    trial = Trial("round_s", "splitlora", "by hand")
    return Claim("c", "sft", "t", "s", at_least, reduces, "sft", (trial,), "a")


def test_a_reduction_is_counted_where_it_is_reached() -> None:
    (found,) = finding_of(claim(0.8), rows()).trials
    assert found.by_cell == {"f|4|5|1|0": 0.9, "f|4|5|10|0": 0.8, "f|4|20|1|0": 0.5}
    assert (found.least, found.median, found.most) == (0.5, 0.8, 0.9)
    assert (found.reached, found.cells, found.refused) == (2, 3, 1)
    assert found.condition == (
        "always at 5 MHz with 1 TFLOP/s, 5 MHz with 10 TFLOP/s; never at 20 MHz with 1 TFLOP/s"
    )


def test_a_factor_is_theirs_over_ours() -> None:
    (found,) = finding_of(claim(6.0, reduces=False), rows()).trials
    assert (found.least, found.median, found.most) == (2.0, 5.0, 10.0)
    assert found.reached == 1


def test_conditions_say_everywhere_nowhere_and_untried() -> None:
    assert condition(rows(), set()) == "nowhere on the grid"
    assert condition(rows(), {row["cell"] for row in rows()}) == "everywhere on the grid"
    assert condition([], set()) == "not tried on any cell"


def test_every_claim_says_what_is_assumed() -> None:
    assert len({one.name for one in CLAIMS}) == len(CLAIMS)
    for one in CLAIMS:
        assert one.assumed
        assert "[" in one.source  # what kind of source
        assert one.trials


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reproduction]:
    out = tmp_path_factory.mktemp("reproduce")
    return out, sftopt.reproduce(["sft-delay", "splitlite-table"], most_cells=2, out=out)


def test_a_run_is_kept_and_goes_on(tried: tuple[Path, Reproduction], tmp_path: Path) -> None:
    folder, made = tried
    assert made.cells == 2
    assert len(made.finding("sft-delay").trials) == 3
    assert len(made.exact) == 24
    text = (folder / "claims.md").read_text()
    assert "fixed before the first run" in text
    assert "**no**" not in text
    lines = (folder / "rows.jsonl").read_text().splitlines()
    (tmp_path / "settings.json").write_text((folder / "settings.json").read_text())
    (tmp_path / "rows.jsonl").write_text(lines[0] + "\n")
    names = ["splitlite-table", "sft-delay"]
    with pytest.raises(InputError, match="--resume"):
        sftopt.reproduce(names, most_cells=2, out=tmp_path)
    again = sftopt.reproduce(names, most_cells=2, out=tmp_path, resume=True)
    assert again.finding("sft-delay") == made.finding("sft-delay")
    row = json.loads(lines[0])
    ours = {one["scheme"]: one for one in row["schemes"]}
    value = 1.0 - ours["sft"]["round_s"] / ours["splitlora"]["round_s"]
    assert made.finding("sft-delay").trials[0].by_cell[row["cell"]] == value


def test_its_heat_map_is_drawn(tried: tuple[Path, Reproduction], tmp_path: Path) -> None:
    figure_of(tried[1].finding("sft-delay")).savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_unknown_claims_get_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="sft-delay"):
        sftopt.reproduce(["sft-delai"])
    assert "st-sflora-payload" in claim_names()
