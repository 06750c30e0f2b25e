"""The search of ``certify``: shortcuts of large cells forced on small ones, and plans of equals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sftopt.solvers.certify.bound.node_bound as bounding
from benchmarks.cells import DEEP_BLOCKS, cell
from benchmarks.studies.schemes_cells import random_cell
from sftopt.core.calibration import Speeds, calibrated, load_calibration
from sftopt.core.derived import derive
from sftopt.core.families import generate
from sftopt.core.status import Termination
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Task
from sftopt.solvers.certify import SOLVER, thresholds
from sftopt.solvers.certify.bound.arrays import (
    Box,
    Listing,
    LivePlaces,
    empty_bounds,
    no_record,
)
from sftopt.solvers.certify.bound.box_bound import box_bounds
from sftopt.solvers.certify.bound.node_bound import Bounding
from sftopt.solvers.certify.bound.nodes import Incumbent, Node, NodeBound
from sftopt.solvers.certify.branching import in_region
from sftopt.solvers.certify.many_boxes import AT_ONCE, ManyBoxes
from sftopt.solvers.certify.plan.moves import Primal
from sftopt.solvers.certify.search import Search
from sftopt.solvers.exhaustive import SOLVER as EXHAUSTIVE
from sftopt.solvers.options import Options
from tests.samples import sample_instance
from tests.token_cells import with_token_modes

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


@pytest.mark.parametrize("power", ["psd", "total"])
@pytest.mark.parametrize(
    ("seed", "points"), [(s, False) for s in range(12)] + [(s, True) for s in range(6)]
)
def test_shortcuts_of_large_cells_keep_the_bound_below_the_optimum(
    seed: int, points: bool, power: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged table, live lists and sampled multipliers at N = 2 and 3, against enumeration."""
    for name in ("COARSE", "LISTED", "SAMPLED"):
        monkeypatch.setattr(thresholds, name, 1)
    monkeypatch.setattr(bounding, "_PARTS", 3)
    monkeypatch.setattr(bounding, "_MORE_PARTS", 3)
    monkeypatch.setattr(thresholds, "LARGE", 0)
    monkeypatch.setattr(thresholds, "BRANCHED", 1)
    monkeypatch.setattr(thresholds, "TOGETHER", 0)
    instance = sample_instance(2 + seed % 2, seed, blocks=4, modes=(2, 4), radio={"power": power})
    derived = derive(with_token_modes(instance) if points else instance)
    formulation = get_formulation("native")
    truth = EXHAUSTIVE.run(Task(derived, formulation, None, None, Options(), Deadline(60.0)))
    assert truth.claimed_s is not None
    assert truth.candidate is not None
    plan, known = Primal(derived), truth.candidate
    plan.offer(known.cuts.astype(np.int64), known.choices().astype(np.int64), known.keep, rounds=30)
    assert plan.best is not None
    times = plan.best.guide
    # the search's result hides a box dropped wrongly (its plan is best), so each box is looked at
    used: list[bool] = []
    above: list[float] = []
    bounded = Bounding.bounded

    def watched(self: Bounding, node: Node, *given: Any) -> NodeBound:
        box, found = node.box, bounded(self, node, *given)
        up, down = times.tau_up, times.tau_down
        if box.up_low <= up <= box.up_high and box.down_low <= down <= box.down_high:
            above.append(found.bound / plan.value_s)
        return found

    monkeypatch.setattr(Bounding, "bounded", watched)
    real_root, real_choice = Bounding.add_root, Bounding.may_merge

    def add_root(self: Bounding, *given: Any) -> None:
        real_root(self, *given)
        self.coarse_loss = 0.0

    def may_merge(self: Bounding, node: Node) -> bool:
        used.append(real_choice(self, node))
        return used[-1]

    monkeypatch.setattr(Bounding, "add_root", add_root)
    monkeypatch.setattr(Bounding, "may_merge", may_merge)
    options = Options(time_limit=1.0, rel_gap=1e-4)
    found = SOLVER.run(Task(derived, formulation, None, None, options, Deadline(1.0)))
    assert found.bound_s is not None
    assert found.claimed_s is not None
    assert any(used)
    assert above
    assert max(above) <= 1.0 + 1e-9
    assert 0.5 * truth.claimed_s < found.bound_s <= truth.claimed_s * (1.0 + 1e-9)
    assert found.claimed_s >= truth.claimed_s * (1.0 - 1e-9)


@pytest.mark.parametrize("power", ["psd", "total"])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_halved_together_keep_the_bound_below_the_optimum(
    seed: int, power: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left or closed of each box that holds the optimum's times, against enumeration."""
    derived = derive(
        sample_instance(2 + seed % 2, seed, blocks=4, modes=(2, 4), radio={"power": power})
    )
    formulation = get_formulation("native")
    truth = EXHAUSTIVE.run(Task(derived, formulation, None, None, Options(), Deadline(60.0)))
    assert truth.candidate is not None
    plan, known = Primal(derived), truth.candidate
    plan.offer(known.cuts.astype(np.int64), known.choices().astype(np.int64), known.keep, rounds=30)
    assert plan.best is not None
    times, above, halve = plan.best.guide, list[float](), ManyBoxes.halve

    def holds(box: Box) -> bool:
        inside_up = box.up_low <= times.tau_up <= box.up_high
        return inside_up and box.down_low <= times.tau_down <= box.down_high

    def watched(self: ManyBoxes, bounding: Bounding, *given: Any) -> int:
        done = halve(self, bounding, *given)
        whole = self.node.region is bounding.roots[self.node.root].region
        if whole and holds(self.node.box):
            bounds = [node.bound for node in self.nodes() if holds(node.box)]
            above.append(min(bounds, default=self.floor) / plan.value_s)
        return done

    monkeypatch.setattr(ManyBoxes, "halve", watched)
    options = Options(time_limit=30.0, rel_gap=1e-4)
    found = SOLVER.run(Task(derived, formulation, None, None, options, Deadline(30.0)))
    assert found.claimed_s == pytest.approx(truth.claimed_s, rel=1e-4)
    assert above
    assert max(above) <= 1.0 + 1e-9


def test_halved_boxes_fill_the_box_they_are_parts_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost or held twice, and no part's bound is below what was known of the whole."""
    derived = derive(generate("jetson-vit-b", 8, 1))
    search = Search(Task(derived, get_formulation("native"), None, None, Options(), Deadline(None)))
    search._build()
    primal = search.primals[0]
    primal.start()
    search._take(primal)
    search._roots()
    node = search.heap[0][2]
    assert primal.best is not None
    up, down = primal.best.guide.tau_up, primal.best.guide.tau_down
    node.bound, node.box = 1.0, Box(0.9 * up, 1.5 * up, 0.9 * down, 1.5 * down, 0.0)
    # nothing is closed, and nothing too narrow, as nothing is missing
    monkeypatch.setattr(Incumbent, "target", lambda self: np.inf)
    search.incumbent.value_s = 0.0
    boxes = ManyBoxes(node)
    for _ in range(2):
        assert boxes.halve(search.bounding, None) == AT_ONCE
    parts = boxes.nodes()
    assert len(parts) == 1 + 2 * AT_ONCE
    assert boxes.floor == np.inf
    assert min(part.bound for part in parts) == boxes.bound() >= 1.0

    def area(box: Box) -> float:
        return (box.up_high - box.up_low) * (box.down_high - box.down_low)

    assert sum(area(part.box) for part in parts) == pytest.approx(area(node.box), rel=1e-12)
    for one, other in itertools.combinations([part.box for part in parts], 2):
        up = min(one.up_high, other.up_high) - max(one.up_low, other.up_low)
        down = min(one.down_high, other.down_high) - max(one.down_low, other.down_low)
        assert min(up, down) <= 0.0


def many_modes() -> tuple[dict[str, Any], ...]:
    """Modes whose mask coder was measured in 17 intervals, as a calibration gives."""
    edges = np.linspace(0.0, 1.0, 18)
    return tuple(
        {
            "bits": bits,
            "mask_overhead": [
                {"keep_from": float(a), "keep_to": float(b), "factor": float(1.3 - 0.4 * a)}
                for a, b in itertools.pairwise(edges)
            ],
        }
        for bits in (2, 3, 4)
    )


@pytest.mark.parametrize("devices", [2, 10])
def test_many_modes_do_not_keep_the_gap_open(devices: int) -> None:
    """26 options a device: two devices are enumerated, of ten single ones are parted."""
    derived = derive(
        sample_instance(
            devices, 3, blocks=6, modes=many_modes(), workload={"tokens": 64, "hidden": 96},
            accuracy={"keep_decay": 6.0},
        )
    )  # fmt: skip
    assert len(derived.options) >= 20
    formulation = get_formulation("native")
    rel_gap = 1e-6 if devices == 2 else 1e-5
    task = Task(derived, formulation, None, None, Options(rel_gap=rel_gap), Deadline(60.0))
    found = SOLVER.run(task)
    assert found.termination is Termination.GAP_LIMIT
    assert found.bound_s is not None
    assert found.claimed_s is not None
    assert found.bound_s >= found.claimed_s * (1.0 - 1.01 * rel_gap)
    if devices == 2:
        truth = EXHAUSTIVE.run(Task(derived, formulation, None, None, Options(), Deadline(60.0)))
        assert truth.claimed_s is not None
        assert found.bound_s <= truth.claimed_s * (1.0 + 1e-9)


@pytest.mark.parametrize("family", ["straggler", "equal-devices"])
def test_bounds_of_short_runs_are_below_plans_of_long_ones(family: str) -> None:
    """300 devices, merged table and lists at work: bounds against the best plan of a finer run."""
    derived = derive(generate(family, 300, 3))
    formulation = get_formulation("native")
    found = []
    for rel_gap in (1e-2, 1e-3, 1e-4):
        options = Options(time_limit=2.0, rel_gap=rel_gap)
        found.append(SOLVER.run(Task(derived, formulation, None, None, options, Deadline(2.0))))
    best = min(one.claimed_s for one in found if one.claimed_s is not None)
    for one in found:
        assert one.bound_s is not None
        assert 0.9 * best < one.bound_s <= best * (1.0 + 1e-9)


def test_equal_devices_are_mixed() -> None:
    """1,000 equal devices: the best plan parts them between two cuts; one cut is 2e-4 worse."""
    derived = derive(generate("equal-devices", 1_000, 0))
    primal = Primal(derived)
    primal.start()
    primal.improve(lambda: False, rounds=10)
    before = primal.value_s
    assert primal.best is not None
    assert len(np.unique(primal.best.cuts)) == 1
    assert primal.mix(lambda: False, enough=1e-5)
    assert len(np.unique(primal.best.cuts)) == 2
    assert primal.value_s < before * (1.0 - 2e-4)


def test_thirty_equal_devices_close() -> None:
    """Prices move equal devices all at once: without mixes the plan stays 5e-4 above the bound."""
    derived = derive(cell("equal-devices", 30, 0, DEEP_BLOCKS))
    options = Options(time_limit=60.0, rel_gap=1e-4)
    formulation = get_formulation("native")
    found = SOLVER.run(Task(derived, formulation, None, None, options, Deadline(60.0)))
    assert found.termination is Termination.GAP_LIMIT


def test_open_nodes_seek_anew_what_can_win_when_costs_change() -> None:
    """Under total power a better plan changes the adapters' prices, which lists of cuts rely on."""
    derived = derive(generate("weichen", 60, 0))
    options = Options(time_limit=60.0, rel_gap=1e-4)
    task = Task(derived, get_formulation("native"), None, None, options, Deadline(60.0))
    state = Search(task, most_nodes=150)
    state.run()
    listed = [node for _, _, node in state.heap if node.alive is not state.bounding.roots[0].alive]
    assert listed
    before = state.bounding.cells[0].cost
    assert state.winner is not None
    assert state.winner.best is not None
    state.winner.best.cuts[:] = derived.cut_low
    state._charge_adapters(state.winner)
    assert np.any(state.bounding.cells[0].cost != before)
    assert all(node.alive is state.bounding.roots[0].alive for node in listed)


def test_the_bound_counts_the_node_that_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan found in a node is reported with a bound that holds for that node too."""
    looked: list[tuple[float, float]] = []
    decode = Search._decode

    def watched(self: Search, node: Node) -> None:
        looked.append((self.bound(), node.bound))
        decode(self, node)

    monkeypatch.setattr(Search, "_decode", watched)
    derived = derive(generate("jetson-vit-b", 5, 0))
    options = Options(time_limit=60.0, rel_gap=1e-4)
    SOLVER.run(Task(derived, get_formulation("native"), None, None, options, Deadline(60.0)))
    assert len(looked) > 10
    assert all(said <= own for said, own in looked)


def test_a_measured_cell_closes() -> None:
    """Ten devices, 55 options from a calibration: where boxes are narrow devices must be parted,
    also where a merged table would still serve the bound."""
    measured = load_calibration("digit-scenes")
    cell_of_it = calibrated(generate("jetson-vit-b", 10, 0), measured, speeds=Speeds.MEASURED)
    derived = derive(cell_of_it.instance)
    assert len(derived.options) > 40
    options = Options(time_limit=60.0, rel_gap=1e-4)
    formulation = get_formulation("native")
    found = SOLVER.run(Task(derived, formulation, None, None, options, Deadline(60.0)))
    assert found.termination is Termination.GAP_LIMIT


def test_parts_seek_anew_what_can_win_where_items_are_gone() -> None:
    """Statement 13: cuts are dead against an item; parts that lose it must look at them again."""
    derived = derive(sample_instance(60, 0, server_order="parallel"))
    options = Options(time_limit=60.0, rel_gap=1e-4)
    task = Task(derived, get_formulation("native"), None, None, options, Deadline(60.0))
    state = Search(task, most_nodes=1)
    state.run()
    bounding, levels = state.bounding, (state.levels[0].first, len(state.levels[0].values) - 1)
    region = bounding.roots[0].region
    node = replace(state.heap[0][2], region=region, levels=levels, alive=bounding.roots[0].alive)
    data, guide = bounding.cells[0], state._guide(node)
    assert guide is not None
    up, down = guide.tau_up, guide.tau_down
    node.box = Box(up * 0.999, up * 1.001, down * 0.999, down * 1.001, node.box.server)
    every, m = bounding.roots[0].alive, bounding.bounded(node, data, np.inf, guide).multipliers
    free = np.ones(4, dtype=np.bool_)
    room = LivePlaces(
        np.zeros(61, dtype=np.int64), np.empty(len(every.items.places), dtype=np.int32)
    )
    box_bounds(
        data, node.region, every.items, node.box, m, empty_bounds(), no_record(), 0,
        Listing(room, 1.05),
    )  # fmt: skip
    node.alive = every.narrowed(room, m, 1.05, m, free)
    assert 60 <= len(node.alive.items.places) < 0.5 * len(every.items.places)
    n = int(np.argmin(np.diff(node.alive.items.first)))
    own = int(node.alive.items.places[node.alive.items.first[n]])
    high, low = node.region.cut_high.copy(), node.region.cut_low.copy()
    high[n], low[n, 0] = own, own + 1
    regions = [node.region._replace(cut_high=high), node.region._replace(cut_low=low)]
    parts = [in_region(node, part, every.items) for part in regions]
    truths = [bounding.bound_at(data, part.region, every, part.box, m) for part in parts]
    bounds = [bounding.bound_at(data, part.region, part.alive, part.box, m) for part in parts]
    assert np.any(np.isfinite(truths))
    assert bounds == pytest.approx(truths, rel=1e-9)


def test_a_rate_that_saturates_leaves_no_gap() -> None:
    """Three devices, law ``total``: the least times are near a device's own, where no share of the
    band is enough; 8 % were left open for ever."""
    derived = derive(random_cell(3))
    task = Task(
        derived, get_formulation("native"), None, None, Options(rel_gap=1e-4), Deadline(600.0)
    )
    found = Search(task, most_nodes=1000).run()
    assert found.termination is Termination.GAP_LIMIT
    assert found.claimed_s is not None
    assert found.claimed_s < 122.5  # the plan that stood beside the gap took 122.7 s
