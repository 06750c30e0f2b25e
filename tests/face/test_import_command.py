"""export and import-solution, as a user of another solver sees them."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.face.command_line import Run


@pytest.fixture
def solved(run: Run, small: Path, tmp_path: Path) -> Path:
    """The solution file of an exported grid model."""
    highspy: Any = import_module("highspy")
    model = tmp_path / "model.mps"
    ran = run("export", small, "--formulation", "joint-grid-milp", "--out", model, "--json")
    assert ran.code == 0, ran.err
    assert ran.data["files"] == [str(model)]
    assert f"{ran.data['objective_unit_s']!r} (objective_unit_s) is the round delay" in ran.err
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.readModel(str(model))
    highs.run()
    highs.writeSolution(str(model.with_suffix(".sol")), 0)
    return model.with_suffix(".sol")


def test_export_names_the_files_beside_an_nl_model(run: Run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.nl"
    ran = run("export", small, "--formulation", "joint-ratio", "--out", out, "--json")
    assert ran.data["files"] == [str(out.with_suffix(end)) for end in (".nl", ".col", ".row")]
    wide = out.read_text()
    ran = run(
        "export", small, "--formulation", "joint-ratio", "--out", out, "--upper-bound", "1e-9"
    )
    assert ran.code == 2
    assert "upper_bound_s: 1e-09 s is less than every plan needs" in ran.err
    assert out.read_text() == wide
    ran = run("export", small, "--formulation", "joint-ratio", "--out", out, "--upper-bound", "1e3")
    assert ran.code == 0, ran.err
    assert out.read_text() != wide


def test_an_imported_plan_is_verified_and_written(
    run: Run, small: Path, tmp_path: Path, solved: Path
) -> None:
    plan = tmp_path / "plan.json"
    common = ("import-solution", small, "--formulation", "joint-grid-milp", "--sol", solved)
    ran = run(*common, "--out", plan, "--json")
    assert ran.code == 0, ran.err
    assert (ran.data["feasible"], ran.data["solution_writer"]) == (True, "HiGHS")
    assert ran.data["plan_file"] == str(plan)
    assert ran.data["plan"] == json.loads(plan.read_text())
    verified = run("verify", small, plan, "--json")
    assert verified.data["objective_s"] == ran.data["objective_s"]
    made = run("plan", small, "--formulation", "joint-grid-milp", "--json")
    assert ran.data["objective_s"] == pytest.approx(made.data["objective_s"], rel=1e-4)
    ran = run(*common)
    assert ran.code == 0
    assert "HiGHS" in ran.out
    assert "feasible" in ran.out


def test_every_way_to_fail_has_its_code(
    run: Run, small: Path, tmp_path: Path, solved: Path
) -> None:
    plan = tmp_path / "plan.json"

    def answer(text: str, form: str = "joint-grid-milp") -> Any:
        bad = tmp_path / "bad.sol"
        bad.write_text(text, encoding="utf-8")
        return run("import-solution", small, "--formulation", form, "--sol", bad, "--out", plan)

    text = solved.read_text(encoding="utf-8")
    first = re.search(r"var_blocks\((\w+)\) (\S+)", text)
    assert first is not None
    ran = answer(text.replace(first[0], f"var_blocks({first[1]}) 99"))
    assert (ran.code, plan.exists()) == (5, False)
    assert f"con_cut_high({first[1]}) by" in ran.err
    ran = answer(text.replace(first[0], f"var_blocks({first[1]}) many"))
    line = text[: first.start()].count("\n") + 1
    assert ran.code == 2
    assert f"bad.sol line {line}: variable 'var_blocks({first[1]})': 'many'" in ran.err
    assert answer("Model status\nInfeasible\n\n# Primal solution values\nNone\n").code == 4
    assert answer(text, "joint-grid-conic").code == 6
    assert answer(text, "joint-ratio").code == 2
    assert answer("nonsense").code == 2
