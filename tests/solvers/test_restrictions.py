"""Models handed out hold the optimum of every restriction of cuts, modes and keep fractions."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

import sftopt
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.result import Result
from sftopt.core.status import Termination
from tests.samples import sample_instance

CELLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "total power": {"radio": {"power": "total"}},
    "parallel server": {"server_order": "parallel"},
    "each": {"accuracy": {"scope": "each"}},
}
"""Variants whose bounds come about in different ways."""


def cell(variant: str, seed: int) -> Instance:
    """Two devices, five blocks, three modes."""
    return sample_instance(2, seed, blocks=5, **CELLS[variant])


def restricted(instance: Instance, cuts: tuple[int, int], bits: set[int], keep: Any) -> Instance:
    """The cell with the restriction in its own fields: the first device's cut from, to."""
    low, high = keep
    first = instance.devices[0].model_copy(update={"blocks_min": cuts[0], "blocks_max": cuts[1]})
    modes = tuple(mode for mode in instance.compression.modes if mode.bits in bits)
    compression = instance.compression.model_copy(
        update={"modes": modes, "keep_min": low, "keep_max": high}
    )
    devices = (first, *instance.devices[1:])
    data = instance.model_copy(update={"devices": devices, "compression": compression})
    return Instance.model_validate(data.model_dump())


def restrict(model: Any, cuts: tuple[int, int], bits: set[int], keep: Any) -> None:
    """The same as constraints of a model that was handed out."""
    blocks = model.var_blocks["dev0"]
    if cuts[0] == cuts[1]:
        blocks.fix(cuts[0])
    model.my_cuts = pyo.Constraint(expr=pyo.inequality(cuts[0], blocks, cuts[1]))
    for chooser, label in model.var_mode:
        if int(label.removeprefix("topk")) not in bits:
            model.var_mode[chooser, label].fix(0)
    model.my_keep = pyo.Constraint(
        list(model.var_keep),
        rule=lambda m, c: pyo.inequality(keep[0], m.var_keep[c], keep[1]),
    )


def drawn(instance: Instance, seed: int) -> tuple[tuple[int, int], set[int], tuple[float, float]]:
    """A random restriction: cuts of one device, two modes or one, keep fractions from, to."""
    draw = np.random.default_rng(seed)
    low = int(draw.integers(1, 5))
    cuts = (low, int(draw.choice([low, 4])))
    bits = {int(b) for b in draw.choice([2, 4, 8], size=int(draw.integers(1, 3)), replace=False)}
    keep_low = float(draw.choice([instance.keep_min, 0.3, 0.45, 0.8]))
    return cuts, bits, (keep_low, float(draw.choice([keep_low + 0.03, 0.9])))


def same(found: Result, truth: Result) -> None:
    """Both have no plan, or plans of the same delay."""
    if truth.objective_s is None:
        assert truth.termination is Termination.INFEASIBLE_PROVEN
        assert found.objective_s is None
        assert found.termination is Termination.INFEASIBLE_PROVEN
    else:
        assert found.objective_s == pytest.approx(truth.objective_s, rel=3e-4), found.message


@pytest.mark.parametrize("form", ["joint-product", "joint-ratio"])
def test_a_high_keep_fraction_is_no_longer_cut_off(form: str) -> None:
    """The start needs 61 s: with its bounds SCIP called this infeasible."""
    instance = sftopt.load("tight-memory")
    model = sftopt.build(instance, form)
    model.my_keep = pyo.Constraint(list(model.var_keep), rule=lambda m, c: m.var_keep[c] >= 0.6)
    found = sftopt.solve(model=model, instance=instance, solver="scip")
    assert found.objective_s == pytest.approx(69.913, abs=1e-3), found.message


@pytest.mark.parametrize("variant", CELLS)
@pytest.mark.parametrize("seed", range(4))
def test_random_restrictions_agree_with_the_cell_restricted_so(variant: str, seed: int) -> None:
    instance = cell(variant, seed)
    restriction = drawn(instance, 10 * seed + list(CELLS).index(variant))
    truth = sftopt.solve(restricted(instance, *restriction), solver="exhaustive")
    form = ("joint-product", "joint-ratio")[seed % 2]
    model = sftopt.build(instance, form)
    restrict(model, *restriction)
    same(sftopt.solve(model=model, instance=instance, solver="scip", rel_gap=1e-5), truth)


def test_bonmin_finds_the_slow_plan_too() -> None:
    instance = cell("plain", 1)
    restriction = ((4, 4), {8}, (0.45, 0.7))
    truth = sftopt.solve(restricted(instance, *restriction), solver="exhaustive")
    free = sftopt.solve(instance, solver="exhaustive")
    assert truth.objective_s is not None
    assert free.objective_s is not None
    assert truth.objective_s > 1.5 * free.objective_s  # the bounds of any good start are left
    model = sftopt.build(instance)
    restrict(model, *restriction)
    found = sftopt.solve(model=model, instance=instance, solver="bonmin")
    assert found.objective_s == pytest.approx(truth.objective_s, rel=3e-4), found.message


@pytest.mark.parametrize("form", ["joint-grid-conic", "joint-grid-milp"])
@pytest.mark.parametrize("law", ["psd", "total"])
def test_cone_and_grid_models_hold_the_dearest_items(form: str, law: str) -> None:
    """Every device takes the item of the most bits, and every cut is the greatest."""
    cp = import_module("cvxpy")
    instance = sample_instance(2, 1, blocks=5, radio={"power": law})
    problem = sftopt.build(instance, form)
    grid = problem.grid.frame
    dearest = int(np.argmax(grid.items.root_up[0]))
    chosen, blocks = grid.variables["var_item"], grid.variables["var_blocks"]
    limits = [chosen[:, dearest] == 1, blocks == grid.derived.cut_high]
    edited = cp.Problem(problem.objective, [*problem.constraints, *limits])
    found = sftopt.solve(model=edited, instance=instance)
    assert found.plan is not None, found.message
    assert [part.blocks for part in found.plan.devices] == grid.derived.cut_high.tolist()


@pytest.mark.parametrize("form", ["spectrum-nlp", "spectrum-conic"])
@pytest.mark.parametrize("law", ["psd", "total"])
def test_shares_of_a_round_can_be_limited_far_below_the_best(form: str, law: str) -> None:
    """Of (14) shares are all there is to restrict: at a tenth of its share a device holds up."""
    cp = import_module("cvxpy")
    instance = sample_instance(2, 1, radio={"power": law})
    free = sftopt.solve(instance, formulation=form)
    model = sftopt.build(instance, form)
    if form == "spectrum-nlp":
        model.my_share = pyo.Constraint(expr=model.var_uplink_share["dev0"] <= 0.1)
        found = sftopt.solve(model=model, instance=instance, solver="ipopt")
    else:
        share = next(v for v in model.variables() if v.name() == "var_uplink_share")
        edited = cp.Problem(model.objective, [*model.constraints, share[0] <= 0.1])
        found = sftopt.solve(model=edited, instance=instance, solver="clarabel")
    assert found.objective_s is not None, found.message
    assert free.objective_s is not None
    assert found.objective_s > 1.3 * free.objective_s
    assert found.plan is not None
    assert free.plan is not None
    assert found.plan.devices[0].uplink_share < 0.2 * free.plan.devices[0].uplink_share


def test_an_upper_bound_cuts_on_request_and_says_so_where_it_cannot() -> None:
    instance = cell("plain", 1)
    best_s = sftopt.solve(instance, solver="exhaustive").objective_s
    wide, tight = sftopt.build(instance), sftopt.build(instance, upper_bound_s=best_s)
    assert tight.var_tau_up.ub < 0.5 * wide.var_tau_up.ub
    assert tight.objective_unit_s == wide.objective_unit_s
    with pytest.raises(InputError, match=r"upper_bound_s: 0\.1 s is less than every plan needs"):
        sftopt.build(instance, upper_bound_s=0.1)
    with pytest.raises(InputError, match="upper_bound_s: nan is no delay"):
        sftopt.build(instance, upper_bound_s=float("nan"))
