"""The virtual clock: measured compute and measured bytes on the planned links.

A run trains on one machine; the plan is for a cell. Each step's processor seconds are therefore
scaled by f_ref / f_n, where f_ref is the speed of this machine on this model (of the calibration,
or of a profile taken before the run) and f_n the planned device's or server's. Bytes are those that
crossed the channels; rates follow from the plan's shares and the round's gains. Put together as the
judge does it for the plan's order (:mod:`sftopt.core.orders`): equations (7)-(9), or the sum of all
turns, or the slowest device alone with the whole model. A second clock takes the seconds of this
machine as they are.

What the model does not count is not on the clock: the server's codec and optimiser steps;
:class:`RoundDelays` reports their seconds apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from sftopt.core.channel import RoundChannel
from sftopt.core.delay import Conduct, downlink_rate_bits_per_s, uplink_rate_bits_per_s
from sftopt.core.instance import AdapterDownlink, Instance, PowerLaw, ServerOrder
from sftopt.core.plan import Order, Plan
from sftopt.training.loop import RoundRow
from sftopt.training.split import Phase, StepReport

_BITS = 8.0
"""Bits of a byte."""


@dataclass(frozen=True)
class DeviceDelays:
    """One device's parts of a step, equations (4)-(6); medians over the round's steps."""

    s1_s: float
    s2_s: float
    s3_s: float
    s4_s: float
    s5_s: float


@dataclass(frozen=True)
class ClockDelays:
    """A round on one clock, equations (7)-(9)."""

    round_s: float
    """The sum over the round's steps, and the adapter exchange."""
    step_s: float
    """Median over the steps, as are the three parts: a single disturbed step does not count."""
    tau_u_s: float
    server_s: float
    tau_d_s: float
    tau_a_s: float
    devices: dict[str, DeviceDelays]


@dataclass(frozen=True)
class RoundDelays:
    """A round on both clocks."""

    planned: ClockDelays
    """Compute scaled to the planned speeds."""
    unscaled: ClockDelays
    """Compute as fast as on this machine."""
    server_codec_s: float
    """Processor seconds of the server's codec, mean of a step; not on the clocks."""
    update_s: float
    """Processor seconds of all optimiser steps, mean of a step; not on the clocks."""

    def to_dict(self) -> dict[str, Any]:
        """Return the delays as plain JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class _Rates:
    """Bits per second of one device in one round."""

    up: float
    down: float
    adapters_up: float
    adapters_down: float


class VirtualClock:
    """Takes the steps of a round as they are reported; gives the round's delays at its end.

    Rates are known per round. Shares of a device that is absent stay unused.
    """

    def __init__(self, instance: Instance, plan: Plan, reference_flops_per_s: float) -> None:
        self._instance = instance
        self._parts = {part.id: part for part in plan.devices}
        self._index = {device.id: number for number, device in enumerate(instance.devices)}
        self._factors = {
            device.id: reference_flops_per_s / device.compute_flops_per_s
            for device in instance.devices
        }
        self._server_factors = {
            part.id: reference_flops_per_s
            / (part.server_flops_per_s or instance.server.compute_flops_per_s)
            for part in plan.devices
        }
        self._conduct = Conduct.of(plan)
        self._steps: list[StepReport] = []

    def add(self, report: StepReport) -> None:
        """Add one local step to the round."""
        self._steps.append(report)

    def finish(self, row: RoundRow, channel: RoundChannel) -> RoundDelays:
        """Return the delays of the round whose steps were added, and begin the next."""
        steps, self._steps = self._steps, []
        heard = self._conduct.channel(channel)
        rates = {name: self._rates(name, heard) for name in row.participants}
        adapters_s = self._adapters_s(row, rates)
        here = dict.fromkeys(self._factors, 1.0)
        times = [phases for step in steps for phases in step.times.values()]
        codec = [
            t.cpu_s.get(Phase.SERVER_DECODE, 0.0) + t.cpu_s.get(Phase.SERVER_ENCODE, 0.0)
            for t in times
        ]
        update = [t.cpu_s.get(Phase.UPDATE, 0.0) for t in times]
        update += [step.server_update.cpu_s.get(Phase.UPDATE, 0.0) for step in steps]
        return RoundDelays(
            planned=self._delays(steps, rates, self._factors, self._server_factors, adapters_s),
            unscaled=self._delays(steps, rates, here, here, adapters_s),
            server_codec_s=sum(codec) / len(steps),
            update_s=sum(update) / len(steps),
        )

    def _rates(self, device_id: str, channel: RoundChannel) -> _Rates:
        instance, part = self._instance, self._parts[device_id]
        number = self._index[device_id]
        device = instance.devices[number]
        up, down = channel.uplink_gain[number], channel.downlink_gain[number]
        whole = self._best_shares() or part.adapter_uplink_share is None
        share = 1.0 if whole else part.adapter_uplink_share or 0.0
        return _Rates(
            uplink_rate_bits_per_s(instance, device, part.uplink_share, up),
            downlink_rate_bits_per_s(instance, part.downlink_share, down),
            uplink_rate_bits_per_s(instance, device, share, up),
            downlink_rate_bits_per_s(instance, 1.0, down),
        )

    def _best_shares(self) -> bool:
        """Under ``psd`` without given shares the best ones are taken: uploads then add up."""
        return self._instance.radio.power is PowerLaw.PSD and all(
            part.adapter_uplink_share is None for part in self._parts.values()
        )

    def _delays(
        self,
        steps: list[StepReport],
        rates: Mapping[str, _Rates],
        factors: Mapping[str, float],
        server_factors: Mapping[str, float],
        adapters_s: float,
    ) -> ClockDelays:
        order = self._conduct.order
        each = [
            {
                name: _device_delays(step, name, rates[name], factors[name], server_factors[name])
                for name in step.times
            }
            for step in steps
        ]
        if order is Order.SEQUENTIAL:
            each = _turns_as_steps(each)
        elif order is Order.FEDERATED:
            each = [{n: _alone(d) for n, d in step.items()} for step in each]
        together = sum if order is Order.SEQUENTIAL else max
        in_turn = self._instance.server_order is ServerOrder.IN_TURN
        serving = sum if in_turn or order is Order.SEQUENTIAL else max
        tau_u = [together([d.s1_s + d.s2_s for d in step.values()]) for step in each]
        tau_d = [together([d.s4_s + d.s5_s for d in step.values()]) for step in each]
        server = [serving([d.s3_s for d in step.values()]) for step in each]
        step_s = [sum(parts) for parts in zip(tau_u, server, tau_d, strict=True)]
        return ClockDelays(
            round_s=sum(step_s) + adapters_s,
            step_s=median(step_s),
            tau_u_s=median(tau_u),
            server_s=median(server),
            tau_d_s=median(tau_d),
            tau_a_s=adapters_s,
            devices={name: _medians([step[name] for step in each]) for name in each[0]},
        )

    def _adapters_s(self, row: RoundRow, rates: Mapping[str, _Rates]) -> float:
        """tau_a of equation (8) with the bytes that crossed.

        A device that rejoins gets its adapters twice in that round. Multicast: a device's bytes
        spread evenly over its blocks, and each block goes out once, at its weakest holder's rate;
        so does the head of order federated. In a sequence every device has the band alone.
        """
        held = {name: self._parts[name] for name in rates if self._parts[name].blocks >= 1}
        if not held:
            return 0.0
        up_s = [
            _seconds(
                _bits(row, name, "uplink_adapters") + _bits(row, name, "uplink_head"),
                rates[name].adapters_up,
            )
            for name in held
        ]
        sequential = self._conduct.order is Order.SEQUENTIAL
        up = sum(up_s) if sequential or self._best_shares() else max(up_s)
        down_bits = {name: _bits(row, name, "downlink_adapters") for name in held}
        head_bits = {name: _bits(row, name, "downlink_head") for name in held}
        if sequential or self._instance.radio.adapter_downlink is AdapterDownlink.UNICAST:
            return up + sum(
                _seconds(down_bits[n] + head_bits[n], rates[n].adapters_down) for n in held
            )
        up += max(_seconds(head_bits[n], rates[n].adapters_down) for n in held)
        return up + sum(
            max(
                _seconds(down_bits[n] / part.blocks, rates[n].adapters_down)
                for n, part in held.items()
                if part.blocks >= block
            )
            for block in range(1, max(part.blocks for part in held.values()) + 1)
        )


def outages(instance: Instance, channel: RoundChannel) -> tuple[str, ...]:
    """Name the devices whose rate over the whole band is below R_min in this round, up or down."""
    least = instance.radio.outage_rate_bits_per_s
    return tuple(
        device.id
        for number, device in enumerate(instance.devices)
        if uplink_rate_bits_per_s(instance, device, 1.0, channel.uplink_gain[number]) < least
        or downlink_rate_bits_per_s(instance, 1.0, channel.downlink_gain[number]) < least
    )


def _device_delays(
    step: StepReport, name: str, rates: _Rates, factor: float, server_factor: float
) -> DeviceDelays:
    cpu = step.times[name].cpu_s
    forward = cpu.get(Phase.DEVICE_FORWARD, 0.0) + cpu.get(Phase.DEVICE_ENCODE, 0.0)
    backward = cpu.get(Phase.DEVICE_DECODE, 0.0) + cpu.get(Phase.DEVICE_BACKWARD, 0.0)
    return DeviceDelays(
        s1_s=factor * forward,
        s2_s=_seconds(_BITS * (step.uplink_bytes[name] + step.side_bytes[name]), rates.up),
        s3_s=server_factor * cpu.get(Phase.SERVER_COMPUTE, 0.0),
        s4_s=_seconds(_BITS * step.downlink_bytes[name], rates.down),
        s5_s=factor * backward,
    )


def _turns_as_steps(each: list[dict[str, DeviceDelays]]) -> list[dict[str, DeviceDelays]]:
    """The k-th steps of all devices as one step: turns come one after another, K steps each."""
    turns: dict[str, list[DeviceDelays]] = {}
    for step in each:
        for name, delays in step.items():
            turns.setdefault(name, []).append(delays)
    return [dict(zip(turns, step, strict=True)) for step in zip(*turns.values(), strict=True)]


def _alone(delays: DeviceDelays) -> DeviceDelays:
    """All of a step as the device's own work: nothing crosses a boundary."""
    return DeviceDelays(delays.s1_s + delays.s5_s, 0.0, 0.0, 0.0, 0.0)


def _medians(steps: list[DeviceDelays]) -> DeviceDelays:
    return DeviceDelays(
        *(
            median(getattr(step, name) for step in steps)
            for name in ("s1_s", "s2_s", "s3_s", "s4_s", "s5_s")
        )
    )


def _bits(row: RoundRow, device_id: str, kind: str) -> float:
    return _BITS * row.byte_counts[device_id].get(f"{kind}_bytes", 0)


def _seconds(bits: float, rate: float) -> float:
    """Only devices with a rate take part; see :func:`outages`."""
    return bits / rate if bits > 0.0 else 0.0
