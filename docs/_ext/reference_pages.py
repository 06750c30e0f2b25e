"""Sphinx extension: the reference, written from the code, so that it cannot fall behind.

Each function makes one page's text in MyST Markdown; pages hold a line ``%% written: NAME`` where
it goes.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer
from equation_pages import equations

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_MARK = re.compile(r"^%% written: (\w+)$", re.MULTILINE)


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command's words and the command itself, in the order of the help."""
    from sftopt.face.cli import app

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        verbs = getattr(command, "commands", None)
        if words:
            yield words, command
        for name, verb in (verbs or {}).items():
            yield from walk(f"{words} {name}".strip(), verb)

    yield from walk("", typer.main.get_command(app))


def command_reference() -> str:
    """Write every command with its help text and all its options."""
    from typer.testing import CliRunner

    from sftopt.face.cli import app

    parts = []
    for words, _ in commands():
        shown = CliRunner().invoke(
            app, [*words.split(), "--help"], prog_name="sftopt", env={"COLUMNS": "90"}
        )
        parts.append(f"## sftopt {words}\n\n```text\n{shown.output.rstrip()}\n```\n")
    return "\n".join(parts)


def fields_of(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield section, field and description of every field of a JSON schema."""
    sections = {schema.get("title", "document"): schema, **schema.get("$defs", {})}
    for title, section in sections.items():
        for name, field in section.get("properties", {}).items():
            yield title, name, field


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(one) for one in field["anyOf"]))
    if field.get("type") == "array":
        items = field.get("items", {})
        return f"list of {_kind(items)}" if items else "list"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    return str(field.get("type", "any"))


def _range(field: dict[str, Any]) -> str:
    lowest = field.get("exclusiveMinimum", field.get("minimum"))
    highest = field.get("maximum")
    sign = ">" if "exclusiveMinimum" in field else ">="
    parts = []
    if lowest is not None and abs(lowest) < 1e30:
        parts.append(f"{sign} {lowest:g}")
    if highest is not None and abs(highest) < 1e30:
        parts.append(f"<= {highest:g}")
    if "default" in field:
        parts.append(f"default {field['default']}")
    return ", ".join(parts)


def schema_reference() -> str:
    """Write every field of the files that sftopt reads and writes."""
    from sftopt.face.commands.schema import SCHEMAS, json_schema

    parts = []
    for name in SCHEMAS:
        schema = json_schema(name)
        parts.append(f"## {name}\n\n`sftopt schema {name}` prints it as JSON Schema.\n")
        last = ""
        for title, field_name, field in fields_of(schema):
            if title != last:
                text = schema if title == schema.get("title") else schema["$defs"][title]
                parts.append(f"\n### {title} ({name})\n\n{_cell(text.get('description', ''))}\n")
                parts.append("| field | type | range | what it is |\n|---|---|---|---|")
                last = title
            parts.append(
                f"| `{field_name}` | {_cell(_kind(field))} | {_cell(_range(field))} | "
                f"{_cell(field.get('description', ''))} |"
            )
        parts.append("")
    return "\n".join(parts)


def solver_reference() -> str:
    """Write every formulation with its promise and every solver with what it takes."""
    from sftopt.formulations.registry import formulation_names, get_formulation
    from sftopt.solvers.registry import formulations_for, get_solver, solver_names

    parts = ["## Formulations\n"]
    for name in formulation_names():
        entry = get_formulation(name)
        parts.append(
            f"### {name}\n\n{entry.summary}\n\n- promise: {entry.promise.value}\n"
            f"- class: {entry.problem_class.value}\n\n{_source_of(entry)}\n"
        )
    parts.append("## Solvers\n")
    for name in solver_names():
        solver = get_solver(name)
        takes = ", ".join(f"`{one}`" for one in formulations_for(solver))
        parts.append(
            f"### {name}\n\n{solver.summary}\n\n- takes: {takes}\n\n{_source_of(solver)}\n"
        )
    return "\n".join(parts)


def _source_of(entry: Any) -> str:
    """The docstring of an entry's module: what it does, its source, its limits."""
    import sys

    text = sys.modules[type(entry).__module__].__doc__ or ""
    return text.strip().replace("``", "`")


def python_reference() -> str:
    """Write the names of `sftopt` and of `sftopt.plugins` for autodoc."""
    parts: list[str] = []
    seen: set[str] = set()
    for module in ("sftopt", "sftopt.plugins"):
        parts.append(f"## {module}\n")
        for name, kind in public_names(module):
            options = "\n   :members:" if kind == "class" else ""
            if name in seen:  # in both lists: indexed once
                options += "\n   :no-index:"
            seen.add(name)
            parts.append(f"```{{eval-rst}}\n.. auto{kind}:: {module}.{name}{options}\n\n```\n")
    return "\n".join(parts)


def public_names(module: str) -> Iterator[tuple[str, str]]:
    """Yield every name of ``__all__`` and whether it is a class, an exception or a function."""
    from importlib import import_module

    home = import_module(module)
    for name in home.__all__:
        value = getattr(home, name)
        if name.startswith("__"):
            continue
        if isinstance(value, type):
            yield name, "exception" if issubclass(value, BaseException) else "class"
        else:
            yield name, "function"


PAGES: dict[str, Callable[[], str]] = {
    "commands": command_reference,
    "schemas": schema_reference,
    "solvers": solver_reference,
    "python": python_reference,
    "equations": equations,
}
"""Mark in a page -> who writes the text there."""


def _read(_app: Sphinx, _name: str, source: list[str]) -> None:
    def written(match: re.Match[str]) -> str:
        with contextlib.redirect_stdout(io.StringIO()):
            return PAGES[match.group(1)]()

    source[0] = _MARK.sub(written, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill the marks while pages are read."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
