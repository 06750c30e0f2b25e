"""The bridge keeps names, order, values and derivatives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from sftopt.core.derived import derive
from sftopt.core.errors import RefusedError
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.engines.nl_bridge import DENSE_ROW, Nlp, TriviallyInfeasible, bridge, write_nl
from tests.samples import VARIANTS, sample_instance
from tests.solvers.small_models import mixed_model


def random_point(nlp: Nlp, seed: int) -> Any:
    draw = np.random.default_rng(seed)
    low = np.where(np.isfinite(nlp.x_low), nlp.x_low, -3.0)
    high = np.where(np.isfinite(nlp.x_high), nlp.x_high, 3.0)
    return low + (high - low) * draw.uniform(0.05, 0.95, len(low))


def body_values(nlp: Nlp, model: Any, x: Any) -> tuple[float, Any]:
    """Objective and distance of each row from its limits, by Pyomo's own evaluation."""
    for variable, value in zip(nlp.nl.variables, x, strict=True):
        variable.set_value(float(value), skip_validation=True)
    objective = next(iter(model.component_data_objects(pyo.Objective, active=True)))
    slacks = np.array([[row.lslack(), row.uslack()] for row in nlp.nl.constraints])
    return float(pyo.value(objective)), slacks


@pytest.mark.parametrize("variant", ["plain", "total power", "multicast", "omega intervals"])
@pytest.mark.parametrize("name", ["joint-product", "joint-ratio", "joint-relaxed"])
def test_the_real_models_evaluate_as_in_pyomo(name: str, variant: str) -> None:
    model = get_formulation(name).build(derive(sample_instance(2, 1, **VARIANTS[variant])), None)
    nlp = bridge(model)
    assert nlp.discrete.any() == (name != "joint-relaxed")
    for seed in range(2):
        x = random_point(nlp, seed)
        objective, slacks = body_values(nlp, model, x)
        g = nlp._values(x)[1].full().ravel()
        assert nlp.objective(x) == pytest.approx(objective, rel=1e-12)
        expected = np.stack([g - nlp.g_low, nlp.g_high - g], axis=1)
        np.testing.assert_allclose(expected, slacks, rtol=1e-9, atol=1e-9)


def test_columns_and_rows_carry_their_names() -> None:
    nlp = bridge(mixed_model())
    by_name = dict(zip((v.name for v in nlp.nl.variables), nlp.start, strict=True))
    assert by_name == {"cut": 2.0, "var_size": 2.0, "keep": 1.5}
    assert [v.name for v in np.array(nlp.nl.variables, dtype=object)[nlp.discrete]] == ["cut"]
    rows = [row.name for row in nlp.nl.constraints]
    assert sorted(rows) == ["con_cover", "con_decay", "con_product"]
    limits = dict(zip(rows, zip(nlp.g_low, nlp.g_high, strict=True), strict=True))
    assert limits["con_cover"] == (2.5, np.inf)
    assert limits["con_decay"] == (-np.inf, 0.3)


def wide_model(count: int) -> Any:
    """Sparse non-linear rows and rows that every variable enters."""
    model = pyo.ConcreteModel()
    model.x = pyo.Var(range(count), bounds=(0.1, 2.0), initialize=1.0)
    x = model.x
    model.con_wide = pyo.Constraint(expr=sum(pyo.exp(-x[i]) * (i + 1) for i in x) <= 99.0)
    model.con_pair = pyo.Constraint(
        range(count - 1), rule=lambda m, i: x[i] * x[i + 1] / (1 + x[i]) >= 0.1
    )
    model.con_sum = pyo.Constraint(expr=sum(x.values()) == count)
    model.obj = pyo.Objective(expr=sum(x[i] ** 3 for i in x) + x[0] * x[count - 1])
    return model


@pytest.mark.parametrize("count", [4, DENSE_ROW + 3])
def test_derivatives_agree_with_differences(count: int) -> None:
    import casadi

    nlp = bridge(wide_model(count))
    x = random_point(nlp, 7)
    lam = np.random.default_rng(1).normal(size=count + 1)
    jacobian = casadi.Function("j", [nlp.x], [nlp.jacobian])
    sigma, multipliers, upper = nlp.lagrangian_hessian
    hessian = casadi.Function("h", [nlp.x, sigma, multipliers], [upper])
    slope = casadi.gradient(sigma * nlp.f + casadi.dot(multipliers, nlp.g), nlp.x)
    gradient = casadi.Function("d", [nlp.x, sigma, multipliers], [slope])
    step = 1e-6
    values, slopes = [], []
    for column in range(count):
        ends = [x + sign * step * np.eye(count)[column] for sign in (1.0, -1.0)]
        g = [nlp._values(end)[1].full().ravel() for end in ends]
        d = [gradient(end, 0.7, lam).full().ravel() for end in ends]
        values.append((g[0] - g[1]) / (2 * step))
        slopes.append((d[0] - d[1]) / (2 * step))
    np.testing.assert_allclose(jacobian(x).full(), np.array(values).T, atol=1e-6)
    found = hessian(x, 0.7, lam).full()
    np.testing.assert_allclose(found, np.triu(np.array(slopes)), atol=1e-5)


def test_a_model_without_constraints_has_an_empty_jacobian() -> None:
    model = pyo.ConcreteModel()
    model.x = pyo.Var(initialize=3.0)
    model.obj = pyo.Objective(expr=(model.x - 1) ** 2)
    nlp = bridge(model)
    assert nlp.jacobian.shape == (0, 1)
    assert nlp.violation(np.array([5.0])) == 0.0


def test_values_go_back_within_bounds_and_rounded() -> None:
    model = mixed_model()
    nlp = bridge(model)
    wanted = {"cut": 2.0 - 3e-6, "var_size": 4.0 + 1e-7, "keep": 0.7}
    nlp.nl.load(np.array([wanted[v.name] for v in nlp.nl.variables]))
    assert pyo.value(model.cut) == 2
    assert pyo.value(model.var_size) == 4.0
    assert pyo.value(model.keep) == 0.7


def test_violation_sees_bounds_rows_integrality_and_garbage() -> None:
    nlp = bridge(mixed_model())
    names = [v.name for v in nlp.nl.variables]

    def at(**values: float) -> float:
        point = {"cut": 0.0, "var_size": 2.5, "keep": 2.0, **values}
        return nlp.violation(np.array([point[name] for name in names]))

    assert at() == 0.0
    assert at(cut=0.4) == pytest.approx(0.4)
    assert at(cut=6.0) == pytest.approx(1.0 / 5.0)
    assert at(var_size=1.5) == pytest.approx(1.0 / 2.5)
    assert at(keep=float("nan")) == float("inf")
    assert at(keep=1.7e308, var_size=1.7e308) == float("inf")


def test_a_constant_row_that_fails_is_a_proof(tmp_path: Path) -> None:
    model = mixed_model()
    model.var_size.fix(0.5)
    model.cut.fix(1)
    with pytest.raises(TriviallyInfeasible, match="con_cover"):
        write_nl(model, tmp_path / "model.nl")


def test_a_maximisation_is_refused(tmp_path: Path) -> None:
    model = mixed_model()
    model.obj.sense = pyo.maximize
    with pytest.raises(RefusedError, match="minimised"):
        write_nl(model, tmp_path / "model.nl")
