"""MODEL.md against the code: the map of equations holds both ways, and names are as documented."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pyomo.environ as pyo
import pytest

import sftopt
from sftopt.core.derived import derive
from sftopt.formulations.registry import get_formulation
from tests.samples import VARIANTS, sample_instance

ROOT = Path(sftopt.__file__).parent
TEXT = (ROOT / "formulations" / "MODEL.md").read_text(encoding="utf-8")
SHARED = ("accuracy", "adapters", "channel", "coefficients", "delay", "derived",
          "derived_arrays", "entropy",
          "least_time", "memory", "orders", "payload", "point", "round", "spectrum",
          "violations")  # fmt: skip
"""Files of the core that calculate: the judge, derived arrays and the round."""
MENTION = re.compile(r"(?:[Ee]quations?|[Pp]roblem)((?:[\s,]|and|or|-|\(\d{1,2}\))+)")


def documented() -> dict[int, set[str]]:
    """Equation -> dotted names, from the table in the last section."""
    table = TEXT.split("## 5. Equation by equation")[1]
    rows = re.findall(r"^\| \((\d+)\) \|(.*)$", table, flags=re.MULTILINE)
    return {int(number): set(re.findall(r"`([\w.]+)`", rest)) for number, rest in rows}


def numbers_in(text: str) -> set[int]:
    """The equations a docstring names; ranges such as (1)-(8) are spelt out."""
    found: set[int] = set()
    for run in MENTION.findall(text):
        found.update(int(n) for n in re.findall(r"\((\d{1,2})\)", run))
        for low, high in re.findall(r"\((\d{1,2})\)-\((\d{1,2})\)", run):
            found.update(range(int(low), int(high) + 1))
    return found


def in_code() -> dict[int, set[str]]:
    """Equation -> dotted names, from the docstrings of the judge, derived and formulations."""
    files = [ROOT / "core" / f"{name}.py" for name in SHARED]
    files += sorted((ROOT / "formulations").rglob("*.py"))
    found: dict[int, set[str]] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                for number in numbers_in(ast.get_docstring(node) or ""):
                    found.setdefault(number, set()).add(f"{prefix}{node.name}")

    for file in files:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        visit(ast.parse(file.read_text(encoding="utf-8")).body, f"{module}.")
    return found


def resolve(name: str) -> Any:
    """The module, function or method of a dotted name below ``sftopt``."""
    found: Any = sftopt
    path = "sftopt"
    for part in name.split("."):
        path += f".{part}"
        is_module = hasattr(found, "__path__") and importlib.util.find_spec(path) is not None
        found = importlib.import_module(path) if is_module else getattr(found, part)
    return found


def test_every_equation_is_stated_and_mapped() -> None:
    stated = {int(n) for n in re.findall(r"^\*\*\((\d+)\)", TEXT, flags=re.MULTILINE)}
    assert stated == set(range(1, 17))
    assert set(documented()) == stated


@pytest.mark.parametrize("number", range(1, 17))
def test_every_function_named_exists_and_names_the_equation(number: int) -> None:
    names = documented()[number]
    assert names
    for name in names:
        doc = resolve(name).__doc__ or ""
        assert number in numbers_in(doc) or f"({number})" in doc, name


@pytest.mark.parametrize("number", range(1, 17))
def test_every_function_that_names_an_equation_is_mapped(number: int) -> None:
    missing = in_code().get(number, set()) - documented().get(number, set())
    assert missing == set()


@pytest.mark.parametrize("form", ["joint-product", "joint-ratio", "joint-reduced", "joint-relaxed"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_component_follows_the_grammar_and_is_documented(form: str, variant: str) -> None:
    model = get_formulation(form).build(derive(sample_instance(**VARIANTS[variant])), None)
    kinds = {pyo.Var: "var_", pyo.Constraint: "con_", pyo.Objective: "obj_"}
    for kind, prefix in kinds.items():
        for component in model.component_objects(kind):
            assert component.name.startswith(prefix)
            general = component.name.replace("con_adapter_", "con_uplink_")
            assert f"`{component.name}" in TEXT or f"`{general}`" in TEXT, component.name


def test_indices_are_device_ids_and_option_labels() -> None:
    model = get_formulation("joint-ratio").build(
        derive(sample_instance(2, **VARIANTS["omega intervals"])), None
    )
    assert set(model.var_blocks) == set(model.con_uplink_time) == {"dev0", "dev1"}
    labels = {label for _, label in model.var_mode}
    assert "topk2" in labels
    assert len(labels) == 3
    assert sum(label.startswith("topk4@") for label in labels) == 2
    common = get_formulation("joint-product").build(
        derive(sample_instance(2, accuracy={"scope": "common"})), None
    )
    assert set(common.var_keep) == {"all"}
