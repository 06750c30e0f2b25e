"""Give every variable of a model its value at a candidate, and read a candidate from a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope, ModeKind, ServerOrder
from sftopt.core.spectrum import least_time
from sftopt.formulations.algebraic.adapter_constraints import LEAST_ADAPTER_SHARE, multicast_ends
from sftopt.formulations.algebraic.frame import EVERYONE, Frame, option_labels
from sftopt.formulations.algebraic.rates import rate_in_units, sort_terms

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FullPoint:
    """The shares, times and losses that follow from a candidate, in model units; arrays (N,)."""

    candidate: Candidate
    uplink_bits: Array
    loss: Array
    fade: Array
    uplink_share: Array
    downlink_share: Array
    adapter_share: Array
    tau_up: float
    tau_down: float
    tau_server: float
    tau_adapter_up: float
    uplink_send: Array
    downlink_send: Array


def complete(frame: Frame, candidate: Candidate) -> FullPoint:
    """Compute best shares, equation (14), and all of equations (1)-(8) at ``candidate``."""
    derived, scaled, cuts = frame.derived, frame.scaled, candidate.cuts
    whole = np.rint(cuts).astype(np.int64)
    up, down, loss, fade = (np.zeros(derived.devices) for _ in range(4))
    for weight, option in zip(candidate.option_weights.T, derived.options, strict=True):
        keep = candidate.keep if option.has_mask else np.ones(derived.devices)
        up += weight * derived.beta_up(option, keep)
        down += weight * derived.beta_down(option, keep)
        loss += weight * derived.loss(option, keep, whole)
        follows = option.kind is not ModeKind.NONE and option.own_loss is None
        fade += weight * np.exp(-derived.decay * keep) * follows
    bits_up, bits_down = derived.elements * up, derived.elements * down
    forward, served, backward = _times_s(derived, candidate)
    tau_up, uplink_share = least_time(forward, bits_up, derived.uplink_law)
    tau_down, downlink_share = least_time(backward, bits_down, derived.downlink_law)
    tau_adapter, adapter_share = least_time(
        np.zeros_like(cuts), derived.adapter_bits(cuts), derived.uplink_law
    )
    in_turn = derived.server_order is ServerOrder.IN_TURN
    server_s = float(served.sum() if in_turn else served.max())
    step, unit = scaled.step_unit_s, scaled.share_unit
    rate = rate_in_units(frame, uplink_share / unit)
    return FullPoint(
        candidate=candidate,
        uplink_bits=up,
        loss=loss / scaled.loss_unit,
        fade=fade,
        uplink_share=uplink_share / unit,
        downlink_share=downlink_share / unit,
        adapter_share=np.maximum(adapter_share / unit, LEAST_ADAPTER_SHARE),
        tau_up=tau_up / step,
        tau_down=tau_down / step,
        tau_server=server_s / step,
        tau_adapter_up=tau_adapter / scaled.objective_unit_s,
        uplink_send=scaled.uplink_load * up / rate,
        downlink_send=scaled.downlink_load * down * unit / downlink_share,
    )


def _times_s(derived: Derived, candidate: Candidate) -> tuple[Array, Array, Array]:
    """s1, s3 and s5 in seconds, (N,) each, of a candidate whose options may be mixed."""
    cuts = candidate.cuts
    if derived.plain:
        return derived.s1_s(cuts), derived.s3_s(cuts), derived.s5_s(cuts)
    every = np.arange(len(derived.options))[:, None]
    weights = candidate.option_weights.T
    forward, served, backward = (
        (weights * time_s(cuts, every)).sum(axis=0)
        for time_s in (derived.s1_s, derived.s3_s, derived.s5_s)
    )
    return forward, served, backward


def load_point(frame: Frame, candidate: Candidate) -> None:
    """Give every variable of the frame's model its value at ``candidate``."""
    point, model, ids = complete(frame, candidate), frame.model, frame.ids
    present = model.component_map(pyo.Var)

    def put(name: str, values: dict[Any, float]) -> None:
        if name in present:
            present[name].set_values(values, skip_validation=True)

    def by_device(name: str, values: Array) -> None:
        put(name, dict(zip(ids, values.tolist(), strict=True)))

    by_device("var_blocks", candidate.cuts)
    by_device("var_uplink_share", point.uplink_share)
    by_device("var_downlink_share", point.downlink_share)
    by_device("var_adapter_share", point.adapter_share)
    by_device("var_uplink_send", point.uplink_send)
    by_device("var_downlink_send", point.downlink_send)
    put("var_tau_up", {None: point.tau_up})
    put("var_tau_down", {None: point.tau_down})
    put("var_tau_server", {None: point.tau_server})
    put("var_tau_adapter_up", {None: point.tau_adapter_up})
    rows = {c: 0 if c == EVERYONE else frame.place[c] for c in frame.choosers}
    put("var_uplink_bits", {c: float(point.uplink_bits[row]) for c, row in rows.items()})
    put("var_fade", {c: float(point.fade[row]) for c, row in rows.items()})
    if "var_loss" in present:
        place = {**frame.place, EVERYONE: 0} if EVERYONE not in frame.place else frame.place
        losses = {i: float(point.loss[place[i]]) for i in present["var_loss"]}
        put("var_loss", losses)
    _load_modes(frame, candidate, rows, put)
    _load_rates(frame, point, put)
    _load_cuts(frame, candidate.cuts, put)


def _load_modes(frame: Frame, candidate: Candidate, rows: dict[str, int], put: Any) -> None:
    weights = candidate.option_weights
    put("var_mode", {
        (c, label): float(weights[row, o])
        for c, row in rows.items()
        for o, label in enumerate(frame.options)
    })  # fmt: skip
    put("var_blocks_option", {
        (d, label): float(candidate.cuts[row] * weights[row, o])
        for d, row in frame.place.items()
        for o, (label, option) in enumerate(frame.options.items())
        if option.tokens is not None
    })  # fmt: skip
    keep = frame.model.component("var_keep")
    if keep is None:
        return
    masked = [option.has_mask for option in frame.derived.options]
    low = {c: keep[c].lb for c in rows}
    high = {c: keep[c].ub for c in rows}
    used = {c: candidate.option_weights[row][masked].sum() > 0.0 for c, row in rows.items()}
    kept = {
        c: min(max(float(candidate.keep[row]), low[c]), high[c]) if used[c] else low[c]
        for c, row in rows.items()
    }
    put("var_keep", kept)
    put("var_keep_option", {
        (c, label): kept[c] * float(weights[row, o])
        for c, row in rows.items()
        for o, label in enumerate(frame.options)
        if label in frame.masked
    })  # fmt: skip
    groups = frame.model.component("var_keep_group")
    if groups is not None:
        put("var_keep_group", {
            (c, omega): _group_keep(frame, candidate, rows[c], kept[c], omega)
            for c, omega in groups
        })  # fmt: skip


def _group_keep(frame: Frame, candidate: Candidate, row: int, kept: float, omega: float) -> float:
    """The keep fraction of the options with this omega; their least where none is in use."""
    group = [o for o, option in enumerate(frame.derived.options)
             if option.has_mask and option.omega == omega]  # fmt: skip
    mass = float(candidate.option_weights[row, group].sum())
    low = min(frame.derived.options[o].keep_low for o in group)
    return mass * kept + (1.0 - mass) * low


def _load_rates(frame: Frame, point: FullPoint, put: Any) -> None:
    """Rates and fading terms of equation (3) under the ``total`` law."""
    for link, shares in (("uplink", point.uplink_share), ("adapter", point.adapter_share)):
        if frame.model.component(f"var_{link}_rate") is None:
            continue
        rates = rate_in_units(frame, shares)
        put(f"var_{link}_rate", dict(zip(frame.ids, rates.tolist(), strict=True)))
        share_var, values = frame.model.component(f"var_{link}_share"), {}
        cap = frame.derived.efficiency_cap
        for device, row in frame.place.items():
            low, high = share_var[device].bounds
            either = sort_terms(frame.scaled.snr_terms[row], low, high, cap).either
            for k, gain in enumerate(either):
                efficiency = math.log1p(gain / shares[row]) / math.log(2.0) / cap
                values[device, k] = float(shares[row]) * min(efficiency, 1.0)
        put(f"var_{link}_term", values)


def _load_cuts(frame: Frame, cuts: Array, put: Any) -> None:
    """Binaries of the cut and the multicast times of equation (8)."""
    model, place = frame.model, frame.place
    if model.component("var_held") is not None:
        put("var_held", {(d, j): float(cuts[place[d]] >= j) for d, j in model.var_held})
    if model.component("var_cut") is not None:
        put("var_cut", {(d, c): float(cuts[place[d]] == c) for d, c in model.var_cut})
    if model.component("var_tau_block") is not None:
        down = frame.scaled.adapter_down
        put("var_tau_block", {
            block: float(down[cuts >= block].max(initial=0.0))
            for block in range(1, len(multicast_ends(frame)) + 1)
        })  # fmt: skip


def read_candidate(derived: Derived, model: pyo.ConcreteModel) -> Candidate:
    """Read the candidate at the model's present values; fractional where the values are."""
    labels, count = option_labels(derived), derived.devices
    cuts = np.array([pyo.value(model.var_blocks[d]) for d in derived.ids], dtype=float)
    mode, keep = model.component("var_mode"), model.component("var_keep")
    common = derived.scope is AccuracyScope.COMMON
    chooser = (EVERYONE,) * count if common else derived.ids
    weights = np.ones((count, 1))
    if mode is not None:
        weights = np.array([[pyo.value(mode[c, k]) for k in labels] for c in chooser], dtype=float)
    kept = np.ones(count)
    if keep is not None:
        kept = np.array([pyo.value(keep[c]) for c in chooser], dtype=float)
    return Candidate(cuts, weights, kept)
