"""Instances made small enough to enumerate, around a plan that stays feasible."""

from __future__ import annotations

from typing import Any

import numpy as np

from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.memory import device_memory_bytes
from sftopt.core.plan import Plan
from sftopt.solvers.exhaustive.space import combination_count
from sftopt.solvers.run import solve

MODES_KEPT = 3
"""Number of modes kept where an instance must be reduced, if its plan uses no more."""


def reduced(instance: Instance, limit: int) -> Instance:
    """Return ``instance`` with fewer modes and cuts, all around a plan, which stays feasible.

    Cuts are taken away from above by less device memory and from below by a higher privacy floor,
    until at most ``limit`` combinations are left. Raises InputError where no plan is found.
    """
    derived = derive(instance)
    if combination_count(derived) <= limit:
        return instance
    plan = solve(instance, solver="constructive").plan
    if plan is None:
        raise InputError(f"'{instance.name}' has no plan to reduce it around (combinations)")
    modes = _kept_modes(instance, plan)
    cuts = np.array([part.blocks for part in plan.devices])
    low, high = derived.cut_low.copy(), derived.cut_high.copy()
    mixes = float(len(modes)) ** len(cuts)
    while mixes * float(np.prod(high - low + 1.0)) > limit and np.any(high > low):
        widest = int(np.argmax(high - low))
        if high[widest] - cuts[widest] >= cuts[widest] - low[widest]:
            high[widest] -= 1
        else:
            low[widest] += 1
    devices = []
    for n, device in enumerate(instance.devices):
        enough = device_memory_bytes(instance.workload, device, int(high[n])) * (1.0 + 1e-9)
        memory = enough if high[n] < derived.cut_high[n] else device.memory_bytes
        floor = max(device.blocks_min, int(low[n]))
        devices.append(device.model_copy(update={"memory_bytes": memory, "blocks_min": floor}))
    data = instance.model_copy(
        update={
            "name": f"{instance.name}-reduced",
            "devices": tuple(devices),
            "compression": instance.compression.model_copy(update={"modes": modes}),
        }
    ).to_dict()
    return Instance.model_validate(data)


def _kept_modes(instance: Instance, plan: Plan) -> tuple[Any, ...]:
    """The plan's modes, and others in their order up to ``MODES_KEPT``."""
    used = {(part.mode, part.bits) for part in plan.devices}
    reference = instance.workload.reference_bits

    def is_used(mode: Any) -> bool:
        bits = reference if mode.kind.value == "none" else mode.bits
        return (mode.kind, bits) in used

    modes = instance.compression.modes
    wanted = [mode for mode in modes if is_used(mode)]
    wanted += [mode for mode in modes if not is_used(mode)][: max(MODES_KEPT - len(wanted), 0)]
    return tuple(mode for mode in modes if mode in wanted)


__all__ = ["reduced"]
