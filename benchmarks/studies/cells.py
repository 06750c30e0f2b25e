"""Cells that benchmarks share: every feasible family, also with its model cut into more blocks."""

from __future__ import annotations

from sftopt.core.families import FAMILIES, generate
from sftopt.core.instance import Instance

FEASIBLE = tuple(name for name, family in FAMILIES.items() if family.feasible)
"""Names of the families whose cells are feasible."""
OWN_BLOCKS = 12
"""Stands for a family's own number of blocks: 12, for ``llama-1b`` 16."""
DEEP_BLOCKS = 32
"""Number of blocks of the deeper models."""

_PER_BLOCK = (
    "block_forward_flops",
    "block_backward_flops",
    "adapter_parameters_per_rank",
    "block_weight_bytes",
    "block_adapter_bytes",
    "block_activation_bytes",
)
"""Fields of a workload that are of one block."""


def cell(family: str, devices: int, seed: int, blocks: int = OWN_BLOCKS) -> Instance:
    """Make a cell of ``family``; with ``blocks`` other than 12 a model of as many, thinner blocks.

    All of its blocks together compute, hold and send what those of the family's model do, and
    privacy floors lie at the same part of the model.
    """
    instance = generate(family, devices, seed)
    if blocks == OWN_BLOCKS:
        return instance
    data = instance.to_dict()
    ratio = data["workload"]["blocks"] / blocks
    data["workload"]["blocks"] = blocks
    for name in _PER_BLOCK:
        data["workload"][name] *= ratio
    for device in data["devices"]:
        if device["blocks_min"]:
            device["blocks_min"] = max(1, int(device["blocks_min"] / ratio))
    data["name"] += f"-l{blocks}"
    return Instance.model_validate(data)
