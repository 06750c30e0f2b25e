"""What a split is made from, and the words for what it cannot be made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    PretrainedConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from sftopt.core import library
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.instance import ModeKind
from sftopt.core.plan import DevicePlan, Plan
from sftopt.training.split import (
    LoraSettings,
    SplitConfig,
    SplitModel,
    find_blocks,
    load_base_model,
    lora_config,
)
from tests.training.split.tiny_models import BLOCKS, FAMILIES, tiny_batch, tiny_model

pytestmark = pytest.mark.train


@pytest.mark.parametrize("family", FAMILIES)
def test_the_blocks_are_found_in_every_family(family: str) -> None:
    stack = find_blocks(tiny_model(family))
    assert (stack.count, stack.hidden) == (BLOCKS, 16)


def test_a_config_survives_json_and_disk(tmp_path: Path) -> None:
    config = SplitConfig.of(
        {"a": 1, "b": 2}, weights=[0.25, 0.75], seed=5, lora={"rank": 4, "rank_pattern": {0: 2}}
    )
    plain = json.loads(json.dumps(config.to_dict()))
    assert SplitConfig.from_dict(plain) == config
    config.save_pretrained(tmp_path)
    assert SplitConfig.from_pretrained(tmp_path) == config
    assert config.cut_layers == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"devices": []}, "devices"),
        ({"devices": [{"id": "a", "blocks": -1, "weight": 1.0}]}, "blocks"),
        ({"devices": [{"id": "a", "blocks": 1, "weight": 0.5}]}, "sum to 0.5"),
        ({"devices": [{"id": "a", "blocks": 1, "weight": 0.5}] * 2}, "must be unique"),
        ({"devices": [{"id": "a", "blocks": 1, "weight": 1.0}], "lora": {"rank": 0}}, "rank"),
        ({"devices": [{"id": "a", "blocks": 1, "weight": 1.0}], "cuts": 1}, "cuts"),
        ({"devices": [{"id": "a", "blocks": 1, "weight": 1.0}], "schema_version": 3}, "version"),
    ],
)
def test_a_wrong_config_is_named(data: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SplitConfig.from_dict(data)


def plan_for(name: str, mode: ModeKind = ModeKind.NONE) -> tuple[Plan, Any]:
    instance = library.load(name)
    share = 1.0 / len(instance.devices)
    devices = tuple(
        DevicePlan(
            id=device.id, blocks=1 + number % 3, mode=mode, bits=4, keep_fraction=0.25,
            uplink_share=share, downlink_share=share,
        )
        for number, device in enumerate(instance.devices)
    )  # fmt: skip
    return Plan(instance_hash=instance.hash, devices=devices), instance


def test_a_plan_becomes_a_split_and_a_lora_config() -> None:
    plan, instance = plan_for("jetson-vit-b", ModeKind.TOPK)
    config = SplitConfig.from_plan(plan, instance)
    assert config.cut_layers == {device.id: device.blocks for device in plan.devices}
    assert [d.weight for d in config.devices] == [d.weight for d in instance.devices]
    assert {(d.mode, d.bits, d.keep_fraction) for d in config.devices} == {(ModeKind.TOPK, 4, 0.25)}
    assert config.lora.rank == instance.workload.lora_rank
    assert config.instance_hash == plan.instance_hash
    named = plan.model_copy(
        update={
            "devices": tuple(
                d.model_copy(update={"mode_name": "topk4", "rank": 3}) for d in plan.devices
            )
        }
    )
    split = SplitConfig.from_plan(named, instance)
    assert {(d.mode_name, d.rank) for d in split.devices} == {("topk4", 3)}
    old = {**split.to_dict(), "schema_version": 1}
    for entry in old["devices"]:
        del entry["mode_name"]
    assert SplitConfig.from_dict(old).schema_version == 2
    model = tiny_model("vit")
    exported = lora_config(config, model, find_blocks(model), plan.devices[1].id)
    assert exported.r == instance.workload.lora_rank
    assert exported.layers_to_transform == [0, 1]


def test_a_plan_of_another_instance_or_model_is_refused() -> None:
    plan, _ = plan_for("jetson-vit-b")
    with pytest.raises(InputError, match="Give the instance it was made for"):
        SplitConfig.from_plan(plan, library.load("straggler"))
    alone = SplitConfig.from_plan(plan, lora=LoraSettings(rank=2))
    assert len({device.weight for device in alone.devices}) == 1
    deep = plan.model_copy(
        update={"devices": tuple(d.model_copy(update={"blocks": 4}) for d in plan.devices)}
    )
    with pytest.raises(InputError, match=r"at most L-1 = 3 of the model's 4"):
        SplitModel(tiny_model("vit"), SplitConfig.from_plan(deep))


def test_a_cut_beyond_the_model_is_refused_before_anything_changes() -> None:
    model = tiny_model("gpt2")
    names = [name for name, _ in model.named_parameters()]
    with pytest.raises(InputError, match=r"device-1: 4 blocks, but a device holds at most L-1 = 3"):
        SplitModel(model, SplitConfig.of([1, 4]))
    with pytest.raises(InputError, match=r"rank_pattern: block 9"):
        SplitModel(model, SplitConfig.of(1, lora={"rank_pattern": {9: 2}}))
    with pytest.raises(InputError, match=r"'W_pack' names no module of a block.*attn.c_attn"):
        SplitModel(model, SplitConfig.of(1, lora={"target_modules": ["W_pack"]}))
    with pytest.raises(InputError, match="'ears' is no head of this model"):
        SplitModel(model, SplitConfig.of(1, lora={"trained_modules": ["ears"]}))
    assert [name for name, _ in model.named_parameters()] == names
    SplitModel(model, SplitConfig.of([1, 3]))
    with pytest.raises(InputError, match="has adapters already"):
        SplitModel(model, SplitConfig.of([1, 3]))


def test_chosen_targets_get_the_adapters() -> None:
    lora = {"target_modules": ["mlp.c_fc", "attn.c_proj"], "rank": 2}
    split = SplitModel(tiny_model("gpt2"), SplitConfig.of(2, lora=lora))
    names = split.devices["device-0"].adapters(range(2))
    assert {name.split(".", 1)[1].rsplit(".", 1)[0] for name in names} == {
        "mlp.c_fc", "attn.c_proj",
    }  # fmt: skip
    assert len(names) == 8


def test_models_without_one_block_list_are_refused() -> None:
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2)
    )
    with pytest.raises(InputError, match="encoder-decoder"):
        find_blocks(t5)
    shared = tiny_model("gpt2")
    shared.transformer.h[1] = shared.transformer.h[0]
    with pytest.raises(InputError, match="not called once each in order"):
        find_blocks(shared)
    single = BertForSequenceClassification(
        BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                   intermediate_size=8)
    )  # fmt: skip
    with pytest.raises(InputError, match="at least 2 blocks"):
        find_blocks(single)
    other = tiny_model("gpt2")
    other.config.n_layer = 3
    with pytest.raises(
        InputError, match=r"one list of 3 blocks is needed, found none.*conformance"
    ):
        find_blocks(other)


def test_a_model_by_configuration_file_is_seeded(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    tiny_model("llama").config.to_json_file(path)
    one, same, other = (
        load_base_model(path, task="causal-lm", seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])
    half = load_base_model(path, task="causal-lm", dtype="bfloat16")
    assert half.dtype == torch.bfloat16


def test_a_half_precision_model_trains(tmp_path: Path) -> None:
    model = load_base_model(tiny_model("llama").config, task="causal-lm", dtype="bfloat16")
    split = SplitModel(model, SplitConfig.of(2, optimizer={"learning_rate": 0.01}))
    batch = tiny_batch("llama")
    report = split.train_step({"device-0": batch})
    assert report.uplink_bytes["device-0"] < 2 * 3 * 9 * 16 + 100, "two bytes per element"
    for _ in range(20):
        last = split.train_step({"device-0": batch}).losses["device-0"]
    assert last < report.losses["device-0"]


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_base_model(tmp_path / "nowhere")
    with pytest.raises(InputError, match="does not exist"):
        load_base_model("./models/mine", task="causal-lm")
    with pytest.raises(InputError, match=r"holds no config.json"):
        load_base_model(tmp_path)
    with pytest.raises(InputError, match=r"only local files were looked at"):
        load_base_model("someone/never-downloaded", task="causal-lm", local_files_only=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "gpt22"}))
    with pytest.raises(UnknownNameError, match=r"unknown model type.*'gpt22'.*mean 'gpt2'"):
        load_base_model(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="names no model_type"):
        load_base_model(path)
    with pytest.raises(InputError, match="no head for task 'image-classification'"):
        load_base_model(GPT2Config(), task="image-classification")
    with pytest.raises(UnknownNameError, match="task 'chess'"):
        load_base_model(GPT2Config(), task="chess")
    with pytest.raises(InputError, match="give a task"):
        load_base_model(GPT2Config())
    with pytest.raises(UnknownNameError, match="dtype 'float31'"):
        load_base_model(GPT2Config(n_layer=2), task="causal-lm", dtype="float31")
    with pytest.raises(InputError, match=r"folder .* does not exist"):
        SplitModel.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(InputError, match="needs a SplitConfig"):
        SplitModel.from_pretrained(PretrainedConfig())


def test_a_folder_with_pickled_weights_is_refused(tmp_path: Path) -> None:
    model = tiny_model("gpt2")
    model.config.architectures = ["GPT2LMHeadModel"]
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_base_model(tmp_path)
