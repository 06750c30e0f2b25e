"""Time of ``certify`` to a gap of 1e-4 (and 1e-6 at 1,000) over sizes and families.

Families of encoders are timed with three token modes on offer too.

``make bench`` runs 12, 100 and 1,000 devices with every family's own blocks, ``make bench
BENCH_ARGS=`` all (about ten minutes on two cores more). One run per case after compilation, whose
time is not counted. The gap reached is in ``extra_info``.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cells import DEEP_BLOCKS, FEASIBLE, OWN_BLOCKS, cell
from sftopt.core.check import check
from sftopt.core.derived import Derived, derive
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Outcome, Task
from sftopt.solvers.certify import SOLVER
from sftopt.solvers.options import Options
from tests.token_cells import with_token_modes

SIZES = (5, 12, 30, 100, 300, 1000, 3000, 10000)
"""Numbers of devices."""
QUICK = (12, 100, 1000)
"""Of these, what ``make bench`` runs unasked, with a family's own blocks."""
ENCODERS = ("jetson-vit-b", "straggler", "weichen", "weak-server")
"""Families whose tokens may be dropped, timed with three token modes: at most 1.5 times as long."""
LIMIT_S = 60.0
"""Time limit of one solve."""


def run(derived: Derived, rel_gap: float) -> Outcome:
    """Run one certified solve."""
    options = Options(time_limit=LIMIT_S, rel_gap=rel_gap)
    return SOLVER.run(
        Task(derived, get_formulation("native"), None, None, options, Deadline(LIMIT_S))
    )


def measured(
    benchmark: Any, family: str, devices: int, rel_gap: float, blocks: int = OWN_BLOCKS,
    tokens: bool = False,
) -> None:  # fmt: skip
    """Time one case and note what came of it; ``tokens``: with three token modes on offer."""
    run(derive(cell(family, 3, 1)), 1e-3)  # compiled now
    instance = cell(family, devices, 1, blocks)
    if tokens:
        instance = with_token_modes(instance)
    if not check(instance).feasible:
        pytest.skip(f"{family} with {blocks} blocks is infeasible: floors fall elsewhere")
    derived = derive(instance)
    found = benchmark.pedantic(run, args=(derived, rel_gap), rounds=1, iterations=1)
    assert found.claimed_s is not None
    bound = found.bound_s or 0.0
    benchmark.extra_info.update(
        family=family,
        devices=devices,
        blocks=blocks,
        tokens=tokens,
        gap=1.0 - bound / found.claimed_s,
        nodes=found.nodes,
        termination=found.termination.value,
    )


@pytest.mark.parametrize(
    ("blocks", "devices"),
    [
        pytest.param(blocks, devices, marks=() if quick else pytest.mark.slow)
        for blocks in (OWN_BLOCKS, DEEP_BLOCKS)
        for devices in SIZES
        for quick in [blocks == OWN_BLOCKS and devices in QUICK]
    ],
)
@pytest.mark.parametrize("family", FEASIBLE)
def test_gap_1e4(benchmark: Any, family: str, blocks: int, devices: int) -> None:
    """To a gap of 1e-4."""
    measured(benchmark, family, devices, 1e-4, blocks)


@pytest.mark.slow
@pytest.mark.parametrize("family", FEASIBLE)
def test_gap_1e6(benchmark: Any, family: str) -> None:
    """To a gap of 1e-6 at 1,000 devices."""
    measured(benchmark, family, 1000, 1e-6)


@pytest.mark.parametrize("devices", QUICK)
@pytest.mark.parametrize("family", ENCODERS)
def test_token_modes(benchmark: Any, family: str, devices: int) -> None:
    """To a gap of 1e-4, with three token modes beside the family's own."""
    measured(benchmark, family, devices, 1e-4, tokens=True)
