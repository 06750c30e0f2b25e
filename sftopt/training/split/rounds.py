"""How a round ends and turns change: what is sent of adapters, and what everyone holds after it.

Order parallel and federated: adapters go up, are put together by the split's rule, and come back
(order federated: with the head). Order sequential: a device gets the adapters of its blocks, trains
alone, and returns them; the next gets what it made of them. Adam's moments stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from sftopt.core.plan import Aggregation, Order
from sftopt.training.split import aggregation
from sftopt.training.split.averaging import first_directions, fits
from sftopt.training.split.channel import Channel, MessageKind
from sftopt.training.split.config import SplitConfig
from sftopt.training.split.errors import WireError
from sftopt.training.split.lora import stack_adapters
from sftopt.training.split.merging import (
    begin_anew,
    load_weights_message,
    merge,
    weights_message,
)
from sftopt.training.split.messages import Adapters, unpack_adapters
from sftopt.training.split.parts import DevicePart, ServerPart
from sftopt.training.split.whole import (
    WholeDevice,
    head_message,
    head_of,
    load_head,
    read_head,
)


class Split(Protocol):
    """A split model as the end of a round needs it."""

    config: SplitConfig
    server: ServerPart
    devices: dict[str, DevicePart]
    channels: dict[str, Channel]
    weights: dict[str, float]
    rounds_done: int
    weights_moved: bool


def close(split: Split, participants: Sequence[str]) -> None:
    """End a round of order parallel or federated for those who took part in it."""
    rule = split.config.aggregation
    messages = {name: _up(split, name) for name in participants}
    copies = [
        (split.weights[name], copy) for name, copy in copies_of(split.server, messages).items()
    ]
    if rule is Aggregation.AVERAGING:
        split.server.average(copies)
        for name in participants:
            _send_adapters(split, name)
    else:
        assert rule is not None
        _put_together(split, rule, copies, participants)
    if split.config.order is Order.FEDERATED:
        _average_heads(split, participants)
    split.rounds_done += 1


def rejoin(split: Split, device_id: str) -> None:
    """Send a device what it lacks after a round it missed: its blocks as the server has them."""
    if split.weights_moved:
        channel, device = split.channels[device_id], split.devices[device_id]
        channel.server.send(MessageKind.ADAPTERS, weights_message(split.server, device.cut))
        message = channel.device.receive(MessageKind.ADAPTERS)
        load_weights_message(device, message, device.cut)
    if split.config.aggregation is Aggregation.CONCATENATION and split.rounds_done:
        _anew(split, device_id)
    else:
        _send_adapters(split, device_id)
    if split.config.order is Order.FEDERATED:
        _send_head(split, device_id)


def hand_down(split: Split, device_id: str) -> None:
    """Begin a device's turn: it gets the adapters of its blocks as the last one left them."""
    channel = split.channels[device_id]
    message = split.server.adapter_message(device_id, split.config.device(device_id).rank)
    channel.server.send(MessageKind.ADAPTERS, message)
    split.devices[device_id].load_adapter_message(channel.device.receive(MessageKind.ADAPTERS))


def take_back(split: Split, device_id: str) -> None:
    """End a device's turn: what it made of the adapters is the server's."""
    server = split.server
    copy = copies_of(server, {device_id: _up(split, device_id)})[device_id]
    held = stack_adapters(server.model, server.stack, range(server.cuts[device_id]))
    with torch.no_grad():  # of a smaller rank it returns the directions that it got
        for name, value in copy.items():
            first_directions(name, held[name], value).copy_(value)


def end_of_turns(split: Split) -> None:
    """End a round of order sequential: every device is as it will be at its next turn.

    What it gets then is sent and counted then.
    """
    for device_id, device in split.devices.items():
        device.load_adapter_message(split.server.adapter_message(device_id))
    split.rounds_done += 1


def _put_together(
    split: Split,
    rule: Aggregation,
    copies: Sequence[tuple[float, Adapters]],
    participants: Sequence[str],
) -> None:
    """Terms to every holder; weights move on both sides by what is read from the same tensors."""
    top = max(split.server.cuts.values())
    own = split.server.adapters(range(top))
    if not own:
        return
    tensors = aggregation.terms_of(rule, own, copies)
    for name in participants:
        device, channel = split.devices[name], split.channels[name]
        channel.server.send(MessageKind.ADAPTERS, aggregation.part_of(tensors, device.cut))
        payload = channel.device.receive(MessageKind.ADAPTERS)
        held = device.adapters(range(device.cut))
        _load(split, device, aggregation.read(payload, held), name)
    _load(split, split.server, aggregation.merged(tensors, own), "")
    split.weights_moved = True


def _load(
    split: Split, part: DevicePart | ServerPart, merged: aggregation.Merged, name: str
) -> None:
    numbers = sorted({int(module.split(".", 1)[0]) for module in merged.update})
    merge(part, merged.update)
    if merged.adapters is None:
        begin_anew(part, numbers, _seed(split, name, split.rounds_done + 1))
    else:
        part.load_adapters(merged.adapters, numbers)


def _anew(split: Split, device_id: str) -> None:
    device = split.devices[device_id]
    begin_anew(device, range(device.cut), _seed(split, device_id, split.rounds_done))


def _seed(split: Split, name: str, round_number: int) -> str:
    return f"{split.config.seed}:anew:{round_number}:{name}"


def copies_of(
    server: ServerPart, messages: Mapping[str, bytes]
) -> dict[str, dict[str, torch.Tensor]]:
    """Read adapters out of the devices' messages.

    Raises WireError where a message is not the adapters of the sender's blocks.
    """
    own = server.adapters(range(server.stack.count))
    found = {}
    for device_id, payload in messages.items():
        cut = server.cuts[device_id]
        held = {name: v for name, v in own.items() if int(name.split(".", 1)[0]) < cut}
        copy = unpack_adapters(payload, held, server.adapter_dtype)
        odd = [name for name in held if not fits(name, copy[name], own[name])]
        if odd:
            raise WireError(
                f"device {device_id}: its message is not the adapters of its {cut} blocks: "
                f"{', '.join(odd[:4])}."
            )
        found[device_id] = copy
    return found


def _up(split: Split, device_id: str) -> bytes:
    channel = split.channels[device_id]
    channel.device.send(MessageKind.ADAPTERS, split.devices[device_id].adapter_message())
    return channel.server.receive(MessageKind.ADAPTERS)


def _send_adapters(split: Split, device_id: str) -> None:
    channel = split.channels[device_id]
    channel.server.send(MessageKind.ADAPTERS, split.server.adapter_message(device_id))
    split.devices[device_id].load_adapter_message(channel.device.receive(MessageKind.ADAPTERS))


def _average_heads(split: Split, participants: Sequence[str]) -> None:
    """The weighted mean of the heads, where the model has one that is trained."""
    if not head_of(split.server):
        return
    total = sum(split.weights[name] for name in participants)
    mean: torch.Tensor | None = None
    for name in participants:
        channel = split.channels[name]
        channel.device.send(MessageKind.HEAD, head_message(_whole(split.devices[name])))
        flat = read_head(channel.server.receive(MessageKind.HEAD), split.server).double()
        term = flat * (split.weights[name] / total)
        mean = term if mean is None else mean + term
    assert mean is not None, "a round has participants"
    load_head(split.server, mean.float())
    for name in participants:
        _send_head(split, name)


def _send_head(split: Split, device_id: str) -> None:
    device, channel = _whole(split.devices[device_id]), split.channels[device_id]
    if head_of(device):
        channel.server.send(MessageKind.HEAD, head_message(split.server))
        load_head(device, read_head(channel.device.receive(MessageKind.HEAD), device))


def _whole(device: DevicePart) -> WholeDevice:
    assert isinstance(device, WholeDevice), "order federated has whole models on its devices"
    return device
