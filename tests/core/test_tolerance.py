"""One tolerance for judge, check and derived limits: what the judge accepts is not infeasible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance, ModeKind
from sftopt.core.limits import feasible_point
from sftopt.core.plan import DevicePlan, Plan, Provenance
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE, Tolerance
from sftopt.core.verify import Family, tolerance_of, verify_plan
from tests.core.test_check import errors, mended
from tests.edge_cells import LIMITS, accepted_plans, edge_cell
from tests.samples import sample_instance

CELLS: tuple[dict[str, Any], ...] = (
    {},
    {"accuracy": {"scope": "each"}},
    {"accuracy": {"scope": "common", "quantisation_scales_with_keep": False}},
    {"server_order": "parallel", "accuracy": {"cut_factor": (0.6, 0.8, 1.0, 1.3)}},
    {
        "server_order": "parallel",
        "accuracy": {"cut_factor": (0.6, 0.8, 1.0, 1.3), "scope": "common"},
    },
    {"radio": {"power": "total"}},
)


def dense_plan(instance: Instance, blocks: int, bits: int) -> Plan:
    share = 1.0 / len(instance.devices)
    parts = tuple(
        DevicePlan(
            id=device.id, blocks=blocks, mode=ModeKind.DENSE, bits=bits, keep_fraction=1.0,
            uplink_share=share, downlink_share=share, adapter_uplink_share=share,
        )
        for device in instance.devices
    )  # fmt: skip
    return Plan(instance_hash=instance.hash, devices=parts)


def test_an_accuracy_limit_that_is_met_exactly_is_met() -> None:
    """The best the only mode reaches, as a limit that was computed by another order of sums."""
    lost = 0.3 * np.exp(-12.0) + 0.6 * 4.0**-8
    for limit in (0.9 - lost, (0.9 - 0.6 * 4.0**-8) - 0.3 * np.exp(-12.0)):
        instance = sample_instance(
            2,
            1,
            modes=({"kind": "dense", "bits": 8},),
            accuracy={
                "uncompressed": 0.9, "keep_loss": 0.3, "keep_decay": 12.0,
                "quantisation_loss": 0.6, "minimum": float(limit), "scope": "each",
            },
        )  # fmt: skip
        assert verify_plan(instance, dense_plan(instance, 1, 8)).feasible
        assert check(instance).feasible
        assert feasible_point(derive(instance)) is not None


def test_a_device_in_outage_refutes_the_plan_and_its_gain_mends_it() -> None:
    data = sample_instance(2, 1, modes=({"kind": "dense", "bits": 8},)).to_dict()
    data["devices"][1]["downlink_gain"] = 1e-20
    instance = Instance.model_validate(data)
    found = verify_plan(instance, dense_plan(instance, 1, 8))
    assert {(v.family, v.index) for v in found.violations} == {(Family.OUTAGE, "dev1")}
    assert "downlink" in found.violations[0].unit
    assert not found.feasible
    assert {(f.field, f.device) for f in errors(instance)} == {("downlink_gain", "dev1")}
    better = mended(instance)
    assert check(better).feasible
    assert verify_plan(better, dense_plan(better, 1, 8)).feasible


@pytest.mark.parametrize("limit", ["device memory", "server memory"])
@pytest.mark.parametrize("server_order", ["in_turn", "parallel"])
def test_memory_short_of_one_more_block_by_less_than_the_tolerance(
    limit: str, server_order: str
) -> None:
    """A cut is allowed just where the judge allows it, at every tolerance."""
    cell = edge_cell(limit, 5e-7, server_order=server_order)
    for feas_tol, allowed in ((1e-6, True), (FEASIBILITY_TOLERANCE, False)):
        derived = derive(cell, feas_tol=feas_tol)
        plans = list(accepted_plans(cell, feas_tol))
        if not plans:
            assert feasible_point(derived) is None
            assert not allowed
            continue
        found = np.array([[part.blocks for part in plan.devices] for plan in plans])
        assert np.all(found >= derived.cut_low), limit
        assert np.array_equal(found.max(axis=0), derived.cut_high), limit
        if limit == "device memory":
            assert np.all(derived.cut_high == (2 if allowed else 1))


def test_a_plan_is_judged_by_its_own_tolerance() -> None:
    instance = sample_instance(2, 1, modes=({"kind": "dense", "bits": 8},))
    plan = dense_plan(instance, 1, 8)
    first = plan.devices[0]
    wide = (first.model_copy(update={"uplink_share": 0.5 + 5e-7}), *plan.devices[1:])
    plan = plan.model_copy(update={"devices": wide})
    assert not verify_plan(instance, plan).feasible  # made by hand: 1e-9
    assert verify_plan(instance, plan.model_copy(update={"feas_tol": 1e-6})).feasible
    # a release that wrote no tolerance judged by 1e-6
    older = plan.model_copy(update={"provenance": Provenance(sftopt_version="0.3.0")})
    assert tolerance_of(older) == 1e-6
    assert verify_plan(instance, older).feasible
    assert not verify_plan(instance, older, feas_tol=1e-9).feasible


@pytest.mark.parametrize("wrong", [2e-6, -1e-9, float("nan")])
def test_a_tolerance_out_of_range_is_refused_in_words(wrong: float) -> None:
    instance = sample_instance(2, 1, modes=({"kind": "dense", "bits": 8},))
    plan = dense_plan(instance, 1, 8)
    for call in (
        lambda: Tolerance(wrong),
        lambda: verify_plan(instance, plan, feas_tol=wrong),
        lambda: check(instance, wrong),
        lambda: derive(instance, feas_tol=wrong),
    ):
        with pytest.raises(InputError, match=r"feas_tol is .*must lie in 0..1e-06"):
            call()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    limit=st.sampled_from(LIMITS),
    exponent=st.floats(-10.0, -5.0),
    sign=st.sampled_from([-1.0, 0.0, 1.0]),
    seed=st.integers(0, 999),
    cell=st.sampled_from(range(len(CELLS))),
    feas_tol=st.sampled_from([1e-9, 1e-9, 1e-7, 1e-6]),
)
def test_infeasible_means_that_the_judge_accepts_no_plan(
    limit: str, exponent: float, sign: float, seed: int, cell: int, feas_tol: float
) -> None:
    instance = edge_cell(limit, sign * 10.0**exponent, seed, **CELLS[cell])
    report = check(instance, feas_tol)
    assert report.feasible == (feasible_point(derive(instance, feas_tol=feas_tol)) is not None)
    if not report.feasible:
        assert not list(accepted_plans(instance, feas_tol))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    limits=st.lists(st.sampled_from(LIMITS), min_size=1, max_size=3),
    exponent=st.floats(-10.0, -0.3),
    seed=st.integers(0, 9999),
    cell=st.sampled_from(range(len(CELLS))),
    minimum=st.one_of(st.none(), st.floats(0.85, 0.95)),
    server_gib=st.one_of(st.none(), st.floats(0.5, 4.0)),
)
def test_what_check_says_must_give_is_enough(
    limits: list[str],
    exponent: float,
    seed: int,
    cell: int,
    minimum: float | None,
    server_gib: float | None,
) -> None:
    """Cells that miss one limit or several, by a hair or by far; changes as a user applies them."""
    data = edge_cell(limits[0], 10.0**exponent, seed, **CELLS[cell]).to_dict()
    for limit in limits[1:]:
        other = edge_cell(limit, 10.0**exponent, seed, **CELLS[cell]).to_dict()
        part = {"device memory": "devices", "server memory": "server", "outage": "radio",
                "keep": "compression", "accuracy": "accuracy"}[limit]  # fmt: skip
        data[part] = other[part]
    if minimum is not None:
        data["accuracy"]["minimum"] = minimum
    if server_gib is not None:
        data["server"]["memory_bytes"] = server_gib * 2**30
    instance = Instance.model_validate(data)
    if check(instance).feasible:
        return
    faults = errors(instance)
    assert len({(f.field, f.device) for f in faults}) == len(faults)
    assert all(f.message.count("with the other changes made") <= 1 for f in faults)
    if instance.accuracy.cut_factor is None:
        assert not any("cut_factor" in f.message for f in faults)
    again = check(mended(instance))
    assert again.feasible, ([str(f) for f in faults], [str(f) for f in again.faults])
