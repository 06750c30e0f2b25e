"""``sftopt simulate`` as a user sees it: files, tables, resuming, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftopt.face.commands.simulate import signed_share
from tests.face.command_line import Run

FAST = ("--rounds", 3, "--no-clairvoyant", "--quiet")


def test_rows_summary_plans_and_pictures(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = run("simulate", small, "--out", out, "--rounds", 2, "--quiet")
    assert ran.code == 0
    assert "shares solved anew every round" in ran.out
    assert "above the certified clairvoyant bound" in ran.out
    assert len((out / "rows.jsonl").read_text().splitlines()) == 2
    assert (out / "plans" / "frame-0000.plan.json").exists()
    for name in ("delay.png", "delay.pdf", "shares.png", "simulation.html"):
        assert (out / name).stat().st_size > 1000, name
    page = (out / "simulation.html").read_text()
    assert "https://cdn" not in page.split("</head>")[0]  # works without a network


def test_json_is_the_summary_and_resume_adds_rounds(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    data = run("simulate", small, "--out", out, *FAST, "--no-plots", "--json").data
    assert data["rounds"] == 3
    assert data["gains"]["over_equal_shares"] > 0.0
    again = run("simulate", small, "--out", out, *FAST, "--json")
    assert again.code == 2
    assert "--resume" in again.err
    more = ("--rounds", 5, "--no-clairvoyant", "--quiet", "--no-plots", "--resume", "--json")
    assert run("simulate", small, "--out", out, *more).data["rounds"] == 5
    other = run("simulate", small, "--out", out, *FAST, "--seed", 9, "--resume")
    assert other.code == 2
    assert "seed" in other.err


def test_a_trace_that_was_written_gives_the_same_delays(
    run: Run, small: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "gains.csv"
    drawn = run("simulate", small, "--out", tmp_path / "a", *FAST, "--write-trace", trace,
                "--no-plots", "--frame-rounds", 3, "--json").data  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "a/rows.jsonl").read_text().splitlines()]
    assert drawn["rounds"] == len(rows)
    read = run("simulate", small, "--out", tmp_path / "b", *FAST, "--trace", trace, "--no-plots",
               "--frame-rounds", 3, "--json")  # fmt: skip
    assert read.code == 0
    # the plan is made from the trace's mean gains, so cuts may differ; equal inputs, close delays
    assert read.data["policies"]["resolved_s"]["mean_s"] == pytest.approx(
        drawn["policies"]["resolved_s"]["mean_s"], rel=0.05
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rounds", 0), "rounds is 0"),
        (("--channel", "moon"), "kind"),
        (("--channel-option", "speed_m_per_s=fast"), "speed_m_per_s"),
        (("--channel-option", "wind=3"), "wind"),
        (("--round-solver", "certify"), "does not solve the small problem"),
        (("--trace", "missing.csv"), "does not exist"),
        (("--planner", "nobody"), "unknown solver 'nobody'"),
    ],
)
def test_bad_words_are_named(
    run: Run, small: Path, tmp_path: Path, words: tuple[object, ...], said: str
) -> None:
    ran = run("simulate", small, "--out", tmp_path / "run", "--quiet", *words)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_an_infeasible_cell_is_proven_so(run: Run, infeasible: Path, tmp_path: Path) -> None:
    ran = run("simulate", infeasible, "--out", tmp_path / "run", "--quiet")
    assert ran.code == 3
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("share", "text", "said"),
    [
        (0.108, "less mean delay", "  10.80 % less mean delay"),
        (-0.108, "less mean delay", "  10.80 % more mean delay"),
        (0.02, "above the bound", "   2.00 % above the bound"),
        (-0.0091, "above the delay planned", "   0.91 % below the delay planned"),
    ],
)
def test_a_share_is_told_by_its_word_not_by_a_minus(share: float, text: str, said: str) -> None:
    assert signed_share(share, text) == said
