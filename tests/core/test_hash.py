"""The hash of an instance: what it covers, what it does not, and how an outsider recomputes it."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from sftopt.core.canonical import ADDED_IN_2, DEFAULTS_FILE
from sftopt.core.instance import Instance, Mode, parse_instance
from tests.face.command_line import small_data
from tests.samples import VARIANTS, sample_instance

TABLE = json.loads(DEFAULTS_FILE.read_text())


# --- by an outsider: the file, the table of defaults and the code of MODEL.md, nothing else ------

MODEL = DEFAULTS_FILE.parent.parent / "formulations" / "MODEL.md"


def recomputed(file: dict[str, Any]) -> str:
    """The hash by the lines that MODEL.md prints for outsiders."""
    (code,) = re.findall(r"^```python\n(.*?)^```", MODEL.read_text(), flags=re.M | re.S)
    assert len(code.splitlines()) < 20
    names = {"json": json, "hashlib": hashlib, "table": TABLE, "instance": file}
    exec(code, names)
    found = names["hash"]
    assert isinstance(found, str)
    return found


FULL: dict[str, Any] = {
    **small_data(3),
    "source": {"text": "somewhere"},
    "compression": {
        "modes": [
            {"bits": 2, "mask_overhead": [{"keep_from": 0, "keep_to": 1.0, "factor": 1.1}]},
            {"kind": "dense", "bits": 8, "name": "rotated", "loss": [0.1, 0.2, 0, 0.25]},
            {"kind": "tokens", "bits": 8, "tokens": 5, "gradient_bits": 8.0},
        ],
        "keep_min": None,
    },
    "training": {"local_steps": 10, "rounds_per_frame": 100},
}
FULL["workload"] = {**FULL["workload"], "heads": 4, "is_decoder": False, "side_bits": 7}
FULL["devices"] = [
    {**device, "position_m": [1, 2.5], "blocks_max": 3} for device in FULL["devices"]
]


@pytest.mark.parametrize("name", VARIANTS)
def test_an_outsider_gets_the_same_hash_from_the_written_file(name: str) -> None:
    instance = sample_instance(3, 1, **VARIANTS[name])
    assert recomputed(json.loads(json.dumps(instance.to_dict()))) == instance.hash


def test_an_outsider_gets_the_same_hash_from_a_file_written_by_hand() -> None:
    assert recomputed(FULL) == parse_instance(FULL).hash
    assert recomputed(small_data()) == parse_instance(small_data()).hash


def test_defaults_are_frozen_with_the_version() -> None:
    """Whoever changes a default of an instance makes a new schema version: hashes must stay."""
    assert dict(defaults_of(Instance, "")) == TABLE["defaults"]


def defaults_of(model: type[BaseModel], path: str) -> Iterator[tuple[str, Any]]:
    """Every default that is not null, by path, as JSON; sections are walked into."""
    for name, field in model.model_fields.items():
        inner = f"{path}.{name}".lstrip(".")
        if inner in TABLE["ignored"]:
            continue
        section = next(iter(models_in(field.annotation)), None)
        if section is not None:
            repeated = get_origin(field.annotation) is tuple
            yield from defaults_of(section, inner + "[]" * repeated)
            if not repeated:
                continue
        if not field.is_required() and field.default is not None:
            yield inner, plain(field.default)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    return value


def test_what_the_defaults_file_says_of_every_ignored_and_added_path() -> None:
    assert TABLE["ignored"] == ["accuracy.provenance", "name", "schema_version", "source"]
    assert {
        path for path in TABLE["defaults"] if path.endswith(("side_bits", "factor", "head_bytes"))
    } <= ADDED_IN_2


# --- what does not count ------------------------------------------------------------------------


def spelled(value: Any, draw: st.DrawFn, path: str = "") -> Any:
    """The same data spelled otherwise: key order, defaults written out or left out, 1 and 1.0."""
    if isinstance(value, dict):
        keys = draw(st.permutations(sorted(value)))
        found = {}
        for key in keys:
            inner = f"{path}.{key}".lstrip(".")
            if value[key] == TABLE["defaults"].get(inner) and draw(st.booleans()):
                continue
            if value[key] is None and draw(st.booleans()):
                continue
            found[key] = spelled(value[key], draw, inner)
        return found
    if isinstance(value, list):
        return [spelled(entry, draw, path + "[]") for entry in value]
    if isinstance(value, float) and value.is_integer() and draw(st.booleans()):
        return int(value)
    return value


@st.composite
def spellings(draw: st.DrawFn) -> dict[str, Any]:
    data = parse_instance(FULL).to_dict()
    data["name"] = draw(st.text(max_size=5))
    data["source"] = {"text": draw(st.text(max_size=5)), "seed": draw(st.integers())}
    data["accuracy"]["provenance"] = draw(st.text(max_size=5))
    found: dict[str, Any] = spelled(data, draw)
    return found


@settings(max_examples=60, deadline=None)
@given(spellings())
def test_spelling_names_source_and_provenance_do_not_count(data: dict[str, Any]) -> None:
    assert parse_instance(data).hash == parse_instance(FULL).hash == recomputed(data)


def test_a_mode_called_by_its_own_label_is_the_same_mode() -> None:
    named = copy.deepcopy(FULL)
    for mode, name in zip(named["compression"]["modes"], ("topk2", "rotated", "tokens5-8"),
                          strict=True):  # fmt: skip
        mode["name"] = name
    assert parse_instance(named).hash == parse_instance(FULL).hash
    assert parse_instance(named) == parse_instance(FULL)


# --- what counts --------------------------------------------------------------------------------


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from leaves(entry, (*place, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from leaves(entry, (*place, index))
    else:
        yield place, value


NUMBERS = [
    place for place, value in leaves(parse_instance(FULL).to_dict())
    if isinstance(value, int | float) and not isinstance(value, bool)
    and place[0] not in ("source", "schema_version")
]  # fmt: skip


@pytest.mark.parametrize("place", NUMBERS, ids=lambda place: ".".join(map(str, place)))
def test_every_number_counts(place: tuple[Any, ...]) -> None:
    data = parse_instance(FULL).to_dict()
    holder = data
    for part in place[:-1]:
        holder = holder[part]
    value = holder[place[-1]]
    for other in (value + 1, value - 1, value * 0.999, value * 1.001, 0.5, 16):
        if other == value:
            continue
        holder[place[-1]] = other
        try:
            changed = Instance.model_validate(data)
        except ValidationError:
            continue
        assert changed.hash != parse_instance(FULL).hash
        return
    raise AssertionError("no other value was legal")


@pytest.mark.parametrize(
    "change",
    [
        {"workload": {"name": "another"}},
        {"workload": {"model_type": "vit"}},
        {"workload": {"is_decoder": True}},
        {"workload": {"head_bytes": 0.0}},  # known to be nothing is not unknown
        {"radio": {"power": "total"}},
        {"accuracy": {"metric": "other"}},
        {"accuracy": {"minimum_each": 0.1}},
        {"accuracy": {"quantisation_scales_with_keep": False}},
    ],
)
def test_words_and_options_count(change: dict[str, Any]) -> None:
    data = copy.deepcopy(FULL)
    for section, fields in change.items():
        data[section] = {**data[section], **fields}
    assert parse_instance(data).hash != parse_instance(FULL).hash


# --- copies -------------------------------------------------------------------------------------


def test_a_copy_with_changes_has_its_own_hash_and_is_validated() -> None:
    instance = sample_instance(3, 1)
    before = instance.hash, instance.hash_v1
    training = instance.training.model_copy(update={"local_steps": 11})
    other = instance.model_copy(update={"training": training})
    assert other.hash != before[0]
    assert other.hash_v1 != before[1]
    assert other.hash == Instance.model_validate(other.to_dict()).hash
    assert (instance.hash, instance.hash_v1) == before
    with pytest.raises(ValidationError, match="local_steps"):
        instance.training.model_copy(update={"local_steps": 0})
    with pytest.raises(ValidationError, match="surprise"):
        instance.model_copy(update={"surprise": 1})
    assert instance.model_copy() == instance.model_copy(deep=True) == instance
    assert pickle.loads(pickle.dumps(instance)).hash == instance.hash


def test_modes_of_equal_kind_and_bits_are_told_apart_by_name() -> None:
    data = small_data()
    data["compression"]["modes"] = [
        {"kind": "dense", "bits": 8},
        {"kind": "dense", "bits": 8, "value_bits": 2.1, "name": "dead-zone"},
    ]
    modes = parse_instance(data).compression.modes
    assert [mode.label for mode in modes] == ["dense8", "dead-zone"]
    assert Mode(kind="none", bits=16).label == "none"  # type: ignore[arg-type]
