"""The map from papers to code: every field and every function that it names exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from sftopt.core.instance import Instance
from sftopt.core.plan import Plan

PAGE = (Path(__file__).parent.parent / "docs" / "paper-map.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([a-z_0-9A-Z.]+\.[a-z_0-9A-Z.]+)`", PAGE)
CODE = ("core.", "solvers.")


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, itself or in a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [model_of(part) for part in getattr(annotation, "__args__", ())]
    return next((found for found in inner if found is not None), None)


def leads_somewhere(path: str) -> bool:
    """Whether a dotted path is a field of an instance or, after ``plan.``, of a plan."""
    here: type[BaseModel] | None = Plan if path.startswith("plan.") else Instance
    for name in path.removeprefix("plan.").split("."):
        if here is None or name not in here.model_fields:
            return False
        here = model_of(here.model_fields[name].annotation)
    return True


def is_code(path: str) -> bool:
    """Whether a path below the package is a module or something in one."""
    module, _, name = path.rpartition(".")
    try:
        import_module(f"sftopt.{path}")
    except ModuleNotFoundError:
        return hasattr(import_module(f"sftopt.{module}"), name)
    return True


def test_fields_and_functions_exist() -> None:
    fields = [name for name in NAMED if not name.startswith(CODE)]
    functions = [name for name in NAMED if name.startswith(CODE)]
    assert len(fields) > 35
    assert len(functions) > 12
    assert [name for name in fields if not leads_somewhere(name)] == []
    assert [name for name in functions if not is_code(name)] == []


def test_what_does_not_exist_is_seen() -> None:
    assert leads_somewhere("devices.memory_bytes")
    assert not leads_somewhere("devices.memory")
    assert not leads_somewhere("plan.devices.memory_bytes")
    assert is_code("core.payload.keep_limit")
    assert not is_code("core.payload.keep_limits")


def test_every_equation_has_a_line() -> None:
    part = PAGE.split("## Equations")[1].split("## Claims")[0]
    numbers: set[int] = set()
    for line in part.splitlines():
        first = line.split("|")[1] if line.startswith("| (") else ""
        for low, high in re.findall(r"\((\d+)\)(?:-\((\d+)\))?", first):
            numbers |= set(range(int(low), int(high or low) + 1))
    assert numbers == set(range(1, 16))
