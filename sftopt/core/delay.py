"""The judge's step times and rates, equations (3)-(6): plain numbers, one device at a time.

How the step's times become a round is the order's business: :mod:`sftopt.core.orders`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.block_work import block_backward_flops, block_forward_flops
from sftopt.core.channel import RoundChannel, mean_efficiency
from sftopt.core.instance import Device, Instance, Mode, PowerLaw, Workload
from sftopt.core.payload import downlink_bits_per_element, uplink_bits_per_element
from sftopt.core.plan import Aggregation, Order, Plan, SequentialPower


@dataclass(frozen=True)
class Conduct:
    """How a round is conducted: in what order, at what power, how adapters are put together."""

    order: Order = Order.PARALLEL
    sequential_power: SequentialPower = SequentialPower.BAND
    aggregation: Aggregation | None = None

    @staticmethod
    def of(plan: Plan) -> Conduct:
        """Read how a plan's round is conducted."""
        return Conduct(plan.order, plan.sequential_power, plan.aggregation)

    def channel(self, known: RoundChannel) -> RoundChannel:
        """Return the channel as the order's power makes it: p_n / N is a gain of 1 / N."""
        if self.order is Order.SEQUENTIAL and self.sequential_power is SequentialPower.SHARE:
            return RoundChannel(known.uplink_gain / len(known.uplink_gain), known.downlink_gain)
        return known

    def power_w(self, instance: Instance, device: Device) -> float:
        """Return what a device radiates over the whole band, in watts."""
        if self.order is Order.SEQUENTIAL and self.sequential_power is SequentialPower.SHARE:
            return device.transmit_power_w / len(instance.devices)
        return device.transmit_power_w


PARALLEL_ROUND = Conduct()
"""Equations (7) to (9) as they stand."""


@dataclass(frozen=True)
class Decision:
    """One device's decision as plain values, its mode resolved; None: the cell's own."""

    blocks: int
    mode: Mode
    keep: float
    uplink_share: float
    downlink_share: float
    adapter_share: float | None
    rank: int | None = None
    server_flops_per_s: float | None = None


def server_rank(work: Workload, decisions: Sequence[Decision]) -> int:
    """Return r_s, the rank of the server's copy of every block: the largest of all devices'."""
    return max(work.lora_rank if d.rank is None else d.rank for d in decisions)


@dataclass(frozen=True)
class StepTimes:
    """s1..s5 of one device, its payloads and its work in one step, equations (4)-(6)."""

    s1_s: float
    s2_s: float
    s3_s: float
    s4_s: float
    s5_s: float
    uplink_bits: float
    """Of the boundary; ``side_bits`` go up beside them."""
    downlink_bits: float
    side_bits: float
    device_flops: float
    server_flops: float


def uplink_rate_bits_per_s(
    instance: Instance, device: Device, share: float, gains: NDArray[np.float64]
) -> float:
    """Return the uplink rate R^u_n(x) of equation (3) in bit/s at the device's gains, shape (k,).
    It is 0 at a share of 0 or less.
    """
    if share <= 0.0:
        return 0.0
    radio = instance.radio
    noise = radio.noise_w_per_hz * radio.uplink_noise_figure * radio.uplink_bandwidth_hz
    snr = device.transmit_power_w / noise * gains
    if radio.power is PowerLaw.TOTAL:
        snr = snr / share
    return share * radio.uplink_bandwidth_hz * float(mean_efficiency(snr, radio))


def downlink_rate_bits_per_s(instance: Instance, share: float, gains: NDArray[np.float64]) -> float:
    """Return the downlink rate R^d_n(y) of equation (3) in bit/s at the device's gains, shape (k,).
    It is always linear in the share.
    """
    if share <= 0.0:
        return 0.0
    radio = instance.radio
    noise = radio.noise_w_per_hz * radio.downlink_noise_figure * radio.downlink_bandwidth_hz
    snr = instance.server.transmit_power_w / noise * gains
    return share * radio.downlink_bandwidth_hz * float(mean_efficiency(snr, radio))


class Links:
    """The rates of equation (3) of all devices at one channel, each by the device's position.

    Where a rate is linear in the share its efficiency is worked out once, for all devices at once.
    """

    def __init__(self, instance: Instance, channel: RoundChannel) -> None:
        self._instance, self._channel, radio = instance, channel, instance.radio
        noise = radio.noise_w_per_hz * radio.downlink_noise_figure * radio.downlink_bandwidth_hz
        snr = instance.server.transmit_power_w / noise * channel.downlink_gain
        self._down: list[float] = mean_efficiency(snr, radio).tolist()
        self._up: list[float] | None = None
        if radio.power is PowerLaw.PSD:
            noise = radio.noise_w_per_hz * radio.uplink_noise_figure * radio.uplink_bandwidth_hz
            power = np.array([device.transmit_power_w for device in instance.devices])
            self._up = mean_efficiency(
                (power / noise)[:, None] * channel.uplink_gain, radio
            ).tolist()

    def up_bits_per_s(self, n: int, share: float) -> float:
        """Return the uplink rate R^u_n(x) in bit/s; 0 at a share of 0 or less."""
        if self._up is None:
            device, gains = self._instance.devices[n], self._channel.uplink_gain[n]
            return uplink_rate_bits_per_s(self._instance, device, share, gains)
        return max(share, 0.0) * self._instance.radio.uplink_bandwidth_hz * self._up[n]

    def down_bits_per_s(self, n: int, share: float) -> float:
        """Return the downlink rate R^d_n(y) in bit/s; 0 at a share of 0 or less."""
        return max(share, 0.0) * self._instance.radio.downlink_bandwidth_hz * self._down[n]


def seconds_of(bits: float, rate: float) -> float:
    """Return the seconds that ``bits`` take at ``rate`` in bit/s; none for none, else inf at 0."""
    if bits <= 0.0:
        return 0.0
    return bits / rate if rate > 0.0 else math.inf


def step_times(
    instance: Instance, n: int, decision: Decision, links: Links, copy_rank: int | None = None
) -> StepTimes:
    """Return the times of one step, equations (4)-(6), of the instance's device number n.

    ``copy_rank``: r_s of the server's blocks, None for the workload's rank. Under tokens the device
    works on all S of them and the server on S'.
    """
    work, radio, mode = instance.workload, instance.radio, decision.mode
    device = instance.devices[n]
    elements = device.batch * work.boundary_elements
    codec_s = device.codec_s_per_element * elements * mode.codec_seconds_factor
    sent = elements if mode.tokens is None else device.batch * mode.tokens * work.hidden
    up_bits = sent * uplink_bits_per_element(mode, decision.keep, work.reference_bits)
    down_bits = sent * downlink_bits_per_element(
        mode, decision.keep, work.reference_bits, radio.downlink
    )
    side_bits = device.batch * work.side_bits
    own_forward = block_forward_flops(work, rank=decision.rank)
    forward = work.embedding_forward_flops + decision.blocks * own_forward
    backward = decision.blocks * block_backward_flops(work, rank=decision.rank)
    per_block = block_forward_flops(work, tokens=mode.tokens, rank=copy_rank)
    per_block += block_backward_flops(work, tokens=mode.tokens, rank=copy_rank)
    at_server = (work.blocks - decision.blocks) * per_block + work.head_flops
    speed = decision.server_flops_per_s or instance.server.compute_flops_per_s
    up_rate = links.up_bits_per_s(n, decision.uplink_share)
    down_rate = links.down_bits_per_s(n, decision.downlink_share)
    return StepTimes(
        s1_s=device.batch * forward / device.compute_flops_per_s + codec_s,
        s2_s=seconds_of(up_bits + side_bits, up_rate),
        s3_s=device.batch * at_server / speed,
        s4_s=seconds_of(down_bits, down_rate),
        s5_s=device.batch * backward / device.compute_flops_per_s + codec_s,
        uplink_bits=up_bits,
        downlink_bits=down_bits,
        side_bits=side_bits,
        device_flops=device.batch * (forward + backward),
        server_flops=device.batch * at_server,
    )


def whole_model_times(instance: Instance, device: Device, decision: Decision) -> StepTimes:
    """Return one step of order federated: all of it is ``s1_s``, the device's own work.

    Embedding, L blocks and head, forward and backward; nothing crosses a boundary.
    """
    work = instance.workload
    per_block = block_forward_flops(work, rank=decision.rank)
    per_block += block_backward_flops(work, rank=decision.rank)
    flops = work.embedding_forward_flops + work.blocks * per_block + work.head_flops
    flops *= device.batch
    time_s = flops / device.compute_flops_per_s
    return StepTimes(time_s, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, flops, 0.0)
