"""Cells with operating points: tokens, measured figures, codec factors and side bits, drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from sftopt.core.instance import Instance

TOKEN_MODES = (
    {"kind": "tokens", "tokens": 101, "bits": 8, "loss": 0.004},
    {"kind": "tokens", "tokens": 51, "bits": 8, "loss": 0.012},
    {"kind": "tokens", "tokens": 26, "bits": 4, "loss": 0.025},
)
"""Three token modes for workloads of 197 tokens, losses as a calibration might give them."""
VIT_B = {"heads": 12, "head_size": 64, "element_bytes": 4, "is_decoder": False}
"""What a workload must say for tokens to have a work and a memory of their own."""


def with_token_modes(instance: Instance) -> Instance:
    """The cell with three token modes on offer beside its own, at parts of its own tokens."""
    data = instance.to_dict()
    work = data["workload"]
    work.update({name: value for name, value in VIT_B.items() if work.get(name) is None})
    work["is_decoder"] = False
    modes = []
    for mode in TOKEN_MODES:
        tokens = max(2, int(mode["tokens"]) * int(work["tokens"]) // 197)  # type: ignore[call-overload]
        modes.append({**mode, "tokens": tokens})
    data["compression"]["modes"] += modes
    return Instance.model_validate(data)


def with_points(instance: Instance, draw: np.random.Generator) -> Instance:
    """The cell with one to three drawn points more, and drawn codec seconds and side bits."""
    data = instance.to_dict()
    data["workload"].update(VIT_B)
    if draw.random() < 0.5:
        data["workload"]["side_bits"] = float(10 ** draw.uniform(1.0, 5.0))
    coded = draw.random() < 0.7
    for device in data["devices"]:
        if draw.random() < 0.3:
            device["blocks_min"] = 0
        if coded and draw.random() < 0.8:
            device["codec_s_per_element"] = float(10 ** draw.uniform(-10.0, -6.5))
    modes = data["compression"]["modes"]
    for mode in modes:
        if draw.random() < 0.2:
            mode["codec_seconds_factor"] = float(draw.uniform(0.0, 4.0))
    blocks, budget = data["workload"]["blocks"], _allowed_loss(data)
    for index in range(int(draw.integers(1, 4))):
        modes.append({"name": f"point{index}", **_point(draw, blocks, budget)})
    return Instance.model_validate(data)


def _allowed_loss(data: dict[str, Any]) -> float:
    accuracy = data["accuracy"]
    return max(float(accuracy["uncompressed"]) - float(accuracy["minimum"]), 1e-3)


def _point(draw: np.random.Generator, blocks: int, budget: float) -> dict[str, Any]:
    """A token mode two times in three, else a dense one with figures of its own."""
    loss: Any = float(draw.uniform(0.0, 1.8) * budget)
    if draw.random() < 0.4:
        loss = [float(value) for value in draw.uniform(0.0, 1.8, blocks) * budget]
    point: dict[str, Any] = {"kind": "dense", "bits": int(draw.integers(1, 9)), "loss": loss}
    if draw.random() < 2.0 / 3.0:
        point |= {"kind": "tokens", "tokens": int(draw.integers(2, 190))}
    if draw.random() < 0.3:
        point["value_bits"] = float(draw.uniform(0.5, 8.0))
    if draw.random() < 0.3:
        point["gradient_bits"] = float(draw.uniform(0.5, 16.0))
    if draw.random() < 0.4:
        point["codec_seconds_factor"] = float(draw.uniform(0.0, 5.0))
    return point
