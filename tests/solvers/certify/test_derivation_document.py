"""DERIVATION.md against the code: the table of statements holds both ways."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import sftopt.solvers.certify as package

ROOT = Path(package.__file__).parent
TEXT = (ROOT / "DERIVATION.md").read_text(encoding="utf-8")
STATEMENTS = range(1, 19)
MENTION = re.compile(r"\bStatements?\s+(\d+(?:(?:,\s*|\s+and\s+)\d+)*)")


def documented() -> dict[int, set[str]]:
    """Statement -> names such as ``bound.boxes.first_box``, from the table in the last section."""
    table = TEXT.split("## Statement by statement")[1]
    rows = re.findall(r"^\| (\d+) \|(.*)$", table, flags=re.MULTILINE)
    return {int(number): set(re.findall(r"`([\w.]+)`", rest)) for number, rest in rows}


def numbers_in(text: str) -> set[int]:
    """The statements that a docstring names."""
    return {int(n) for found in MENTION.findall(text) for n in re.findall(r"\d+", found)}


def in_code() -> dict[str, set[int]]:
    """Name -> statements, from the docstrings of functions, classes, their fields and constants."""
    found: dict[str, set[int]] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node, below in zip(body, [*body[1:], ast.Pass()], strict=True):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[prefix + node.name] = numbers_in(ast.get_docstring(node) or "")
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            said = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            target = node.target if isinstance(node, ast.AnnAssign) else target
            if said and isinstance(target, ast.Name):
                found[prefix + target.id] = numbers_in(str(below.value.value))  # type: ignore[attr-defined]

    for file in sorted(ROOT.rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        visit(ast.parse(file.read_text(encoding="utf-8")).body, f"{module}.")
    return found


def test_every_statement_has_a_heading_and_a_row() -> None:
    stated = [int(n) for n in re.findall(r"^## Statement (\d+): \S", TEXT, flags=re.MULTILINE)]
    assert stated == list(STATEMENTS)
    assert set(documented()) == set(STATEMENTS)


@pytest.mark.parametrize("number", STATEMENTS)
def test_every_statement_is_proven_and_says_what_uses_it(number: int) -> None:
    section = re.split(r"^## ", TEXT.split(f"## Statement {number}: ")[1], flags=re.MULTILINE)[0]
    assert "*Proof.*" in section
    assert "*Used by*" in section


@pytest.mark.parametrize("number", STATEMENTS)
def test_every_name_in_the_table_exists_and_names_the_statement(number: int) -> None:
    names, code = documented()[number], in_code()
    assert names
    for name in names:
        assert name in code, name
        assert number in code[name], name


@pytest.mark.parametrize("number", STATEMENTS)
def test_every_docstring_that_names_a_statement_is_in_the_table(number: int) -> None:
    naming = {name for name, numbers in in_code().items() if number in numbers}
    assert naming - documented()[number] == set()


def test_files_named_in_the_text_exist() -> None:
    for file in re.findall(r"`((?:bound|plan)/\w+\.py|\w+\.py)`", TEXT):
        assert (ROOT / file).exists(), file
