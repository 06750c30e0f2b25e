"""Figures made of rows: counts, shifted geometric means, profiles, gaps, factors. No solver is run.

A run that did not end with a proof counts with its time limit, never as missing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from sftopt.studies.race.checks import Finding
from sftopt.studies.race.row import RaceRow

SHORT_SHIFT_S = 1.0
"""Shift of the geometric mean of times up to a minute, in seconds."""
LONG_SHIFT_S = 10.0
"""Shift where limits are longer, in seconds."""
LONG_LIMIT_S = 60.0
"""Limits from here on are long, in seconds."""
PROFILE_FROM = 20
"""Number of instances from which on a profile is drawn; of fewer a table says more."""
OURS = (
    "certify",
    "exhaustive",
    "augmented-lagrangian",
    "greedy",
    "alternating",
    "constructive",
    "native-spectrum",
)
"""Solvers written by the authors of this benchmark; readers are told."""
SAME = 1e-9
"""Plans and bounds that differ by less, relative, are the same: it is rounding."""
NEAR = 1e-4
"""A plan this close to the best one, relative, is as good."""

Cell = tuple[str, str]


@dataclass(frozen=True)
class Known:
    """The best that all rows together know of an instance."""

    name: str
    devices: int
    value_s: float | None
    value_by: str
    bound_s: float | None
    bound_by: str


@dataclass(frozen=True)
class Line:
    """One entry over all instances it ran on."""

    entry: str
    runs: int
    proved: int
    planned: int
    """Runs with a verified plan that is not the start's."""
    near_best: int
    """Runs whose plan is within ``NEAR`` of the best known."""
    late: int
    refused: int
    failed: int
    wrong: int
    mean_s: float | None
    """Shifted geometric mean of times to a proof; None where every run was refused."""
    median_s: float | None
    """Median of what runs took, whatever came of them."""
    gap_median: float | None
    """Own gap: own plan and own bound."""
    gap_worst: float | None
    above_median: float | None
    """Own plan above the best known."""
    above_worst: float | None
    peak_bytes: int | None


@dataclass(frozen=True)
class Factor:
    """One of ours beside the best peer, on instances of one size, to the same verified gap."""

    devices: int
    instances: int
    closed: int
    """Of them, instances that a peer proved too."""
    ours_s: float
    factor: float | None
    """Median of best peer's time over ours where a peer closed; None where none did."""
    least_factor: float | None
    """Median of limit over our time where none did: the factor is above it."""
    peer: str
    """Who was the best peer most often; empty where none closed."""
    gap_left: float | None
    """Median of the least gap of a peer where none closed."""
    cpu_factor: float | None
    """The same as ``factor`` in processor seconds of whole runs, judge included."""
    least_cpu_factor: float | None
    """The same as ``least_factor``: processor seconds of the busiest peer over ours."""


def shift_of(rows: Sequence[RaceRow]) -> float:
    """Return the shift in seconds that suits the rows' limits."""
    longest = max((row.limit_s for row in rows), default=0.0)
    return LONG_SHIFT_S if longest > LONG_LIMIT_S else SHORT_SHIFT_S


def shifted_mean_s(times_s: Sequence[float], shift_s: float) -> float:
    """Return the shifted geometric mean exp(mean(log(t + shift))) - shift in seconds."""
    return math.exp(math.fsum(math.log(t + shift_s) for t in times_s) / len(times_s)) - shift_s


def counted_s(row: RaceRow) -> float:
    """Return the seconds a run counts with: its build and engine, or its limit without a proof."""
    return min(row.solve_s, row.limit_s) if row.solved else row.limit_s


def profile(times_s: NDArray[np.float64], taus: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Dolan-More profiles as fractions, shape (entries, taus).

    ``times_s`` has shape (instances, entries), infinite where an entry failed: the share of
    instances on which its time is at most tau times the least of all.
    """
    best = times_s.min(axis=1, keepdims=True)
    solved = np.isfinite(best)
    ratios = np.full_like(times_s, np.inf)
    np.divide(times_s, best, out=ratios, where=solved & np.isfinite(times_s))
    shares: NDArray[np.float64] = (ratios[:, :, None] <= taus).mean(axis=0)
    return shares


def known_of(rows: Sequence[RaceRow], wrong: Sequence[Finding] = ()) -> dict[Cell, Known]:
    """Return the best value and bound in seconds of every instance; wrong rows say nothing."""
    bad = {one.key for one in wrong}
    cells: dict[Cell, list[RaceRow]] = defaultdict(list)
    for row in rows:
        cells[row.cell].append(row)
    found = {}
    for cell, there in cells.items():
        values = [(one.outcome.objective_s, one)
                  for one in there if one.outcome.objective_s is not None]  # fmt: skip
        bounds = [(one.outcome.bound_s, one)
                  for one in there if one.outcome.bound_s is not None
                  and one.outcome.proven_for == "problem" and one.key not in bad]  # fmt: skip
        value = min((value for value, _ in values), default=None)
        bound = max((bound for bound, _ in bounds), default=None)
        value_by = _quickest(one for found, one in values if found <= (value or 0.0) * (1 + SAME))
        bound_by = _quickest(one for found, one in bounds if found >= (bound or 0.0) * (1 - SAME))
        ref = there[0].instance
        found[cell] = Known(ref.name, ref.devices, value, value_by, bound, bound_by)
    return found


def _quickest(rows: Iterable[RaceRow]) -> str:
    """Who of several that came to the same was the first to end."""
    return min(((row.solve_s, row.entry.name) for row in rows), default=(0.0, ""))[1]


def own_gap(row: RaceRow) -> float | None:
    """Return the relative gap between a run's own plan and bound; None without both."""
    value, bound = row.outcome.objective_s, row.outcome.bound_s
    if value is None or bound is None or value <= 0.0:
        return None
    return max(0.0, (value - bound) / value)


def above_best(row: RaceRow, known: Mapping[Cell, Known]) -> float | None:
    """Return by what fraction a run's plan is above the best known; None without a plan."""
    best, value = known[row.cell].value_s, row.outcome.objective_s
    if best is None or value is None:
        return None
    above = value / best - 1.0
    return above if above > SAME else 0.0


def entries_of(rows: Sequence[RaceRow]) -> list[str]:
    """List the names of the entries that race, in the rows' order."""
    return list(dict.fromkeys(row.entry.name for row in rows if row.entry.role == "racer"))


def lines_of(rows: Sequence[RaceRow], wrong: Sequence[Finding]) -> list[Line]:
    """Summarise every entry, the one with most proofs and least mean first."""
    known = known_of(rows, wrong)
    shift = shift_of(rows)
    bad = {one.key for one in wrong}
    found = []
    for entry in entries_of(rows):
        mine = [row for row in rows if row.entry.name == entry]
        found.append(_line(entry, mine, known, shift, bad))
    return sorted(found, key=lambda line: (-line.proved, -line.near_best, line.mean_s or math.inf))


def _line(
    entry: str, mine: Sequence[RaceRow], known: Mapping[Cell, Known], shift: float, bad: set[str]
) -> Line:
    ran = [row for row in mine if row.outcome.verdict != "refused"]
    gaps = [gap for gap in map(own_gap, ran) if gap is not None]
    above = [part for part in (above_best(row, known) for row in ran) if part is not None]
    peaks = [row.cost.peak_bytes for row in ran if row.cost.peak_bytes is not None]
    failed = ("out_of_memory", "hard_killed", "crashed", "error", "starved")
    return Line(
        entry=entry,
        runs=len(mine),
        proved=sum(row.solved and row.key not in bad for row in ran),
        planned=sum(row.outcome.verdict in ("optimal", "feasible") for row in ran),
        near_best=sum(part <= NEAR for part in above),
        late=sum(row.outcome.termination == "time_limit" for row in ran),
        refused=len(mine) - len(ran),
        failed=sum(row.outcome.verdict in failed and row.key not in bad for row in ran),
        wrong=len({row.key for row in mine} & bad),
        mean_s=shifted_mean_s([counted_s(row) for row in ran], shift) if ran else None,
        median_s=median(row.solve_s for row in ran) if ran else None,
        gap_median=median(gaps) if gaps else None,
        gap_worst=max(gaps, default=None),
        above_median=median(above) if above else None,
        above_worst=max(above, default=None),
        peak_bytes=max(peaks, default=None),
    )


def times_table(rows: Sequence[RaceRow]) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Return instances, entries and the seconds (instances, entries) of runs that proved.

    Infinite where a run did not, or is not there; of several seeds the median counts.
    """
    entries = entries_of(rows)
    cells = list(dict.fromkeys(row.cell for row in rows))
    names = {row.cell: row.instance.name for row in rows}
    times: dict[tuple[Cell, str], list[float]] = defaultdict(list)
    for row in rows:
        times[row.cell, row.entry.name].append(row.solve_s if row.solved else math.inf)
    table = np.array(
        [[median(times.get((cell, entry), [math.inf])) for entry in entries] for cell in cells]
    )
    return [names[cell] for cell in cells], entries, table.reshape(len(cells), len(entries))


def factors_of(rows: Sequence[RaceRow], ours: str) -> list[Factor]:
    """Return by how much entry ``ours`` is faster than the best peer, by number of devices.

    Only instances that ``ours`` proved count. Factors are of build and engine seconds; each peer
    counts with its best form, as whoever is fastest counts.
    """
    by_size: dict[int, list[tuple[RaceRow, list[RaceRow]]]] = defaultdict(list)
    peers: dict[Cell, list[RaceRow]] = defaultdict(list)
    for row in rows:
        if row.entry.solver not in OURS and row.entry.role == "racer":
            peers[row.cell].append(row)
    for row in rows:
        if row.entry.name == ours and row.solved and peers[row.cell]:
            by_size[row.instance.devices].append((row, peers[row.cell]))
    return [_factor(size, by_size[size]) for size in sorted(by_size)]


def _factor(devices: int, pairs: Sequence[tuple[RaceRow, list[RaceRow]]]) -> Factor:
    closed, least, closed_cpu, least_cpu = [], [], [], []
    gaps, who = [], []
    for mine, others in pairs:
        done = [row for row in others if row.solved]
        own_s, own_cpu_s = max(mine.solve_s, 1e-6), max(mine.cost.cpu_s or 0.0, 1e-6)
        spent = [row.cost.cpu_s for row in done or others if row.cost.cpu_s is not None]
        if done:
            best = min(done, key=lambda row: row.solve_s)
            closed.append(best.solve_s / own_s)
            closed_cpu += [min(spent) / own_cpu_s] if spent else []
            who.append(best.entry.name)
        else:
            least.append(max(row.limit_s for row in others) / own_s)
            least_cpu += [max(spent) / own_cpu_s] if spent else []
            left = [gap for row in others if (gap := own_gap(row)) is not None]
            gaps += [min(left)] if left else []
    return Factor(
        devices=devices,
        instances=len(pairs),
        closed=len(closed),
        ours_s=median(mine.solve_s for mine, _ in pairs),
        factor=median(closed) if closed else None,
        least_factor=median(least) if least else None,
        peer=max(set(who), key=who.count) if who else "",
        gap_left=median(gaps) if gaps else None,
        cpu_factor=median(closed_cpu) if closed_cpu else None,
        least_cpu_factor=median(least_cpu) if least_cpu else None,
    )


def gap_curves(
    rows: Sequence[RaceRow], wrong: Sequence[Finding], times_s: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return by entry the median fraction that the incumbent is above the best bound, at times.

    Of runs with a trace alone; 1 before a run's first incumbent. Values are the solver's claims.
    """
    known = known_of(rows, wrong)
    curves: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for row in rows:
        bound = known[row.cell].bound_s
        points = [point for point in row.cost.trace if point.incumbent_s is not None]
        if row.entry.role != "racer" or bound is None or not points:
            continue
        elapsed = np.array([point.elapsed_s for point in points])
        value = np.array([point.incumbent_s or math.nan for point in points])
        gaps = np.concatenate([[1.0], np.maximum(0.0, (value - bound) / value)])
        curves[row.entry.name].append(gaps[np.searchsorted(elapsed, times_s, side="right")])
    return {entry: np.median(np.array(found), axis=0) for entry, found in curves.items()}


def noise_of(rows: Sequence[RaceRow]) -> tuple[float, float] | None:
    """Return the median seconds of the reference computation and its relative spread, 5 to 95 %.

    None where no row has it.
    """
    found = [one for row in rows if (one := row.context.machine.reference_s) is not None]
    if not found:
        return None
    low, middle, high = np.percentile(found, [5, 50, 95])
    return float(middle), float((high - low) / middle)


__all__ = [
    "NEAR",
    "OURS",
    "PROFILE_FROM",
    "Factor",
    "Known",
    "Line",
    "above_best",
    "counted_s",
    "entries_of",
    "factors_of",
    "gap_curves",
    "known_of",
    "lines_of",
    "noise_of",
    "own_gap",
    "profile",
    "shift_of",
    "shifted_mean_s",
    "times_table",
]
