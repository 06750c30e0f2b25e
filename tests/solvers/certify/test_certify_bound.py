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
from sftopt.solvers.certify.bound.arrays import (
    BoundData,
    Box,
    CornerBounds,
    Listing,
    LivePlaces,
    MergedTable,
    Region,
    empty_bounds,
    every_place,
    no_listing,
    no_record,
)
from sftopt.solvers.certify.bound.bound_data import (
    attainable,
    build_bound_data,
    with_share_tangents,
)
from sftopt.solvers.certify.bound.box_bound import box_bounds
from sftopt.solvers.certify.bound.keep_minimum import (
    convexity_cap,
    entropy_bits,
    fill_table,
    least_phi,
    table_bound,
    table_nodes,
)
from sftopt.solvers.certify.bound.merged_bound import merged_bounds
from sftopt.solvers.certify.bound.places import places_of
from sftopt.solvers.certify.bound.rate_tangents import (
    build_share_tangents,
    enough_share,
    share_tangent,
)
from sftopt.solvers.certify.bound.tables import merge, with_tables
from sftopt.solvers.certify.guidance import Multipliers
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
        places_of(derived).lowest_cuts(derived), derived.cut_high.astype(np.int64),
        np.full(n, (1 << len(derived.options)) - 1, dtype=np.int64), np.zeros(n), np.ones(n),
    )  # fmt: skip


def evaluated(
    data: BoundData, region: Region, live: LivePlaces, box: Box, m: Multipliers, *,
    merged: MergedTable | None = None, listing: Listing | None = None,
) -> CornerBounds:  # fmt: skip
    """The box bounds at given multipliers, by the merged table if there is one."""
    out, listing = empty_bounds(), no_listing() if listing is None else listing
    if merged is not None:
        merged_bounds(data, merged, region, live, box, m, out, listing)
    else:
        box_bounds(data, region, live, box, m, out, no_record(), 0, listing)
    return out


def bound_at(
    derived: Derived, box: list[float], m: list[float], parts: int, *, coarse: bool = False,
    near: list[float] | None = None,
) -> float:  # fmt: skip
    """The box bound at given multipliers; ``near``: those that the tables are made for."""
    region, data = whole_region(derived), with_share_tangents(build_bound_data(derived), derived)
    prices = Multipliers(*(m if near is None else near))
    if parts >= 0:
        data = with_tables(data, parts, prices, box[1], box[3])
    merged = merge(data, parts, prices, box[1], box[3]) if coarse else None
    live = every_place(data, region)
    out = evaluated(data, region, live, Box(*box, 0.0), Multipliers(*m), merged=merged)
    return float(out.values.min())


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
        assert table_bound(table, 0, nodes, P, S) <= value * (1.0 + 2e-8)  # value's own error


@pytest.mark.parametrize("fading", ["the same for all", "each its own"])
def test_share_tangents_are_below_every_share(fading: str) -> None:
    """Statement 8: a share that gives a rate is above every tangent's estimate for that rate."""
    draw = np.random.default_rng(2)
    for _ in range(40):
        devices, cap = 5, draw.uniform(2.0, 20.0)
        drawn = draw.gamma(4.0, 0.25, (1 if fading == "the same for all" else devices, 16))
        terms = 10 ** draw.uniform(-3.0, 4.0, (devices, 1)) * drawn
        tangents = build_share_tangents(terms, 1e6, cap, 10.0, np.ones((devices, 2)))
        assert len(tangents.per_unit) == len(drawn)
        for _ in range(40):
            n = int(draw.integers(devices))
            share = 10 ** draw.uniform(-6.0, 0.0)
            rate = share * 1e6 * np.minimum(np.log2(1.0 + terms[n] / share), cap).mean()
            per_bit, constant = share_tangent(tangents, n, rate * 10 ** draw.uniform(-3.0, 3.0))
            assert constant <= 0.0
            assert constant + per_bit * rate <= share * (1.0 + 1e-11) + 1e-15
            per_bit, constant = share_tangent(tangents, n, rate)
            near = 1e-2 if rate > 1e3 else 1.0  # smaller rates touch at the first entry
            assert constant + per_bit * rate >= share * (1.0 - near)
            assert enough_share(tangents, n, rate) >= share * (1.0 - 1e-12)


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
    assert np.all(np.isfinite(bounds)), "no bound yet is null, not minus infinity"
    assert any(part.candidate is not None for part in news)


def test_bound_and_plans_share_no_code() -> None:
    """The bound's files import nothing that makes plans, and the other way round."""
    folder = Path(package.__file__).parent
    guides = [folder / f"{name}.py" for name in ("branching", "first_nodes")]
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


def true_costs(derived: Derived, data: BoundData, n: int, point: Box, m: Multipliers) -> Array:
    """(L,) least cost of a device's cuts at a point, with the shares themselves, on a grid."""
    found = np.full(derived.blocks, np.inf)
    terms, cap = derived.snr_terms[n], float(derived.efficiency_cap)
    shares = np.geomspace(1e-9, 1e3, 40_001)
    per_share = np.minimum(np.log2(1.0 + terms / shares[:, None]), cap).mean(axis=1)
    rates = shares * per_share * float(derived.uplink_bandwidth_hz)
    for cut in range(int(derived.cut_low[n]), int(derived.cut_high[n]) + 1):
        room_up, room_down = point.up_low - data.s1[n, cut], point.down_low - data.s5[n, cut]
        if room_up <= 0.0 or room_down <= 0.0:
            continue
        for o in range(len(derived.options)):
            keep = np.linspace(data.low[o, cut], data.high[o, cut], 801)
            mask = -(keep * np.log2(keep) + (1.0 - keep) * np.log2(1.0 - keep))
            up = data.eta_up[o] * keep + data.omega[o] * mask + data.sigma_up[o]
            down = data.eta_down[o] * keep + data.sigma_down[o]
            loss = data.loss_keep * data.factor[cut] * np.exp(-data.decay * keep)
            loss += data.noise_constant[o, cut] + data.noise_slope[o] * keep
            share = np.interp(data.up[n] * up / room_up, rates, shares)
            cost = data.cost[n, cut] + m.uplink * share
            cost = cost + m.downlink * data.down[n] * down / room_down
            found[cut] = min(found[cut], (cost + m.loss * data.weight[n] * loss).min())
    return found


NEAR = Multipliers(10.0, 2.0, 200.0, 0.0)
"""About the best multipliers of the sample that lists of cuts are tried on."""


def drawn_box(draw: np.random.Generator) -> tuple[Box, Box, Multipliers, Multipliers]:
    """A narrow box, a point in it, multipliers, and others within 5 % of them."""
    u, d = draw.uniform(0.8, 3.0, 2)
    m = np.array(NEAR) * np.append(10 ** draw.uniform(-0.5, 0.5, 3), 0.0)
    other = m * np.append(draw.uniform(1.0 / 1.05, 1.05, 3), 0.0)
    point = Box(u * 1.01, u * 1.01, d * 1.013, d * 1.013, 0.0)
    box = Box(u, u * 1.02, d, d * 1.02, 0.0)
    return box, point, Multipliers(*m.tolist()), Multipliers(*other.tolist())


def test_dropped_cuts_cannot_win_under_total_power() -> None:
    """Statement 13 with estimated shares: no cut left out is the least with the true ones."""
    derived = derive(sample_instance(6, 1, radio={"power": "total"}))
    region = whole_region(derived)
    data = with_share_tangents(build_bound_data(derived), derived)
    draw = np.random.default_rng(6)
    data = with_tables(data, 3, NEAR, 2.0, 2.0)
    merged = merge(data, 4, NEAR, 2.0, 2.0)
    live, dropped = every_place(data, region), 0
    for turn in range(12):
        box, point, m, other = drawn_box(draw)
        data.tangents.bits[:] = draw.uniform(0.2, 8.0, data.tangents.bits.shape)  # any points
        kept = LivePlaces(np.zeros(7, dtype=np.int64), np.empty(len(live.places), dtype=np.int32))
        out = evaluated(
            data, region, live, box, m, merged=merged if turn % 2 else None,
            listing=Listing(kept, 1.05),
        )  # fmt: skip
        if not np.all(np.isfinite(out.values)):
            continue
        for n in range(derived.devices):
            costs = true_costs(derived, data, n, point, other)
            mine = kept.places[kept.first[n] : kept.first[n + 1]]
            gone = np.setdiff1d(np.flatnonzero(np.isfinite(costs)), mine)
            dropped += len(gone)
            if len(gone):
                assert costs[gone].min() >= costs[mine].min() * (1.0 - 1e-6)
    assert dropped > 40


def test_dropped_cuts_cannot_win() -> None:
    """Statement 13: in a part of the box, at other multipliers in range, D is the same."""
    derived = derive(sample_instance(6, 1))
    data, region = build_bound_data(derived), whole_region(derived)
    draw = np.random.default_rng(5)
    data = with_tables(data, 3, NEAR, 2.0, 2.0)
    merged = merge(data, 4, NEAR, 2.0, 2.0)
    live, dropped = every_place(data, region), 0
    for turn in range(40):
        box, point, m, other = drawn_box(draw)
        kept = LivePlaces(np.zeros(7, dtype=np.int64), np.empty(len(live.places), dtype=np.int32))
        out = evaluated(
            data, region, live, box, m, merged=merged if turn % 2 else None,
            listing=Listing(kept, 1.05),
        )  # fmt: skip
        if not np.all(np.isfinite(out.values)):
            continue
        fewer = LivePlaces(kept.first, kept.places[: kept.first[-1]].copy())
        dropped += len(live.places) - len(fewer.places)
        found = [
            evaluated(data, region, chosen, point, other).values.min() for chosen in (live, fewer)
        ]
        assert found[1] == pytest.approx(found[0], rel=1e-11)
    assert dropped > 100
