"""What the README says about solvers is what the committed rows of the races say."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet
import pytest

from sftopt.studies.race.measures import OURS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
CERTIFY = "certify/native"

Row = dict[str, Any]


def rows_of(race: str) -> list[Row]:
    """The committed rows of a race."""
    found: list[Row] = pyarrow.parquet.read_table(RESULTS / race / "rows.parquet").to_pylist()
    return found


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def solve_s(row: Row) -> float:
    return float(row["build_s"] + row["engine_s"])


def peers_of(rows: list[Row], instance: str) -> list[Row]:
    return [
        row for row in rows
        if row["instance"] == instance and row["entry"].split("/")[0] not in OURS
    ]  # fmt: skip


def factor_line(rows: list[Row], devices: int) -> str:
    """The README's line of one size: factors where a peer closed, else limit over our time."""
    mine = [row for row in rows if row["entry"] == CERTIFY and row["devices"] == devices]
    assert all(row["verdict"] == "optimal" for row in mine), "else the README must say so"
    closed: list[tuple[float, float, str]] = []
    open_: list[tuple[float, float]] = []
    left: list[float] = []
    for row in mine:
        peers = peers_of(rows, row["instance"])
        done = [peer for peer in peers if peer["verdict"] == "optimal"]
        if done:
            best = min(done, key=solve_s)
            cpu_s = min(peer["cpu_s"] for peer in done)
            closed.append((solve_s(best) / solve_s(row), cpu_s / row["cpu_s"], best["entry"]))
        else:
            cpu_s = max(peer["cpu_s"] for peer in peers if peer["cpu_s"] is not None)
            open_.append((row["limit_s"] / solve_s(row), cpu_s / row["cpu_s"]))
            left.append(min(peer["gap"] for peer in peers if peer["gap"] is not None))
    names = [name for _, _, name in closed]
    by = max(sorted(set(names)), key=names.count) if names else "-"
    cells = [
        str(devices),
        f"{median(map(solve_s, mine)):.2g}",
        f"{len(closed)} of {len(mine)}",
        f"{median(one[0] for one in closed):.3g}" if closed else "-",
        f"{median(one[1] for one in closed):.3g}" if closed else "-",
        by,
        f"> {median(one[0] for one in open_):.3g}" if open_ else "-",
        f"> {median(one[1] for one in open_):.3g}" if open_ else "-",
        f"{100 * median(left):.2g} %" if left else "-",
    ]
    return "| " + " | ".join(cells) + " |"


@pytest.mark.parametrize("devices", [2, 3, 5, 8, 12, 20])
def test_the_table_of_factors(readme: str, devices: int) -> None:
    assert factor_line(rows_of("race-paper"), devices) in readme


def said(readme: str) -> str:
    """The README without its line breaks."""
    return " ".join(readme.split())


def test_limit_and_gap_are_one_for_all_and_those_that_are_told(readme: str) -> None:
    rows = rows_of("race-paper")
    assert {(row["limit_s"], row["rel_gap"]) for row in rows} == {(15.0, 1e-4)}
    assert "24 cells of 2 to 20 devices, 15 s and a gap of 1e-4 for everyone" in said(readme)
    assert len({row["instance"] for row in rows}) == 24


def test_who_proved_how_much_and_what_was_wrong(readme: str) -> None:
    rows = rows_of("race-paper")

    def proved(entry: str) -> int:
        return sum(row["verdict"] == "optimal" for row in rows if row["entry"] == entry)

    scip = max(proved(entry) for entry in {row["entry"] for row in rows} if "scip" in entry)
    given = sum(row["entry"].startswith("maingo") for row in rows)
    text = (
        f"`certify` proved {proved(CERTIFY)} of 24, SCIP in its best form {scip}, MAiNGO "
        f"{proved('maingo/joint-reduced')} of the {given} it was given"
    )
    assert text in said(readme)
    wrong = [row for row in rows if row["verdict"] == "wrong"]
    assert {row["entry"] for row in wrong} == {"scip/joint-reduced"}, "else the README is to say so"
    assert f"{len(wrong)} of {len(rows)} rows is refuted" in said(readme)


def test_where_ours_lose_is_told(readme: str) -> None:
    """Instances on which a peer was sooner, and heuristics of ours above the best plan."""
    rows = rows_of("race-paper")
    own = {row["instance"]: solve_s(row) for row in rows if row["entry"] == CERTIFY}
    sooner = {
        row["instance"]
        for row in rows
        if row["entry"].split("/")[0] not in OURS
        and row["verdict"] == "optimal"
        and solve_s(row) < own[row["instance"]]
    }
    assert f"a peer was sooner on {len(sooner)} of 24 cells" in said(readme)
    for entry in ("alternating", "greedy", "constructive", "augmented-lagrangian"):
        worst = max(row["above_best"] or 0.0 for row in rows if row["entry"] == f"{entry}/native")
        assert f"`{entry}` is up to {100 * worst:.2g} % above the best plan" in said(readme)


def test_how_certify_grows(readme: str) -> None:
    rows = rows_of("race-scaling")
    there = [row for row in rows if row["verdict"] != "infeasible_claimed"]
    done = [row for row in there if row["verdict"] == "optimal"]
    assert f"proved 1e-4 on {len(done)} of {len(there)} feasible cells" in said(readme)
    left = [row for row in there if row["verdict"] != "optimal"]
    assert {(row["family"], row["devices"]) for row in left} == {("llama-1b", 1000)}
    assert f"kept {100 * max(row['gap'] for row in left):.2f} % after 30 s" in said(readme)
    times = {
        size: f"{median(solve_s(row) for row in there if row['devices'] == size):.2g}"
        for size in (12, 100, 1_000, 10_000)
    }
    assert times[100] == "0.1"
    assert (
        f"12 devices in {times[12]} s, 100 in 0.10 s, 1,000 in {times[1_000]} s, 10,000 in "
        f"{times[10_000]} s"
    ) in said(readme)
    slowest = {row["family"]: solve_s(row) for row in there if row["devices"] == 10_000}
    assert f"`llama-1b`: {slowest['llama-1b']:.0f} s at 10,000 devices" in said(readme)
    assert f"`weichen`: {slowest['weichen']:.1f} s" in said(readme)


def test_the_small_problem(readme: str) -> None:
    rows = rows_of("race-small")
    worst = {row["entry"]: 0.0 for row in rows}
    for row in rows:
        worst[row["entry"]] = max(worst[row["entry"]], row["above_best"] or 0.0)
    scs = worst.pop("scs/spectrum-conic")
    assert max(worst.values()) < 1e-6, "all others agree"
    count = len({row["instance"] for row in rows})
    assert f"native optimum on {count} rounds, SCS within {100 * scs:.2g} %" in said(readme)


def test_no_peer_closed_a_cell_of_five_devices(readme: str) -> None:
    rows = rows_of("race-paper")
    assert not [
        row for row in rows
        if row["entry"].split("/")[0] not in OURS
        and row["devices"] >= 5 and row["verdict"] == "optimal"
    ]  # fmt: skip
    assert "No other solver closed the gap on a cell of five devices or more" in said(readme)


def test_the_ground_truth(readme: str) -> None:
    rows = rows_of("race-ground-truth")
    values: dict[str, list[float]] = {}
    for row in rows:
        assert row["verdict"] != "wrong"
        if row["entry"] in (CERTIFY, "exhaustive/native"):
            assert row["verdict"] == "optimal"
            values.setdefault(row["instance"], []).append(row["objective_s"])
    assert all(max(two) <= min(two) * (1.0 + 1e-5) for two in values.values())
    assert all(len(two) == 2 for two in values.values())
    assert f"[{len(values)}](benchmarks/results/race-ground-truth/report.md)" in readme
