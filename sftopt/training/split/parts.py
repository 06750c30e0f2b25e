"""The two sides of the cut. Each owns its parameters and optimiser; in and out go only bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.training.split import known
from sftopt.training.split.averaging import average_adapters, fit_rank
from sftopt.training.split.boundary import BoundaryCodec
from sftopt.training.split.config import OptimizerSettings
from sftopt.training.split.errors import DivergedError, WireError
from sftopt.training.split.forward_keys import ForwardKeys
from sftopt.training.split.lora import stack_adapters
from sftopt.training.split.messages import pack_adapters, unpack_adapters
from sftopt.training.split.optimizing import make_optimizer, prepare_gradients
from sftopt.training.split.phases import Phase, PhaseClock
from sftopt.training.split.side import label_classes, pack_side, unpack_side
from sftopt.training.split.stack import BlockStack, capturing_at, entering_at
from sftopt.training.split.stand_ins import (
    NO_LOSS,
    configured_image_size,
    logits_of,
    server_inputs,
    to_device,
)

Batch = Mapping[str, Any]
"""What the model's forward takes (``input_ids`` or ``pixel_values`` ...), and ``labels``."""


@dataclass(frozen=True)
class Upload:
    """What a device sends in one step."""

    boundary: bytes
    side: bytes


@dataclass(frozen=True)
class Served:
    """What the server made of one device's upload."""

    gradient: bytes
    loss: float
    """Mean loss of the batch, in nats."""


@dataclass(frozen=True)
class Evaluated:
    """A forward pass without training. ``logits``: (batch, classes) or (batch, tokens, words)."""

    loss: float
    logits: torch.Tensor


class _Part:
    """A model with frozen base weights, adapters, and an optimiser of its own."""

    def __init__(
        self, model: PreTrainedModel, peft_model: PeftModel | None, stack: BlockStack
    ) -> None:
        self.model = model
        """The task model, adapters inside."""
        self.peft_model: PeftModel | None = peft_model
        """The same wrapped by peft; None on a device that holds no block."""
        self.stack = stack
        self.optimizer: torch.optim.Optimizer | None = None
        self.adapter_dtype: torch.dtype | None = None
        """In which adapters travel; None: as they are."""
        self._clip_norm: float | None = None
        self._steps_held = 0
        """Backward passes whose gradients lie in the parameters."""
        self.clock = PhaseClock(model.device)
        if hasattr(model.config, "use_cache"):
            model.config.use_cache = False  # keys and values are of no use to training
        if peft_model is None:
            model.requires_grad_(False)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def holds_gradients(self) -> bool:
        """Whether a step waits for its update."""
        return self._steps_held > 0

    def set_optimizer(self, settings: OptimizerSettings) -> None:
        """A fresh optimiser over the trained parameters; none where there are none."""
        self.optimizer = make_optimizer(settings, list(self.trainable().values()))
        self._clip_norm = settings.clip_norm

    def update(self) -> None:
        """One optimiser step from the mean of the gradients held, which are cleared.

        A part clips its own gradient: the norm of all parts' together is known to none.
        """
        steps, self._steps_held = self._steps_held, 0
        if self.optimizer is not None:
            with self.clock.measure(Phase.UPDATE):
                prepare_gradients(self.trainable().values(), steps, self._clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)

    def adapters(self, numbers: Iterable[int]) -> dict[str, torch.Tensor]:
        """Copies of the adapters of some blocks."""
        held = stack_adapters(self.model, self.stack, numbers)
        return {name: parameter.detach().clone() for name, parameter in held.items()}

    def load_adapters(self, values: Mapping[str, torch.Tensor], numbers: Iterable[int]) -> None:
        """Copy values into the adapters of exactly these blocks, cut to the rank held here.

        Raises WireError where names or shapes do not fit; nothing is then changed.
        """
        held = stack_adapters(self.model, self.stack, numbers)
        if set(values) != set(held):
            odd = sorted(set(values) ^ set(held))
            raise WireError(f"adapters do not match the blocks held here: {', '.join(odd[:4])}.")
        fitted = {}
        for name, parameter in held.items():
            rank = parameter.shape[0 if name.endswith("lora_A") else -1]
            try:
                fitted[name] = fit_rank(name, values[name], rank)
            except (IndexError, RuntimeError):
                raise WireError(f"adapter {name}: its rank is below the {rank} here.") from None
            if fitted[name].shape != parameter.shape:
                raise WireError(
                    f"adapter {name}: shape {tuple(values[name].shape)} does not fit "
                    f"{tuple(parameter.shape)}."
                )
        with torch.no_grad():
            for name, parameter in held.items():
                parameter.copy_(fitted[name])


class DevicePart(_Part):
    """A device: embedding, the first ``cut`` blocks, their adapters. It sees no loss."""

    def __init__(
        self,
        device_id: str,
        cut: int,
        model: PreTrainedModel,
        peft_model: PeftModel | None,
        stack: BlockStack,
        codec: BoundaryCodec,
        keys: ForwardKeys,
    ) -> None:
        super().__init__(model, peft_model, stack)
        self.keys = keys
        self.id = device_id
        self.cut = cut
        self.codec = codec
        self._boundary: torch.Tensor | None = None
        self._support: Any = None

    def forward(self, batch: Batch, seed: int) -> Upload:
        """Run the blocks held here and encode the boundary; keeps the graph for `backward`.

        ``seed`` feeds what is random in the codec. Raises InputError for a batch without its
        model's input, DivergedError where the boundary is not finite.
        """
        with self.clock.measure(Phase.DEVICE_FORWARD):
            boundary = self.run(batch)
        if not torch.isfinite(boundary).all():
            raise step_diverged(self.id, "the activation at the cut is not finite")
        with self.clock.measure(Phase.DEVICE_ENCODE):
            sent = known.compress(self.codec, boundary.detach(), seed, batch)
        self._boundary, self._support = boundary, sent.support
        return Upload(sent.payload, self.side_message(batch, boundary.shape[1]))

    @torch.no_grad()
    def infer(self, batch: Batch, seed: int) -> Upload:
        """Run `forward` in evaluation mode and without a graph."""
        mode = self.model.training
        self.model.train(False)
        try:
            boundary = self.run(batch)
            sent = known.compress(self.codec, boundary, seed, batch)
        finally:
            known.discard(self.codec)
            self.model.train(mode)
        return Upload(sent.payload, self.side_message(batch, boundary.shape[1]))

    def backward(self, payload: bytes) -> None:
        """Carry the server's gradient into the adapters held here.

        Raises WireError where no forward waits or the shape differs.
        """
        boundary = self._boundary
        if boundary is None:
            raise WireError(f"device {self.id}: a gradient came, but no forward pass waits for it.")
        with self.clock.measure(Phase.DEVICE_DECODE):
            gradient = self.codec.decode_gradient(payload, self._support)
            gradient = gradient.to(boundary.device, boundary.dtype)
        if gradient.shape != boundary.shape:
            raise WireError(
                f"device {self.id}: the gradient's shape {tuple(gradient.shape)} is not the "
                f"activation's {tuple(boundary.shape)}."
            )
        self._boundary = self._support = None
        if boundary.requires_grad:  # with no block here nothing is trained below the cut
            with self.clock.measure(Phase.DEVICE_BACKWARD):
                torch.autograd.backward(boundary, gradient)
            self._steps_held += 1

    def reset(self) -> None:
        """Forget a step that was not finished."""
        self._boundary = self._support = None
        self._steps_held = 0
        known.discard(self.codec)
        self.model.zero_grad(set_to_none=True)

    def adapter_message(self) -> bytes:
        """Write the adapters of all blocks held here as a message."""
        return pack_adapters(self.adapters(range(self.cut)), self.adapter_dtype)

    def load_adapter_message(self, payload: bytes) -> None:
        """Take adapters from the server. Raises WireError where they do not fit."""
        own = self.adapters(range(self.cut))
        self.load_adapters(unpack_adapters(payload, own, self.adapter_dtype), range(self.cut))

    def run(self, batch: Batch) -> torch.Tensor:
        """Return the boundary activation of a batch. Raises InputError for keys that cannot be."""
        try:
            inputs = self.keys.device_inputs(batch)
        except InputError as error:
            raise InputError(f"device {self.id}: {error}") from None
        with capturing_at(self.model, self.stack, self.cut) as captured:
            self.model.base_model(**to_device(inputs, self.model.device))
        return captured[0]

    def side_message(self, batch: Batch, tokens: int | None = None) -> bytes:
        """Write what the server needs of a batch besides the boundary, in its smallest form.

        ``tokens``: of the boundary, where it may be longer than the text.
        """
        side = self.keys.side(batch, tokens, configured_image_size(self.model))
        if known.SAMPLES in batch and known.remembers(self.codec):
            side[known.SAMPLES] = batch[known.SAMPLES]
        return pack_side(side, label_classes(self.model))


class ServerPart(_Part):
    """The server: one shared model. For a device it uses the blocks from that device's cut on.

    The gradients of a step are summed over the devices served, block by block as
    SUM w_n g_n / SUM w_n over those whose data ran through the server's copy. With one plain
    gradient step and equation (8) after it this is one step on SUM w_n loss_n of the whole model.
    """

    def __init__(
        self,
        cuts: Mapping[str, int],
        model: PreTrainedModel,
        peft_model: PeftModel,
        stack: BlockStack,
        codecs: Mapping[str, BoundaryCodec],
        keys: ForwardKeys,
    ) -> None:
        super().__init__(model, peft_model, stack)
        self.keys = keys
        self.peft_model: PeftModel = peft_model
        self.cuts = dict(cuts)
        self.codecs = dict(codecs)
        self._sums: dict[str, torch.Tensor] = {}
        self._mass: dict[str, float] = defaultdict(float)

    def serve(
        self, device_id: str, boundary: bytes, side: bytes, weight: float, seed: int
    ) -> Served:
        """Forward and backward for one device; its share of the gradients is added up.

        Raises DivergedError where loss or gradient is not finite (nothing is then added),
        WireError for messages that do not fit.
        """
        codec, told = self.codecs[device_id], unpack_side(side)
        with self.clock.measure(Phase.SERVER_DECODE):
            received = known.expand(codec, boundary, told)
            hidden = received.tensor.to(self.model.device, self.model.dtype).requires_grad_()
        told = known.side_behind(codec, told, hidden.shape[1])
        inputs = self.inputs(device_id, hidden, told)
        names, parameters = zip(*self.trainable().items(), strict=True)
        # gradient checkpointing runs blocks again on the way back: with the entry still in place
        with (
            self.clock.measure(Phase.SERVER_COMPUTE),
            entering_at(self.model, self.stack, self.cuts[device_id], hidden),
        ):
            loss, _ = self.run(inputs)
            gradients = torch.autograd.grad(loss, (hidden, *parameters), allow_unused=True)
        if not torch.isfinite(loss):
            raise step_diverged(device_id, f"the loss is {loss.item()}")
        if not all(g is None or bool(torch.isfinite(g).all()) for g in gradients):
            raise step_diverged(device_id, "a gradient on the server is not finite")
        for name, gradient in zip(names, gradients[1:], strict=True):
            if gradient is not None:
                self._add(name, gradient, weight)
        with self.clock.measure(Phase.SERVER_ENCODE):
            sent = codec.compress_gradient(gradients[0], received.support, seed=seed)
        return Served(sent.payload, loss.item())

    @torch.no_grad()
    def evaluate(self, device_id: str, boundary: bytes, side: bytes) -> Evaluated:
        """Forward only, in evaluation mode: loss and logits for one device's upload."""
        mode = self.model.training
        self.model.train(False)
        try:
            codec, told = self.codecs[device_id], unpack_side(side)
            received = known.expand(codec, boundary, told)
            known.discard(codec)
            hidden = received.tensor.to(self.model.device, self.model.dtype)
            told = known.side_behind(codec, told, hidden.shape[1])
            inputs = self.inputs(device_id, hidden, told)
            with entering_at(self.model, self.stack, self.cuts[device_id], hidden):
                loss, logits = self.run(inputs)
        finally:
            self.model.train(mode)
        return Evaluated(loss.item(), logits)

    def step(self) -> None:
        """Take one optimiser step from all devices served since the last one."""
        parameters = self.trainable()
        for name, value in self._sums.items():
            parameters[name].grad = value / self._mass[name]
        self.reset_sums()
        self.update()

    def reset_sums(self) -> None:
        """Forget what the devices served since the last step added."""
        for codec in self.codecs.values():
            known.discard(codec)
        self._sums = {}
        self._mass = defaultdict(float)

    def average(self, copies: Sequence[tuple[float, Mapping[str, torch.Tensor]]]) -> None:
        """Average the adapters over ``copies`` with their weights, equation (8), and keep them."""
        own = self.adapters(range(self.stack.count))
        self.load_adapters(average_adapters(own, copies), range(self.stack.count))

    def adapter_message(self, device_id: str, rank: int | None = None) -> bytes:
        """Write the server's adapters of the blocks that a device holds as a message, its first
        ``rank`` directions where that is given.
        """
        values = self.adapters(range(self.cuts[device_id]))
        if rank is not None:
            values = {name: fit_rank(name, value, rank) for name, value in values.items()}
        return pack_adapters(values, self.adapter_dtype)

    def _add(self, name: str, gradient: torch.Tensor, weight: float) -> None:
        if name in self._sums:
            self._sums[name].add_(gradient, alpha=weight)
        else:
            self._sums[name] = gradient * weight
        self._mass[name] += weight

    def inputs(
        self, device_id: str, hidden: torch.Tensor, side: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what the forward is given for an activation. Raises WireError and InputError."""
        if hidden.ndim != 3 or hidden.shape[-1] != self.stack.hidden:
            raise WireError(
                f"device {device_id}: an activation of shape {tuple(hidden.shape)} came; "
                f"(batch, tokens, {self.stack.hidden}) is needed."
            )
        missing = [name for name in self.keys.labels if name not in side]
        if len(missing) == len(self.keys.labels):
            raise InputError(
                f"device {device_id}: the batch has no '{missing[0]}'; the loss needs them."
            )
        told = {name: value for name, value in side.items() if name != known.SAMPLES}
        return server_inputs(self.model, self.keys, hidden, told)

    def run(self, inputs: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return loss and logits. Raises InputError where the model has no loss."""
        output = self.model(**inputs)
        loss = getattr(output, "loss", None)
        if loss is None:
            raise InputError(NO_LOSS.format(name=type(self.model).__name__))
        return loss, logits_of(output)


def step_diverged(device_id: str, what: str) -> DivergedError:
    """Make the error for a step whose numbers are not finite."""
    return DivergedError(
        f"device {device_id}: {what}. Lower the learning rate, or go back to the last checkpoint; "
        "no parameter was changed by this step."
    )
