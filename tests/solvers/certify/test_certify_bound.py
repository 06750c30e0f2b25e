"""The bound of ``certify``: never above a point, whatever the multipliers; statements by number."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import sftopt.solvers.certify as package
from sftopt.core.derived import Derived, derive
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Outcome, Progress, Task
from sftopt.solvers.certify import SOLVER
from sftopt.solvers.certify.bound.arrays import CORNERS, Cell, Region, every_cut
from sftopt.solvers.certify.bound.bound_data import (
    attainable,
    build_cell,
    merge,
    with_law,
    with_tables,
)
from sftopt.solvers.certify.bound.box_bound import evaluate
from sftopt.solvers.certify.bound.keep_minimum import (
    convexity_cap,
    entropy_bits,
    fill_table,
    least_phi,
    table_bound,
    table_nodes,
)
from sftopt.solvers.certify.bound.merged_bound import skim
from sftopt.solvers.certify.bound.rate_tangents import law_of, most_share, touched
from sftopt.solvers.exhaustive import SOLVER as EXHAUSTIVE
from sftopt.solvers.options import Options
from tests.samples import VARIANTS, sample_instance

Array = NDArray[np.float64]


def outcome_of(derived: Derived, *, rel_gap: float = 1e-4, limit_s: float = 60.0) -> Outcome:
    """What certify says of an instance."""
    task = Task(
        derived, get_formulation("native"), None, None,
        Options(time_limit=limit_s, rel_gap=rel_gap), Deadline(limit_s),
    )  # fmt: skip
    return SOLVER.run(task)


def truth_of(derived: Derived) -> Outcome:
    """What enumeration says of it."""
    task = Task(derived, get_formulation("native"), None, None, Options(), Deadline(60.0))
    return EXHAUSTIVE.run(task)


def whole_region(derived: Derived) -> Region:
    """Everything allowed."""
    n = derived.devices
    return Region(
        derived.cut_low.astype(np.int64), derived.cut_high.astype(np.int64),
        np.full(n, (1 << len(derived.options)) - 1, dtype=np.int64), np.zeros(n), np.ones(n),
    )  # fmt: skip


UNUSED = (np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int8))


def bound_at(
    derived: Derived, box: list[float], m: list[float], parts: int, *, coarse: bool = False,
    near: list[float] | None = None,
) -> float:  # fmt: skip
    """The box bound at given multipliers; ``near``: those that the tables are made for."""
    values, region = np.empty(CORNERS), whole_region(derived)
    cell = with_law(build_cell(derived), derived)
    if parts >= 0:
        cell = with_tables(cell, parts, np.array([*(m if near is None else near)]), box[1], box[3])
    none = np.zeros((CORNERS, 0), dtype=np.int64), np.zeros((CORNERS, 0))
    live, at = every_cut(cell, region), (np.array([*box, 0.0]), np.array(m))
    cuts, spread = np.empty((CORNERS, 5)), np.zeros(4)
    if coarse:
        merged = merge(cell, parts, np.array([*(m if near is None else near)]), box[1], box[3])
        skim(cell, merged, region, live, *at, values, cuts, spread, UNUSED, 0.0)
    else:
        evaluate(cell, region, live, *at, values, cuts, spread, False, *none, UNUSED, 0.0)
    return float(values.min())


def test_least_phi_is_never_above_a_dense_grid() -> None:
    """Statement 3 on random coefficients, with random first guesses."""
    draw = np.random.default_rng(0)
    for _ in range(2000):
        decay, low = 10 ** draw.uniform(0.5, 2.0), 10 ** draw.uniform(-3.0, -0.5)
        high = draw.uniform(low, 1.0)
        P, S = 10 ** draw.uniform(-5.0, 2.0), 10 ** draw.uniform(-5.0, 2.5)
        grid = np.linspace(low, high, 801)
        inner = np.minimum(grid, 1.0 - 1e-16)
        mask = -(inner * np.log2(inner) + (1.0 - inner) * np.log2(1.0 - inner))
        phi = P * mask + S * grid + np.exp(-decay * grid)
        value = min(phi[0], phi[-1])
        if convexity_cap(decay, low, high) > P:
            value, _ = least_phi(P, S, decay, low, high, phi[0], phi[-1], draw.uniform(low, high))
        assert value <= phi.min() * (1.0 + 1e-12)
        assert value >= phi.min() * (1.0 - 3e-3)  # the grid itself is this coarse


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_the_table_is_below_the_function(parts: int) -> None:
    """Statement 4, inside the table, below its first node and above its last."""
    low, high, decay = 0.06, 0.84, 22.0
    nodes = table_nodes(parts, -6, 9, -5, 10)
    table = np.zeros((1, len(nodes.P), len(nodes.S)))
    fill_table(table[0], nodes, decay, low, high, 2.0)
    draw = np.random.default_rng(1)
    for _ in range(2000):
        P, S = 10 ** draw.uniform(-6.0, 3.0), 10 ** draw.uniform(-6.0, 3.0)
        S = max(S, 2.0 * P)
        ends = [P * entropy_bits(k) + S * k + math.exp(-decay * k) for k in (low, high)]
        value = min(ends)
        if convexity_cap(decay, low, high) > P:
            value, _ = least_phi(P, S, decay, low, high, ends[0], ends[1], 0.3)
        assert table_bound(table, 0, nodes, P, S) <= value * (1.0 + 1e-12)


@pytest.mark.parametrize("fading", ["the same for all", "each its own"])
def test_share_tangents_are_below_every_share(fading: str) -> None:
    """Statement 8: a share that gives a rate is above every tangent's estimate for that rate."""
    draw = np.random.default_rng(2)
    for _ in range(40):
        devices, cap = 5, draw.uniform(2.0, 20.0)
        drawn = draw.gamma(4.0, 0.25, (1 if fading == "the same for all" else devices, 16))
        terms = 10 ** draw.uniform(-3.0, 4.0, (devices, 1)) * drawn
        law = law_of(terms, 1e6, cap, 10.0, np.ones((devices, 2)))
        assert len(law.per_unit) == len(drawn)
        for _ in range(40):
            n = int(draw.integers(devices))
            share = 10 ** draw.uniform(-6.0, 0.0)
            rate = share * 1e6 * np.minimum(np.log2(1.0 + terms[n] / share), cap).mean()
            per_bit, constant = touched(law, n, rate * 10 ** draw.uniform(-3.0, 3.0))
            assert constant <= 0.0
            assert constant + per_bit * rate <= share * (1.0 + 1e-11) + 1e-15
            per_bit, constant = touched(law, n, rate)
            near = 1e-2 if rate > 1e3 else 1.0  # smaller rates touch at the first entry
            assert constant + per_bit * rate >= share * (1.0 - near)
            assert most_share(law, n, rate) >= share * (1.0 - 1e-12)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_bounds_hold_and_close_against_enumeration(variant: str) -> None:
    """Every variant: the bound is not above the true optimum and the gap closes."""
    for seed in (3, 4):
        fields = {"modes": (2, 4), **VARIANTS[variant]}
        if variant == "cut factor":
            fields["accuracy"] = {"cut_factor": (0.6, 0.9, 1.3, 1.0)}
        derived = derive(sample_instance(2, seed, blocks=4, **fields))
        found, truth = outcome_of(derived), truth_of(derived)
        assert found.bound_s is not None
        assert found.claimed_s is not None
        assert truth.claimed_s is not None
        assert found.bound_s <= truth.claimed_s * (1.0 + 1e-9)
        assert found.claimed_s <= truth.claimed_s * (1.0 + 1.1e-4)
        assert found.bound_s >= found.claimed_s * (1.0 - 1.001e-4)
        assert found.termination.value == "gap_limit"


@pytest.mark.parametrize("power", ["psd", "total"])
@pytest.mark.parametrize("parts", [-1, 3])
def test_mutated_multipliers_still_bound(parts: int, power: str) -> None:
    """Statement 1: any multipliers give a valid, weaker bound; with or without tables."""
    modes = (2, 4, {"kind": "none", "bits": 32})
    derived = derive(sample_instance(2, 5, blocks=5, modes=modes, radio={"power": power}))
    optimum = truth_of(derived).claimed_s
    assert optimum is not None
    draw = np.random.default_rng(3)
    box = [1e-3, optimum / derived.steps, 1e-3, optimum / derived.steps]
    for _ in range(300):
        m = [*(10 ** draw.uniform(-6.0, 4.0, 3)), 0.0]
        assert bound_at(derived, box, m, parts, near=[10.0, 1.0, 100.0, 0.0]) <= optimum
        assert bound_at(derived, box, m, 3, coarse=True, near=[10.0, 1.0, 100.0, 0.0]) <= optimum


def test_tables_change_nothing_but_speed() -> None:
    """Pruning by the table drops only items that cannot be the least."""
    derived = derive(sample_instance(6, 1))
    draw = np.random.default_rng(4)
    for _ in range(50):
        u, d = draw.uniform(0.3, 3.0, 2)
        box = [u, u * draw.uniform(1.0, 2.0), d, d * draw.uniform(1.0, 2.0)]
        m = [*(10 ** draw.uniform(-1.0, 2.5, 3)), 0.0]
        plain, pruned = bound_at(derived, box, m, -1), bound_at(derived, box, m, 3)
        assert pruned == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize(
    "fields",
    [
        {"accuracy": {"minimum": 0.92}, "modes": (4, {"kind": "none", "bits": 32})},
        {"server": {"compute_flops_per_s": 1e9}},
        {"server": {"compute_flops_per_s": 1e18}},
        {"radio": {"uplink_bandwidth_hz": 1e3}},
    ],
    ids=["accuracy exactly at its limit", "slow server", "fast server", "1 kHz"],
)
def test_extremes(fields: dict[str, object]) -> None:
    """Zero slack and nine decades of speed: the bound stays below the truth."""
    derived = derive(sample_instance(2, 7, blocks=3, **{"modes": (2, 4), **fields}))  # type: ignore[arg-type]
    found, truth = outcome_of(derived), truth_of(derived)
    assert found.bound_s is not None
    assert truth.claimed_s is not None
    assert found.bound_s <= truth.claimed_s * (1.0 + 1e-9)
    assert found.bound_s >= truth.claimed_s * (1.0 - 2.1e-4)


def test_one_device() -> None:
    """N = 1, where duality leaves a gap that only branching closes."""
    derived = derive(sample_instance(1, 11, accuracy={"quantisation_scales_with_keep": False}))
    found, truth = outcome_of(derived, rel_gap=1e-5), truth_of(derived)
    assert found.bound_s is not None
    assert truth.claimed_s is not None
    assert truth.claimed_s * (1.0 - 1.1e-5) <= found.bound_s <= truth.claimed_s * (1.0 + 1e-9)


def test_limits_keep_plan_and_bound_and_news_flow() -> None:
    """Stopped early, the run still has a plan and a bound; reports never go backwards."""
    derived = derive(sample_instance(30, 1))
    outcome_of(derived, rel_gap=1e-2)  # compiled now
    news: list[Progress] = []
    calls = iter(range(10**9))
    task = Task(
        derived, get_formulation("native"), None, None, Options(rel_gap=1e-9), Deadline(60.0),
        report=news.append, stop_requested=lambda: next(calls) > 60,
    )  # fmt: skip
    found = SOLVER.run(task)
    assert found.termination.value == "interrupted"
    assert found.candidate is not None
    assert found.bound_s is not None
    assert found.claimed_s is not None
    assert 0.0 < found.bound_s < found.claimed_s
    bounds = [part.bound_s for part in news if part.bound_s is not None]
    assert bounds == sorted(bounds)
    assert any(part.candidate is not None for part in news)


def test_bound_and_plans_share_no_code() -> None:
    """The bound's files import nothing that makes plans, and the other way round."""
    folder = Path(package.__file__).parent
    guides = [folder / f"{name}.py" for name in ("nodes", "branching", "first_nodes")]
    bound = [*sorted((folder / "bound").glob("*.py")), *guides]
    plans = sorted((folder / "plan").glob("*.py"))
    assert len(bound) > 8
    assert len(plans) > 3

    def imported(file: Path) -> set[str]:
        tree = ast.parse(file.read_text())
        found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        return found | {
            a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
        }

    def below(names: set[str], *packages: str) -> set[str]:
        return {name for name in names if name.startswith(packages)}

    makers = (
        "sftopt.core.coefficients", "sftopt.core.entropy", "sftopt.core.least_time",
        "sftopt.core.point", "sftopt.core.round", "sftopt.core.spectrum",
        "sftopt.solvers.heuristics",
    )  # fmt: skip
    for file in bound:
        assert not below(imported(file), "sftopt.solvers.certify.plan", *makers)
    forbidden = {f"sftopt.solvers.certify.{file.stem}" for file in guides}
    for file in plans:
        assert not below(imported(file), "sftopt.solvers.certify.bound", *forbidden)


def test_attainable_memory_is_the_largest_sum_of_units() -> None:
    """Statement 15: rounded down to whole units, never below an attainable sum."""
    sizes = np.array([4.0, 8.0, 6.0]) * 7.94e6
    unit = 2.0 * 7.94e6
    assert attainable(sizes, 10.99 * unit) == pytest.approx(10.0 * unit, rel=1e-9)
    assert attainable(sizes, 11.0 * unit) >= 11.0 * unit
    assert attainable(np.array([1.0, np.pi]), 5.0) == 5.0


def true_costs(derived: Derived, cell: Cell, n: int, point: Array, m: Array) -> Array:
    """(L,) least cost of a device's cuts at a point, with the shares themselves, on a grid."""
    found = np.full(derived.blocks, np.inf)
    law, cap = derived.snr_terms[n], float(derived.efficiency_cap)
    shares = np.geomspace(1e-9, 1e3, 40_001)
    per_share = np.minimum(np.log2(1.0 + law / shares[:, None]), cap).mean(axis=1)
    rates = shares * per_share * float(derived.uplink_bandwidth_hz)
    for cut in range(int(derived.cut_low[n]), int(derived.cut_high[n]) + 1):
        room_up, room_down = point[0] - cell.s1[n, cut], point[2] - cell.s5[n, cut]
        if room_up <= 0.0 or room_down <= 0.0:
            continue
        for o in range(len(derived.options)):
            keep = np.linspace(cell.low[o, cut], cell.high[o, cut], 801)
            mask = -(keep * np.log2(keep) + (1.0 - keep) * np.log2(1.0 - keep))
            up = cell.eta_up[o] * keep + cell.omega[o] * mask + cell.sigma_up[o]
            down = cell.eta_down[o] * keep + cell.sigma_down[o]
            loss = cell.loss_keep * cell.factor[cut] * np.exp(-cell.decay * keep)
            loss += cell.noise_constant[o] + cell.noise_slope[o] * keep
            share = np.interp(cell.up[n] * up / room_up, rates, shares)
            cost = cell.cost[n, cut] + m[0] * share + m[1] * cell.down[n] * down / room_down
            found[cut] = min(found[cut], (cost + m[2] * cell.weight[n] * loss).min())
    return found


def test_dropped_cuts_cannot_win_under_total_power() -> None:
    """Statement 13 with estimated shares: no cut left out is the least with the true ones."""
    derived = derive(sample_instance(6, 1, radio={"power": "total"}))
    cell, region = with_law(build_cell(derived), derived), whole_region(derived)
    near = np.array([10.0, 2.0, 200.0, 0.0])
    draw = np.random.default_rng(6)
    cell = with_tables(cell, 3, near, 2.0, 2.0)
    merged = merge(cell, 4, near, 2.0, 2.0)
    none = np.zeros((CORNERS, 0), dtype=np.int64), np.zeros((CORNERS, 0))
    values, cuts, spread = np.empty(CORNERS), np.empty((CORNERS, 5)), np.zeros(4)
    live, dropped = every_cut(cell, region), 0
    for turn in range(12):
        u, d = draw.uniform(0.8, 3.0, 2)
        box = np.array([u, u * 1.02, d, d * 1.02, 0.0])
        m = near * np.append(10 ** draw.uniform(-0.5, 0.5, 3), 0.0)
        cell.law.bits[:] = draw.uniform(0.2, 8.0, cell.law.bits.shape)  # any touching points
        kept = np.zeros(7, dtype=np.int64), np.empty(len(live[1]), dtype=np.int8)
        if turn % 2:
            skim(cell, merged, region, live, box, m, values, cuts, spread, kept, 1.05)
        else:
            evaluate(
                cell, region, live, box, m, values, cuts, spread, False, *none, kept, 1.05
            )  # fmt: skip
        if not np.all(np.isfinite(values)):
            continue
        point = np.array([u * 1.01, u * 1.01, d * 1.013, d * 1.013, 0.0])
        other = m * np.append(draw.uniform(1.0 / 1.05, 1.05, 3), 0.0)
        for n in range(derived.devices):
            costs = true_costs(derived, cell, n, point, other)
            mine = kept[1][kept[0][n] : kept[0][n + 1]]
            gone = np.setdiff1d(np.flatnonzero(np.isfinite(costs)), mine)
            dropped += len(gone)
            if len(gone):
                assert costs[gone].min() >= costs[mine].min() * (1.0 - 1e-6)
    assert dropped > 40


def test_dropped_cuts_cannot_win() -> None:
    """Statement 13: in a part of the box, at other multipliers in range, D is the same."""
    derived = derive(sample_instance(6, 1))
    cell, region = build_cell(derived), whole_region(derived)
    near = np.array([10.0, 2.0, 200.0, 0.0])
    draw = np.random.default_rng(5)
    cell = with_tables(cell, 3, near, 2.0, 2.0)
    merged = merge(cell, 4, near, 2.0, 2.0)
    none = np.zeros((CORNERS, 0), dtype=np.int64), np.zeros((CORNERS, 0))
    values, cuts, spread = np.empty(CORNERS), np.empty((CORNERS, 5)), np.zeros(4)
    live, dropped = every_cut(cell, region), 0
    for turn in range(40):
        u, d = draw.uniform(0.8, 3.0, 2)
        box = np.array([u, u * 1.02, d, d * 1.02, 0.0])
        m = near * np.append(10 ** draw.uniform(-0.5, 0.5, 3), 0.0)
        kept = np.zeros(7, dtype=np.int64), np.empty(len(live[1]), dtype=np.int8)
        if turn % 2:
            skim(cell, merged, region, live, box, m, values, cuts, spread, kept, 1.05)
        else:
            evaluate(
                cell, region, live, box, m, values, cuts, spread, False, *none, kept, 1.05
            )  # fmt: skip
        if not np.all(np.isfinite(values)):
            continue
        fewer = kept[0], kept[1][: kept[0][-1]].copy()
        dropped += len(live[1]) - len(fewer[1])
        point = np.array([u * 1.01, u * 1.01, d * 1.013, d * 1.013, 0.0])
        other = m * np.append(draw.uniform(1.0 / 1.05, 1.05, 3), 0.0)
        found = []
        for chosen in (live, fewer):
            evaluate(
                cell, region, chosen, point, other, values, cuts, spread, False, *none, UNUSED, 0.0
            )  # fmt: skip
            found.append(float(values.min()))
        assert found[1] == pytest.approx(found[0], rel=1e-11)
    assert dropped > 100
