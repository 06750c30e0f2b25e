"""Cells within a hair of a limit, and plans at their edges that the judge accepts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from sftopt.core.accuracy import predicted_accuracy
from sftopt.core.channel import statistical_channel
from sftopt.core.delay import downlink_rate_bits_per_s, uplink_rate_bits_per_s
from sftopt.core.derived import derive
from sftopt.core.instance import AccuracyScope, Instance
from sftopt.core.memory import device_memory_bytes, server_memory_bytes
from sftopt.core.payload import keep_limit
from sftopt.core.plan import Plan, Provenance
from sftopt.core.point import IntegralPoint, to_plan
from sftopt.core.verify import verify_plan
from tests.samples import sample_instance

LIMITS = ("device memory", "server memory", "accuracy", "outage", "keep")
"""What an edge cell can be near."""


def edge_cell(limit: str, off: float, seed: int = 1, **fields: Any) -> Instance:
    """A cell of two devices whose ``limit`` lies ``off`` (relative; absolute for accuracy and keep)
    beyond what a plan would just meet: one more block, the best accuracy, a rate."""
    fields = {"blocks": 4, "modes": (4,), **fields}
    fields["server"] = {"compute_flops_per_s": 4e10, **fields.get("server", {})}
    plain = sample_instance(2, seed, **fields)
    data = plain.to_dict()
    if limit == "device memory":
        for entry, device in zip(data["devices"], plain.devices, strict=True):
            need = device_memory_bytes(plain.workload, device, 2)
            entry["memory_bytes"] = need * (1.0 - off)
    elif limit == "server memory":
        data["server"]["memory_bytes"] = server_memory_bytes(plain, [2, 3]) * (1.0 - off)
    elif limit == "accuracy":
        mode = plain.compression.modes[0]
        most = keep_limit(mode, plain)
        best = [
            max(predicted_accuracy(plain.accuracy, mode, keep, cut) for cut in range(1, 4))
            for keep in np.linspace(plain.keep_min, most, 2001)
        ]
        data["accuracy"]["minimum"] = max(best) + off
        data["accuracy"]["minimum_each"] = None
    elif limit == "outage":
        known = statistical_channel(plain)
        rates = [
            min(
                uplink_rate_bits_per_s(plain, device, 1.0, up),
                downlink_rate_bits_per_s(plain, 1.0, down),
            )
            for device, up, down in zip(
                plain.devices, known.uplink_gain, known.downlink_gain, strict=True
            )
        ]
        data["radio"]["outage_rate_bits_per_s"] = min(rates) * (1.0 + off)
    elif limit == "keep":
        most = keep_limit(plain.compression.modes[0], plain)
        data["compression"]["keep_min"] = min(most + off, 1.0)
        data["accuracy"]["minimum"] = 0.5
    return Instance.model_validate(data)


def accepted_plans(instance: Instance, feas_tol: float) -> Iterator[Plan]:
    """Plans that the judge accepts within ``feas_tol`` and that use all of it: every cut, one mode
    for all, the least common keep fraction that passes, and shares of 1 + ``feas_tol``."""
    derived = derive(instance, feas_tol=feas_tol)
    blocks = range(instance.workload.blocks)
    for choice in range(len(derived.options)):
        for cuts in itertools.product(blocks, repeat=len(instance.devices)):
            plan = _least_keep(instance, cuts, choice, feas_tol)
            if plan is not None:
                yield plan


def _least_keep(
    instance: Instance, cuts: tuple[int, ...], choice: int, feas_tol: float
) -> Plan | None:
    derived = derive(instance, feas_tol=feas_tol)
    option = derived.options[choice]
    mode = instance.compression.modes[option.mode]
    low, high = option.keep_low, option.keep_high

    def plan_at(keep: float) -> Plan | None:
        count = len(cuts)
        point = IntegralPoint(np.array(cuts), np.full(count, choice), np.full(count, keep))
        plan = to_plan(derived, point, Provenance(), instance.name)
        more = 1.0 + feas_tol * (1.0 - 1e-6)
        devices = tuple(
            part.model_copy(
                update={
                    "uplink_share": part.uplink_share * more,
                    "downlink_share": part.downlink_share * more,
                    "adapter_uplink_share": (part.adapter_uplink_share or 0.0) * more,
                }
            )
            for part in plan.devices
        )
        plan = plan.model_copy(update={"devices": devices})
        return plan if verify_plan(instance, plan, feas_tol=feas_tol).feasible else None

    def accuracy(keep: float) -> float:
        values = [predicted_accuracy(instance.accuracy, mode, keep, cut) for cut in cuts]
        weights = [device.weight for device in instance.devices]
        mean = instance.accuracy.scope is AccuracyScope.MEAN
        return float(np.dot(weights, values) / sum(weights)) if mean else min(values)

    grid = np.linspace(low, high, 200)
    best = float(grid[int(np.argmax([accuracy(float(keep)) for keep in grid]))])
    top = plan_at(best)
    if top is None:
        return None
    at_low = plan_at(low)
    if at_low is not None:
        return at_low
    for _ in range(40):
        middle = 0.5 * (low + best)
        found = plan_at(middle)
        if found is None:
            low = middle
        else:
            best, top = middle, found
    return top
