"""The search over all rows: first bounds, inner problems in their order, splitting, polish.

The argument is in :mod:`sftopt.solvers.exhaustive`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate
from sftopt.core.instance import AccuracyScope
from sftopt.core.spectrum import LinearRate
from sftopt.core.status import Termination
from sftopt.solvers.base import Outcome, Progress, Task
from sftopt.solvers.exhaustive.curves import envelope
from sftopt.solvers.exhaustive.inner import Solved, at_lowest, solve_rows, tighten
from sftopt.solvers.exhaustive.rows import Rows
from sftopt.solvers.exhaustive.space import Space, combination_count, mean_loss, round_time

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

RELATIVE_TOLERANCE = 1e-7
"""How far the proven bound may lie below the value."""
_DROP = 0.8 * RELATIVE_TOLERANCE
"""Rows whose bound is this near to the best value, relative, are settled."""
_INNER = 0.3 * RELATIVE_TOLERANCE
"""Relative accuracy asked of a row's inner problem."""
_MARGIN = 4e-12
"""Far above what rounding does to a bound, relative."""
_SMALLEST_SPLIT = 1e-10
"""Rows whose intervals of v are all shorter than this are not split any more."""
_BATCH = 64
"""Rows split at a time."""
_REPORT_EVERY_S = 0.25
"""Seconds between two reports of progress."""
_SOURCE = "exhaustive"
"""The name under which its bound is reported."""


@dataclass
class _Counts:
    """What happened to the rows, for the message."""

    infeasible: int = 0
    closed_form: int = 0
    pruned: int = 0
    solved: int = 0
    split: int = 0


@dataclass
class _Best:
    """The incumbent."""

    value_s: float = np.inf
    candidate: Candidate | None = None
    row: Rows | None = None
    """Its row where it came out of an inner problem; for the last polish."""


@dataclass
class _Open:
    """Rows with bounds that are not settled yet."""

    rows: list[Rows] = field(default_factory=list)
    bounds: list[Array] = field(default_factory=list)
    keeps: list[Array] = field(default_factory=list)

    def least(self) -> float:
        return min((float(b.min(initial=np.inf)) for b in self.bounds), default=np.inf)


class Search:
    """One run: first bounds of all rows, then inner problems in the order of these bounds."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.derived = task.derived
        self.space = Space(task.derived)
        self.cell = self.space.cell
        self.best = _Best()
        self.counts = _Counts()
        self.open = _Open()
        self.closed_bound_s = np.inf
        self.pending_bound_s = -np.inf
        """Least bound of rows that have none of their own yet."""
        linear = isinstance(self.cell.uplink, LinearRate)
        self.chunk = max(1, (60_000 if linear else 6_000) // self.derived.devices)
        self.next_report = 0.0

    def expired(self) -> bool:
        """Tell whether the time is over or a stop was asked for."""
        return self.task.deadline.passed() or self.task.stop_requested()

    def bound(self) -> float | None:
        """Return the proven bound so far, in seconds; None before every row has one."""
        value = min(self.closed_bound_s, self.pending_bound_s, self.open.least())
        value = min(value * (1.0 - _MARGIN), self.best.value_s)
        return float(value) if np.isfinite(value) else None

    def run(self) -> Outcome:
        """Settle all rows, or as many as time allows, and return what came of it."""
        numbers, lower = self._first_bounds()
        if numbers is not None and lower is not None:
            self._solve_in_order(numbers, lower)
            self._branch()
            if not self.expired():
                self._polish()
        return self._outcome()

    def report(self, force: bool = False) -> None:
        """Report incumbent and bound, at most every ``_REPORT_EVERY_S`` seconds."""
        now = time.monotonic()
        if not force and now < self.next_report:
            return
        self.next_report = now + _REPORT_EVERY_S
        found = self.best.candidate is not None
        bound = self.bound()
        self.task.report(
            Progress(
                incumbent_s=self.best.value_s if found else None,
                bound_s=bound,
                candidate=self.best.candidate,
                bound_source=None if bound is None else _SOURCE,
            )
        )

    def _first_bounds(self) -> tuple[Integers | None, Array | None]:
        """Bounds with the mean limit left out; exact values where it holds at the lowest keep.

        Returns the rows still to solve and their bounds, ascending; None where time ran out.
        """
        numbers, bounds = [], []
        for begin in range(0, self.space.size, self.chunk):
            if self.expired():
                return None, None
            part = np.arange(begin, min(begin + self.chunk, self.space.size), dtype=np.int64)
            rows, allowed = self.space.rows(part)
            if self.derived.scope is AccuracyScope.MEAN:
                rows, possible = tighten(rows, self.cell)
                allowed &= possible
            self.counts.infeasible += int(np.count_nonzero(~allowed))
            rows = rows.take(allowed)
            if not len(rows):
                continue
            lower, fits = at_lowest(rows, self.cell)
            if self.derived.scope is not AccuracyScope.MEAN:
                fits = np.ones(len(rows), dtype=np.bool_)
            if np.any(fits):
                self.counts.closed_form += int(np.count_nonzero(fits))
                self.closed_bound_s = min(self.closed_bound_s, float(lower[fits].min()))
                inside = rows.take(fits)
                self._consider(inside, lower[fits], inside.low)
            numbers.append(part[allowed][~fits])
            bounds.append(lower[~fits])
        if not numbers:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        number, bound = np.concatenate(numbers), np.concatenate(bounds)
        order = np.argsort(bound, kind="stable")
        self.pending_bound_s = float(bound[order[0]]) if len(order) else np.inf
        return number[order], bound[order]

    def _solve_in_order(self, numbers: Integers, lower: Array) -> None:
        """Inner problems, most promising first, until no bound is below the incumbent."""
        self.pending_bound_s = np.inf
        begin, size = 0, 64
        while begin < len(numbers):
            self.pending_bound_s = float(lower[begin])
            self.report()
            if self.expired():
                return
            wanted = np.searchsorted(lower, self.best.value_s * (1.0 - _DROP))
            if begin >= wanted:
                self.counts.pruned += len(numbers) - begin
                self.closed_bound_s = min(self.closed_bound_s, float(lower[begin]))
                break
            end = min(begin + size, int(wanted))
            rows, _ = tighten(self.space.rows(numbers[begin:end])[0], self.cell)
            self._solve(rows, lower[begin:end])
            begin, size = end, min(4 * size, self.chunk)
        self.pending_bound_s = np.inf

    def _solve(self, rows: Rows, lower: Array) -> None:
        """Solve rows, take their points, and keep those still below the incumbent."""
        self.counts.solved += len(rows)
        solved = solve_rows(rows, self.cell, self.best.value_s, _INNER, self.expired)
        solved = self._repair(rows, solved)
        self._consider(rows, solved.value_s, solved.keep)
        unseen = np.flatnonzero(np.isinf(solved.value_s))
        if len(unseen):  # no room inside the limit: the upper ends are a point all the same
            ends = rows.take(unseen)
            self._consider(ends, at_lowest(replace(ends, low=ends.high), self.cell)[0], ends.high)
        bound = np.maximum(solved.bound_s, lower)
        stays = bound < self.best.value_s * (1.0 - _DROP)
        self.closed_bound_s = min(self.closed_bound_s, float(bound[~stays].min(initial=np.inf)))
        if np.any(stays):
            self.open.rows.append(rows.take(stays))
            self.open.bounds.append(bound[stays])
            self.open.keeps.append(solved.keep[stays])

    def _repair(self, rows: Rows, solved: Solved) -> Solved:
        """Move points that use an envelope below the loss towards ``high`` until they are true."""
        cell = self.cell
        over = (cell.weight * rows.loss(solved.keep, cell)).sum(axis=1) > cell.budget
        wrong = np.flatnonzero(over & np.isfinite(solved.value_s))
        if not len(wrong):
            return solved
        part = rows.take(wrong)
        start = solved.keep[wrong]
        bad, good = np.zeros(len(wrong)), np.ones(len(wrong))
        for _ in range(60):
            middle = 0.5 * (bad + good)
            keep = start + middle[:, None] * (part.high - start)
            fits = (cell.weight * part.loss(keep, cell)).sum(axis=1) <= cell.budget
            good, bad = np.where(fits, middle, good), np.where(fits, bad, middle)
        keep = start + good[:, None] * (part.high - start)
        at_keep = replace(part, low=keep)
        value, keeps = solved.value_s.copy(), solved.keep.copy()
        value[wrong], _ = at_lowest(at_keep, cell)
        # the relaxed point is where the row is split: keep it, unless this one wins
        wins = value[wrong] < self.best.value_s
        for row in np.flatnonzero(wins):
            self._consider(part.take(np.array([row])), value[wrong[[row]]], keep[[row]])
        value[wrong] = np.inf
        return Solved(solved.bound_s, value, keeps)

    def _consider(self, rows: Rows, values: Array, keeps: Array) -> None:
        """Evaluate the best points exactly; ``values`` says which are worth it."""
        for row in np.argsort(values, kind="stable"):
            if not values[row] < self.best.value_s * (1.0 - 1e-12):
                return
            cuts, options = self.space.decisions(rows.piece[row])
            keep = self._inside(cuts, options, keeps[row], rows.high[row])
            if keep is None:
                continue
            value = round_time(self.derived, cuts, options, keep)
            if value < self.best.value_s:
                number = len(self.derived.options)
                candidate = Candidate.of(cuts, options, keep, number)
                self.best = _Best(value, candidate, rows.take(np.array([row])))
                self.report()

    def _inside(self, cuts: Integers, options: Integers, keep: Array, high: Array) -> Array | None:
        """``keep``, moved up by rounding errors until the mean limit holds in floating point."""
        if self.derived.scope is not AccuracyScope.MEAN:
            return keep.copy()
        step = 0.0
        while step <= 1e-9:
            moved = keep + step * (high - keep)
            if mean_loss(self.derived, cuts, options, moved) <= self.derived.loss_budget:
                return moved
            step = max(4.0 * step, 1e-15)
        # a limit that only all upper ends together meet is met up to the last bit
        excess = mean_loss(self.derived, cuts, options, high) - self.derived.loss_budget
        return high.copy() if excess <= self.derived.loss_rounding else None

    def _branch(self) -> None:
        """Statement 6: split the open rows, least bound first."""
        while self.open.rows and not self.expired():
            rows = Rows.join(self.open.rows)
            bounds = np.concatenate(self.open.bounds)
            keeps = np.concatenate(self.open.keeps)
            self.open = _Open()
            beaten = bounds >= self.best.value_s * (1.0 - _DROP)
            widest = (rows.v_high - rows.v_low).max(axis=1)
            done = beaten | (widest < _SMALLEST_SPLIT)
            self.closed_bound_s = min(self.closed_bound_s, float(bounds[done].min(initial=np.inf)))
            left = np.flatnonzero(~done)
            if not len(left):
                return
            order = left[np.argsort(bounds[left], kind="stable")]
            now, later = order[:_BATCH], order[_BATCH:]
            if len(later):
                self.open = _Open([rows.take(later)], [bounds[later]], [keeps[later]])
            self.pending_bound_s = float(bounds[now].min())
            self._split(rows.take(now), bounds[now], keeps[now])
            self.pending_bound_s = np.inf
            self.report()

    def _split(self, rows: Rows, bounds: Array, keeps: Array) -> None:
        """Cut one interval of every row in two and solve the halves."""
        self.counts.split += len(rows)
        children = self._children(rows, keeps)
        bounds = np.concatenate([bounds, bounds])
        children, possible = tighten(children, self.cell)
        children, bounds = children.take(possible), bounds[possible]
        if not len(children):
            return
        lower, fits = at_lowest(children, self.cell)
        bounds = np.maximum(bounds, lower)
        if np.any(fits):
            self.closed_bound_s = min(self.closed_bound_s, float(bounds[fits].min()))
            inside = children.take(fits)
            self._consider(inside, lower[fits], inside.low)
        if not np.all(fits):
            self._solve(children.take(~fits), bounds[~fits])

    def _children(self, rows: Rows, keeps: Array) -> Rows:
        """Both halves of every row, split where the envelope is furthest below the loss."""
        below, above = [], []
        for number in range(len(rows)):
            row = rows.take(slice(number, number + 1))
            device, at = self._split_point(row, keeps[number : number + 1])
            below.append(self._narrow(row, device, float(row.low[0, device]), at))
            above.append(self._narrow(row, device, at, float(row.high[0, device])))
        return Rows.join(below + above)

    def _split_point(self, row: Rows, keep: Array) -> tuple[int, float]:
        """The device and keep fraction at which to split one row."""
        v = row.log_payload(keep)
        line = row.loss(keep, self.cell)
        left, right = v < row.left_v, v > row.right_v
        with np.errstate(invalid="ignore"):
            line = np.where(left, row.left_loss + row.left_slope * (v - row.left_v), line)
            line = np.where(right, row.right_loss + row.right_slope * (v - row.right_v), line)
        gap = (self.cell.weight * (row.loss(keep, self.cell) - line))[0]
        low, high, point = row.low[0], row.high[0], keep[0]
        if gap.max() > 1e-15:
            device = int(gap.argmax())
        else:
            device = int((row.v_high - row.v_low)[0].argmax())
        inside = (point[device] - low[device]) / (high[device] - low[device])
        if 0.02 <= inside <= 0.98:
            return device, float(point[device])
        return device, float(0.5 * (low[device] + high[device]))

    def _narrow(self, row: Rows, device: int, low: float, high: float) -> Rows:
        """The row with the device's interval and envelope replaced."""
        curve = self.space.choices[device][int(row.piece[0, device])].curve
        shape = envelope(curve, low, high)
        changes = {
            "low": low, "high": high,
            "v_low": curve.log_payload(low), "v_high": curve.log_payload(high),
            "left_v": shape.left_v, "left_loss": shape.left_loss, "left_slope": shape.left_slope,
            "right_v": shape.right_v, "right_loss": shape.right_loss,
            "right_slope": shape.right_slope,
        }  # fmt: skip
        columns = {}
        for name, value in changes.items():
            column = getattr(row, name).copy()
            column[0, device] = value
            columns[name] = column
        return replace(row, **columns)

    def _polish(self) -> None:
        """Solve the incumbent's own inner problem to rounding."""
        row = self.best.row
        if row is None or self.derived.scope is not AccuracyScope.MEAN:
            return
        _, fits = at_lowest(row, self.cell)
        if fits[0]:
            return
        solved = solve_rows(row, self.cell, np.inf, 1e-11, self.expired)
        self._consider(row, solved.value_s, solved.keep)

    def _outcome(self) -> Outcome:
        self.report(force=True)
        best, counts, bound = self.best, self.counts, self.bound()
        total = combination_count(self.derived)
        solved = f"{counts.solved:,} inner problems solved"
        if counts.split:
            solved += f" ({counts.split:,} splits)"
        dropped = total - self.space.combinations
        if self.space.size > self.space.combinations:
            extra = self.space.size - self.space.combinations
            solved += f"; loss curves in several pieces add {extra:,} to the counts"
        message = (
            f"{total:,} combinations of cuts and options: {counts.infeasible + dropped:,} "
            f"infeasible, {counts.closed_form:,} settled at their lowest payload, "
            f"{counts.pruned:,} pruned by bound, {solved}"
        )
        if best.candidate is None:
            termination = self._stopped() or Termination.INFEASIBLE_PROVEN
            if termination is Termination.INFEASIBLE_PROVEN:
                message = f"no combination meets all limits; {message}"
                bound = None
        elif bound is not None and best.value_s - bound <= RELATIVE_TOLERANCE * best.value_s:
            termination = Termination.CONVERGED_GLOBAL
        else:
            termination = self._stopped() or Termination.NUMERICAL_ERROR
        found = best.candidate is not None
        return Outcome(
            termination=termination,
            candidate=best.candidate,
            claimed_s=best.value_s if found else None,
            bound_s=bound,
            bound_source=None if bound is None else _SOURCE,
            nodes=counts.closed_form + counts.solved,
            message=message,
        )

    def _stopped(self) -> Termination | None:
        if self.task.stop_requested():
            return Termination.INTERRUPTED
        return Termination.TIME_LIMIT if self.task.deadline.passed() else None
