"""From an instance to plain arrays, once: what formulations and solvers calculate with.

No formulation and no solver reads an :class:`~sftopt.core.instance.Instance`; they read this. The
judge does not: it has its own road from the instance to the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sftopt.core.block_work import (
    block_activation_bytes,
    block_backward_flops,
    block_forward_flops,
)
from sftopt.core.channel import RoundChannel, mean_efficiency, statistical_channel
from sftopt.core.cut_range import cut_range
from sftopt.core.derived_arrays import Derived as Derived
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.option import Option as Option
from sftopt.core.option import options_of
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE, Tolerance

Array = NDArray[np.float64]


def derive(
    instance: Instance,
    channel: RoundChannel | None = None,
    feas_tol: float = FEASIBILITY_TOLERANCE,
) -> Derived:
    """Compute every array that formulations and solvers need from a parsed instance.

    ``channel``: the gains of one round, problem (14), in place of the statistics of (3).
    ``feas_tol``: the judge's tolerance, by which every limit is relaxed here too.

    Raises InputError where values are each legal but together overflow a double, and for a
    ``feas_tol`` that is out of range.
    """
    with np.errstate(all="ignore"):
        derived = _derive(instance, channel, Tolerance(feas_tol))
    for item in fields(derived):
        value = getattr(derived, item.name)
        numbers = isinstance(value, float | np.ndarray)
        if numbers and not np.isfinite(value).all():
            raise InputError(
                f"instance '{instance.name}': its numbers overflow: {item.name} is not finite; "
                "look for a value that is far too large or too small ('sftopt check' warns of "
                "unusual ones)"
            )
    return derived


def _derive(instance: Instance, channel: RoundChannel | None, tolerance: Tolerance) -> Derived:
    work, radio, server = instance.workload, instance.radio, instance.server
    devices = instance.devices
    batch = np.array([d.batch for d in devices], dtype=float)
    speed = np.array([d.compute_flops_per_s for d in devices])
    codec = np.array([d.codec_s_per_element for d in devices])
    memory = np.array([d.memory_bytes for d in devices])
    weight = np.array([d.weight for d in devices])
    power_w = np.array([d.transmit_power_w for d in devices])
    floor = np.array([d.blocks_min for d in devices], dtype=np.int64)

    known = statistical_channel(instance) if channel is None else channel.of(instance)
    noise_up = radio.noise_w_per_hz * radio.uplink_noise_figure * radio.uplink_bandwidth_hz
    noise_down = radio.noise_w_per_hz * radio.downlink_noise_figure * radio.downlink_bandwidth_hz
    snr_up = (power_w / noise_up)[:, None] * known.uplink_gain
    snr_down = server.transmit_power_w / noise_down * known.downlink_gain
    rate_up = radio.uplink_bandwidth_hz * mean_efficiency(snr_up, radio)
    rate_down = radio.downlink_bandwidth_hz * mean_efficiency(snr_down, radio)

    elements = batch * work.boundary_elements
    codec_s = codec * elements
    per_block = work.block_forward_flops + work.block_backward_flops
    options = options_of(instance, tolerance)
    server_side = _server_side(instance, options, batch)
    cuts = cut_range(
        instance, batch, tolerance.most_bytes(memory), floor, tolerance,
        server_side.saved,
    )  # fmt: skip
    factor = np.array([option.codec_factor for option in options])
    accuracy = instance.accuracy
    loss, loss_rounding = tolerance.most_loss(accuracy.uncompressed, accuracy.minimum)
    loss_each, rounding_each = tolerance.most_loss(accuracy.uncompressed, accuracy.floor_each)
    least_rate = tolerance.least_rate(radio.outage_rate_bits_per_s)
    return Derived(
        instance_hash=instance.hash,
        ids=tuple(d.id for d in devices),
        blocks=work.blocks,
        tokens=work.tokens,
        steps=instance.training.local_steps,
        power=radio.power,
        downlink=radio.downlink,
        server_order=instance.server_order,
        adapter_downlink=radio.adapter_downlink,
        scope=accuracy.scope,
        reference_bits=float(work.reference_bits),
        elements=elements,
        side_bits=batch * work.side_bits,
        side_bits_per_element=work.side_bits / work.boundary_elements,
        weight=weight / weight.sum(),
        s1_base_s=batch * work.embedding_forward_flops / speed + codec_s,
        s1_block_s=batch * work.block_forward_flops / speed,
        s3_base_s=batch * (work.blocks * per_block + work.head_flops) / server.compute_flops_per_s,
        s3_block_s=batch * per_block / server.compute_flops_per_s,
        s5_base_s=codec_s,
        s5_block_s=batch * work.block_backward_flops / speed,
        codec_s=codec_s,
        option_codec_factor=factor,
        option_elements=server_side.elements,
        option_s1_base_s=(batch * work.embedding_forward_flops / speed)[:, None]
        + codec_s[:, None] * factor,
        option_s3_base_s=server_side.base_s,
        option_s3_block_s=server_side.block_s,
        option_s5_base_s=codec_s[:, None] * factor,
        uplink_full_bits_per_s=rate_up,
        downlink_full_bits_per_s=rate_down,
        snr_terms=snr_up / radio.snr_gap,
        uplink_bandwidth_hz=radio.uplink_bandwidth_hz,
        efficiency_cap=radio.efficiency_cap_bits_per_s_hz,
        adapter_bits_per_block=work.adapter_bits_per_block,
        cut_floor=floor,
        cut_low=cuts.low,
        option_cut_low=cuts.option_low,
        cut_high=cuts.high,
        server_activation_bytes=batch * work.block_activation_bytes,
        option_server_activation_bytes=server_side.activation_bytes,
        server_activation_budget_bytes=cuts.budget_bytes,
        options=options,
        loss_keep=accuracy.keep_loss,
        decay=accuracy.keep_decay,
        cut_factor=np.ones(work.blocks)
        if accuracy.cut_factor is None
        else np.array(accuracy.cut_factor),
        noise_scales=accuracy.quantisation_scales_with_keep,
        loss_budget=loss,
        loss_budget_each=loss_each,
        loss_rounding=loss_rounding,
        loss_rounding_each=rounding_each,
        outage=(rate_up < least_rate) | (rate_down < least_rate),
        feas_tol=tolerance.feas_tol,
    )


@dataclass(frozen=True)
class _ServerSide:
    """What crosses and what the server does and holds by option, (N, O): tokens change it."""

    elements: Array
    base_s: Array
    block_s: Array
    activation_bytes: Array
    saved: tuple[tuple[int | None, float], ...]
    """Of every option S' and m_a(S')."""


def _server_side(instance: Instance, options: tuple[Option, ...], batch: Array) -> _ServerSide:
    work, speed = instance.workload, instance.server.compute_flops_per_s
    tokens = [option.tokens for option in options]
    known = {
        count: (
            block_forward_flops(work, tokens=count) + block_backward_flops(work, tokens=count),
            block_activation_bytes(work, tokens=count),
            (work.tokens if count is None else count) * work.hidden,
        )
        for count in dict.fromkeys(tokens)
    }
    flops, saved, sent = (
        np.array([known[count][row] for count in tokens], dtype=float) for row in range(3)
    )
    each = batch[:, None]
    return _ServerSide(
        elements=each * sent,
        base_s=each * (work.blocks * flops + work.head_flops) / speed,
        block_s=each * flops / speed,
        activation_bytes=each * saved,
        saved=tuple(zip(tokens, saved.tolist(), strict=True)),
    )
