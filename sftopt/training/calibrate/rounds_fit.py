"""Laws of rounds to a target from fine-tunings whose metric is known after every round.

Section 9 of ``formulations/MODEL.md``. A run reaches a level where its metric first does, between
two rounds in proportion. Omega of a setting is what equation (12) says of it, as fitted to the same
runs: a plan's Omega comes from there too.

``linear``, level by level: R_0 and k_g of least squared relative error over the settings' mean
rounds, k_g at least 0; their spread is that of fits to one seed each. ``saturating``: T_g and
m_start of least squares over the uncompressed runs' levels, with a_0 as calibrated.

A law's error is of settings it has not seen: for ``linear``, each setting is predicted by a fit
without it; ``saturating`` sees no compressed run at all. The interval of the median is a bootstrap
over settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from sftopt.core.plan import Aggregation, Order
from sftopt.core.target_laws import (
    LawError,
    LinearLaw,
    LinearLevel,
    RoundFactor,
    SaturatingLaw,
    TargetLaws,
)
from sftopt.training.calibrate.fit import mean_half_width
from sftopt.training.calibrate.settings import CONDUCTS

Array = NDArray[np.float64]

_LEVELS = 6
"""Levels that are looked for where none are asked for."""
_LOWEST = 0.5
"""The lowest of them, as a share of the way from the first round's metric to the last's."""
_HIGHEST = 0.95
"""The highest of them, likewise."""
_DIGITS = 3
"""Decimals of a level that was looked for."""
_LEAST_SETTINGS = 3
"""Settings that must reach a level: the law has two numbers."""
_DRAWS = 2000
"""Draws of the bootstrap."""
_CONFIDENCE = 0.95
"""Of every interval."""


@dataclass(frozen=True)
class Curves:
    """The metric after every round, (rounds,), of each seed's run, by setting.

    A setting is its loss Omega; the uncompressed one has 0. ``ranks`` are uncompressed runs at
    other ranks, ``conducts`` at another order or aggregation, each beside the run of the same seed.
    """

    metric: str
    uncompressed: float
    """a_0 as calibrated."""
    seeds: tuple[int, ...]
    plain: tuple[Sequence[float], ...]
    settings: Mapping[float, tuple[Sequence[float], ...]]
    ranks: Mapping[int, tuple[Sequence[float], ...]] = field(default_factory=dict)
    conducts: Mapping[str, tuple[Sequence[float], ...]] = field(default_factory=dict)
    learning_rate: float | None = None
    local_steps: int | None = None


def rounds_to(curve: Sequence[float], target: float) -> float:
    """Return after how many rounds a run's metric first reaches ``target``; NaN for never."""
    for number, value in enumerate(curve, start=1):
        if value >= target:
            if number == 1:
                return 1.0
            before = curve[number - 2]
            return number - 1 + (target - before) / (value - before)
    return math.nan


def fit_laws(curves: Curves, targets: Sequence[float] = ()) -> TargetLaws | None:
    """Fit both laws, and mu of other ranks, orders and aggregations; None where too few runs reach
    any level.

    ``targets``: the levels to fit; none: some between the metric's start and its end.
    """
    table = _table(curves, tuple(sorted(set(targets))) or _levels(curves))
    if not table:
        return None
    return TargetLaws(
        metric=curves.metric,
        linear=_linear(curves, table),
        saturating=_saturating(curves, table),
        factors=_factors(curves, tuple(table)),
        seeds=curves.seeds,
        learning_rate=curves.learning_rate,
        local_steps=curves.local_steps,
    )


def _levels(curves: Curves) -> tuple[float, ...]:
    """Levels between the mean first and the mean last metric of the uncompressed runs."""
    first = float(np.mean([curve[0] for curve in curves.plain]))
    last = float(np.mean([curve[-1] for curve in curves.plain]))
    shares = np.linspace(_LOWEST, _HIGHEST, _LEVELS)
    return tuple(
        dict.fromkeys(round(first + float(share) * (last - first), _DIGITS) for share in shares)
    )


def _table(curves: Curves, levels: Sequence[float]) -> dict[float, dict[float, Array]]:
    """Level -> Omega -> rounds of every seed; settings with a run that never gets there left out.

    Levels that the uncompressed runs or too few settings reach are left out, and levels that do
    not take more rounds than the one below.
    """
    found: dict[float, dict[float, Array]] = {}
    least = 0.0
    every = {0.0: curves.plain, **curves.settings}
    for level in levels:
        reached = {
            loss: rounds
            for loss, runs in every.items()
            if not np.any(np.isnan(rounds := np.array([rounds_to(run, level) for run in runs])))
        }
        enough = len(reached) >= min(_LEAST_SETTINGS, len(every)) and 0.0 in reached
        if enough and float(reached[0.0].mean()) > least:
            found[level], least = reached, float(reached[0.0].mean())
    return found


def _line(rounds: Mapping[float, float]) -> tuple[float, float]:
    """(R_0, k_g) of least squared relative error over Omega -> rounds."""
    losses, means = np.array(list(rounds)), np.array(list(rounds.values()))
    columns = np.column_stack([np.ones_like(losses), losses]) / means[:, None]
    (base, rise), _ = nnls(columns, np.ones_like(means))
    return float(base), float(rise / base) if base > 0.0 else 0.0


def _means(reached: Mapping[float, Array]) -> dict[float, float]:
    return {loss: float(rounds.mean()) for loss, rounds in reached.items()}


def _linear(curves: Curves, table: Mapping[float, Mapping[float, Array]]) -> LinearLaw | None:
    levels: list[LinearLevel] = []
    errors: dict[float, list[float]] = {}
    for target, reached in table.items():
        means = _means(reached)
        base, slope = _line(means)
        if base <= 0.0 or (levels and base < levels[-1].rounds):
            continue
        lines = [
            _line({loss: float(rounds[n]) for loss, rounds in reached.items()})
            for n in range(len(curves.seeds))
        ]
        several = len(lines) > 1
        spread = [mean_half_width(np.array(values)) for values in zip(*lines, strict=True)]
        levels.append(
            LinearLevel(
                target=target, rounds=base, slope=slope,
                rounds_half_width=spread[0] if several else None,
                slope_half_width=spread[1] if several else None,
            )
        )  # fmt: skip
        for loss, measured in means.items():
            others = {other: value for other, value in means.items() if other != loss}
            if loss == 0.0 or len(others) < 2:
                continue
            base, slope = _line(others)
            predicted = base * (1.0 + slope * loss)
            errors.setdefault(loss, []).append(abs(predicted / measured - 1.0))
    if not levels:
        return None
    return LinearLaw(
        levels=tuple(levels),
        loss_to=max(loss for reached in table.values() for loss in reached),
        error=law_error(errors, "each setting predicted by a fit without it"),
    )


def _saturating(curves: Curves, table: Mapping[float, Mapping[float, Array]]) -> (
    SaturatingLaw | None
):  # fmt: skip
    """R = T_g (ln(a_0 - m_start) - ln(a_0 - a_t)): a line in the second logarithm."""
    a_0 = curves.uncompressed
    levels = [target for target in table if target < a_0]
    if len(levels) < 2:
        return None
    across = -np.log(a_0 - np.array(levels))

    def line(rounds: Array) -> tuple[float, float]:
        scale, offset = np.polyfit(across, rounds, 1)
        return float(scale), a_0 - math.exp(min(offset / scale, 50.0)) if scale > 0.0 else math.nan

    each = np.array([[table[level][0.0][n] for level in levels] for n in range(len(curves.seeds))])
    scale, start = line(each.mean(axis=0))
    if not scale > 0.0 or not math.isfinite(start) or start >= levels[0]:
        return None
    law = SaturatingLaw(scale_rounds=scale, start=start)
    errors: dict[float, list[float]] = {}
    for level in levels:
        for loss, measured in _means(table[level]).items():
            if loss > 0.0:
                predicted = law.rounds(loss, level, a_0)
                errors.setdefault(loss, []).append(abs(predicted / measured - 1.0))
    spreads = [line(rounds) for rounds in each]
    several = len(spreads) > 1 and all(math.isfinite(start) for _, start in spreads)
    widths = [mean_half_width(np.array(values)) for values in zip(*spreads, strict=True)]
    return law.model_copy(
        update={
            "scale_half_width": widths[0] if several else None,
            "start_half_width": widths[1] if several else None,
            "loss_to": max(loss for reached in table.values() for loss in reached),
            "error": law_error(errors, "fitted to uncompressed runs only"),
        }
    )


def law_error(errors: Mapping[float, Sequence[float]], text: str) -> LawError | None:
    """Return the median error over settings and levels, with a bootstrap over settings.

    ``errors``: relative ones by setting, one for each level. None without any, or where more than
    half of them are infinite: the law then says that what was reached cannot be.
    """
    groups = [np.array(values) for values in errors.values() if len(values)]
    if not groups:
        return None
    median = float(np.median(np.concatenate(groups)))
    if not math.isfinite(median):
        return None
    draw = np.random.default_rng(0)
    medians = [
        float(np.median(np.concatenate([groups[n] for n in chosen])))
        for chosen in draw.integers(len(groups), size=(_DRAWS, len(groups)))
    ]
    tail = (1.0 - _CONFIDENCE) / 2.0
    known = np.minimum(medians, 1e9)
    return LawError(
        median_abs_rel=median,
        low=float(np.quantile(known, tail)),
        high=float(np.quantile(known, 1.0 - tail)),
        confidence=_CONFIDENCE,
        settings=len(groups),
        text=text,
    )


def _factors(curves: Curves, levels: Sequence[float]) -> tuple[RoundFactor, ...]:
    """mu of every other rank, order and aggregation.

    The mean ratio of rounds to the run of the same seed.
    """
    found = []
    for rank, runs in curves.ranks.items():
        found += _factor(
            curves.plain, runs, levels,
            order=Order.PARALLEL, rank=rank, aggregation=Aggregation.AVERAGING,
        )  # fmt: skip
    for name, runs in curves.conducts.items():
        order, aggregation = CONDUCTS[name]
        found += _factor(curves.plain, runs, levels, order=order, aggregation=aggregation)
    return tuple(found)


def _factor(
    plain: Sequence[Sequence[float]], runs: Sequence[Sequence[float]], levels: Sequence[float],
    **kind: Any,
) -> list[RoundFactor]:  # fmt: skip
    """One mu, or none where a seed's run shares no level with the plain one."""
    ratios = []
    for own, other in zip(runs, plain, strict=True):
        pairs = [(rounds_to(own, level), rounds_to(other, level)) for level in levels]
        known = [mine / theirs for mine, theirs in pairs if not math.isnan(mine + theirs)]
        if known:
            ratios.append(float(np.mean(known)))
    if len(ratios) < len(runs) or not ratios:
        return []
    width = mean_half_width(np.array(ratios)) if len(ratios) > 1 else None
    return [RoundFactor(**kind, factor=float(np.mean(ratios)), half_width=width)]
