"""Both algebraic forms against the judge: objective and feasibility at random integral points."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived, derive
from sftopt.core.instance import Instance
from sftopt.core.verify import Family, verify_plan
from sftopt.formulations.algebraic.frame import Frame, new_frame
from sftopt.formulations.algebraic.joint_product import build_products
from sftopt.formulations.algebraic.joint_ratio import build_ratios
from sftopt.formulations.algebraic.joint_reduced import build_reduced
from sftopt.formulations.algebraic.start_values import load_point, read_candidate
from sftopt.formulations.base import Start
from tests.formulations.points import objective_s, over, plan_of, random_candidate, residuals
from tests.samples import VARIANTS, sample_instance

INTERVALS = {
    "bits": 4,
    "mask_overhead": [
        {"keep_from": 0.0, "keep_to": 0.2, "factor": 1.3},
        {"keep_from": 0.2, "keep_to": 0.4, "factor": 0.9},
        {"keep_from": 0.4, "keep_to": 1.0, "factor": 0.0},
    ],
}
MODES: dict[str, tuple[Any, ...]] = {
    "topk": (2, 4, 8),
    "one": (4,),
    "none only": ({"kind": "none", "bits": 32},),
    "all kinds": (2, INTERVALS, {"kind": "dense", "bits": 3}, {"kind": "none", "bits": 32}),
}
CUT_FACTOR = tuple(float(f) for f in np.linspace(0.6, 1.3, 12))
FORMS = ("joint-product", "joint-ratio", "joint-reduced", "joint-relaxed")


def build(form: str, derived: Derived, start: Start | None) -> tuple[Any, Frame]:
    """The model of one form and a frame that can load other points into it."""
    if form == "joint-ratio":
        model = build_ratios(derived, start, name=form)
    elif form == "joint-reduced":
        model = build_reduced(derived, start, name=form)
    else:
        model = build_products(derived, start, integral=form == "joint-product", name=form)
    frame = new_frame(pyo.ConcreteModel(), derived, start)
    return model, Frame(**{**vars(frame), "model": model})


def compare(instance: Instance, form: str, seeds: range) -> None:
    """Objective, every residual and every violation agree at random candidates."""
    derived = derive(instance)
    model, frame = build(form, derived, None)
    for seed in seeds:
        candidate = random_candidate(derived, seed)
        load_point(frame, candidate)
        plan = plan_of(instance, derived, model, candidate)
        judged = verify_plan(instance, plan, feas_tol=1e-9)
        assert judged.objective_s is not None
        assert objective_s(model) == pytest.approx(judged.objective_s, rel=1e-9)
        samples = instance.workload.block_activation_bytes
        _same_violations(derived, model, over(residuals(model)), judged.violations, samples)


def _same_violations(
    derived: Derived, model: Any, missed: dict[str, float], violations: Any, sample_bytes: float
) -> None:
    """Accuracy and server memory are missed by the same amounts; nothing else is missed.

    A model's limits are relaxed by the judge's tolerance, and its server's memory is counted in
    whole samples of a block.
    """
    expected: dict[str, float] = {}
    memory_bytes = 0.0
    for found in violations:
        if found.family in (Family.ACCURACY, Family.ACCURACY_EACH):
            mean = found.family is Family.ACCURACY and derived.scope.value == "mean"
            index = "all" if "all" in model.var_loss else found.index
            name = "con_accuracy_mean" if mean else f"var_loss[{index}]"
            expected[name] = (found.amount - found.tolerance) / model.loss_unit
        elif found.family is Family.SERVER_MEMORY:
            memory_bytes = found.amount
        else:
            pytest.fail(f"the judge finds {found}")
    whole_bytes = derived.server_activation_bytes.sum() * derived.blocks
    model_bytes = missed.pop("con_server_memory", 0.0) * whole_bytes
    assert model_bytes == pytest.approx(memory_bytes, abs=1.01 * sample_bytes)
    assert missed == pytest.approx({k: v for k, v in expected.items() if v > 1e-8}, abs=1e-8)


@pytest.mark.parametrize("form", ["joint-product", "joint-ratio", "joint-reduced"])
@pytest.mark.parametrize("modes", MODES)
@pytest.mark.parametrize("scope", ["mean", "each", "common"])
def test_every_combination_of_options_agrees_with_the_judge(
    form: str, modes: str, scope: str
) -> None:
    for number, (power, downlink, order, adapters) in enumerate(
        product(
            ("psd", "total"), ("kept", "dense"), ("in_turn", "parallel"), ("unicast", "multicast")
        )
    ):
        instance = sample_instance(
            2 + number % 3,
            number,
            modes=MODES[modes],
            accuracy={"scope": scope},
            radio={"power": power, "downlink": downlink, "adapter_downlink": adapters},
            server={"memory_bytes": 4.5e9},
            server_order=order,
        )
        compare(instance, form, range(2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scope", ["mean", "each", "common"])
@pytest.mark.parametrize(
    "fields",
    [
        {"accuracy": {"cut_factor": CUT_FACTOR}},
        {"accuracy": {"cut_factor": CUT_FACTOR}, "modes": MODES["all kinds"]},
        {"accuracy": {"quantisation_scales_with_keep": False}, "modes": MODES["all kinds"]},
        {"radio": {"fading": "none", "power": "total"}},
        {"workload": {"adapter_parameters_per_rank": 0}, "radio": {"power": "total"}},
        {"workload": {"adapter_parameters_per_rank": 0, "block_activation_bytes": 0},
         "radio": {"adapter_downlink": "multicast"}, "server_order": "parallel"},
    ],
    ids=["cut factor", "cut factor, all kinds", "flat noise", "no fading", "no adapters",
         "nothing to send or save"],
)  # fmt: skip
def test_rare_options_agree_with_the_judge(form: str, scope: str, fields: dict[str, Any]) -> None:
    fields = {**fields, "accuracy": {**fields.get("accuracy", {}), "scope": scope}}
    compare(sample_instance(3, 5, **fields), form, range(3))


@pytest.mark.parametrize("form", ["joint-product", "joint-ratio", "joint-reduced"])
@pytest.mark.parametrize("name", VARIANTS)
def test_no_time_can_be_smaller_than_the_judge_says(form: str, name: str) -> None:
    """Each barrier time that falls by 1e-4 breaks a constraint: the model is no relaxation."""
    derived = derive(sample_instance(3, 1, **VARIANTS[name]))
    model, frame = build(form, derived, None)
    candidate = random_candidate(derived, 0)
    load_point(frame, candidate)
    before = residuals(model)
    times = [
        data
        for part in ("var_tau_up", "var_tau_down", "var_tau_server", "var_tau_adapter_up",
                     "var_tau_block", "var_uplink_send", "var_downlink_send", "var_uplink_bits")
        if (component := model.component(part)) is not None
        for data in component.values()
        if data.value > 0.0
    ]  # fmt: skip
    for time in times:
        load_point(frame, candidate)
        time.set_value(time.value * (1.0 - 1e-4))
        after = residuals(model)
        assert max(after[k] - before[k] for k in after) > 1e-9, time.name


@pytest.mark.parametrize("form", ["joint-product", "joint-ratio", "joint-reduced"])
@pytest.mark.parametrize("name", VARIANTS)
def test_bounds_from_a_start_keep_every_better_point(form: str, name: str) -> None:
    instance = sample_instance(3, 2, **VARIANTS[name])
    derived = derive(instance)
    points = [random_candidate(derived, seed) for seed in range(24)]
    model, frame = build(form, derived, None)
    delays = []
    for point in points:
        load_point(frame, point)
        delays.append(objective_s(model))
    middle = int(np.argsort(delays)[len(delays) // 2])
    start = Start(points[middle], delays[middle])
    model, frame = build(form, derived, start)
    assert objective_s(model) == pytest.approx(start.objective_s, rel=1e-9)
    assert pyo.value(model.obj_round_delay) == pytest.approx(1.0, rel=1e-9)
    limits = ("var_loss", "con_accuracy_mean", "con_server_memory")
    for point, delay in zip(points, delays, strict=True):
        if delay <= start.objective_s:
            load_point(frame, point)
            missed = {k: v for k, v in over(residuals(model)).items() if not k.startswith(limits)}
            assert missed == {}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_loaded_is_read_back(form: str, name: str) -> None:
    derived = derive(sample_instance(3, 3, **VARIANTS[name]))
    model, frame = build(form, derived, None)
    candidate = random_candidate(derived, 7)
    load_point(frame, candidate)
    back = read_candidate(derived, model)
    masked = np.array([derived.options[o].has_mask for o in candidate.choices()])
    assert np.array_equal(back.cuts, candidate.cuts)
    assert np.array_equal(back.option_weights, candidate.option_weights)
    assert np.allclose(back.keep[masked], candidate.keep[masked], rtol=0, atol=1e-15)
    assert isinstance(back, Candidate)
