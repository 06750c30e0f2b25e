"""Compiled: how both box bounds sum over devices and end, at each of the four corners.

Sums run in blocks of devices, and each corner value is lowered by a part of the sum of its absolute
terms: Statement 7.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.bound.arrays import (
    CORNERS,
    BoundData,
    Box,
    CornerBounds,
    corner_times,
)
from sftopt.solvers.certify.guidance import Multipliers

Array = NDArray[np.float64]

MARGIN = 1e-12
"""What a corner value is lowered by, relative to the sum of its absolute terms: Statement 7."""
BLOCK = 64
"""So many devices are summed at a time: Statement 7."""
COLUMNS = 7
"""Columns of the sums, named below."""
LEAST = 0
"""Column: the devices' least costs."""
SIZE = 1
"""Column: absolute terms of the costs."""
COST = 2
"""Column: parts of the costs without a multiplier."""
SHARE_UP = 3
"""Column: uplink shares, the factor of lambda."""
SHARE_DOWN = 4
"""Column: downlink shares, the factor of mu."""
LOSS = 5
"""Column: mean loss, the factor of alpha."""
HELD = 6
"""Column: server memory, the factor of nu."""


class CornerSums(NamedTuple):
    """Sums over devices at the corners of a box."""

    block: Array
    """(4, 7) of the devices since the last full block."""
    total: Array
    """(4, 7) of all full blocks."""


@njit(cache=True, inline="always")
def new_sums(out: CornerBounds) -> CornerSums:
    """Make sums of zero, also of what tangents lose."""
    out.lost[:] = 0.0
    return CornerSums(np.zeros((CORNERS, COLUMNS)), np.zeros((CORNERS, COLUMNS)))


@njit(cache=True, inline="always")
def add_device(
    sums: CornerSums, k: int, least: float, size: float, cost: float, share_up: float,
    share_down: float, loss: float, held: float,
) -> None:  # fmt: skip
    """Add a device's least item at corner ``k``, term by term."""
    block = sums.block
    block[k, LEAST] += least
    block[k, SIZE] += size
    block[k, COST] += cost
    block[k, SHARE_UP] += share_up
    block[k, SHARE_DOWN] += share_down
    block[k, LOSS] += loss
    block[k, HELD] += held


@njit(cache=True, inline="always")
def add_tangent_loss(
    lost: Array, k: int, link: int, room: float, priced: float, tangent: float, most: float
) -> None:
    """Add what a device's tangent loses on a link (0 up, 1 down), in seconds; at most ``most``
    is charged where the corner leaves the device no time."""
    if room > 0.0:
        lost[k, link] += priced * (1.0 / room - tangent)
    else:
        lost[k, link] += most


@njit(cache=True, inline="always")
def end_device(sums: CornerSums, n: int, devices: int) -> None:
    """Close a block of sums after every 64th and after the last device; Statement 7."""
    if n % BLOCK == BLOCK - 1 or n == devices - 1:
        for k in range(CORNERS):
            for j in range(COLUMNS):
                sums.total[k, j] += sums.block[k, j]
                sums.block[k, j] = 0.0


@njit(cache=True, inline="always")
def nothing_left(out: CornerBounds) -> None:
    """Set infinite bounds: a device has no item left in the box."""
    for k in range(CORNERS):
        out.values[k] = np.inf


@njit(cache=True, inline="always")
def end_corners(
    data: BoundData, box: Box, m: Multipliers, sums: CornerSums, out: CornerBounds
) -> None:
    """Write the safe bound in seconds and the plane of each corner; Statements 1, 5 and 7."""
    total, planes = sums.total, out.planes
    for k in range(CORNERS):
        tau_up, tau_down = corner_times(box, k)
        time = data.steps * (tau_up + tau_down + box.server)
        fixed = m.uplink + m.downlink + m.loss * data.budget + m.memory * data.memory
        size = abs(time) + m.uplink + m.downlink
        size = size + abs(m.loss * data.budget) + m.memory * abs(data.memory)
        out.values[k] = time - fixed + total[k, LEAST] - MARGIN * (size + total[k, SIZE])
        planes[k, 0] = time + total[k, COST]
        planes[k, 1] = total[k, SHARE_UP] - 1.0
        planes[k, 2] = total[k, SHARE_DOWN] - 1.0
        planes[k, 3] = total[k, LOSS] - data.budget
        planes[k, 4] = total[k, HELD] - data.memory
