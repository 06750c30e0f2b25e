"""From an instance to plain arrays, once: what formulations and solvers calculate with.

No formulation and no solver reads an :class:`~sftopt.core.instance.Instance`; they read this. The
judge does not: it has its own road from the instance to the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sftopt.core.channel import RoundChannel, mean_efficiency, statistical_channel
from sftopt.core.cut_range import cut_range
from sftopt.core.entropy import payload_bits
from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.instance import (
    AccuracyScope,
    AdapterDownlink,
    DownlinkPayload,
    Instance,
    ModeKind,
    PowerLaw,
    ServerOrder,
)
from sftopt.core.payload import keep_limit
from sftopt.core.spectrum import ConcaveRate, LinearRate
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE, Tolerance

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Option:
    """A compression mode on one interval of the keep fraction, with constant coefficients.

    A mode whose mask overhead omega is given by intervals becomes one option per interval.
    """

    mode: int
    kind: ModeKind
    bits: int
    label: str
    keep_low: float
    keep_high: float
    eta: float
    omega: float
    sigma: float
    noise: float
    """a_3 4^-q (times rho where ``noise_scales``); 0 under mode none."""

    @property
    def has_mask(self) -> bool:
        """Tell whether the keep fraction is a decision: under Top-K."""
        return self.kind is ModeKind.TOPK


@dataclass(frozen=True)
class Derived:
    """Arrays of an instance; N devices, shapes (N,) unless said. SI units.

    s1_n = s1_base + l s1_block; s3_n = s3_base - l s3_block; s5_n = s5_base + l s5_block;
    memory: device l <= cut_high, server ``in_turn`` l >= cut_low, ``parallel`` a sum.

    Every limit is relaxed by ``feas_tol``, as the judge relaxes it. Shares sum to 1 here: bounds
    give way for sums of 1 + ``feas_tol`` by :attr:`shortest`.
    """

    instance_hash: str
    ids: tuple[str, ...]
    blocks: int
    steps: int
    power: PowerLaw
    downlink: DownlinkPayload
    server_order: ServerOrder
    adapter_downlink: AdapterDownlink
    scope: AccuracyScope
    reference_bits: float
    elements: Array
    """b_n E, boundary elements per step."""
    weight: Array
    """w_n, normalised to sum to 1."""
    s1_base_s: Array
    s1_block_s: Array
    s3_base_s: Array
    s3_block_s: Array
    s5_base_s: Array
    s5_block_s: Array
    uplink_full_bits_per_s: Array
    """R^u_n(1)."""
    downlink_full_bits_per_s: Array
    snr_terms: Array
    """s^u_n h_k / Gamma, shape (N, k): the ``total`` law. k blocks, equally likely or long."""
    uplink_bandwidth_hz: float
    efficiency_cap: float
    adapter_bits_per_block: float
    cut_floor: NDArray[np.int64]
    """l_min,n, the privacy floor."""
    cut_low: NDArray[np.int64]
    """The floor, raised to what the server's memory asks of each device when served in turn."""
    cut_high: NDArray[np.int64]
    """min(L-1, l_max,n, what device memory allows)."""
    server_activation_bytes: Array
    """b_n m_a: what one more block at the server costs it, per device."""
    server_activation_budget_bytes: float
    """``parallel``: SUM b_n (L - l_n) m_a must not exceed this. Half a block above a whole number
    of m_a: no sum lies within an engine's tolerance of it."""
    options: tuple[Option, ...]
    loss_keep: float
    """a_1."""
    decay: float
    """a_2."""
    cut_factor: Array
    """Factor on a_1 by blocks held, shape (L,)."""
    noise_scales: bool
    """True: the noise term is rho a_3 4^-q."""
    loss_budget: float
    """a_0 - a_min: the mean loss allowed under scope mean, every loss under the others."""
    loss_budget_each: float
    """a_0 - a_each under scope mean, else ``loss_budget``."""
    outage: NDArray[np.bool_]
    """Devices whose whole-band rate, up or down, is below R_min."""
    feas_tol: float
    """By what the limits are relaxed; :class:`~sftopt.core.tolerance.Tolerance`."""

    @property
    def devices(self) -> int:
        """Return the number of devices N."""
        return len(self.ids)

    @property
    def shortest(self) -> float:
        """Return the factor on a bound for share sums of 1 that holds for 1 + ``feas_tol`` too.

        Shares divided by 1 + ``feas_tol`` sum to 1; as rates are concave in them and 0 at 0, the
        times of what is sent then grow by that factor at most, and no other time changes.
        """
        return 1.0 / (1.0 + self.feas_tol)

    @property
    def uplink_law(self) -> LinearRate | ConcaveRate:
        """Return the uplink's rate law, equation (3)."""
        if self.power is PowerLaw.PSD:
            return LinearRate(self.uplink_full_bits_per_s)
        return ConcaveRate(self.uplink_bandwidth_hz, self.snr_terms, self.efficiency_cap)

    @property
    def downlink_law(self) -> LinearRate:
        """Return the downlink's rate law, equation (3)."""
        return LinearRate(self.downlink_full_bits_per_s)

    def s1_s(self, cuts: Array | NDArray[np.int64]) -> Array:
        """Return the seconds of a device's forward pass at ``cuts``; equation (4).

        Shape (N,) or (..., N), as ``cuts``.
        """
        value: Array = self.s1_base_s + cuts * self.s1_block_s
        return value

    def s3_s(self, cuts: Array | NDArray[np.int64]) -> Array:
        """Return the seconds the server works for a device at ``cuts``; equation (5).

        Shape (N,) or (..., N), as ``cuts``.
        """
        value: Array = self.s3_base_s - cuts * self.s3_block_s
        return value

    def s5_s(self, cuts: Array | NDArray[np.int64]) -> Array:
        """Return the seconds of a device's backward pass at ``cuts``; equation (6).

        Shape (N,) or (..., N), as ``cuts``.
        """
        value: Array = self.s5_base_s + cuts * self.s5_block_s
        return value

    def adapter_bits(self, cuts: Array | NDArray[np.int64]) -> Array:
        """Return the bits of the adapters below ``cuts``, same shape; equation (8)."""
        return np.asarray(cuts * self.adapter_bits_per_block, dtype=float)

    @property
    def cuts_interact(self) -> bool:
        """Tell whether accuracy depends on the cut."""
        return bool(np.any(self.cut_factor != 1.0))

    def beta_up(self, option: Option, keep: Array | float) -> Array:
        """Return the uplink bits per element on one option, shape as ``keep``; equation (1)."""
        keep = np.asarray(keep, dtype=float)
        if option.kind is ModeKind.NONE:
            return np.full_like(keep, self.reference_bits)
        if option.kind is ModeKind.DENSE:
            return np.full_like(keep, option.eta + option.sigma)
        return payload_bits(keep, option.eta, option.omega, option.sigma)

    def beta_down(self, option: Option, keep: Array | float) -> Array:
        """Return the downlink bits per element on one option, shape as ``keep``; equation (2)."""
        keep = np.asarray(keep, dtype=float)
        if self.downlink is DownlinkPayload.DENSE or option.kind is ModeKind.NONE:
            return np.full_like(keep, self.reference_bits)
        if option.kind is ModeKind.DENSE:
            return np.full_like(keep, option.eta + option.sigma)
        value: Array = keep * option.eta + option.sigma
        return value

    def loss(self, option: Option, keep: Array | float, cuts: NDArray[np.int64] | int = 0) -> Array:
        """Return the loss a_0 - a(rho, q) on one option; equation (12), shapes broadcast."""
        return self.loss_at(option, keep, self.cut_factor[cuts])

    def loss_at(self, option: Option, keep: Array | float, factor: Array | float) -> Array:
        """Return :meth:`loss` for given factors on a_1 in place of cuts; shapes broadcast."""
        keep = np.asarray(keep, dtype=float)
        if option.kind is ModeKind.NONE:
            return np.zeros(np.broadcast(keep, factor).shape)
        kept = np.ones_like(keep) if option.kind is ModeKind.DENSE else keep
        noise = option.noise * (kept if self.noise_scales else 1.0)
        value: Array = factor * self.loss_keep * np.exp(-self.decay * kept) + noise
        return value

    def adapter_down_s(self, cuts: NDArray[np.int64]) -> float:
        """Return the seconds of tau_a's downlink part at these cuts, (N,); equation (8)."""
        per_block = self.adapter_bits_per_block / self.downlink_full_bits_per_s
        if self.adapter_downlink is AdapterDownlink.UNICAST:
            return float((cuts * per_block).sum())
        top = int(cuts.max(initial=0))
        return float(sum(per_block[cuts >= block].max() for block in range(1, top + 1)))


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
        if numbers and not np.all(np.isfinite(value)):
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
    per_block = work.block_forward_flops + work.block_backward_flops
    low, high, budget = cut_range(instance, batch, tolerance.most_bytes(memory), floor, tolerance)
    accuracy = instance.accuracy
    least_rate = tolerance.least_rate(radio.outage_rate_bits_per_s)
    return Derived(
        instance_hash=instance.hash,
        ids=tuple(d.id for d in devices),
        blocks=work.blocks,
        steps=instance.training.local_steps,
        power=radio.power,
        downlink=radio.downlink,
        server_order=instance.server_order,
        adapter_downlink=radio.adapter_downlink,
        scope=accuracy.scope,
        reference_bits=float(work.reference_bits),
        elements=elements,
        weight=weight / weight.sum(),
        s1_base_s=batch * work.embedding_forward_flops / speed + codec * elements,
        s1_block_s=batch * work.block_forward_flops / speed,
        s3_base_s=batch * (work.blocks * per_block + work.head_flops) / server.compute_flops_per_s,
        s3_block_s=batch * per_block / server.compute_flops_per_s,
        s5_base_s=codec * elements,
        s5_block_s=batch * work.block_backward_flops / speed,
        uplink_full_bits_per_s=rate_up,
        downlink_full_bits_per_s=rate_down,
        snr_terms=snr_up / radio.snr_gap,
        uplink_bandwidth_hz=radio.uplink_bandwidth_hz,
        efficiency_cap=radio.efficiency_cap_bits_per_s_hz,
        adapter_bits_per_block=work.adapter_bits_per_block,
        cut_floor=floor,
        cut_low=low,
        cut_high=high,
        server_activation_bytes=batch * work.block_activation_bytes,
        server_activation_budget_bytes=budget,
        options=_options(instance, tolerance),
        loss_keep=accuracy.keep_loss,
        decay=accuracy.keep_decay,
        cut_factor=np.ones(work.blocks)
        if accuracy.cut_factor is None
        else np.array(accuracy.cut_factor),
        noise_scales=accuracy.quantisation_scales_with_keep,
        loss_budget=accuracy.uncompressed - tolerance.least_accuracy(accuracy.minimum),
        loss_budget_each=accuracy.uncompressed - tolerance.least_accuracy(accuracy.floor_each),
        outage=(rate_up < least_rate) | (rate_down < least_rate),
        feas_tol=tolerance.feas_tol,
    )


def _options(instance: Instance, tolerance: Tolerance) -> tuple[Option, ...]:
    """All non-empty (mode, interval of the keep fraction) pairs.

    Modes with figures that the equations do not know are left out. Raises InputError where all are.
    """
    options: list[Option] = []
    offered = list(enumerate(instance.compression.modes))
    known = [(index, mode) for index, mode in offered if not mode.beyond_equations]
    if not known:
        raise _no_known_mode(instance)
    for index, mode in known:
        noise = instance.accuracy.quantisation_loss * 4.0 ** (-mode.bits)
        if mode.kind is not ModeKind.TOPK:
            none = mode.kind is ModeKind.NONE
            options.append(
                Option(
                    mode=index,
                    kind=mode.kind,
                    bits=instance.workload.reference_bits if none else mode.bits,
                    label=mode.label,
                    keep_low=1.0,
                    keep_high=1.0,
                    eta=float(instance.workload.reference_bits) if none else mode.entropy_bits,
                    omega=0.0,
                    sigma=0.0 if none else mode.side_bits_per_element,
                    noise=0.0 if none else noise,
                )
            )
            continue
        limit = keep_limit(mode, instance)
        first, last = mode.mask_overhead[0], mode.mask_overhead[-1]
        for part in mode.mask_overhead:
            # outside all intervals the nearest one's omega holds
            low, high = tolerance.least_keep(instance.keep_min), tolerance.most_keep(limit)
            low = low if part is first else max(low, part.keep_from)
            high = high if part is last else min(high, part.keep_to)
            if low <= high:
                options.append(
                    Option(
                        mode=index,
                        kind=mode.kind,
                        bits=mode.bits,
                        label=mode.label,
                        keep_low=low,
                        keep_high=high,
                        eta=mode.entropy_bits,
                        omega=part.factor,
                        sigma=mode.side_bits_per_element,
                        noise=noise,
                    )
                )
    return tuple(options)


def _no_known_mode(instance: Instance) -> InputError:
    named = ", ".join(
        f"'{mode.label}' ({mode.beyond_equations})" for mode in instance.compression.modes
    )
    message = (
        f"compression.modes: every mode on offer has something that problem (13) does not know "
        f"yet: {named}; offer a mode of kind topk, dense or none without it"
    )
    return InputError(
        f"instance '{instance.name}': {message}",
        [Fault(field="compression.modes", value=len(instance.compression.modes), unit="modes",
               message=message)],
    )  # fmt: skip
