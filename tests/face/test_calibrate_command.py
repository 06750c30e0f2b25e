"""``sftopt calibrate`` and the commands that take its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sftopt.training.calibrate import workers
from sftopt.training.data import TaskKind, TrainingDefaults
from tests.calibration_samples import sample_calibration
from tests.face.command_line import Run, Write, small_data
from tests.training.fake_task import FakeTask
from tests.training.split.tiny_models import tiny_model

GRID = ("--keep", "0.1,0.3", "--bits", "2,8", "--seeds", "1", "--rounds", "1", "--local-steps", "1",
        "--evaluation-limit", "20", "--workers", "1")  # fmt: skip


@pytest.fixture
def offered(write: Write) -> Path:
    """An instance that offers what the sample calibration has, and 6 bits, which it has not."""
    data = small_data()
    data["compression"] = {"modes": [{"bits": 4}, {"bits": 6}]}
    return write("offered.json", data)


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.json"
    sample_calibration().save(path)
    return path


def test_plan_verify_check_and_show_agree_on_the_applied_instance(
    run: Run, offered: Path, calibration: Path, tmp_path: Path
) -> None:
    plan, shown = tmp_path / "plan.json", tmp_path / "applied.json"
    with_it = ("--calibration", calibration)
    planned = run("plan", offered, *with_it, "--solver", "constructive", "--out", plan, "--json",
                  "--quiet")  # fmt: skip
    assert planned.code == 0, planned.err
    assert "mode topk6 is left out" in planned.err
    assert "keep_max becomes 0.5" in planned.err
    modes = {device["bits"] for device in planned.data["plan"]["devices"]}
    keeps = [device["keep_fraction"] for device in planned.data["plan"]["devices"]]
    assert modes == {4}
    assert all(0.1 <= keep <= 0.5 for keep in keeps)
    assert planned.data["breakdown"]["accuracy"] >= 0.78 - 1e-6  # 0.02 below a_0, as before

    verified = run("verify", offered, plan, *with_it, "--json")
    assert verified.code == 0
    assert verified.data["objective_s"] == pytest.approx(planned.data["objective_s"])
    assert run("verify", offered, plan, "--json").code == 5  # without it: another instance

    wrote = run("instance", "show", offered, *with_it, "--out", shown, "--json")
    assert wrote.data["instance_hash"] == planned.data["instance_hash"]
    assert run("verify", shown, plan, "--json").data["hash_matches"] is True
    checked = run("check", offered, *with_it, "--json")
    assert checked.data["instance_hash"] == planned.data["instance_hash"]
    assert run("check", shown, "--json").data["faults"] == checked.data["faults"]


def test_options_choose_curve_speeds_limit_and_extrapolation(
    run: Run, offered: Path, calibration: Path
) -> None:
    def applied(*words: str) -> dict[str, Any]:
        ran = run("instance", "show", offered, "--calibration", calibration, *words, "--json")
        assert ran.code == 0, ran.err
        made: dict[str, Any] = ran.data["instance"]
        return made

    assert applied()["accuracy"]["keep_loss"] == 0.25
    assert applied("--accuracy-curve", "fit")["accuracy"]["keep_loss"] == 0.2
    assert applied("--accuracy-minimum", "0.7")["accuracy"]["minimum"] == 0.7
    assert applied()["devices"][0]["compute_flops_per_s"] == 1e12
    assert applied("--speeds", "measured")["devices"][0]["compute_flops_per_s"] < 1e11
    assert len(applied("--extrapolate")["compression"]["modes"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--speeds", "measured"), "--speeds needs --calibration FILE"),
        (("--extrapolate",), "--extrapolate needs --calibration FILE"),
        (("--calibration", "missing.json"), "calibration file 'missing.json' does not exist"),
        (("--calibration", "CALIBRATION", "--speeds", "mesured"), "Did you mean 'measured'?"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "check"])
def test_misuse_is_bad_input(
    run: Run, offered: Path, calibration: Path, command: str, words: tuple[str, ...], message: str
) -> None:
    typed = [str(calibration) if word == "CALIBRATION" else word for word in words]
    ran = run(command, offered, *typed, "--json")
    assert ran.code == 2
    assert message in ran.data["error"]["message"]


def test_an_instance_without_a_calibrated_mode_is_refused(
    run: Run, write: Write, calibration: Path
) -> None:
    data = small_data()
    data["compression"] = {"modes": [{"bits": 3}, {"kind": "dense", "bits": 8}]}
    ran = run("plan", write("other.json", data), "--calibration", calibration, "--json")
    assert ran.code == 2
    assert "topk2, topk4, topk8" in ran.data["error"]["message"]
    assert {fault["value"] for fault in ran.data["error"]["faults"]} == {"topk3", "dense8"}


def test_schema(run: Run) -> None:
    ran = run("schema", "calibration")
    assert ran.code == 0
    schema = json.loads(ran.out)
    assert {"workload", "profile", "codec", "accuracy"} <= set(schema["properties"])


@dataclass(frozen=True)
class _Task(FakeTask):
    """The fake task with what the command asks of a real one."""

    kind: TaskKind = TaskKind.IMAGE_CLASSIFICATION
    training: TrainingDefaults = field(
        default_factory=lambda: TrainingDefaults(batch=4, steps=1, cut=1, lora_rank=3)
    )

    def held_out(self, part: str) -> int:
        return 60


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A configuration file for ``--model``; ``--data fake`` is the fake task."""

    def load(spec: str, **_: object) -> _Task:
        assert spec == "fake"
        return _Task()

    monkeypatch.setattr(workers, "load_task", load)
    monkeypatch.setattr("sftopt.training.data.load_task", load)
    tiny_model("vit").config.save_pretrained(tmp_path)
    return tmp_path / "config.json"


def test_calibrate_writes_a_file_that_plans(
    run: Run, write: Write, model: Path, tmp_path: Path
) -> None:
    out, plots = tmp_path / "out" / "c.json", tmp_path / "plots"
    words = ("--data", "fake", "--model", model, "--out", out, *GRID)
    ran = run("calibrate", *words, "--plots", plots, "--json")
    assert ran.code == 0, ran.err
    assert ran.data["accuracy"]["runs"] == 5
    assert ran.data["held_out_error_rel"]["uplink"] < 0.5  # payloads of a few hundred bytes
    assert "fine-tunings 5/5" in ran.err
    assert {path.name for path in plots.iterdir()} == {
        "calibration.png", "calibration.pdf", "calibration.html"
    }  # fmt: skip
    page = (plots / "calibration.html").read_text(encoding="utf-8")
    assert page.count("plotly.js v") == 1  # the library is inside: works from disk
    assert "2 bits" in page

    data = small_data()
    data["compression"] = {"modes": [{"bits": 2}, {"bits": 8}]}
    data["accuracy"]["minimum"] = -10.0  # a band from four cells is wide
    planned = run("plan", write("i.json", data), "--calibration", out, "--solver", "constructive",
                  "--quiet", "--json")  # fmt: skip
    assert planned.code == 0, planned.err

    before = json.loads(out.read_text(encoding="utf-8"))
    shown = run("calibrate", *words, "--resume")
    assert shown.code == 0, shown.err
    assert "exp(-" in shown.out
    after = json.loads(out.read_text(encoding="utf-8"))
    before["source"].pop("command")
    after["source"].pop("command")
    assert after == before


def test_without_fine_tunings(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    ran = run("calibrate", "--data", "fake", "--model", model, "--out", out, "--no-fine-tunings",
              "--quiet", "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.data["accuracy"] is None
    assert json.loads(out.read_text(encoding="utf-8"))["accuracy"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--resume",), "nothing to go on from"),
        (("--resume", "--fresh"), "contradict"),
        (("--keep", "0.1;0.2"), "numbers with commas"),
        (("--keep", "0.1,1.5"), "1.5 is no fraction"),
        (("--bits", "16"), "the codec has 2 to 8"),
        (("--cuts", "9"), "at most 3"),
        (("--codec-option", "grup=3"), "grup"),
        (("--codec-option", "keep=0.3"), "give --keep"),
        (("--codec-option", "rate"), "--codec-option 'rate': give it as NAME=VALUE"),
        (("--keep", "0.1,0.1,0.1", "--bits", "2,4"), "at least 4 cells (keep, bits); there are 2"),
        (("--evaluation-limit", "0"), "--evaluation-limit"),
        (("--device", "tpu9"), "--device 'tpu9' is none"),
        (("--device", "cuda:999"), "--device cuda:999: torch"),
        (("--work", "/proc/nowhere"), "cannot write '/proc/nowhere"),
    ],
)
def test_bad_requests_are_refused_before_any_work(
    run: Run, model: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "new" / "c.json"
    ran = run("calibrate", "--data", "fake", "--model", model, "--out", out, *words, "--json")
    assert ran.code == 2
    assert message in ran.data["error"]["message"]
    assert not out.exists()
    assert not (tmp_path / "new" / "c.json.work").exists()


def test_an_interrupt_says_where_the_finished_runs_are(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sftopt.training.calibrate.calibrate", interrupted)
    ran = run(
        "calibrate", "--data", "fake", "--model", model, "--out", tmp_path / "c.json", "--json"
    )
    assert ran.code == 130
    assert f"kept in '{tmp_path / 'c.json.work'}', --resume goes on" in ran.data["error"]["message"]
    assert not (tmp_path / "c.json").exists()
