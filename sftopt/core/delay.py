"""The judge's delay model, equations (3)-(9): plain numbers, one device at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.channel import RoundChannel, mean_efficiency, statistical_channel
from sftopt.core.instance import AdapterDownlink, Device, Instance, Mode, PowerLaw, ServerOrder
from sftopt.core.payload import downlink_bits_per_element, uplink_bits_per_element


@dataclass(frozen=True)
class Decision:
    """One device's decision as plain values, its mode resolved."""

    blocks: int
    mode: Mode
    keep: float
    uplink_share: float
    downlink_share: float
    adapter_share: float | None


@dataclass(frozen=True)
class StepTimes:
    """s1..s5 of one device and its payloads, equations (4)-(6)."""

    s1_s: float
    s2_s: float
    s3_s: float
    s4_s: float
    s5_s: float
    uplink_bits: float
    downlink_bits: float


@dataclass(frozen=True)
class RoundDelay:
    """The whole round, equations (7)-(9). Infinite where a needed share is zero."""

    round_s: float
    step_s: float
    tau_u_s: float
    server_s: float
    tau_d_s: float
    tau_a_s: float
    devices: tuple[StepTimes, ...]


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


def _seconds(bits: float, rate: float) -> float:
    if bits <= 0.0:
        return 0.0
    return bits / rate if rate > 0.0 else math.inf


def step_times(
    instance: Instance,
    device: Device,
    decision: Decision,
    uplink_gains: NDArray[np.float64],
    downlink_gains: NDArray[np.float64],
) -> StepTimes:
    """Return the times of one step, equations (4)-(6), for one device's gains, shape (k,)."""
    work, radio = instance.workload, instance.radio
    elements = device.batch * work.boundary_elements
    codec_s = device.codec_s_per_element * elements
    up_bits = elements * uplink_bits_per_element(decision.mode, decision.keep, work.reference_bits)
    down_bits = elements * downlink_bits_per_element(
        decision.mode, decision.keep, work.reference_bits, radio.downlink
    )
    forward = work.embedding_forward_flops + decision.blocks * work.block_forward_flops
    per_block = work.block_forward_flops + work.block_backward_flops
    server_flops = (work.blocks - decision.blocks) * per_block + work.head_flops
    backward = decision.blocks * work.block_backward_flops
    up_rate = uplink_rate_bits_per_s(instance, device, decision.uplink_share, uplink_gains)
    down_rate = downlink_rate_bits_per_s(instance, decision.downlink_share, downlink_gains)
    return StepTimes(
        s1_s=device.batch * forward / device.compute_flops_per_s + codec_s,
        s2_s=_seconds(up_bits, up_rate),
        s3_s=device.batch * server_flops / instance.server.compute_flops_per_s,
        s4_s=_seconds(down_bits, down_rate),
        s5_s=device.batch * backward / device.compute_flops_per_s + codec_s,
        uplink_bits=up_bits,
        downlink_bits=down_bits,
    )


def adapter_exchange_s(
    instance: Instance, decisions: Sequence[Decision], channel: RoundChannel
) -> float:
    """Return the time tau_a of the adapter exchange in seconds, equation (8).

    Under ``psd`` with no adapter shares given, the best ones are taken, which equalise all
    uploads: SUM l_n A / R^u_n(1).
    """
    bits = instance.workload.adapter_bits_per_block
    holders = [n for n, decision in enumerate(decisions) if decision.blocks >= 1]
    if not holders or bits == 0.0:
        return 0.0

    def up_s(n: int, share: float) -> float:
        gains = channel.uplink_gain[n]
        rate = uplink_rate_bits_per_s(instance, instance.devices[n], share, gains)
        return _seconds(decisions[n].blocks * bits, rate)

    given = [decisions[n].adapter_share for n in holders]
    if instance.radio.power is PowerLaw.PSD and all(share is None for share in given):
        up = sum(up_s(n, 1.0) for n in holders)
    else:
        up = max(up_s(n, share or 0.0) for n, share in zip(holders, given, strict=True))
    rates = [downlink_rate_bits_per_s(instance, 1.0, channel.downlink_gain[n]) for n in holders]
    held = [decisions[n].blocks for n in holders]
    if instance.radio.adapter_downlink is AdapterDownlink.UNICAST:
        down = sum(_seconds(blocks * bits, rate) for blocks, rate in zip(held, rates, strict=True))
    else:
        down = sum(
            _seconds(
                bits, min(rate for blocks, rate in zip(held, rates, strict=True) if blocks >= block)
            )
            for block in range(1, max(held) + 1)
        )
    return up + down


def round_delay(
    instance: Instance, decisions: Sequence[Decision], channel: RoundChannel | None = None
) -> RoundDelay:
    """Return the round delay and its parts, equations (7), (8) and (9). ``decisions`` are in the
    order of the instance's devices.

    ``channel``: the gains of one round, problem (14); else the statistics of equation (3).
    """
    known = statistical_channel(instance) if channel is None else channel.of(instance)
    times = [
        step_times(instance, device, decision, up, down)
        for device, decision, up, down in zip(
            instance.devices, decisions, known.uplink_gain, known.downlink_gain, strict=True
        )
    ]
    tau_u = max(t.s1_s + t.s2_s for t in times)
    tau_d = max(t.s4_s + t.s5_s for t in times)
    server = [t.s3_s for t in times]
    server_s = sum(server) if instance.server_order is ServerOrder.IN_TURN else max(server)
    step_s = tau_u + server_s + tau_d
    tau_a = adapter_exchange_s(instance, decisions, known)
    return RoundDelay(
        round_s=instance.training.local_steps * step_s + tau_a,
        step_s=step_s,
        tau_u_s=tau_u,
        server_s=server_s,
        tau_d_s=tau_d,
        tau_a_s=tau_a,
        devices=tuple(times),
    )
