"""The only way between a device and the server: messages of bytes, counted by kind.

An :class:`Endpoint` is one side of such a way. :class:`MemoryChannel` joins two of them inside one
process; a pipe or a socket that moves (kind, bytes) stands in without a change to the parts.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from sftopt.training.split.errors import WireError


class MessageKind(StrEnum):
    """What a message carries."""

    BOUNDARY = "boundary"
    """Uplink: the encoded boundary activation, equation (1)."""
    SIDE = "side"
    """Uplink: labels, attention mask, position numbers: S_side of equation (4)."""
    GRADIENT = "gradient"
    """Downlink: the encoded boundary gradient, equation (2)."""
    ADAPTERS = "adapters"
    """Both ways: adapters of the blocks a device holds, equation (8)."""
    HEAD = "head"
    """Both ways, order federated: the head."""
    BASES = "bases"
    """Downlink, once before the first round: what a codec turns boundaries into."""


class Direction(StrEnum):
    """Who sends."""

    UPLINK = "uplink"
    DOWNLINK = "downlink"


class Endpoint(Protocol):
    """One side of a channel. Messages arrive in the order they were sent."""

    def send(self, kind: MessageKind, payload: bytes) -> None:
        """Hand one message over."""
        ...

    def receive(self, kind: MessageKind) -> bytes:
        """Receive the next message, which must be of this kind; WireError where it is not."""
        ...


class Channel(Protocol):
    """A device's way to the server and back."""

    @property
    def device(self) -> Endpoint:
        """Return the end the device holds."""
        ...

    @property
    def server(self) -> Endpoint:
        """Return the end the server holds."""
        ...

    @property
    def traffic(self) -> Traffic:
        """Return what has crossed so far."""
        ...

    def clear(self) -> None:
        """Drop messages nobody fetched: after a step that failed half-way."""
        ...


@dataclass
class Traffic:
    """Bytes and messages that crossed a channel, ``len(payload)`` each."""

    byte_count: Counter[tuple[Direction, MessageKind]] = field(default_factory=Counter)
    message_count: Counter[tuple[Direction, MessageKind]] = field(default_factory=Counter)

    def note(self, direction: Direction, kind: MessageKind, size_bytes: int) -> None:
        """Count one message."""
        self.byte_count[direction, kind] += size_bytes
        self.message_count[direction, kind] += 1

    def of(self, direction: Direction, *kinds: MessageKind) -> int:
        """Sum the bytes in one direction, of some kinds or (none given) of all."""
        chosen = kinds or tuple(MessageKind)
        return sum(self.byte_count[direction, kind] for kind in chosen)

    def to_dict(self) -> dict[str, int]:
        """Return the bytes as plain data: ``uplink_boundary_bytes`` and so on."""
        return {
            f"{direction.value}_{kind.value}_bytes": count
            for (direction, kind), count in sorted(self.byte_count.items())
        }


class _MemoryEndpoint:
    def __init__(
        self,
        direction: Direction,
        outgoing: deque[tuple[MessageKind, bytes]],
        incoming: deque[tuple[MessageKind, bytes]],
        traffic: Traffic,
    ) -> None:
        self._direction = direction
        self._outgoing = outgoing
        self._incoming = incoming
        self._traffic = traffic

    def send(self, kind: MessageKind, payload: bytes) -> None:
        if not isinstance(payload, bytes):
            raise TypeError(f"a channel carries bytes, not {type(payload).__name__}")
        self._traffic.note(self._direction, kind, len(payload))
        self._outgoing.append((kind, payload))

    def receive(self, kind: MessageKind) -> bytes:
        if not self._incoming:
            raise WireError(f"expected a {kind.value} message, but none has arrived.")
        arrived, payload = self._incoming.popleft()
        if arrived is not kind:
            raise WireError(f"expected a {kind.value} message, but got {arrived.value}.")
        return payload


class MemoryChannel:
    """Both ends in one process, joined by two queues of bytes."""

    def __init__(self) -> None:
        up: deque[tuple[MessageKind, bytes]] = deque()
        down: deque[tuple[MessageKind, bytes]] = deque()
        self._traffic = Traffic()
        self._device = _MemoryEndpoint(Direction.UPLINK, up, down, self._traffic)
        self._server = _MemoryEndpoint(Direction.DOWNLINK, down, up, self._traffic)
        self._queues = (up, down)

    @property
    def device(self) -> Endpoint:
        """Return the end the device holds."""
        return self._device

    @property
    def server(self) -> Endpoint:
        """Return the end the server holds."""
        return self._server

    @property
    def traffic(self) -> Traffic:
        """Return what has crossed so far."""
        return self._traffic

    def clear(self) -> None:
        """Drop messages nobody fetched: after a step that failed half-way."""
        for queue in self._queues:
            queue.clear()
