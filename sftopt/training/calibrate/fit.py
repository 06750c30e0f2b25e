"""Equation (12) from fine-tunings: the fit, its confidence band, and a curve below the band.

What is fitted is the loss against the uncompressed run of the same seed, so that what a seed does
to both cancels. Given a_2 (and whether the noise term has rho), equation (12) is linear in a_1 and
a_3: they are found by non-negative least squares for every a_2 of a fine grid, and the best start
is polished by bounded non-linear least squares. Both forms of the noise term are tried; the one of
less weighted squares stays.

Weights. A cell's variance over three seeds is itself uncertain, so it is shrunk towards the pooled
one (weight of four degrees of freedom); to it is added the square of a tenth of the cell's loss,
since equation (12) is a shape and no law: without it the worst cells, where nobody plans, would
rule.

Band. Delta method: half width h = t(0.975, cells - parameters) sqrt(g' C g + m^2), where g is the
gradient of the loss in the parameters, C their covariance (sandwich form: each cell scatters by
its seeds' variance or its residual, whichever is larger), and m^2 the lack of fit: the weighted
variance of the cells' residuals beyond what the seeds explain.

Lower curve. Equation (12) refitted to fit - h over the calibrated range with a free a_0 that may
lie below the fit's, then lowered by its largest excess: nowhere in the range above fit - h.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls
from scipy.stats import t as student

from sftopt.core.calibration import AccuracyFit, Curve, EcsqCell, GridCell
from sftopt.core.errors import InputError

Array = NDArray[np.float64]

_SLOWEST_DECAY = 0.5
"""Least decay per unit of the keep fraction that is tried."""
_FASTEST_DECAY = 4.0
"""Over the least keep fraction: what decays faster is over before the first cell."""
_DECAY_STEPS = 160
"""Number of decays tried."""
_RELATIVE_SHAPE_ERROR = 0.1
"""How far, relative to a loss, the curve's form itself may be off."""
_PRIOR_DEGREES = 4.0
"""Degrees of freedom that the pooled variance counts for beside a cell's own."""
_LEAST_CELLS = 4
"""One more than equation (12) has parameters besides a_0."""
_RANGE_POINTS = 46
"""Keep fractions of the calibrated range at which the band is looked at."""


@dataclass(frozen=True)
class Runs:
    """Metrics of all runs, each list in the order of the seeds."""

    metric: str
    uncompressed: Sequence[float]
    cells: Mapping[tuple[float, int], Sequence[float]]
    """(keep, bits) -> metrics."""


@dataclass(frozen=True)
class _Shape:
    """Equation (12)'s loss at parameters (a_1, a_2, a_3); points have shape (n, 2): keep, bits."""

    scales: bool

    def basis(self, points: Array, decay: float) -> Array:
        """Columns that a_1 and a_3 multiply, shape (n, 2)."""
        keep, bits = points.T
        noise = 4.0**-bits * (keep if self.scales else 1.0)
        return np.stack([np.exp(-decay * keep), noise], axis=1)

    def loss(self, points: Array, parameters: Array) -> Array:
        """Shape (n,)."""
        found: Array = self.basis(points, parameters[1]) @ parameters[[0, 2]]
        return found

    def gradient(self, points: Array, parameters: Array) -> Array:
        """In the parameters, shape (n, 3)."""
        basis = self.basis(points, parameters[1])
        slope = -parameters[0] * points[:, 0] * basis[:, 0]
        return np.stack([basis[:, 0], slope, basis[:, 1]], axis=1)


@dataclass(frozen=True)
class _Fitted:
    shape: _Shape
    parameters: Array
    squares: float
    covariance: Array
    misfit_variance: float
    quantile: float

    def half_width(self, points: Array) -> Array:
        """h at points, shape (n,)."""
        gradient = self.shape.gradient(points, self.parameters)
        variance = np.einsum("ni,ij,nj->n", gradient, self.covariance, gradient)
        return np.asarray(self.quantile * np.sqrt(np.maximum(variance, 0.0) + self.misfit_variance))


def fit_accuracy(
    runs: Runs, seeds: Sequence[int], settings: Mapping[str, object], ecsq: Sequence[EcsqCell] = ()
) -> AccuracyFit:
    """Fit curve, band and lower curve. Raises InputError for fewer cells than parameters."""
    check_cells(len(runs.cells))
    points = np.array(sorted(runs.cells), dtype=float)
    base = np.array(runs.uncompressed)
    losses = np.array([base - np.array(runs.cells[keep, int(bits)]) for keep, bits in points])
    fitted = min(
        (_fitted(_Shape(scales), points, losses) for scales in (True, False)),
        key=lambda one: one.squares,
    )
    a_0 = float(base.mean())
    where = _range(points)
    lower = _lower(fitted, where, a_0)
    half = fitted.half_width(points)
    at_cells = fitted.shape.loss(points, fitted.parameters)
    return AccuracyFit(
        metric=runs.metric,
        fit=_curve(a_0, fitted.parameters, fitted.shape.scales),
        lower=lower,
        method="losses against the uncompressed run of the same seed; least squares weighted by "
        "shrunk variances; band: delta method with lack of fit; lower curve: below the band",
        half_width=float(fitted.half_width(where).max()),
        uncompressed_half_width=mean_half_width(base),
        keep_from=float(points[:, 0].min()),
        keep_to=float(points[:, 0].max()),
        bits_from=int(points[:, 1].min()),
        bits_to=int(points[:, 1].max()),
        uncompressed=tuple(map(float, base)),
        seeds=tuple(seeds),
        cells=tuple(
            GridCell(
                keep=float(keep),
                bits=int(bits),
                metric=tuple(map(float, runs.cells[keep, int(bits)])),
                loss=tuple(map(float, row)),
                fitted_loss=float(value),
                half_width=float(width),
            )
            for (keep, bits), row, value, width in zip(points, losses, at_cells, half, strict=True)
        ),
        ecsq=tuple(ecsq),
        settings=dict(settings),
    )


def check_cells(count: int) -> None:
    """Raise InputError for fewer cells than a fit with a band needs."""
    if count < _LEAST_CELLS:
        raise InputError(
            f"a fit of equation (12) needs at least {_LEAST_CELLS} cells (keep, bits); there are "
            f"{count}. Give more --keep or --bits."
        )


def mean_half_width(values: Array) -> float:
    """Return the 95 % half width of a mean over seeds (Student), in the unit of ``values``; 0 for a
    single one, which tells nothing.
    """
    if values.size < 2:
        return 0.0
    quantile = float(student.ppf(0.975, values.size - 1))
    return quantile * float(values.std(ddof=1)) / math.sqrt(values.size)


def _curve(a_0: float, parameters: Array, scales: bool) -> Curve:
    a_1, a_2, a_3 = map(float, parameters)
    return Curve(
        uncompressed=a_0,
        keep_loss=a_1,
        keep_decay=a_2,
        quantisation_loss=a_3,
        quantisation_scales_with_keep=scales,
    )


def _fitted(shape: _Shape, points: Array, losses: Array) -> _Fitted:
    """Weighted least squares of the cells' means, shape of ``losses``: (cells, seeds)."""
    means = losses.mean(axis=1)
    variances = _mean_variances(losses)
    weight = 1.0 / np.sqrt(variances + (_RELATIVE_SHAPE_ERROR * means) ** 2)
    parameters = _minimise(shape, points, means, weight)
    residual = means - shape.loss(points, parameters)
    squares = float(np.sum((residual * weight) ** 2))
    degrees = max(means.size - 3, 1)
    chosen = weight**2 / (weight**2).sum()  # cells that count little tell little of the misfit
    inflated = means.size / degrees
    misfit = float(chosen @ residual**2 * inflated - chosen @ variances)
    scatter = np.maximum(variances, residual**2 * inflated)
    return _Fitted(
        shape,
        parameters,
        squares,
        _covariance(shape.gradient(points, parameters), parameters, weight, scatter),
        max(misfit, 0.0),
        float(student.ppf(0.975, degrees)),
    )


def _covariance(gradient: Array, parameters: Array, weight: Array, scatter: Array) -> Array:
    """Of the parameters, shape (3, 3): the sandwich of the cells' own scatter.

    The weights are a choice, not the cells' true variances, so they alone would not do. A
    parameter at its bound is known: it has no variance.
    """
    free = np.flatnonzero(parameters > 0.0)
    weighted = gradient[:, free] * weight[:, None]
    bread = np.linalg.pinv(weighted.T @ weighted)
    filling = (weighted * (weight**2 * scatter)[:, None]).T @ weighted
    covariance = np.zeros((3, 3))
    covariance[np.ix_(free, free)] = bread @ filling @ bread
    return covariance


def _mean_variances(losses: Array) -> Array:
    """Variances of the cells' means over the seeds, shrunk towards the pooled one."""
    seeds = losses.shape[1]
    if seeds < 2:  # nothing tells the seeds' share: all of the scatter is lack of fit
        return np.full(losses.shape[0], 1e-12 + 1e-6 * float(np.mean(losses**2)))
    own = losses.var(axis=1, ddof=1)
    pooled = float(own.mean())
    degrees = seeds - 1.0
    shrunk = (degrees * own + _PRIOR_DEGREES * pooled) / (degrees + _PRIOR_DEGREES)
    return np.asarray(shrunk / seeds + 1e-14)


def _decays(points: Array) -> Array:
    """Values of a_2 that the cells can tell apart."""
    return np.geomspace(_SLOWEST_DECAY, _FASTEST_DECAY / points[:, 0].min(), _DECAY_STEPS)


def _minimise(shape: _Shape, points: Array, means: Array, weight: Array) -> Array:
    """(a_1, a_2, a_3) of least weighted squares: every a_2 of the grid, then polished."""
    best, start = math.inf, np.zeros(3)
    decays = _decays(points)
    for decay in decays:
        linear, norm = nnls(shape.basis(points, decay) * weight[:, None], means * weight)
        if norm < best:
            best, start = norm, np.array([linear[0], decay, linear[1]])
    scale = np.maximum(np.abs(start), 1e-6)

    def residuals(free: Array) -> Array:
        return np.asarray((shape.loss(points, free * scale) - means) * weight)

    polished = least_squares(
        residuals,
        start / scale,
        bounds=([0.0, decays[0] / scale[1], 0.0], [np.inf, decays[-1] / scale[1], np.inf]),
        xtol=1e-12,
        ftol=1e-12,
        gtol=1e-12,
    )
    if 2.0 * polished.cost > best**2:
        return start
    found: Array = np.where(polished.x * scale < 1e-12, 0.0, polished.x * scale)
    return found


def _range(points: Array) -> Array:
    """The calibrated range as points: keep fractions between the ends, all whole bits between."""
    keeps = np.linspace(points[:, 0].min(), points[:, 0].max(), _RANGE_POINTS)
    bits = np.arange(points[:, 1].min(), points[:, 1].max() + 1)
    return np.array([(keep, q) for q in bits for keep in keeps])


def _lower(fitted: _Fitted, where: Array, a_0: float) -> Curve:
    """A curve of the same form at or below fit - h at all of ``where``."""
    shape = fitted.shape
    wanted = shape.loss(where, fitted.parameters) + fitted.half_width(where)
    best, chosen = math.inf, (0.0, fitted.parameters)
    for decay in np.unique(np.append(_decays(where), fitted.parameters[1])):
        columns = np.column_stack([np.ones(len(where)), shape.basis(where, decay)])
        (offset, a_1, a_3), norm = nnls(columns, wanted)
        if norm < best:
            best, chosen = norm, (float(offset), np.array([a_1, decay, a_3]))
    offset, parameters = chosen
    short = float((wanted - offset - shape.loss(where, parameters)).max())
    return _curve(a_0 - offset - max(short, 0.0), parameters, shape.scales)
