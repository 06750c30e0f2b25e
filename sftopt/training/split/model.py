"""One model split between a server and many devices, at a different block for each."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from sftopt.core.errors import InputError, SftoptError
from sftopt.core.instance import ModeKind
from sftopt.core.plan import Aggregation, Order
from sftopt.training.codec import codec_from, config_of_mode
from sftopt.training.split import known, rounds
from sftopt.training.split.boundary import BoundaryCodec, LosslessCodec
from sftopt.training.split.channel import Channel, Direction, MemoryChannel, MessageKind
from sftopt.training.split.checkpoint import read_checkpoint, write_checkpoint
from sftopt.training.split.config import CONFIG_NAME, AdapterDtype, DeviceSplit, SplitConfig
from sftopt.training.split.forward_keys import forward_keys
from sftopt.training.split.kinds import refuse_router_loss
from sftopt.training.split.loading import load_base_model
from sftopt.training.split.lora import absolute, add_adapters, lora_config
from sftopt.training.split.merging import frozen_weights
from sftopt.training.split.parts import Batch, DevicePart, Evaluated, ServerPart
from sftopt.training.split.phases import PhaseTimes, together
from sftopt.training.split.probe import BaseState
from sftopt.training.split.saving import WHOLE_NAME, load_split, save_merged, save_split
from sftopt.training.split.scores import scored
from sftopt.training.split.stack import BlockStack, enable_checkpointing, find_blocks, only_first
from sftopt.training.split.twin import checked_keys
from sftopt.training.split.whole import WholeDevice

CodecFactory = Callable[[DeviceSplit], BoundaryCodec]
"""Makes the codec of one end of one device's channel; called once for each end."""

ChannelFactory = Callable[[DeviceSplit], Channel]


@dataclass(frozen=True)
class StepReport:
    """One step, by device. Bytes are ``len(payload)`` of the messages."""

    losses: dict[str, float]
    uplink_bytes: dict[str, int]
    """Of the boundary."""
    side_bytes: dict[str, int]
    """Of labels and masks, which go up too."""
    downlink_bytes: dict[str, int]
    """Of the boundary's gradient."""
    times: dict[str, PhaseTimes]
    """The device's phases and the server's for it; optimiser steps apart."""
    server_update: PhaseTimes
    skipped: tuple[str, ...] = ()
    """Devices whose batch had no label that counts: they sent nothing and took no step."""


def planned_codec(device: DeviceSplit) -> BoundaryCodec:
    """Make the codec of a device's mode, bits and keep fraction.

    Mode ``none`` at 32 bits sends every element at the precision the model computes in, bit for
    bit; at 16 bits it rounds to float16. Raises InputError for bits no codec has.
    """
    if device.mode is ModeKind.NONE and device.bits == 32:
        return LosslessCodec()
    return codec_from(
        config_of_mode(device.mode, device.bits, device.keep_fraction, reference_bits=device.bits)
    )


class SplitModel:
    """A server part and a device part for every device, joined only by channels of bytes.

    All devices start from the server's adapters. One `train_step` is one local step of every
    device; `average` ends a round, equation (8). Adam's moments stay where they are when adapters
    are averaged.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        config: SplitConfig,
        *,
        codecs: CodecFactory = planned_codec,
        channels: ChannelFactory = lambda device: MemoryChannel(),
    ) -> None:
        """Split ``base``, which becomes the server's; devices get copies of what they hold.

        Raises InputError where a cut is not the unsplit model (:mod:`~sftopt.training.split.probe`)
        or beyond it, or the model has adapters already; ``base`` is then unchanged.
        """
        if any("lora_" in name for name, _ in base.named_parameters()):
            raise InputError("this model has adapters already; load its base anew, or merge them.")
        self.stack: BlockStack = find_blocks(base)
        config.check_against(self.stack.count)
        self.config = config
        self.keys = forward_keys(base, config.side_keys)
        refuse_router_loss(base, config)
        before = BaseState(base)
        settings = lora_config(config, base, self.stack)
        # peft changes the model in place: devices are copied off before the server gets adapters
        self.devices = {device.id: self._device(base, device, codecs) for device in config.devices}
        wrapped = add_adapters(base, settings, config.seed)
        self.server = ServerPart(
            config.cut_layers,
            base,
            wrapped,
            self.stack,
            {device.id: codecs(device) for device in config.devices},
            self.keys,
        )
        self.channels = {device.id: channels(device) for device in config.devices}
        self.weights = {device.id: device.weight for device in config.devices}
        self.steps_done = 0
        self.rounds_done = 0
        self.weights_moved = False
        """Whether frozen weights hold increments of adapters."""
        merges = config.aggregation in (Aggregation.CONCATENATION, Aggregation.CORRECTED)
        top = max(config.cut_layers.values()) if merges else 0
        self.first_weights = frozen_weights(self.server, range(top))
        """The frozen weights that may come to hold increments, as they were, by module."""
        for device_id, device in self.devices.items():
            device.load_adapter_message(self.server.adapter_message(device_id))
        narrow = config.adapter_dtype is not AdapterDtype.FLOAT32
        self.keys = checked_keys(self, before, lambda twin: SplitModel(twin, config))
        for part in self.parts:
            part.keys = self.keys
            part.set_optimizer(config.optimizer)
            part.adapter_dtype = getattr(torch, config.adapter_dtype.value) if narrow else None
        self.train()

    @staticmethod
    def from_pretrained(
        model: str | os.PathLike[str] | PretrainedConfig | PreTrainedModel,
        config: SplitConfig | None = None,
        *,
        task: str | None = None,
        dtype: str | torch.dtype | None = None,
        device_map: str | torch.device | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        codecs: CodecFactory = planned_codec,
    ) -> SplitModel:
        """Split a base model (see :func:`~sftopt.training.split.loading.load_base_model`).

        Without ``config``, ``model`` is a folder that `save_pretrained` wrote: its base model is
        loaded and its adapters put in. ``device_map`` is one device for all parts ("cpu", "cuda").
        Raises InputError for a missing folder, an unknown model type, a split that does not fit.
        """
        saved: Path | None = None
        source = model
        if config is None:
            if isinstance(model, (PretrainedConfig, PreTrainedModel)):
                raise InputError("a model built in memory needs a SplitConfig.")
            saved = Path(model)
            config = SplitConfig.from_pretrained(saved)
            if not config.base_model:
                raise InputError(
                    f"'{saved / CONFIG_NAME}' names no base model (it was built in memory); load "
                    "the base yourself, split it with this config, then call load_adapters."
                )
            source, revision = config.base_model, revision or config.revision
        base = load_base_model(
            source, task=task, dtype=dtype, local_files_only=local_files_only, revision=revision,
            attn_implementation=attn_implementation, trust_remote_code=trust_remote_code,
            seed=config.seed,
        )  # fmt: skip
        if device_map is not None:
            cast(nn.Module, base).to(device=device_map)
        if isinstance(source, (str, os.PathLike)) and not config.base_model:
            config = config.model_copy(
                update={"base_model": absolute(os.fspath(source)), "revision": revision}
            )
        split = SplitModel(base, config, codecs=codecs)
        if saved is not None:
            split.load_adapters(saved)
        return split

    @property
    def parts(self) -> list[DevicePart | ServerPart]:
        """List the server, then the devices in the order of the configuration."""
        return [self.server, *self.devices.values()]

    def train(self, mode: bool = True) -> None:
        """Turn dropout on (or off) in all parts."""
        for part in self.parts:
            part.model.train(mode)

    def gradient_checkpointing_enable(self) -> None:
        """Keep only each block's input for the backward pass and run the block again there.

        Always without re-entry: the re-entrant way leaves adapters without gradients where, as on
        a device, nothing before the first block is trained. Raises InputError where the model has
        no such thing.
        """
        for part in self.parts:
            enable_checkpointing(part.model)

    def train_step(self, batches: Mapping[str, Batch], *, update: bool = True) -> StepReport:
        """Run one local step of the devices in ``batches``; a device left out is skipped this step.

        So is one whose batch has no label that counts (all -100): it sends nothing.
        Without ``update`` the gradients are kept for a later step, which takes the mean of all.

        All or nothing: where the loss of any device is not finite (DivergedError), or a message
        cannot be read, no part is updated and the step may be tried again.
        """
        if not batches:
            raise InputError("a step needs the batch of at least one device.")
        for device_id in batches:
            self.config.device(device_id)
        skipped = tuple(name for name, batch in batches.items() if not self.keys.has_targets(batch))
        batches = {name: batch for name, batch in batches.items() if name not in skipped}
        before = {name: self._moved(name) for name in batches}
        losses = {}
        times = {}
        for part in self.parts:
            part.clock.take()
        try:
            for device_id, batch in batches.items():
                losses[device_id] = self._exchange(device_id, batch)
                times[device_id] = together(
                    self.devices[device_id].clock.take(), self.server.clock.take()
                )
        except (SftoptError, RuntimeError):
            self._abandon(batches)
            raise
        for device_id in batches:
            known.commit(self.devices[device_id].codec)
            known.commit(self.server.codecs[device_id])
        if update:
            self.server.step()
        for device_id, device in self.devices.items() if update else ():
            if device_id in batches or device.holds_gradients:
                device.update()
        for device_id in batches:
            times[device_id] = together(times[device_id], self.devices[device_id].clock.take())
        self.steps_done += 1
        after = {name: self._moved(name) for name in batches}
        return StepReport(
            losses,
            {name: after[name][0] - before[name][0] for name in batches},
            {name: after[name][1] - before[name][1] for name in batches},
            {name: after[name][2] - before[name][2] for name in batches},
            times,
            self.server.clock.take(),
            skipped,
        )

    def average(self, participants: Iterable[str] | None = None) -> None:
        """End a round: adapters go up, are put together by the split's rule, and come back.

        The usual rule is equation (8), the average. A device that dropped out is left out of
        ``participants`` (default: all): the weights of the rest are scaled to sum to 1, and it
        keeps its adapters until `rejoin`. Raises InputError in order sequential, whose rounds end
        with `end_of_turns`.
        """
        chosen = list(self.devices if participants is None else dict.fromkeys(participants))
        if not chosen:
            raise InputError("averaging needs at least one device.")
        self._check_order(sequential=False)
        for device_id in chosen:
            self.config.device(device_id)
        rounds.close(self, chosen)

    def rejoin(self, device_id: str) -> None:
        """Send a device its blocks as the server has them: after a round it missed."""
        self.config.device(device_id)
        rounds.rejoin(self, device_id)

    @contextmanager
    def turn(self, device_id: str) -> Iterator[None]:
        """Take a device's turn, order sequential: it gets the adapters, and returns them after."""
        self.config.device(device_id)
        self._check_order(sequential=True)
        rounds.hand_down(self, device_id)
        yield
        rounds.take_back(self, device_id)

    def end_of_turns(self) -> None:
        """End a round of order sequential, whose turns have been taken."""
        self._check_order(sequential=True)
        rounds.end_of_turns(self)

    def evaluate(self, device_id: str, batch: Batch) -> Evaluated:
        """Return loss and logits of a batch through one device's split, without training.

        The boundary is encoded as in training, but its bytes are not counted as traffic.
        """
        self.config.device(device_id)
        device = self.devices[device_id]
        if isinstance(device, WholeDevice):
            return device.evaluate(batch)
        upload = device.infer(batch, self._seed(device_id, Direction.UPLINK))
        return self.server.evaluate(device_id, upload.boundary, upload.side)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write ``split_config.json`` and standard PEFT folders: see :mod:`...split.saving`."""
        save_split(self, Path(directory))
        if self.weights_moved:
            save_merged(self, Path(directory) / WHOLE_NAME, None)

    def load_adapters(self, directory: str | os.PathLike[str]) -> None:
        """Put in the adapters of a folder that `save_pretrained` wrote for the same split."""
        load_split(self, Path(directory))

    def merge_adapters(
        self, directory: str | os.PathLike[str], device_id: str | None = None
    ) -> None:
        """Write one PEFT folder for the whole unsplit model, for plain peft.

        The server's adapters of all blocks (the average, after `average`); with ``device_id``, that
        device's copies in place of the server's below its cut: the model it trains.
        """
        save_merged(self, Path(directory), device_id)

    def save_checkpoint(
        self, directory: str | os.PathLike[str], extra: Mapping[str, Any] | None = None
    ) -> None:
        """Write all a resumed run needs: see :mod:`...split.checkpoint`.

        ``extra`` is plain JSON data of the caller (place in the data, curves so far), written in
        the same stroke.
        """
        write_checkpoint(self, Path(directory), extra or {})

    def load_checkpoint(self, directory: str | os.PathLike[str]) -> dict[str, Any]:
        """Resume from a checkpoint of the same split; the next step is as if never stopped.

        Returns what was given as ``extra``. Bytes counted by the channels are not restored.
        """
        return read_checkpoint(self, Path(directory))

    def _device(
        self, base: PreTrainedModel, device: DeviceSplit, codecs: CodecFactory
    ) -> DevicePart:
        whole = self.config.order is Order.FEDERATED
        with nullcontext() if whole else only_first(base, self.stack, device.blocks):
            model = copy.deepcopy(base)
        wrapped = None
        if device.blocks > 0:
            settings = lora_config(self.config, base, self.stack, device.id)
            wrapped = add_adapters(model, settings, self.config.seed)
        kind = WholeDevice if whole else DevicePart
        codec = scored(codecs(device), model, self.stack, device.id, device.blocks)
        return kind(device.id, device.blocks, model, wrapped, self.stack, codec, self.keys)

    def _exchange(self, device_id: str, batch: Batch) -> float:
        """Forward, uplink, server, downlink, backward for one device; returns its loss."""
        device, channel = self.devices[device_id], self.channels[device_id]
        if isinstance(device, WholeDevice):
            return device.train(batch)
        upload = device.forward(batch, self._seed(device_id, Direction.UPLINK))
        channel.device.send(MessageKind.BOUNDARY, upload.boundary)
        channel.device.send(MessageKind.SIDE, upload.side)
        served = self.server.serve(
            device_id,
            channel.server.receive(MessageKind.BOUNDARY),
            channel.server.receive(MessageKind.SIDE),
            self.weights[device_id],
            self._seed(device_id, Direction.DOWNLINK),
        )
        channel.server.send(MessageKind.GRADIENT, served.gradient)
        device.backward(channel.device.receive(MessageKind.GRADIENT))
        return served.loss

    def _abandon(self, batches: Iterable[str]) -> None:
        self.server.reset_sums()
        for device_id in batches:
            self.devices[device_id].reset()
            self.channels[device_id].clear()

    def _check_order(self, *, sequential: bool) -> None:
        if (self.config.order is Order.SEQUENTIAL) != sequential:
            raise InputError(
                f"the split's order is {self.config.order.value}: devices "
                f"{'have no turns' if sequential else 'take turns, nothing is averaged'}."
            )

    def _moved(self, device_id: str) -> tuple[int, int, int]:
        traffic = self.channels[device_id].traffic
        return (
            traffic.of(Direction.UPLINK, MessageKind.BOUNDARY),
            traffic.of(Direction.UPLINK, MessageKind.SIDE),
            traffic.of(Direction.DOWNLINK, MessageKind.GRADIENT),
        )

    def _seed(self, device_id: str, direction: Direction) -> int:
        """Named by run, step, direction, device: a resumed run draws what it would have drawn."""
        name = f"{self.config.seed}:{self.steps_done}:{direction.value}:{device_id}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:4], "big") >> 1
