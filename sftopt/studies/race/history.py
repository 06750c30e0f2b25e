"""How entries went from commit to commit, where the rows of several were merged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sftopt.studies.race.measures import counted_s, entries_of, shift_of, shifted_mean_s
from sftopt.studies.race.row import RaceRow, latest

CHANGED = 1.3
"""A mean that changed by more than this factor from one commit to the next is told."""


@dataclass(frozen=True)
class Step:
    """One entry at one commit, over the runs that it has at every commit."""

    commit: str
    date: str
    runs: int
    proved: int
    mean_s: float
    """Shifted geometric mean of times to a proof."""


def commits_of(rows: Sequence[RaceRow]) -> list[tuple[str, str]]:
    """List the commits that rows were made at, with their dates, in the order of time."""
    began: dict[str, str] = {}
    for row in rows:
        commit = row.context.commit
        began[commit] = min(began.get(commit, "9"), row.context.began_at or "9")
    return [(commit, time[:10]) for commit, time in sorted(began.items(), key=lambda one: one[1])]


def history_of(rows: Sequence[RaceRow]) -> dict[str, list[Step]]:
    """Return the entries' ways through the commits; empty where there is one commit only.

    ``rows`` are all rows of a folder, earlier attempts too; the last of a commit counts.
    """
    commits = commits_of(rows)
    if len(commits) < 2:
        return {}
    shift_s = shift_of(rows)
    return {
        entry: steps
        for entry in entries_of(rows)
        if (steps := _steps([row for row in rows if row.entry.name == entry], commits, shift_s))
    }


def _steps(
    rows: Sequence[RaceRow], commits: Sequence[tuple[str, str]], shift_s: float
) -> list[Step]:
    """The steps of one entry over the commits it was run at."""
    by_commit: dict[str, list[RaceRow]] = defaultdict(list)
    for row in rows:
        by_commit[row.context.commit].append(row)
    kept = {commit: {row.key: row for row in latest(some)} for commit, some in by_commit.items()}
    if len(kept) < 2:
        return []
    common = set.intersection(*(set(one) for one in kept.values()))
    made = []
    for commit, date in commits:
        ran = [
            row
            for key, row in kept.get(commit, {}).items()
            if key in common and row.outcome.verdict != "refused"
        ]
        if ran:
            mean_s = shifted_mean_s([counted_s(row) for row in ran], shift_s)
            made.append(Step(commit, date, len(ran), sum(row.solved for row in ran), mean_s))
    return made if len(made) > 1 else []


def history_sentences(rows: Sequence[RaceRow]) -> list[str]:
    """Return what changed from the last commit but one to the last, by entry."""
    told = []
    for entry, steps in history_of(rows).items():
        before, now = steps[-2:]
        factor = (now.mean_s + 1e-9) / (before.mean_s + 1e-9)
        where = f"at {now.commit or 'no commit'} than at {before.commit or 'no commit'}"
        over = f"(mean over {now.runs} instances, proved {before.proved} then {now.proved})"
        if factor > CHANGED:
            told.append(f"Over time: {entry} is {factor:.2f} times slower {where} {over}.")
        elif factor < 1.0 / CHANGED:
            told.append(f"Over time: {entry} is {1 / factor:.2f} times faster {where} {over}.")
    return told


__all__ = ["Step", "commits_of", "history_of", "history_sentences"]
