"""Files for other solvers: readable, whole, and refused in words where the format cannot."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import casadi
import pyomo.environ as pyo
import pytest

from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.formulations.export import algebraic_class, export_model
from sftopt.formulations.registry import get_formulation
from tests.samples import VARIANTS, sample_instance

FORMS = ("joint-product", "joint-ratio", "joint-reduced", "joint-relaxed")


def build(form: str, **fields: Any) -> Any:
    """A model of a two-device cell."""
    return get_formulation(form).build(derive(sample_instance(2, **fields)), None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_nl_reads_back_with_the_same_objective_and_variables(
    form: str, variant: str, tmp_path: Path
) -> None:
    model = build(form, **VARIANTS[variant])
    export_model(model, tmp_path / "model.nl")
    builder = casadi.NlpBuilder()
    builder.import_nl(str(tmp_path / "model.nl"), {})
    used = [v for v in model.component_data_objects(pyo.Var) if not v.fixed]
    assert len(builder.x) == len(used)
    value = casadi.Function("f", [casadi.vertcat(*builder.x)], [builder.f])(builder.x_init)
    assert float(value) == pytest.approx(pyo.value(model.obj_round_delay), rel=1e-12)
    assert sum(builder.discrete) == sum(not v.is_continuous() for v in used)
    names = (tmp_path / "model.col").read_text(encoding="utf-8").splitlines()
    assert set(names) == {v.name for v in used}
    start = dict(zip(names, builder.x_init, strict=True))
    assert start["var_tau_up"] == pytest.approx(model.var_tau_up.value, rel=1e-12)
    rows = (tmp_path / "model.row").read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(builder.g) + 1
    assert rows[-1] == "obj_round_delay"
    assert {path.suffix for path in tmp_path.iterdir()} == {".nl", ".col", ".row"}


@pytest.mark.parametrize("ending", ["mps", "lp"])
def test_nonlinear_models_are_refused_by_linear_formats(ending: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"joint-product.*nonlinear.*write model\.nl instead"):
        export_model(build("joint-product"), tmp_path / f"model.{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["mps", "lp"])
def test_quadratic_models_are_written_with_their_names(ending: str, tmp_path: Path) -> None:
    model = build("joint-product", modes=({"kind": "none", "bits": 32},))
    assert algebraic_class(model) == "quadratic"
    export_model(model, tmp_path / f"model.{ending}")
    assert "var_blocks(dev0)" in (tmp_path / f"model.{ending}").read_text(encoding="utf-8")


@pytest.mark.parametrize("ending", ["mps", "lp"])
def test_the_grid_model_is_written_with_names_and_its_unit(ending: str, tmp_path: Path) -> None:
    """Odd ids are made safe for both formats, and stay apart."""
    cell = sample_instance(2)
    odd = tuple(
        device.model_copy(update={"id": name})
        for device, name in zip(cell.devices, ("north-1", "north 1"), strict=True)
    )
    cell = cell.model_validate(cell.model_copy(update={"devices": odd}).model_dump())
    model = get_formulation("joint-grid-milp").build(derive(cell), None)
    file = tmp_path / f"model.{ending}"
    assert export_model(model, file) == [file]
    text = file.read_text(encoding="utf-8")
    for name in ("var_blocks(north_1)", "var_blocks(north_1)_2", "con_uplink_time(north_1)",
                 "var_item(north_1_0)", "var_tau_up"):  # fmt: skip
        assert f" {name}" in text
    assert f"objective_unit_s = {model.objective_unit_s!r}" in text
    highspy: Any = import_module("highspy")
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    assert highs.readModel(str(file)) == highspy.HighsStatus.kOk
    highs.run()
    model.solve(solver="HIGHS")
    assert highs.getObjectiveValue() == pytest.approx(model.value, rel=1e-4)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("joint-grid-conic", r"the model is not linear \(SOC\).*get_problem_data.*joint-product"),
        ("joint-grid-relaxed", "joint-grid-milp to .mps or .lp"),
        ("spectrum-conic", "is its cone form"),
    ],
)
@pytest.mark.parametrize("ending", ["mps", "nl"])
def test_cone_models_are_refused_with_their_cone_form(
    form: str, said: str, ending: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        export_model(build(form), tmp_path / f"model.{ending}")
    with pytest.raises(InputError, match=r"write model\.mps or model\.lp instead"):
        export_model(build("joint-grid-milp"), tmp_path / "model.nl")
    assert list(tmp_path.iterdir()) == []


def test_linear_models_are_recognised(tmp_path: Path) -> None:
    model = pyo.ConcreteModel()
    model.var_a = pyo.Var(bounds=(0, 1))
    model.obj_a = pyo.Objective(expr=2 * model.var_a)
    assert algebraic_class(model) == "linear"
    export_model(model, tmp_path / "model.mps")


def test_wrong_ending_wrong_layer_and_wrong_place_are_said_plainly(tmp_path: Path) -> None:
    model = build("joint-product")
    with pytest.raises(InputError, match=r"ending '\.gms' names no format; use one of \.nl"):
        export_model(model, tmp_path / "model.gms")
    with pytest.raises(InputError, match="only Pyomo and CVXPY formulations"):
        export_model(None, tmp_path / "model.nl")
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="Nothing was written"):
        export_model(model, tmp_path / "taken" / "model.nl")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model.nl"
    target.write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sftopt.core.files.os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        export_model(build("joint-product"), target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
