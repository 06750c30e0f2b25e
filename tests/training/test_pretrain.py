"""Pre-training: a standard folder, the same after a kill, never over other work."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    PretrainedConfig,
    ViTConfig,
)

from sftopt.core.errors import InputError
from sftopt.face.cli import main
from sftopt.training import pretrain as module
from sftopt.training.data import digit_scenes, load_task, stdlib_bytes
from sftopt.training.data.digit_scenes import DigitScenes
from sftopt.training.data.stdlib_bytes import StdlibBytes
from sftopt.training.pretrain import Pretrained, PretrainingNews, pretrain, pretrained
from sftopt.training.split import DivergedError, SplitConfig, SplitModel


@dataclass(frozen=True)
class SmallScenes(DigitScenes):
    """The same scenes for a model of 2 narrow blocks."""

    def model_config(self) -> ViTConfig:
        config = super().model_config()
        config.hidden_size, config.intermediate_size = 16, 32
        config.num_hidden_layers, config.num_attention_heads = 2, 2
        return config


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> SmallScenes:
    monkeypatch.setattr(module, "_CHECKPOINT_STEPS", 4)
    monkeypatch.setattr(module, "_EVALUATION_SAMPLES", 64)
    monkeypatch.setattr(module, "_BASES_BATCH", 4)
    return SmallScenes(**vars(digit_scenes.load()))


class Killed(Exception):
    """Stands for a kill: nothing is written after it."""


def kill_at(step: int) -> module.News:
    def told(news: PretrainingNews) -> None:
        if news.step == step:
            raise Killed

    return told


def test_folder_is_a_standard_model_with_a_head_for_fine_tuning(
    task: SmallScenes, tmp_path: Path
) -> None:
    steps: list[PretrainingNews] = []
    made = pretrain(task, tmp_path / "m", steps=3, news=steps.append)
    assert [news.step for news in steps] == [1, 2, 3]
    assert steps[-1].left_s == 0.0
    assert steps[0].left_s > 0.0
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "m")
    assert model.num_labels == 30
    assert made.record["recipe"]["labels"] == 30
    assert made.record["test_count"] == 64
    split = SplitModel.from_pretrained(tmp_path / "m", SplitConfig.of(1))
    assert split.train_step({"device-0": next(task.train_batches(0, 1, 2, 0))}).losses
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "boundary_bases.safetensors",
        "config.json",
        "model.safetensors",
        "pretrain.json",
    ]


def test_second_call_returns_the_same_at_once(task: SmallScenes, tmp_path: Path) -> None:
    first = pretrain(task, tmp_path / "m", steps=2)
    second = pretrain(task, tmp_path / "m", steps=2, news=kill_at(1))
    assert (first.cached, second.cached) == (False, True)
    assert second == Pretrained(first.path, first.record, cached=True)


@pytest.mark.parametrize("step", [2, 4, 7, 10])
def test_after_a_kill_the_result_is_the_same(task: SmallScenes, tmp_path: Path, step: int) -> None:
    pretrain(task, tmp_path / "whole", steps=10)
    with pytest.raises(Killed):
        pretrain(task, tmp_path / "killed", steps=10, news=kill_at(step))
    made = pretrain(task, tmp_path / "killed", steps=10)
    assert made.record["resumed_at_step"] == (step - 1) // 4 * 4
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    again = load_file(tmp_path / "killed" / "model.safetensors")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert not (tmp_path / "killed" / "checkpoint").exists()


def test_an_interrupt_keeps_the_last_step(task: SmallScenes, tmp_path: Path) -> None:
    def interrupt(news: PretrainingNews) -> None:
        if news.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(task, tmp_path / "m", steps=5, news=interrupt)
    assert pretrain(task, tmp_path / "m", steps=5).record["resumed_at_step"] == 3
    pretrain(task, tmp_path / "whole", steps=5)
    left, right = (load_file(tmp_path / n / "model.safetensors") for n in ("m", "whole"))
    assert all(torch.equal(left[name], right[name]) for name in left)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    task: SmallScenes, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    pretrain(task, tmp_path / "whole", steps=10)
    with pytest.raises(Killed):
        pretrain(task, tmp_path / "m", steps=10, news=kill_at(10))
    flip(tmp_path / "m" / "checkpoint" / name)
    made = pretrain(task, tmp_path / "m", steps=10)
    assert made.record["resumed_at_step"] == 4
    assert name in caplog.text
    left, right = (load_file(tmp_path / n / "model.safetensors") for n in ("m", "whole"))
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert not list((tmp_path / "m").glob("checkpoint*"))


@pytest.mark.parametrize("name", ["model.safetensors", "boundary_bases.safetensors", "config.json"])
def test_a_finished_model_that_was_damaged_is_not_used(
    task: SmallScenes, tmp_path: Path, name: str
) -> None:
    pretrain(task, tmp_path / "m", steps=2)
    flip(tmp_path / "m" / name)
    with pytest.raises(InputError, match=rf"{name}' is not as pre-training wrote it.*Remove"):
        pretrain(task, tmp_path / "m", steps=2)


def test_seed_decides_on_the_weights(task: SmallScenes, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    models = [pretrain(task, tmp_path / f"{n}", seed=seed, steps=2)
              for n, seed in enumerate((0, 1, 0))]  # fmt: skip
    assert torch.equal(state, torch.random.get_rng_state())
    weights = [load_file(m.path / "model.safetensors")["classifier.weight"] for m in models]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_other_work_is_never_overwritten(task: SmallScenes, tmp_path: Path) -> None:
    pretrain(task, tmp_path / "m", steps=1)
    with pytest.raises(InputError, match="other settings or data"):
        pretrain(task, tmp_path / "m", steps=2)
    with pytest.raises(Killed):
        pretrain(task, tmp_path / "half", steps=9, news=kill_at(5))
    with pytest.raises(InputError, match="unfinished pre-training with other"):
        pretrain(task, tmp_path / "half", steps=9, seed=1)
    task.model_config().save_pretrained(tmp_path / "foreign")
    with pytest.raises(InputError, match="holds another model"):
        pretrain(task, tmp_path / "foreign", steps=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        pretrain(task, tmp_path / "file", steps=1)


def test_a_place_that_cannot_be_written_is_told_before_the_training(task: SmallScenes) -> None:
    def never(_: PretrainingNews) -> None:
        raise AssertionError("a step was made")

    with pytest.raises(InputError, match="cannot write folder '/proc/nowhere"):
        pretrain(task, Path("/proc/nowhere/model"), news=never)


def test_the_only_checkpoint_being_damaged_is_told(task: SmallScenes, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        pretrain(task, tmp_path / "m", steps=9, news=kill_at(5))
    (tensors,) = (tmp_path / "m" / "checkpoint").glob("*.safetensors")
    tensors.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"tensors.safetensors' is not as it was written"):
        pretrain(task, tmp_path / "m", steps=9)


@dataclass(frozen=True)
class SmallBytes(StdlibBytes):
    """The same text for a model of 2 narrow blocks."""

    def model_config(self) -> PretrainedConfig:
        config = super().model_config()
        config.n_embd, config.n_layer, config.n_head = 32, 2, 2
        return config


def test_training_learns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Held-out text, too: far below the 5.5 nats of a model that knows nothing."""
    monkeypatch.setattr(module, "_EVALUATION_SAMPLES", 64)
    small = SmallBytes(**vars(stdlib_bytes.load(tokens=32)))
    losses: list[float] = []
    made = pretrain(small, tmp_path / "m", steps=80, news=lambda news: losses.append(news.loss))
    assert losses[0] == pytest.approx(math.log(256), abs=0.5)
    assert sum(losses[-10:]) / 10 < 4.0
    assert made.record["test_metric"] > -4.0
    weights = load_file(made.path / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert made.record["recipe"]["settings"]["stored"] == "float16"
    model: Any = AutoModelForCausalLM.from_pretrained(made.path)
    assert model.dtype is torch.float32
    part = small.pretraining()
    assert part is not None
    # metric and bases were measured on the weights as they are in the file
    assert module._evaluate(part, model)["test_metric"] == pytest.approx(
        made.record["test_metric"], abs=1e-6
    )
    rounded = model.transformer.wte.weight.half().float()
    assert torch.equal(rounded, model.transformer.wte.weight)


def test_a_weight_that_16_bits_cannot_hold_is_told() -> None:
    task = SmallBytes(**vars(stdlib_bytes.load()))
    model: Any = module._fresh(task.model_config(), task.kind, 0)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[3, 4] = -1e5
    with pytest.raises(DivergedError, match=r"'transformer.h.1.mlp.c_fc.weight' is 100000, beyond"):
        module.round_weights(model, torch.float16)
    module.round_weights(model, torch.float32)


def test_cache_is_by_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_EVALUATION_SAMPLES", 8)
    monkeypatch.setattr(module, "_BASES_BATCH", 1)
    path = pretrained("stdlib-bytes", cache=tmp_path, steps=1)
    assert pretrained("stdlib-bytes", cache=tmp_path, steps=1) == path
    assert pretrained("stdlib-bytes", cache=tmp_path, steps=2) != path
    model = AutoModelForCausalLM.from_pretrained(path)
    assert model.config.n_layer == 6
    part = stdlib_bytes.load().pretraining()
    assert part is not None
    record = json.loads((path / "pretrain.json").read_text())
    assert record["recipe"]["data"] == part.fingerprint
    assert record["metric"] == "negative_loss_nats"


def test_a_task_without_a_pretraining_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "some text that is long enough"}\n' * 60)
    task = load_task(f"jsonl:{tmp_path / 'x.jsonl'}", tokens=8)
    with pytest.raises(InputError, match="--model"):
        pretrain(task, tmp_path / "m")


def test_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_EVALUATION_SAMPLES", 8)
    monkeypatch.setattr(module, "_BASES_BATCH", 1)
    line = ["pretrain", "--data", "digit-scenes", "--out", str(tmp_path / "m"), "--steps", "1"]
    assert main([*line, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["command"], answer["cached"], answer["model"]) == (
        "pretrain",
        False,
        str(tmp_path / "m"),
    )
    assert main(line) == 0
    assert "before, with the same settings" in capsys.readouterr().out
    assert main([*line, "--seed", "1"]) == 2
    assert main(["pretrain", "--data", "nothing", "--out", str(tmp_path / "n")]) == 2
