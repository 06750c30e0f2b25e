"""An instance as plain arrays: what formulations and solvers calculate with.

Made by :func:`sftopt.core.derived.derive`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sftopt.core.entropy import payload_bits
from sftopt.core.instance import (
    AccuracyScope,
    AdapterDownlink,
    DownlinkPayload,
    ModeKind,
    PowerLaw,
    ServerOrder,
)
from sftopt.core.option import Option
from sftopt.core.spectrum import ConcaveRate, LinearRate

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Derived:
    """Arrays of an instance; N devices, O options, shapes (N,) unless said. SI units.

    s1_n = s1_base + l s1_block; s3_n = s3_base - l s3_block; s5_n = s5_base + l s5_block;
    memory: device l <= cut_high, server ``in_turn`` l >= cut_low, ``parallel`` a sum.

    Operating points (:attr:`Option.is_point`) change these by option: ``option_...`` of shape
    (N, O) hold then, the others where :attr:`plain` says that no option has figures of its own.

    Every limit is relaxed by ``feas_tol``, as the judge relaxes it. Shares sum to 1 here: bounds
    give way for sums of 1 + ``feas_tol`` by :attr:`shortest`.
    """

    instance_hash: str
    ids: tuple[str, ...]
    blocks: int
    tokens: int
    """S, tokens of a sample."""
    steps: int
    power: PowerLaw
    downlink: DownlinkPayload
    server_order: ServerOrder
    adapter_downlink: AdapterDownlink
    scope: AccuracyScope
    reference_bits: float
    elements: Array
    """b_n E, boundary elements per step."""
    side_bits: Array
    """b_n S_side, bits per step that go up beside the boundary: a part of :meth:`beta_up`."""
    side_bits_per_element: float
    """S_side / E."""
    weight: Array
    """w_n, normalised to sum to 1."""
    s1_base_s: Array
    s1_block_s: Array
    s3_base_s: Array
    s3_block_s: Array
    s5_base_s: Array
    s5_block_s: Array
    codec_s: Array
    """e_n b_n E, codec seconds per direction at c_o = 1."""
    option_codec_factor: Array
    """c_o, shape (O,)."""
    option_elements: Array
    """b_n S' d, elements sent per step, shape (N, O)."""
    option_s1_base_s: Array
    option_s3_base_s: Array
    option_s3_block_s: Array
    option_s5_base_s: Array
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
    """The floor, raised to what the server's memory asks of each device when served in turn: the
    least over the options."""
    option_cut_low: NDArray[np.int64]
    """The same by option, (N, O): tokens have a memory of their own and at least one block."""
    cut_high: NDArray[np.int64]
    """min(L-1, l_max,n, what device memory allows)."""
    server_activation_bytes: Array
    """b_n m_a: what one more block at the server costs it, per device."""
    option_server_activation_bytes: Array
    """b_n m_a(S'), shape (N, O)."""
    server_activation_budget_bytes: float
    """``parallel``: SUM b_n (L - l_n) m_a must not exceed this. Half a block above a whole number
    of m_a: no sum lies within an engine's tolerance of it (without tokens)."""
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
    loss_rounding: float
    """The part of ``loss_budget`` that is rounding: plans leave it (:mod:`sftopt.core.settle`)."""
    loss_rounding_each: float
    """The part of ``loss_budget_each`` that is."""
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

    @cached_property
    def plain(self) -> bool:
        """Tell whether no option has figures of its own: times and memory are alike over them."""
        return not any(option.is_point for option in self.options)

    def by_option(self, plain: Array, table: Array, choice: Integers | None) -> Array:
        """Return the entries of a (N, O) ``table`` at option indices ``choice``, (..., N).

        ``plain`` (N,) is what all of them are where no option has figures of its own; only then
        ``choice`` may be None.
        """
        if self.plain:
            return plain
        if choice is None:
            raise ValueError("options have figures of their own here: say which are chosen")
        entries: Array = table[np.arange(self.devices), choice]
        return entries

    def lowest_cuts(self, choice: Integers | None = None) -> Integers:
        """Return the least cut of every device on its option, (N,); equation (11) in turn."""
        if self.plain or choice is None:
            return self.cut_low
        lowest: Integers = self.option_cut_low[np.arange(self.devices), choice]
        return lowest

    def s1_s(self, cuts: Array | Integers, choice: Integers | None = None) -> Array:
        """Return the seconds of a device's forward pass at ``cuts``; equation (4).

        Shape (N,) or (..., N), as ``cuts`` and ``choice``, the option indices.
        """
        base = self.by_option(self.s1_base_s, self.option_s1_base_s, choice)
        value: Array = base + cuts * self.s1_block_s
        return value

    def s3_s(self, cuts: Array | Integers, choice: Integers | None = None) -> Array:
        """Return the seconds the server works for a device at ``cuts``; equation (5).

        Shape (N,) or (..., N), as ``cuts`` and ``choice``, the option indices.
        """
        base = self.by_option(self.s3_base_s, self.option_s3_base_s, choice)
        value: Array = base - cuts * self.s3_blocks_s(choice)
        return value

    def s3_blocks_s(self, choice: Integers | None = None) -> Array:
        """Return the seconds that one block takes the server, (N,) or as ``choice``; (5)."""
        return self.by_option(self.s3_block_s, self.option_s3_block_s, choice)

    def s5_s(self, cuts: Array | Integers, choice: Integers | None = None) -> Array:
        """Return the seconds of a device's backward pass at ``cuts``; equation (6).

        Shape (N,) or (..., N), as ``cuts`` and ``choice``, the option indices.
        """
        base = self.by_option(self.s5_base_s, self.option_s5_base_s, choice)
        value: Array = base + cuts * self.s5_block_s
        return value

    def activation_bytes(self, choice: Integers | None = None) -> Array:
        """Return the bytes that one block costs the server, (N,) or as ``choice``; (11)."""
        table = self.option_server_activation_bytes
        return self.by_option(self.server_activation_bytes, table, choice)

    def adapter_bits(self, cuts: Array | NDArray[np.int64]) -> Array:
        """Return the bits of the adapters below ``cuts``, same shape; equation (8)."""
        return np.asarray(cuts * self.adapter_bits_per_block, dtype=float)

    @cached_property
    def cuts_interact(self) -> bool:
        """Tell whether accuracy depends on the cut."""
        own = [option.own_loss for option in self.options if option.own_loss is not None]
        return bool(np.any(self.cut_factor != 1.0)) or any(np.ptp(loss) > 0.0 for loss in own)

    def token_share(self, option: Option) -> float:
        """Return S'/S, the part of the boundary's elements that an option sends; 1 but for tokens.

        A property of the option; equations (1) and (2) count per element of the whole boundary.
        """
        return 1.0 if option.tokens is None else option.tokens / self.tokens

    def constant_up(self, option: Option) -> float:
        """Return the uplink bits per element of an option that its keep fraction leaves alone.

        Equation (1): sigma of a masked option, all bits of another; and the side bits.
        """
        if option.has_mask:
            return option.sigma + self.side_bits_per_element
        bits = self.reference_bits if option.kind is ModeKind.NONE else option.eta + option.sigma
        return bits * self.token_share(option) + self.side_bits_per_element

    def constant_down(self, option: Option) -> float:
        """Return the downlink bits per element that the keep fraction leaves alone; equation (2).

        b_ref where the downlink is dense, else an option's own gradient bits where it has some.
        """
        if self.downlink is DownlinkPayload.DENSE:
            return self.reference_bits * self.token_share(option)
        if option.has_mask:
            return option.sigma
        bits = self.reference_bits if option.kind is ModeKind.NONE else option.eta + option.sigma
        if option.gradient_bits is not None:
            bits = option.gradient_bits
        return bits * self.token_share(option)

    @cached_property
    def constants_up(self) -> Array:
        """Return :meth:`constant_up` of every option in bits per element, (O,)."""
        return np.array([self.constant_up(option) for option in self.options])

    @cached_property
    def constants_down(self) -> Array:
        """Return :meth:`constant_down` of every option in bits per element, (O,)."""
        return np.array([self.constant_down(option) for option in self.options])

    def beta_up(self, option: Option, keep: Array | float) -> Array:
        """Return the uplink bits per element of the whole boundary, as ``keep``; equation (1).

        Side bits included: times ``elements`` it is all that goes up.
        """
        keep = np.asarray(keep, dtype=float)
        constant = self.constant_up(option)
        if not option.has_mask:
            return np.full_like(keep, constant)
        return payload_bits(keep, option.eta, option.omega, constant)

    def beta_down(self, option: Option, keep: Array | float) -> Array:
        """Return the downlink bits per element of the whole boundary, as ``keep``; equation (2)."""
        keep = np.asarray(keep, dtype=float)
        constant = self.constant_down(option)
        if self.downlink is DownlinkPayload.DENSE or not option.has_mask:
            return np.full_like(keep, constant)
        value: Array = keep * option.eta + constant
        return value

    def loss(self, option: Option, keep: Array | float, cuts: Integers | int = 0) -> Array:
        """Return the loss a_0 - a(rho, q) on one option; equation (12), shapes broadcast.

        An operating point's own, measured, where it has one.
        """
        if option.own_loss is None:
            return self.loss_at(option, keep, self.cut_factor[cuts])
        own: Array = np.broadcast_to(option.own_loss[cuts], np.broadcast(keep, cuts).shape).copy()
        return own

    def loss_at(self, option: Option, keep: Array | float, factor: Array | float) -> Array:
        """Return :meth:`loss` by equation (12) for given factors on a_1 in place of cuts."""
        keep = np.asarray(keep, dtype=float)
        if option.kind is ModeKind.NONE:
            return np.zeros(np.broadcast(keep, factor).shape)
        kept = keep if option.has_mask else np.ones_like(keep)
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
