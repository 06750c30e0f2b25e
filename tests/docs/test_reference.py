"""The reference leaves nothing out: public names, options of commands, fields of files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import sftopt
import sftopt.plugins
from sftopt.face.commands.schema import SCHEMAS, json_schema
from sftopt.formulations.registry import formulation_names
from sftopt.solvers.registry import solver_names

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "_ext"))

import equation_pages
import reference_pages


def test_every_option_of_every_command_is_there() -> None:
    page = reference_pages.command_reference()
    options = {
        option
        for _, command in reference_pages.commands()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and not getattr(parameter, "hidden", False)
    }
    assert len(options) > 50
    assert sorted(option for option in options if option not in page) == []
    assert [
        words for words, _ in reference_pages.commands() if f"## sftopt {words}" not in page
    ] == []


def test_every_field_of_every_file_is_there() -> None:
    page = reference_pages.schema_reference()
    for name in SCHEMAS:
        for _, field, _ in reference_pages.fields_of(json_schema(name)):
            assert f"| `{field}` |" in page, f"{name}: {field}"


def test_every_public_name_is_there() -> None:
    page = reference_pages.python_reference()
    for module in (sftopt, sftopt.plugins):
        names = [name for name in module.__all__ if not name.startswith("__")]
        assert len(names) > 10
        for name in names:
            assert f"{module.__name__}.{name}\n" in page


def test_every_formulation_and_solver_is_there_with_its_promise() -> None:
    page = reference_pages.solver_reference()
    for name in [*formulation_names(), *solver_names()]:
        assert f"### {name}\n" in page
    assert page.count("- promise: ") == len(formulation_names())


def test_every_equation_has_its_statement_code_and_tests() -> None:
    """All functions and tests that the page names exist; each equation has both."""
    page = equation_pages.equations()
    mapped, stated = equation_pages.mapped(), equation_pages.statements()
    assert set(mapped) == set(stated) == set(equation_pages.TESTS) == set(range(1, 17))
    for number, (what, judge, algebra) in mapped.items():
        assert f"## ({number}) {what}\n" in page
        assert stated[number].startswith(f"**({number})")
        assert judge or algebra
        assert equation_pages.TESTS[number]
        for name in (*judge, *algebra):
            assert f"- `{name}` in `sftopt/" in page
    assert page.count("- `test_") == sum(map(len, equation_pages.TESTS.values()))


def test_code_and_tests_that_are_not_there_are_noticed() -> None:
    assert equation_pages.place("core.payload.mask_factor")[0] == "sftopt/core/payload.py"
    with pytest.raises(KeyError):
        equation_pages.place("core.payload.no_such_function")
    with pytest.raises(KeyError):
        equation_pages.place_of_test("core/test_payload.py::test_no_such")


def test_what_the_reference_leaves_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks above can fail: a public name, an option and a field more than the pages have."""
    monkeypatch.setattr(sftopt, "__all__", [*sftopt.__all__, "surprise"])
    with pytest.raises((AssertionError, AttributeError)):
        test_every_public_name_is_there()
    monkeypatch.setattr(reference_pages, "command_reference", lambda: "## sftopt plan")
    with pytest.raises(AssertionError):
        test_every_option_of_every_command_is_there()
    monkeypatch.setattr(reference_pages, "schema_reference", lambda: "| `name` |")
    with pytest.raises(AssertionError):
        test_every_field_of_every_file_is_there()
