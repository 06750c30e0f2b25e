"""Rounds without the two barriers of equation (7), as event simulations on the same step times.

The judge's other schedules (section 11 of MODEL.md). All take a plan's cuts, payloads and shares:

* ``cpsfl``: uplinks at the plan's shares; the server works for a device as soon as its upload is
  there, at a fraction of its speed; gradients go one after another over the whole downlink, next
  the one of largest lag among those ready; no barrier inside a round (Zhou et al., IEEE TMC 2026,
  10.1109/TMC.2026.3697889, equations 1-12). It can be slower than with the barrier, as a gradient
  under way is not broken off;
* ``cpsfl-sync``: the same with a barrier after the server in every step; (16) of that paper is its
  closed form;
* ``pipesfl``: the server's whole speed for one device at a time, of those whose upload is there the
  one with the longest way round; the downlink at the plan's shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sftopt.core.adapters import adapter_exchange
from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.delay import Conduct, Links, step_times
from sftopt.core.domain import modes_of
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.orders import round_delay
from sftopt.core.plan import Order, Plan
from sftopt.core.verify import decisions_of

Array = NDArray[np.float64]


class Schedule(StrEnum):
    """Orders of events that are no order of a plan."""

    CPSFL = "cpsfl"
    CPSFL_SYNC = "cpsfl-sync"
    PIPESFL = "pipesfl"


@dataclass(frozen=True)
class Stages:
    """Seconds of one step by device, shape (N,): forward, upload, server, gradient, backward.

    CF, CA, S, SG and CB of the paper.
    """

    forward_s: Array
    upload_s: Array
    server_s: Array
    gradient_s: Array
    backward_s: Array

    @property
    def until_ready_s(self) -> Array:
        """Return CF + CA + S in seconds, (N,): from the start until the gradient is ready."""
        value: Array = self.forward_s + self.upload_s + self.server_s
        return value

    @property
    def lag_s(self) -> Array:
        """Return the lag in seconds, (N,): CB + CF + CA + S, equation (12) of the paper."""
        value: Array = self.backward_s + self.until_ready_s
        return value


def cpsfl_s(stages: Stages, steps: int) -> float:
    """Return the seconds of ``steps`` steps without a barrier, largest lag first."""
    ready = stages.until_ready_s.copy()
    left = np.full(ready.shape, steps)
    end, free = 0.0, 0.0
    for _ in range(steps * len(ready)):
        free = max(free, float(ready.min()))
        waiting = np.flatnonzero(ready <= free)
        chosen = int(waiting[np.argmax(stages.lag_s[waiting])])
        free += float(stages.gradient_s[chosen])
        done = free + float(stages.backward_s[chosen])
        left[chosen] -= 1
        end = max(end, done)
        ready[chosen] = done + float(stages.until_ready_s[chosen]) if left[chosen] else math.inf
    return end


def cpsfl_sync_s(stages: Stages, steps: int, order: Sequence[int] | None = None) -> float:
    """Return the seconds of ``steps`` steps with a barrier after the server in each.

    ``order`` is that of the gradients, the same in all steps; None: largest lag first, of which
    equation (16) of the paper is the closed form.
    """
    first = np.argsort(-stages.lag_s, kind="stable") if order is None else np.asarray(order)
    sent = np.empty_like(stages.gradient_s)
    sent[first] = np.cumsum(stages.gradient_s[first])
    start = np.zeros_like(sent)
    for _ in range(steps):
        barrier = float((start + stages.until_ready_s).max())
        start = barrier + sent + stages.backward_s
    return float(start.max())


def pipesfl_s(stages: Stages, steps: int) -> float:
    """Return the seconds of ``steps`` steps where the server takes one device at a time.

    Next is the device with the longest way from the server back to it.
    """
    around = stages.gradient_s + stages.backward_s + stages.forward_s + stages.upload_s
    there = stages.forward_s + stages.upload_s
    left = np.full(there.shape, steps)
    end, free = 0.0, 0.0
    for _ in range(steps * len(there)):
        free = max(free, float(there.min()))
        waiting = np.flatnonzero(there <= free)
        chosen = int(waiting[np.argmax(around[waiting])])
        free += float(stages.server_s[chosen])
        left[chosen] -= 1
        end = max(end, free + float(stages.gradient_s[chosen] + stages.backward_s[chosen]))
        there[chosen] = free + float(around[chosen]) if left[chosen] else math.inf
    return end


@dataclass(frozen=True)
class ScheduledRound:
    """One plan under one schedule: its round, and what the barriers of (7) cost beside it."""

    schedule: Schedule
    round_s: float
    barriers_round_s: float
    """The same plan with the two barriers of equation (7)."""

    @property
    def barriers_cost_s(self) -> float:
        """Return how many seconds longer a round takes with the barriers; it may be negative."""
        return self.barriers_round_s - self.round_s


def scheduled_rounds(
    instance: Instance,
    plan: Plan,
    *,
    channel: RoundChannel | None = None,
    server_fractions: Sequence[float] | None = None,
) -> list[ScheduledRound]:
    """Compute a plan's round in seconds under every schedule, the exchange of adapters included.

    ``server_fractions``: alpha_n of the server's speed under cpsfl, by device; None: 1/N each.

    Raises InputError for a plan of another order or instance, or one that cannot be read.
    """
    if plan.order is not Order.PARALLEL:
        text = f"a plan of order '{plan.order.value}' has no barriers; give a parallel one"
        raise InputError(text)
    by_id = {part.id: part for part in plan.devices}
    ids = {device.id for device in instance.devices}
    if not instance.answers_to(plan.instance_hash) or set(by_id) != ids:
        raise InputError("the plan is not of this instance; 'sftopt verify' says how they differ")
    parts = [by_id[device.id] for device in instance.devices]
    conduct = Conduct.of(plan)
    decisions = decisions_of(parts, modes_of(instance, parts, conduct), instance, conduct)
    if decisions is None:
        raise InputError("the plan cannot be read; 'sftopt verify' says what is wrong with it")
    count = len(parts)
    fractions = np.full(count, 1.0 / count) if server_fractions is None else np.array(
        server_fractions, dtype=float
    )  # fmt: skip
    if fractions.shape != (count,) or not (fractions > 0.0).all() or fractions.sum() > 1.0 + 1e-9:
        raise InputError(f"server_fractions: {count} numbers above 0, at most 1 in all, are needed")
    known = statistical_channel(instance) if channel is None else channel.of(instance)
    links = Links(instance, known)
    shared = [step_times(instance, n, one, links) for n, one in enumerate(decisions)]
    whole = [
        step_times(instance, n, replace(one, downlink_share=1.0), links).s4_s
        for n, one in enumerate(decisions)
    ]
    columns = np.array([[t.s1_s, t.s2_s, t.s3_s, t.s4_s, t.s5_s] for t in shared]).T
    forward, upload, server, gradient, backward = columns
    alone = Stages(forward, upload, server / fractions, np.array(whole), backward)
    piped = Stages(forward, upload, server, gradient, backward)
    steps = instance.training.local_steps
    adapters_s = adapter_exchange(instance, decisions, links, conduct).time_s
    barriers = round_delay(instance, decisions, channel, conduct).round_s
    times = {
        Schedule.CPSFL: cpsfl_s(alone, steps),
        Schedule.CPSFL_SYNC: cpsfl_sync_s(alone, steps),
        Schedule.PIPESFL: pipesfl_s(piped, steps),
    }
    return [ScheduledRound(kind, value + adapters_s, barriers) for kind, value in times.items()]
