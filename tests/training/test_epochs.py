"""Samples that return: sets of their own, memory in the checkpoint, the same bytes after a stop."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from transformers import PretrainedConfig

from sftopt.core.errors import InputError
from sftopt.training.codec import codec_from
from sftopt.training.data.epochs import revisited
from sftopt.training.data.task import Batch, Part, Task, TaskKind
from sftopt.training.loop import RunSettings, fine_tune
from sftopt.training.run import CodecOverride, run_plan
from sftopt.training.split import SplitConfig, SplitModel
from sftopt.training.split.channel import Direction, MessageKind
from tests.training.fake_task import FakeTask
from tests.training.run.small_run import small_plan, small_run
from tests.training.split.tiny_models import tiny_batch, tiny_model

FAKE = FakeTask()
MEMORY = {"codec": "rest", "inner": "ecsq", "bits": 1.0, "first_bits": 3.0, "memory": True}
SETTINGS = RunSettings(rounds=4, local_steps=2, batches={"device-0": 4, "device-1": 4}, seed=3)


@dataclass(frozen=True)
class Images(Task):
    """The fake task's images as a task proper."""

    def held_out(self, part: str) -> int:
        return 20

    def model_config(self) -> PretrainedConfig:
        return tiny_model("vit").config

    def _draw(self, device: int, devices: int, batch: int, generator: object) -> Batch:
        return FAKE.draw(batch, int(generator.integers(2**31)))  # type: ignore[attr-defined]

    def _held_out(self, part: Part, numbers: object) -> Batch:
        return FAKE.draw(len(numbers), 1)  # type: ignore[arg-type]


TASK = Images("images", TaskKind.IMAGE_CLASSIFICATION, "accuracy", 5, "mark")


def test_every_sample_of_a_fixed_set_comes_once_an_epoch() -> None:
    task = revisited(TASK, 12)
    seen = []
    for batch in itertools.islice(task.train_batches(0, 2, 4, seed=1), 6):
        assert batch["pixel_values"].shape[0] == 4
        seen.append(batch["sample_ids"].tolist())
    first, second = (list(itertools.chain(*part)) for part in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    by_number = {}
    for seed in (1, 2):  # the set is the same whatever the run's seed
        for batch in itertools.islice(task.train_batches(0, 2, 4, seed=seed), 3):
            for number, image in zip(
                batch["sample_ids"].tolist(), batch["pixel_values"], strict=True
            ):
                assert torch.equal(by_number.setdefault(number, image), image)
    skipped = next(task.train_batches(0, 2, 4, seed=1, skip=4))
    assert skipped["sample_ids"].tolist() == seen[4]
    assert task.fingerprint not in (TASK.fingerprint, revisited(TASK, 16).fingerprint)
    assert "sample_ids" not in next(iter(task.evaluation(5)))


def test_sets_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="whole number of batches"):
        next(revisited(TASK, 10).train_batches(0, 1, 4, seed=0))
    with pytest.raises(InputError, match="a set of 0"):
        revisited(TASK, 0)
    with pytest.raises(InputError, match="fixed set already"):
        revisited(revisited(TASK, 4), 4)


def split() -> SplitModel:
    config = SplitConfig.of([1, 2], lora={"rank": 3, "alpha": 6.0})
    return SplitModel(tiny_model("vit"), config, codecs=lambda _: codec_from(MEMORY))


def test_stopped_and_resumed_it_sends_the_same_bytes(tmp_path: Path) -> None:
    """Memory is committed with the step, kept in the checkpoint, and goes on from there."""
    task = revisited(TASK, 8)
    whole_split = split()
    whole = fine_tune(whole_split, task, SETTINGS)
    fine_tune(split(), task, replace(SETTINGS, rounds=2), checkpoint_dir=tmp_path / "c")
    assert (tmp_path / "c" / "memory.safetensors").is_file()
    resumed_split = split()
    resumed = fine_tune(resumed_split, task, SETTINGS, checkpoint_dir=tmp_path / "c")
    for one, other in zip(whole.rounds, resumed.rounds, strict=True):
        assert one.byte_counts == other.byte_counts
        assert one.losses == other.losses
    assert whole.final_metric == resumed.final_metric
    for name, device in whole_split.devices.items():
        ours = device.codec.visits.state()  # type: ignore[attr-defined]
        server = whole_split.server.codecs[name].visits.state()  # type: ignore[attr-defined]
        again = resumed_split.devices[name].codec.visits.state()  # type: ignore[attr-defined]
        assert all(torch.equal(ours[key], server[key]) for key in ours)
        assert all(torch.equal(ours[key], again[key]) for key in ours)
    first, later = whole.rounds[0], whole.rounds[-1]
    assert later.bytes_of("uplink_boundary") < 0.7 * first.bytes_of("uplink_boundary")


def test_memory_beyond_what_the_cell_counts_is_told(tmp_path: Path) -> None:
    """At the device and the server, equations (10) and (11); what is counted is not told."""
    override = CodecOverride.parse("rest:inner=ecsq,bits=1.0,first_bits=3.0,memory=true")
    run = small_run(tmp_path, task=revisited(TASK, 8), codec=override)
    found = run_plan(run, tmp_path / "bare")
    size = run.instance.workload.boundary_elements * 2 * 8
    told = [text for text in found.data["notices"] if "remembers" in text]
    assert len(told) == 2
    assert all(f"remembers {size} bytes, the instance counts 0" in text for text in told)
    counted = run.instance.replace(
        **{f"devices[{number}].remembered_bytes": size for number in range(2)}
    )
    again = run_plan(replace(run, instance=counted, plan=small_plan(counted)), tmp_path / "out")
    assert not any("remembers" in text for text in again.data["notices"])
    planned = {
        (row["quantity"], row["device"]): row["predicted"]
        for data in (again.data,) for row in data["compared"]
    }  # fmt: skip
    before = {(row["quantity"], row["device"]): row["predicted"] for row in found.data["compared"]}
    for name in ("a", "b/c"):
        assert planned["peak memory", name] == before["peak memory", name] + size


def test_a_step_that_fails_teaches_no_codec_anything() -> None:
    model = split()
    batch = next(revisited(TASK, 8).train_batches(0, 2, 4, seed=0))
    spoilt = {**batch, "pixel_values": batch["pixel_values"] * float("nan")}
    with pytest.raises(Exception, match="not finite"):
        model.train_step({"device-0": batch, "device-1": spoilt})
    assert model.devices["device-0"].codec.visits.state() == {}  # type: ignore[attr-defined]
    assert model.server.codecs["device-0"].visits.state() == {}  # type: ignore[attr-defined]
    model.evaluate("device-0", batch)
    model.train_step({"device-0": batch, "device-1": batch})
    assert len(model.devices["device-1"].codec.visits.state()["samples"]) == 4  # type: ignore[attr-defined]


def test_padding_off_the_wire_changes_nothing_but_the_bytes() -> None:
    """Nobody attends to padding: a lossless-like codec gives the same loss with and without it."""
    losses, sizes = [], []
    for padding in (True, False):
        options = {"codec": "rest", "inner": "quantise", "bits": 8, "padding": padding}
        model = SplitModel(
            tiny_model("bert"), SplitConfig.of(2), codecs=lambda _, o=options: codec_from(o)
        )
        model.train(False)
        report = model.train_step({"device-0": tiny_batch("bert")})
        losses.append(report.losses["device-0"])
        traffic = model.channels["device-0"].traffic
        sizes.append(traffic.of(Direction.UPLINK, MessageKind.BOUNDARY))
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("family", ["bert", "vit"])
def test_an_encoder_trains_on_the_tokens_that_are_kept(family: str) -> None:
    model = SplitModel(
        tiny_model(family), SplitConfig.of(2, optimizer={"learning_rate": 0.01}),
        codecs=lambda _: codec_from({"codec": "tokens", "tokens": 4, "bits": 8}),
    )  # fmt: skip
    batch = tiny_batch(family)
    losses = [model.train_step({"device-0": batch}).losses["device-0"] for _ in range(8)]
    assert losses[-1] < losses[0]
