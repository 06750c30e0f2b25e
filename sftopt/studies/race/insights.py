"""What the rows of a race say, in sentences: generated, so that they change with the rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

from sftopt.studies.race.checks import Finding
from sftopt.studies.race.folder import Folder
from sftopt.studies.race.history import history_sentences
from sftopt.studies.race.measures import (
    OURS,
    Factor,
    Line,
    above_best,
    factors_of,
    known_of,
    lines_of,
    noise_of,
    own_gap,
)
from sftopt.studies.race.row import RaceRow

LOSS = 1e-3
"""A plan of ours that is further above the best known, relative, is a loss that is told."""
MOST_TOLD = 8
"""Number of losses told one by one, the largest first."""
OWN_PROVER = "certify/native"
"""The entry whose time others' are compared with."""


def insights(folder: Folder, wrong: Sequence[Finding]) -> list[str]:
    """Return the sentences, the most important first."""
    rows = folder.counting
    if not rows:
        return [f"Nothing has run yet: {len(folder.planned)} runs are planned."]
    lines = lines_of(rows, wrong)
    told = [_state(folder, wrong), *_proofs(lines, rows), *factor_sentences(rows)]
    told += [_agreement(rows, wrong), *_plans(lines), *losses(rows, wrong)]
    told += [*history_sentences(folder.rows), *_clock(rows)]
    return [sentence for sentence in told if sentence]


def _state(folder: Folder, wrong: Sequence[Finding]) -> str:
    missing = len(folder.missing)
    there = f"{len(folder.counting)} of {len(folder.planned)} planned runs have a row"
    gap = f"{missing} are missing" if missing else "none is missing"
    bad = len({one.key for one in wrong})
    held = f"{bad} are wrong and are listed below" if bad else "no claim was refuted"
    held = "1 is wrong and is listed below" if bad == 1 else held
    return f"{there}, {gap}; {held}."


def _proofs(lines: Sequence[Line], rows: Sequence[RaceRow]) -> list[str]:
    provers = [line for line in lines if line.proved]
    gaps = sorted({row.rel_gap for row in rows})
    if not provers:
        return [f"Nobody proved a gap of {gaps[0]:g}."]
    first = provers[0]
    text = f"{first.entry} proved a gap of {gaps[0]:g} on {first.proved} of {first.runs} instances"
    others = [f"{line.entry} on {line.proved} of {line.runs}" for line in provers[1:4]]
    return [text + (f"; then come {', '.join(others)}." if others else "; nobody else proved it.")]


def factor_sentences(rows: Sequence[RaceRow]) -> list[str]:
    """Return by size how much faster our prover is than the best peer, or slower."""
    return [_factor_sentence(one) for one in factors_of(rows, OWN_PROVER)]


def _factor_sentence(one: Factor) -> str:
    """At one size; where no peer closed, the factor is censored: limit over our time."""
    where = f"At N = {one.devices} ({one.instances} instances)"
    if one.factor is None:
        left = "" if one.gap_left is None else f" (least gap left: {100 * one.gap_left:.2g} %)"
        cpu = "" if one.least_cpu_factor is None else f", {one.least_cpu_factor:.3g} by CPU seconds"
        return (
            f"{where} no peer proved the gap within its limit{left}: {OWN_PROVER}, at "
            f"{one.ours_s:.3g} s, is more than {one.least_factor:.3g} times faster{cpu}."
        )
    open_ = one.instances - one.closed
    rest = f"; on {open_} no peer proved it" if open_ else ""
    if open_ and one.least_factor is not None:
        rest += f" (more than {one.least_factor:.3g} times)"
    cpu = "" if one.cpu_factor is None else f", {one.cpu_factor:.3g} by CPU seconds"
    if one.factor < 1.0:
        return (
            f"{where} {one.peer} is {1 / one.factor:.3g} times FASTER than {OWN_PROVER}{cpu}{rest}."
        )
    return (
        f"{where} {OWN_PROVER} is {one.factor:.3g} times faster than the best peer "
        f"({one.peer}){cpu}{rest}."
    )


def _agreement(rows: Sequence[RaceRow], wrong: Sequence[Finding]) -> str:
    best = {cell: one.value_s for cell, one in known_of(rows).items()}
    held = [row for row in rows if row.outcome.bound_s is not None and best[row.cell] is not None]
    above = sum("above the verified" in one.reason for one in wrong)
    if not held:
        return ""
    return f"{len(held)} bounds were held against every verified plan: {above} lie above one."


def _plans(lines: Sequence[Line]) -> list[str]:
    there = [line for line in lines if line.above_median is not None]
    if len(there) < 2:
        return []
    best = max(there, key=lambda line: (line.near_best, -(line.above_worst or 0.0)))
    text = f"{best.entry} has a plan within 0.01 % of the best known on {best.near_best} instances"
    return [f"{text} of {best.runs}; its worst is {100 * (best.above_worst or 0.0):.2g} % above."]


def losses(rows: Sequence[RaceRow], wrong: Sequence[Finding]) -> list[str]:
    """Return where solvers of ours lose: plans above the best, proofs that a peer had sooner."""
    known = known_of(rows, wrong)
    worst: dict[str, list[tuple[float, RaceRow]]] = defaultdict(list)
    for row in rows:
        part = above_best(row, known)
        if row.entry.solver in OURS and part is not None and part > LOSS:
            worst[row.entry.name].append((part, row))
    told = []
    for entry, found in worst.items():
        part, row = max(found, key=lambda pair: pair[0])
        told.append((part, (
            f"Where ours lose: {entry} is more than 0.1 % above the best plan on {len(found)} "
            f"instances, by {100 * part:.3g} % on {row.instance.name}, where "
            f"{known[row.cell].value_by} is best."
        )))  # fmt: skip
    sentences = [text for _, text in sorted(told, reverse=True)][:MOST_TOLD]
    return [*sentences, *_slower(rows), *_unproved(rows)]


def _slower(rows: Sequence[RaceRow]) -> list[str]:
    """Instances on which a peer proved the gap sooner than our prover."""
    mine = {row.cell: row for row in rows if row.entry.name == OWN_PROVER}
    sooner: Counter[str] = Counter()
    for row in rows:
        own = mine.get(row.cell)
        if own is None or row.entry.solver in OURS or not row.solved:
            continue
        if not own.solved or row.solve_s < own.solve_s:
            sooner[row.entry.name] += 1
    return [
        f"Where ours lose: {entry} proved the gap sooner than {OWN_PROVER} on {count} instances."
        for entry, count in sooner.most_common()
    ]


def _unproved(rows: Sequence[RaceRow]) -> list[str]:
    settled = ("optimal", "infeasible_claimed")  # false claims are told as wrong
    left = [
        row for row in rows if row.entry.name == OWN_PROVER and row.outcome.verdict not in settled
    ]
    if not left:
        return []
    gaps = [gap for row in left if (gap := own_gap(row)) is not None]
    told = f", median gap left {100 * median(gaps):.2g} %" if gaps else ""
    names = ", ".join(row.instance.name for row in left[:MOST_TOLD])
    return [f"Where ours lose: {OWN_PROVER} left {len(left)} instances open{told}: {names}."]


def _clock(rows: Sequence[RaceRow]) -> list[str]:
    noise = noise_of(rows)
    starved = sum(row.outcome.verdict == "starved" for row in rows)
    told = []
    if noise is not None:
        told.append(
            f"The clock: the same computation before every run took {1e3 * noise[0]:.3g} ms in "
            f"the median and varied by {100 * noise[1]:.2g} % (5th to 95th percentile); smaller "
            "differences of times mean nothing."
        )
    if starved:
        told.append(f"{starved} runs had no core of their own and are made again by the next race.")
    return told


__all__ = ["OWN_PROVER", "factor_sentences", "insights", "losses"]
