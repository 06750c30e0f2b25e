"""Options of training: each does what it says, and is part of what a run is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.calibrate.defaults import settings_for
from sftopt.training.loop import RunSettings, fine_tune
from sftopt.training.options import TrainingOptions
from sftopt.training.schedule import Schedule
from sftopt.training.split import (
    AdapterDtype,
    LoraSettings,
    OptimizerSettings,
    SplitConfig,
    SplitModel,
    settings_of,
)
from sftopt.training.split.messages import pack_adapters, rounding_error, unpack_adapters
from tests.training.fake_task import FakeTask
from tests.training.split.tiny_models import tiny_batch, tiny_model

pytestmark = pytest.mark.train


def split_with(family: str, cuts: Any, **fields: Any) -> SplitModel:
    split = SplitModel(tiny_model(family), SplitConfig.of(cuts, **fields))
    split.train(False)
    return split


def adapters(split: SplitModel) -> dict[str, torch.Tensor]:
    return split.server.adapters(range(split.stack.count))


def test_accumulated_steps_are_one_step_on_the_whole_batch() -> None:
    """Plain gradient descent on two halves of a batch, against the batch at once."""
    sgd = OptimizerSettings(name="sgd", learning_rate=0.5)
    halves, whole = (split_with("vit", 2, optimizer=sgd) for _ in range(2))
    one, other = tiny_batch("vit"), tiny_batch("vit", 1)
    halves.train_step({"device-0": one}, update=False)
    before = adapters(halves)
    assert halves.devices["device-0"].holds_gradients
    halves.train_step({"device-0": other})
    both = {name: torch.cat([one[name], other[name]]) for name in one}
    whole.train_step({"device-0": both})
    for end in (lambda s: s.server.trainable(), lambda s: s.devices["device-0"].trainable()):
        for (name, found), wanted in zip(end(halves).items(), end(whole).values(), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7, msg=name)
    moved = adapters(halves)
    assert any(not torch.equal(before[name], moved[name]) for name in moved)
    assert not halves.devices["device-0"].holds_gradients


def test_gradients_are_clipped_in_each_part() -> None:
    sgd = OptimizerSettings(name="sgd", learning_rate=1.0, clip_norm=1e-3)
    split = split_with("vit", 2, optimizer=sgd)
    before = {name: p.detach().clone() for name, p in split.server.trainable().items()}
    split.train_step({"device-0": tiny_batch("vit")})
    step = [p.detach() - before[name] for name, p in split.server.trainable().items()]
    assert math.sqrt(sum(float(d.square().sum()) for d in step)) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("rank", [8, 4])
def test_rslora_scales_by_the_root_of_the_rank(rank: int) -> None:
    """Unequal ranks mean the same update too."""
    lora = LoraSettings(rank=4, alpha=8.0, rslora=True)
    config = SplitConfig.of(2, lora=lora.model_dump())
    config = config.model_copy(
        update={"devices": (config.devices[0].model_copy(update={"rank": rank}),)}
    )
    split = SplitModel(tiny_model("llama"), config)
    (scaling,) = {
        module.scaling["default"]
        for module in split.devices["device-0"].model.modules()
        if isinstance(getattr(module, "scaling", None), dict)
    }
    assert scaling == pytest.approx(8.0 / math.sqrt(4))


def test_all_linear_and_plain_peft_settings() -> None:
    split = split_with("llama", 2, lora={"target_modules": ["all-linear"], "rank": 2})
    names = {name.split(".", 1)[1] for name in adapters(split) if name.endswith("lora_A")}
    assert names == {f"self_attn.{p}_proj.lora_A" for p in "qkvo"} | {
        f"mlp.{p}_proj.lora_A" for p in ("gate", "up", "down")
    }
    made = settings_of(LoraConfig(r=3, target_modules="all-linear", use_rslora=True, use_dora=True))
    assert made.target_modules == ("all-linear",)
    assert (made.rslora, made.dora) == (True, True)
    assert len({n for n in adapters(split_with("gpt2", 1, lora={"target_modules": ["all-linear"]}))
                if n.startswith("0.")}) == 8  # fmt: skip


def test_dora_s_norms_are_trained_sent_and_averaged() -> None:
    split = split_with("llama", {"a": 3, "b": 1}, lora={"dora": True, "rank": 2},
                       optimizer={"name": "sgd", "learning_rate": 0.5})  # fmt: skip
    norms = [name for name in adapters(split) if name.endswith("magnitude_vector")]
    assert len(norms) == 8, "of query and value in four blocks"
    start = adapters(split)
    for seed in range(2):
        split.train_step({"a": tiny_batch("llama", seed), "b": tiny_batch("llama", seed + 5)})
    first = {name: split.devices[name].adapters(range(cut)) for name, cut in (("a", 3), ("b", 1))}
    server = adapters(split)
    split.average()
    mean = adapters(split)
    both, one = (next(n for n in norms if n.startswith(block)) for block in ("0.", "2."))
    assert not torch.equal(mean[both], start[both])
    torch.testing.assert_close(mean[both], 0.5 * (first["a"][both] + first["b"][both]))
    torch.testing.assert_close(mean[one], 0.5 * (first["a"][one] + server[one]))
    for device, cut in (("a", 3), ("b", 1)):
        own = split.devices[device].adapters(range(cut))
        assert all(torch.equal(value, mean[key]) for key, value in own.items())


def test_adapters_may_travel_in_sixteen_bits_and_the_error_is_known() -> None:
    wide, narrow = (
        split_with("llama", 2, adapter_dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    batch = {"device-0": tiny_batch("llama")}
    for split in (wide, narrow):
        split.train_step(batch)
        split.average()
    sent = [split.channels["device-0"].traffic.to_dict()["uplink_adapters_bytes"]
            for split in (wide, narrow)]  # fmt: skip
    head = 200
    assert sent[1] == pytest.approx(sent[0] / 2, abs=head)
    own = narrow.devices["device-0"].adapters(range(2))
    assert all(value.dtype is torch.float32 for value in own.values()), "kept wide"
    assert all(torch.equal(v, v.bfloat16().float()) for v in own.values()), "as they came"
    error = rounding_error(adapters(wide), torch.bfloat16)
    assert 1e-4 < error < 4e-3
    assert rounding_error(adapters(wide), torch.float16) < error / 4
    large = {name: value + 1e6 for name, value in own.items()}
    with pytest.raises(InputError, match="float16 does not reach; let adapters travel in bfloat16"):
        pack_adapters(large, torch.float16)
    back = unpack_adapters(pack_adapters(own, torch.bfloat16), own, torch.bfloat16)
    assert all(torch.equal(back[name], own[name]) for name in own)
    assert AdapterDtype.BFLOAT16.bits == 16


def test_a_cosine_goes_down_to_a_twentieth() -> None:
    factors = [Schedule.COSINE.factor(step, 100) for step in range(100)]
    assert max(factors) > 0.9
    assert factors[19:] == sorted(factors[19:], reverse=True)
    assert factors[60] == pytest.approx(0.05 + 0.95 * 0.5 * (1 + math.cos(0.6 * math.pi)))
    assert factors[-1] == pytest.approx(0.05, abs=1e-3)


def test_losses_of_all_steps_are_kept_and_rounds_end_with_an_update(tmp_path: Path) -> None:
    task = FakeTask()
    settings = RunSettings(rounds=2, local_steps=3, batches={"device-0": 4}, evaluate_every=0,
                           accumulation=2, evaluation_limit=8)  # fmt: skip
    split = SplitModel(tiny_model("vit"), SplitConfig.of(2))
    record = fine_tune(split, task, settings, checkpoint_dir=tmp_path / "c")
    for row in record.rounds:
        losses = row.step_losses["device-0"]
        assert len(losses) == 3
        assert row.losses["device-0"] == pytest.approx(sum(losses) / 3)
    assert not split.devices["device-0"].holds_gradients
    steps = {int(s["step"]) for s in split.server.optimizer.state.values()}  # type: ignore[union-attr]
    assert steps == {4}, "two updates a round: of two steps, and of the one that is left"
    with pytest.raises(InputError, match="another run: accumulation"):
        fine_tune(split, task, replace(settings, accumulation=3, rounds=3),
                  checkpoint_dir=tmp_path / "c")  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "told"),
    [({"batch": 0}, "--batch is 0; at least 1"), ({"learning_rate": -1.0}, "--learning-rate is -1"),
     ({"clip_norm": math.inf}, "--clip-norm is inf"),
     ({"lora_dropout": 1.0}, "--lora-dropout is 1"),
     ({"weight_decay": -0.1}, "--weight-decay is -0.1"), ({"accumulation": 0}, "--accumulation")],
)  # fmt: skip
def test_options_that_cannot_be_are_told(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        TrainingOptions(**asked)


def test_what_is_asked_for_reaches_every_run() -> None:
    with pytest.raises(UnknownNameError, match="value of --schedule 'cosin'"):
        TrainingOptions(schedule="cosin")
    with pytest.raises(UnknownNameError, match="--adapter-dtype"):
        TrainingOptions(adapter_dtype="int8")
    from sftopt.training.data import stdlib_bytes

    task = stdlib_bytes.load(tokens=16)
    options = TrainingOptions(
        batch=2, lora_rank=4, rslora=True, weight_decay=0.1, clip_norm=1.0, accumulation=3,
        target_modules=("all-linear",), lora_dropout=0.1,
    )  # fmt: skip
    settings = settings_for(task, **options.asked())
    assert settings.lora_alpha == 8.0, "scaled as the task's own: 32 at rank 16"
    config = settings.split_config(0)
    assert config.lora.target_modules == ("all-linear",)
    assert (config.lora.dropout, config.lora.rslora) == (0.1, True)
    assert (config.optimizer.weight_decay, config.optimizer.clip_norm) == (0.1, 1.0)
    plain = settings_for(task)
    assert settings.run_dict() != plain.run_dict()
    for name, value in options.asked().items():
        changed = replace(plain, **{name: value}).run_dict()
        assert changed != plain.run_dict(), f"{name} is part of what a run is"
