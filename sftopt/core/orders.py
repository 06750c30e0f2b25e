"""The judge's round, equations (7)-(9): one function per order over the same step times.

:func:`round_delay` is given the decisions and how the round is conducted, and answers with the
times of all devices, the round and its parts. What an order needs of a plan:

* ``parallel``: shares that sum to at most 1, up, down and for the adapters;
* ``sequential``: devices work one after another, each with the whole band, so every share is 1;
  :class:`~sftopt.core.plan.SequentialPower` says what a device radiates over it. The round is
  SUM_n [K (s1 + .. + s5) + l_n A(r_n) (1/R^d_n(1) + 1/R^u_n(1))];
* ``federated``: every device trains all L blocks and the head, nothing crosses a boundary: the
  round is K max_n b_n (F^e + L (F^f + F^b) + F^h)/f_n and the exchange of adapters and heads, of
  which only the adapters' shares are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sftopt.core.adapters import Exchange, adapter_exchange, handed_on
from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.delay import (
    PARALLEL_ROUND,
    Conduct,
    Decision,
    Links,
    StepTimes,
    server_rank,
    step_times,
    whole_model_times,
)
from sftopt.core.instance import Instance, ServerOrder
from sftopt.core.plan import Order


@dataclass(frozen=True)
class RoundDelay:
    """The whole round, equations (7)-(9). Infinite where a needed share is zero.

    Order sequential: the three parts of a step are sums over all devices. Order federated: a step
    is all work of the slowest device, and all of it is ``tau_u_s``.
    """

    round_s: float
    step_s: float
    tau_u_s: float
    server_s: float
    tau_d_s: float
    tau_a_s: float
    devices: tuple[StepTimes, ...]
    parts: dict[str, float]
    """Of the round, by the names of :class:`~sftopt.core.plan.RoundParts`; infinite where it is."""
    exchange: Exchange


def round_delay(
    instance: Instance,
    decisions: Sequence[Decision],
    channel: RoundChannel | None = None,
    conduct: Conduct = PARALLEL_ROUND,
) -> RoundDelay:
    """Return the round delay and its parts, equations (7), (8) and (9). ``decisions`` are in the
    order of the instance's devices.

    ``channel``: the gains of one round, problem (14); else the statistics of equation (3).
    """
    known = statistical_channel(instance) if channel is None else channel.of(instance)
    return _ORDERS[conduct.order](instance, decisions, conduct.channel(known), conduct)


def parallel_round(
    instance: Instance, decisions: Sequence[Decision], channel: RoundChannel, conduct: Conduct
) -> RoundDelay:
    """Return the round of devices that work at the same time: equations (7) to (9)."""
    links = Links(instance, channel)
    times = _all_times(instance, decisions, links)
    up, down = [t.s1_s + t.s2_s for t in times], [t.s4_s + t.s5_s for t in times]
    tau_u, tau_d = max(up), max(down)
    server = [t.s3_s for t in times]
    server_s = sum(server) if instance.server_order is ServerOrder.IN_TURN else max(server)
    last_up, last_down = times[up.index(tau_u)], times[down.index(tau_d)]
    steps = instance.training.local_steps
    step_s = tau_u + server_s + tau_d
    exchange = adapter_exchange(instance, decisions, links, conduct)
    return RoundDelay(
        round_s=steps * step_s + exchange.time_s,
        step_s=step_s,
        tau_u_s=tau_u,
        server_s=server_s,
        tau_d_s=tau_d,
        tau_a_s=exchange.time_s,
        devices=tuple(times),
        parts=dict(
            device_s=steps * (last_up.s1_s + last_down.s5_s),
            uplink_s=steps * last_up.s2_s,
            server_s=steps * server_s,
            downlink_s=steps * last_down.s4_s,
            adapters_s=exchange.time_s,
        ),
        exchange=exchange,
    )


def sequential_round(
    instance: Instance, decisions: Sequence[Decision], channel: RoundChannel, conduct: Conduct
) -> RoundDelay:
    """Return the round of devices that work one after another, each over the whole band."""
    links = Links(instance, channel)
    times = _all_times(instance, decisions, links)
    exchange = handed_on(instance, decisions, links)
    tau_u = math.fsum(t.s1_s + t.s2_s for t in times)
    server_s = math.fsum(t.s3_s for t in times)
    tau_d = math.fsum(t.s4_s + t.s5_s for t in times)
    steps = instance.training.local_steps
    step_s = tau_u + server_s + tau_d
    return RoundDelay(
        round_s=steps * step_s + exchange.time_s,
        step_s=step_s,
        tau_u_s=tau_u,
        server_s=server_s,
        tau_d_s=tau_d,
        tau_a_s=exchange.time_s,
        devices=tuple(times),
        parts=dict(
            device_s=steps * math.fsum(t.s1_s + t.s5_s for t in times),
            uplink_s=steps * math.fsum(t.s2_s for t in times),
            server_s=steps * server_s,
            downlink_s=steps * math.fsum(t.s4_s for t in times),
            adapters_s=exchange.time_s,
        ),
        exchange=exchange,
    )


def federated_round(
    instance: Instance, decisions: Sequence[Decision], channel: RoundChannel, conduct: Conduct
) -> RoundDelay:
    """Return the round of devices that each train the whole model alone."""
    times = [
        whole_model_times(instance, device, decision)
        for device, decision in zip(instance.devices, decisions, strict=True)
    ]
    exchange = adapter_exchange(instance, decisions, Links(instance, channel), conduct)
    steps, step_s = instance.training.local_steps, max(t.s1_s for t in times)
    return RoundDelay(
        round_s=steps * step_s + exchange.time_s,
        step_s=step_s,
        tau_u_s=step_s,
        server_s=0.0,
        tau_d_s=0.0,
        tau_a_s=exchange.time_s,
        devices=tuple(times),
        parts=dict(device_s=steps * step_s, uplink_s=0.0, server_s=0.0, downlink_s=0.0,
                         adapters_s=exchange.time_s),
        exchange=exchange,
    )  # fmt: skip


def _all_times(instance: Instance, decisions: Sequence[Decision], links: Links) -> list[StepTimes]:
    copy_rank = server_rank(instance.workload, decisions)
    return [
        step_times(instance, n, decision, links, copy_rank) for n, decision in enumerate(decisions)
    ]


_ORDERS: Mapping[
    Order, Callable[[Instance, Sequence[Decision], RoundChannel, Conduct], RoundDelay]
] = {
    Order.PARALLEL: parallel_round,
    Order.SEQUENTIAL: sequential_round,
    Order.FEDERATED: federated_round,
}
"""One function per order."""
