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
    assert r"Local steps & sft & splitlora" in (out / "sweep.tex").read_text()
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


def test_a_family_can_keep_its_server_while_devices_join(run: Run, tmp_path: Path) -> None:
    asked = ("sweep", "jetson-vit-b", "--vary", "devices=2,3", "--schemes", "splitlora", "--quiet",
             "--no-baselines", "--vary", "radio.bandwidth_mhz=20")  # fmt: skip
    ran = run(*asked, "--no-plots", "--out", tmp_path / "free")
    assert ran.code == 0, ran.err
    words = " ".join(ran.out.split())
    assert "--set server.compute_tflops=VALUE" in words
    assert "TFLOP/s" in words
    assert "bandwidth_hz" not in words
    ran = run(*asked, "--set", "server.compute_tflops=4", "--width", "column", "--json",
              "--out", tmp_path / "held")  # fmt: skip
    assert ran.code == 0, ran.err
    assert "server.compute_flops_per_s" not in ran.data["scales_with_devices"]
    assert "note: moved with compute_flops_per_s" in ran.err
    assert ran.data["fixed"] == {"server.compute_tflops": 4}
    assert ran.data["schemes"] == ["sft", "splitlora"]
    assert (tmp_path / "held" / "sweep.png").exists()  # an axis of one value is none
    ran = run(*asked, "--set", "server.compute_tflops=5", "--resume", "--out", tmp_path / "held")
    assert ran.code == 2


def test_one_cell_is_told_what_a_seed_draws(run: Run, small: Path, tmp_path: Path) -> None:
    ran = run(
        "sweep", small, "--vary", "devices[*].batch=1,2", "--seeds", 3, "--out", tmp_path / "o"
    )
    assert ran.code == 2
    assert "a seed draws the devices of a family's cell" in ran.err


def test_a_figure_of_nothing_is_not_drawn(run: Run, small: Path, tmp_path: Path) -> None:
    ran = run("sweep", small, "--vary", "devices[*].batch=1,2", "--metric", "energy.server_j",
              "--schemes", "splitlora", "--no-baselines", "--out", tmp_path / "o")  # fmt: skip
    assert ran.code == 0, ran.err
    assert "warning: --metric energy.server_j will not be known" in ran.err
    assert "no figure is drawn" in ran.err
    assert "energy_coefficient_j_s2_per_flop3 is null" in " ".join(ran.out.split())
    assert not (tmp_path / "o" / "sweep.png").exists()
