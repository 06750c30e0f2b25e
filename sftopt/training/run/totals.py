"""What a run came to: bytes against an uncompressed run, virtual time, seconds, versions."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import peft
import torch
import transformers

from sftopt.core.instance import Instance
from sftopt.training.loop import RoundRow

_FP32_BYTES = 4
"""Bytes of one element at 32 bits."""


def totals(
    instance: Instance,
    rows: Sequence[RoundRow],
    written: Sequence[Mapping[str, Any]],
    local_steps: int,
    setup: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Sum up a run as plain data. ``written`` are the rows of ``rows.jsonl``.

    Ratios are raw over sent, raw being the same elements at 32 bits: up, down, and both. ``cut_by``
    is the share of the raw bytes that is not sent, which is how the literature counts. Labels and
    masks go up with the boundary, compressed or not: they count on both sides of a ratio. ``setup``
    is what each device was sent once: apart, and spread over the run in ``amortised``.
    """
    up = sum(row.bytes_of("uplink_boundary") for row in rows)
    side = sum(row.bytes_of("uplink_side") for row in rows)
    head = sum(row.bytes_of("uplink_head") + row.bytes_of("downlink_head") for row in rows)
    down = sum(row.bytes_of("downlink_gradient") for row in rows)
    adapters = sum(
        row.bytes_of("uplink_adapters") + row.bytes_of("downlink_adapters") for row in rows
    )
    once = sum((setup or {}).values())
    batches = {device.id: device.batch for device in instance.devices}
    samples = sum(
        batches[name] * (local_steps - row.skipped_batches.get(name, 0))
        for row in rows
        for name in row.participants
    )
    skipped = sum((Counter(row.skipped_batches) for row in rows), Counter())
    raw = float(samples * instance.workload.boundary_elements * _FP32_BYTES)
    return {
        "rounds": len(rows),
        "loss": rows[-1].loss,
        "time_s": written[-1]["time_s"],
        "time_unscaled_s": written[-1]["time_unscaled_s"],
        "bytes": {
            "uplink": up,
            "downlink": down,
            "adapters": adapters,
            "head": head,
            "side": side,
            "setup": once,
            "total": up + side + down + adapters + head + once,
            "raw_each_way": raw,
        },
        "compression": {
            "uplink": _against(raw + side, up + side),
            "downlink": _against(raw, down),
            "total": _against(2.0 * raw + side, up + side + down),
            "amortised": {
                "downlink": _against(raw, down + once),
                "total": _against(2.0 * raw + side, up + side + down + once),
            },
        },
        "setup_bytes": dict(setup or {}),
        "skipped_batches": {device.id: skipped[device.id] for device in instance.devices},
        "cpu_s": _seconds([row.cpu_s for row in rows]),
        "wall_s": _seconds([row.wall_s for row in rows]),
    }


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def _against(raw: float, sent: int) -> dict[str, float | None]:
    """Both null where nothing is sent: order federated has no boundary."""
    if sent == 0:
        return {"ratio": None, "cut_by": None}
    return {"ratio": raw / sent, "cut_by": 1.0 - sent / raw}


def _seconds(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> float:
    """Over all rounds, devices and phases."""
    return math.fsum(
        value for row in rounds for phases in row.values() for value in phases.values()
    )
