"""How the learning rate goes over the steps of a run."""

from __future__ import annotations

import math
from enum import StrEnum


class Schedule(StrEnum):
    """How the learning rate of every part goes over the steps of a run."""

    CONSTANT = "constant"
    LINEAR = "linear"
    """Up over the first 20 steps, then straight down to a twentieth at the last."""
    COSINE = "cosine"
    """Up over the first 20 steps, then half a cosine down to a twentieth."""

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at ``step``, from 0, of ``steps``."""
        if self is Schedule.CONSTANT:
            return 1.0
        left = 1.0 - step / steps
        if self is Schedule.COSINE:
            left = _LAST_FACTOR + (1.0 - _LAST_FACTOR) * 0.5 * (
                1.0 + math.cos(math.pi * step / steps)
            )
        return min(1.0, (step + 1) / _WARMUP_STEPS) * max(_LAST_FACTOR, left)


_WARMUP_STEPS = 20
"""Steps over which the learning rate rises to its full value."""
_LAST_FACTOR = 0.05
"""Least factor of the learning rate, reached at the end."""
