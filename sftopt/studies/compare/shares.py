"""The best shares for decisions that are made: problem (14), on times that the judge states."""

from __future__ import annotations

import numpy as np

from sftopt.core.block_work import adapter_bits_of_block
from sftopt.core.derived import derive
from sftopt.core.instance import Instance
from sftopt.core.least_time import least_time
from sftopt.core.plan import Breakdown, Plan
from sftopt.core.verify import verify_plan


def at_best_shares(instance: Instance, plan: Plan) -> Plan:
    """Return a parallel plan at the shares of least delay for its decisions.

    The judge states what every device computes and sends at the shares that the plan has; payloads
    are those times' bits, whatever mode, tokens or rank they come from. A plan without a finite
    delay is returned as it is: the judge says why.
    """
    breakdown = verify_plan(instance, plan).breakdown
    if breakdown is None:
        return plan
    derived, work = derive(instance), instance.workload
    parts = plan.devices
    up_share = np.array([part.uplink_share for part in parts])
    down_share = np.array([part.downlink_share for part in parts])
    sent_up = _times(breakdown, "s2_s") * derived.uplink_law.rate(up_share)
    sent_down = _times(breakdown, "s4_s") * derived.downlink_law.rate(down_share)
    adapters = np.array([p.blocks * adapter_bits_of_block(work, p.rank) for p in parts])
    _, up = least_time(_times(breakdown, "s1_s"), sent_up, derived.uplink_law)
    _, down = least_time(_times(breakdown, "s5_s"), sent_down, derived.downlink_law)
    _, adapter = least_time(np.zeros(len(parts)), adapters, derived.uplink_law)
    made = [
        part.model_copy(
            update={
                "uplink_share": float(up[n]),
                "downlink_share": float(down[n]),
                "adapter_uplink_share": float(adapter[n]),
            }
        )
        for n, part in enumerate(parts)
    ]
    return plan.model_copy(update={"devices": tuple(made)})


def _times(breakdown: Breakdown, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([getattr(device, name) for device in breakdown.devices])
