"""The least of an item's cost over its keep fraction: from below, and near."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize_scalar

from sftopt.solvers.certify.bound.keep_minimum import convexity_cap, entropy_bits, least_phi


def test_least_phi_is_near_the_minimum_and_not_above_it() -> None:
    """Statement 3, both third terms: first guesses near the stationary point and far from it."""
    draw = np.random.default_rng(1)
    inner = 0
    for _ in range(1500):
        decay, low = 10 ** draw.uniform(0.5, 2.0), 10 ** draw.uniform(-3.0, -0.5)
        high = draw.uniform(low, 1.0)
        P, S = 10 ** draw.uniform(-5.0, -1.0), 10 ** draw.uniform(-3.0, 1.5)
        if convexity_cap(decay, low, high) <= P:
            continue

        def phi(keep: float, P: float = P, S: float = S, decay: float = decay) -> float:
            return P * entropy_bits(keep) + S * keep + math.exp(-decay * keep)

        sought = minimize_scalar(
            phi, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
        )
        guess = min(
            max(sought.x * math.exp(draw.normal(0.0, draw.choice([0.001, 0.05, 1.0]))), low), high
        )
        value, _ = least_phi(P, S, decay, low, high, phi(low), phi(high), guess)
        truth = min(sought.fun, phi(low), phi(high))
        assert value <= truth * (1.0 + 1e-12)
        if sought.fun < min(phi(low), phi(high)) * (1.0 - 1e-6):
            inner += 1
            assert value >= truth * (1.0 - 2e-8)
    assert inner > 200
