"""What a user of the joint formulations relies on: starts, relaxations, refusals, scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from sftopt.core.candidate import Candidate
from sftopt.core.derived import derive
from sftopt.core.errors import InfeasibleError
from sftopt.core.point import best_delay
from sftopt.core.spectrum import ConcaveRate
from sftopt.core.status import Promise
from sftopt.formulations.algebraic.rates import differences_of_logs, logs_of_ratios, sort_terms
from sftopt.formulations.base import ProblemClass, Start
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.heuristics.constructive import first_point
from tests.formulations.points import over, residuals
from tests.samples import VARIANTS, sample_instance

FORMS = ("joint-product", "joint-ratio", "joint-reduced", "joint-relaxed")


def start_for(instance: Any) -> tuple[Any, Start]:
    """(derived, the start that every run begins with)."""
    derived = derive(instance)
    point = first_point(derived)
    assert point is not None
    delay = best_delay(derived, point)
    return derived, Start(point.candidate(derived), delay.round_s)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_models_begin_feasible_at_their_start(form: str, variant: str) -> None:
    derived, start = start_for(sample_instance(4, 3, **VARIANTS[variant]))
    model = get_formulation(form).build(derived, start)
    assert over(residuals(model)) == {}
    assert pyo.value(model.obj_round_delay) == pytest.approx(1.0, rel=1e-9)
    assert model.objective_unit_s == start.objective_s


@pytest.mark.parametrize("form", FORMS)
def test_promise_class_and_integers(form: str) -> None:
    formulation = get_formulation(form)
    relaxed = form == "joint-relaxed"
    assert formulation.promise is (Promise.RELAXATION if relaxed else Promise.EXACT)
    assert formulation.problem_class is (ProblemClass.NLP if relaxed else ProblemClass.MINLP)
    assert formulation.layer == "pyomo"
    derived = derive(sample_instance(2, **VARIANTS["cut factor"]))
    model = formulation.build(derived, None)
    whole = {v.parent_component().name for v in model.component_data_objects(pyo.Var)
             if not v.is_continuous()}  # fmt: skip
    cuts = "var_cut" if form == "joint-ratio" else "var_held"
    assert whole == (set() if relaxed else {"var_blocks", "var_mode", cuts})


def test_a_single_option_needs_no_binaries() -> None:
    model = get_formulation("joint-ratio").build(derive(sample_instance(2, modes=(4,))), None)
    assert model.component("var_mode") is None
    assert model.component("var_keep_option") is None


def test_relaxed_points_are_read_as_fractions() -> None:
    derived = derive(sample_instance(2, modes=(2, 4)))
    formulation = get_formulation("joint-relaxed")
    model = formulation.build(derived, None)
    for device in derived.ids:
        model.var_blocks[device].set_value(2.25)
        model.var_mode[device, "topk2"].set_value(0.3)
        model.var_mode[device, "topk4"].set_value(0.7)
        model.var_keep[device].set_value(0.2)
    point = formulation.read(derived, model)
    assert not point.is_integral()
    assert point.cuts.tolist() == [2.25, 2.25]
    assert point.option_weights.tolist() == [[0.3, 0.7], [0.3, 0.7]]
    assert point.keep.tolist() == [0.2, 0.2]


def test_variables_begin_near_one_whatever_the_units_of_the_cell() -> None:
    for factor in (1.0, 1e-3, 1e3):
        instance = sample_instance(
            5, 1, radio={"uplink_bandwidth_hz": 1e7 * factor, "downlink_bandwidth_hz": 1e7 * factor}
        )
        derived, start = start_for(instance)
        model = get_formulation("joint-product").build(derived, start)
        names = ("var_tau_up", "var_tau_down", "var_uplink_share", "var_downlink_share")
        values = [v.value for name in names for v in model.component(name).values()]
        assert max(values) <= 5.0
        assert min(values[:2]) > 1e-6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"workload": {"device_base_bytes": 1e12}}, "no number of blocks suits device dev0"),
        ({"radio": {"outage_rate_bits_per_s": 1e12}}, "device dev0, dev1 is in outage"),
        ({"server": {"memory_bytes": 1e6}, "server_order": "parallel"}, "server's memory"),
        ({"compression": {"keep_min": 0.99}}, "no compression mode"),
    ],
)
def test_an_empty_domain_is_named(form: str, fields: dict[str, Any], words: str) -> None:
    derived = derive(sample_instance(2, **fields))
    with pytest.raises(InfeasibleError, match=words):
        get_formulation(form).build(derived, None)


@pytest.mark.parametrize("term_sum", [logs_of_ratios, differences_of_logs])
def test_rate_terms_rebuild_the_concave_rate(term_sum: Any) -> None:
    """Capped, free and open terms together are the rate of the law at any share in range."""
    draw = np.random.default_rng(4)
    for _ in range(20):
        gains, cap = 10 ** draw.uniform(-1, 3, 16), float(draw.uniform(3.0, 8.0))
        low, high = np.sort(10 ** draw.uniform(-3, 0, 2))
        terms = sort_terms(gains, low, high, cap)
        assert terms.capped + len(terms.free) + len(terms.either) == 16
        for share in np.linspace(low, high, 5):
            x = float(share)
            unit = cap * np.log(2.0)
            parts = [terms.capped * x]
            parts += [pyo.value(term_sum(x, [a])) / unit for a in terms.free]
            parts += [min(pyo.value(term_sum(x, [a])) / unit, x) for a in terms.either]
            law = ConcaveRate(1.0, gains[None, :], cap)
            assert sum(parts) / 16 == pytest.approx(law.rate(np.array([x]))[0] / cap, rel=1e-12)


def test_default_start_is_the_option_that_loses_least() -> None:
    derived = derive(sample_instance(2))
    point = get_formulation("joint-product").read(
        derived, get_formulation("joint-product").build(derived, None)
    )
    assert isinstance(point, Candidate)
    assert point.is_integral()
    assert np.array_equal(point.cuts, derived.cut_low)


def test_tangents_are_there_for_small_cells_only_and_bound_the_rate_at_every_share() -> None:
    derived, start = start_for(sample_instance(3, 2, radio={"power": "total"}))
    model = get_formulation("joint-product").build(derived, start)
    relaxed = get_formulation("joint-relaxed").build(derived, start)
    assert relaxed.component("con_uplink_tangent") is None
    wide = sample_instance(51, 2, radio={"power": "total"})
    many = get_formulation("joint-product").build(derive(wide), None)
    assert many.component("con_uplink_tangent") is None
    law = ConcaveRate(1.0, derived.snr_terms * derived.devices, derived.efficiency_cap)
    for link in ("uplink", "adapter"):
        share, rate = model.component(f"var_{link}_share"), model.component(f"var_{link}_rate")
        for place in np.linspace(0.0, 1.0, 41):
            x = np.array([v.lb + place * (v.ub - v.lb) for v in share.values()])
            for device, value, r in zip(derived.ids, x, law.rate(x), strict=True):
                share[device].set_value(value)
                rate[device].set_value(r / derived.efficiency_cap)
            slack = [
                pyo.value(row.uslack()) for row in model.component(f"con_{link}_tangent").values()
            ]
            assert min(slack) >= 0.0
