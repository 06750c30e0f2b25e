"""The check at construction: every cut in use gives the unsplit model's loss and gradients.

Run once on a crafted batch in 32 bits, without dropout, codec and channel, with adapters at seeded
values that are not zero (with LoRA's B = 0 every gradient of A is 0, which hides faults). The
parts' parameters, modes and the random numbers of the process are as before when it is done.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.training.failures import first_line, is_out_of_memory
from sftopt.training.split.crafted import crafted_batch
from sftopt.training.split.forward_keys import DEVICE_KEYS, SENT_KEYS, ForwardKeys, is_causal
from sftopt.training.split.lora import stack_adapters
from sftopt.training.split.parts import DevicePart, ServerPart
from sftopt.training.split.side import IGNORED_LABEL, unpack_side
from sftopt.training.split.stack import BlockStack, entering_at, in_evaluation
from sftopt.training.split.stand_ins import NO_LOSS, logits_of

PROBE_TOLERANCE = 1e-5
"""Largest relative difference of loss and of gradients, on either side of the cut."""

_SEED = 20260
"""Of the batch and of the adapters' values in the check."""
_STIR = 0.1
"""Standard deviation of the adapters' values in the check."""


class Probed(Protocol):
    """A split model as the check needs it; :class:`SplitModel` is one."""

    stack: BlockStack
    server: ServerPart
    devices: dict[str, DevicePart]
    keys: ForwardKeys


class BaseState:
    """A base model as it was before it got adapters, to be put back where a split is refused."""

    def __init__(self, base: PreTrainedModel) -> None:
        self._trained = {name: p.requires_grad for name, p in base.named_parameters()}
        self._use_cache = getattr(base.config, "use_cache", None)

    def put_back(self, wrapped: PeftModel) -> None:
        """Take the adapters out of the base model that ``wrapped`` holds."""
        base = cast(PreTrainedModel, wrapped.unload())
        for name, parameter in base.named_parameters():
            parameter.requires_grad_(self._trained[name])
        if self._use_cache is not None:
            base.config.use_cache = self._use_cache
        if hasattr(base, "peft_config"):
            del base.peft_config


@dataclass(frozen=True)
class Findings:
    """What a check found out about the keys of batches."""

    withheld: frozenset[str] = frozenset()
    """Keys that a batch may only have where the server gets them."""
    required: frozenset[str] = frozenset()
    """Keys that a batch must have, although the unsplit model can do without."""
    shifted: bool = False
    """Whether the label of the first token is never counted: it is predicted from none."""


def probe(split: Probed) -> Findings:
    """Check every cut in use, and one of them without what a batch may lack.

    Raises InputError, naming the model type and why, where a cut's loss or gradients differ from
    the unsplit model's or cannot be computed.
    """
    parts: list[DevicePart | ServerPart] = [split.server, *split.devices.values()]
    with _undisturbed([part.model for part in parts]):
        _stir(split)
        batch = crafted_batch(split.server.model, split.keys, _SEED)
        _check_loss(split, batch)
        _check_causality(split, batch)
        withheld = [name for name in DEVICE_KEYS if name in batch]
        sent = [name for name in withheld if name in split.keys.side_keys]
        fault = _fault(split, batch)
        if fault is None:
            return Findings(frozenset(), _required(split, batch), _shifts(split, batch))
        reduced = {name: value for name, value in batch.items() if name not in withheld}
        if len(sent) < len(withheld) and _fault(split, reduced) is None:
            unsent = frozenset(withheld) - set(sent)
            return Findings(unsent, _required(split, reduced), _shifts(split, reduced))
        raise InputError(fault + _way_out(split))


def _required(split: Probed, batch: Mapping[str, Any]) -> frozenset[str]:
    """Keys of ``batch`` without which the split alone goes wrong."""
    found = set()
    for name in (*DEVICE_KEYS, "attention_mask", *split.keys.side_keys):
        less = {key: value for key, value in batch.items() if key != name}
        if name in batch and _runs(split, less) and _fault(split, less, cuts=1) is not None:
            found.add(name)
    return frozenset(found)


@torch.no_grad()
def _shifts(split: Probed, batch: Mapping[str, Any]) -> bool:
    """Whether the loss leaves out the first label, as most causal language models do (not BART)."""
    if not is_causal(split.server.model):
        return False
    labels = torch.full_like(batch["labels"], IGNORED_LABEL)
    labels[:, 0] = batch[split.keys.main][:, 0]
    loss, _ = split.server.run({**batch, "labels": labels})
    return not bool(torch.isfinite(loss) and loss > 0.0)


def _runs(split: Probed, batch: Mapping[str, Any]) -> bool:
    """Whether the unsplit model takes a batch."""
    try:
        with torch.no_grad():
            split.server.model(**batch)
    except Exception as error:  # foreign code: whatever it says, it says no
        if is_out_of_memory(error):
            raise
        return False
    return True


def _fault(
    split: Probed,
    batch: Mapping[str, Any],
    keys: ForwardKeys | None = None,
    cuts: int | None = None,
) -> str | None:
    """What differs, at the first cut that differs; None where all, or the first ``cuts``, agree."""
    keys = keys or split.keys
    truth_loss, truth = _unsplit(split, batch)
    done: set[int] = set()
    for device in split.devices.values():
        if device.cut in done or len(done) == cuts:
            continue
        done.add(device.cut)
        try:
            loss, found = _split(split, device, batch, keys)
        except Exception as error:  # foreign code: whatever it says is the reason
            if is_out_of_memory(error):
                raise
            return (
                f"model type '{keys.model_type}' cannot be split at block {device.cut}: run in two "
                f"parts it fails ({type(error).__name__}: {first_line(error)})."
            )
        off = max(
            abs(loss - truth_loss) / max(abs(truth_loss), 1e-30),
            *(_difference(found[side], truth, device) for side in (0, 1)),
        )
        if not off <= PROBE_TOLERANCE:
            return (
                f"model type '{keys.model_type}' cannot be split at block {device.cut}: loss or "
                f"gradients are {off:.1e} off the unsplit model's (at most {PROBE_TOLERANCE:g}); "
                "something that its blocks or its head behind the cut read does not cross it."
            )
    return None


def _way_out(split: Probed) -> str:
    """Which key would mend it, sent to the server: the tokens themselves, or another mask."""
    keys = split.keys
    masks = {name for name in keys.task if name.endswith("attention_mask")}
    for name in ("input_ids", *sorted(masks - set(SENT_KEYS))):
        if name in keys.side_keys or name not in keys.task:
            continue
        more = replace(keys, side_keys=(*keys.side_keys, name))
        batch = crafted_batch(split.server.model, more, _SEED)
        if name in batch and _fault(split, batch, more) is None:
            return (
                f" With '{name}' in the batch and sent it is equal: name it in "
                f"SplitConfig.side_keys (--side-keys {name})."
            )
    return ""


def _unsplit(split: Probed, batch: Mapping[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the whole model, on the server's copy."""
    server = split.server
    names, parameters = zip(*server.trainable().items(), strict=True)
    loss, _ = server.run(batch)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return loss.item(), _filled(names, parameters, gradients)


def _split(
    split: Probed, device: DevicePart, batch: Mapping[str, Any], keys: ForwardKeys
) -> tuple[float, tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """Loss, and the gradients of the device's and of the server's trained parameters."""
    server = split.server
    own_keys, device.keys, server.keys = (device.keys, server.keys), keys, keys
    try:
        boundary = device.run(batch)
        side = unpack_side(device.side_message(batch, boundary.shape[1]))
        hidden = boundary.detach().clone().requires_grad_()
        inputs = server.inputs(device.id, hidden, side)
    finally:
        device.keys, server.keys = own_keys
    trained = server.trainable()
    with entering_at(server.model, split.stack, device.cut, hidden):
        loss, _ = server.run(inputs)
        first, *rest = torch.autograd.grad(loss, (hidden, *trained.values()), allow_unused=True)
    behind = {
        name: value
        for name, value in _filled(trained, trained.values(), rest).items()
        if (number := _block(name, split.stack)) is None or number >= device.cut
    }
    held = device.trainable()
    if not held or not boundary.requires_grad:
        return loss.item(), ({}, behind)
    below = torch.autograd.grad(boundary, tuple(held.values()), first, allow_unused=True)
    return loss.item(), (_filled(held, held.values(), below), behind)


def _filled(names: Any, parameters: Any, gradients: Any) -> dict[str, torch.Tensor]:
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for name, parameter, gradient in zip(names, parameters, gradients, strict=True)
    }


def _difference(
    found: Mapping[str, torch.Tensor], truth: Mapping[str, torch.Tensor], device: DevicePart
) -> float:
    """|g - g'| / |g| over one side; a device's smaller rank is compared in what it has."""
    square, norm = 0.0, 0.0
    for name, value in found.items():
        true = truth[name]
        for axis, size in enumerate(value.shape):
            true = true.narrow(axis, 0, size)
        square += float((value - true).double().square().sum())
        norm += float(true.double().square().sum())
    if square == 0.0:
        return 0.0
    return (square / norm) ** 0.5 if norm > 0.0 else float("inf")


def _block(name: str, stack: BlockStack) -> int | None:
    """The number of the block a parameter belongs to; None for a head."""
    marker = f"{stack.path}."
    return int(name.split(marker, 1)[1].split(".", 1)[0]) if marker in name else None


def _check_loss(split: Probed, batch: Mapping[str, Any]) -> None:
    """The unsplit model must have a loss of the crafted batch, and gradients."""
    keys, model = split.keys, split.server.model
    try:
        output = model(**batch)
        loss = getattr(output, "loss", None)
        if loss is not None:
            torch.autograd.grad(loss, tuple(split.server.trainable().values()), allow_unused=True)
    except Exception as error:  # foreign code: whatever it says is the reason
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"model type '{keys.model_type}' ({type(model).__name__}) cannot be checked: unsplit "
            f"it fails on a small batch of its kind ({type(error).__name__}: {first_line(error)})."
        ) from None
    if loss is None:
        raise InputError(NO_LOSS.format(name=type(model).__name__))


def _check_causality(split: Probed, batch: Mapping[str, Any]) -> None:
    """A causal language model must not see the token it predicts."""
    model, keys = split.server.model, split.keys
    if not is_causal(model):
        return
    ids = batch["input_ids"]
    other = ids.clone()
    other[:, -1] = ids[:, 0]
    other[:, -1] += (other[:, -1] == ids[:, -1]).long()
    with torch.no_grad():
        ones = torch.ones_like(ids)
        first, second = (
            logits_of(model(input_ids=one, attention_mask=ones))[:, :-1] for one in (ids, other)
        )
    if float((first - second).abs().max()) > PROBE_TOLERANCE * float(first.abs().max()):
        decoder = hasattr(model.config, "is_decoder") and not model.config.is_decoder
        way_out = "Set is_decoder=True in its configuration, or take" if decoder else "Take"
        raise InputError(
            f"model type '{keys.model_type}': {type(model).__name__} is a causal language model, "
            "but its attention looks both ways, so that every token sees the one it predicts. "
            f"{way_out} the head of a masked language model."
        )


@torch.no_grad()
def _stir(split: Probed) -> None:
    """Give all adapters values that are not zero; a device's are the server's."""
    server, count = split.server, split.stack.count
    generator = torch.Generator().manual_seed(_SEED)
    held = stack_adapters(server.model, split.stack, range(count))
    smallest = {
        number: min(
            (_rank(device, number) for device in split.devices.values() if device.cut > number),
            default=None,
        )
        for number in range(count)
    }
    for name, parameter in held.items():
        if not name.endswith(("lora_A", "lora_B")):
            continue  # DoRA's magnitudes are not zero as they are
        drawn = _STIR * torch.randn(parameter.shape, generator=generator)
        rank = smallest[int(name.split(".", 1)[0])]
        if rank is not None and name.endswith("lora_B"):
            drawn[:, rank:] = 0.0  # directions that some device lacks do nothing
        parameter.copy_(drawn)
    for device in split.devices.values():
        device.load_adapters(server.adapters(range(device.cut)), range(device.cut))


def _rank(device: DevicePart, number: int) -> int:
    held = stack_adapters(device.model, device.stack, [number])
    return max(value.shape[0] for name, value in held.items() if name.endswith("lora_A"))


@contextmanager
def _undisturbed(models: Sequence[PreTrainedModel]) -> Iterator[None]:
    """Evaluate in 32 bits inside; parameters, buffers, modes, configurations come back after it."""
    tensors = {
        id(value): value for model in models for value in (*model.parameters(), *model.buffers())
    }
    kept = [
        (value, value.data, value.detach().clone() if changes else None)
        for value, changes in (
            (v, v.requires_grad or not isinstance(v, nn.Parameter)) for v in tensors.values()
        )
    ]
    configs = {id(model.config): (model.config, copy.copy(vars(model.config))) for model in models}
    cuda = {model.device for model in models if model.device.type == "cuda"}
    with ExitStack() as around, torch.no_grad():
        around.enter_context(torch.random.fork_rng(devices=list(cuda)))
        around.enter_context(in_evaluation(*models))
        try:
            for value, data, _ in kept:
                if value.dtype in (torch.float16, torch.bfloat16):
                    value.data = data.float()
            with torch.enable_grad():
                yield
        finally:
            for value, data, copied in kept:
                value.data = data
                if copied is not None:
                    value.copy_(copied)
            for config, state in configs.values():
                vars(config).clear()
                vars(config).update(state)
