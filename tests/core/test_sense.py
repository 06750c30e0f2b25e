"""Slips of unit are noticed and named with the right factor; usual cells have nothing to say."""

from __future__ import annotations

import re
from typing import Any

import pytest

import sftopt
from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.instance import Instance
from sftopt.core.library import bundled_names
from sftopt.core.sense import delay_warning, sense_warnings

CELL = sftopt.load("jetson-vit-b")

SECTIONS = (
    "workload.block_forward_flops", "workload.block_backward_flops",
    "workload.block_weight_bytes", "workload.block_adapter_bytes", "server.memory_bytes",
    "radio.uplink_bandwidth_hz", "radio.downlink_bandwidth_hz", "radio.noise_w_per_hz",
)  # fmt: skip
"""Fields whose value a factor of 1e3 takes out of the usual range, up and down."""

DEVICES = ("compute_flops_per_s", "memory_bytes")


def scaled(path: str, factor: float) -> tuple[Instance, float]:
    """The cell with one field off by a factor (of all devices, for theirs), and the right value."""
    if "." in path:
        section, name = path.split(".")
        right = getattr(getattr(CELL, section), name)
        return CELL.replace(**{path: right * factor}), right
    right = getattr(CELL.devices[0], path)
    edits = {f"devices[{i}].{path}": getattr(d, path) * factor for i, d in enumerate(CELL.devices)}
    return CELL.replace(**edits), right


def of_field(cell: Instance, path: str) -> list[Fault]:
    return [fault for fault in sense_warnings(cell) if fault.field == path]


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_cells_are_usual(name: str) -> None:
    assert list(sense_warnings(sftopt.load(name))) == []


@pytest.mark.parametrize(("family", "count"), [("jetson-vit-b", 1000), ("weichen", 500),
                                               ("gpt2-e2e", 1), ("stsflora", 2000)])  # fmt: skip
def test_generated_cells_of_any_size_are_usual(family: str, count: int) -> None:
    from sftopt.core.families import generate

    assert list(sense_warnings(generate(family, count, 1))) == []


@pytest.mark.parametrize("power", [-12, -9, -6, -3, 3, 6, 9, 12])
@pytest.mark.parametrize("path", [*SECTIONS, *DEVICES])
def test_the_right_factor_is_named(path: str, power: int) -> None:
    """Devices a thousand times faster are other hardware; all else is noticed."""
    cell, right = scaled(path, 10.0**power)
    faults = of_field(cell, path)
    if path in DEVICES and power == 3 and not faults:
        return
    (fault,) = faults
    meant = re.search(r"([-+.0-9e]+) \S+ would be usual", fault.message)
    assert meant is not None, fault.message
    if path in DEVICES:  # some of them only may be odd
        assert 0.1 * right < float(meant[1]) < 30.0 * right
    else:
        assert float(meant[1]) == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize("power", [-12, -9, -6, -3, 6, 9, 12])
def test_of_the_server_s_speed(power: int) -> None:
    """Eight accelerators are a thousand times this server, and no slip."""
    cell, right = scaled("server.compute_flops_per_s", 10.0**power)
    (fault,) = of_field(cell, "server.compute_flops_per_s")
    assert f"{right:g} FLOP/s would be usual" in fault.message


@pytest.mark.parametrize("field", DEVICES)
@pytest.mark.parametrize("power", [-12, -9, -6, -3, 3, 6, 9, 12])
def test_one_device_off_is_measured_by_the_others(field: str, power: int) -> None:
    right = getattr(CELL.devices[3], field)
    cell = CELL.replace(**{f"devices[dev04].{field}": right * 10.0**power})
    (fault,) = of_field(cell, field)
    assert fault.device == "dev04"
    assert f"{right:g} " in fault.message


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"devices[dev02].transmit_power_w": 23.0}, "was it given in dBm? 23 dBm is 0.2 W"),
        ({"server.transmit_power_w": 46.0}, "was it given in dBm? 46 dBm is 39.8 W"),
        ({"devices[dev02].uplink_gain": 97.0}, "a path loss of 97 dB is a gain of 2e-10"),
        ({"radio.uplink_noise_figure": 20.0}, "was it given in dB? 20 dB is 100"),
        ({"accuracy.minimum": 85.0}, "was it given in per cent? 0.85"),
        ({"accuracy.uncompressed": 91.0}, "was it given in per cent? 0.91"),
        ({"devices[dev01].transmit_power_w": 200.0}, "is it 1000 times too large?"),
        ({"devices[dev01].codec_s_per_element": 5.0}, "is it 1e+09 times too large? 5e-09 s"),
        ({"workload.head_flops": 4.6e17}, "times too large?"),
    ],
)
def test_other_slips_are_named(edits: dict[str, Any], said: str) -> None:
    (fault,) = sense_warnings(CELL.replace(**edits))
    assert said in fault.message


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"devices[dev02].uplink_gain": -97.0}, "was it given in dB? gains are linear: 1.995e-10"),
        ({"radio.noise_w_per_hz": -174.0}, "was it given in dBm/Hz? 3.981e-21 W/Hz"),
        ({"devices[dev02].transmit_power_w": -10.0}, "was it given in dBm? 0.0001 W"),
        ({"devices[dev02].weight": 10.0}, "was it given in per cent? 0.1"),
        ({"compression.keep_min": 5.0}, "was it given in per cent? 0.05"),
    ],
)
def test_what_is_refused_names_the_slip_too(edits: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        CELL.replace(**edits)
    assert said in str(caught.value)


@pytest.mark.parametrize("round_s", [1.3e12, 2e6, 1e-9])
def test_a_round_that_no_cell_has_is_noticed(round_s: float) -> None:
    fault = delay_warning(round_s)
    assert fault is not None
    assert f"{round_s:.4g} s" in fault.message


@pytest.mark.parametrize("round_s", [None, 0.0, 57.3, 1e5])
def test_a_usual_round_is_not(round_s: float | None) -> None:
    assert delay_warning(round_s) is None


def test_a_server_outside_its_own_range_is_noticed() -> None:
    """Schemes that set the server's speed would run at another than all others."""
    speed = CELL.server.compute_flops_per_s
    cell = CELL.replace(**{"server.compute_flops_per_s": 10.0 * speed})
    (fault,) = of_field(cell, "server.compute_flops_per_s")
    assert f"above compute_max_flops_per_s of {speed:g}" in fault.message
    slow = CELL.replace(**{"server.compute_flops_per_s": 0.1 * speed})
    (fault,) = of_field(slow, "server.compute_flops_per_s")
    assert "below compute_min_flops_per_s" in fault.message


def test_a_coefficient_of_energy_that_does_not_fit_the_speed_is_noticed() -> None:
    field = "energy_coefficient_j_s2_per_flop3"
    kappa = CELL.server.energy_coefficient_j_s2_per_flop3
    (fault,) = of_field(CELL.replace(**{f"server.{field}": 1e3 * kappa}), f"server.{field}")
    assert "is 2.5e+05 W" in fault.message
    edits = {f"devices[{index}].{field}": 1e-30 for index in range(len(CELL.devices))}
    (fault,) = of_field(CELL.replace(**edits), field)
    assert fault.device == f"dev01 and {len(CELL.devices) - 1} more"
