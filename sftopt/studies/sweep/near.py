"""Schemes whose lines lie upon one another: what a figure cannot show, said in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NEAR = 0.02
"""Share of a figure by which two medians differ that cannot be told apart in a picture."""


def near_schemes(
    spread: Sequence[dict[str, Any]], schemes: Sequence[str], axes: Sequence[str]
) -> dict[str, str]:
    """Return for each scheme an earlier one whose medians are within 2 % of its at every point.

    ``spread``: the rows of :meth:`Sweep.spread`; ``axes``: names of its axes.
    """
    medians: dict[str, dict[tuple[Any, ...], float]] = {scheme: {} for scheme in schemes}
    for row in spread:
        if row["median"] is not None:
            medians[row["scheme"]][tuple(row[name] for name in axes)] = row["median"]
    found: dict[str, str] = {}
    for place, scheme in enumerate(schemes):
        for other in schemes[:place]:
            if other not in found and _within(medians[scheme], medians[other]):
                found[scheme] = other
                break
    return found


def _within(ours: dict[tuple[Any, ...], float], theirs: dict[tuple[Any, ...], float]) -> bool:
    if not ours or ours.keys() != theirs.keys():
        return False
    return all(abs(ours[p] - theirs[p]) <= NEAR * abs(theirs[p]) for p in ours)
