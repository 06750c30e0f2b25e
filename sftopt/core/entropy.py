"""Binary entropy on arrays, and the payload (1) that it is part of: one place for NumPy code.

The judge (:mod:`sftopt.core.payload`), Pyomo's expressions, certify's bound and plans and the
exhaustive search write the same algebra a second time on purpose: they prove these numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LN2 = math.log(2.0)
"""Nats per bit."""
_LEAST = 1e-300
"""Shares below this are moved up to it: their logarithms stay finite."""
_MOST = 1.0 - 1e-16
"""Shares above this are moved down to it, for the same reason."""


def inside(share: Array) -> Array:
    """Clip ``share`` to the open interval (0, 1), where logarithms are finite; any shape."""
    return np.clip(share, _LEAST, _MOST)


def entropy_bits(share: Array) -> Array:
    """Return the binary entropy H2 of ``share`` in bits; same shape."""
    inner = inside(share)
    value: Array = -(inner * np.log(inner) + (1.0 - inner) * np.log1p(-inner)) / LN2
    return value


def entropy_slope_nats(share: Array) -> Array:
    """Return dH2/d share = ln((1 - share)/share) in nats; same shape."""
    inner = inside(share)
    value: Array = np.log1p(-inner) - np.log(inner)
    return value


def entropy_with_slope(share: Array) -> tuple[Array, Array]:
    """Return H2 in bits and its slope in nats, both from the same two logarithms."""
    inner = inside(share)
    log_in, log_out = np.log(inner), np.log1p(-inner)
    value: Array = -(inner * log_in + (1.0 - inner) * log_out) / LN2
    return value, log_out - log_in


def payload_bits(
    keep: Array, eta: Array | float, omega: Array | float, constant: Array | float
) -> Array:
    """Return the bits per element that keeping ``keep`` of them costs; shapes broadcast.

    Equation (1) with ``eta`` bits per kept value, ``omega`` per bit of the mask's entropy and
    ``constant`` bits per element whatever is kept.
    """
    value: Array = keep * eta + omega * entropy_bits(keep) + constant
    return value
