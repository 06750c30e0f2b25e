"""Cells that benchmarks share: every feasible family, also with its model cut into more blocks."""

from __future__ import annotations

from sftopt.core.families import FAMILIES, generate
from sftopt.core.instance import Instance
from sftopt.studies.race.cases import with_blocks

FEASIBLE = tuple(name for name, family in FAMILIES.items() if family.feasible)
"""Names of the families whose cells are feasible."""
OWN_BLOCKS = 12
"""Stands for a family's own number of blocks: 12, for ``llama-1b`` 16."""
DEEP_BLOCKS = 32
"""Number of blocks of the deeper models."""


def cell(family: str, devices: int, seed: int, blocks: int = OWN_BLOCKS) -> Instance:
    """Make a cell of ``family``; with ``blocks`` other than 12 a model of as many, thinner blocks.

    All of its blocks together compute, hold and send what those of the family's model do, and
    privacy floors lie at the same part of the model.
    """
    instance = generate(family, devices, seed)
    return instance if blocks == OWN_BLOCKS else with_blocks(instance, blocks)
