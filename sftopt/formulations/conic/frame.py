"""What every family of a CVXPY model of problem (13) is given: numbers in model units, variables.

Units are those of :mod:`sftopt.formulations.scaling`; on top of them every device has a share unit
of its own, near the share it will hold, so that a weak device and a strong one look alike to a
solver. Unscaled, an interior-point solver was seen 2e-3 off at status ``optimal``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope, AdapterDownlink, PowerLaw, ServerOrder
from sftopt.core.spectrum import ConcaveRate, least_time
from sftopt.formulations.base import Start
from sftopt.formulations.bounds import require_domain
from sftopt.formulations.conic.base import ProblemBuilder
from sftopt.formulations.conic.cvxpy_layer import cp
from sftopt.formulations.conic.grid_items import Items, allowed_cuts, allowed_items
from sftopt.formulations.scaling import Scaled, scale

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Link:
    """A barrier's data in model units, shapes (N,): room x rate >= load x payload per element."""

    name: str
    """``uplink``, ``downlink`` or ``adapter``."""
    share_unit: Array
    """One unit of each device's share variable, in units of ``Scaled.share_unit``."""
    rate_unit: Array
    """One unit of each device's rate, as the rate at that share: linear laws have rate = share."""
    snr_terms: Array | None
    """a_nk in units of the device's own share, shape (N, k); None for a linear law."""
    load: Array
    """Room x (rate in its own units) >= load x bits per element (or x blocks for adapters)."""
    share_low: Array
    share_high: Array
    """What no optimal plan misses, in units of the device's own share."""


@dataclass(frozen=True)
class CutPairs:
    """Every (device, cut) that memory allows, in the order of ``var_cut[dev, cut]``."""

    device: NDArray[np.int64]
    cut: NDArray[np.int64]
    by_device: Array
    """(N, pairs): 1 where a pair is a device's."""

    def held(self, block: int) -> Array:
        """Tell by 1 that a pair is a device's with a cut from ``block`` up, shape (N, pairs)."""
        return self.by_device * (self.cut >= block)


def _cut_pairs(derived: Derived) -> CutPairs:
    device, cut = np.nonzero(allowed_cuts(derived))
    by_device = (device == np.arange(derived.devices)[:, None]).astype(float)
    return CutPairs(device.astype(np.int64), cut.astype(np.int64), by_device)


@dataclass(frozen=True)
class ConicFrame:
    """The model under construction."""

    derived: Derived
    scaled: Scaled
    items: Items
    integral: bool
    builder: ProblemBuilder
    uplink: Link
    downlink: Link
    adapter: Link | None
    """Only under ``total``, where tau_a is a barrier of its own."""
    cut_pairs: CutPairs | None
    """Where cuts are looked at one by one."""
    variables: dict[str, Any]

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the device ids."""
        return self.derived.ids

    def variable(self, name: str, shape: Any = (), **attributes: Any) -> Any:
        """Create a CVXPY variable and remember it under its name."""
        found = cp.Variable(shape, name=name, **attributes)
        self.variables[name] = found
        return found


def needs_cuts_one_by_one(derived: Derived, integral: bool) -> bool:
    """Tell whether equation (8) or (12) looks at the cut other than linearly.

    Under ``total`` sqrt(l A) is concave in l: exact with one binary per cut, and its chord is
    what their relaxation comes to.
    """
    multicast = derived.adapter_downlink is AdapterDownlink.MULTICAST
    adapters = derived.adapter_bits_per_block > 0.0
    root = derived.power is PowerLaw.TOTAL and integral
    return needs_pairs(derived) or (adapters and (multicast or root))


def needs_pairs(derived: Derived) -> bool:
    """Tell whether what a choice costs depends on cut and item together: equations (5), (12)."""
    return derived.cuts_interact or not derived.plain


def new_conic_frame(
    derived: Derived, start: Start | None, items: Items, *, integral: bool
) -> ConicFrame:
    """Create data, links and variables of a model. Raises InfeasibleError on empty domains."""
    require_domain(derived)
    scaled, _ = scale(derived, start)
    total = derived.power is PowerLaw.TOTAL
    up, down = _usual_shares(derived, scaled, start)
    adapter = None
    if total and derived.adapter_bits_per_block > 0.0 and np.any(derived.cut_high > 0):
        low, high = _adapter_shares(derived, scaled)
        usual = np.clip(_usual_adapter_shares(derived), low, high)
        adapter = _link(derived, scaled, "adapter", usual, scaled.adapter_up, low, high,
                        total)  # fmt: skip
    frame = ConicFrame(
        derived=derived,
        scaled=scaled,
        items=items,
        integral=integral,
        builder=ProblemBuilder(),
        uplink=_link(derived, scaled, "uplink", up, scaled.uplink_load,
                     scaled.uplink_share_low, scaled.uplink_share_high, total),
        downlink=_link(derived, scaled, "downlink", down, scaled.downlink_load,
                       scaled.downlink_share_low, scaled.downlink_share_high, False),
        adapter=adapter,
        cut_pairs=_cut_pairs(derived) if needs_cuts_one_by_one(derived, integral) else None,
        variables={},
    )  # fmt: skip
    _add_choices(frame)
    _add_barriers(frame)
    return frame


def _usual_shares(derived: Derived, scaled: Scaled, start: Start | None) -> tuple[Array, Array]:
    """Shares near those to come, in units of share_unit: the start's, or amid the bounds."""
    low = scaled.uplink_share_low, scaled.downlink_share_low
    high = scaled.uplink_share_high, scaled.downlink_share_high
    if start is None:
        return _between(low[0], high[0]), _between(low[1], high[1])
    found = start.candidate
    pairs = [(derived.options[o], k) for o, k in zip(found.choices(), found.keep, strict=True)]
    up = derived.elements * [float(derived.beta_up(o, k)) for o, k in pairs]
    down = derived.elements * [float(derived.beta_down(o, k)) for o, k in pairs]
    choice = found.choices()
    shares = (
        least_time(derived.s1_s(found.cuts, choice), up, derived.uplink_law)[1],
        least_time(derived.s5_s(found.cuts, choice), down, derived.downlink_law)[1],
    )
    usual = [
        np.clip(share * derived.devices, *ends)
        for share, *ends in zip(shares, low, high, strict=True)
    ]
    return usual[0], usual[1]


def _between(low: Array, high: Array) -> Array:
    """The geometric mean of a device's bounds."""
    value: Array = np.sqrt(np.maximum(low, 1e-12) * np.maximum(high, 1e-12))
    return value


def _adapter_shares(derived: Derived, scaled: Scaled) -> tuple[Array, Array]:
    """Least x^a_n of a device that sends, and the whole band, in units of share_unit."""
    bits = np.maximum(derived.cut_low, 1) * derived.adapter_bits_per_block
    longest = scaled.tau_adapter_up.high * scaled.objective_unit_s
    low = derived.uplink_law.inverse(bits / max(longest, 1e-300))[0] * derived.devices
    high = np.full(derived.devices, float(derived.devices))
    return np.clip(low * (1.0 - 1e-9), 1e-9, high), high


def _usual_adapter_shares(derived: Derived) -> Array:
    """x^a_n at the middle of each device's cuts, in units of share_unit."""
    blocks = np.maximum(0.5 * (derived.cut_low + derived.cut_high), 1.0)
    bits = blocks * derived.adapter_bits_per_block
    return least_time(np.zeros_like(bits), bits, derived.uplink_law)[1] * derived.devices


def _link(
    derived: Derived,
    scaled: Scaled,
    name: str,
    unit: Array,
    load: Array,
    low: Array,
    high: Array,
    total: bool,
) -> Link:
    terms, rate = None, unit
    if total:
        terms = scaled.snr_terms / unit[:, None]
        rate = unit * ConcaveRate(1.0, terms, derived.efficiency_cap).full()
        rate = rate / derived.efficiency_cap
    return Link(name, unit, rate, terms, load / rate, low / unit, high / unit)


def _add_choices(frame: ConicFrame) -> None:
    """l_n and m_ng of problem (13): ``var_blocks``, ``var_item`` and, where needed, ``var_cut``.

    What follows from other rows is left out: interior-point methods falter on it.
    """
    derived, builder = frame.derived, frame.builder
    pairs = frame.cut_pairs
    blocks = frame.variable("var_blocks", derived.devices, integer=frame.integral and pairs is None)
    kind = {"boolean": True} if frame.integral else {"nonneg": True}
    chosen = frame.variable("var_item", frame.items.keep.shape, **kind)
    common = derived.scope is AccuracyScope.COMMON
    names: Sequence[str] = ("all",) if common else frame.ids
    builder.add("con_item", cp.sum(chosen, axis=1) == np.ones(len(names)), names)
    if pairs is None:
        low, high = derived.cut_low.astype(float), derived.cut_high.astype(float)
        fixed, free = np.flatnonzero(low == high), np.flatnonzero(low < high)
        if len(fixed):
            names = [frame.ids[n] for n in fixed]
            builder.add("con_cut_fixed", blocks[fixed] == low[fixed], names)
        if len(free):
            names = [frame.ids[n] for n in free]
            builder.add("con_cut_low", blocks[free] >= low[free], names)
            builder.add("con_cut_high", blocks[free] <= high[free], names)
        return
    cut = frame.variable("var_cut", len(pairs.cut), **kind)
    if needs_pairs(derived):
        _add_pairs(frame, pairs, cut, chosen)
    else:  # there it follows from con_cut_pair and con_item
        builder.add("con_cut", pairs.by_device @ cut == np.ones(derived.devices), frame.ids)
    levels = pairs.by_device * pairs.cut
    builder.add("con_cut_blocks", levels @ cut == blocks, frame.ids)


def _add_pairs(frame: ConicFrame, pairs: CutPairs, cut: Any, chosen: Any) -> None:
    """``var_cut_item`` p_nlg, the product of cut l and item g.

    Its sums over g are the cuts, over l the items, which is exact for binaries and the product's
    convex hull otherwise. Items whose option is not allowed at a cut, equation (11), are held at 0.
    """
    derived, items, builder = frame.derived, frame.items, frame.builder
    product = frame.variable("var_cut_item", (len(pairs.cut), items.count), nonneg=True)
    if items.keep.shape[0] != derived.devices:
        chosen = np.ones((derived.devices, 1)) @ chosen
    builder.add("con_cut_pair", cp.sum(product, axis=1) == cut)
    builder.add("con_cut_item", pairs.by_device @ product == chosen)
    barred = ~allowed_items(derived, items)[pairs.device, pairs.cut]
    if np.any(barred):
        builder.add("con_cut_mode", cp.sum(cp.multiply(barred.astype(float), product)) <= 0.0)


def _add_barriers(frame: ConicFrame) -> None:
    """tau_u, tau_d and the server's time under ``parallel``, equation (7)."""
    frame.variable("var_tau_up", nonneg=True)
    frame.variable("var_tau_down", nonneg=True)
    if frame.derived.server_order is ServerOrder.PARALLEL:
        frame.variable("var_tau_server", nonneg=True)
