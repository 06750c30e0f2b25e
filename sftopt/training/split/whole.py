"""A device that holds the whole model: order federated, where nothing crosses a boundary."""

from __future__ import annotations

import torch

from sftopt.training.split.boundary import pack, unpack
from sftopt.training.split.errors import WireError
from sftopt.training.split.parts import Batch, DevicePart, Evaluated, ServerPart, step_diverged
from sftopt.training.split.phases import Phase
from sftopt.training.split.stand_ins import logits_of, to_device

_HEAD = "head"
"""Name of the one tensor of a head's message."""


class WholeDevice(DevicePart):
    """All L blocks and the head. It sees its labels and its loss; steps need no server."""

    def train(self, batch: Batch) -> float:
        """Run forward and backward on a batch and keep the gradients; return the loss in nats.

        Raises DivergedError where loss or gradient is not finite.
        """
        inputs = to_device(self.keys.given(batch), self.model.device)
        with self.clock.measure(Phase.DEVICE_FORWARD):
            loss = self.model(**inputs).loss
        if not torch.isfinite(loss):
            raise step_diverged(self.id, f"the loss is {loss.item()}")
        with self.clock.measure(Phase.DEVICE_BACKWARD):
            torch.autograd.backward(loss)
        grads = [p.grad for p in self.trainable().values() if p.grad is not None]
        if not all(bool(torch.isfinite(grad).all()) for grad in grads):
            raise step_diverged(self.id, "a gradient is not finite")
        self._steps_held += 1
        return float(loss.item())

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> Evaluated:
        """Forward only, in evaluation mode: loss and logits."""
        mode = self.model.training
        self.model.train(False)
        try:
            output = self.model(**to_device(self.keys.given(batch), self.model.device))
        finally:
            self.model.train(mode)
        return Evaluated(output.loss.item(), logits_of(output))


def head_of(part: WholeDevice | ServerPart) -> dict[str, torch.nn.Parameter]:
    """Return what is trained besides adapters, by name: a classifier's head."""
    return {name: value for name, value in part.trainable().items() if ".lora_" not in name}


def head_message(part: WholeDevice | ServerPart) -> bytes:
    """Write the head as one flat tensor: both ends know its parameters. It must have some.

    It travels in the type that adapters do.
    """
    head = head_of(part)
    flat = torch.cat([head[name].detach().flatten().cpu() for name in sorted(head)])
    return pack({_HEAD: flat if part.adapter_dtype is None else flat.to(part.adapter_dtype)})


def read_head(payload: bytes, part: WholeDevice | ServerPart) -> torch.Tensor:
    """Read a head's message as a flat tensor. Raises WireError where it is not ``part``'s."""
    tensors = unpack(payload)
    flat, wanted = tensors.get(_HEAD), sum(value.numel() for value in head_of(part).values())
    if set(tensors) != {_HEAD} or flat is None or flat.ndim != 1 or flat.numel() != wanted:
        raise WireError(f"a head's message is not one tensor of {wanted} parameters.")
    return flat


def load_head(part: WholeDevice | ServerPart, flat: torch.Tensor) -> None:
    """Copy a flat tensor into the head."""
    head, start = head_of(part), 0
    with torch.no_grad():
        for name in sorted(head):
            count = head[name].numel()
            head[name].copy_(flat[start : start + count].reshape(head[name].shape))
            start += count
