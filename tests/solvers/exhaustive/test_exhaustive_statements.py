"""The numbered statements behind the exhaustive solver, checked on numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftopt.core.derived import derive
from sftopt.core.spectrum import ConcaveRate, LinearRate, least_time
from sftopt.solvers.exhaustive.curves import (
    Curve,
    convexity_bounds,
    envelope,
    split_by_curvature,
)
from sftopt.solvers.exhaustive.inner import tighten
from sftopt.solvers.exhaustive.links import SHARP, solve_link
from sftopt.solvers.exhaustive.rows import certified_bound, look, time_hessian
from sftopt.solvers.exhaustive.space import Space
from tests.samples import sample_instance

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=60)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    """A payload and a loss on a domain where beta rises and the loss falls."""
    eta = draw(st.floats(0.5, 8.0))
    omega = draw(st.sampled_from([0.0, 0.82, 1.0, 1.3]))
    decay = draw(st.floats(2.0, 40.0))
    noise = draw(st.sampled_from([0.0, 0.001, 0.05]))
    peak = 1.0 if omega == 0.0 else 1.0 / (1.0 + 2.0 ** (-eta / omega))
    low = draw(st.floats(0.005, 0.3)) * peak
    high = peak * draw(st.floats(0.4, 0.999))
    curve = Curve(
        eta, omega, draw(st.sampled_from([0.0, 0.02, 0.25])), 0.3, decay, noise, 0.0,
        low, high, math.inf, -math.inf,
    )  # fmt: skip
    top = max(curve.least_loss_keep(), low * 1.05)
    return Curve(
        curve.eta, curve.omega, curve.sigma, 0.3, decay, 0.0 if top > curve.high else noise, 0.0,
        low, min(top, high), math.inf, -math.inf,
    )  # fmt: skip


def second_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Second divided differences: >= 0 where y is convex in x."""
    first = np.diff(y) / np.diff(x)
    return np.diff(first) / (x[2:] - x[:-2])


@REPEATABLE
@given(curves())
def test_statement_3_log_downlink_payload_is_convex_in_log_uplink_payload(curve: Curve) -> None:
    keep = np.linspace(curve.low, curve.high, 80)
    v = np.array([curve.log_payload(k) for k in keep])
    down = np.log(curve.eta * keep + curve.sigma)
    bends = second_slopes(v, down)
    assert bends.min() >= -1e-7 * max(1.0, np.abs(bends).max())


@REPEATABLE
@given(curves())
def test_statement_5_certified_signs_match_the_curve_and_the_envelope_is_convex(
    curve: Curve,
) -> None:
    pieces = split_by_curvature(curve)
    assert len(pieces) == 1  # concave, convex, concave: never seen otherwise
    piece = pieces[0]
    keep = np.linspace(piece.low, piece.high, 301)
    v = np.array([piece.log_payload(k) for k in keep])
    f = np.array([piece.loss(k) for k in keep])
    bends = second_slopes(v, f)
    small = 1e-5 * np.abs(bends).max()
    inside = (keep[:-2] >= piece.convex_low) & (keep[2:] <= piece.convex_high)
    outside = (keep[2:] <= piece.convex_low) | (keep[:-2] >= piece.convex_high)
    assert np.all(bends[inside] >= -small)
    assert np.all(bends[outside] <= small)

    shape = envelope(piece, piece.low, piece.high)
    line = np.where(v < shape.left_v, _line(shape.left_v, shape.left_loss, shape.left_slope, v), f)
    right = _line(shape.right_v, shape.right_loss, shape.right_slope, v)
    line = np.where(v > shape.right_v, right, line)
    assert np.all(line <= f + 1e-12)
    assert line[[0, -1]] == pytest.approx(f[[0, -1]], abs=1e-9)  # the greatest convex function
    bends = second_slopes(v, line)
    assert bends.min() >= -1e-5 * max(np.abs(bends).max(), 1e-3)


def _line(at: float, value: float, slope: float, v: np.ndarray) -> np.ndarray:
    return np.full_like(v, np.nan) if math.isinf(at) else value + slope * (v - at)


@REPEATABLE
@given(curves(), st.floats(0.0, 1.0), st.floats(1e-4, 0.2))
def test_interval_bounds_hold_all_values_inside_the_cell(
    curve: Curve, start: float, width: float
) -> None:
    left = curve.low + start * (curve.high - curve.low)
    right = min(left + width, curve.high)
    least, most = convexity_bounds(curve, left, right)
    for keep in np.linspace(left, right, 7):
        low, high = convexity_bounds(curve, float(keep), float(keep))
        assert least <= high or least == pytest.approx(high, rel=1e-9)
        assert most >= low or most == pytest.approx(low, rel=1e-9)


@pytest.mark.parametrize("law", ["linear", "total"])
def test_link_times_match_core_and_never_lie_above_it(law: str) -> None:
    draw = np.random.default_rng(3)
    devices, rows = 4, 60
    fixed = draw.uniform(0.0, 2.0, (rows, devices))
    bits = 10 ** draw.uniform(5.0, 8.0, (rows, devices))
    bits[draw.uniform(size=bits.shape) < 0.1] = 0.0
    rate = (
        LinearRate(10 ** draw.uniform(6.0, 8.0, devices))
        if law == "linear"
        else ConcaveRate(2e7, 10 ** draw.uniform(-1.0, 4.0, (devices, 16)), 7.4)
    )
    # devices without bits do not hold the barrier here
    fixed[bits == 0.0] = 0.0
    exact = np.array([least_time(f, b, rate)[0] for f, b in zip(fixed, bits, strict=True)])
    sharp = solve_link(fixed, bits, rate, np.full(rows, SHARP)).tau_s
    assert sharp == pytest.approx(exact, rel=1e-9)
    assert np.all(sharp <= exact * (1.0 + 1e-12))
    soft = solve_link(fixed, bits, rate, np.full(rows, 30.0))
    assert np.all(soft.tau_s <= exact * (1.0 + 1e-12))
    assert np.all(soft.tau_s * (1.0 + soft.uncertainty) >= exact * (1.0 - 1e-9))


@pytest.mark.parametrize("power", ["psd", "total"])
@pytest.mark.parametrize("decay", [5.0, 22.0])
def test_statement_4_no_point_lies_below_a_certified_bound(power: str, decay: float) -> None:
    accuracy = {"keep_decay": decay, "minimum": 0.9 if decay > 10 else 0.8, "minimum_each": 0.4}
    instance = sample_instance(
        3, 5, blocks=4, modes=(2, 4), radio={"power": power}, accuracy=accuracy,
        compression={"keep_min": 0.03},
    )  # fmt: skip
    space = Space(derive(instance))
    draw = np.random.default_rng(1)
    numbers = draw.choice(space.size, 40, replace=False)
    rows, allowed = space.rows(np.sort(numbers))
    rows, possible = tighten(rows, space.cell)
    rows = rows.take(allowed & possible)
    sharp = np.full(len(rows), SHARP)
    best = np.full(len(rows), np.inf)
    for _ in range(60):
        part = draw.uniform(size=rows.low.shape) ** 0.5
        keep = rows.low + part * (rows.high - rows.low)
        view = look(rows, keep, space.cell, sharp)
        fits = (space.cell.weight * view.true_loss).sum(axis=1) <= space.cell.budget
        best = np.where(fits, np.minimum(best, view.time_s), best)
    assert np.isfinite(best).sum() > 10
    for _ in range(40):
        keep = rows.low + draw.uniform(size=rows.low.shape) * (rows.high - rows.low)
        softness = 10 ** draw.uniform(1.0, 8.0, len(rows))
        price = 10 ** draw.uniform(-3.0, 3.0, len(rows))
        view = look(rows, keep, space.cell, softness)
        bound = certified_bound(rows, view, price, space.cell)
        assert np.all(bound <= best * (1.0 + 1e-12))


@pytest.mark.parametrize("power", ["psd", "total"])
def test_statement_2_times_are_convex_and_their_derivatives_are_right(power: str) -> None:
    instance = sample_instance(3, 5, blocks=4, modes=(2,), radio={"power": power})
    space = Space(derive(instance))
    rows = space.rows(np.arange(space.size))[0]
    cell = space.cell
    draw = np.random.default_rng(4)
    smooth = np.full(len(rows), 200.0)
    keep = rows.low + (0.2 + 0.6 * draw.uniform(size=rows.low.shape)) * (rows.high - rows.low)
    here = look(rows, keep, cell, smooth)
    assert np.linalg.eigvalsh(time_hessian(here)).min() >= -1e-9
    step = 1e-5
    for device in range(3):
        shift = np.zeros(3)
        shift[device] = step
        up = look(rows, rows.keep_at(here.v + shift, keep), cell, smooth)
        down = look(rows, rows.keep_at(here.v - shift, keep), cell, smooth)
        slope = (up.time_s - down.time_s) / (2.0 * step)
        assert here.gradient[:, device] == pytest.approx(slope, rel=1e-5, abs=1e-8)
        bend = (up.gradient - down.gradient) / (2.0 * step)
        assert time_hessian(here)[:, device] == pytest.approx(bend, rel=1e-3, abs=1e-5)
