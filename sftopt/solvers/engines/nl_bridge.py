"""From a Pyomo model to sparse CasADi functions, by way of an AMPL ``.nl`` file.

Pyomo writes the file, CasADi (or SCIP) reads it; columns and rows keep the order that the writer
reports, which is how values find their Pyomo variable and multipliers their constraint's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import RefusedError

Array = NDArray[np.float64]

DENSE_ROW = 50
"""Constraints with more variables than this are differentiated one by one, see ``_jacobian``."""
ROUNDING = 1e-5
"""Integer variables this close to an integer are set to it."""


class TriviallyInfeasible(Exception):
    """A constraint without free variables does not hold: the model has no point at all."""


@dataclass(frozen=True)
class NlFile:
    """A written model: Pyomo's variables in column order, its constraints in row order."""

    path: Path
    variables: tuple[Any, ...]
    constraints: tuple[Any, ...]

    def load(self, values: Array) -> None:
        """Set the Pyomo variables to ``values`` (columns,), kept within their bounds."""
        for variable, value in zip(self.variables, values.tolist(), strict=True):
            low, high = variable.bounds
            if low is not None:
                value = max(value, low)
            if high is not None:
                value = min(value, high)
            if not variable.is_continuous() and abs(value - round(value)) <= ROUNDING:
                value = round(value)
            variable.set_value(value, skip_validation=True)


def write_nl(model: Any, path: Path) -> NlFile:
    """Write ``model`` to ``path``, without symbolic labels, scaling or presolve.

    Raises TriviallyInfeasible, or RefusedError if the model is not one minimisation.
    """
    from pyomo.common.errors import InfeasibleConstraintException
    from pyomo.core import minimize
    from pyomo.repn.plugins.nl_writer import NLWriter

    try:
        with open(path, "w", newline="") as stream:
            info = NLWriter().write(model, stream, linear_presolve=False, scale_model=False)
    except InfeasibleConstraintException as error:
        raise TriviallyInfeasible(str(error)) from None
    if len(info.objectives) != 1 or info.objectives[0].sense != minimize:
        raise RefusedError("the model must have one active objective, to be minimised")
    return NlFile(path, tuple(info.variables), tuple(info.constraints))


@dataclass(frozen=True)
class Nlp:
    """min f(x), g_low <= g(x) <= g_high, x_low <= x <= x_high as CasADi expressions.

    ``x`` (n,), ``f`` (), ``g`` (m,) are SX; ``discrete`` (n,) marks integer columns.
    """

    nl: NlFile
    x: Any
    f: Any
    g: Any
    start: Array
    x_low: Array
    x_high: Array
    g_low: Array
    g_high: Array
    discrete: NDArray[np.bool_]

    @cached_property
    def jacobian(self) -> Any:
        """Return dg/dx (m, n), sparse SX."""
        return _jacobian(self.g, self.x)

    @cached_property
    def lagrangian_hessian(self) -> tuple[Any, Any, Any]:
        """Return sigma, lambda (m,) and the upper Hessian of sigma f + lambda.g (n, n)."""
        import casadi

        sigma = casadi.SX.sym("sigma")
        multipliers = casadi.SX.sym("lam", self.g.shape[0])
        lagrangian = sigma * self.f + casadi.dot(multipliers, self.g)
        gradient = casadi.gradient(lagrangian, self.x)
        full = casadi.jacobian(gradient, self.x, {"symmetric": True})
        return sigma, multipliers, casadi.triu(full)

    def nlpsol(self, plugin: str, options: dict[str, Any], own_derivatives: bool = True) -> Any:
        """Make a CasADi solver; it differentiates by itself unless told to use ours."""
        import casadi

        problem = {"x": self.x, "f": self.f, "g": self.g}
        given = self._derivatives if own_derivatives else {}
        return casadi.nlpsol("solver", plugin, problem, {**given, **options})

    @cached_property
    def _derivatives(self) -> dict[str, Any]:
        import casadi

        empty = casadi.SX.sym("p", 0)
        sigma, multipliers, hessian = self.lagrangian_hessian
        return {
            "jac_g": casadi.Function(
                "jac_g", [self.x, empty], [self.g, self.jacobian], ["x", "p"], ["g", "jac_g_x"]
            ),
            "hess_lag": casadi.Function(
                "hess_lag",
                [self.x, empty, sigma, multipliers],
                [hessian],
                ["x", "p", "lam_f", "lam_g"],
                ["triu_hess_gamma_x_x"],
            ),
        }

    @property
    def limits(self) -> dict[str, Array]:
        """Return start and limits, in units of the model, as CasADi's solvers name them."""
        return {
            "x0": self.start,
            "lbx": self.x_low,
            "ubx": self.x_high,
            "lbg": self.g_low,
            "ubg": self.g_high,
        }

    @cached_property
    def _values(self) -> Any:
        import casadi

        return casadi.Function("values", [self.x], [self.f, self.g])

    def objective(self, x: Array) -> float:
        """Compute f(x), in units of the model's objective."""
        return float(self._values(x)[0])

    def violation(self, x: Array) -> float:
        """Compute the largest breach of a bound, constraint or integrality; relative beyond 1.

        Infinite where x or a constraint is not a finite number.
        """
        g = self._values(x)[1].full().ravel()
        if not (np.isfinite(x).all() and np.isfinite(g).all()):
            return float("inf")
        whole = np.abs(x - np.rint(x))[self.discrete].max(initial=0.0)
        bounds = _breach(x, self.x_low, self.x_high)
        return float(max(bounds, _breach(g, self.g_low, self.g_high), whole))

    def duals(self, multipliers: Array, unit_s: float) -> dict[str, float]:
        """Return d objective_s / d right-hand side by constraint name, from L = f + multipliers.g.

        So a dual is >= 0 for an active lower limit and <= 0 for an active upper one, in seconds
        per unit of the constraint as the model states it.
        """
        values = (-unit_s * multipliers).tolist()
        return {
            row.name: value + 0.0  # no minus zeros
            for row, value in zip(self.nl.constraints, values, strict=True)
        }


def _breach(value: Array, low: Array, high: Array) -> float:
    below = (low - value) / np.maximum(1.0, np.where(np.isfinite(low), np.abs(low), 1.0))
    above = (value - high) / np.maximum(1.0, np.where(np.isfinite(high), np.abs(high), 1.0))
    return float(np.maximum(below, above).max(initial=0.0))


def bridge(model: Any) -> Nlp:
    """Turn the Pyomo model into CasADi expressions. Raises what :func:`write_nl` raises."""
    import casadi

    with TemporaryDirectory(prefix="sftopt-") as folder:
        nl = write_nl(model, Path(folder) / "model.nl")
        builder = casadi.NlpBuilder()
        builder.import_nl(str(nl.path), {})
    # scalar MX to vector SX: differentiation is some hundred times faster
    many = {"max_io": 2**31 - 1}  # no advice about functions with many arguments
    outputs = [builder.f, casadi.vertcat(*builder.g)]
    scalar = casadi.Function("nlp_scalar", builder.x, outputs, many).expand("nlp_sx", many)
    x = casadi.SX.sym("x", len(builder.x))
    f, g = scalar(*casadi.vertsplit(x))
    x_low, x_high = np.array(builder.x_lb), np.array(builder.x_ub)
    return Nlp(
        nl=nl,
        x=x,
        f=f,
        g=g,
        start=np.clip(np.array(builder.x_init), x_low, x_high),
        x_low=x_low,
        x_high=x_high,
        g_low=np.array(builder.g_lb),
        g_high=np.array(builder.g_ub),
        discrete=np.array(builder.discrete, dtype=bool),
    )


def _jacobian(g: Any, x: Any) -> Any:
    """dg/dx, its dense rows apart.

    CasADi colours the columns of a Jacobian; one row that all variables enter (share sums, mean
    accuracy) needs as many colours as variables. At N = 1,000 that took 19 s, this takes 0.2 s.
    """
    import casadi

    pattern = casadi.jacobian_sparsity(g, x)
    entries = np.bincount(np.array(pattern.row(), dtype=int), minlength=g.shape[0])
    dense = np.flatnonzero(entries > DENSE_ROW)
    sparse = np.flatnonzero(entries <= DENSE_ROW)
    parts = [casadi.jacobian(g[sparse.tolist()], x)] if sparse.size else []
    parts += [casadi.sparsify(casadi.gradient(g[row], x).T) for row in dense.tolist()]
    if not parts:
        return casadi.SX(0, x.shape[0])
    place = np.argsort(np.concatenate([sparse, dense]))
    return casadi.vertcat(*parts)[place.tolist(), :]
