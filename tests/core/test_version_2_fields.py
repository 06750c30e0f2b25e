"""What the fields of schema version 2 do to judge, derived arrays and solvers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sftopt
from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.faults import Severity
from sftopt.core.instance import Instance, ServerOrder
from sftopt.core.memory import server_memory_bytes
from sftopt.core.plan import Plan
from sftopt.core.verify import Family, Verification, verify_plan
from tests.samples import plan_with, sample_instance


def with_devices(instance: Instance, *changes: dict[str, Any]) -> Instance:
    data = instance.to_dict()
    for device, change in zip(data["devices"], changes, strict=True):
        device.update(change)
    return Instance.model_validate(data)


def planned(instance: Instance, solver: str = "certify", **options: Any) -> Plan:
    result = sftopt.solve(instance, solver=solver, time_limit=30, **options)
    assert result.ok, result
    assert result.plan is not None
    return result.plan


def domain(found: Verification) -> dict[str, tuple[float, str]]:
    return {v.index: (v.amount, v.unit) for v in found.violations if v.family is Family.DOMAIN}


# --- blocks_max ---------------------------------------------------------------------------------


def limited() -> tuple[Instance, Plan]:
    """A cell with a weak server, and limits two blocks below what its best plan holds."""
    free = sample_instance(3, 1, server={"compute_flops_per_s": 2e11})
    best = planned(free)
    assert max(part.blocks for part in best.devices) >= 4
    changes = [{"blocks_max": max(part.blocks - 2, 1)} for part in best.devices]
    return with_devices(free, *changes), best


def test_a_device_holds_at_most_blocks_max() -> None:
    instance, best = limited()
    most = [device.blocks_max for device in instance.devices]
    assert derive(instance).cut_high.tolist() == most
    found = verify_plan(instance, best.model_copy(update={"instance_hash": instance.hash}))
    assert domain(found) == {
        f"{part.id}.blocks": (part.blocks - high, "blocks")
        for part, high in zip(best.devices, most, strict=True)
        if high is not None and part.blocks > high
    }


@pytest.mark.parametrize(
    ("solver", "formulation"),
    [
        ("certify", None),
        ("exhaustive", None),
        ("greedy", None),
        ("alternating", None),
        ("constructive", None),
        ("augmented-lagrangian", None),
        ("bonmin", "joint-product"),
        ("scip", "joint-ratio"),
        ("clarabel", "joint-grid-relaxed"),
        ("highs", "joint-grid-milp"),
    ],
)
def test_every_solver_heeds_blocks_max(solver: str, formulation: str | None) -> None:
    instance, _ = limited()
    result = sftopt.solve(instance, solver=solver, formulation=formulation, time_limit=20)
    best = sftopt.solve(instance, solver="certify", time_limit=30)
    assert best.objective_s is not None
    if result.plan is not None:
        for part, device in zip(result.plan.devices, instance.devices, strict=True):
            assert device.blocks_max is not None
            assert part.blocks <= device.blocks_max
        assert result.objective_s is not None
        assert result.objective_s >= best.objective_s * (1.0 - 2e-4)
    assert result.plan is not None or formulation == "joint-grid-relaxed"
    if result.bound_s is not None:
        assert result.bound_s <= best.objective_s * (1.0 + 1e-6)


def test_a_server_short_of_memory_is_told_what_is_missing_within_blocks_max() -> None:
    base = sample_instance(3, 1)
    free = planned(base)
    need = server_memory_bytes(base, [part.blocks for part in free.devices])
    tight = with_devices(base, *[{"blocks_max": 1}] * 3)
    least = server_memory_bytes(tight, [1, 1, 1])
    assert least > need * 0.999
    data = tight.to_dict()
    data["server"]["memory_bytes"] = least - 1e6
    report = check(Instance.model_validate(data))
    assert not report.feasible
    (fault,) = [f for f in report.faults if f.severity is Severity.ERROR]
    assert fault.field == "server.memory_bytes"
    assert fault.needed_change == pytest.approx(1e6, rel=1e-2)
    assert "blocks_max" in fault.message


# --- memory of the head, per sample -------------------------------------------------------------


@pytest.mark.parametrize("order", ServerOrder)
def test_the_head_needs_memory_for_every_sample(order: ServerOrder) -> None:
    """In turn that of the largest batch, in parallel that of all; the limit is met exactly."""
    batches = (8, 16, 32)
    plain = with_devices(
        sample_instance(3, 1, server_order=order), *[{"batch": batch} for batch in batches]
    )
    data = plain.to_dict()
    data["workload"]["sample_head_bytes"] = 1e8
    instance = Instance.model_validate(data)
    extra = 1e8 * (32 if order is ServerOrder.IN_TURN else 56)
    cuts = [3, 2, 4]
    need = server_memory_bytes(instance, cuts)
    assert need == pytest.approx(server_memory_bytes(plain, cuts) + extra, rel=1e-14)
    before = derive(plain).server_activation_budget_bytes
    after = derive(instance).server_activation_budget_bytes
    block = instance.workload.block_activation_bytes  # budgets are counted in whole ones
    assert after == pytest.approx(before - extra, abs=block)
    data["server"]["memory_bytes"] = need - 2.0
    short = Instance.model_validate(data)
    plan = planned(plain, "greedy")
    for n, cut in enumerate(cuts):
        plan = plan_with(plan, n, blocks=cut)
    found = verify_plan(short, plan.model_copy(update={"instance_hash": short.hash}), feas_tol=0.0)
    (amount,) = [v.amount for v in found.violations if v.family is Family.SERVER_MEMORY]
    assert amount == pytest.approx(2.0, abs=1e-3)
    if order is ServerOrder.IN_TURN:  # the same from the other side: the cut that must rise
        assert derive(short).cut_low.max() > derive(plain).cut_low.max()


# --- modes --------------------------------------------------------------------------------------

OWN: dict[str, dict[str, Any]] = {
    "kind tokens": {"kind": "tokens", "bits": 8, "tokens": 41},
    "gradient_bits": {"kind": "dense", "bits": 8, "name": "own", "gradient_bits": 3.0},
    "loss": {"kind": "dense", "bits": 8, "name": "own", "loss": 0.001},
    "codec_seconds_factor": {"bits": 8, "name": "own", "codec_seconds_factor": 2.0},
    "gradient_bits, loss": {"kind": "none", "bits": 32, "name": "own", "gradient_bits": 8.0,
                            "loss": [0.0] * 12},
}  # fmt: skip


def sized(mode: dict[str, Any]) -> dict[str, Any]:
    """A mode for four blocks."""
    return {**mode, "loss": mode["loss"][:4]} if isinstance(mode.get("loss"), list) else mode


@pytest.mark.parametrize("what", [name for name in OWN if name != "kind tokens"])
def test_modes_with_figures_of_their_own_are_options_and_are_planned(what: str) -> None:
    instance = sample_instance(2, 1, blocks=4, modes=(4, sized(OWN[what])))
    assert len(derive(instance).options) == 2
    assert not [f for f in check(instance).faults if f.field == "compression.modes[1]"]
    plan = planned(instance, "exhaustive")
    assert verify_plan(instance, plan).feasible


def test_tokens_without_a_loss_are_left_out_with_one_warning() -> None:
    instance = sample_instance(2, 1, modes=(4, OWN["kind tokens"]))
    assert {option.label for option in derive(instance).options} == {"topk4"}
    (warning,) = [f for f in check(instance).faults if f.field == "compression.modes[1]"]
    assert warning.severity is Severity.WARNING
    assert "tokens41-8" in warning.message
    assert "give its loss" in warning.message
    plan = planned(instance)
    assert {part.mode_name for part in plan.devices} == {"topk4"}


def test_no_mode_left_is_an_error_that_names_them_all() -> None:
    other = {"kind": "tokens", "bits": 4, "tokens": 20}
    instance = sample_instance(2, 1, modes=(OWN["kind tokens"], other))
    with pytest.raises(InputError, match=r"'tokens41-8': .* loss.*'tokens20-4'") as caught:
        derive(instance)
    assert caught.value.faults[0].field == "compression.modes"
    with pytest.raises(InputError, match="offer a mode of kind topk, dense or none"):
        sftopt.solve(instance, time_limit=5)


def test_modes_of_equal_kind_and_bits_are_planned_and_judged_by_name() -> None:
    cheap = {"kind": "dense", "bits": 8, "name": "dead-zone", "value_bits": 1.2}
    instance = sample_instance(2, 1, modes=({"kind": "dense", "bits": 8}, cheap))
    plan = planned(instance)
    assert {part.mode_name for part in plan.devices} == {"dead-zone"}
    verdict = verify_plan(instance, plan)
    assert verdict.feasible
    assert verdict.breakdown is not None
    elements = instance.devices[0].batch * instance.workload.boundary_elements
    assert verdict.breakdown.devices[0].uplink_bits_per_step == pytest.approx(1.2 * elements)
    again = sftopt.solve(instance, formulation="spectrum-native", x0=plan, time_limit=20)
    assert again.objective_s == pytest.approx(verdict.objective_s, rel=1e-9)
    found = domain(verify_plan(instance, plan_with(plan, 0, mode_name=None)))
    assert found["dev0.mode_name"][1] == (
        "mode name: dense8, dead-zone are of this kind and these bits"
    )
    found = domain(verify_plan(instance, plan_with(plan, 0, mode_name="dead")))
    assert found["dev0.mode_name"] == (1.0, "mode: 'dead' is not on offer (dense8, dead-zone)")
    found = domain(verify_plan(instance, plan_with(plan, 0, bits=6)))
    assert found["dev0.bits"] == (2.0, "bits: mode 'dead-zone' has 8")
    found = domain(verify_plan(instance, plan_with(plan, 0, mode="topk")))
    assert found["dev0.mode"] == (1.0, "mode: 'dead-zone' is of kind dense, not topk")


# --- what crosses the air -----------------------------------------------------------------------


def test_bytes_of_a_round() -> None:
    """K steps of the payloads of (1) and (2), and the adapters of (8) both ways."""
    for downlink in ("unicast", "multicast"):
        instance = sample_instance(3, 1, radio={"adapter_downlink": downlink})
        plan = planned(instance, "greedy")
        found = verify_plan(instance, plan).breakdown
        assert found is not None
        up = sum(device.uplink_bits_per_step for device in found.devices)
        down = sum(device.downlink_bits_per_step for device in found.devices)
        assert found.bytes_up == pytest.approx(instance.training.local_steps * up / 8)
        assert found.bytes_down == pytest.approx(instance.training.local_steps * down / 8)
        held = np.array([part.blocks for part in plan.devices])
        back = held.max() if downlink == "multicast" else held.sum()
        block = instance.workload.adapter_bits_per_block / 8
        assert found.bytes_adapters == pytest.approx((held.sum() + back) * block)
        assert (found.bytes_side, found.bytes_head) == (0.0, 0.0)
        assert (found.energy_server_j, found.energy_device_j) == (None, None)
