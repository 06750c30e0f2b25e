"""The constructed start and the polish: feasible on every variant, and as good as a dense grid."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived, derive
from sftopt.core.families import FAMILIES, generate
from sftopt.core.instance import Instance
from sftopt.core.plan import Provenance
from sftopt.core.point import IntegralPoint, best_delay, from_plan, to_plan
from sftopt.core.verify import verify_plan
from sftopt.solvers.base import Deadline
from sftopt.solvers.heuristics.constructive import first_point, improve
from sftopt.solvers.heuristics.polish import polish
from sftopt.solvers.heuristics.repair import keep_as_is, repair
from tests.samples import VARIANTS, sample_instance

Array = NDArray[np.float64]


def judged(instance: Instance, point: IntegralPoint) -> float:
    """The judge's delay of a point that holds within the one tolerance."""
    derived = derive(instance)
    plan = to_plan(derived, point, Provenance(), instance.name)
    found = verify_plan(instance, plan)
    assert found.feasible, found.violations
    assert found.objective_s is not None
    return found.objective_s


def random_points(derived: Derived, seed: int, count: int) -> Iterator[IntegralPoint]:
    """Integral points anywhere in the domains; most of them miss the accuracy limit."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        chosen = draw.integers(0, len(derived.options), derived.devices)
        if derived.scope.value == "common":
            chosen[:] = chosen[0]
        low = np.array([derived.options[o].keep_low for o in chosen])
        high = np.array([derived.options[o].keep_high for o in chosen])
        keep = low + draw.uniform(0.0, 1.0, derived.devices) * (high - low)
        yield IntegralPoint(draw.integers(derived.cut_low, derived.cut_high + 1), chosen, keep)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_first_point_is_feasible_and_improving_never_harms(variant: str, seed: int) -> None:
    instance = sample_instance(2 + seed, seed, **VARIANTS[variant])
    derived = derive(instance)
    point = first_point(derived)
    assert point is not None
    first_s = judged(instance, point)
    assert best_delay(derived, point).round_s == pytest.approx(first_s, rel=1e-9)
    better = improve(derived, point, deadline=Deadline(5.0))
    assert judged(instance, better) <= first_s * (1.0 + 1e-12)


@pytest.mark.parametrize("family", [f.name for f in FAMILIES.values() if f.feasible])
def test_every_feasible_family_gets_a_first_point(family: str) -> None:
    for devices, seed in ((1, 0), (4, 1), (9, 2)):
        instance = generate(family, devices, seed)
        point = first_point(derive(instance))
        assert point is not None
        judged(instance, point)


def test_an_infeasible_instance_gets_none() -> None:
    assert first_point(derive(generate("infeasible", 3, 0))) is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_polish_is_feasible_and_no_worse_than_its_input(variant: str) -> None:
    instance = sample_instance(4, 3, **VARIANTS[variant])
    derived = derive(instance)
    start = first_point(derived)
    assert start is not None
    compared = 0
    for point in (start, *random_points(derived, 7, 25)):
        found = polish(derived, point)
        known = Coefficients(derived, point.cuts, point.choice)
        if found is None:
            assert not meets(derived, known, best_possible(derived, point))
            continue
        assert np.array_equal(found.cuts, point.cuts)
        assert np.array_equal(found.choice, point.choice)
        judged(instance, found)
        if meets(derived, known, point.keep):
            compared += 1
            own = best_delay(derived, point, known).round_s
            assert best_delay(derived, found, known).round_s <= own * (1.0 + 1e-9)
    assert compared >= 1


def best_possible(derived: Derived, point: IntegralPoint) -> Array:
    """Keep fractions of least loss: if these miss the limit, all do (``common``: one for all)."""
    known = Coefficients(derived, point.cuts, point.choice)
    grid = np.linspace(0.0, 1.0, 2001)
    losses = np.array([known.loss(known.low + part * (known.high - known.low)) for part in grid])
    if derived.scope.value == "common":
        part = np.full(derived.devices, grid[np.argmin(losses.max(axis=1))])
    else:
        part = grid[np.argmin(losses, axis=0)]
    best: Array = known.low + part * (known.high - known.low)
    return best


def meets(derived: Derived, known: Coefficients, keep: Array) -> bool:
    """The accuracy limits of equation (12), written out once more."""
    loss = known.loss(keep)
    if np.any(loss > derived.loss_budget_each):
        return False
    if derived.scope.value == "common":
        return bool(np.all(keep == keep[0]))
    return derived.scope.value == "each" or known.mean_loss(keep) <= derived.loss_budget


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "common"])
@pytest.mark.parametrize("devices", [1, 2])
def test_polished_keep_fractions_are_the_best_of_a_dense_search(variant: str, devices: int) -> None:
    """Delay rises with every keep, so with two devices the best lies on a curve: search it all."""
    compared = 0
    for seed in range(2):
        derived = derive(sample_instance(devices, seed, **VARIANTS[variant]))
        for point in random_points(derived, seed, 4):
            found = polish(derived, point)
            if found is None:
                continue
            best = searched(derived, point)
            assert best_delay(derived, found).round_s == pytest.approx(best, rel=1e-5)
            compared += 1
    assert compared >= 3


def searched(derived: Derived, point: IntegralPoint) -> float:
    """Least delay over the first device's keep, the last one at the least that then suffices."""
    known = Coefficients(derived, point.cuts, point.choice)
    grid = np.linspace(0.0, 1.0, 20_001)
    table = known.low + grid[:, None] * (known.high - known.low)
    losses = np.array([known.loss(row) for row in table])

    def value(first: float) -> float:
        keep = np.full(derived.devices, first)
        own = known.loss(keep)[0]
        if derived.devices == 2:
            budget = derived.loss_budget_each
            if derived.scope.value == "mean":
                left = (derived.loss_budget - derived.weight[0] * own) / derived.weight[1]
                budget = min(budget, left)
            fits = np.flatnonzero(losses[:, 1] <= budget)
            if len(fits) == 0:
                return np.inf
            keep[1] = refined(known, table[:, 1], int(fits[0]), budget)
        elif derived.scope.value == "mean" and own > derived.loss_budget:
            return np.inf
        if own > derived.loss_budget_each:
            return np.inf
        return best_delay(derived, point.with_keep(keep), known).round_s

    if derived.devices == 1:
        limit = min(derived.loss_budget, derived.loss_budget_each)
        if derived.scope.value == "each":
            limit = derived.loss_budget_each
        first_fit = int(np.flatnonzero(losses[:, 0] <= limit)[0])
        return value(refined(known, table[:, 0], first_fit, limit, row=0))
    places = table[::200, 0]
    best = np.inf
    for _ in range(4):  # a grid, then finer ones around its best
        values = [value(float(first)) for first in places]
        at = int(np.argmin(values))
        best = min(best, values[at])
        places = np.linspace(places[max(at - 1, 0)], places[min(at + 1, len(places) - 1)], 21)
    return best


def refined(
    known: Coefficients, column: Array, first_fit: int, budget: float, *, row: int = 1
) -> float:
    """The least keep of one device within ``budget``, by bisection in its grid cell."""
    if first_fit == 0:
        return float(column[0])
    low, high = float(column[first_fit - 1]), float(column[first_fit])
    for _ in range(60):
        middle = 0.5 * (low + high)
        if known.loss(np.full(len(known.low), middle))[row] <= budget:
            high = middle
        else:
            low = middle
    return high


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_candidate_is_repaired_to_a_feasible_point(variant: str) -> None:
    instance = sample_instance(3, 5, **VARIANTS[variant])
    derived = derive(instance)
    draw = np.random.default_rng(11)
    for _ in range(8):
        weights = draw.dirichlet(np.ones(len(derived.options)), derived.devices)
        cuts = draw.uniform(-3.0, derived.blocks + 3.0, derived.devices)
        found = repair(derived, Candidate(cuts, weights, draw.uniform(-0.5, 1.5, derived.devices)))
        assert found is not None
        judged(instance, found)


def test_parallel_server_memory_is_repaired_by_raising_cuts() -> None:
    base: dict[str, Any] = {"server_order": "parallel", "modes": (2, 4)}
    roomy = derive(sample_instance(3, 0, **base))
    need = float((roomy.server_activation_bytes * (roomy.blocks - 4)).sum())
    spent = 1e11 - roomy.server_activation_budget_bytes
    instance = sample_instance(3, 0, **base, server={"memory_bytes": spent + need})
    derived = derive(instance)
    low = Candidate(
        derived.cut_low.astype(float), np.full((3, len(derived.options)), 0.5), np.full(3, 0.3)
    )
    found = repair(derived, low)
    assert found is not None
    assert found.cuts.sum() > derived.cut_low.sum()
    judged(instance, found)


def test_an_integral_point_that_holds_keeps_its_cuts_and_options() -> None:
    for seed, variant in product(range(3), ("plain", "each", "total power")):
        derived = derive(sample_instance(3, seed, **VARIANTS[variant]))
        point = first_point(derived)
        assert point is not None
        kept = keep_as_is(derived, point.candidate(derived))
        assert kept is not None
        assert np.array_equal(kept.cuts, point.cuts)
        assert np.array_equal(kept.choice, point.choice)
        assert best_delay(derived, kept).round_s <= best_delay(derived, point).round_s


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_point_survives_the_way_through_a_plan(variant: str) -> None:
    instance = sample_instance(3, 2, **VARIANTS[variant])
    derived = derive(instance)
    point = first_point(derived)
    assert point is not None
    again = from_plan(derived, to_plan(derived, point, Provenance(), instance.name))
    assert np.array_equal(again.cuts, point.cuts)
    # a plan's keep fractions leave the judge's rounding: by the last digits of a loss
    delay_s = best_delay(derived, point).round_s
    assert best_delay(derived, again).round_s == pytest.approx(delay_s, rel=1e-12)
