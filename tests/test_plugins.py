"""The interface of third parties: its names, and the template package as an outsider uses it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftopt import plugins
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.formulations.registry import get_formulation
from tests.solvers.fakes import tiny

TEMPLATE = Path(__file__).parents[1] / "examples" / "plugin-template"

STABLE = {
    "Aggregation", "Availability", "Candidate", "CompressionRule", "CutRule", "Deadline", "Derived",
    "Formulation", "InfeasibleError", "InputError", "Instance", "Option", "Options", "Order",
    "Outcome", "Problem", "ProblemClass", "Progress", "Promise", "RankRule", "RefusedError",
    "Scheme", "SchemeOption", "SftoptError", "ShareRule", "Shares", "Solver", "SpeedRule", "Start",
    "Takes", "Task", "Termination", "delay_s", "feasible_candidate", "get_formulation",
    "make_candidate", "repaired_candidate",
}  # fmt: skip
"""Plug-ins import these: a name may be added here, none may go."""


def test_the_stable_names_are_there_and_documented() -> None:
    assert set(plugins.__all__) == STABLE
    for name in plugins.__all__:
        assert getattr(plugins, name).__doc__, name


def test_the_helpers_make_candidates_that_the_rest_understands() -> None:
    derived = derive(tiny())
    found = plugins.feasible_candidate(derived)
    assert found is not None
    again = plugins.make_candidate(derived, found.cuts, found.choices(), found.keep)
    assert plugins.delay_s(derived, again) == plugins.delay_s(derived, found)
    crooked = plugins.make_candidate(derived, [99, -3], [0, 1], [0.0, 1.0])
    repaired = plugins.repaired_candidate(derived, crooked)
    assert repaired is not None
    assert np.all((repaired.cuts >= derived.cut_low) & (repaired.cuts <= derived.cut_high))
    with pytest.raises(InputError, match=r"cuts has the shape \(1,\), not \(2,\)"):
        plugins.make_candidate(derived, [1], [0, 0], [0.1, 0.1])
    with pytest.raises(InputError, match=r"options must lie in 0\.\."):
        plugins.make_candidate(derived, [1, 1], [0, 99], [0.1, 0.1])


def test_the_template_is_small_and_imports_the_stable_names_alone() -> None:
    for file in (TEMPLATE / "sftopt_example").glob("*.py"):
        lines = file.read_text().splitlines()
        assert len(lines) < 60, file
        ours = [line for line in lines if line.startswith(("from sftopt", "import sftopt"))]
        assert all(line.startswith("from sftopt.plugins import") for line in ours), file


@pytest.fixture(scope="module")
def outsider(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process where the template is installed, by pip, without a network."""
    folder = tmp_path_factory.mktemp("outsider")
    copy = shutil.copytree(TEMPLATE, folder / "copy")  # building leaves files beside the source
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--disable-pip-version-check", "--target", folder / "site", copy],
        check=True, capture_output=True,
    )  # fmt: skip
    tree = str(Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "site"), tree])}


def sftopt(environment: dict[str, str], *words: str | Path) -> dict[str, Any]:
    """What one command prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "sftopt", *map(str, words), "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_template_is_listed_beside_ours(outsider: dict[str, str]) -> None:
    listed = sftopt(outsider, "solvers")
    rows = {row["name"]: row for row in listed["solvers"]}
    assert rows["example-search"]["available"] is True
    assert rows["example-search"]["formulations"] == ["native"]
    assert "example-equal-cuts" in {row["name"] for row in listed["formulations"]}
    for ours in ("scip", "bonmin"):
        assert "example-equal-cuts" in rows[ours]["formulations"]


def test_the_templates_solver_and_formulation_plan(
    outsider: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(tiny().model_dump_json())
    searched = sftopt(outsider, "plan", file, "--solver", "example-search")
    assert (searched["point"], searched["termination"]) == ("feasible", "heuristic_done")
    assert searched["solver"]["name"] == "example-search"
    assert searched["bound_source"] == "elementary"
    equal = sftopt(
        outsider, "plan", file, "--formulation", "example-equal-cuts", "--solver", "scip"
    )
    assert (equal["point"], equal["point_from"]) == ("feasible", "solver")
    assert (equal["promise"], equal["proven_for"]) == ("restriction", "formulation")
    assert len({part["blocks"] for part in equal["plan"]["devices"]}) == 1
    best = sftopt(outsider, "plan", file, "--solver", "certify")
    assert best["bound_s"] <= min(searched["objective_s"], equal["objective_s"])


def test_the_templates_scheme_is_compared(outsider: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(tiny().model_dump_json())
    found = sftopt(outsider, "compare", file, "--schemes", "example-by-memory:depth=2")
    rows = {row["scheme"]: row for row in found["schemes"]}
    assert list(rows)[:2] == ["sft", "example-by-memory:depth=2"]
    row = rows["example-by-memory:depth=2"]
    assert row["cuts"][2] == 2  # the device of most memory
    assert row["changes"] == ["mode dense8 added"]
    assert row["plan"]["scheme"] == "example-by-memory"
    assert row["ratio_to_sft"] >= 1.0
    named = {scheme["name"] for scheme in sftopt(outsider, "schemes")["schemes"]}
    assert {"sft", "example-by-memory"} <= named


def test_every_field_and_variable_that_the_template_names_exists() -> None:
    """The template's page is all that a plug-in's author reads."""
    text = (TEMPLATE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*) \|([^|]*)\|", text, flags=re.MULTILINE)
    derived = derive(tiny())
    named = {name for first, _ in rows for name in re.findall(r"`(\w+)", first)}
    assert len(named) > 8
    assert [name for name in sorted(named) if not hasattr(derived, name)] == []
    of_options = {name for _, second in rows for name in re.findall(r"`\.(\w+)`", second)}
    assert of_options == {"mode", "has_mask", "keep_low", "keep_high"}
    assert all(hasattr(derived.options[0], name) for name in of_options)
    model = get_formulation("joint-product").build(derived, None)
    variables = re.findall(r"`(var_\w+)\[", text)
    assert len(variables) == 5
    assert all(hasattr(model, name) for name in variables)
