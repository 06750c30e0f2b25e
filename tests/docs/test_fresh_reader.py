"""The log of a reader with the README alone: its commands run on its table, in order."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from sftopt.face.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "benchmarks/results/fresh_reader.md").read_text(encoding="utf-8")


def test_the_second_time_still_leads_to_plan_figure_and_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (table,) = re.findall(r"^```csv\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    (model,) = re.findall(r"^```json\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    Path("mine.csv").write_text(table)
    Path("qwen.json").write_text(model)
    commands = re.findall(r"^\| \w+ \| `sftopt (.*?)` \|", PAGE, flags=re.MULTILINE)
    assert len(commands) == 7
    for line in commands:
        assert main(shlex.split(line)) == 0, line
    capsys.readouterr()
    assert main(["verify", "own.json", "own-plan.json", "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    said = re.search(r"optimal\s+\(verified\) at ([\d.]+) s with a bound of ([\d.]+) s", PAGE)
    assert said is not None
    assert verdict["objective_s"] == pytest.approx(float(said[1]), rel=2e-4)
    assert min(one.stat().st_size for one in Path().glob("own-*.*")) > 1_000
    for name in ("sweep.png", "sweep.pdf", "sweep.csv", "sweep.tex"):
        assert (Path("own-sweep") / name).is_file(), name
    assert Path("own-sweep/sweep.csv").read_text().startswith("server.compute_tflops,")
    sped = [row.split(",") for row in Path("own-sweep/sweep.csv").read_text().splitlines()]
    places = [sped[0].index(name) for name in ("scheme", "median")]
    card = [float(row[places[1]]) for row in sped[1:] if row[places[0]] == "card"]
    assert card == sorted(card, reverse=True)
    assert card[0] > 4.0 * card[-1]  # it was the same at every speed


def test_nothing_of_what_they_stumbled_over_came_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a table without a floor and without a path loss is told, once."""
    monkeypatch.chdir(tmp_path)
    rows = "compute_gflops,memory_gb,distance_m\n" + "800,4,60\n" * 3
    Path("few.csv").write_text(f"# a comment\n{rows}")
    assert main(["instance", "from-csv", "few.csv", "--out", "few.json"]) == 2
    told = capsys.readouterr().err
    assert told.count("--path-loss umi") == 1
    assert "lines 3, 4, 5" in told
    asked = ["instance", "from-csv", "few.csv", "--path-loss", "umi", "--out", "few.json"]
    assert main([*asked, "--set", "server.compute_tflops=100"]) == 0
    assert "a plan may leave every block to the server" in capsys.readouterr().err
    assert main(["plan", "few.json"]) == 0
    assert "0 blocks: embeddings alone" in " ".join(capsys.readouterr().out.split())
