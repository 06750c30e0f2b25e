"""What a run tells while it goes, and what devices are sent once before it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.bases import measure_bases, write_bases
from sftopt.training.run import Callback, CodecOverride, CsvLog, logs_of, run_plan
from sftopt.training.split import load_base_model
from tests.training.run.small_run import small_run

pytestmark = pytest.mark.train


class Heard(Callback):
    """Notes what it hears; stops after a round if asked."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.told: list[Any] = []
        self.stop_after = stop_after

    def on_run_begin(self, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        self.told.append(("begin", settings["command"], len(rows)))

    def on_step_end(self, round_number: int, losses: Mapping[str, float]) -> None:
        self.told.append(("step", round_number, sorted(losses)))

    def on_round_end(self, row: Mapping[str, Any]) -> None:
        self.told.append(("round", row["round"]))
        if row["round"] == self.stop_after:
            raise KeyboardInterrupt

    def on_run_end(self, summary: Mapping[str, Any]) -> None:
        self.told.append(("end", summary["rounds"]))


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_callbacks_hear_in_order_and_logs_are_whole_after_a_stop(tmp_path: Path) -> None:
    run, out = small_run(tmp_path, rounds=2), tmp_path / "out"
    heard = Heard(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        run_plan(run, out, callbacks=[CsvLog(out), heard])
    step = [("step", 1, ["a", "b/c"])] * 3
    assert heard.told[:5] == [("begin", "finetune", 0), *step, ("round", 1)]
    (out / "steps.csv").write_text((out / "steps.csv").read_text() + "2,3,a")  # cut off by a kill
    heard = Heard()
    summary = run_plan(run, out, resume=True, callbacks=[*logs_of("csv", out), heard])
    assert heard.told[0] == ("begin", "finetune", 1), "round 2 had no checkpoint yet"
    assert heard.told[-2:] == [("round", 2), ("end", 2)]
    rounds, steps = lines(out / "rounds.csv"), lines(out / "steps.csv")
    assert [row["round"] for row in rounds] == ["1", "2"]
    assert [float(row["loss"]) for row in rounds] == [row["loss"] for row in summary.rows]
    assert int(rounds[1]["uplink_side_bytes"]) == summary.rows[1]["bytes"]["uplink_side"]
    assert len(steps) == 2 * 3 * 2
    assert {row["device"] for row in steps} == {"a", "b/c"}
    assert float(steps[0]["loss"]) == summary.rows[0]["step_losses"]["a"][0]
    with pytest.raises(UnknownNameError, match="log 'cvs'"):
        logs_of("cvs", out)


def test_tensorboard_gets_every_step_or_is_asked_for(tmp_path: Path) -> None:
    row = {"round": 1, "loss": 1.5, "metric": None, "bytes": {"uplink_side": 7}, "time_s": 1.0,
           "delay": {"planned": {"round_s": 2.0}}, "step_losses": {"a": [2.0, 1.0]}}  # fmt: skip
    if find_spec("tensorboard") is None:
        with pytest.raises(InputError, match=r"pip install 'sftopt\[logs\]'"):
            logs_of("tensorboard", tmp_path)
        return
    (log,) = logs_of("tensorboard", tmp_path)
    log.on_run_begin({}, [])
    log.on_round_end(row)
    log.on_run_end({})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/a")] == [(1, 2.0), (2, 1.0)]
    assert [e.value for e in events.Scalars("delay/round_s")] == [2.0]


def test_bases_are_sent_once_and_told_apart(tmp_path: Path) -> None:
    run = small_run(tmp_path, rounds=1)
    base = load_base_model(run.model, seed=run.seed)
    file = tmp_path / "bases.safetensors"
    write_bases(file, measure_bases(base, run.task.train_batches(0, 1, 16, 0), 2))
    turned = replace(run, codec=CodecOverride.parse(f"rotated:bits=3,bases={file}"))
    data = run_plan(turned, tmp_path / "turned").data
    matrices = 2 * 4 * 16 * 16  # of the device's cut: one for each direction
    assert set(data["setup_bytes"]) == {"a", "b/c"}
    for sent in data["setup_bytes"].values():
        assert 0 < sent - matrices < 250
    once = sum(data["setup_bytes"].values())
    sent, less = data["bytes"], data["compression"]
    assert sent["setup"] == once
    assert sent["total"] == once + sum(sent[k] for k in ("uplink", "side", "downlink", "adapters"))
    assert less["downlink"]["cut_by"] == 1.0 - sent["downlink"] / sent["raw_each_way"]
    assert less["amortised"]["downlink"]["cut_by"] == pytest.approx(
        1.0 - (sent["downlink"] + once) / sent["raw_each_way"]
    )
    assert less["amortised"]["total"]["ratio"] < less["total"]["ratio"]
