"""From a derived instance to the arrays that plans are made with. Shares no code with the bound."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived, Option
from sftopt.core.instance import (
    AccuracyScope,
    AdapterDownlink,
    DownlinkPayload,
    ModeKind,
    PowerLaw,
    ServerOrder,
)
from sftopt.core.limits import best_keep, least_keeps
from sftopt.solvers.certify.plan.links import PlanData

Array = NDArray[np.float64]

_ALIKE = 0.1
"""With fewer kinds of devices than this part of their number the best plan mixes equal ones."""
NOT_ALLOWED = 2.0
"""A least keep fraction that no domain holds: the option is not allowed at that cut."""


def option_groups(derived: Derived) -> list[list[int]]:
    """Return the options' indices by what their times and memory depend on."""
    groups: dict[tuple[float, int], list[int]] = {}
    for index, option in enumerate(derived.options):
        groups.setdefault((option.codec_factor, option.tokens or 0), []).append(index)
    return [groups[key] for key in sorted(groups)]


def plan_data(derived: Derived, common: tuple[int, Array] | None) -> PlanData:
    """Fill the compiled functions' arrays from ``derived``.

    ``common``: an option and the keep fractions (L,) that all devices share, or None.
    """
    options, groups = derived.options, option_groups(derived)
    up, down, loss = zip(*(_option_rows(derived, option) for option in options), strict=True)
    low, high = _keeps(derived)
    mean = derived.scope is AccuracyScope.MEAN
    if common is not None:
        low = np.full_like(low, NOT_ALLOWED)
        low[common[0]] = common[1]
    if not mean:
        high = np.where(low < NOT_ALLOWED, low, 0.0)
    heads = [group[0] for group in groups]
    s1_base, s3_base, s3_block, s5_base = (
        np.ascontiguousarray(table[:, heads])
        for table in (
            derived.option_s1_base_s, derived.option_s3_base_s, derived.option_s3_block_s,
            derived.option_s5_base_s,
        )
    )  # fmt: skip
    return PlanData(
        steps=float(derived.steps),
        decay=float(derived.decay),
        loss_keep=float(derived.loss_keep),
        budget=float(derived.loss_budget),
        mean=mean,
        total=derived.power is PowerLaw.TOTAL,
        parallel=derived.server_order is ServerOrder.PARALLEL,
        multicast=derived.adapter_downlink is AdapterDownlink.MULTICAST,
        bandwidth=float(derived.uplink_bandwidth_hz),
        efficiency_cap=float(derived.efficiency_cap),
        adapter_bits=float(derived.adapter_bits_per_block),
        s1_base=s1_base,
        s1_block=derived.s1_block_s,
        s3_base=s3_base,
        s3_block=s3_block,
        s5_base=s5_base,
        s5_block=derived.s5_block_s,
        group=np.array([g for _, g in sorted((o, g) for g, own in enumerate(groups) for o in own)]),
        first=np.array([0, *itertools.accumulate(len(group) for group in groups)]),
        members=np.array([index for group in groups for index in group]),
        same_times=_like_the_one_before(s1_base) & _like_the_one_before(s5_base),
        elements=derived.elements,
        rate_up=derived.uplink_full_bits_per_s,
        rate_down=derived.downlink_full_bits_per_s,
        snr_terms=np.ascontiguousarray(derived.snr_terms),
        weight=derived.weight,
        up=np.array(up),
        down=np.array(down),
        loss=np.array([row[:2] for row in loss]),
        still=_constant_losses(derived, [row[2] for row in loss]),
        low=low,
        high=high,
        factor=np.asarray(derived.cut_factor, dtype=float),
    )


def _like_the_one_before(table: Array) -> NDArray[np.bool_]:
    """Tell which columns of a (N, G) table are those before them, (G,)."""
    same = np.all(table[:, 1:] == table[:, :-1], axis=0)
    return np.concatenate([[False], same])


def _option_rows(
    derived: Derived, option: Option
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return an option's rows of bits up and down and of loss, constants last."""
    masked, dense = option.has_mask, derived.downlink is DownlinkPayload.DENSE
    up = (*((option.eta, option.omega) if masked else (0.0, 0.0)), derived.constant_up(option))
    down = (option.eta if masked and not dense else 0.0, derived.constant_down(option))
    if option.kind is ModeKind.NONE or option.own_loss is not None:
        return up, down, (0.0, 0.0, 0.0)
    if derived.noise_scales and option.has_mask:
        return up, down, (1.0, option.noise, 0.0)
    return up, down, (1.0, 0.0, option.noise)


def _constant_losses(derived: Derived, noise: list[float]) -> Array:
    """Return the loss whatever is kept, (O, L): ``noise`` of each option, or a point's own."""
    found = np.repeat(np.array(noise)[:, None], derived.blocks, axis=1)
    for index, option in enumerate(derived.options):
        if option.own_loss is not None:
            found[index] = option.own_loss
    return found


def _keeps(derived: Derived) -> tuple[Array, Array]:
    """Return the least and the largest keep fraction worth considering, (O, L)."""
    low = np.full((len(derived.options), derived.blocks), NOT_ALLOWED)
    high = np.zeros_like(low)
    every = np.arange(derived.blocks)
    for index, (option, least) in enumerate(
        zip(derived.options, least_keeps(derived), strict=True)
    ):
        good = ~np.isnan(least)
        most = best_keep(derived, option, every)
        low[index, good] = least[good]
        high[index, good] = np.maximum(least, most)[good]
    return low, high


def mostly_alike(derived: Derived) -> bool:
    """Tell whether many devices are equal in all that the model knows of them."""
    d = derived
    known = (
        d.s1_base_s, d.s1_block_s, d.s3_block_s, d.elements, d.weight,
        d.uplink_full_bits_per_s, d.downlink_full_bits_per_s, d.cut_low, d.cut_high,
    )  # fmt: skip
    kinds = {row.tobytes() for row in np.stack(known, axis=1, dtype=float)}
    return len(kinds) < _ALIKE * d.devices
