"""A cell of two devices with round numbers, plans for it and what the judge says, for hand cases.

Without fading: SNR 3 and 15 over the whole uplink give 2 and 4 bit/s/Hz, so 200 and 400 bit/s; down
200 log2(2.5) and 200 log2(8.5) bit/s.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from sftopt.core.instance import Instance
from sftopt.core.plan import Breakdown, DevicePlan, Plan
from sftopt.core.verify import Family, Verification, verify_plan

L2, L8 = 200 * math.log2(2.5), 200 * math.log2(8.5)
"""Whole downlinks of the two devices in bit/s."""
UP = (200.0, 400.0)
"""Their whole uplinks."""
BLOCK = 3200.0
"""Bits of one block's adapters: rank 2, 100 parameters per rank, 16 bits."""


def cell(**edits: Any) -> Instance:
    """4 blocks, 10 tokens of hidden 10, K = 10; two devices; ``edits`` by dotted path."""
    made = Instance.model_validate({
        "workload": {
            "blocks": 4, "hidden": 10, "tokens": 10, "block_forward_flops": 1e9,
            "block_backward_flops": 2e9, "embedding_forward_flops": 5e8, "head_flops": 1e9,
            "lora_rank": 2, "adapter_parameters_per_rank": 100.0, "adapter_bits": 16,
            "device_base_bytes": 100.0, "sample_base_bytes": 10.0, "block_weight_bytes": 50.0,
            "block_adapter_bytes": 6.0, "block_activation_bytes": 2000.0, "server_base_bytes": 7.0,
            "sample_head_bytes": 3.0, "head_parameters": 25.0, "head_bytes": 11.0, "heads": 2,
            "head_size": 5, "element_bytes": 4, "adapted_matrices": 5, "is_decoder": False,
        },
        "compression": {"keep_min": 0.1, "modes": [
            {"bits": 4, "side_bits_per_element": 0.5},
            {"kind": "none", "bits": 32},
            {"kind": "dense", "bits": 8, "side_bits_per_element": 0.25},
            {"kind": "tokens", "bits": 8, "tokens": 4},
            {"kind": "tokens", "bits": 8, "tokens": 4, "name": "measured", "loss": 0.02,
             "gradient_bits": 3.0},
            {"kind": "dense", "bits": 2, "name": "codec", "value_bits": 1.5, "gradient_bits": 0.75,
             "loss": [0.01, 0.02, 0.03, 0.04], "codec_seconds_factor": 3.0},
        ]},
        "accuracy": {"uncompressed": 0.9, "keep_loss": 0.2, "keep_decay": math.log(2) * 4,
                     "quantisation_loss": 2.56, "minimum": 0.7},
        "devices": [
            {"id": "a", "compute_flops_per_s": 1e9, "memory_bytes": 1e6, "batch": 2,
             "weight": 0.25, "transmit_power_w": 1.0, "uplink_gain": 3.0,
             "codec_s_per_element": 0.001, "energy_coefficient_j_s2_per_flop3": 3e-27},
            {"id": "b", "compute_flops_per_s": 2e9, "memory_bytes": 1e6, "batch": 1,
             "weight": 0.75, "transmit_power_w": 1.0, "uplink_gain": 15.0,
             "energy_coefficient_j_s2_per_flop3": 1e-27},
        ],
        "server": {"compute_flops_per_s": 1e10, "memory_bytes": 1e7, "transmit_power_w": 1.0,
                   "energy_coefficient_j_s2_per_flop3": 2e-30},
        "radio": {"uplink_bandwidth_hz": 100.0, "downlink_bandwidth_hz": 200.0,
                  "noise_w_per_hz": 0.01, "fading": "none", "outage_rate_bits_per_s": 1.0},
        "training": {"local_steps": 10},
    })  # fmt: skip
    return made.replace(**edits) if edits else made


def plan_of(
    instance: Instance,
    cuts: tuple[int, int],
    mode: str = "none",
    share: float = 0.5,
    rows: tuple[dict[str, Any], dict[str, Any]] = ({}, {}),
    **fields: Any,
) -> Plan:
    """Both devices under one mode at equal shares; ``rows`` changes single devices."""
    chosen = next(m for m in instance.compression.modes if m.label == mode)
    devices = [
        DevicePlan.model_validate({
            "id": name, "blocks": cut, "mode": chosen.kind, "mode_name": mode, "bits": chosen.bits,
            "keep_fraction": 1.0, "uplink_share": share, "downlink_share": share,
            "adapter_uplink_share": share, **row,
        })
        for name, cut, row in zip("ab", cuts, rows, strict=True)
    ]  # fmt: skip
    return Plan(instance_hash=instance.hash, devices=tuple(devices), **fields)


def judged(instance: Instance, plan: Plan, feasible: bool = True) -> Breakdown:
    """The breakdown; its parts sum to the round in every order."""
    found = verify_plan(instance, plan)
    assert found.feasible is feasible, found.violations
    assert found.breakdown is not None
    made = found.breakdown
    assert made.parts is not None
    parts = made.parts.model_dump()
    assert math.fsum(parts.values()) == pytest.approx(made.round_s, rel=1e-9)
    assert made.round_s == found.objective_s
    return made


def misses(found: Verification) -> dict[str, str]:
    """What is outside its domain, by index."""
    return {v.index: v.unit for v in found.violations if v.family is Family.DOMAIN}
