"""The reference leaves nothing out: public names, options of commands, fields of files."""

from __future__ import annotations

import sys
from pathlib import Path

import sftopt
import sftopt.plugins
from sftopt.face.commands.schema import SCHEMAS, json_schema
from sftopt.formulations.registry import formulation_names
from sftopt.solvers.registry import solver_names

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "_ext"))

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
