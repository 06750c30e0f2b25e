"""Small random cells with operating points: tokens, measured losses, own bits and codec seconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from sftopt.core.instance import Instance
from tests.samples import sample_instance

TOPK = {"kind": "topk", "bits": 4, "side_bits_per_element": 16 / 768}


def point_cell(seed: int, *, devices: int | None = None, topk: bool = True) -> Instance:
    """A cell of two or three devices, four blocks and up to four modes; it may be infeasible."""
    draw = np.random.default_rng((112, seed))
    count = int(draw.integers(2, 4)) if devices is None else devices
    blocks = 4
    parallel = bool(draw.random() < 0.5)
    points = [_tokens, _dense, _none]
    chosen = [points[k] for k in draw.permutation(3)[: int(draw.integers(1, 4))]]
    modes: list[dict[str, Any]] = [make(draw, blocks, k) for k, make in enumerate(chosen)]
    if topk:
        factor = float(draw.choice([1.0, 1.0, 0.3]))
        modes.append({**TOPK, "codec_seconds_factor": factor})
    work: dict[str, Any] = {
        "heads": 12, "head_size": 64, "element_bytes": 4, "is_decoder": False,
        "side_bits": float(draw.choice([0.0, 7.0, 3e5])),
        "sample_head_bytes": float(draw.choice([0.0, 1e5])),
        "model_type": "vit", "block_activation_bytes": 12e6, "block_forward_flops": 2.927e9 * 3,
        "block_backward_flops": 3.066e9 * 3,
    }  # fmt: skip
    cell = sample_instance(
        count, seed, blocks=blocks, modes=tuple(modes), workload=work,
        accuracy={
            "scope": str(draw.choice(["mean", "mean", "each", "common"])),
            "minimum": 0.92 - float(draw.uniform(0.004, 0.02)),
            "cut_factor": None if draw.random() < 0.6 else [0.8, 1.0, 1.1, 1.3],
        },
        radio={
            "power": str(draw.choice(["psd", "total"])),
            "downlink": str(draw.choice(["kept", "kept", "dense"])),
            "adapter_downlink": str(draw.choice(["unicast", "multicast"])),
        },
        server_order="parallel" if parallel else "in_turn",
    )  # fmt: skip
    data = cell.to_dict()
    need = _server_bytes(cell, parallel)
    data["server"]["memory_bytes"] = need * float(draw.choice([0.75, 0.9, 1.1]))
    for device in data["devices"]:
        device["blocks_min"] = int(draw.integers(0, 2))
        device["codec_s_per_element"] = float(draw.choice([0.0, 3e-8]))
    return Instance.model_validate(data)


def _server_bytes(cell: Instance, parallel: bool) -> float:
    """What two blocks of every device at the server need, about."""
    work = cell.workload
    saved = [d.batch * 2 * work.block_activation_bytes for d in cell.devices]
    rest = sum(d.batch * (work.sample_base_bytes + work.sample_head_bytes) for d in cell.devices)
    model = work.blocks * (work.block_weight_bytes + work.block_adapter_bytes)
    return float((sum(saved) if parallel else max(saved)) + rest + model + work.server_base_bytes)


def _loss(draw: np.random.Generator, blocks: int) -> float | list[float]:
    level = float(draw.uniform(0.001, 0.012))
    if draw.random() < 0.5:
        return level
    return [level * float(f) for f in draw.uniform(0.6, 1.4, blocks)]


def _tokens(draw: np.random.Generator, blocks: int, number: int) -> dict[str, Any]:
    return {
        "kind": "tokens", "bits": 8, "tokens": int(draw.choice([41, 80, 140])),
        "name": f"tokens-{number}", "loss": _loss(draw, blocks),
        "codec_seconds_factor": float(draw.choice([1.0, 2.5])),
        "gradient_bits": None if draw.random() < 0.5 else 10.0,
    }  # fmt: skip


def _dense(draw: np.random.Generator, blocks: int, number: int) -> dict[str, Any]:
    return {
        "kind": "dense", "bits": 3, "value_bits": float(draw.uniform(1.2, 2.6)),
        "side_bits_per_element": 0.02, "name": f"dense-{number}", "loss": _loss(draw, blocks),
        "gradient_bits": None if draw.random() < 0.5 else 4.0,
    }  # fmt: skip


def _none(draw: np.random.Generator, blocks: int, number: int) -> dict[str, Any]:
    return {"kind": "none", "name": f"none-{number}", "gradient_bits": 8.0,
            "codec_seconds_factor": 0.0}  # fmt: skip
