"""What a command line leaves behind, and a small instance to try it on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ran:
    """What one command line left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """Standard output as exactly one JSON object."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        assert found["schema_version"] == 2
        return found


Run = Callable[..., Ran]
Write = Callable[[str, Any], Path]


def small_data(devices: int = 2) -> dict[str, Any]:
    """A feasible instance with a handful of cuts and modes, as JSON data."""
    return {
        "schema_version": 2,
        "name": "small",
        "workload": {
            "blocks": 4,
            "hidden": 64,
            "tokens": 16,
            "block_forward_flops": 4e9,
            "block_backward_flops": 5e9,
            "adapter_parameters_per_rank": 256,
            "lora_rank": 4,
            "block_weight_bytes": 1e6,
            "block_activation_bytes": 1e5,
        },
        "compression": {"modes": [{"kind": "topk", "bits": 4}, {"kind": "dense", "bits": 8}]},
        "accuracy": {
            "uncompressed": 0.9,
            "keep_loss": 0.3,
            "keep_decay": 10.0,
            "quantisation_loss": 0.5,
            "minimum": 0.88,
        },
        "devices": [
            {
                "id": f"dev{index}",
                "kind": "board",
                "compute_flops_per_s": 1e12 * (1 + index % 3),
                "memory_bytes": 1e8,
                "batch": 4,
                "weight": 1.0 / devices,
                "transmit_power_w": 0.2,
                "uplink_gain": 1e-9 / (1 + index % 5),
                "blocks_min": 1,
            }
            for index in range(devices)
        ],
        "server": {"compute_flops_per_s": 2e12, "memory_bytes": 1e10, "transmit_power_w": 5.0},
        "radio": {"uplink_bandwidth_hz": 1e7, "downlink_bandwidth_hz": 1e7},
        "training": {"local_steps": 5},
    }
