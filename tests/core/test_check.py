"""``check``: every limit says how much it would have to give, and giving it is enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftopt.core.channel import RoundChannel
from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.faults import Fault, Severity
from sftopt.core.instance import Instance
from sftopt.core.limits import elementary_bound_s, feasible_point
from sftopt.core.plan import Provenance
from sftopt.core.point import best_delay, to_plan
from sftopt.core.verify import verify_plan
from sftopt.solvers.heuristics.constructive import first_point
from tests.samples import VARIANTS, sample_instance


def errors(instance: Instance) -> list[Fault]:
    return [f for f in check(instance).faults if f.severity is Severity.ERROR]


def mended(instance: Instance) -> Instance:
    """The instance with every stated change applied, as a user would apply it."""
    data = instance.to_dict()
    for fault in errors(instance):
        assert fault.needed_change is not None, fault.message
        assert isinstance(fault.value, float | int)
        new = fault.value + fault.needed_change
        if "." in fault.field:
            section, name = fault.field.split(".")
            data[section][name] = new
        else:
            (device,) = [d for d in data["devices"] if d["id"] == fault.device]
            device[fault.field] = new
    return Instance.model_validate(data)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "privacy floor": ({"workload": {"block_weight_bytes": 2e10}}, "memory_bytes"),
    "server in turn": ({"server": {"memory_bytes": 1.45e9}}, "server.memory_bytes"),
    "server in parallel": (
        {"server": {"memory_bytes": 1.6e9}, "server_order": "parallel"},
        "server.memory_bytes",
    ),
    "accuracy": ({"accuracy": {"minimum": 0.95}}, "accuracy.minimum"),
    "accuracy of each": (
        {"accuracy": {"minimum": 0.5, "minimum_each": 0.93}},
        "accuracy.minimum_each",
    ),
    "scope each": ({"accuracy": {"minimum": 0.93, "scope": "each"}}, "accuracy.minimum"),
    "scope common": ({"accuracy": {"minimum": 0.93, "scope": "common"}}, "accuracy.minimum"),
    "outage": ({"radio": {"outage_rate_bits_per_s": 3e7}}, "uplink_gain"),
    "band too narrow": (
        {"radio": {"downlink_bandwidth_hz": 100.0}},
        "radio.outage_rate_bits_per_s",
    ),
    "no keep fraction left": (
        {"modes": (2,), "compression": {"keep_min": 0.9}},
        "compression.keep_min",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_limit_is_named_and_giving_what_it_asks_is_enough(name: str) -> None:
    fields, expected = BROKEN[name]
    instance = sample_instance(3, 1, **fields)
    report = check(instance)
    assert not report.feasible
    assert expected in {fault.field for fault in errors(instance)}
    again = check(mended(instance))
    assert again.feasible, [str(f) for f in again.faults]


def test_several_limits_at_once_are_all_named() -> None:
    instance = sample_instance(
        3,
        1,
        workload={"block_weight_bytes": 2e10},
        accuracy={"minimum": 0.95, "minimum_each": 0.94},
        server={"memory_bytes": 1e9},
    )
    fields = {fault.field for fault in errors(instance)}
    assert fields == {
        "memory_bytes",
        "server.memory_bytes",
        "accuracy.minimum",
        "accuracy.minimum_each",
    }
    assert check(mended(instance)).feasible


def test_accuracy_that_needs_cuts_the_server_cannot_hold() -> None:
    """Early cuts are more accurate here but leave more to the server: no limit fails alone."""
    factor = tuple(float(f) for f in np.linspace(0.1, 30.0, 12))
    instance = sample_instance(
        3,
        1,
        accuracy={"cut_factor": factor, "minimum": 0.9175, "quantisation_loss": 0.0},
        compression={"keep_max": 0.3},
        server={"memory_bytes": 5e9},
        server_order="parallel",
    )
    (fault,) = errors(instance)
    assert fault.field == "server.memory_bytes"
    assert "cut_factor" in fault.message
    assert check(mended(instance)).feasible


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    devices=st.integers(1, 6),
    variant=st.sampled_from(sorted(VARIANTS)),
    device_gib=st.floats(-2.0, 1.0),
    server_gib=st.floats(0.2, 6.0),
    minimum=st.floats(0.86, 0.93),
)
def test_feasibility_is_exact_and_always_mendable(
    seed: int, devices: int, variant: str, device_gib: float, server_gib: float, minimum: float
) -> None:
    """Feasible means a verified plan exists; infeasible means the stated changes make one."""
    fields = dict(VARIANTS[variant])
    fields["accuracy"] = {**fields.get("accuracy", {}), "minimum": minimum}
    fields["server"] = {"memory_bytes": server_gib * 2**30}
    instance = sample_instance(devices, seed, **fields)
    data = instance.to_dict()
    for device in data["devices"]:
        device["memory_bytes"] *= 10.0**device_gib
    instance = Instance.model_validate(data)
    if not check(instance).feasible:
        assert feasible_point(derive(instance)) is None
        instance = mended(instance)
    assert check(instance).feasible
    derived = derive(instance)
    point = first_point(derived)
    assert point is not None
    found = verify_plan(instance, to_plan(derived, point, Provenance(), instance.name))
    assert found.feasible, found.violations
    assert elementary_bound_s(derived) <= best_delay(derived, point).round_s


SLIPS = {
    "radio.uplink_bandwidth_hz": (("radio", "uplink_bandwidth_hz"), 20.0, "2e+07 Hz"),
    "devices": (("devices", "compute_flops_per_s"), 1.3, "FLOP/s"),
    "server.memory_bytes": (("server", "memory_bytes"), 48e18, "bytes"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_units_off_by_a_thousand_or_a_million_are_noticed(name: str) -> None:
    (section, field), value, text = SLIPS[name]
    data = sample_instance(2, 1).to_dict()
    target = data["devices"][1] if section == "devices" else data[section]
    target[field] = value
    found = [f for f in check(Instance.model_validate(data)).faults if f.field.endswith(field)]
    warnings = [f for f in found if f.severity is Severity.WARNING]
    assert len(warnings) == 1
    assert text in warnings[0].message
    assert warnings[0].value == value


def test_a_usual_instance_has_nothing_to_say() -> None:
    assert check(sample_instance(5, 3)).faults == ()


def test_a_limit_hidden_behind_another_is_named_too() -> None:
    """Without a keep fraction no accuracy can be judged; both stand in the way."""
    instance = sample_instance(
        3, 1, modes=(2,), compression={"keep_min": 0.9}, accuracy={"minimum": 0.95}
    )
    fields = {fault.field for fault in errors(instance)}
    assert {"compression.keep_min", "accuracy.minimum"} <= fields
    assert check(mended(instance)).feasible


def test_numbers_that_overflow_together_are_refused() -> None:
    gains = np.full((2, 1), 1e300)  # no field of an instance may be so large; a round's gain may
    with pytest.raises(InputError, match="its numbers overflow: snr_terms"):
        derive(sample_instance(2, 1), RoundChannel(gains, gains))
