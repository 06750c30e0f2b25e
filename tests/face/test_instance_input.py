"""Cells from the command line: template, from-csv, set."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

import sftopt
from tests.face.command_line import Run


def test_the_template_becomes_a_cell_that_can_be_planned(run: Run, tmp_path: Path) -> None:
    table, cell = tmp_path / "devices.csv", tmp_path / "cell.json"
    assert run("instance", "template", "--out", str(table)).code == 0
    made = run(
        "instance", "from-csv", str(table), "--out", str(cell),
        "--set", "server.compute_tflops=10", "--set", "radio.bandwidth_mhz=40", "--json",
    ).data  # fmt: skip
    read = sftopt.load(cell)
    assert made["devices"] == len(read.devices) == 6
    assert read.server.compute_flops_per_s == 1e13
    assert read.radio.uplink_bandwidth_hz == read.radio.downlink_bandwidth_hz == 4e7
    assert made["instance_hash"] == read.hash
    assert any("those of jetson-vit-b" in note for note in made["notes"])
    assert made["notes"][0] in read.source.text
    assert sftopt.check(read).feasible


def test_set_changes_the_file_in_the_units_written(run: Run, tmp_path: Path) -> None:
    cell = tmp_path / "cell.json"
    run("instance", "new", "--devices", "3", "--out", str(cell))
    before = sftopt.load(cell)
    done = run(
        "instance", "set", str(cell), "devices[*].power_dbm=20", "devices[0].memory_gib=4",
        "radio.noise_dbm_per_hz=-170", "accuracy.minimum=0.87", "compression.keep_min=null",
        "--json",
    ).data  # fmt: skip
    after = sftopt.load(cell)
    assert [device.transmit_power_w for device in after.devices] == pytest.approx([0.1] * 3)
    assert after.devices[0].memory_bytes == 2.0**32
    assert after.radio.noise_w_per_hz == pytest.approx(1e-20)
    assert (done["instance_hash_before"], done["instance_hash"]) == (before.hash, after.hash)
    assert before.hash in after.source.text


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        (["server.memory_gb"], "write KEY=VALUE"),
        (["server.memory_gx=3"], "no field 'memory_gx'"),
        (["server.memory_gb=x"], "server.memory_gb is 'x'; a number is needed"),
        (["devices[nobody].batch=3"], "no entry 'nobody'"),
        (["devices[*].batch=0", "training.local_steps=0"], "2 fault"),
        (["devices[*].batch=3", "devices[0].batch=3"], "set twice"),
    ],
)
def test_wrong_edits_change_nothing(run: Run, tmp_path: Path, edits: list[str], said: str) -> None:
    cell = tmp_path / "cell.json"
    run("instance", "new", "--devices", "2", "--out", str(cell))
    text = cell.read_bytes()
    answer = run("instance", "set", str(cell), *edits)
    assert answer.code == 2
    assert said.replace("2 fault", "fault") in answer.err
    assert cell.read_bytes() == text


def test_a_bundled_cell_needs_a_new_file(run: Run, tmp_path: Path) -> None:
    answer = run("instance", "set", "tight-memory", "server.memory_gb=64")
    assert answer.code == 2
    assert "--out FILE" in answer.err
    assert run("instance", "set", "tight-memory", "server.memory_gb=64", "--out",
               str(tmp_path / "new.json")).code == 0  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--path-loss", "rural"], "rural"),
        (["--path-loss", "umi", "--carrier-ghz", "0"], "0.5 to 100 GHz"),
        (["--path-loss", "umi", "--carrier-ghz", "nan"], "0.5 to 100 GHz"),
        (["--like", "jetson"], "jetson-vit-b"),
        (["--path-loss", "uma", "--set", "server"], "write KEY=VALUE"),
    ],
)
def test_wrong_flags_write_nothing(run: Run, tmp_path: Path, flags: list[str], said: str) -> None:
    table, cell = tmp_path / "devices.csv", tmp_path / "cell.json"
    table.write_text("compute_tflops,memory_gb,x_m,y_m\n1,8,10,10\n")
    answer = run("instance", "from-csv", str(table), "--out", str(cell), *flags)
    assert answer.code == 2
    assert said in answer.err
    assert not cell.exists()


def test_a_faster_server_takes_its_range_along_and_says_so(run: Run, tmp_path: Path) -> None:
    table, cell = tmp_path / "devices.csv", tmp_path / "cell.json"
    run("instance", "template", "--out", str(table))
    made = run("instance", "from-csv", str(table), "--out", str(cell), "--set",
               "server.compute_tflops=40")  # fmt: skip
    assert "note: moved with compute_flops_per_s: compute_max_flops_per_s" in made.err
    assert "server of 40 TFLOP/s and 6.21 GB" in made.err
    assert "warning" not in made.err
    server = sftopt.load(cell).server
    assert server.compute_max_flops_per_s == server.compute_flops_per_s == 4e13


def test_what_check_offers_can_be_typed(run: Run, tmp_path: Path) -> None:
    cell = tmp_path / "cell.json"
    run("instance", "set", "jetson-vit-b", "server.memory_gb=1", "devices[dev03].memory_gb=0.1",
        "--out", str(cell))  # fmt: skip
    said = run("check", str(cell)).out
    lines = [line for line in said.splitlines() if "instance set FILE" in line]
    offers = [shlex.split(line)[-1] for line in lines]
    assert len(offers) == 2
    assert run("instance", "set", str(cell), *offers).code == 0
    assert run("check", str(cell)).code == 0


def test_a_distance_in_kilometres_is_noticed(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "devices.csv"
    table.write_text("compute_tflops,memory_gb,distance_m\n1,4,0.06\n1,4,60\n1,4,0.14\n")
    made = run("instance", "from-csv", str(table), "--path-loss", "umi", "--out",
               str(tmp_path / "cell.json"))  # fmt: skip
    assert "lines 2, 4: nearer than 10 m" in made.err


def test_the_curve_of_another_model_is_said_to_be_assumed(run: Run, tmp_path: Path) -> None:
    table, cell, work = (tmp_path / name for name in ("devices.csv", "cell.json", "work.json"))
    run("instance", "template", "--out", str(table))
    model = sftopt.load("gpt2-e2e").to_dict()["workload"]
    work.write_text(json.dumps(model))
    made = run("instance", "from-csv", str(table), "--workload", str(work), "--out", str(cell))
    assert "the accuracy curve is that of" in made.err
    assert "assumed for" in sftopt.load(cell).accuracy.provenance
