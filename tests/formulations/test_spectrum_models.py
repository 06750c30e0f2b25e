"""The models of problem (14): the same function as the arrays they come from, named and convex."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

import sftopt.formulations
from sftopt.core.candidate import Candidate
from sftopt.core.channel import RoundChannel
from sftopt.core.derived import Derived, derive
from sftopt.core.instance import PowerLaw
from sftopt.core.round import LinkProblem, RoundProblem, round_problem, round_s
from sftopt.core.spectrum import ConcaveRate, LinearRate, least_time
from sftopt.formulations.conic.cvxpy_layer import cp
from sftopt.formulations.registry import get_formulation
from sftopt.formulations.spectrum.scaling import scale_link, scale_round
from sftopt.formulations.spectrum.spectrum_conic import SpectrumConic, resolve
from sftopt.formulations.spectrum.spectrum_nlp import FORMULATION as NLP
from tests.samples import VARIANTS, sample_instance

MODEL_TEXT = (Path(sftopt.formulations.__path__[0]) / "MODEL.md").read_text(encoding="utf-8")
LAWS = ("psd", "total")


def cell(law: str, devices: int = 3, seed: int = 5) -> Derived:
    """A sample cell in a round of its own: four Rayleigh blocks."""
    instance = sample_instance(devices, seed, radio={"power": law})
    draw = np.random.default_rng(seed)
    gains = 10 ** draw.uniform(-12, -9, (devices, 1)) * draw.exponential(size=(2, devices, 4))
    return derive(instance, RoundChannel(gains[0], gains[1]))


def middle(derived: Derived) -> Candidate:
    """Cuts between their limits, the first option, a middling keep fraction."""
    cuts = (derived.cut_low + derived.cut_high) // 2
    option = derived.options[0]
    keep = np.full(derived.devices, 0.5 * (option.keep_low + option.keep_high))
    return Candidate.of(cuts, np.zeros(derived.devices, dtype=int), keep, len(derived.options))


def best_s(problem: RoundProblem) -> float:
    """The optimum by the root searches of the core."""
    total = problem.constant_s
    for name, link in problem.links().items():
        tau, _ = least_time(link.fixed_s, link.payload_bits, link.law)
        total += tau * (1 if name == "adapter" else problem.steps)
    return total


# --- scaling ----------------------------------------------------------------------------------


def test_a_link_is_scaled_about_a_barrier_near_its_best() -> None:
    """Two devices with 1 and 3 s alone and no fixed times: tau = 4 s, shares 1/4 and 3/4."""
    link = LinkProblem(np.zeros(2), np.array([1e6, 3e6]), LinearRate(np.array([1e6, 1e6])))
    scaled = scale_link(link)
    assert 2.0 <= scaled.unit_s <= 8.0
    assert scaled.share_unit * scaled.unit_s == pytest.approx([1.0, 3.0])
    assert scaled.slope == pytest.approx([1.0, 1.0])
    z = scaled.z_of(None)
    assert scaled.shares_of(z) == pytest.approx([0.25, 0.75])
    assert scaled.least_u(z) * scaled.unit_s == pytest.approx(4.0)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("spread", [1e0, 1e9])
def test_the_scaled_row_is_the_barrier_and_its_bounds_hold_the_optimum(
    law: str, spread: float
) -> None:
    draw = np.random.default_rng(3)
    fixed = draw.uniform(0.0, 2.0, 6) * np.array([1, 1, 1, 1, 1, np.sqrt(spread)])
    bits = 1e6 * np.geomspace(1.0, spread, 6)
    rate: Any = LinearRate(draw.uniform(1e6, 1e7, 6))
    if law == "total":
        rate = ConcaveRate(1e6, 10 ** draw.uniform(-2, 3, (6, 4)), 7.4)
    link = LinkProblem(fixed, bits, rate)
    scaled = scale_link(link)
    tau, shares = least_time(fixed, bits, rate)
    z = shares / scaled.share_unit
    assert np.all(z >= scaled.z_low)
    assert np.all(z <= scaled.z_high)
    u = (tau - scaled.floor_s) / scaled.unit_s
    assert 0.0 <= u <= scaled.u_high
    assert scaled.least_u(z) == pytest.approx(u, rel=1e-8)
    room = scaled.slope * u + 1.0 - scaled.slope
    assert room == pytest.approx(1.0 / scaled.relative_rate(z), rel=1e-8)


def test_devices_without_payload_hold_the_floor_only() -> None:
    link = LinkProblem(np.array([9.0, 1.0]), np.array([0.0, 1e6]), LinearRate(np.ones(2) * 1e6))
    scaled = scale_link(link)
    assert scaled.rows.tolist() == [1]
    assert scaled.floor_s == 9.0
    assert scaled.shares_of(np.ones(1))[0] == 0.0


def test_shares_that_sum_to_more_than_one_are_scaled_down() -> None:
    link = LinkProblem(np.zeros(2), np.array([1e6, 3e6]), LinearRate(np.array([1e6, 1e6])))
    scaled = scale_link(link)
    assert scaled.shares_of(10.0 / scaled.share_unit).sum() == pytest.approx(1.0)


# --- the two models say what the arrays say ---------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_nlp_at_any_shares_is_the_round_at_those_shares(variant: str) -> None:
    derived = derive(sample_instance(3, 2, **VARIANTS[variant]))
    candidate = middle(derived)
    problem = round_problem(derived, candidate)
    model = NLP.build(derived, None)
    assert model.objective_unit_s > 0.0
    fixed = NLP.read(derived, model)
    problem = round_problem(derived, fixed)
    for constraint in model.component_data_objects(pyo.Constraint):
        low, high, value = constraint.lb, constraint.ub, pyo.value(constraint.body)
        assert low is None or value >= low - 1e-9, constraint.name
        assert high is None or value <= high + 1e-9, constraint.name
    assert fixed.shares is not None
    value = pyo.value(model.obj_round_delay) * model.objective_unit_s
    assert value == pytest.approx(round_s(problem, fixed.shares), rel=1e-9)


@pytest.mark.parametrize("law", LAWS)
def test_conic_and_nlp_have_the_optimum_of_the_root_searches(law: str) -> None:
    derived = cell(law)
    candidate = middle(derived)
    problem = round_problem(derived, candidate)
    conic = SpectrumConic(derived, problem, candidate)
    shares = resolve(conic, problem)
    best = best_s(problem)
    assert round_s(problem, shares) == pytest.approx(best, rel=1e-7)
    claimed = conic.problem.value * conic.problem.objective_unit_s
    assert claimed == pytest.approx(best, rel=1e-6)


def test_total_law_under_a_cap_that_always_binds_is_the_psd_law() -> None:
    """With gains so strong that every term is capped, x B C is the rate under both laws."""
    strong = RoundChannel(np.full((3, 4), 1.0), np.full((3, 4), 1.0))
    values = []
    for law in LAWS:
        derived = derive(sample_instance(3, 5, radio={"power": law}), strong)
        candidate = middle(derived)
        problem = round_problem(derived, candidate)
        shares = resolve(SpectrumConic(derived, problem, candidate), problem)
        values.append(round_s(problem, shares))
    assert values[0] == pytest.approx(values[1], rel=1e-6)


# --- a problem compiled once ------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
def test_the_problem_is_disciplined_and_its_parameters_too(law: str) -> None:
    problem = get_formulation("spectrum-conic").build(cell(law), None)
    assert isinstance(problem, cp.Problem)
    assert problem.is_dcp(dpp=True)
    assert problem.parameters()
    names = {variable.name() for variable in problem.variables()}
    assert {"var_tau_up", "var_uplink_share", "var_downlink_share"} <= names
    assert ("var_adapter_share" in names) == (law == "total")
    for name in [*names, *problem.named_constraints]:
        general = name.replace("con_adapter_", "con_uplink_")
        assert f"`{name}" in MODEL_TEXT or f"`{general}" in MODEL_TEXT, name


@pytest.mark.parametrize("law", LAWS)
def test_other_rounds_are_solved_by_the_same_compiled_problem(law: str) -> None:
    derived = cell(law)
    candidate = middle(derived)
    conic = SpectrumConic(derived, round_problem(derived, candidate), candidate)
    for seed in (6, 7):
        other = round_problem(cell(law, seed=seed), candidate)
        shares = resolve(conic, other)
        assert round_s(other, shares) == pytest.approx(best_s(other), rel=1e-6)
        for value in vars(shares).values():
            assert value.sum() <= 1.0 + 1e-12
    chain = conic.problem._cache.param_prog
    assert chain is not None
    resolve(conic, round_problem(derived, candidate))
    assert conic.problem._cache.param_prog is chain, "it was compiled again"


def test_a_round_with_other_links_is_not_taken() -> None:
    derived = cell("total")
    candidate = middle(derived)
    conic = SpectrumConic(derived, round_problem(derived, candidate), candidate)
    silent = round_problem(replace(derived, adapter_bits_per_block=0.0), candidate)
    assert list(scale_round(silent).links) == ["uplink", "downlink"]
    with pytest.raises(ValueError, match="compiled for"):
        conic.update(silent)


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["plain", "total power"])
def test_every_component_of_the_nlp_follows_the_grammar_and_is_documented(variant: str) -> None:
    model = NLP.build(derive(sample_instance(3, 2, **VARIANTS[variant])), None)
    kinds = {pyo.Var: "var_", pyo.Constraint: "con_", pyo.Objective: "obj_"}
    for kind, prefix in kinds.items():
        for component in model.component_objects(kind):
            assert re.fullmatch(prefix + r"[a-z_]+", component.name)
            general = component.name.replace("con_adapter_", "con_uplink_")
            assert f"`{component.name}" in MODEL_TEXT or f"`{general}" in MODEL_TEXT
    assert set(model.var_uplink_share) == {"dev0", "dev1", "dev2"}


def test_under_psd_the_adapter_shares_are_the_eliminated_ones() -> None:
    derived = cell("psd")
    assert derived.power is PowerLaw.PSD
    found = NLP.read(derived, NLP.build(derived, None))
    assert found.shares is not None
    alone = found.cuts / derived.uplink_full_bits_per_s
    assert found.shares.adapter == pytest.approx(alone / alone.sum())
