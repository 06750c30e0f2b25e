"""Codec off, 32 bit: the split model trains exactly what the unsplit model would train."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from sftopt.training.split import SplitConfig, SplitModel
from sftopt.training.split.lora import stack_adapters
from tests.training.split.tiny_models import (
    BLOCKS,
    FAMILIES,
    gradients,
    relative_error,
    split_of,
    tiny_batch,
    tiny_model,
    unsplit_twin,
)

pytestmark = pytest.mark.train

TOLERANCE = 1e-5


def hold_updates(split: SplitModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the gradients of a step where they are, so that they can be looked at."""
    for part in split.parts:
        monkeypatch.setattr(part, "update", lambda: None)


@pytest.mark.parametrize("cut", [0, 1, 2, BLOCKS - 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_device_has_the_gradients_of_the_unsplit_model(
    family: str, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = split_of(family, cut)
    twin = unsplit_twin(family, split)
    batch = tiny_batch(family)
    loss = twin(**batch).loss
    loss.backward()
    truth = gradients(twin)
    hold_updates(split, monkeypatch)

    report = split.train_step({"device-0": batch})

    assert report.losses["device-0"] == pytest.approx(loss.item(), rel=1e-6)
    device, server = gradients(split.devices["device-0"].model), gradients(split.server.model)
    assert not set(device) & set(server), "each adapter is trained on one side alone"
    assert set(device) | set(server) == set(truth)
    assert len(device) == len(truth_below(truth, split, cut))
    for name, value in {**device, **server}.items():
        assert truth[name].abs().max() > 0, f"{name}: the check would prove nothing"
        assert relative_error(value, truth[name]) < TOLERANCE, name


def truth_below(truth: dict[str, torch.Tensor], split: SplitModel, cut: int) -> list[str]:
    held = [f"{split.stack.path}.{number}." for number in range(cut)]
    return [name for name in truth if any(prefix in name for prefix in held)]


@pytest.mark.parametrize("family", FAMILIES)
def test_three_devices_with_different_cuts_share_one_server(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"a": 0.5, "b": 0.2, "c": 0.3}
    cuts = {"a": 1, "b": 2, "c": 3}
    split = split_of(family, cuts, weights=list(weights.values()))
    batches = {name: tiny_batch(family, seed) for seed, name in enumerate(cuts)}
    truth = {}
    for name, batch in batches.items():
        twin = unsplit_twin(family, split)
        twin(**batch).loss.backward()
        truth[name] = gradients(twin)
    hold_updates(split, monkeypatch)

    split.train_step(batches)

    for name, device in split.devices.items():
        own = gradients(device.model)
        assert len(own) == len(truth_below(truth[name], split, cuts[name]))
        for path, value in own.items():
            assert relative_error(value, truth[name][path]) < TOLERANCE, (name, path)
    for path, value in gradients(split.server.model).items():
        block = block_of(path, split)
        users = [name for name, cut in cuts.items() if cut <= block]
        assert users, f"{path}: no device uses the server's copy"
        mass = sum(weights[name] for name in users)
        mean = sum(weights[name] / mass * truth[name][path] for name in users)
        assert isinstance(mean, torch.Tensor)
        assert relative_error(value, mean) < TOLERANCE, path


def block_of(path: str, split: SplitModel) -> int:
    """The block of a parameter; behind the last one for a head."""
    marker = f"{split.stack.path}."
    return int(path.split(marker, 1)[1].split(".", 1)[0]) if marker in path else BLOCKS


@pytest.mark.parametrize("family", ["gpt2", "vit"])
def test_one_plain_step_and_averaging_are_one_step_of_the_whole_model(family: str) -> None:
    """SGD, K = 1: equation (8) after the step gives the step on the weighted mean loss."""
    weights, cuts = [0.5, 0.2, 0.3], [0, 2, 3]
    split = split_of(family, cuts, weights=weights)
    twin = unsplit_twin(family, split)
    batches = {f"device-{number}": tiny_batch(family, number) for number in range(3)}
    for weight, batch in zip(weights, batches.values(), strict=True):
        (weight * twin(**batch).loss).backward()
    torch.optim.SGD([p for p in twin.parameters() if p.requires_grad], lr=0.1).step()

    split.train_step(batches)
    split.average()

    expected = dict(twin.named_parameters())
    for name, value in split.server.trainable().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    for device_id, device in split.devices.items():
        for name, value in device.trainable().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7, msg=device_id)


@pytest.mark.parametrize("family", FAMILIES)
def test_after_one_step_lora_b_has_moved_on_both_sides(family: str) -> None:
    split = SplitModel(tiny_model(family), SplitConfig.of(2))
    sides = [(split.devices["device-0"], range(2)), (split.server, range(2, BLOCKS))]
    factors = [
        {n: p for n, p in stack_adapters(part.model, split.stack, held).items() if "lora_B" in n}
        for part, held in sides
    ]
    assert all(p.abs().max().item() == 0.0 for side in factors for p in side.values())
    split.train_step({"device-0": tiny_batch(family)})
    for side in factors:
        assert side
        assert all(p.abs().max().item() > 0.0 for p in side.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_share_no_storage_and_hold_only_their_blocks(family: str) -> None:
    split = split_of(family, [0, 2, 2])
    seen: dict[int, str] = {}
    for number, part in enumerate(split.parts):
        tensors = [*part.model.parameters(), *part.model.buffers()]
        addresses = {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}
        assert not addresses & set(seen), "a tensor is shared between two parts"
        seen.update(dict.fromkeys(addresses, str(number)))
    for device in split.devices.values():
        names = [name for name, _ in device.model.named_parameters()]
        numbers = {block_of(name, split) for name in names if f"{split.stack.path}." in name}
        assert numbers == set(range(device.cut))
        assert not any(word in name for name in names for word in ("classifier", "lm_head", "ln_f"))
    optimised = [
        {id(p) for group in part.optimizer.param_groups for p in group["params"]}
        for part in split.parts
        if part.optimizer is not None
    ]
    assert len(optimised) == 3, "the device without a block has nothing to train"
    assert sum(map(len, optimised)) == len(set().union(*optimised))


def test_each_block_runs_on_one_side_alone() -> None:
    split = split_of("mistral", {"a": 1, "b": 3})
    ran: list[tuple[str, int]] = []
    for name, part in {"server": split.server, **split.devices}.items():
        for number, block in enumerate(split.stack.blocks(part.model)):
            if next(block.parameters(), None) is not None:
                block.register_forward_hook(
                    lambda *_, name=name, number=number: ran.append((name, number))
                )
    split.train_step({"a": tiny_batch("mistral")})
    assert ran == [("a", 0), *(("server", number) for number in (1, 2, 3))]
    ran.clear()
    split.train_step({"b": tiny_batch("mistral")})
    assert ran == [*(("b", number) for number in (0, 1, 2)), ("server", 3)]


@pytest.mark.parametrize("family", FAMILIES)
def test_base_weights_stay_frozen_and_the_head_is_trained_for_classifiers(family: str) -> None:
    split = split_of(family, 2)
    before = {n: p.detach().clone() for n, p in split.server.model.named_parameters()}
    split.train_step({"device-0": tiny_batch(family)})
    changed = {n for n, p in split.server.model.named_parameters() if not torch.equal(p, before[n])}
    assert all("lora_" in name or "modules_to_save" in name for name in changed)
    assert any("classifier" in name for name in changed) == (family in ("vit", "bert"))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_changes_no_gradient(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block is run again on the way back, when it must still get the boundary as its input."""
    plain, saving = split_of(family, [1, 2]), split_of(family, [1, 2])
    saving.gradient_checkpointing_enable()
    batches = {f"device-{number}": tiny_batch(family, number) for number in range(2)}
    for split in (plain, saving):
        hold_updates(split, monkeypatch)
        split.train_step(batches)
    for one, other in zip(plain.parts, saving.parts, strict=True):
        truth, found = gradients(one.model), gradients(other.model)
        assert set(truth) == set(found)
        assert all(relative_error(found[name], truth[name]) < TOLERANCE for name in truth)


def test_the_sliding_window_matters_in_these_tests() -> None:
    batch = tiny_batch("qwen2")
    full, sliding = (tiny_model(name)(**batch).logits for name in ("qwen2", "qwen2-sliding"))
    assert not torch.allclose(full, sliding, rtol=1e-3)


def test_padding_is_seen_by_the_server() -> None:
    """The attention mask crosses: what stands under the padding changes nothing."""
    split = split_of("llama", 2)
    batch = tiny_batch("llama")
    other = {**batch, "input_ids": batch["input_ids"] + 5 * (1 - batch["attention_mask"])}
    assert not torch.equal(batch["input_ids"], other["input_ids"])
    first = split.evaluate("device-0", batch).loss
    assert split.evaluate("device-0", other).loss == pytest.approx(first, rel=1e-6)
    without = {name: value for name, value in batch.items() if name != "attention_mask"}
    without["input_ids"] = batch["input_ids"].flip(1)
    assert split.evaluate("device-0", without).loss != pytest.approx(first, rel=1e-3)


def test_a_decoder_that_classifies_sees_where_the_text_ends() -> None:
    """It looks for the padding token; the server, which has no tokens, must find the same end."""
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=37, hidden_size=16, intermediate_size=24, num_hidden_layers=4,
            num_attention_heads=4, pad_token_id=0, num_labels=3,
        )
    )  # fmt: skip
    batch = tiny_batch("llama")
    batch["labels"] = torch.tensor([0, 1, 2])
    truth = model(**batch)
    split = SplitModel(model, SplitConfig.of(2))
    found = split.evaluate("device-0", batch)
    torch.testing.assert_close(found.logits, truth.logits)
    assert found.loss == pytest.approx(truth.loss.item(), rel=1e-6)
