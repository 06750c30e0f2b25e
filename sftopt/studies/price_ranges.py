"""How far a price holds: the end of its range, sought outwards by evaluating a strain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_FARTHEST = 60.0
"""How many first steps far a range is searched."""
_TRIALS = 20
"""Most evaluations of T per end of a range."""
_CLOSE = 0.05
"""How near to the true end of a range, relative to its half, the search stops."""


def reach(strain: Callable[[float], float], first: float) -> float | None:
    """Return about the largest step, in the unit of ``first``, with ``strain`` at most 1.

    Goes outwards from 0; None where no end was met.

    The strain of a smooth T grows about in proportion to the step, so that is the guess;
    bisection guards it. The answer was evaluated and holds, or is 0.
    """
    good, bad, step = 0.0, np.inf, first
    for trial in range(_TRIALS):
        found = strain(step)
        if found <= 1.0:
            good = step
        else:
            bad = step
        if good >= (1.0 - _CLOSE) * bad or 1.0 - _CLOSE <= found <= 1.0:
            break
        guess = 0.98 * step / found if found > 0.0 else np.inf
        if bad == np.inf:
            if good > _FARTHEST * first:
                return None
            step = min(max(guess, 1.1 * good), 4.0 * good)
        elif good == 0.0:  # at a kink no guess would ever hold: shrink fast
            step = min(max(guess, 0.1 * bad), (0.95 if trial == 0 else 0.3) * bad)
        else:
            step = guess if good < guess < bad else 0.5 * (good + bad)
    return good
