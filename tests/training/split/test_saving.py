"""On disk: PEFT folders that plain peft loads and generates with; stopping and going on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from sftopt.core.errors import InputError
from sftopt.training.split import (
    OptimizerSettings,
    SplitConfig,
    SplitModel,
    find_blocks,
    lora_config,
    settings_of,
)
from sftopt.training.split.kept_folders import write_checksums
from tests.training.split.tiny_models import (
    CAUSAL,
    FAMILIES,
    split_of,
    tiny_batch,
    tiny_model,
)

pytestmark = pytest.mark.train

ADAMW = OptimizerSettings(learning_rate=0.01).model_dump()


def trained(family: str, average: bool = True, **settings: object) -> SplitModel:
    split = split_of(family, [1, 3], **settings)
    for step in range(2):
        split.train_step({f"device-{k}": tiny_batch(family, 2 * step + k) for k in range(2)})
    if average:
        split.average()
    return split


def logits(model: torch.nn.Module, family: str) -> torch.Tensor:
    model.train(False)
    with torch.no_grad():
        return model(**tiny_batch(family)).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_server_is_the_whole_model_for_plain_peft(family: str, tmp_path: Path) -> None:
    split = trained(family)
    split.save_pretrained(tmp_path)
    plain = PeftModel.from_pretrained(tiny_model(family), tmp_path / "server")
    expected = split.evaluate("device-0", tiny_batch(family)).logits
    assert torch.equal(logits(plain, family), logits(split.server.model, family))
    torch.testing.assert_close(logits(plain, family), expected)
    assert not torch.allclose(logits(tiny_model(family), family), expected, rtol=1e-3)
    assert not list(tmp_path.rglob("*.bin")), "no pickles"


@pytest.mark.parametrize("family", CAUSAL)
def test_what_was_saved_generates_in_plain_peft(family: str, tmp_path: Path) -> None:
    split = trained(family)
    split.merge_adapters(tmp_path / "merged")
    plain = PeftModel.from_pretrained(tiny_model(family), tmp_path / "merged")
    prompt = tiny_batch(family)["input_ids"][:1, :4]
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(prompt)
    out = plain.generate(input_ids=prompt, attention_mask=mask, **options)
    assert out.shape == (1, 9)
    # step by step without a cache, through the split itself
    ids = prompt
    for _ in range(5):
        found = split.evaluate("device-1", {"input_ids": ids, "labels": ids}).logits[:, -1]
        found[:, 2] = -torch.inf  # min_new_tokens forbids the end
        ids = torch.cat([ids, found.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(out, ids)


@pytest.mark.parametrize("family", ["gpt2", "vit"])
def test_a_device_loads_in_plain_peft_with_its_blocks_alone(family: str, tmp_path: Path) -> None:
    split = trained(family, average=False)
    split.save_pretrained(tmp_path)
    plain = PeftModel.from_pretrained(tiny_model(family), tmp_path / "devices" / "001")
    names = [name for name, _ in plain.named_parameters() if "lora_" in name]
    device = split.devices["device-1"].trainable()
    assert len(names) == len(device)
    for name, value in device.items():
        assert torch.equal(dict(plain.get_base_model().named_parameters())[name], value)


def test_the_merged_folder_is_the_model_a_device_trains(tmp_path: Path) -> None:
    """Unequal ranks included: between two averagings, its copies below, the server's above."""
    devices = [
        {"id": "a/b", "blocks": 2, "weight": 0.5, "rank": 2},
        {"id": "c", "blocks": 3, "weight": 0.5, "rank": 5},
    ]
    config = SplitConfig.from_dict(
        {"devices": devices, "lora": {"rank": 4, "alpha": 6.0, "rank_pattern": {3: 7}}}
    )
    split = SplitModel(tiny_model("llama"), config)
    for _ in range(2):
        split.train_step({"a/b": tiny_batch("llama"), "c": tiny_batch("llama", 1)})
    found = []
    for number, name in enumerate(split.devices):
        split.merge_adapters(tmp_path / str(number), name)
        plain = PeftModel.from_pretrained(tiny_model("llama"), tmp_path / str(number))
        expected = split.evaluate(name, tiny_batch("llama")).logits
        found.append(logits(plain, "llama"))
        torch.testing.assert_close(found[-1], expected)
    assert not torch.allclose(found[0], found[1], rtol=1e-4)


def test_the_plan_exports_to_a_lora_config_for_plain_peft() -> None:
    config = SplitConfig.of({"a": 2, "b": 3}, lora={"rank": 4, "rank_pattern": {1: 8}})
    split = SplitModel(tiny_model("qwen2"), config)
    base = tiny_model("qwen2")
    exported = lora_config(config, base, split.stack, "b")
    assert isinstance(exported, LoraConfig)
    plain = get_peft_model(base, exported)
    shapes = {n: p.shape for n, p in plain.get_base_model().named_parameters() if "lora_" in n}
    assert shapes == {n: p.shape for n, p in split.devices["b"].trainable().items()}


def test_a_plain_lora_config_can_be_given() -> None:
    given = LoraConfig(r=4, lora_alpha=12, lora_dropout=0.1, target_modules=["c_attn", "c_fc"])
    config = SplitConfig.of(2, lora=settings_of(given).model_dump())
    base = tiny_model("gpt2")
    exported = lora_config(config, base, find_blocks(base))
    for name in ("r", "lora_alpha", "lora_dropout", "target_modules", "bias"):
        assert getattr(exported, name) == getattr(given, name)
    with pytest.raises(InputError, match=r"one regular expression.*trained biases"):
        settings_of(LoraConfig(target_modules=".*attn", bias="all"))


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_saved_and_loaded_is_the_same_split(family: str, tmp_path: Path) -> None:
    tiny_model(family).save_pretrained(tmp_path / "base")
    config = SplitConfig.of([0, 2], lora={"rank": 2})
    split = SplitModel.from_pretrained(tmp_path / "base", config, local_files_only=True)
    split.train_step({f"device-{k}": tiny_batch(family, k) for k in range(2)})
    split.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "devices" / "000").exists(), "it holds no block"

    again = SplitModel.from_pretrained(tmp_path / "saved", local_files_only=True)
    assert again.config == split.config.model_copy(update={"base_model": str(tmp_path / "base")})
    for one, other in zip(split.parts, again.parts, strict=True):
        left, right = dict(one.model.named_parameters()), dict(other.model.named_parameters())
        assert set(left) == set(right)
        assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_split_built_in_memory_says_how_to_load_it(tmp_path: Path) -> None:
    split = trained("gpt2")
    split.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"names no base model .* then call load_adapters"):
        SplitModel.from_pretrained(tmp_path)
    again = SplitModel(tiny_model("gpt2"), SplitConfig.from_pretrained(tmp_path))
    again.load_adapters(tmp_path)
    assert all(torch.equal(x, y) for x, y in zip(values(split), values(again), strict=True))
    with pytest.raises(InputError, match="another split"):
        split_of("gpt2", [1, 2]).load_adapters(tmp_path)


def test_saving_leaves_foreign_files_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    split = split_of("gpt2", 2)
    split.save_pretrained(tmp_path)
    split.save_pretrained(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match="no checkpoint and not empty"):
        split.save_checkpoint(tmp_path)


def run(split: SplitModel, first: int, last: int) -> list[float]:
    """Steps first..last-1 of a fixed schedule: three devices, averaging after every second."""
    losses = []
    for step in range(first, last):
        batches = {name: tiny_batch("gpt2", 10 * step + k) for k, name in enumerate(split.devices)}
        losses += split.train_step(batches).losses.values()
        if step % 2:
            split.average()
    return losses


def fresh_run(optimizer: dict[str, object], dropout: float = 0.0) -> SplitModel:
    torch.manual_seed(11)
    return split_of("gpt2", [0, 1, 3], optimizer=optimizer,
                    lora={"rank": 3, "alpha": 6.0, "dropout": dropout})  # fmt: skip


def values(split: SplitModel) -> list[torch.Tensor]:
    return [p.detach().clone() for part in split.parts for p in part.trainable().values()]


@pytest.mark.parametrize(
    "optimizer",
    [
        ADAMW,
        OptimizerSettings(name="sgd", momentum=0.9).model_dump(),
        OptimizerSettings(name="sgd").model_dump(),
    ],
    ids=["adamw", "momentum", "sgd"],
)
def test_stopped_and_resumed_is_the_same_as_never_stopped(
    optimizer: dict[str, object], tmp_path: Path
) -> None:
    whole = fresh_run(optimizer, dropout=0.3)
    losses = run(whole, 0, 5)
    stopped = fresh_run(optimizer, dropout=0.3)
    before = run(stopped, 0, 2)
    stopped.save_checkpoint(tmp_path / "checkpoint")
    before += run(stopped, 2, 3)
    stopped.save_checkpoint(tmp_path / "checkpoint", {"curve": before})

    torch.manual_seed(999)
    resumed = fresh_run(optimizer, dropout=0.3)
    assert resumed.load_checkpoint(tmp_path / "checkpoint") == {"curve": before}
    assert (resumed.steps_done, resumed.rounds_done) == (3, 1)
    assert before + run(resumed, 3, 5) == losses, "dropout draws included"
    assert all(torch.equal(x, y) for x, y in zip(values(whole), values(resumed), strict=True))


RUN_FOR_EVER = """
    import os, signal, sys
    from pathlib import Path
    import torch
    from tests.training.split.test_saving import ADAMW, fresh_run, run
    torch.set_num_threads(1)
    split = fresh_run(ADAMW)
    for step in range(1000):
        run(split, step, step + 1)
        split.save_checkpoint(Path(sys.argv[1]))
        print(split.steps_done, flush=True)
"""


def test_killed_at_any_moment_it_resumes_from_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUN_FOR_EVER), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    with child.stdout:
        for _ in range(3):
            assert child.stdout.readline().strip()
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    resumed = fresh_run(ADAMW)
    resumed.load_checkpoint(path)
    done = resumed.steps_done
    assert done >= 3
    whole = fresh_run(ADAMW)
    losses = run(whole, 0, done + 2)
    assert run(resumed, done, done + 2) == losses[3 * done :]
    assert all(torch.equal(x, y) for x, y in zip(values(whole), values(resumed), strict=True))


def test_a_write_cut_off_between_its_renames_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    split = split_of("gpt2", 2)
    split.train_step({"device-0": tiny_batch("gpt2")})
    split.save_checkpoint(path)
    path.rename(tmp_path / "checkpoint-previous")
    again = split_of("gpt2", 2)
    again.load_checkpoint(path)
    assert again.steps_done == 1


def test_a_checkpoint_that_is_not_this_splits_is_refused(tmp_path: Path) -> None:
    split = split_of("gpt2", 2, optimizer=ADAMW)
    split.train_step({"device-0": tiny_batch("gpt2")})
    path = tmp_path / "checkpoint"
    with pytest.raises(InputError, match="does not exist"):
        split.load_checkpoint(path)
    split.save_checkpoint(path)
    with pytest.raises(InputError, match="of another run: devices, optimizer differ"):
        split_of("gpt2", 1).load_checkpoint(path)
    state = json.loads((path / "state.json").read_text())
    tensors = load_file(path / "optimizers.safetensors")
    name = next(name for name in tensors if name.endswith("exp_avg"))

    def forged(match: str) -> None:
        """Another's files with checksums of their own."""
        write_checksums(path)
        with pytest.raises(InputError, match=match):
            split.load_checkpoint(path)

    (path / "state.json").write_text(json.dumps({**state, "schema_version": 7}))
    forged("has version 7")
    (path / "state.json").write_text(json.dumps({**state, "optimizers": {}}))
    forged("does not fit this split")
    (path / "state.json").write_text(json.dumps(state))
    save_file({**tensors, name: torch.zeros(7, 7)}, path / "optimizers.safetensors")
    forged(r"exp_avg' has shape \(7, 7\)")
    save_file({**tensors, "server.99.exp_avg": torch.zeros(1)}, path / "optimizers.safetensors")
    forged("does not fit this split")
    (path / "optimizers.safetensors").write_bytes(b"\x80\x04K\x01.")
    forged("cannot be read")
    save_file({"cpu": torch.zeros(3, dtype=torch.uint8)}, path / "random.safetensors")
    save_file(tensors, path / "optimizers.safetensors")
    forged("does not fit this split")


def two_checkpoints(folder: Path) -> tuple[Path, list[torch.Tensor]]:
    """A newest and a previous one; the adapters of the previous."""
    split = split_of("gpt2", [1, 2], optimizer=ADAMW)
    batches = {name: tiny_batch("gpt2") for name in split.devices}
    split.train_step(batches)
    split.save_checkpoint(folder / "checkpoint", {"curve": [1]})
    first = values(split)
    split.train_step(batches)
    split.save_checkpoint(folder / "checkpoint", {"curve": [1, 2]})
    return folder / "checkpoint", first


STATE_FILES = (
    "state.json", "checksums.json", "split_config.json", "optimizers.safetensors",
    "random.safetensors", "server/adapter_model.safetensors", "server/adapter_config.json",
    "devices/000/adapter_model.safetensors", "devices/001/adapter_config.json",
)  # fmt: skip


@pytest.mark.parametrize("name", STATE_FILES)
def test_a_flipped_bit_in_any_file_is_named_and_the_checkpoint_before_is_used(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, first = two_checkpoints(tmp_path)
    content = bytearray((path / name).read_bytes())
    place = content.rindex(b"a") if name == "checksums.json" else len(content) * 2 // 3
    content[place] ^= 1
    (path / name).write_bytes(content)
    again = split_of("gpt2", [1, 2], optimizer=ADAMW)
    assert again.load_checkpoint(path) == {"curve": [1]}
    assert again.steps_done == 1
    assert all(torch.equal(x, y) for x, y in zip(first, values(again), strict=True))
    named = "is not as it was written" if name == "checksums.json" else name
    assert named in caplog.text
    assert (tmp_path / "checkpoint-damaged" / name).read_bytes() == bytes(content)
    again.save_checkpoint(path)
    assert (tmp_path / "checkpoint-previous").is_dir()


@pytest.mark.parametrize("name", STATE_FILES)
def test_a_missing_file_is_as_bad_as_a_damaged_one(name: str, tmp_path: Path) -> None:
    path, _ = two_checkpoints(tmp_path)
    (path / name).unlink()
    again = split_of("gpt2", [1, 2], optimizer=ADAMW)
    assert again.load_checkpoint(path) == {"curve": [1]}


def test_with_both_checkpoints_damaged_both_files_are_named(tmp_path: Path) -> None:
    path, _ = two_checkpoints(tmp_path)
    (path / "state.json").write_text("{}")
    (tmp_path / "checkpoint-previous" / "random.safetensors").unlink()
    with pytest.raises(InputError, match=r"checkpoint/state\.json.*previous/random\.safetensors"):
        split_of("gpt2", [1, 2], optimizer=ADAMW).load_checkpoint(path)
    assert path.is_dir(), "nothing is moved where nothing is gained"


def test_a_damaged_save_is_refused(tmp_path: Path) -> None:
    split = split_of("gpt2", 2)
    split.save_pretrained(tmp_path)
    weights = tmp_path / "devices" / "000" / "adapter_model.safetensors"
    assert len(load_file(weights)) == 4
    other = split_of("gpt2", 2)
    shutil.copy(tmp_path / "server" / "adapter_model.safetensors", weights)
    with pytest.raises(InputError, match="does not fit this split"):
        other.load_adapters(tmp_path)
    weights.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        other.load_adapters(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match="not complete"):
        other.load_adapters(tmp_path)
