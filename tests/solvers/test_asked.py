"""Misspelt arguments and names get a sentence; what can be left out is understood."""

from __future__ import annotations

from typing import Any, cast

import pytest

import sftopt
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.instance import Mode, ModeKind
from sftopt.solvers.registry import availability, get_solver
from sftopt.studies.prices import prices
from tests.solvers.fakes import tiny


def test_a_name_in_place_of_an_instance() -> None:
    with pytest.raises(InputError, match=r"not a str; load it first: sftopt.load\('tight-"):
        sftopt.solve(cast(Any, "tight-memory"))


@pytest.mark.parametrize("call", [sftopt.build, sftopt.check], ids=["build", "check"])
def test_a_name_in_place_of_an_instance_elsewhere(call: Any) -> None:
    with pytest.raises(InputError, match=r"needs an Instance, not a str; load it first"):
        call("tight-memory")


@pytest.mark.parametrize("call", [sftopt.verify_plan, prices], ids=["verify_plan", "prices"])
def test_what_is_no_plan(call: Any) -> None:
    cell = tiny()
    result = sftopt.solve(cell)
    with pytest.raises(InputError, match=r"not a Result; give it result.plan"):
        call(cell, result)
    with pytest.raises(InputError, match=r"not a str; load it first: sftopt.Plan.load\('p.json'"):
        call(cell, "p.json")
    with pytest.raises(InputError, match=r"needs an Instance, not a str"):
        call("tight-memory", result.plan)
    with pytest.raises(TypeError, match=r"no argument 'feastol'\.|Known: instance, plan"):
        call(cell, result.plan, feastol=1e-6)


def test_a_misspelt_argument() -> None:
    solve = cast(Any, sftopt.solve)
    with pytest.raises(TypeError, match=r"no argument 'timelimit'\. Did you mean 'time_limit'"):
        solve(tiny(), timelimit=3)


def test_only_near_names_are_suggested() -> None:
    with pytest.raises(UnknownNameError) as caught:
        get_solver("nope")
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(UnknownNameError, match="Did you mean 'ipopt'"):
        get_solver("ipotp")


def test_versions_are_no_reasons() -> None:
    for name in ("certify", "native-spectrum", "constructive"):
        there = availability(get_solver(name))
        assert (there.reason, there.fix) == ("", "")
        assert there.engine_version.startswith("Num")


def test_mode_none_needs_no_bits() -> None:
    left_out = Mode.model_validate({"kind": "none"})
    assert left_out == Mode(kind=ModeKind.NONE, bits=32)
    cell = sftopt.load("tight-memory")
    made = cell.replace(**{"compression.modes": [{"kind": "none"}]})
    written = cell.replace(**{"compression.modes": [{"kind": "none", "bits": 32}]})
    assert made.hash == written.hash
