"""``sftopt finetune`` as a user sees it: tables, files, exit codes and --resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import ViTConfig

from sftopt.core.calibration import Speeds, apply
from sftopt.core.channel_models import ChannelModel, SimulatedChannel
from sftopt.core.instance import Instance
from sftopt.core.workload import workload_from_config
from sftopt.studies.traces import write_trace
from tests.calibration_samples import sample_calibration
from tests.face.command_line import Run
from tests.training.run.small_run import small_instance, small_plan
from tests.training.run.test_run_plan import repeatable, rows_of

pytestmark = pytest.mark.train

LABELS = 30


def model_config() -> dict[str, Any]:
    """A tiny model for the scenes of digits."""
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=24,
        image_size=20, patch_size=5, num_channels=1, num_labels=LABELS,
        architectures=["ViTForImageClassification"],
    )  # fmt: skip
    return dict(config.to_dict())


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A run of four rounds without model and data of its own, in files."""
    config = model_config()
    work = workload_from_config(config, lora_rank=3, labels=LABELS)
    data = small_instance().to_dict()
    instance = Instance.model_validate({**data, "workload": work.model_dump()})
    (tmp_path / "model.json").write_text(json.dumps(config))
    (tmp_path / "instance.json").write_text(json.dumps(instance.to_dict()))
    small_plan(instance).save(tmp_path / "plan.json")
    return [
        "finetune", str(tmp_path / "plan.json"), "--instance", str(tmp_path / "instance.json"),
        "--model", str(tmp_path / "model.json"), "--data", "digit-scenes", "--rounds", "4",
        "--evaluation-limit", "64", "--quiet",
    ]  # fmt: skip


def test_a_run_shows_writes_and_draws(run: Run, words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = run(*words[:-1], "--out", out, "--drop", "b/c@2")  # with progress
    assert ran.code == 0, ran.err
    words_shown = " ".join(ran.out.split())
    for text in ("rounds 4 of 3 steps", "absent b/c in round 2", "sent up", "predicted against",
                 "uplink, bytes/step", "peak memory, bytes"):  # fmt: skip
        assert text in words_shown, text
    assert max(len(line) for line in ran.out.splitlines()) <= 80
    assert "rounds 4/4" in ran.err
    assert "loss " in ran.err
    assert "Warning" not in ran.err
    for name in ("curves.png", "curves.pdf", "bytes.png", "bytes.pdf"):
        assert (out / name).stat().st_size > 1000
    page = (out / "finetune.html").read_text()
    assert "loss, a" in page
    assert "virtual time in s" in page
    assert "https://cdn" not in page.split("</script>")[0][:200]
    ran = run(*words, "--out", out, "--drop", "b/c@2", "--resume", "--no-plots", "--json")
    assert ran.data["command"] == "finetune"
    assert ran.data["final_metric"] == rows_of(out)[-1]["metric"]
    assert ran.data["rounds"] == 4


def test_a_fixed_set_is_visited_so_many_times(run: Run, words: list[str], tmp_path: Path) -> None:
    at = words.index("--rounds")
    rest = [*words[:at], *words[at + 2 :], "--no-plots", "--json"]
    ran = run(*rest, "--epochs", "2", "--samples", "16", "--out", tmp_path / "out")
    assert "batches of 4 and 8: an epoch is not one number of steps" in ran.data["error"]["message"]
    data = json.loads((tmp_path / "instance.json").read_text())
    for device in data["devices"]:
        device["batch"] = 4
    instance = Instance.model_validate(data)
    (tmp_path / "instance.json").write_text(json.dumps(instance.to_dict()))
    small_plan(instance).save(tmp_path / "plan.json")
    ran = run(*rest, "--epochs", "2", "--out", tmp_path / "out")
    assert "of how many samples" in ran.data["error"]["message"]
    fixed = (*rest, "--epochs", "2", "--samples", "16", "--out", tmp_path / "out")
    ran = run(*fixed)
    assert ran.code == 0, ran.err
    assert ran.data["rounds"] == 3, "2 x 16 samples are 8 batches of 4, in rounds of 3 steps"
    assert ran.data["task"] == "digit-scenes, 16 samples revisited"
    fresh = run(*rest, "--rounds", "3", "--out", tmp_path / "fresh")
    assert fresh.data["task_fingerprint"] != ran.data["task_fingerprint"]
    other = ("24" if word == "16" else word for word in fixed)
    assert run(*other, "--resume").code == 2, "another set is another run"


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"--instance": "jetson-vit-b"}, 5, "made for another instance"),
        ({"--data": "cifar100:/nowhere"}, 2, "/nowhere"),
        ({"--data": "digit-scene"}, 2, "Did you mean 'digit-scenes'?"),
        ({"--model": "/nowhere"}, 2, "does not exist"),
        ({"--trace": "/nowhere.csv"}, 2, "does not exist"),
        ({"--drop": "b/c"}, 2, "DEVICE@ROUND"),
        ({"--drop": "zz@1"}, 2, "unknown device"),
        ({"--codec": "zip"}, 2, "unknown codec 'zip'"),
        ({"--learning-rate": "-1"}, 2, "above 0"),
        ({"--learning-rate": "1e30"}, 4, "round 1: "),
        ({"--speeds": "measured"}, 2, "needs --calibration"),
        ({"--calibration": "/nowhere.json"}, 2, "does not exist"),
        ({"--samples": "10"}, 2, "must be a whole number of batches"),
        ({"--epochs": "2"}, 2, "2 epochs and 4 rounds: give one of the two"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    change: dict[str, str], code: int, text: str, run: Run, words: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name, value in change.items():
        if name in words:
            words[words.index(name) + 1] = value
        else:
            words += [name, value]
    ran = run(*words, "--out", out, "--json")
    assert ran.code == code, ran.err
    assert text in ran.data["error"]["message"]
    assert "Traceback" not in ran.err
    assert out.exists() == (code == 4), "nothing half-written"
    assert not (out / "summary.json").exists()


def test_a_cut_beyond_the_model_is_told(run: Run, words: list[str], tmp_path: Path) -> None:
    """The plan fits its instance of twelve blocks; the model has four."""
    deep = small_instance(blocks=12)
    (tmp_path / "instance.json").write_text(json.dumps(deep.to_dict()))
    small_plan(deep, (2, 9)).save(tmp_path / "plan.json")
    ran = run(*words, "--out", tmp_path / "out")
    assert ran.code == 2
    assert "device b/c: 9 blocks, but a device holds at most L-1 = 3" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_calibrated_plan_over_a_trace(run: Run, words: list[str], tmp_path: Path) -> None:
    """The instance is calibrated as for the plan, or is the plan's already; the trace rules."""
    path = tmp_path / "instance.json"
    plain = Instance.model_validate(json.loads(path.read_text()))
    work = plain.workload.model_copy(update={"lora_rank": 2})
    calibration = sample_calibration(
        workload=work.model_dump(),
        accuracy={"settings": {"learning_rate": 0.003, "lora_rank": 2, "lora_alpha": 6.0}},
    )
    calibration.save(tmp_path / "calibration.json")
    given = apply(plain, calibration, speeds=Speeds.MEASURED, minimum=-5.0)
    small_plan(given).save(tmp_path / "plan.json")
    write_trace(tmp_path / "gains.csv", given, SimulatedChannel(ChannelModel(), 3), 4, 4)
    words += ["--calibration", str(tmp_path / "calibration.json"), "--no-plots", "--json",
              "--trace", str(tmp_path / "gains.csv")]  # fmt: skip
    ran = run(*words, "--out", tmp_path / "out")
    assert ran.code == 5, "calibrated in another way it is another instance"
    words += ["--speeds", "measured", "--accuracy-minimum", "-5"]
    data = run(*words, "--out", tmp_path / "out").data
    assert data["reference_flops_per_s"] == calibration.profile.speed_flops_per_s
    assert data["calibration_hash"] == calibration.hash
    assert data["channel"].startswith("gains.csv ")
    split = data["split"]
    assert split["optimizer"]["learning_rate"] == 0.003
    assert (split["lora"]["rank"], split["lora"]["alpha"]) == (2, 6.0)
    times = {row["delay"]["planned"]["devices"]["a"]["s2_s"] for row in rows_of(tmp_path / "out")}
    assert len(times) > 1, "every round has its own rates (some at the cap)"
    assert not any("no calibration" in text for text in data["notices"])

    path.write_text(json.dumps(given.to_dict()))
    again = run(*words, "--out", tmp_path / "again")
    assert again.code == 0, again.err
    assert repeatable(rows_of(tmp_path / "again")) == repeatable(rows_of(tmp_path / "out"))


LIMITED = """
import resource, sys
import torch, transformers, peft
from sftopt.face.cli import main
import sftopt.training.run, sftopt.training.data
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
sys.exit(main(sys.argv[1:]))
"""


def test_memory_that_does_not_suffice_is_told(words: list[str], tmp_path: Path) -> None:
    """A batch that a process of limited address space cannot hold."""
    path = tmp_path / "instance.json"
    data = json.loads(path.read_text())
    data["devices"][0]["batch"] = 40_000
    data["devices"][0]["memory_bytes"] = 1e13
    data["server"]["memory_bytes"] = 1e13
    instance = Instance.model_validate(data)
    path.write_text(json.dumps(instance.to_dict()))
    small_plan(instance).save(tmp_path / "plan.json")
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, *words, "--out", str(tmp_path / "out"), "--no-plots"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert ran.returncode == 4, ran.stderr
    assert "out of memory. Take smaller batches" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists(), "nothing half-written"
