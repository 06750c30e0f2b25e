"""Cells over the schema's whole space, for fuzz: every option, zeros, ratios of 1e9, exact limits.

A cell is drawn in two steps: everything but the limits first, then the limits (``fuzz_limits``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.studies.fuzz_limits import NO_LIMIT, Dice, put_limit
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance, parse_instance

Data = dict[str, Any]

TOLERANCES = (1e-9, 1e-9, 1e-9, 0.0, 1e-7, 1e-6)
"""Tolerances that cells are planned and judged by."""


@dataclass(frozen=True)
class Wish:
    """What a variant asks of the cells drawn for it; everything else is drawn freely."""

    devices: tuple[int, int] = (1, 3)
    blocks: tuple[int, int] = (2, 5)
    decades: float | None = None
    """Decades either way by which numbers are off usual ones; None: drawn."""
    zeros: float = 0.1
    """Part of the fields that may be 0 which are."""
    fields: Data | None = None
    """Values by section that stand as they are."""
    limits: tuple[str, ...] = ()
    """Limits put at an edge; others have room or, seldom, none is left."""
    change: Callable[[Data, Dice], None] | None = None
    """What else is done to the data before limits are set."""


def _alike(data: Data, dice: Dice) -> None:
    count = len(data["devices"])
    first = data["devices"][0]
    data["devices"] = [{**first, "id": f"dev{n}", "weight": 1.0 / count} for n in range(count)]


def _cut_factors(data: Data, dice: Dice) -> None:
    blocks = data["workload"]["blocks"]
    zeros = dice.chance(0.3)
    data["accuracy"]["cut_factor"] = [
        0.0 if zeros and dice.chance(0.3) else dice.spread(-1.0, 0.7) for _ in range(blocks)
    ]


def _mask_intervals(data: Data, dice: Dice) -> None:
    data["compression"]["modes"] = [
        {
            "kind": "topk",
            "bits": dice.whole(1, 8),
            "name": f"m{i}",
            "mask_overhead": _overhead(dice),
        }
        for i in range(dice.whole(1, 2))
    ]


def _points(data: Data, dice: Dice) -> None:
    """Modes with measured figures of their own, beside a usual one or alone."""
    blocks = data["workload"]["blocks"]
    modes: list[Data] = [{"kind": "topk", "bits": 4}] if dice.chance(0.6) else []
    for index in range(dice.whole(1, 3)):
        loss: Any = dice.spread(-4.0, -1.5)
        if dice.chance(0.4):
            loss = [dice.pick([0.0, dice.spread(-4.0, -1.5)]) for _ in range(blocks)]
        mode = {
            "kind": "dense", "bits": dice.whole(1, 16), "name": f"point{index}", "loss": loss,
            "value_bits": dice.spread(-1.0, 1.0),
            "gradient_bits": dice.pick([None, dice.spread(-1.0, 1.0)]),
            "codec_seconds_factor": dice.pick([1.0, 0.0, dice.spread(-1.0, 2.0)]),
        }  # fmt: skip
        if data["workload"]["tokens"] > 2 and dice.chance(0.4):
            mode |= {"kind": "tokens", "tokens": dice.whole(1, data["workload"]["tokens"] - 1)}
            data["workload"] |= {"heads": 12, "head_size": 64, "element_bytes": 4}
        modes.append(mode)
    data["compression"]["modes"] = modes


def _one_keep(data: Data, dice: Dice) -> None:
    """A keep fraction that is fixed, or nearly."""
    keep = dice.draw.uniform(0.05, 1.0)
    data["compression"] |= {"keep_min": keep, "keep_max": min(1.0, keep * dice.pick([1.0, 1.001]))}


def _fixed_cuts(data: Data, dice: Dice) -> None:
    for device in data["devices"]:
        device["blocks_min"] = dice.whole(0, data["workload"]["blocks"] - 1)
        device["blocks_max"] = dice.whole(device["blocks_min"], data["workload"]["blocks"] + 1)


def _flat_curve(data: Data, dice: Dice) -> None:
    """Accuracy that hardly depends on what is kept."""
    data["accuracy"] |= {
        "keep_decay": dice.pick([40.0, 100.0, dice.spread(1.3, 3.0)]),
        "quantisation_scales_with_keep": dice.chance(0.3),
    }  # fmt: skip


VARIANTS: dict[str, Wish] = {
    "anything": Wish(),
    "anything, large": Wish(devices=(4, 16), blocks=(2, 24)),
    "one device": Wish(devices=(1, 1)),
    "two blocks": Wish(blocks=(2, 2)),
    "zero fields": Wish(zeros=0.7),
    "ratios of 1e9": Wish(decades=9.0),
    "total power": Wish(fields={"radio": {"power": "total"}}),
    "dense downlink": Wish(fields={"radio": {"downlink": "dense"}}),
    "multicast": Wish(fields={"radio": {"adapter_downlink": "multicast"}}),
    "server in parallel": Wish(fields={"server_order": "parallel"}, limits=("server memory",)),
    "scope each": Wish(fields={"accuracy": {"scope": "each"}}, limits=("accuracy",)),
    "scope common": Wish(fields={"accuracy": {"scope": "common"}}, limits=("accuracy",)),
    "no fading": Wish(fields={"radio": {"fading": "none"}}),
    "cut factor": Wish(change=_cut_factors),
    "cut factor, server in parallel": Wish(
        fields={"server_order": "parallel"}, limits=("server memory",), change=_cut_factors
    ),
    "mask by intervals": Wish(change=_mask_intervals),
    "one keep fraction": Wish(change=_one_keep),
    "cuts from and to": Wish(change=_fixed_cuts),
    "equal devices": Wish(devices=(2, 4), change=_alike),
    "flat accuracy": Wish(limits=("accuracy",), change=_flat_curve),
    "memory of whole blocks": Wish(limits=("device memory", "server memory")),
    "accuracy just reached": Wish(limits=("accuracy",)),
    "rates at R_min": Wish(limits=("outage",)),
    "all limits at once": Wish(limits=("device memory", "server memory", "accuracy", "outage")),
    "measured points": Wish(change=_points),
}
"""The variants, in the order in which cells take turns."""


@dataclass(frozen=True)
class FuzzCell:
    """A cell to fuzz with."""

    number: int
    variant: str
    instance: Instance
    feas_tol: float


def fuzz_cell(seed: int, number: int) -> FuzzCell:
    """Draw cell ``number`` of a run; the variants take turns."""
    variant = list(VARIANTS)[number % len(VARIANTS)]
    wish, dice = VARIANTS[variant], Dice(seed, number, 4)
    data = _drawn(wish, dice)
    feas_tol = dice.pick(TOLERANCES)
    instance = parse_instance(data)
    try:
        derive(instance, feas_tol=feas_tol)
    except InputError:  # no mode that is known yet
        return FuzzCell(number, variant, instance, feas_tol)
    for limit in ("device memory", "server memory", "outage", "accuracy"):
        put_limit(data, instance, limit, limit in wish.limits, feas_tol, dice)
        instance = parse_instance(data)
    return FuzzCell(number, variant, instance, feas_tol)


# --- everything but the limits --------------------------------------------------------------------


def _drawn(wish: Wish, dice: Dice) -> Data:
    decades = wish.decades if wish.decades is not None else dice.pick([0.0, 0.3, 0.3, 1.0, 3.0])

    def about(value: float, zero: bool = False) -> float:
        """A number within some decades of a usual one; or 0."""
        if zero and dice.chance(wish.zeros):
            return 0.0
        return value * dice.spread(-decades, decades)

    data: Data = {
        "schema_version": 2,
        "workload": _workload(wish, about, dice),
        "compression": _compression(dice),
        "accuracy": _accuracy(about, dice),
        "devices": _devices(wish, about, dice),
        "server": {
            "compute_flops_per_s": about(1.5e12), "memory_bytes": NO_LIMIT,
            "transmit_power_w": about(10.0),
        },
        "radio": _radio(about, dice),
        "training": {"local_steps": dice.pick([1, 2, 10, 1000])},
        "server_order": dice.pick(["in_turn", "in_turn", "parallel"]),
    }  # fmt: skip
    if dice.chance(0.15):
        _cut_factors(data, dice)
    for section, value in (wish.fields or {}).items():
        data[section] = {**data[section], **value} if isinstance(value, dict) else value
    for device in data["devices"]:
        _cut_limits(device, data["workload"]["blocks"], dice)
    if wish.change is not None:
        wish.change(data, dice)
    return data


def _workload(wish: Wish, about: Callable[..., float], dice: Dice) -> Data:
    whole = lambda value: max(1, round(min(about(value), 1e9)))  # noqa: E731
    return {
        "blocks": dice.whole(*wish.blocks), "hidden": whole(768), "tokens": whole(197),
        "block_forward_flops": about(2.9e9), "block_backward_flops": about(3.1e9),
        "embedding_forward_flops": about(2.3e8, True), "head_flops": about(1e7, True),
        "adapter_parameters_per_rank": about(3072.0, True), "lora_rank": dice.pick([1, 16, 16]),
        "adapter_bits": dice.pick([16, 32]), "reference_bits": dice.pick([16, 32]),
        "device_base_bytes": about(3e8, True), "sample_base_bytes": about(1.2e6, True),
        "block_weight_bytes": about(2.8e7, True), "block_adapter_bytes": about(8e5, True),
        "block_activation_bytes": about(7.9e6, True), "server_base_bytes": about(1e9, True),
        "sample_head_bytes": about(1e5, True) if dice.chance(0.3) else 0.0,
        "side_bits": about(30.0, True) if dice.chance(0.3) else 0.0,
    }  # fmt: skip


def _overhead(dice: Dice) -> list[Data]:
    count = dice.whole(1, 3)
    first = dice.pick([0.0, 0.0, dice.draw.uniform(0.0, 0.3)])
    last = dice.pick([1.0, 1.0, dice.draw.uniform(0.6, 1.0)])
    ends = [first, *np.sort(dice.draw.uniform(first + 1e-3, last - 1e-3, count - 1)), last]
    return [
        {"keep_from": float(left), "keep_to": float(right),
         "factor": dice.pick([0.0, 1.0, dice.draw.uniform(0.6, 1.6), dice.draw.uniform(0.0, 10.0)])}
        for left, right in itertools.pairwise(ends)
    ]  # fmt: skip


def _compression(dice: Dice) -> Data:
    modes = []
    for index in range(dice.pick([1, 1, 2, 2, 3, 4])):
        kind = dice.pick(["topk", "topk", "topk", "dense", "none"])
        mode: Data = {"kind": kind, "name": f"mode{index}"}
        if kind != "none":
            mode["bits"] = dice.pick([1, 2, 3, 4, 6, 8, 8, 16, 32])
            if dice.chance(0.3):
                mode["value_bits"] = dice.pick([dice.spread(-2.0, 1.5), mode["bits"] * 0.8])
            if dice.chance(0.5):
                mode["side_bits_per_element"] = dice.pick([16 / 768, 0.25, dice.spread(-6.0, 1.0)])
        if kind == "topk" and dice.chance(0.3):
            mode["mask_overhead"] = _overhead(dice)
        modes.append(mode)
    compression: Data = {"modes": modes}
    if dice.chance(0.4):
        compression["keep_min"] = dice.pick([dice.spread(-6.0, -0.3), 0.05, 1e-12])
    if dice.chance(0.3):
        compression["keep_max"] = max(dice.draw.uniform(0.05, 1.0), compression.get("keep_min", 0))
    return compression


def _accuracy(about: Callable[..., float], dice: Dice) -> Data:
    return {
        "uncompressed": dice.pick([0.92, 0.0, -2.7, dice.spread(-3.0, 2.0)]),
        "keep_loss": about(0.25, True), "keep_decay": min(max(about(20.0), 1e-3), 1e5),
        "quantisation_loss": about(0.3, True),
        "quantisation_scales_with_keep": dice.chance(0.6),
        "scope": dice.pick(["mean", "mean", "each", "common"]),
        "minimum": -1e39,
    }  # fmt: skip


def _devices(wish: Wish, about: Callable[..., float], dice: Dice) -> list[Data]:
    count = dice.whole(*wish.devices)
    weights = dice.draw.random(count) * (dice.draw.random(count) >= wish.zeros)
    weights[0] += not weights.any()
    devices = []
    for n, weight in enumerate(weights / weights.sum()):
        device = {
            "id": f"dev{n}", "compute_flops_per_s": about(1e12), "memory_bytes": NO_LIMIT,
            "batch": max(1, round(min(about(16.0), 1e9))), "weight": float(weight),
            "transmit_power_w": about(0.2), "uplink_gain": about(dice.spread(-12.0, -9.0)),
            "codec_s_per_element": about(1e-9, True) if dice.chance(0.3) else 0.0,
        }  # fmt: skip
        if dice.chance(0.3):
            device["downlink_gain"] = about(dice.spread(-12.0, -9.0))
        devices.append(device)
    return devices


def _cut_limits(device: Data, blocks: int, dice: Dice) -> None:
    device["blocks_min"] = dice.pick([0, 0, 1, dice.whole(0, blocks - 1)])
    if dice.chance(0.2):
        device["blocks_max"] = dice.whole(device["blocks_min"], blocks)


def _radio(about: Callable[..., float], dice: Dice) -> Data:
    return {
        "uplink_bandwidth_hz": about(6e6), "downlink_bandwidth_hz": about(6e6),
        "uplink_noise_figure": dice.pick([1.0, 3.0]), "snr_gap": dice.pick([1.0, 1.0, 5.0]),
        "downlink_noise_figure": dice.pick([1.0, 7.0]),
        "efficiency_cap_bits_per_s_hz": dice.pick([7.4, dice.spread(-2.0, 2.0)]),
        "outage_rate_bits_per_s": 1e-60,
        "power": dice.pick(["psd", "psd", "total"]),
        "downlink": dice.pick(["kept", "kept", "dense"]),
        "adapter_downlink": dice.pick(["unicast", "multicast"]),
        "fading": dice.pick(["gamma", "gamma", "none"]),
        "diversity_branches": dice.pick([1, 4, 4, 1000]),
    }  # fmt: skip
