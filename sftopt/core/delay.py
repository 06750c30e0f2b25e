"""The judge's delay model, equations (3)-(9): plain numbers, one device at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.channel import fading_gains, spectral_efficiency
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
    instance: Instance, device: Device, share: float, gains: NDArray[np.float64] | None = None
) -> float:
    """R^u_n(x) of equation (3); 0 at a share of 0 or less."""
    if share <= 0.0:
        return 0.0
    radio = instance.radio
    gains = fading_gains(radio) if gains is None else gains
    noise = radio.noise_w_per_hz * radio.uplink_noise_figure * radio.uplink_bandwidth_hz
    snr = device.transmit_power_w * device.uplink_gain / noise
    if radio.power is PowerLaw.TOTAL:
        snr /= share
    return share * radio.uplink_bandwidth_hz * float(spectral_efficiency(snr, radio, gains))


def downlink_rate_bits_per_s(
    instance: Instance, device: Device, share: float, gains: NDArray[np.float64] | None = None
) -> float:
    """R^d_n(y) of equation (3): always linear in the share."""
    if share <= 0.0:
        return 0.0
    radio = instance.radio
    gains = fading_gains(radio) if gains is None else gains
    noise = radio.noise_w_per_hz * radio.downlink_noise_figure * radio.downlink_bandwidth_hz
    snr = instance.server.transmit_power_w * device.gain_down / noise
    return share * radio.downlink_bandwidth_hz * float(spectral_efficiency(snr, radio, gains))


def _seconds(bits: float, rate: float) -> float:
    if bits <= 0.0:
        return 0.0
    return bits / rate if rate > 0.0 else math.inf


def step_times(
    instance: Instance, device: Device, decision: Decision, gains: NDArray[np.float64]
) -> StepTimes:
    """Equations (4), (5) and (6) for one device."""
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
    up_rate = uplink_rate_bits_per_s(instance, device, decision.uplink_share, gains)
    down_rate = downlink_rate_bits_per_s(instance, device, decision.downlink_share, gains)
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
    instance: Instance, decisions: Sequence[Decision], gains: NDArray[np.float64]
) -> float:
    """tau_a of equation (8).

    Under ``psd`` with no adapter shares given, the best ones are taken, which equalise all
    uploads: SUM l_n A / R^u_n(1).
    """
    bits = instance.workload.adapter_bits_per_block
    pairs = [
        (device, decision)
        for device, decision in zip(instance.devices, decisions, strict=True)
        if decision.blocks >= 1
    ]
    if not pairs or bits == 0.0:
        return 0.0
    given = [decision.adapter_share for _, decision in pairs]
    if instance.radio.power is PowerLaw.PSD and all(share is None for share in given):
        up = sum(
            _seconds(decision.blocks * bits, uplink_rate_bits_per_s(instance, device, 1.0, gains))
            for device, decision in pairs
        )
    else:
        up = max(
            _seconds(
                decision.blocks * bits,
                uplink_rate_bits_per_s(instance, device, decision.adapter_share or 0.0, gains),
            )
            for device, decision in pairs
        )
    rates = [downlink_rate_bits_per_s(instance, device, 1.0, gains) for device, _ in pairs]
    held = [decision.blocks for _, decision in pairs]
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


def round_delay(instance: Instance, decisions: Sequence[Decision]) -> RoundDelay:
    """Equations (7), (8) and (9); ``decisions`` in the order of the instance's devices."""
    gains = fading_gains(instance.radio)
    times = [
        step_times(instance, device, decision, gains)
        for device, decision in zip(instance.devices, decisions, strict=True)
    ]
    tau_u = max(t.s1_s + t.s2_s for t in times)
    tau_d = max(t.s4_s + t.s5_s for t in times)
    server = [t.s3_s for t in times]
    server_s = sum(server) if instance.server_order is ServerOrder.IN_TURN else max(server)
    step_s = tau_u + server_s + tau_d
    tau_a = adapter_exchange_s(instance, decisions, gains)
    return RoundDelay(
        round_s=instance.training.local_steps * step_s + tau_a,
        step_s=step_s,
        tau_u_s=tau_u,
        server_s=server_s,
        tau_d_s=tau_d,
        tau_a_s=tau_a,
        devices=tuple(times),
    )
