"""Many inner problems side by side: one row per combination of cuts and options (or part of it).

A row fixes the cuts and options and gives every device an interval of keep fractions; its inner
problem is min K (tau_u + tau_d) over the keep fractions under the mean accuracy limit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.spectrum import RateLaw
from sftopt.solvers.exhaustive.links import LinkState, solve_link

Array = NDArray[np.float64]
LN2 = float(np.log(2.0))
"""Natural logarithm of 2; of its own, as all algebra here."""


@dataclass(frozen=True)
class Cell:
    """What all rows share, from :class:`~sftopt.core.derived.Derived`."""

    steps: float
    elements: Array
    weight: Array
    uplink: RateLaw
    downlink: RateLaw
    side_bits_per_element: float
    """S_side / E: what goes up beside the payload."""
    decay: float
    budget: float
    """a_0 - a_min: the weighted mean loss allowed."""
    budget_each: float

    @staticmethod
    def of(derived: Derived) -> Cell:
        """Gather the shared numbers of an instance."""
        return Cell(
            steps=float(derived.steps),
            elements=derived.elements,
            weight=derived.weight,
            uplink=derived.uplink_law,
            downlink=derived.downlink_law,
            side_bits_per_element=derived.side_bits_per_element,
            decay=derived.decay,
            budget=derived.loss_budget,
            budget_each=derived.loss_budget_each,
        )


@dataclass(frozen=True)
class Rows:
    """Inner problems; arrays (C, N) unless said. Names as in ``curves``."""

    combination: NDArray[np.int64]
    """(C,) number of the combination the row belongs to."""
    piece: NDArray[np.int64]
    """Number of the device's entry in the list of cuts, options and curve pieces."""
    constant_s: Array
    """(C,) server and adapter part of the round, in seconds."""
    s1_s: Array
    s5_s: Array
    eta: Array
    omega: Array
    sigma: Array
    eta_down: Array
    sigma_down: Array
    """Bits per element down: keep eta_down + sigma_down."""
    amplitude: Array
    noise_slope: Array
    noise_base: Array
    low: Array
    high: Array
    v_low: Array
    v_high: Array
    left_v: Array
    left_loss: Array
    left_slope: Array
    right_v: Array
    right_loss: Array
    right_slope: Array

    def __len__(self) -> int:
        return len(self.constant_s)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Self:
        """Return the rows at ``index``."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def join(parts: list[Rows]) -> Rows:
        """Join all rows of ``parts``."""
        names = [f.name for f in fields(Rows)]
        return Rows(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})

    def log_payload(self, keep: Array) -> Array:
        """Return v = ln beta(rho), the natural logarithm of bits per element, equation (1)."""
        value: Array = np.log(self.payload(keep))
        return value

    def payload(self, keep: Array) -> Array:
        """Return beta(rho) in bits per element, equation (1)."""
        inside = np.minimum(keep, 1.0 - 1e-16)
        entropy = -(inside * np.log(inside) + (1.0 - inside) * np.log1p(-inside)) / LN2
        value: Array = keep * self.eta + self.omega * entropy + self.sigma
        return value

    def payload_slope(self, keep: Array) -> Array:
        """Return beta'(rho) in bits per element and unit of keep fraction."""
        inside = np.minimum(keep, 1.0 - 1e-16)
        value: Array = self.eta + self.omega * (np.log1p(-inside) - np.log(inside)) / LN2
        return value

    def keep_at(self, v: Array, keep: Array) -> Array:
        """Return the keep fractions with ln beta(rho) = v, from a guess, by Newton's method."""
        target = np.exp(v)
        for _ in range(30):
            step = (target - self.payload(keep)) / self.payload_slope(keep)
            after = np.clip(keep + step, self.low, self.high)
            if not np.any(np.abs(after - keep) > 1e-14 * after):
                return after
            keep = after
        return keep

    def loss(self, keep: Array, cell: Cell) -> Array:
        """Return the loss a_0 - a(rho, q) of equation (12), per device."""
        fall = self.amplitude * np.exp(-cell.decay * keep)
        value: Array = fall + self.noise_slope * keep + self.noise_base
        return value

    def down_bits(self, keep: Array) -> Array:
        """Return beta_g of equation (2) in bits per element."""
        value: Array = keep * self.eta_down + self.sigma_down
        return value


@dataclass(frozen=True)
class View:
    """Everything known of rows at one allocation; derivatives are in v."""

    keep: Array
    v: Array
    v_slope: Array
    """dv/drho."""
    loss: Array
    """The envelope of the loss, per device."""
    loss_v: Array
    loss_vv: Array
    true_loss: Array
    over: Array
    """(C,) SUM w_n loss_n less the budget, with the envelopes."""
    up: LinkState
    down: LinkState
    gradient: Array
    """d(tau_u + tau_d)/dv."""
    up_part: Array
    """d tau_u/dv."""
    down_part: Array
    up_v: Array
    """d ln(uplink bits)/dv: 1, but for the side bits."""
    up_vv: Array
    down_v: Array
    down_vv: Array

    @property
    def time_s(self) -> Array:
        """Return tau_u + tau_d in seconds, (C,)."""
        value: Array = self.up.tau_s + self.down.tau_s
        return value

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> View:
        """Return the rows at ``index``."""
        arrays = {name: getattr(self, name)[index] for name in _VIEW_ARRAYS}
        return View(up=self.up.take(index), down=self.down.take(index), **arrays)

    def put(self, index: NDArray[np.int64], other: View) -> None:
        """Overwrite the rows at ``index`` in place."""
        self.up.put(index, other.up)
        self.down.put(index, other.down)
        for name in _VIEW_ARRAYS:
            getattr(self, name)[index] = getattr(other, name)


_VIEW_ARRAYS = tuple(f.name for f in fields(View) if f.name not in ("up", "down"))
"""Fields of a view that are arrays by row."""


def look(rows: Rows, keep: Array, cell: Cell, sharpness: Array, warm: Array | None = None) -> View:
    """Evaluate rows at ``keep`` (C, N)."""
    payload, slope = rows.payload(keep), rows.payload_slope(keep)
    v, v_slope = np.log(payload), slope / payload
    spread = np.maximum(keep * (1.0 - keep), 1e-300)
    bend = np.where(rows.omega > 0.0, rows.omega / (LN2 * spread), 0.0)
    p = v_slope + bend / slope
    gain = rows.amplitude * cell.decay * np.exp(-cell.decay * keep)
    true_loss = rows.loss(keep, cell)
    loss = true_loss
    loss_v = -(gain - rows.noise_slope) / v_slope
    loss_vv = (cell.decay * gain - p * (gain - rows.noise_slope)) / v_slope**2
    for side, at, value, tilt in (
        (v < rows.left_v, rows.left_v, rows.left_loss, rows.left_slope),
        (v > rows.right_v, rows.right_v, rows.right_loss, rows.right_slope),
    ):
        if np.any(side):
            distance = np.where(side, v - np.where(side, at, 0.0), 0.0)
            loss = np.where(side, value + tilt * distance, loss)
            loss_v = np.where(side, tilt, loss_v)
            loss_vv = np.where(side, 0.0, loss_vv)
    over = (cell.weight * loss).sum(axis=1) - cell.budget

    down_bits = rows.down_bits(keep)
    pull = rows.eta_down / down_bits
    down_v = pull / v_slope
    down_vv = pull * np.maximum(p - pull, 0.0) / v_slope**2
    up_bits = payload + cell.side_bits_per_element
    up_v = payload / up_bits
    up_vv = up_v * (1.0 - up_v)
    up = solve_link(rows.s1_s, cell.elements * up_bits, cell.uplink, sharpness, warm)
    down = solve_link(rows.s5_s, cell.elements * down_bits, cell.downlink, sharpness)
    up_part = up.share_z * up_v / (up.share_z / up.room_s).sum(axis=1, keepdims=True)
    down_part = down.share_z * down_v / (down.share_z / down.room_s).sum(axis=1, keepdims=True)
    return View(
        keep=keep,
        v=v,
        v_slope=v_slope,
        loss=loss,
        loss_v=loss_v,
        loss_vv=loss_vv,
        true_loss=true_loss,
        over=over,
        up=up,
        down=down,
        gradient=up_part + down_part,
        up_part=up_part,
        down_part=down_part,
        up_v=up_v,
        up_vv=up_vv,
        down_v=down_v,
        down_vv=down_vv,
    )


def certified_bound(rows: Rows, view: View, price: Array, cell: Cell) -> Array:
    """Bound tau_u + tau_d from below over each row, seconds (C,), at any multiplier ``price`` >= 0.

    Statement 4 of :mod:`sftopt.solvers.exhaustive`.
    """
    up_fall = (view.up.share_z / view.up.room_s).sum(axis=1)
    down_fall = (view.down.share_z / view.down.room_s).sum(axis=1)
    base = view.time_s + view.up.excess / up_fall + view.down.excess / down_fall
    tilt = view.gradient + price[:, None] * cell.weight * view.loss_v
    reach = np.where(tilt > 0.0, rows.v_low - view.v, rows.v_high - view.v)
    value: Array = base + price * view.over + (tilt * reach).sum(axis=1)
    return value


def time_hessian(view: View) -> Array:
    """Differentiate tau_u + tau_d (seconds) twice in v, (C, N, N), by implicit functions."""
    devices = view.v.shape[1]
    hessian = np.zeros((len(view.v), devices, devices))
    diagonal = np.arange(devices)
    sides = (
        (view.up, view.up_part, view.up_v, view.up_vv),
        (view.down, view.down_part, view.down_v, view.down_vv),
    )
    for link, part, first, second in sides:
        fall = (link.share_z / link.room_s).sum(axis=1)[:, None]
        own = link.share_zz * first**2 + link.share_z * second
        cross = -link.share_zz * first / link.room_s
        in_time = ((link.share_zz + link.share_z) / link.room_s**2).sum(axis=1)[:, None]
        mixed = (cross + 0.5 * in_time * part) / fall
        hessian += mixed[:, :, None] * part[:, None, :] + part[:, :, None] * mixed[:, None, :]
        hessian[:, diagonal, diagonal] += own / fall
    return hessian
