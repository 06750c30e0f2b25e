"""Suite files: every fault at once, what they expand to, and what is in a row's key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.families import FAMILIES, generate
from sftopt.solvers.exhaustive.space import combination_count
from sftopt.studies.race.cases import case_of, cases_of
from sftopt.studies.race.plan import Wanted, planned
from sftopt.studies.race.reduce import reduced
from sftopt.studies.race.row import InstanceRef
from sftopt.studies.race.suite import FOLDER, Suite, load_suite, parse_suite, suite_names


def data(**changes: Any) -> dict[str, Any]:
    return {
        "name": "mine",
        "limit_s": 5.0,
        "instances": [{"family": "jetson-vit-b", "devices": [2, 3]}],
        "entries": [{"solver": "certify"}, {"solver": "scip", "formulation": "joint-product"}],
        **changes,
    }


def test_every_fault_is_named_at_once_with_the_likely_name() -> None:
    wrong = data(
        limit={"factor": 10.0, "of": "certfy"},
        limt_s=4,
        rel_gap=-1.0,
        instances=[
            {"family": "jetson-vitb"},
            {"path": "nowhere.json"},
            {"family": ["weichen", "weichen"], "devices": [1, 2, 3], "pairing": "zip"},
        ],
        entries=[
            {"solver": "certfy"},
            {"solver": "scip", "formulation": "joint-prodct"},
            {"solver": "scip", "formulation": "joint-prodct", "optons": {}},
        ],
    )
    with pytest.raises(InputError) as caught:
        parse_suite(wrong, "mine")
    text = "\n".join(fault.message for fault in caught.value.faults)
    for part in (
        "limt_s: there is no such field (did you mean 'limit_s'?)",
        "rel_gap: is -1.0",
        "entries[2].optons: there is no such field (did you mean 'options'?)",
        "one of limit_s (seconds) and [limit]",
        "no family 'jetson-vitb'; did you mean 'jetson-vit-b'?",
        "no file 'nowhere.json'",
        "zip pairs lists of one length",
        "no solver 'certfy'; did you mean 'certify'?",
        "no formulation 'joint-prodct'; did you mean 'joint-product'?",
        "is there twice",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("content", "said"), [("name = ", "is no TOML"), ("name = 'x'", "is missing")]
)
def test_files_that_are_no_suite(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        load_suite(str(path))


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'smoke'"):
        load_suite("smok")
    with pytest.raises(InputError, match="no such file"):
        load_suite("folder/smoke.toml")


@pytest.mark.parametrize("name", suite_names())
def test_bundled_suites_are_sound(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert suite.description
    read = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    jsonschema.validate(read, Suite.model_json_schema())


def test_the_seven_are_there_and_hold_the_cells_that_are_hard_for_us() -> None:
    seven = {"smoke", "paper", "large", "small", "ground-truth", "scaling", "anytime"}
    assert set(suite_names()) == seven
    for name in seven - {"small"}:
        families = {
            family
            for part in load_suite(name).instances
            for family in ([part.family] if isinstance(part.family, str) else part.family)
        }
        assert {"equal-devices", "llama-1b"} <= families, name


def test_the_papers_table_ends_within_a_hundred_minutes() -> None:
    suite = load_suite("paper")
    assert suite.limit_s is not None
    runs = planned(suite)
    assert len(runs) * suite.limit_s <= 6000.0
    assert len({run.case.name for run in runs}) >= 20, "enough for a profile"
    assert {len(run.case.instance.devices) for run in runs} == {2, 3, 5, 8, 12, 20}


def test_product_and_zip() -> None:
    lists = {"family": ["weichen", "straggler"], "devices": [2, 3], "seed": [5, 6]}
    whole = parse_suite(data(instances=[lists]), "x")
    assert len(list(cases_of(whole))) == 8
    pairs = parse_suite(data(instances=[{**lists, "pairing": "zip"}]), "x")
    assert [case.name for case in cases_of(pairs)] == ["weichen-n2-s5", "straggler-n3-s6"]
    first = next(iter(cases_of(pairs))).instance
    assert first.hash == generate("weichen", 2, 5).hash


def test_changes_are_made_and_named() -> None:
    change = {"blocks": 24, "power": "total", "set": {"radio.uplink_bandwidth_hz": 1e6}}
    suite = parse_suite(
        data(instances=[{"family": "jetson-vit-b", "devices": 2, "change": change}]), "x"
    )
    (case,) = cases_of(suite)
    assert case.instance.workload.blocks == 24
    assert case.instance.radio.power.value == "total"
    assert case.instance.radio.uplink_bandwidth_hz == 1e6
    assert case.name == "jetson-vit-b-n2-s0-blocks24-powertotal-edited"
    whole = generate("jetson-vit-b", 2).workload
    assert case.instance.workload.block_forward_flops * 24 == pytest.approx(
        whole.block_forward_flops * whole.blocks
    )


@pytest.mark.parametrize(
    ("change", "alike"), [({"devices_alike": True}, True), ({"slow_device": 1e-4}, False)]
)
def test_rounds_are_drawn_again_from_what_a_row_says(
    change: dict[str, Any], alike: bool, tmp_path: Path
) -> None:
    instances = [{"family": "weichen", "devices": 3, "seed": 4, "change": change}]
    (case,) = cases_of(parse_suite(data(problem="round", instances=instances), "x"))
    assert case.channel is not None
    gains = case.channel.uplink_gain
    assert bool((gains == gains[0]).all()) is alike
    row = InstanceRef(
        name=case.name,
        hash=case.instance.hash,
        round_hash=case.round_hash,
        devices=3,
        generator=case.generator,
    )
    assert case_of(row, tmp_path).round_hash == case.round_hash
    with pytest.raises(InputError, match="comes out differently"):
        case_of(row.model_copy(update={"hash": "0" * 64}), tmp_path)


def test_the_key_is_of_what_is_asked() -> None:
    def keys(**changes: Any) -> list[str]:
        wanted = changes.pop("wanted", Wanted())
        versions = changes.pop("versions", {})
        return [
            run.keyed(versions).key for run in planned(parse_suite(data(**changes), "x"), wanted)
        ]

    usual = keys()
    assert len(set(usual)) == 4
    assert keys(name="other", description="words") == usual, "a suite's name is no part of a run"
    assert set(keys(entries=data()["entries"][::-1])) == set(usual)
    for change in (
        {"limit_s": 6.0},
        {"rel_gap": 1e-3},
        {"memory_mb": 1.0},
        {"threads": 2},
        {"start": "own"},
        {"seeds": [1]},
        {"versions": {"certify": {"engine": "2"}, "scip": {"engine": "2"}}},
        {"wanted": Wanted(limit_s=7.0)},
    ):
        assert not set(keys(**change)) & set(usual), change


def test_what_others_wait_for_runs_first() -> None:
    limit = {"factor": 100.0, "of": "scip/joint-product"}
    given = {key: value for key, value in data(limit=limit).items() if key != "limit_s"}
    runs = planned(parse_suite(given, "x"), Wanted(solvers=("certify",)))
    assert [run.entry.name for run in runs[:2]] == ["scip/joint-product", "certify/native"]
    assert runs[1].limit == {"factor": 100.0, "of": "scip/joint-product", "least_s": 2.0}


def test_wanted_names_that_the_suite_does_not_have() -> None:
    suite = parse_suite(data(), "x")
    with pytest.raises(UnknownNameError, match="solver of this suite 'scipp'"):
        planned(suite, Wanted(solvers=("scipp",)))
    with pytest.raises(InputError, match="nothing is left"):
        planned(suite, Wanted(sizes=(99,)))


@pytest.mark.parametrize("place", [4, 7])
def test_a_reduced_instance_stays_feasible_and_small(place: int) -> None:
    (cells,) = load_suite("ground-truth").instances
    assert isinstance(cells.family, tuple)
    assert isinstance(cells.devices, tuple)
    full = generate(cells.family[place], cells.devices[place], place)
    instance = reduced(full, 2_000)
    assert check(instance).feasible
    assert combination_count(derive(instance)) <= 2_000 < combination_count(derive(full))
    assert [device.id for device in instance.devices] == [device.id for device in full.devices]


def test_the_ground_truth_covers_every_feasible_family_and_size() -> None:
    (cells,) = load_suite("ground-truth").instances
    assert isinstance(cells.devices, tuple)
    drawn = list(zip(cells.family, cells.devices, strict=True))
    assert {family for family, _ in drawn} == {f.name for f in FAMILIES.values() if f.feasible}
    assert {size for _, size in drawn} == {2, 3, 4, 5}
    assert len(set(drawn)) >= 30
    assert cells.seed == tuple(range(40))
