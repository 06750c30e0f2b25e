"""All combinations of cuts and options of an instance, as rows built chunk by chunk."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived, Option
from sftopt.core.instance import (
    AccuracyScope,
    AdapterDownlink,
    DownlinkPayload,
    ModeKind,
    ServerOrder,
)
from sftopt.core.spectrum import LinearRate, least_time
from sftopt.core.tolerance import REFUSED
from sftopt.solvers.exhaustive.curves import Curve, Envelope, envelope, split_by_curvature
from sftopt.solvers.exhaustive.links import SHARP, solve_link
from sftopt.solvers.exhaustive.rows import Cell, Rows

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def cut_counts(derived: Derived) -> list[int]:
    """Count the cuts each device may take; 0 where memory and privacy leave none."""
    spans = derived.cut_high - derived.cut_low + 1
    return [max(int(span), 0) for span in spans]


def combination_count(derived: Derived) -> int:
    """Count combinations of cuts and options, which the search has to settle: their number."""
    if not derived.plain:
        spans = np.maximum(derived.cut_high[:, None] - derived.option_cut_low + 1, 0).tolist()
        if derived.scope is AccuracyScope.COMMON:
            return sum(math.prod(column) for column in zip(*spans, strict=True))
        return math.prod(sum(row) for row in spans)
    cuts: int = math.prod(cut_counts(derived))
    options = len(derived.options)
    if derived.scope is AccuracyScope.COMMON:
        return cuts * options
    return cuts * int(options**derived.devices)


@dataclass(frozen=True)
class Choice:
    """One device's cut and option on one piece of the keep fraction."""

    cut: int
    option: int
    curve: Curve
    shape: Envelope


def _curves(derived: Derived, option: Option, cut: int) -> list[Curve]:
    """The useful keep fractions of an option at a cut; none where the device's limit is missed.

    Scopes ``each`` and ``mean``: beyond the least loss a larger rho costs payload and gains
    nothing. Scope ``each``: only the least rho is of use (Statement 1). Scope ``common``: all rho
    within the limit, for what suits one device must suit all.
    """
    follows = option.kind is not ModeKind.NONE and option.own_loss is None
    noise = option.noise if follows else 0.0
    own = 0.0 if option.own_loss is None else float(option.own_loss[cut])
    whole = derived.constant_up(option) - derived.side_bits_per_element
    curve = Curve(
        eta=option.eta if option.has_mask else whole,
        omega=option.omega,
        sigma=option.sigma if option.has_mask else 0.0,
        amplitude=derived.loss_keep * float(derived.cut_factor[cut]) if follows else 0.0,
        decay=derived.decay,
        noise_slope=noise if derived.noise_scales else 0.0,
        noise_base=own if derived.noise_scales else noise + own,
        low=option.keep_low,
        high=option.keep_high,
        convex_low=math.inf,
        convex_high=-math.inf,
    )
    limit = derived.loss_budget_each
    # where only the last bit of rounding is in the way, the limit counts as met
    rounding = min(2e-15 * max(1.0, abs(limit)), derived.loss_rounding_each)
    span = curve.within(limit) or curve.within(limit + rounding)
    surely = curve.within(limit - REFUSED * derived.loss_rounding_each)
    if span is None or surely is None:
        return []
    low, high = span
    if derived.scope is AccuracyScope.EACH:
        return [replace(curve, low=low, high=low)]
    if derived.scope is AccuracyScope.COMMON:
        return [replace(curve, low=low, high=high)]
    high = max(low, min(high, curve.least_loss_keep()))
    curve = replace(curve, low=low, high=high)
    return split_by_curvature(curve) if high > low else [curve]


class Space:
    """The combinations; ``size`` rows, numbered from 0, pieces of one combination apart."""

    def __init__(self, derived: Derived) -> None:
        self.derived = derived
        self.cell = Cell.of(derived)
        self.choices: list[list[Choice]] = []
        known: dict[tuple[int, float, float], list[Curve]] = {}
        shapes: dict[Curve, Envelope] = {}
        for lows, high in zip(derived.option_cut_low, derived.cut_high, strict=True):
            mine: list[Choice] = []
            for cut in range(int(lows.min(initial=derived.blocks)), int(high) + 1):
                for number, option in enumerate(derived.options):
                    if cut < lows[number]:
                        continue
                    own = 0.0 if option.own_loss is None else float(option.own_loss[cut])
                    key = (number, float(derived.cut_factor[cut]), own)
                    if key not in known:
                        known[key] = _curves(derived, option, cut)
                    for curve in known[key]:
                        if curve not in shapes:
                            shapes[curve] = self._shape(curve)
                        mine.append(Choice(cut, number, curve, shapes[curve]))
            self.choices.append(mine)
        self._groups = self._make_groups()
        self.combinations = self._count()
        """Combinations with no device beyond its own limits; ``size`` less pieces of curves."""
        self._ends = np.cumsum([math.prod(len(g) for g in group) for group in self._groups])
        self._tables = [_table(derived, mine) for mine in self.choices]

    def _shape(self, curve: Curve) -> Envelope:
        if self.derived.scope is not AccuracyScope.MEAN:
            return Envelope()
        return envelope(curve, curve.low, curve.high)

    def _count(self) -> int:
        """Distinct (cut, option) products over the groups."""
        total = 0
        for group in self._groups:
            pairs = [
                {(mine[int(i)].cut, mine[int(i)].option) for i in items}
                for mine, items in zip(self.choices, group, strict=True)
            ]
            total += math.prod(len(found) for found in pairs)
        return total

    def _make_groups(self) -> list[list[Integers]]:
        """Sets of choices whose product is part of the space: one, or one per common option."""
        if self.derived.scope is not AccuracyScope.COMMON:
            return [[np.arange(len(mine)) for mine in self.choices]]
        return [
            [
                np.array([i for i, c in enumerate(mine) if c.option == number], dtype=np.int64)
                for mine in self.choices
            ]
            for number in range(len(self.derived.options))
        ]

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def picks(self, numbers: Integers) -> Integers:
        """Return the index into ``choices`` of every device, shape (C, N)."""
        found = np.empty((len(numbers), self.derived.devices), dtype=np.int64)
        group_of = np.searchsorted(self._ends, numbers, side="right")
        for group in np.unique(group_of):
            inside = group_of == group
            begin = int(self._ends[group - 1]) if group else 0
            sets = self._groups[group]
            parts = np.unravel_index(numbers[inside] - begin, [len(s) for s in sets])
            for device, (part, items) in enumerate(zip(parts, sets, strict=True)):
                found[inside, device] = items[part]
        return found

    def rows(self, numbers: Integers) -> tuple[Rows, NDArray[np.bool_]]:
        """Build the rows of these numbers, and tell which of them server memory and scope allow."""
        derived = self.derived
        picks = self.picks(numbers)
        columns = {
            name: np.stack([t[name][picks[:, n]] for n, t in enumerate(self._tables)], axis=1)
            for name in self._tables[0]
        }
        cuts = columns.pop("cut").astype(np.int64)
        options = columns.pop("option").astype(np.int64)
        allowed = np.ones(len(numbers), dtype=np.bool_)
        server = derived.s3_s(cuts, options)
        if derived.server_order is ServerOrder.PARALLEL:
            used = (derived.activation_bytes(options) * (derived.blocks - cuts)).sum(axis=1)
            budget = derived.server_activation_budget_bytes
            allowed &= used <= budget + 1e-12 * np.maximum(used, abs(budget))
            server_s = server.max(axis=1)
        else:
            server_s = server.sum(axis=1)
        rows = Rows(
            combination=numbers,
            piece=picks,
            constant_s=derived.steps * server_s + self._adapters_s(cuts),
            s1_s=derived.s1_s(cuts, options),
            s5_s=derived.s5_s(cuts, options),
            **columns,
        )
        if derived.scope is AccuracyScope.COMMON:
            low, high = rows.low.max(axis=1), rows.high.min(axis=1)
            allowed &= low <= high
            level = np.broadcast_to(low[:, None], rows.low.shape).copy()
            rows = replace(rows, low=level, high=level)
        return rows, allowed

    def _adapters_s(self, cuts: Integers) -> Array:
        """tau_a of equation (8), (C,): constant once the cuts are fixed."""
        derived = self.derived
        if derived.adapter_bits_per_block == 0.0:
            return np.zeros(len(cuts))
        held, back = np.unique(cuts, axis=0, return_inverse=True)
        bits: Array = np.asarray(held * derived.adapter_bits_per_block, dtype=np.float64)
        law = derived.uplink_law
        if isinstance(law, LinearRate):
            up = (bits / law.full_bits_per_s).sum(axis=1)
        else:
            up = solve_link(np.zeros_like(bits), bits, law, np.full(len(bits), SHARP)).tau_s
        slowness = derived.adapter_bits_per_block / derived.downlink_full_bits_per_s
        if derived.adapter_downlink is AdapterDownlink.UNICAST:
            down = (held * slowness).sum(axis=1)
        else:
            down = np.zeros(len(held))
            for block in range(1, int(held.max(initial=0)) + 1):
                down += np.where(held >= block, slowness, 0.0).max(axis=1)
        total: Array = (up + down)[back.reshape(-1)]
        return total

    def decisions(self, picks: Integers) -> tuple[Integers, Integers]:
        """Return cuts and option indices of one row's ``piece``, each (N,)."""
        chosen = [mine[int(i)] for mine, i in zip(self.choices, picks, strict=True)]
        return np.array([c.cut for c in chosen]), np.array([c.option for c in chosen])


def _table(derived: Derived, choices: list[Choice]) -> dict[str, Array]:
    """The numbers of a device's choices by column, in the names of :class:`Rows`."""
    curves = [choice.curve for choice in choices]
    shapes = [choice.shape for choice in choices]
    kept = derived.downlink is DownlinkPayload.KEPT
    slopes = [option.eta if kept and option.has_mask else 0.0 for option in derived.options]
    columns = {
        "cut": [float(choice.cut) for choice in choices],
        "option": [float(choice.option) for choice in choices],
        "v_low": [curve.log_payload(curve.low) for curve in curves],
        "v_high": [curve.log_payload(curve.high) for curve in curves],
        "eta_down": [slopes[choice.option] for choice in choices],
        "sigma_down": [float(derived.constants_down[choice.option]) for choice in choices],
    }
    for name in ("eta", "omega", "sigma", "amplitude", "noise_slope", "noise_base", "low", "high"):
        columns[name] = [getattr(curve, name) for curve in curves]
    for name in (
        "left_v", "left_loss", "left_slope", "right_v", "right_loss", "right_slope",
    ):  # fmt: skip
        columns[name] = [getattr(shape, name) for shape in shapes]
    return {name: np.array(values, dtype=float) for name, values in columns.items()}


def mean_loss(derived: Derived, cuts: Integers, options: Integers, keep: Array) -> float:
    """Return the mean loss SUM w_n (a_0 - a_n), from the derived arrays themselves."""
    losses = [
        float(derived.loss(derived.options[int(o)], np.asarray(k), np.asarray(c)))
        for c, o, k in zip(cuts, options, keep, strict=True)
    ]
    return float((derived.weight * np.array(losses)).sum())


def round_time(derived: Derived, cuts: Integers, options: Integers, keep: Array) -> float:
    """Return equation (9) in seconds at these decisions and best shares, by core's searches."""
    chosen = [derived.options[int(o)] for o in options]
    pairs = list(zip(chosen, keep, strict=True))
    up_bits = derived.elements * np.array([float(derived.beta_up(o, float(k))) for o, k in pairs])
    down = derived.elements * np.array([float(derived.beta_down(o, float(k))) for o, k in pairs])
    s1 = derived.s1_s(cuts, options)
    s5 = derived.s5_s(cuts, options)
    server = derived.s3_s(cuts, options)
    in_turn = derived.server_order is ServerOrder.IN_TURN
    tau_u, _ = least_time(s1, up_bits, derived.uplink_law)
    tau_d, _ = least_time(s5, down, derived.downlink_law)
    adapters = cuts.astype(np.float64) * derived.adapter_bits_per_block
    up_a, _ = least_time(np.zeros(len(cuts)), adapters, derived.uplink_law)
    server_s = float(server.sum() if in_turn else server.max())
    tau_a = up_a + derived.adapter_down_s(cuts)
    return derived.steps * (tau_u + server_s + tau_d) + tau_a
