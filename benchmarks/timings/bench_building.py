"""Building models and planning: wall time against the number of devices.

``make bench`` runs this; figures of one run are comparable with each other, not across machines.
"""

from __future__ import annotations

from typing import Any

import pytest

from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.core.families import generate
from sftopt.core.plan import Provenance
from sftopt.core.point import best_delay, to_plan
from sftopt.core.verify import verify_plan
from sftopt.formulations.base import Start
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.run import solve

SIZES = [10, 100, 1_000]
"""Numbers of devices."""
BUILT = [10, 100, pytest.param(1_000, marks=pytest.mark.slow)]
"""Numbers of devices of the models that are built."""


def start_of(family: str, devices: int) -> tuple[Any, Start, Any]:
    """Derive an instance of ``family`` and a heuristic start for its models."""
    instance = generate(family, devices, 0)
    derived = derive(instance)
    point = first_point(derived)
    assert point is not None
    return derived, Start(point.candidate(derived), best_delay(derived, point).round_s), point


@pytest.mark.parametrize("devices", BUILT)
@pytest.mark.parametrize("family", ["jetson-vit-b", "weichen"])
@pytest.mark.parametrize("name", ["joint-product", "joint-ratio", "joint-relaxed"])
def test_build(benchmark: Any, name: str, family: str, devices: int) -> None:
    """jetson-vit-b has the psd law, weichen the total law."""
    derived, start, _ = start_of(family, devices)
    formulation = get_formulation(name)
    benchmark.pedantic(formulation.build, args=(derived, start), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("devices", [*SIZES, 10_000])
def test_check_and_verify(benchmark: Any, devices: int) -> None:
    derived, _, point = start_of("jetson-vit-b", devices)
    instance = generate("jetson-vit-b", devices, 0)
    plan = to_plan(derived, point, Provenance(), instance.name)

    def both() -> bool:
        return check(instance).feasible and verify_plan(instance, plan).feasible

    assert benchmark.pedantic(both, rounds=3)


@pytest.mark.parametrize("solver", ["bonmin", "ipopt", "cyipopt", "constructive"])
def test_plan_of_the_bundled_cell(benchmark: Any, solver: str) -> None:
    instance = generate("jetson-vit-b", 10, 0)
    result = benchmark.pedantic(solve, args=(instance,), kwargs={"solver": solver}, rounds=3)
    assert result.ok
