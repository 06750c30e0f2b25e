"""Instances for tests: seeded, small, and free to take any variant of the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from sftopt.core.instance import (
    Accuracy,
    Compression,
    Device,
    Instance,
    Mode,
    Radio,
    Server,
    Training,
    Workload,
)
from sftopt.core.plan import DevicePlan, Plan


def sample_instance(
    devices: int = 3,
    seed: int = 0,
    *,
    blocks: int = 12,
    modes: tuple[Any, ...] = (2, 4, 8),
    accuracy: dict[str, Any] | None = None,
    radio: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    workload: dict[str, Any] | None = None,
    compression: dict[str, Any] | None = None,
    **fields: Any,
) -> Instance:
    """A random feasible ViT-B-like cell; keyword dicts override single fields of a section."""
    draw = np.random.default_rng(seed)
    speed = 10 ** draw.uniform(11.5, 12.5, devices)
    weight = draw.dirichlet(np.full(devices, 5.0))
    offered = tuple(
        Mode(bits=mode, side_bits_per_element=16 / 768)
        if isinstance(mode, int)
        else Mode.model_validate(mode)
        for mode in modes
    )
    return Instance(
        name=f"sample-{devices}-{seed}",
        workload=Workload.model_validate(
            {
                "blocks": blocks,
                "hidden": 768,
                "tokens": 197,
                "block_forward_flops": 2.927e9,
                "block_backward_flops": 3.066e9,
                "embedding_forward_flops": 2.3e8,
                "head_flops": 1e6,
                "adapter_parameters_per_rank": 3072,
                "device_base_bytes": 3e8,
                "sample_base_bytes": 1.2e6,
                "block_weight_bytes": 28.4e6,
                "block_adapter_bytes": 0.8e6,
                "block_activation_bytes": 7.94e6,
                "server_base_bytes": 1e9,
                **(workload or {}),
            }
        ),
        compression=Compression.model_validate({"modes": offered, **(compression or {})}),
        accuracy=Accuracy.model_validate(
            {
                "uncompressed": 0.92,
                "keep_loss": 0.25,
                "keep_decay": 22.0,
                "quantisation_loss": 0.3,
                "minimum": 0.90,
                **(accuracy or {}),
            }
        ),
        devices=tuple(
            Device(
                id=f"dev{n}",
                compute_flops_per_s=float(speed[n]),
                memory_bytes=float(10 ** draw.uniform(9.2, 10.0)),
                batch=int(draw.choice([8, 16, 32])),
                weight=float(weight[n] / weight.sum()),
                transmit_power_w=0.2,
                uplink_gain=float(10 ** draw.uniform(-12, -9)),
                blocks_min=1,
            )
            for n in range(devices)
        ),
        server=Server.model_validate(
            {
                "compute_flops_per_s": float(0.4 * devices * np.median(speed)),
                "memory_bytes": 1e11,
                "transmit_power_w": 10.0,
                **(server or {}),
            }
        ),
        radio=Radio.model_validate(
            {
                "uplink_bandwidth_hz": 2e6 * devices,
                "downlink_bandwidth_hz": 2e6 * devices,
                **(radio or {}),
            }
        ),
        training=Training(local_steps=10),
        **fields,
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "total power": {"radio": {"power": "total"}},
    "dense downlink": {"radio": {"downlink": "dense"}},
    "parallel server": {"server_order": "parallel"},
    "multicast": {"radio": {"adapter_downlink": "multicast"}},
    "each": {"accuracy": {"scope": "each"}},
    "common": {"accuracy": {"scope": "common"}},
    "no fading": {"radio": {"fading": "none"}},
    "flat noise": {"accuracy": {"quantisation_scales_with_keep": False}},
    "dense and none": {"modes": (2, 4, {"kind": "dense", "bits": 3}, {"kind": "none", "bits": 32})},
    "cut factor": {"accuracy": {"cut_factor": tuple(float(f) for f in np.linspace(0.6, 1.3, 12))}},
    "omega intervals": {
        "modes": (
            {
                "bits": 4,
                "mask_overhead": [
                    {"keep_from": 0.0, "keep_to": 0.2, "factor": 1.3},
                    {"keep_from": 0.2, "keep_to": 1.0, "factor": 0.9},
                ],
            },
            2,
        )
    },
}
"""Every variant of model.md section 3 on its own, as keywords of :func:`sample_instance`."""


def plan_with(plan: Plan, index: int, **changes: Any) -> Plan:
    """``plan`` with one device's entry changed."""
    parts = list(plan.devices)
    parts[index] = DevicePlan.model_validate({**parts[index].model_dump(), **changes})
    return plan.model_copy(update={"devices": tuple(parts)})
