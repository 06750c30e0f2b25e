"""Problem (13) with cuts and modes relaxed and shares inside, as functions and their slopes: (15).

Variables, all scaled to about 1: cuts l_n, a weight z_no and a keep fraction rho_no for every
option of every device (of all together under scope ``common``), the barriers tau_u and tau_d, and
tau_s (``parallel``) or tau_a (``total``) where the instance has them. The barriers are the
epigraph of the two maxima in (7): a device that is to end at tau needs the share
x_n = R_n^-1(b E beta / (tau - fixed_n)), so shares are functions of the variables and only their
sums are constraints. Payload and loss are means over the options, weighted with z.

Bounds of one variable, (10) and (11) ``in_turn`` among them, are bounds; all else is a constraint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from sftopt.core.candidate import Candidate
from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived
from sftopt.core.entropy import LN2, entropy_with_slope
from sftopt.core.instance import AccuracyScope, AdapterDownlink, ModeKind, PowerLaw, ServerOrder
from sftopt.core.point import IntegralPoint, best_delay
from sftopt.core.spectrum import RateLaw
from sftopt.solvers.heuristics.augmented_lagrangian.mixed import Tables

Array = NDArray[np.float64]

_ROOM = 0.25
"""Below this part of the least room a payload can have, 1/room is continued by a parabola."""
_LONGEST = 50.0
"""Barriers may be this many times those of the reference point."""
_SHORTEST = 1e-9
"""Barriers are at least this many times those of the reference point."""
_SOFT = 0.05
"""Temperature of the smooth maximum over holders, relative: adapters sent by multicast only."""


@dataclass(frozen=True)
class Family:
    """Constraints of one kind: where they stand in the vector, and whether they are equalities."""

    name: str
    rows: slice
    equality: bool


@dataclass
class _Blocks:
    """Where each kind of variable stands in the vector."""

    cuts: slice
    weights: slice
    keep: slice
    tau_up: int
    tau_down: int
    tau_server: int
    tau_adapter: int
    size: int


class Relaxation:
    """The functions of the relaxed problem; variables as a vector (n,), constraints as (m,).

    Inequalities are <= 0, scaled to about 1. The objective is in units of ``unit_s``.
    """

    def __init__(self, derived: Derived, reference: IntegralPoint) -> None:
        self.derived = derived
        count, options = derived.devices, derived.options
        self.common = derived.scope is AccuracyScope.COMMON
        self.total_power = derived.power is PowerLaw.TOTAL
        self.parallel = derived.server_order is ServerOrder.PARALLEL
        self.choosers = 1 if self.common else count
        self._scale(reference)
        self._option_arrays()
        self.cut_low = derived.cut_low.astype(float)
        self.cut_span = (derived.cut_high - derived.cut_low).astype(float)
        self.factor = PchipInterpolator(np.arange(derived.blocks), derived.cut_factor) \
            if derived.cuts_interact else None  # fmt: skip
        self.factor_slope = None if self.factor is None else self.factor.derivative()
        self.up = _Link(derived.uplink_law, derived.elements * self.least_up)
        self.down = _Link(derived.downlink_law, derived.elements * self.least_down)
        self.adapter = _Link(
            derived.uplink_law, np.full(count, 1e-6 * derived.adapter_bits_per_block)
        )
        cells = self.choosers * len(options)
        at = 2 * cells + count
        self.blocks = _Blocks(
            slice(0, count), slice(count, count + cells), slice(count + cells, at),
            at, at + 1, at + 2, at + 2 + self.parallel, at + 2 + self.parallel + self.total_power,
        )  # fmt: skip
        self.families = tuple(self._families())
        self.rows = self.families[-1].rows.stop

    def _scale(self, reference: IntegralPoint) -> None:
        """Units: the round and the barriers of a feasible point."""
        derived = self.derived
        delay = best_delay(derived, reference)
        self.unit_s = delay.round_s
        self.tau_up_unit, self.tau_down_unit = delay.tau_up_s, delay.tau_down_s
        server = derived.s3_s(reference.cuts, reference.choice)
        self.tau_server_unit = max(float(server.max()), 1e-300)
        sent = derived.adapter_bits_per_block * np.maximum(reference.cuts, 1)
        self.tau_adapter_unit = float((sent / derived.uplink_full_bits_per_s).sum()) or 1e-300
        self.loss_unit = max(abs(derived.loss_budget_each), 1e-4)

    def _option_arrays(self) -> None:
        """Coefficients of every option, shape (O,), see :class:`Coefficients`."""
        derived = self.derived
        options = derived.options
        ones = np.ones(len(options))  # one row per option in place of one per device
        rows = replace(derived, elements=ones, weight=ones, cut_factor=np.ones(1))
        known = Coefficients(rows, np.zeros(len(options), dtype=np.int64), np.arange(len(options)))
        self.known = known
        self.low, self.span = known.low, known.high - known.low
        own = np.array([o.own_loss is not None for o in options])
        known.noise_constant = np.where(own, 0.0, known.noise_constant)  # theirs is in tables
        self.fades = np.array([float(o.kind is not ModeKind.NONE) for o in options]) * ~own
        self.tables = Tables(derived)
        ends = [known.low, known.high]
        self.least_up = float(min(known.bits_up(k).min() for k in ends))
        self.least_down = float(min(known.bits_down(k).min() for k in ends))

    def _families(self) -> Iterator[Family]:
        derived, count, at = self.derived, self.derived.devices, 0
        sizes = [("mode_weights", self.choosers, True), ("uplink_share", 1, False),
                 ("downlink_share", 1, False)]  # fmt: skip
        if self.total_power:
            sizes.append(("adapter_share", 1, False))
        if derived.scope is AccuracyScope.MEAN:
            sizes.append(("accuracy", 1, False))
        sizes.append(("accuracy_each", count, False))
        if self.parallel:
            sizes += [("server_time", count, False), ("server_memory", 1, False)]
        for name, size, equality in sizes:
            yield Family(name, slice(at, at + size), equality)
            at += size

    def bounds(self) -> list[tuple[float, float]]:
        """Return bounds of the scaled variables, among them equations (10) and, in turn, (11)."""
        cells = self.choosers * len(self.derived.options)
        fixed_up, fixed_down = self.tables.least_s()
        boxes = [(0.0, 1.0 if span > 0.0 else 0.0) for span in self.cut_span]
        boxes += [(0.0, 1.0)] * cells
        boxes += [(0.0, 1.0 if span > 0.0 else 0.0) for span in self.span] * self.choosers
        for fixed, unit in ((fixed_up, self.tau_up_unit), (fixed_down, self.tau_down_unit)):
            boxes.append((max(float(fixed.max()) / unit, _SHORTEST), _LONGEST))
        boxes += [(_SHORTEST, _LONGEST)] * (self.parallel + self.total_power)
        return boxes

    def start(self, part: float) -> Array:
        """Return scaled variables (n,): all cuts at one part of their range, options mixed evenly.

        Keep fractions are in the middle of their ranges.
        """
        v = np.zeros(self.blocks.size)
        v[self.blocks.cuts] = part
        v[self.blocks.weights] = 1.0 / len(self.derived.options)
        v[self.blocks.keep] = 0.5
        v[self.blocks.tau_up :] = 1.0
        return v

    def candidate(self, v: Array) -> Candidate:
        """Return the fractional point as solvers pass it on, with the heaviest option's keep."""
        derived = self.derived
        cuts = self.cut_low + v[self.blocks.cuts] * self.cut_span
        weights = np.maximum(self._cells(v, self.blocks.weights), 0.0)
        keep = self.low + self._cells(v, self.blocks.keep) * self.span
        heaviest = np.argmax(weights, axis=1)
        kept = keep[np.arange(self.choosers), heaviest]
        total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
        shape = (derived.devices, len(derived.options))
        return Candidate(
            np.clip(cuts, derived.cut_low, derived.cut_high),
            np.broadcast_to(weights / total, shape).copy(),
            np.broadcast_to(kept, (derived.devices,)).copy(),
        )

    def _cells(self, v: Array, part: slice) -> Array:
        return v[part].reshape(self.choosers, len(self.derived.options))

    def evaluate(self, v: Array) -> State:
        """Evaluate objective and constraints at ``v``, and what their slopes need."""
        return State(self, v)


class _Link:
    """Shares that a barrier asks for, continued smoothly where no share would do."""

    def __init__(self, law: RateLaw, least_bits: Array) -> None:
        self.law = law
        self.full = np.maximum(law.full(), 1e-300)
        self.near: Array | None = None
        self.least_room = np.maximum(_ROOM * least_bits / self.full, 1e-300)
        self.full_slope = np.asarray(law.inverse(self.full * (1.0 - 1e-9))[1])

    def shares(self, bits: Array, room: Array) -> tuple[Array, Array, Array]:
        """(x, dx/dbits, dx/droom), shapes (N,). Beyond x = 1 the law goes on as a line."""
        least = self.least_room
        short = room < least
        behind = (np.minimum(room, least) - least) / least
        inverse = np.where(
            short, (1.0 - behind + behind * behind) / least, 1.0 / np.maximum(room, least)
        )
        bend = np.where(short, (-1.0 + 2.0 * behind) / least**2, -(inverse**2))
        rate = bits * inverse
        inside = np.minimum(rate, self.full * (1.0 - 1e-9))
        share, slope = self.law.inverse(inside, self.near)
        over = rate > inside
        slope = np.where(over, self.full_slope, slope)
        self.near = share
        return share + slope * (rate - inside), slope * inverse, slope * bits * bend


class State:
    """One evaluation: ``objective`` (), ``constraints`` (m,), :meth:`slope` by the chain rule."""

    def __init__(self, relaxation: Relaxation, v: Array) -> None:
        self.relaxation = own = relaxation
        derived, at = own.derived, own.blocks
        self.cuts = own.cut_low + v[at.cuts] * own.cut_span
        self.weights = own._cells(v, at.weights)
        self.mixed = own.tables.mixed(self.weights, self.cuts)
        self.keep = own.low + own._cells(v, at.keep) * own.span
        self._payloads_and_losses()
        self.tau_up = v[at.tau_up] * own.tau_up_unit
        self.tau_down = v[at.tau_down] * own.tau_down_unit
        mixed = self.mixed
        room_up = self.tau_up - mixed.s1_none_s - self.cuts * derived.s1_block_s
        room_down = self.tau_down - mixed.s5_none_s - self.cuts * derived.s5_block_s
        self.share_up, self.up_by_bits, self.up_by_room = own.up.shares(self.bits_up, room_up)
        self.share_down, self.down_by_bits, self.down_by_room = own.down.shares(
            self.bits_down, room_down
        )
        self._server_and_adapters(v)
        self.constraints = self._constraints()
        step = self.tau_up + self.server_s + self.tau_down
        adapters = self.adapter_up_s + self.adapter_down_s
        self.objective = float(derived.steps * step + adapters) / own.unit_s

    def _payloads_and_losses(self) -> None:
        own, derived = self.relaxation, self.relaxation.derived
        known, keep, weights = own.known, self.keep, self.weights
        entropy, rise = entropy_with_slope(keep)
        self.beta_up = keep * known.eta_up + known.omega * entropy + known.constant_up
        self.beta_up_slope = known.eta_up + known.omega * rise / LN2
        self.beta_down = keep * known.eta_down + known.constant_down
        self.fade = own.fades * derived.loss_keep * np.exp(-derived.decay * keep)
        self.noise = keep * known.noise_slope + known.noise_constant
        self.bits_up = derived.elements * (weights * self.beta_up).sum(axis=1)
        self.bits_down = derived.elements * (weights * self.beta_down).sum(axis=1)
        self.factor = np.ones(derived.devices)
        self.factor_slope = np.zeros(derived.devices)
        if own.factor is not None and own.factor_slope is not None:
            self.factor, self.factor_slope = own.factor(self.cuts), own.factor_slope(self.cuts)
        self.faded = np.broadcast_to((weights * self.fade).sum(axis=1), (derived.devices,))
        self.loss = self.factor * self.faded + (weights * self.noise).sum(axis=1)
        self.loss = self.loss + self.mixed.loss

    def _server_and_adapters(self, v: Array) -> None:
        own, derived, at = self.relaxation, self.relaxation.derived, self.relaxation.blocks
        self.served = self.mixed.served_s(self.cuts)
        self.server_s = float(self.served.sum())
        if own.parallel:
            self.server_s = float(v[at.tau_server]) * own.tau_server_unit
        adapter_bits = derived.adapter_bits(self.cuts)
        if own.total_power:
            self.adapter_up_s = float(v[at.tau_adapter]) * own.tau_adapter_unit
            room = np.full(derived.devices, self.adapter_up_s)
            found = own.adapter.shares(adapter_bits, room)
            self.adapter_share, self.adapter_by_bits, self.adapter_by_room = found
        else:
            self.adapter_up_s = float((adapter_bits / derived.uplink_full_bits_per_s).sum())
        per_block = derived.adapter_bits_per_block / derived.downlink_full_bits_per_s
        if derived.adapter_downlink is AdapterDownlink.UNICAST:
            self.adapter_down_s = float((self.cuts * per_block).sum())
            self.adapter_down_slope = per_block
        else:
            self.adapter_down_s, self.adapter_down_slope = _multicast(self.cuts, per_block)

    def _constraints(self) -> Array:
        own, derived = self.relaxation, self.relaxation.derived
        value = np.empty(own.rows)
        rows: dict[str, Callable[[], Any]] = {
            "mode_weights": lambda: self.weights.sum(axis=1) - 1.0,
            "uplink_share": lambda: self.share_up.sum() - 1.0,
            "downlink_share": lambda: self.share_down.sum() - 1.0,
            "adapter_share": lambda: self.adapter_share.sum() - 1.0,
            "accuracy": lambda: (
                ((derived.weight * self.loss).sum() - derived.loss_budget) / own.loss_unit
            ),
            "accuracy_each": lambda: (self.loss - derived.loss_budget_each) / own.loss_unit,
            "server_time": lambda: (self.served - self.server_s) / own.tau_server_unit,
            "server_memory": lambda: (
                (self.mixed.activation_bytes * (derived.blocks - self.cuts)).sum()
                / max(abs(derived.server_activation_budget_bytes), 1e-300)
                - np.sign(derived.server_activation_budget_bytes)
            ),
        }
        for family in own.families:
            value[family.rows] = rows[family.name]()
        return value

    def slope(self, prices: Array) -> Array:
        """Return the gradient (n,) of objective + prices . constraints in the scaled variables."""
        own, derived, at = self.relaxation, self.relaxation.derived, self.relaxation.blocks
        price = {family.name: prices[family.rows] for family in own.families}
        steps = derived.steps / own.unit_s
        up, down = float(price["uplink_share"][0]), float(price["downlink_share"][0])
        by_loss = price["accuracy_each"] / own.loss_unit
        if "accuracy" in price:
            by_loss = by_loss + price["accuracy"] * derived.weight / own.loss_unit
        gradient = np.zeros(at.size)
        by_cut = -up * self.up_by_room * derived.s1_block_s
        by_cut -= down * self.down_by_room * derived.s5_block_s
        by_cut += by_loss * (self.factor_slope * self.faded + self.mixed.loss_by_cut)
        by_served, by_memory = self._server_slope(price, gradient, steps)
        by_cut += -by_served * self.mixed.s3_block_s - by_memory * self.mixed.activation_bytes
        by_cut += self._adapter_slope(price, gradient)
        gradient[at.cuts] = by_cut * own.cut_span
        gradient[at.tau_up] = (steps + up * self.up_by_room.sum()) * own.tau_up_unit
        gradient[at.tau_down] = (steps + down * self.down_by_room.sum()) * own.tau_down_unit
        bits_up = self._gathered(up * self.up_by_bits * derived.elements)
        bits_down = self._gathered(down * self.down_by_bits * derived.elements)
        fade, noise = self._gathered(by_loss * self.factor), self._gathered(by_loss)
        by_weight = bits_up * self.beta_up + bits_down * self.beta_down
        by_weight = by_weight + fade * self.fade + noise * self.noise
        by_weight = by_weight + self._summed(own.tables.by_weight(
            self.cuts, -up * self.up_by_room, -down * self.down_by_room, by_served,
            by_memory * (derived.blocks - self.cuts), by_loss,
        ))  # fmt: skip
        gradient[at.weights] = (by_weight + price["mode_weights"][:, None]).ravel()
        known = own.known
        by_keep = bits_up * self.beta_up_slope + bits_down * known.eta_down
        by_keep = by_keep - fade * derived.decay * self.fade + noise * known.noise_slope
        gradient[at.keep] = (self.weights * by_keep * own.span).ravel()
        return gradient

    def _gathered(self, by_device: Array) -> Array:
        """A slope by device as a column; under scope ``common`` all devices add up."""
        return by_device.sum(keepdims=True)[:, None] if self.relaxation.common \
            else by_device[:, None]  # fmt: skip

    def _summed(self, by_weight: Array | float) -> Array | float:
        """Slopes by the weights of every device; under scope ``common`` they add up."""
        return np.sum(by_weight, axis=0, keepdims=True) \
            if self.relaxation.common and np.ndim(by_weight) else by_weight  # fmt: skip

    def _server_slope(
        self, price: dict[str, Array], gradient: Array, steps: float
    ) -> tuple[Array, Array]:
        """Slopes (N,) by the server's seconds for a device, and by its bytes there."""
        own, derived = self.relaxation, self.relaxation.derived
        count = derived.devices
        if not own.parallel:
            return np.full(count, steps), np.zeros(count)
        late = price["server_time"]
        gradient[own.blocks.tau_server] = steps * own.tau_server_unit - late.sum()
        budget = max(abs(derived.server_activation_budget_bytes), 1e-300)
        return late / own.tau_server_unit, np.full(count, price["server_memory"][0] / budget)

    def _adapter_slope(self, price: dict[str, Array], gradient: Array) -> Array:
        own, derived = self.relaxation, self.relaxation.derived
        each = self.adapter_down_slope / own.unit_s
        if not own.total_power:
            alone = derived.adapter_bits_per_block / derived.uplink_full_bits_per_s
            return each + alone / own.unit_s
        share = float(price["adapter_share"][0])
        unit = own.tau_adapter_unit
        by_tau = unit / own.unit_s + share * self.adapter_by_room.sum() * unit
        gradient[own.blocks.tau_adapter] = by_tau
        return each + share * self.adapter_by_bits * derived.adapter_bits_per_block


def _multicast(cuts: Array, per_block: Array) -> tuple[float, Array]:
    """Adapter downlink by multicast, smoothed: block j takes the slowest holder's time, (8).

    A device holds block j to the degree s(l - j + 1), s the cubic step on [0, 1]; the maximum over
    holders is T ln mean exp(./T), a little below the true one.
    """
    top = int(np.ceil(cuts.max(initial=0.0)))
    degree = np.clip(cuts[:, None] - np.arange(top), 0.0, 1.0)
    held = degree * degree * (3.0 - 2.0 * degree) * per_block[:, None]
    heat = _SOFT * float(per_block.max())
    peak = held.max(axis=0, initial=0.0)
    soft = np.exp((held - peak) / heat)
    total = peak + heat * np.log(soft.mean(axis=0))
    share = soft / soft.sum(axis=0)
    slope = share * 6.0 * degree * (1.0 - degree) * per_block[:, None]
    return float(total.sum()), np.asarray(slope.sum(axis=1))
