"""Edits and copies: no field is misspelt in silence, no edited cell keeps the old hash."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel, ValidationError

import sftopt
from sftopt.core.errors import InputError
from sftopt.core.fields import MOST_TEXT, Frozen
from sftopt.core.instance import Device, Instance, Mode, PowerLaw
from sftopt.core.verify import verify_plan


@pytest.fixture(scope="module")
def cell() -> Instance:
    return sftopt.load("jetson-vit-b")


def test_fields_devices_and_modes_are_edited_by_path(cell: Instance) -> None:
    made = cell.replace(
        name="other",
        **{
            "server.compute_flops_per_s": 1e12,
            "devices[dev03].batch": 8,
            "devices[0].batch": np.int64(4),
            "compression.modes[topk4].value_bits": 3.5,
            "radio.power": PowerLaw.TOTAL,
        },
    )
    assert made.name == "other"
    assert made.server.compute_flops_per_s == 1e12
    assert [device.batch for device in made.devices[:4]] == [4, 32, 8, 32]
    assert next(m for m in made.compression.modes if m.label == "topk4").value_bits == 3.5
    assert made.radio.power is PowerLaw.TOTAL
    assert made.hash != cell.hash
    assert made.hash == Instance.model_validate(made.to_dict()).hash
    assert cell.devices[2].batch == 32


def test_the_source_says_what_was_edited_and_from_what(cell: Instance) -> None:
    made = cell.replace(**{"server.compute_flops_per_s": 1e12, "devices[dev03].batch": 8})
    note = f"edited from {cell.hash}: server.compute_flops_per_s = 1e+12; devices[dev03].batch = 8"
    assert made.source.text.endswith(note)
    assert made.source.text.startswith(cell.source.text)
    again = made.replace(**{"training.local_steps": 5})
    assert f"edited from {made.hash}: training.local_steps = 5" in again.source.text
    assert note in again.source.text


def test_a_long_chain_of_edits_keeps_the_latest(cell: Instance) -> None:
    made = cell
    for steps in range(2, 300):
        made = made.replace(**{"training.local_steps": steps})
    assert made.source.text.endswith("training.local_steps = 299")
    assert len(made.source.text) <= MOST_TEXT


def test_whole_lists_and_sections_are_given_as_models_or_data(cell: Instance) -> None:
    modes = (Mode(bits=4), Mode(bits=8))
    assert cell.replace(**{"compression.modes": modes}).compression.modes == modes
    half = [{**d.model_dump(), "weight": 0.5} for d in cell.devices[:2]]
    made = cell.replace(devices=half)
    assert [device.id for device in made.devices] == ["dev01", "dev02"]
    assert "devices = [2 entries]" in made.source.text
    assert cell.replace(server=cell.server).hash == cell.hash
    factor = [1.0] * cell.workload.blocks
    varied = cell.replace(**{"accuracy.cut_factor": factor})
    assert varied.replace(**{"accuracy.cut_factor[3]": 0.5}).accuracy.cut_factor[3] == 0.5  # type: ignore[index]


def test_an_id_goes_before_a_position(cell: Instance) -> None:
    named = cell.replace(**{"devices[0].id": "1", "devices[1].id": "a.b[c]"})
    made = named.replace(**{"devices[1].batch": 7, "devices[a.b[c]].batch": 9})
    assert [device.batch for device in made.devices[:2]] == [7, 9]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("server.compute_flop_per_s", "did you mean 'server.compute_flops_per_s'?"),
        ("memory_bytes", "did you mean 'devices[dev01].memory_bytes' or 'server.memory_bytes'?"),
        ("devices[dv03].batch", "did you mean 'dev03'?"),
        ("devices[10].batch", "its positions are 0..9"),
        ("devices[-1].batch", "has no entry '-1'"),
        ("devices.batch", "as in devices[dev01].batch"),
        ("compression.modes[topk5].bits", "known: topk2, topk3, topk4"),
        ("radio.power.value", "has no fields of its own"),
        ("name[0]", "is no list"),
        ("accuracy.cut_factor[0]", "is null; give the whole list"),
        ("schema_version", "is the format's"),
        ("server..memory_bytes", "is no path"),
        ("", "is no path"),
        ("devices[dev01]batch", "is no path"),
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere_is_told(cell: Instance, path: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        cell.replace(**{path: 1})
    assert said in str(caught.value)
    assert [fault.field for fault in caught.value.faults] == [path]


def test_all_faults_are_told_at_once(cell: Instance) -> None:
    with pytest.raises(InputError, match="5 faults") as caught:
        cell.replace(
            **{
                "server.memory": 1e9,
                "devices[dev02].batch": 0,
                "devices[dev01].weight": 0.9,
                "training.local_steps": "many",
                "devices[dev99].batch": 1,
            }
        )
    fields = {fault.field for fault in caught.value.faults}
    assert fields == {
        "server.memory", "devices[1].batch", "devices.weight", "training.local_steps",
        "devices[dev99].batch",
    }  # fmt: skip


@pytest.mark.parametrize(
    "edits",
    [
        {"devices[dev03].batch": 8, "devices[2].batch": 9},
        {"server": {}, "server.memory_bytes": 1e9},
    ],
)
def test_edits_that_overlap_are_refused(cell: Instance, edits: dict[str, object]) -> None:
    with pytest.raises(InputError, match="overlaps with"):
        cell.replace(**edits)


def test_no_edits_is_the_same_cell(cell: Instance) -> None:
    assert cell.replace() is cell


@given(path=st.text(alphabet="server.[]memory_bytes0123dv", max_size=30), value=st.integers())
def test_any_path_is_an_edit_or_is_refused(path: str, value: int) -> None:
    cell = sftopt.load("tight-memory")
    try:
        made = cell.replace(**{path: value})
    except InputError:
        return
    assert path in made.source.text


def test_the_plan_of_a_cell_does_not_verify_on_an_edited_one() -> None:
    cell = sftopt.load("equal-devices")
    result = sftopt.solve(cell, solver="constructive")
    assert result.plan is not None
    assert verify_plan(cell, result.plan).feasible
    slower = cell.replace(**{"server.compute_flops_per_s": 1e12})
    assert not verify_plan(slower, result.plan).hash_matches
    copied = cell.model_copy(update={"server": slower.server})
    assert copied.hash == slower.hash


def public_models() -> Iterator[type[BaseModel]]:
    for part in ("core", "studies"):
        package = importlib.import_module(f"sftopt.{part}")
        for module in pkgutil.iter_modules(package.__path__, f"sftopt.{part}."):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, BaseModel):
                    yield value


def test_copies_of_every_model_are_checked() -> None:
    found = {model for model in public_models() if not issubclass(model, RootModel)} - {BaseModel}
    assert len(found) > 30
    assert [model.__name__ for model in found if not issubclass(model, Frozen)] == []
    assert all(model.copy is Frozen.copy for model in found)


def test_a_copy_refuses_what_reading_refuses(cell: Instance) -> None:
    with pytest.raises(ValidationError):
        cell.devices[0].model_copy(update={"batch": 0})
    with pytest.raises(ValidationError):
        cell.devices[0].model_copy(update={"batches": 3})
    with pytest.raises(ValidationError):
        cell.devices[0].copy(update={"batch": "3"})
    with pytest.raises(InputError, match="the weights sum to"):
        cell.model_copy(update={"devices": cell.devices[:2]})
    result = sftopt.solve(cell, solver="constructive")
    with pytest.raises(ValidationError):
        result.model_copy(update={"objektive_s": 1.0})
    with pytest.raises(ValidationError):
        result.times_s.model_copy(update={"solve": "long"})
    assert result.model_copy(update={"objective_s": 1.0}).objective_s == 1.0


def test_a_plain_copy_is_equal(cell: Instance) -> None:
    assert cell.hash == copy.deepcopy(cell).hash == cell.model_copy().hash
    assert isinstance(cell.devices[0].model_copy(deep=True), Device)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("server.compute", "server.compute_tflops"),
        ("radio.bandwith_mhz", "radio.bandwidth_mhz"),
        ("bandwidth_mhz", "radio.bandwidth_mhz"),
        ("server.memroy_gb", "server.memory_gb"),
        ("memory_gb", "server.memory_gb"),
        ("radio.uplink_bandwith_hz", "radio.uplink_bandwidth_hz"),
    ],
)
def test_what_is_offered_for_a_wrong_path_is_right(path: str, meant: str) -> None:
    cell = sftopt.load("jetson-vit-b")
    with pytest.raises(InputError) as raised:
        cell.replace(**{path: 40})
    assert f"'{meant}'" in str(raised.value)
    cell.replace(**{meant: 40})  # and it can be followed to the letter


def test_a_number_may_be_in_the_unit_that_its_path_names() -> None:
    cell = sftopt.load("jetson-vit-b").replace(
        **{"radio.bandwidth_mhz": 40, "server.memory_gib": 8, "devices[dev03].power_dbm": 20}
    )
    assert cell.radio.uplink_bandwidth_hz == cell.radio.downlink_bandwidth_hz == 4e7
    assert cell.server.memory_bytes == 2.0**33
    assert cell.devices[2].transmit_power_w == pytest.approx(0.1)
    with pytest.raises(InputError, match=r"'radio\.uplink_bandwidth_hz' is set twice"):
        cell.replace(**{"radio.bandwidth_mhz": 40, "radio.uplink_bandwidth_hz": 4e7})
    with pytest.raises(InputError, match=r"server\.memory_gb is 'much'; a number is needed"):
        cell.replace(**{"server.memory_gb": "much"})
