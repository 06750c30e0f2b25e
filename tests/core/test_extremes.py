"""Extreme numbers, texts and sizes are refused by name, or the judge and check take them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sftopt
from sftopt.core.check import check
from sftopt.core.errors import InputError
from sftopt.core.files import FILE_LIMIT_VARIABLE, read_json
from sftopt.core.instance import Instance, parse_instance
from sftopt.core.parse import parse_model
from sftopt.core.plan import Plan
from sftopt.core.verify import verify_plan
from tests.samples import sample_instance

CELL = sftopt.load("tight-memory").to_dict()

Path_ = tuple[int | str, ...]


def leaves(data: Any, place: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every single value of plain data; of lists the first entry."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from leaves(value, (*place, name))
    elif isinstance(data, list):
        for index, value in list(enumerate(data))[:1]:
            yield from leaves(value, (*place, index))
    else:
        yield place, data


def changed(data: dict[str, Any], place: Path_, value: Any) -> dict[str, Any]:
    made = deepcopy(data)
    holder: Any = made
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = value
    return made


NUMBERS = [
    place
    for place, value in leaves(CELL)
    if isinstance(value, int | float) and not isinstance(value, bool)
]
TEXTS = [place for place, value in leaves(CELL) if isinstance(value, str)]


@pytest.mark.parametrize(
    "value", [0, 1e-60, 1e40, 1e308, 1e-308, -1.0, 10**15, 2**63, 10**309, 10**5000, float("inf")],
    ids=lambda value: f"{type(value).__name__}{len(str(value)) if value < 1e300 else 'huge'}",
)  # fmt: skip
def test_any_number_in_any_field_is_refused_or_taken(value: float) -> None:
    for place in NUMBERS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                check(parse_instance(changed(CELL, place, value)))
            except InputError as error:
                told = str(error)
            else:
                told = ""
        assert len(told) < 5000, place


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("radio.noise_w_per_hz", 1e308, ": is 1e+308 W/Hz; it must be at most 1e+40"),
        ("radio.noise_w_per_hz", 0.0, "it must be above 0.0 W/Hz"),
        ("accuracy.quantisation_loss", 1e-308, "is 1e-308; it must be 0, or at least 1e-60"),
        ("workload.blocks", 10**15, ": is 1000000000000000; it must be at most 10000"),
        ("workload.hidden", 10**309, "hidden: is a whole number of more than 300 digits"),
        ("server.memory_bytes", 10**309, "_bytes: is a whole number of more than 300 digits"),
        ("training.local_steps", 2**63, ": is 9223372036854775808; it must be at most 9007199"),
    ],
)  # fmt: skip
def test_the_field_the_value_and_the_limit_are_named(path: str, value: Any, said: str) -> None:
    place = tuple(path.split("."))
    with pytest.raises(InputError) as caught:
        parse_instance(changed(CELL, place, value))
    assert said in str(caught.value)
    assert path in str(caught.value)


@pytest.mark.parametrize("place", TEXTS, ids=lambda place: ".".join(map(str, place)))
def test_every_text_has_a_longest_length(place: Path_) -> None:
    with pytest.raises(InputError) as caught:
        parse_instance(changed(CELL, place, "x" * 10**6))
    assert len(str(caught.value)) < 1000


def test_devices_blocks_and_modes_together_have_room(tmp_path: Path) -> None:
    large = changed(CELL, ("workload", "blocks"), 10_000)
    modes = [{"bits": 1 + i % 32, "name": f"m{i}"} for i in range(1000)]
    data = changed(large, ("compression", "modes"), modes)
    device = data["devices"][0]
    data["devices"] = [{**device, "id": f"d{i}", "weight": 0.01} for i in range(100)]
    with pytest.raises(InputError, match="fewer devices, blocks or modes"):
        parse_instance(data)


def test_a_file_of_insane_size_is_refused_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cell.json"
    file.write_text(json.dumps(CELL), encoding="utf-8")
    monkeypatch.setenv(FILE_LIMIT_VARIABLE, "1000")
    with pytest.raises(InputError, match=f"larger than 1000 bytes.*set {FILE_LIMIT_VARIABLE}"):
        read_json(file, "instance")
    monkeypatch.setenv(FILE_LIMIT_VARIABLE, "1000000")
    assert read_json(file, "instance") == CELL


@cache
def judged_cells() -> list[tuple[Instance, dict[str, Any]]]:
    """Cells of several variants, each with a feasible plan."""
    cells = [
        sample_instance(3, 1),
        sample_instance(2, 2, radio={"power": "total", "adapter_downlink": "multicast"}),
        sample_instance(2, 3, accuracy={"cut_factor": [1.0] * 12}),
        sample_instance(2, 4, modes=(4, {"kind": "none", "bits": 32}, {"kind": "dense", "bits": 8}),
                        ),
    ]  # fmt: skip
    found = []
    for cell in cells:
        plan = sftopt.solve(cell, solver="constructive").plan
        assert plan is not None
        found.append((cell, plan.to_dict()))
    return found


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([2**53, -(2**53), 10**309, 0, -1]),
    st.floats(), st.sampled_from([0.0, -0.0, 1.0, 1e40, -1e40, 1e-40, 5e-324]), st.text(max_size=9),
    st.sampled_from(["topk", "dense", "none", "tokens", "parallel", "federated", "", "dev0"]),
)  # fmt: skip


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_plan_makes_the_judge_raise(data: st.DataObject) -> None:
    cell, made = data.draw(st.sampled_from(judged_cells()))
    places = [place for place, _ in leaves(made) if place[0] != "breakdown"]
    for place in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=4)):
        made = changed(made, place, data.draw(ODD))
    devices = data.draw(st.sampled_from(["as they are", "none", "twice", "one less"]))
    parts = made["devices"]
    made["devices"] = {
        "as they are": parts, "none": [], "twice": parts + parts[:1], "one less": parts[1:],
    }[devices]  # fmt: skip
    try:
        plan = parse_model(Plan, made, "plan")
    except InputError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = verify_plan(cell, plan)
    json.dumps([item.model_dump(mode="json") for item in verdict.violations], allow_nan=False)
    assert verdict.feasible == (not verdict.violations and verdict.objective_s is not None
                                and verdict.hash_matches)  # fmt: skip
