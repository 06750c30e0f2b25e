"""sftopt sweep: its files, its JSON, its exit codes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.face.command_line import Run


def test_the_command_writes_everything(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = run("sweep", "gpt2-e2e", "--vary", "training.local_steps=5,10", "--schemes", "splitlora",
              "--out", out, "--json")  # fmt: skip
    assert ran.code == 0
    assert ran.data["command"] == "sweep"
    assert ran.data["cells"] == 2
    names = {path.name for path in out.iterdir()}
    assert names >= {"rows.jsonl", "summary.json", "rows.csv", "sweep.csv", "sweep.tex",
                     "sweep.png", "sweep.pdf"}  # fmt: skip
    rows = list(csv.DictReader((out / "rows.csv").read_text().splitlines()))
    assert {row["training.local_steps"] for row in rows} == {"5", "10"}
    assert r"training.local\_steps & sft & splitlora" in (out / "sweep.tex").read_text()
    bad = run("sweep", "gpt2-e2e", "--vary", "nope=1,2", "--out", tmp_path / "b")
    assert bad.code == 2
    assert "there is no field 'nope'" in bad.err


def test_a_family_is_drawn_for_seeds_and_numbers_of_devices(run: Run, tmp_path: Path) -> None:
    ran = run("sweep", "gpt2-e2e", "--vary", "devices=2,3", "--seeds", 2, "--schemes", "splitlora",
              "--no-plots", "--out", tmp_path / "out", "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.data["cells"] == 4


@pytest.mark.parametrize(
    ("metric", "told"),
    [("energy", "Did you mean 'energy.device_j'"), ("rounds_s", "Did you mean 'round_s'"),
     ("refused", "unknown metric 'refused'")],
)  # fmt: skip
def test_an_unknown_metric_is_told_before_the_work(
    run: Run, tmp_path: Path, metric: str, told: str
) -> None:
    ran = run("sweep", "gpt2-e2e", "--vary", "devices=2,3", "--metric", metric,
              "--out", tmp_path / "out")  # fmt: skip
    assert ran.code == 2
    assert told in ran.err
    assert not (tmp_path / "out").exists()
