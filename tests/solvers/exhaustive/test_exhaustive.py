"""The exhaustive solver against dense grids, closed forms, chance points and the judge."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived, derive
from sftopt.core.instance import AccuracyScope, Instance, ModeKind, PowerLaw, ServerOrder
from sftopt.core.plan import DevicePlan, Plan
from sftopt.core.settle import settled_keep
from sftopt.core.spectrum import least_time
from sftopt.core.status import Termination
from sftopt.core.verify import verify_plan
from sftopt.formulations.native import FORMULATION
from sftopt.solvers.base import Deadline, Outcome, Progress, Task
from sftopt.solvers.exhaustive import COMBINATION_LIMIT, SOLVER
from sftopt.solvers.options import Options
from tests.samples import VARIANTS, sample_instance

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

GAP = 1e-7


def settle(
    instance: Instance,
    *,
    seconds: float | None = None,
    report: Callable[[Progress], None] = lambda news: None,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    derived = derive(instance)
    assert SOLVER.refusal(derived) is None
    return SOLVER.run(
        Task(
            derived=derived,
            formulation=FORMULATION,
            model=None,
            start=None,
            options=Options(time_limit=seconds),
            deadline=Deadline(seconds),
            report=report,
            stop_requested=stop,
        )
    )


def round_s(derived: Derived, cuts: Any, options: Any, keep: Any) -> float:
    """Equation (9) from the derived arrays, shares by core's root search."""
    cuts, keep = np.asarray(cuts, dtype=np.int64), np.asarray(keep, dtype=float)
    chosen = [derived.options[int(o)] for o in options]
    up = [float(derived.beta_up(o, k)) for o, k in zip(chosen, keep, strict=True)]
    down = [float(derived.beta_down(o, k)) for o, k in zip(chosen, keep, strict=True)]
    tau_u, _ = least_time(
        derived.s1_base_s + cuts * derived.s1_block_s,
        derived.elements * np.array(up),
        derived.uplink_law,
    )
    tau_d, _ = least_time(
        derived.s5_base_s + cuts * derived.s5_block_s,
        derived.elements * np.array(down),
        derived.downlink_law,
    )
    tau_a, _ = least_time(
        np.zeros(len(cuts)), cuts * derived.adapter_bits_per_block, derived.uplink_law
    )
    server = derived.s3_base_s - cuts * derived.s3_block_s
    serving = server.sum() if derived.server_order is ServerOrder.IN_TURN else server.max()
    step = tau_u + float(serving) + tau_d
    return derived.steps * step + tau_a + derived.adapter_down_s(cuts)


def loss(derived: Derived, option: int, cut: int, keep: float) -> float:
    return float(derived.loss(derived.options[option], np.asarray(keep), np.asarray(cut)))


def least_keep(derived: Derived, option: int, cut: int, limit: float) -> float | None:
    """The smallest keep fraction whose loss is within ``limit``, by a scan and a root search."""
    part = derived.options[option]
    scan = np.linspace(part.keep_low, part.keep_high, 401)
    losses = derived.loss(part, scan, np.full(scan.shape, cut))
    inside = np.flatnonzero(losses <= limit + 1e-15)
    if not len(inside):
        return None
    first = int(inside[0])
    if first == 0:
        return float(scan[0])

    def excess(keep: float) -> float:
        return loss(derived, option, cut, keep) - limit

    if excess(float(scan[first])) >= 0.0:
        return float(scan[first])
    return float(brentq(excess, scan[first - 1], scan[first], xtol=1e-15, rtol=1e-14))


def memory_fits(derived: Derived, cuts: tuple[int, ...]) -> bool:
    if derived.server_order is ServerOrder.IN_TURN:
        return True
    used = (derived.server_activation_bytes * (derived.blocks - np.array(cuts))).sum()
    return bool(used <= derived.server_activation_budget_bytes)


def cut_products(derived: Derived) -> list[tuple[int, ...]]:
    ranges = [
        range(int(low), int(high) + 1)
        for low, high in zip(derived.cut_low, derived.cut_high, strict=True)
    ]
    return [cuts for cuts in itertools.product(*ranges) if memory_fits(derived, cuts)]


def grid_optimum(instance: Instance, points: int = 25, levels: int = 4) -> float:
    """The best value over nested grids of the keep fractions, all cuts and options tried.

    The last device's keep fraction is the least that the limits leave. Never below the optimum.
    """
    derived = derive(instance)
    devices, best = derived.devices, math.inf
    for cuts in cut_products(derived):
        for options in itertools.product(range(len(derived.options)), repeat=devices):
            best = min(best, _grid(derived, cuts, options, points, levels))
    return best


def _grid(
    derived: Derived, cuts: tuple[int, ...], options: tuple[int, ...], points: int, levels: int
) -> float:
    last = derived.devices - 1
    common = derived.scope is AccuracyScope.COMMON
    if common and len(set(options)) > 1:
        return math.inf

    def value(head: tuple[float, ...]) -> float:
        spent = 0.0
        for n, keep in enumerate(head):
            here = loss(derived, options[n], cuts[n], keep)
            if here > derived.loss_budget_each + 1e-15:
                return math.inf
            spent += derived.weight[n] * here
        limit = derived.loss_budget_each
        if derived.scope is AccuracyScope.MEAN:
            limit = min(limit, (derived.loss_budget - spent) / derived.weight[last])
        tail = least_keep(derived, options[last], cuts[last], limit)
        if tail is None:
            return math.inf
        return round_s(derived, cuts, options, (*head, tail))

    if derived.scope is not AccuracyScope.MEAN:
        keeps = [
            least_keep(derived, o, c, derived.loss_budget_each)
            for o, c in zip(options, cuts, strict=True)
        ]
        if any(keep is None for keep in keeps):
            return math.inf
        level = [float(keep) for keep in keeps if keep is not None]
        return round_s(derived, cuts, options, [max(level)] * len(level) if common else level)
    lows = [derived.options[o].keep_low for o in options[:last]]
    highs = [derived.options[o].keep_high for o in options[:last]]
    best = math.inf
    for _ in range(levels):
        axes = [
            np.linspace(low, high, points if high > low else 1)
            for low, high in zip(lows, highs, strict=True)
        ]
        values = {head: value(head) for head in itertools.product(*axes)}
        head = min(values, key=lambda point: values[point])
        if not math.isfinite(values[head]):
            return best
        best = min(best, values[head])
        for n, axis in enumerate(axes):
            width = float(axis[1] - axis[0]) if len(axis) > 1 else 0.0
            lows[n] = max(lows[n], head[n] - 1.5 * width)
            highs[n] = min(highs[n], head[n] + 1.5 * width)
    return best


def plan_of(instance: Instance, candidate: Candidate) -> Plan:
    """A full plan: shares by core's root searches, keep fractions out of the judge's rounding."""
    derived = derive(instance)
    cuts, choices = candidate.cuts.astype(np.int64), candidate.choices()
    keep = settled_keep(derived, cuts, choices.astype(np.int64), candidate.keep)
    chosen = [derived.options[int(o)] for o in choices]
    up = np.array([float(derived.beta_up(o, k)) for o, k in zip(chosen, keep, strict=True)])
    down = np.array([float(derived.beta_down(o, k)) for o, k in zip(chosen, keep, strict=True)])
    s1 = derived.s1_base_s + cuts * derived.s1_block_s
    s5 = derived.s5_base_s + cuts * derived.s5_block_s
    _, x = least_time(s1, derived.elements * up, derived.uplink_law)
    _, y = least_time(s5, derived.elements * down, derived.downlink_law)
    _, z = least_time(0.0 * s1, cuts * derived.adapter_bits_per_block, derived.uplink_law)
    total = derived.power is PowerLaw.TOTAL
    return Plan(
        instance_hash=derived.instance_hash,
        devices=tuple(
            DevicePlan(
                id=derived.ids[n],
                blocks=int(cuts[n]),
                mode=chosen[n].kind,
                bits=chosen[n].bits,
                keep_fraction=float(keep[n]),
                uplink_share=float(x[n]),
                downlink_share=float(y[n]),
                adapter_uplink_share=float(z[n]) if total else None,
            )
            for n in range(derived.devices)
        ),
    )


def assert_proved(instance: Instance, outcome: Outcome) -> float:
    """Converged, bound within 1e-7 below the value, and the judge agrees; returns the value."""
    assert outcome.termination is Termination.CONVERGED_GLOBAL, outcome.message
    assert outcome.candidate is not None
    assert outcome.claimed_s is not None
    assert outcome.bound_s is not None
    assert outcome.bound_s <= outcome.claimed_s
    assert outcome.claimed_s - outcome.bound_s <= GAP * outcome.claimed_s
    found = verify_plan(instance, plan_of(instance, outcome.candidate))
    assert found.feasible, found.violations
    assert found.objective_s == pytest.approx(outcome.claimed_s, rel=1e-11)
    return outcome.claimed_s


def tiny(devices: int, seed: int, **fields: Any) -> Instance:
    """Two cuts per device and two modes: small enough for grids."""
    return sample_instance(devices, seed, **{"blocks": 3, "modes": (2, 4), **fields})


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both sets of fields; where both override a section, its fields are put together."""
    both = {**first, **second}
    for name in set(first) & set(second):
        if isinstance(first[name], dict):
            both[name] = {**first[name], **second[name]}
    return both


OUTSIDE = {
    "accuracy": {
        "keep_loss": 0.3,
        "keep_decay": 5.0,
        "minimum": 0.8,
        "minimum_each": 0.5,
        "quantisation_loss": 0.1,
    },
    "compression": {"keep_min": 0.02},
}
"""Keep fractions from 0.02 up to the domain's end: (16) fails on both sides of its interval."""


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_agrees_with_a_dense_grid(name: str) -> None:
    fields = dict(VARIANTS[name])
    if name == "cut factor":
        fields["accuracy"] = {"cut_factor": (0.6, 0.9, 1.3)}
    instance = tiny(2, 3, **fields)
    value = assert_proved(instance, settle(instance))
    grid = grid_optimum(instance, points=13)
    assert value <= grid * (1.0 + GAP)
    assert value >= grid * (1.0 - 2e-4)  # the grid's own error


def test_common_compression_suits_the_device_that_needs_most() -> None:
    factors = (1.0, 0.5, 2.0)
    instance = tiny(2, 3, accuracy={"scope": "common", "cut_factor": factors})
    outcome = settle(instance)
    value = assert_proved(instance, outcome)
    assert outcome.candidate is not None
    assert outcome.candidate.keep[0] == outcome.candidate.keep[1]
    assert value == pytest.approx(grid_optimum(instance), rel=1e-9)


@pytest.mark.parametrize("power", ["psd", "total"])
@pytest.mark.parametrize("variant", [{}, OUTSIDE], ids=["inside (16)", "outside (16)"])
def test_three_devices_agree_with_a_dense_grid(power: str, variant: dict[str, Any]) -> None:
    fields = merged(variant, {"radio": {"power": power}, "blocks": 2, "modes": (3,)})
    instance = tiny(3, 11, **fields)
    value = assert_proved(instance, settle(instance))
    grid = grid_optimum(instance, points=9, levels=5)
    assert value <= grid * (1.0 + GAP)
    assert value >= grid * (1.0 - 1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_outside_the_convex_interval_intervals_are_split(seed: int) -> None:
    decay, minimum = [(5.0, 0.8), (5.0, 0.7), (8.0, 0.85)][seed % 3]
    fields = merged(OUTSIDE, {"accuracy": {"keep_decay": decay, "minimum": minimum}})
    fields["radio"] = {"downlink": ["kept", "dense"][seed % 2]}
    instance = tiny(2, seed, **fields)
    value = assert_proved(instance, settle(instance))
    grid = grid_optimum(instance, points=33, levels=5)
    assert value <= grid * (1.0 + GAP)
    assert value >= grid * (1.0 - 1e-4)


@pytest.mark.parametrize("power", ["psd", "total"])
def test_inside_the_convex_interval_no_interval_is_split(power: str) -> None:
    """The inner method itself closes every gap; splitting would hide its weakness."""
    for seed in range(6):
        instance = sample_instance(4, seed, blocks=4, modes=(2, 4), radio={"power": power})
        outcome = settle(instance)
        assert_proved(instance, outcome)
        assert "split" not in outcome.message


def test_splitting_really_happens_outside_the_convex_interval() -> None:
    outcomes = [settle(tiny(2, seed, **OUTSIDE)) for seed in range(8)]
    assert any("split" in outcome.message for outcome in outcomes)


@pytest.mark.parametrize("power", ["psd", "total"])
def test_one_device_has_a_closed_form(power: str) -> None:
    instance = sample_instance(
        1, 5, blocks=5, modes=(2, 4, 8), radio={"power": power}, server={"memory_bytes": 1e12}
    )
    derived = derive(instance)
    values = []
    for cut in range(int(derived.cut_low[0]), int(derived.cut_high[0]) + 1):
        for number, option in enumerate(derived.options):
            keep = least_keep(derived, number, cut, derived.loss_budget)
            if keep is None:
                continue
            up = float(derived.beta_up(option, keep)) / derived.uplink_full_bits_per_s[0]
            down = float(derived.beta_down(option, keep)) / derived.downlink_full_bits_per_s[0]
            step = (
                derived.s1_base_s + cut * derived.s1_block_s + derived.elements * (up + down)
                + derived.s3_base_s - cut * derived.s3_block_s
                + derived.s5_base_s + cut * derived.s5_block_s
            )[0]  # fmt: skip
            rates = 1 / derived.uplink_full_bits_per_s + 1 / derived.downlink_full_bits_per_s
            adapters = cut * derived.adapter_bits_per_block * rates[0]
            values.append(derived.steps * step + adapters)
    value = assert_proved(instance, settle(instance))
    assert value == pytest.approx(min(values), rel=GAP)


@pytest.mark.parametrize("name", [*sorted(VARIANTS), "outside (16)"])
def test_no_feasible_point_found_by_chance_beats_the_bound(name: str) -> None:
    fields = OUTSIDE if name == "outside (16)" else dict(VARIANTS[name])
    if name != "cut factor":
        fields = {"blocks": 5, **fields}
    instance = sample_instance(3, 8, **fields)
    derived = derive(instance)
    if SOLVER.refusal(derived) is not None:
        fields["modes"] = (2, 4)
        instance = sample_instance(3, 8, **fields)
        derived = derive(instance)
    outcome = settle(instance)
    value = assert_proved(instance, outcome)
    draw = np.random.default_rng(2)
    products = cut_products(derived)
    assert outcome.candidate is not None
    seen, near = 0, outcome.candidate
    for trial in range(300):
        if trial % 2:  # close to the optimum, where a wrong bound would show
            cuts, options = near.cuts.astype(int), near.choices()
            keep = near.keep * np.exp(draw.normal(0.0, 0.02, derived.devices))
        else:
            cuts = np.array(products[int(draw.integers(len(products)))])
            options = draw.integers(len(derived.options), size=derived.devices)
            if derived.scope is AccuracyScope.COMMON:
                options[:] = options[0]
            keep = np.full(derived.devices, draw.uniform())
            lows = [derived.options[o].keep_low for o in options]
            keep = lows + draw.uniform(size=derived.devices) * (1.0 - np.array(lows))
        chosen = [derived.options[int(o)] for o in options]
        keep = np.clip(keep, [o.keep_low for o in chosen], [o.keep_high for o in chosen])
        if derived.scope is AccuracyScope.COMMON:
            keep[:] = keep.max()
            keep = np.clip(keep, chosen[0].keep_low, chosen[0].keep_high)
        losses = np.array(
            [loss(derived, int(o), int(c), k) for o, c, k in zip(options, cuts, keep, strict=True)]
        )
        if losses.max() > derived.loss_budget_each:
            continue
        if (derived.scope is AccuracyScope.MEAN
                and derived.weight @ losses > derived.loss_budget):  # fmt: skip
            continue
        seen += 1
        assert round_s(derived, cuts, options, keep) >= value * (1.0 - GAP)
    assert seen >= 10


def test_the_order_of_devices_does_not_matter() -> None:
    instance = sample_instance(3, 4, blocks=6, modes=(2, 4))
    turned = instance.model_copy(update={"devices": instance.devices[::-1]})
    first, second = settle(instance), settle(turned)
    assert assert_proved(turned, second) == pytest.approx(assert_proved(instance, first), rel=GAP)


@pytest.mark.parametrize("fields", [{}, OUTSIDE], ids=["inside (16)", "outside (16)"])
def test_a_tighter_accuracy_limit_never_lowers_the_value(fields: dict[str, Any]) -> None:
    values = []
    start = 0.75 if fields else 0.885
    for step in range(6):
        minimum = start + step * (0.02 if fields else 0.005)
        accuracy = merged(fields, {"accuracy": {"minimum": minimum, "minimum_each": 0.5}})
        instance = tiny(3, 6, **accuracy)
        values.append(assert_proved(instance, settle(instance)))
    for easier, harder in itertools.pairwise(values):
        assert harder >= easier * (1.0 - GAP)
    assert values[-1] > values[0] * 1.01


def test_a_limit_that_only_the_largest_keep_fractions_meet() -> None:
    accuracy = {"quantisation_loss": 0.0, "minimum_each": 0.5}
    base = tiny(3, 2, modes=(2,), accuracy=accuracy, compression={"keep_max": 0.3})
    best = 0.92 - 0.25 * math.exp(-22.0 * 0.3)
    for give in (0.0, 1e-15, 1e-12, 1e-8):
        limit = base.accuracy.model_copy(update={"minimum": best - give})
        instance = base.model_copy(update={"accuracy": limit})
        outcome = settle(instance)
        assert_proved(instance, outcome)
        assert outcome.candidate is not None
        assert outcome.candidate.keep == pytest.approx(0.3, abs=1e-3)
    too_much = base.accuracy.model_copy(update={"minimum": best + 1e-8})
    outcome = settle(base.model_copy(update={"accuracy": too_much}))
    assert outcome.termination is Termination.INFEASIBLE_PROVEN
    assert outcome.candidate is None


def test_uncompressed_accuracy_is_reached_by_mode_none_alone() -> None:
    modes = (2, {"kind": "dense", "bits": 8}, {"kind": "none", "bits": 32})
    instance = tiny(2, 1, modes=modes, accuracy={"minimum": 0.92})
    outcome = settle(instance)
    assert_proved(instance, outcome)
    derived = derive(instance)
    assert outcome.candidate is not None
    kinds = {derived.options[int(o)].kind for o in outcome.candidate.choices()}
    assert kinds == {ModeKind.NONE}


def test_a_parallel_server_rules_out_cuts_that_fill_its_memory() -> None:
    free = tiny(3, 1, server_order="parallel", blocks=5, server={"compute_flops_per_s": 1e14})
    floor = settle(free)
    assert floor.candidate is not None
    work = free.workload
    rest = work.blocks * (work.block_weight_bytes + work.block_adapter_bytes)
    rest += work.server_base_bytes
    rest += sum(d.batch for d in free.devices) * work.sample_base_bytes
    saved = sum(
        d.batch * (work.blocks - c) * work.block_activation_bytes
        for d, c in zip(free.devices, floor.candidate.cuts, strict=True)
    )
    tight = free.server.model_copy(update={"memory_bytes": rest + 0.8 * saved})
    instance = free.model_copy(update={"server": tight})
    value = assert_proved(instance, settle(instance))
    assert floor.claimed_s is not None
    assert value > floor.claimed_s
    none = free.server.model_copy(update={"memory_bytes": rest})
    outcome = settle(free.model_copy(update={"server": none}))
    assert outcome.termination is Termination.INFEASIBLE_PROVEN


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"memory_bytes": 1.0}, "memory"),
        ({"uplink_gain": 0.0}, "outage"),
    ],
)
def test_a_hopeless_device_is_named(change: dict[str, float], word: str) -> None:
    instance = tiny(2, 1)
    broken = instance.devices[1].model_copy(update=change)
    outcome = settle(instance.model_copy(update={"devices": (instance.devices[0], broken)}))
    assert outcome.termination is Termination.INFEASIBLE_PROVEN
    assert word in outcome.message
    assert "dev1" in outcome.message
    assert outcome.bound_s is None


def test_too_many_combinations_are_refused_with_the_count() -> None:
    derived = derive(sample_instance(8, 1, blocks=12, modes=(2, 4, 8)))
    text = SOLVER.refusal(derived)
    assert text is not None
    assert f"{COMBINATION_LIMIT:,}" in text
    assert "another solver" in text
    assert SOLVER.refusal(derive(sample_instance(2, 1))) is None


def test_a_crowd_is_refused_without_writing_out_its_count_of_thousands_of_digits() -> None:
    text = SOLVER.refusal(derive(sample_instance(6000, 1, server={"memory_bytes": 1e13})))
    assert text is not None
    assert len(text) < 400


@pytest.mark.parametrize("power", ["psd", "total"])
def test_a_deadline_of_zero_gives_nothing_and_claims_nothing(power: str) -> None:
    outcome = settle(sample_instance(3, 1, radio={"power": power}), seconds=0.0)
    assert outcome.termination is Termination.TIME_LIMIT
    assert outcome.candidate is None
    assert outcome.claimed_s is None
    assert outcome.bound_s is None


def test_stopping_at_any_time_leaves_a_valid_bound_and_incumbent() -> None:
    instance = tiny(3, 2, **merged(OUTSIDE, {"blocks": 4}))
    whole = settle(instance)
    value = assert_proved(instance, whole)
    bounds = []
    for limit in (1, 2, 3, 5, 8, 12, 20, 40, 80):
        calls = itertools.count()
        outcome = settle(instance, stop=lambda calls=calls, limit=limit: next(calls) >= limit)
        assert outcome.termination in (Termination.INTERRUPTED, Termination.CONVERGED_GLOBAL)
        if outcome.bound_s is not None:
            assert outcome.bound_s <= value * (1.0 + 1e-12)
            bounds.append(outcome.bound_s)
        if outcome.candidate is not None:
            found = verify_plan(instance, plan_of(instance, outcome.candidate))
            assert found.feasible
            assert found.objective_s == pytest.approx(outcome.claimed_s, rel=1e-11)
            assert found.objective_s >= value * (1.0 - GAP)
    assert bounds


def test_progress_tells_incumbents_that_fall_and_bounds_that_hold() -> None:
    news: list[Progress] = []
    instance = sample_instance(3, 7, blocks=6, modes=(2, 3, 4))
    value = assert_proved(instance, settle(instance, report=news.append))
    incumbents = [n.incumbent_s for n in news if n.incumbent_s is not None]
    assert incumbents
    assert incumbents == sorted(incumbents, reverse=True)
    assert incumbents[-1] == value
    assert all(n.candidate is not None for n in news if n.incumbent_s is not None)
    assert all(n.bound_s <= value for n in news if n.bound_s is not None)


def test_the_message_accounts_for_every_combination() -> None:
    instance = sample_instance(2, 3, blocks=6, modes=(2, 4, 8), accuracy={"minimum": 0.915})
    outcome = settle(instance)
    derived = derive(instance)
    spans = derived.cut_high - derived.cut_low + 1
    total = int(np.prod(spans)) * len(derived.options) ** 2
    assert outcome.message.startswith(f"{total:,} combinations of cuts and options")


def test_the_probe_passes() -> None:
    assert SOLVER.available()
