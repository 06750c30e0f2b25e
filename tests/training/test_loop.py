"""Rounds of split fine-tuning: what is learnt, counted, resumed, and what is said when it fails."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sftopt.core.errors import ExitCode, InputError, UnknownNameError
from sftopt.core.instance import ModeKind
from sftopt.training import evaluation
from sftopt.training.failures import OutOfMemoryError, memory_limits_told
from sftopt.training.loop import RoundRow, RunSettings, evaluate, fine_tune
from sftopt.training.split import DivergedError, SplitModel
from tests.training.fake_task import FakeTask, small_split
from tests.training.split.tiny_models import tiny_model

pytestmark = pytest.mark.train

TASK = FakeTask()
TOPK = {"mode": ModeKind.TOPK, "bits": 4, "keep_fraction": 0.25}
SETTINGS = RunSettings(
    rounds=4, local_steps=3, batches={"device-0": 8, "device-1": 4}, seed=5, evaluation_limit=40
)


def same_adapters(one: SplitModel, other: SplitModel) -> bool:
    return all(
        torch.equal(left.trainable()[name], right.trainable()[name])
        for left, right in zip(one.parts, other.parts, strict=True)
        for name in left.trainable()
    )


def unmeasured(row: RoundRow) -> RoundRow:
    """Without the seconds, which no run can repeat."""
    return replace(row, cpu_s={}, wall_s={})


def test_it_learns_and_counts() -> None:
    split = small_split(mode=TOPK, learning_rate=0.02)
    seen = []
    before = evaluate(split, TASK, limit=40).metric
    record = fine_tune(
        split, TASK, replace(SETTINGS, rounds=6, evaluate_every=3), on_round=seen.append
    )
    assert list(record.rounds) == seen
    assert [row.round for row in seen] == [1, 2, 3, 4, 5, 6]
    assert [row.metric is None for row in seen] == [True, True, False, True, True, False]
    assert record.final_metric > before + 0.3
    assert seen[-1].loss < seen[0].loss
    first = seen[0]
    for name, channel in split.channels.items():
        total = sum(sum(row.byte_counts[name].values()) for row in seen)
        assert total == sum(channel.traffic.byte_count.values()), "every byte is in some round"
        assert set(first.byte_counts[name]) == {
            "uplink_boundary_bytes", "uplink_side_bytes", "uplink_adapters_bytes",
            "downlink_gradient_bytes", "downlink_adapters_bytes",
        }  # fmt: skip
    assert first.bytes_of("uplink_boundary") == sum(
        counts["uplink_boundary_bytes"] for counts in first.byte_counts.values()
    )
    assert set(first.cpu_s) == {"device-0", "device-1", "server"}
    assert first.cpu_s["device-0"]["device_forward"] > 0.0
    assert first.wall_s["server"]["update"] > 0.0
    assert RoundRow.from_dict(first.to_dict()) == first


def test_the_metric_is_weighted_over_the_devices_own_splits() -> None:
    task = FakeTask(metric="negative_loss_nats")
    coarse = {"mode": ModeKind.TOPK, "bits": 2, "keep_fraction": 0.05}
    config = small_split("gpt2", weights=(0.25, 0.75)).config
    devices = (config.devices[0].model_copy(update=coarse), config.devices[1])
    split = SplitModel(tiny_model("gpt2"), config.model_copy(update={"devices": devices}))
    found = evaluate(split, task)
    (batch,) = task.evaluation(60)
    alone = {name: -split.evaluate(name, batch).loss for name in split.devices}
    assert found.by_device == pytest.approx(alone)
    assert alone["device-0"] != alone["device-1"], "a coarse codec is seen in the metric"
    assert found.metric == pytest.approx(0.25 * alone["device-0"] + 0.75 * alone["device-1"])


def test_negative_loss_is_the_mean_over_predicted_tokens() -> None:
    task = FakeTask(metric="negative_loss_nats")
    split = small_split("gpt2")
    parts = evaluate(split, task, batch=7, limit=18).metric
    batches = list(task.evaluation(7, limit=18))
    assert [len(batch["labels"]) for batch in batches] == [7, 7, 4]
    whole = {key: torch.cat([batch[key] for batch in batches]) for key in ("input_ids", "labels")}
    assert parts == pytest.approx(-split.evaluate("device-0", whole).loss, rel=1e-5)


def test_devices_alike_are_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = evaluation._metric

    def counting(model: SplitModel, device_id: str, *rest: object) -> float:
        calls.append(device_id)
        return real(model, device_id, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation, "_metric", counting)
    evaluate(small_split(cuts=(1, 3, 1), mode=TOPK), TASK, limit=8)
    assert calls == ["device-0", "device-1"]
    calls.clear()
    evaluate(small_split(cuts=(1, 3, 2)), TASK, limit=8)
    assert calls == ["device-0"], "nothing is lost at any cut"
    calls.clear()
    evaluate(small_split(cuts=(1, 3, 2)), TASK, limit=8, stale=["device-2"])
    assert calls == ["device-0", "device-2"]


def test_runs_repeat_and_leave_the_callers_generator_alone() -> None:
    torch.manual_seed(3)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    one = fine_tune(small_split(mode=TOPK), TASK, SETTINGS)
    assert torch.equal(torch.rand(4), drawn)
    two = fine_tune(small_split(mode=TOPK), TASK, SETTINGS)
    assert [unmeasured(row) for row in one.rounds] == [unmeasured(row) for row in two.rounds]
    other = fine_tune(small_split(mode=TOPK), TASK, replace(SETTINGS, seed=6))
    assert other.rounds[0].losses != one.rounds[0].losses


def test_resumed_it_is_the_run_that_was_never_stopped(tmp_path: Path) -> None:
    """Also with a device that was absent in the rounds around the stop, and with more rounds."""
    settings = replace(SETTINGS, absent={2: ("device-1",), 3: ("device-0",)}, evaluate_every=2)
    whole = small_split(mode=TOPK)
    record = fine_tune(whole, TASK, settings)
    first = fine_tune(small_split(mode=TOPK), TASK, replace(settings, rounds=2),
                      checkpoint_dir=tmp_path / "checkpoint")  # fmt: skip
    resumed = small_split(mode=TOPK)
    again = fine_tune(resumed, TASK, settings, checkpoint_dir=tmp_path / "checkpoint")
    assert again.rounds[:2] == first.rounds, "seconds measured before the stop are kept"
    assert [unmeasured(row) for row in again.rounds] == [unmeasured(row) for row in record.rounds]
    assert same_adapters(whole, resumed)
    assert fine_tune(small_split(mode=TOPK), TASK, settings,
                     checkpoint_dir=tmp_path / "checkpoint") == again  # fmt: skip


def test_a_run_cut_short_between_evaluations_is_evaluated_at_its_end(tmp_path: Path) -> None:
    def stop(row: RoundRow) -> None:
        if row.round == 3:
            raise KeyboardInterrupt

    settings = replace(SETTINGS, evaluate_every=0)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(small_split(), TASK, settings, on_round=stop, checkpoint_dir=tmp_path / "c")
    found = fine_tune(
        small_split(), TASK, replace(settings, rounds=2), checkpoint_dir=tmp_path / "c"
    )
    assert (
        found.final_metric
        == fine_tune(small_split(), TASK, replace(settings, rounds=2)).final_metric
    )


def test_a_device_that_drops_out_rejoins() -> None:
    settings = replace(SETTINGS, absent={2: ("device-0",)})
    split = small_split()
    kept: list[dict[str, torch.Tensor]] = []
    held = range(split.devices["device-0"].cut)

    def keep(row: RoundRow) -> None:
        kept.append(split.devices["device-0"].adapters(held))

    record = fine_tune(split, TASK, settings, on_round=keep)
    first, second, third, _ = record.rounds
    assert second.participants == ("device-1",)
    assert set(second.losses) == {"device-1"}
    assert second.byte_counts["device-0"] == {}, "nothing crosses its channel"
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    assert third.participants == ("device-0", "device-1")
    name = "downlink_adapters_bytes"
    assert third.byte_counts["device-0"][name] == 2 * first.byte_counts["device-0"][name]
    server = split.server.adapters(held)
    assert all(torch.equal(server[name], value) for name, value in kept[-1].items())
    assert third.loss < first.loss


def test_a_loss_that_is_no_number_is_told_with_round_and_device(tmp_path: Path) -> None:
    class Poisoned(FakeTask):
        def train_batches(
            self, device: int, devices: int, batch: int, seed: int, skip: int = 0
        ) -> Iterator[dict[str, torch.Tensor]]:
            for number, drawn in enumerate(
                super().train_batches(device, devices, batch, seed, skip), skip
            ):
                if device == 1 and number == 7:
                    drawn["pixel_values"] = drawn["pixel_values"] * math.nan
                yield drawn

    path = tmp_path / "checkpoint"
    split = small_split()
    with pytest.raises(DivergedError) as caught:
        fine_tune(split, Poisoned(), SETTINGS, checkpoint_dir=path)
    text = str(caught.value)
    assert text.startswith("round 3: device device-1: ")
    assert "Lower the learning rate" in text
    assert f"is kept in '{path}'" in text
    assert caught.value.exit_code is ExitCode.NO_POINT
    again = fine_tune(small_split(), TASK, SETTINGS, checkpoint_dir=path)
    whole = fine_tune(small_split(), TASK, SETTINGS)
    assert [unmeasured(row) for row in again.rounds] == [unmeasured(row) for row in whole.rounds]


@pytest.mark.parametrize("mode", [None, TOPK], ids=["none", "topk"])
def test_weights_that_run_away_are_told_and_not_saved(
    mode: dict[str, object] | None, tmp_path: Path
) -> None:
    split = small_split(learning_rate=1e30, mode=mode)
    with pytest.raises(DivergedError, match=r"round 1: .*Lower the learning rate"):
        fine_tune(split, TASK, replace(SETTINGS, local_steps=1), checkpoint_dir=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_memory_that_does_not_suffice_is_told() -> None:
    way_out = "Take smaller batches."
    with (
        pytest.raises(OutOfMemoryError, match=r"round 1: out of memory\. Take smaller"),
        memory_limits_told("round 1", way_out),
    ):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(OutOfMemoryError), memory_limits_told("round 1", way_out):
        bytearray(2**60)
    with pytest.raises(OutOfMemoryError), memory_limits_told("round 1", way_out):
        raise RuntimeError("could not create a primitive")  # oneDNN's, without room for code
    with pytest.raises(RuntimeError, match="shapes cannot"), memory_limits_told("a", "b"):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_out_of_memory_in_a_round_keeps_the_checkpoint(tmp_path: Path) -> None:
    class Huge(FakeTask):
        def train_batches(
            self, device: int, devices: int, batch: int, seed: int, skip: int = 0
        ) -> Iterator[dict[str, torch.Tensor]]:
            given = super().train_batches(device, devices, batch, seed, skip)
            for number, drawn in enumerate(given, skip):
                if number == 4:
                    drawn["pixel_values"] = drawn["pixel_values"][:1].expand(2**45, 1, 12, 12)
                yield drawn

    path = tmp_path / "checkpoint"
    with pytest.raises(OutOfMemoryError, match=r"round 2: out of memory.*smaller.*kept in"):
        fine_tune(small_split(), Huge(), SETTINGS, checkpoint_dir=path)
    assert len(fine_tune(small_split(), TASK, SETTINGS, checkpoint_dir=path).rounds) == 4


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        fine_tune(
            small_split(), TASK, RunSettings(0, 1, {"device-0": 0}, absent={9: ("device-0",)})
        )
    text = str(caught.value)
    assert "rounds = 0" in text
    assert "batches[device-0] = 0" in text
    assert "no batch size for device-1" in text
    with pytest.raises(InputError, match="round 2: no device takes part"):
        fine_tune(small_split(), TASK, replace(SETTINGS, absent={2: ("device-0", "device-1")}))
    with pytest.raises(UnknownNameError, match="device absent in round 2 'device-9'"):
        fine_tune(small_split(), TASK, replace(SETTINGS, absent={2: ("device-9",)}))
    path = tmp_path / "checkpoint"
    fine_tune(small_split(), TASK, replace(SETTINGS, rounds=2), checkpoint_dir=path)
    with pytest.raises(InputError, match="is of another run: seed"):
        fine_tune(small_split(), TASK, replace(SETTINGS, seed=9), checkpoint_dir=path)
    with pytest.raises(InputError, match="is of another run: fingerprint"):
        fine_tune(small_split(), replace(TASK, fingerprint="1"), SETTINGS, checkpoint_dir=path)
    with pytest.raises(InputError, match="2 rounds done; 1 are asked for"):
        fine_tune(small_split(), TASK, replace(SETTINGS, rounds=1), checkpoint_dir=path)


def test_data_that_ends_is_told() -> None:
    class Short(FakeTask):
        def train_batches(
            self, device: int, devices: int, batch: int, seed: int, skip: int = 0
        ) -> Iterator[dict[str, torch.Tensor]]:
            yield self.draw(batch, seed)

        def evaluation(
            self, batch: int, part: str = "test", limit: int | None = None
        ) -> Iterator[dict[str, torch.Tensor]]:
            yield from ()

    with pytest.raises(InputError, match="training data of device device-0 ends"):
        fine_tune(small_split(), Short(), SETTINGS)
    with pytest.raises(InputError, match="evaluation data is empty"):
        evaluate(small_split(), Short())
