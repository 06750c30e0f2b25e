"""Which cuts memory allows, from an instance: the solvers' side of equations (10) and (11).

Sums are added in the judge's order, so a count is allowed just where the judge allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.instance import Device, Instance, ServerOrder
from sftopt.core.tolerance import Tolerance

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class CutRange:
    """The cuts that memory allows, N devices and O options."""

    low: Integers
    """(N,), the least over the options."""
    option_low: Integers
    """(N, O)."""
    high: Integers
    """(N,): on the device all tokens are at work, whatever is sent."""
    budget_bytes: float
    """For what all devices save at the server together."""


def cut_range(
    instance: Instance,
    batch: Array,
    memory: Array,
    floor: Integers,
    tolerance: Tolerance,
    activation_bytes: Sequence[tuple[int | None, float]],
) -> CutRange:
    """Return lowest and highest cuts and the server's budget of activations in bytes.

    Equations (10) and (11); ``memory`` (N,) is the devices', relaxed by ``tolerance`` already.
    ``activation_bytes``: every option's S' and m_a(S').
    """
    work = instance.workload
    static = work.block_weight_bytes + work.block_adapter_bytes
    activation = work.block_activation_bytes
    remembered = np.array([device.remembered_bytes or 0.0 for device in instance.devices])

    def held(blocks: Array) -> Array:
        fixed = work.device_base_bytes + batch * work.sample_base_bytes
        return np.asarray(fixed + blocks * static + batch * blocks * activation + remembered)

    allowed = np.array([_most_blocks(d, work.blocks) for d in instance.devices], dtype=float)
    high = _most_within(held, memory, static + batch * activation, allowed).astype(np.int64)
    in_turn = instance.server_order is ServerOrder.IN_TURN
    heads = (batch * work.sample_head_bytes).tolist()
    head = max(heads) if in_turn else sum(heads)
    boundary = sum((batch * work.sample_base_bytes).tolist())  # one by one, as the judge adds
    model = work.blocks * static
    kept = sum(remembered.tolist())
    limit = np.array([tolerance.most_bytes(instance.server.memory_bytes)])

    def served(saved: Array) -> Array:
        return np.asarray(saved + head + boundary + model + work.server_base_bytes + kept)

    def lowest(tokens: int | None, each: float) -> Integers:
        """The least cuts (N,) at S' tokens, of which a block saves ``each`` bytes a sample."""
        least = floor if tokens is None else np.maximum(floor, 1)
        if not in_turn:
            return least
        # -1: not even the fixed part fits
        at_server = _most_within(
            lambda blocks: served(batch * blocks * each), limit, batch * each,
            np.full(len(batch), float(work.blocks)),
        )  # fmt: skip
        return np.maximum(least, work.blocks - at_server.astype(np.int64))

    known: dict[int | None, Integers] = {None: lowest(None, activation)}
    known |= {t: lowest(t, each) for t, each in dict(activation_bytes).items() if t is not None}
    lows = np.array([known[t] for t, _ in activation_bytes], dtype=np.int64)
    option_low = lows.reshape(len(activation_bytes), len(batch)).T
    budget = float(limit[0] - served(np.zeros(1))[0])
    if not in_turn and all(t is None for t, _ in activation_bytes):
        budget = _parallel_budget(served, limit, activation)
    low = option_low.min(axis=1) if activation_bytes else known[None]
    return CutRange(low, option_low, high, budget)


def _most_within(used: Callable[[Array], Array], limit: Array, each: Array, most: Array) -> Array:
    """The largest whole count up to ``most`` with used(count) <= limit; -1 where 0 is too much.

    The division finds it up to rounding; the last word has the sum itself, as the judge adds it.
    """
    room = limit - used(np.zeros_like(most))
    free = np.where(room < 0.0, -1.0, most)
    count = np.where(each > 0.0, np.floor(room / np.where(each > 0.0, each, 1.0)), free)
    count = np.clip(count, -1.0, most)
    above = np.minimum(count + 1.0, most)
    count = np.where(used(above) <= limit, above, count)
    return np.where(used(np.maximum(count, 0.0)) <= limit, count, np.maximum(count - 1.0, -1.0))


def _parallel_budget(served: Callable[[Array], Array], limit: Array, activation: float) -> float:
    """Bytes for what all devices save together: counted in blocks of one sample, m_a."""
    if activation <= 0.0:
        return float(limit[0] - served(np.zeros(1))[0])
    each, most = np.array([activation]), np.array([np.inf])
    count = _most_within(lambda samples: served(samples * activation), limit, each, most)
    return float(count[0] + 0.5) * activation


def _most_blocks(device: Device, blocks: int) -> int:
    """The device's own limit of blocks, L-1 where it has none."""
    return blocks - 1 if device.blocks_max is None else min(device.blocks_max, blocks - 1)
