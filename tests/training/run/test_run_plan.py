"""A plan in real split fine-tuning: what it writes, how it resumes, what it refuses."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.errors import InputError, UnknownNameError, VerificationError
from sftopt.core.instance import ModeKind
from sftopt.core.rows import RowFile
from sftopt.training.loop import evaluate
from sftopt.training.run import CodecOverride, PlanRun, RunSummary, run_plan
from sftopt.training.run.drive import split_of
from sftopt.training.schedule import Schedule
from sftopt.training.split import DivergedError, OptimizerSettings, load_base_model
from tests.training.fake_task import FakeTask
from tests.training.run.small_run import small_instance, small_plan, small_run

pytestmark = pytest.mark.train

MEASURED = ("cpu_s", "wall_s", "delay", "time_s", "time_unscaled_s", "reference_flops_per_s")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def repeatable(rows: Any) -> list[dict[str, Any]]:
    """Without what is measured in seconds."""
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]


def adapters_of(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.parent.name}/{name}": value
        for path in sorted((folder / "adapters").rglob("*.safetensors"))
        for name, value in load_file(path).items()
    }


def same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlanRun, RunSummary, Path]:
    """One uninterrupted run, with a device that misses round 2."""
    folder = tmp_path_factory.mktemp("finished")
    run = small_run(folder, drops={2: ("a",)})
    return run, run_plan(run, folder / "out"), folder / "out"


def test_what_a_run_leaves_behind(finished: tuple[PlanRun, RunSummary, Path]) -> None:
    _, summary, out = finished
    rows = rows_of(out)
    assert json.loads((out / "summary.json").read_text()) == summary.data
    assert list(summary.rows) == rows
    assert [row["round"] for row in rows] == [1, 2, 3]
    assert rows[1]["participants"] == ["b/c"]
    assert set(rows[1]["delay"]["planned"]["devices"]) == {"b/c"}
    assert summary.data["absent"] == {"2": ["a"]}
    assert summary.data["final_metric"] == rows[-1]["metric"]
    times = [row["time_s"] for row in rows]
    assert times == pytest.approx(np.cumsum([r["delay"]["planned"]["round_s"] for r in rows]))
    sent = summary.data["bytes"]
    assert sent["uplink"] == sum(row["bytes"]["uplink_boundary"] for row in rows)
    # 3 steps of 8 and 4 samples, in round 2 of 4; 10 tokens of 16 elements of 4 bytes
    assert sent["raw_each_way"] == 3 * (12 + 4 + 12) * 10 * 16 * 4
    # labels go up beside the boundary, compressed or not; every message is in the total
    assert sent["side"] == sum(row["bytes"]["uplink_side"] for row in rows) > 0
    assert summary.data["compression"]["uplink"]["cut_by"] == pytest.approx(
        1.0 - (sent["uplink"] + sent["side"]) / (sent["raw_each_way"] + sent["side"])
    )
    assert sent["total"] == sum(sum(row["bytes"].values()) for row in rows)


def test_the_adapters_are_standard_peft_folders(
    finished: tuple[PlanRun, RunSummary, Path],
) -> None:
    run, _, out = finished
    plain = PeftModel.from_pretrained(load_base_model(run.model, seed=run.seed),
                                      out / "adapters" / "server")  # fmt: skip
    # with nothing lost at the cut, the split is the plain model
    split = split_of(replace(run, codec=CodecOverride.parse("none")))
    split.load_adapters(out / "adapters")
    expected = evaluate(split, run.task, limit=40).by_device["b/c"]
    plain.train(False)
    right = total = 0
    for batch in run.task.evaluation(40, limit=40):
        with torch.no_grad():
            logits = plain(pixel_values=batch["pixel_values"]).logits
        right += int((logits.argmax(-1) == batch["labels"]).sum())
        total += len(batch["labels"])
    assert right / total == expected
    assert (out / "adapters" / "devices" / "001" / "adapter_config.json").is_file()


def test_predictions_stand_beside_measurements(
    finished: tuple[PlanRun, RunSummary, Path],
) -> None:
    _, summary, out = finished
    found = {(row.quantity, row.device): row for row in summary.compared}
    rows = rows_of(out)
    up = found["uplink", "b/c"]
    assert up.measured == pytest.approx(
        sum(row["byte_counts"]["b/c"]["uplink_boundary_bytes"] for row in rows) / 9
    )
    # E = 160 elements, batch 4: rho q + H2(rho) and scales, equation (1)
    beta = 0.25 * 4 + 0.811278 + 16 / 768
    assert up.predicted == pytest.approx(4 * 160 * beta / 8, rel=1e-5)
    assert up.error_rel == pytest.approx(up.predicted / up.measured - 1.0)
    assert up.met == (abs(up.error_rel) <= 0.03)
    total = found["uplink", "all"]
    assert total.measured == pytest.approx(up.measured + found["uplink", "a"].measured)
    # device a got its adapters once more when it came back: not in its mean
    downs = [row["byte_counts"]["a"].get("downlink_adapters_bytes", 0) for row in rows]
    assert downs[1:] == [0, 2 * downs[0]]
    assert found["adapters down", "a"].measured == downs[0]
    assert found["adapters down", "a"].predicted == 3 * 64 * 4
    assert found["step", "all"].predicted == pytest.approx(
        sum(found[f"step: {part}", "all"].predicted
            for part in ("device forward, uplink", "server", "downlink, device backward"))
    )  # fmt: skip
    assert found["block weights", "b/c"].error_rel == 0.0
    assert found["accuracy", "all"].measured == summary.data["final_metric"]


@pytest.mark.parametrize("stopped_after", [1, 2])
def test_interrupted_and_resumed_is_the_same_as_uninterrupted(
    stopped_after: int, finished: tuple[PlanRun, RunSummary, Path], tmp_path: Path
) -> None:
    """Stopped after a row was written and before its checkpoint: the row is run again."""

    def stop(row: dict[str, Any]) -> None:
        if row["round"] == stopped_after:
            raise KeyboardInterrupt

    run, whole, folder = finished
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_plan(run, out, on_round=stop)
    assert len(rows_of(out)) == stopped_after
    assert not (out / "summary.json").exists()
    with pytest.raises(InputError, match="--resume"):
        run_plan(run, out)
    again = run_plan(run, out, resume=True)
    assert repeatable(again.rows) == repeatable(whole.rows)
    assert same_tensors(adapters_of(out), adapters_of(folder))
    speeds = {row["reference_flops_per_s"] for row in again.rows}
    assert len(speeds) == 1, "one clock for the whole run"
    more = run_plan(replace(run, rounds=4), out, resume=True)
    assert repeatable(more.rows)[:3] == repeatable(whole.rows)
    with pytest.raises(InputError, match="other settings"):
        run_plan(replace(run, seed=9, rounds=4), out, resume=True)


def started(run: PlanRun, out: Path, rounds: int) -> None:
    """A run that was stopped after the checkpoint of round ``rounds``."""

    def stop(row: dict[str, Any]) -> None:
        if row["round"] == rounds + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(run, out, on_round=stop)


def test_a_damaged_checkpoint_costs_one_round(
    finished: tuple[PlanRun, RunSummary, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, whole, folder = finished
    out = tmp_path / "out"
    started(run, out, rounds=2)
    weights = out / "checkpoint" / "server" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-9] ^= 4
    weights.write_bytes(content)
    again = run_plan(run, out, resume=True)
    assert str(weights) in caplog.text
    assert repeatable(again.rows) == repeatable(whole.rows)
    assert same_tensors(adapters_of(out), adapters_of(folder))


@pytest.mark.parametrize(
    ("edit", "message"),
    [(lambda lines: [lines[0], "nonsense", *lines[2:]], "line 2 cannot be read"),
     (lambda lines: [lines[0]], "round 2 was missing"),
     (lambda lines: [lines[0], lines[1].replace('"round":2', '"round":7')], "round 2 was missing"),
     (lambda lines: [lines[0], lines[1].replace('"loss":', '"loss":1')], "not as in the check"),
     (lambda lines: [], "round 1, 2 was missing")],
)  # fmt: skip
def test_rows_that_were_damaged_are_put_back_from_the_checkpoint(
    edit: Any, message: str, finished: tuple[PlanRun, RunSummary, Path], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    run, whole, _ = finished
    out = tmp_path / "out"
    started(run, out, rounds=2)
    before = (out / "rows.jsonl").read_text().splitlines()[:2]
    (out / "rows.jsonl").write_text("".join(f"{line}\n" for line in edit(before)))
    again = run_plan(run, out, resume=True)
    assert message in caplog.text
    assert (out / "rows.jsonl").read_text().splitlines()[:2] == before
    assert repeatable(again.rows) == repeatable(whole.rows)


def test_doubled_rounds_are_refused(
    finished: tuple[PlanRun, RunSummary, Path], tmp_path: Path
) -> None:
    run, _, _ = finished
    out = tmp_path / "out"
    started(run, out, rounds=2)
    lines = (out / "rows.jsonl").read_text().splitlines()
    (out / "rows.jsonl").write_text("".join(f"{line}\n" for line in (lines[0], lines[0])))
    with pytest.raises(InputError, match="round 1 2 times"):
        run_plan(run, out, resume=True)


def test_other_weights_in_the_same_folder_are_not_gone_on_with(tmp_path: Path) -> None:
    run = small_run(tmp_path, rounds=2)
    base = load_base_model(run.model, seed=1)
    base.save_pretrained(tmp_path / "model")
    run = replace(run, model=str(tmp_path / "model"))
    run_plan(run, tmp_path / "out")
    load_base_model(small_run(tmp_path).model, seed=2).save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match=r"other settings \(model_hash\)"):
        run_plan(replace(run, rounds=3), tmp_path / "out", resume=True)


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Within: writes beyond fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size_bytes", [600, 4000, 8000, 12_000])
def test_a_full_disk_loses_nothing_and_says_how_to_go_on(
    size_bytes: int, finished: tuple[PlanRun, RunSummary, Path], tmp_path: Path
) -> None:
    """Rows, adapters, optimisers and the state of a checkpoint fail to be written, by size."""
    run, whole, folder = finished
    out = tmp_path / "out"
    with files_of_at_most(size_bytes), pytest.raises(InputError, match=r"cannot write.*out"):
        run_plan(run, out)
    again = run_plan(run, out, resume=True)
    assert repeatable(again.rows) == repeatable(whole.rows)
    assert same_tensors(adapters_of(out), adapters_of(folder))


def test_a_second_run_in_the_folder_is_refused_before_it_reads_the_checkpoint(
    tmp_path: Path,
) -> None:
    run = small_run(tmp_path, rounds=2)
    refused = []

    def second(row: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="being written by another run"):
            run_plan(run, tmp_path / "out", resume=True)
        refused.append(row["round"])

    run_plan(run, tmp_path / "out", on_round=second)
    assert refused == [1, 2]


class LargeImages(FakeTask):
    """Images of another size than the model takes."""

    def draw(self, batch: int, *seed: int) -> dict[str, torch.Tensor]:
        given = super().draw(batch, *seed)
        return {**given, "pixel_values": torch.zeros(batch, 1, 20, 20)}


def test_nothing_is_written_for_a_run_that_cannot_be(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = small_run(tmp_path)
    foreign = small_plan(small_instance(blocks=5))
    with pytest.raises(VerificationError, match="made for another instance"):
        run_plan(replace(run, plan=foreign), out)
    greedy = small_plan(run.instance, uplink_share=0.9)
    with pytest.raises(VerificationError, match=r"refutes this plan.*\n.*uplink_share all"):
        run_plan(replace(run, plan=greedy), out)
    deep = small_instance(blocks=12)
    with pytest.raises(
        InputError, match="device b/c: 9 blocks, but a device holds at most L-1 = 3"
    ):
        run_plan(replace(run, instance=deep, plan=small_plan(deep, (1, 9))), out)
    with pytest.raises(InputError, match=r"model folder .*nowhere' does not exist"):
        run_plan(replace(run, model=str(tmp_path / "nowhere"), local_files_only=True), out)
    with pytest.raises(InputError, match=r"has \['input_ids', 'labels'\]; this model needs"):
        run_plan(replace(run, task=small_run(tmp_path, "gpt2").task), out)
    with pytest.raises(
        InputError, match=r"data of 'fake' \(.* \(8, 1, 20, 20\).*does not fit model"
    ):
        run_plan(replace(run, task=LargeImages()), out)
    with pytest.raises(UnknownNameError, match="device to drop in round 1 'z'"):
        run_plan(replace(run, drops={1: ("z",)}), out)
    with pytest.raises(InputError, match="round 9 to drop in"):
        run_plan(replace(run, drops={9: ("a",)}), out)
    with pytest.raises(InputError, match="no device takes part"):
        run_plan(replace(run, drops={1: ("a", "b/c")}), out)
    with pytest.raises(InputError, match="channel has 1 rounds; 3 are asked"):
        run_plan(replace(run, channels=(statistical_channel(run.instance),)), out)
    assert not out.exists()


def test_resumed_in_the_folder_of_other_work_its_rows_stay(tmp_path: Path) -> None:
    """Rows of a simulation, say, have no checkpoint beside them: they are not this run's to cut."""
    out = tmp_path / "out"
    with RowFile(out, {"command": "simulate"}, resume=False) as file:
        file.append({"round": 0})
    before = (out / "rows.jsonl").read_bytes()
    with pytest.raises(InputError, match="other settings"):
        run_plan(small_run(tmp_path), out, resume=True)
    assert (out / "rows.jsonl").read_bytes() == before


def test_more_rounds_of_a_decaying_rate_are_refused_with_the_reason(tmp_path: Path) -> None:
    run = small_run(tmp_path, rounds=2, schedule=Schedule.LINEAR)
    run_plan(run, tmp_path / "out")
    with pytest.raises(InputError, match="'linear over 2 rounds', not 'linear over 3 rounds'"):
        run_plan(replace(run, rounds=3), tmp_path / "out", resume=True)


def test_a_diverged_run_says_so_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    run = small_run(tmp_path, optimizer=OptimizerSettings(learning_rate=1e30))
    with pytest.raises(DivergedError, match=r"round 1: .*Lower the learning rate"):
        run_plan(run, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()
    assert not (tmp_path / "out" / "adapters").exists()


def test_a_trace_sets_the_rates_and_an_outage_is_sat_out(tmp_path: Path) -> None:
    run = small_run(tmp_path, rounds=2)
    plain = statistical_channel(run.instance)
    up = plain.uplink_gain.copy()
    up[0] = 0.0
    blocked = RoundChannel(up, plain.downlink_gain)
    weak = RoundChannel(plain.uplink_gain * 1e-3, plain.downlink_gain)
    found = run_plan(replace(run, channels=(blocked, weak)), tmp_path / "out")
    assert found.data["absent"] == {"1": ["a"]}
    nominal = run_plan(replace(run, drops={1: ("a",)}), tmp_path / "nominal")
    one, other = (each.rows[1]["delay"]["planned"]["devices"]["b/c"] for each in (found, nominal))
    assert one["s2_s"] > 1.2 * other["s2_s"]
    assert one["s4_s"] == other["s4_s"]
    assert found.rows[1]["losses"] == nominal.rows[1]["losses"], "the channel carries all bytes"


def test_modes_and_codecs_are_the_plans_or_as_asked(tmp_path: Path) -> None:
    run = small_run(tmp_path, rounds=1)
    plan = small_plan(run.instance, mode=ModeKind.NONE, bits=32, keep_fraction=1.0)
    none = run_plan(replace(run, plan=plan), tmp_path / "none")
    override = CodecOverride.parse("none")
    asked = run_plan(replace(run, codec=override), tmp_path / "asked")
    assert none.rows[0]["losses"] == asked.rows[0]["losses"]
    assert none.data["compression"]["uplink"]["ratio"] == pytest.approx(1.0, rel=0.1)
    assert any("runs in place of the planned modes" in text for text in asked.data["notices"])
    half = run_plan(
        replace(run, codec=CodecOverride.parse("none:precision=float16")), tmp_path / "half"
    )
    assert half.data["compression"]["uplink"]["ratio"] == pytest.approx(2.0, rel=0.1)


def test_another_number_of_classes_gets_a_fresh_head(tmp_path: Path) -> None:
    run = small_run(tmp_path, rounds=1, labels=7)
    split = split_of(run)
    assert split.server.model.config.num_labels == 7
    batch = next(run.task.train_batches(0, 2, 4, 0))
    assert split.evaluate("a", {**batch, "labels": torch.full((4,), 6)}).logits.shape == (4, 7)
    again = split_of(run)
    assert all(
        torch.equal(one, other)
        for one, other in zip(split.server.model.parameters(), again.server.model.parameters(),
                              strict=True)
    )  # fmt: skip
    with pytest.raises(InputError, match="GPT2LMHeadModel has no head for them"):
        split_of(small_run(tmp_path, "gpt2", labels=7))
