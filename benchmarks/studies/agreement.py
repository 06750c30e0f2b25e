"""Do independent ways to the optimum agree? Seeded instances over all feasible families.

SCIP on ``joint-product``, SCIP on ``joint-ratio`` and ``exhaustive`` share neither algebra nor
search; Ipopt by way of cyipopt and by way of CasADi share the model but not the road to it. Where
two of the exact three proved their values, these agree to 1e-4 relative; elsewhere what one proved
must not contradict the point of another. A disagreement is a row with the command that replays it.

    python -m benchmarks.studies.agreement --out benchmarks/results/agreement.json

Cuts and modes are reduced around a heuristic plan until an instance is small enough to enumerate.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sftopt.core.derived import derive
from sftopt.core.families import FAMILIES, generate
from sftopt.core.files import write_json, write_text
from sftopt.core.instance import Instance
from sftopt.core.result import Result
from sftopt.core.status import Termination
from sftopt.solvers.exhaustive.space import combination_count
from sftopt.solvers.run import solve
from sftopt.studies.race.reduce import reduced

EXACT = (("scip", "joint-product"), ("scip", "joint-ratio"), ("exhaustive", "native"))
"""Solvers and formulations that must prove the same optimum."""
RELAXED = (("cyipopt", "joint-relaxed"), ("ipopt", "joint-relaxed"))
"""Two ways to Ipopt that must find the same relaxed optimum."""
PROOFS = (Termination.CONVERGED_GLOBAL, Termination.GAP_LIMIT)
"""What an exact solver says when it has proved its point within the gap asked for."""
VALUE_TOLERANCE = 1e-4
"""Relative, between two proved values."""
OVERLAP_TOLERANCE = 1e-6
"""Relative, by which a bound may exceed another's verified value through rounding."""
RELAXED_TOLERANCE = 1e-6
"""Relative, between the two ways to Ipopt."""


@dataclass(frozen=True)
class Limits:
    """What every run may use; ``combinations`` is what is left to enumerate."""

    time_limit_s: float = 20.0
    rel_gap: float = 1e-5
    combinations: int = 110_000


@dataclass(frozen=True)
class Run:
    """One solver's word on one instance, as verified; ``claimed_s`` is its own."""

    solver: str
    formulation: str
    termination: str
    point: str
    objective_s: float | None
    claimed_s: float | None
    bound_s: float | None
    proved: bool
    wall_s: float
    message: str


@dataclass(frozen=True)
class Row:
    """One instance. ``errors`` is empty where nothing contradicts anything."""

    index: int
    family: str
    devices: int
    seed: int
    instance_hash: str
    combinations_full: float
    combinations: float
    enumerated: bool
    runs: tuple[Run, ...]
    spread: float | None
    """Largest relative difference of the verified values that were proved; None with fewer than
    two. The judge settles keep fractions, so equal cuts and modes give equal verified values."""
    claimed_spread: float | None
    """The same of the values as the solvers claim them: what each really computed by itself."""
    relaxed_difference: float | None
    errors: tuple[str, ...]
    replay: str


def drawn(index: int) -> tuple[str, int]:
    """Draw the family and the number of devices of row ``index``; its seed is the index itself."""
    families = [family.name for family in FAMILIES.values() if family.feasible]
    return families[index % len(families)], 2 + (index + index // len(families)) % 4


def study_instance(index: int, limits: Limits) -> tuple[Instance, float]:
    """Return the instance of row ``index`` and its number of combinations before it was reduced."""
    whole = generate(*drawn(index), index)
    return reduced(whole, limits.combinations), combination_count(derive(whole))


def study(
    index: int, limits: Limits, command: str = "python -m benchmarks.studies.agreement"
) -> Row:
    """Run everything on one instance and compare."""
    instance, full = study_instance(index, limits)
    runs = [_run(instance, solver, name, limits) for solver, name in (*EXACT, *RELAXED)]
    exact, relaxed = runs[: len(EXACT)], runs[len(EXACT) :]
    proved = [run for run in exact if run.proved]
    difference = relative_difference(relaxed[0].claimed_s, relaxed[1].claimed_s)
    return Row(
        index=index,
        family=drawn(index)[0],
        devices=len(instance.devices),
        seed=index,
        instance_hash=instance.hash,
        combinations_full=full,
        combinations=combination_count(derive(instance)),
        enumerated=exact[-1].proved,
        runs=tuple(runs),
        spread=spread([run.objective_s for run in proved]),
        claimed_spread=spread([run.claimed_s for run in proved]),
        relaxed_difference=difference,
        errors=(*exact_errors(exact), *relaxed_errors(relaxed)),
        replay=f"{command} --only {index} --time-limit {limits.time_limit_s:g} "
        f"--rel-gap {limits.rel_gap:g} --combinations {limits.combinations}",
    )


def _run(instance: Instance, solver: str, formulation: str, limits: Limits) -> Run:
    began = time.monotonic()
    result = solve(
        instance,
        solver=solver,
        formulation=formulation,
        time_limit=limits.time_limit_s,
        rel_gap=limits.rel_gap,
    )
    return as_run(result, time.monotonic() - began)


def as_run(result: Result, wall_s: float) -> Run:
    """Return the figures of a result that are compared."""
    return Run(
        solver=result.solver.name,
        formulation=result.formulation,
        termination=result.termination.value,
        point=result.point.value,
        objective_s=result.objective_s,
        claimed_s=result.objective_claimed_s,
        bound_s=result.bound_s,
        proved=result.objective_s is not None and result.termination in PROOFS,
        wall_s=round(wall_s, 3),
        message=result.message,
    )


def spread(values: Sequence[float | None]) -> float | None:
    """Return the relative spread (largest - least) / least; None for fewer than two values."""
    there = [value for value in values if value is not None]
    return (max(there) - min(there)) / min(there) if len(there) > 1 else None


def relative_difference(first: float | None, second: float | None) -> float | None:
    """Return the relative difference |first - second| / least; None where one is missing."""
    if first is None or second is None:
        return None
    return abs(first - second) / min(abs(first), abs(second))


def exact_errors(runs: Sequence[Run]) -> list[str]:
    """List contradictions between runs on exact formulations, as sentences."""
    found = [
        f"{_name(run)} ended with '{run.termination}': {run.message}"
        for run in runs
        if run.termination in ("error", "refused", "infeasible_proven", "numerical_error")
    ]
    for position, one in enumerate(runs):
        for other in runs[position + 1 :]:
            for kind, first, second in (
                ("proved", one.objective_s, other.objective_s),
                ("claims", one.claimed_s, other.claimed_s),
            ):
                gap = relative_difference(first, second)
                if one.proved and other.proved and gap is not None and gap > VALUE_TOLERANCE:
                    found.append(
                        f"{_name(one)} {kind} {first:.9g} s and {_name(other)} {second:.9g} s: "
                        f"{gap:.2e} apart"
                    )
            for bound, value in ((one, other), (other, one)):
                above = bound.bound_s is not None and value.objective_s is not None
                if above and bound.bound_s > value.objective_s * (1.0 + OVERLAP_TOLERANCE):  # type: ignore[operator]
                    found.append(
                        f"{_name(bound)} has the bound {bound.bound_s:.9g} s above the verified "
                        f"{value.objective_s:.9g} s of {_name(value)}"
                    )
    return found


def relaxed_errors(runs: Sequence[Run]) -> list[str]:
    """List differences between the two roads to Ipopt, as sentences."""
    one, other = runs
    gap = relative_difference(one.claimed_s, other.claimed_s)
    if gap is None:
        return [f"{_name(run)} has no value: {run.message}" for run in runs if not run.claimed_s]
    if gap <= RELAXED_TOLERANCE:
        return []
    return [
        f"{_name(one)} claims {one.claimed_s:.12g} s and {_name(other)} {other.claimed_s:.12g} s "
        f"for the relaxation: {gap:.2e} apart"
    ]


def _name(run: Run) -> str:
    return f"{run.solver} on {run.formulation}"


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Count what the summary states: the number of rows of each kind."""

    def proved(row: Row, which: int) -> bool:
        return row.runs[which].proved

    return {
        "instances": len(rows),
        "families": len({row.family for row in rows}),
        "reduced": sum(row.combinations < row.combinations_full for row in rows),
        "enumerated": sum(row.enumerated for row in rows),
        "scip_product_proved": sum(proved(row, 0) for row in rows),
        "scip_ratio_proved": sum(proved(row, 1) for row in rows),
        "all_three_proved": sum(all(proved(row, k) for k in range(3)) for row in rows),
        "relaxed_compared": sum(row.relaxed_difference is not None for row in rows),
        "rows_with_errors": sum(bool(row.errors) for row in rows),
    }


def markdown(rows: Sequence[Row], command: str) -> str:
    """Write the study as a table, errors below it."""
    spreads = [row.spread for row in rows if row.spread is not None]
    claims = [row.claimed_spread for row in rows if row.claimed_spread is not None]
    relaxed = [row.relaxed_difference for row in rows if row.relaxed_difference is not None]
    lines = ["# Agreement of independent solvers", "", f"Made by `{command}`.", ""]
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in counts(rows).items()]
    lines += [
        f"- largest difference between proved values: verified {max(spreads, default=0.0):.1e}, "
        f"as claimed {max(claims, default=0.0):.1e} (allowed {VALUE_TOLERANCE:.0e})",
        f"- largest difference between cyipopt and ipopt on the relaxation: "
        f"{max(relaxed, default=0.0):.1e} (allowed {RELAXED_TOLERANCE:.0e})",
        "",
        "Values are verified round delays in seconds. A star marks a point that its solver says is "
        "proved to the requested gap; otherwise the interval is [bound, value]. "
        "Verified values of equal cuts and modes are equal, as the judge settles the keep "
        "fractions; claimed values are each solver's own. Where cyipopt is linked to CasADi's "
        "Ipopt, equal figures there say that both hand it the same problem.",
        "",
        "| # | family | N | combinations | SCIP product | SCIP ratio | exhaustive | claims apart "
        "| Ipopt roads apart | verdict |",
        "|--:|---|--:|--:|---|---|---|--:|--:|---|",
    ]
    for row in rows:
        cells = [_cell(run) for run in row.runs[:3]]
        claimed = "-" if row.claimed_spread is None else f"{row.claimed_spread:.1e}"
        apart = "-" if row.relaxed_difference is None else f"{row.relaxed_difference:.1e}"
        size = f"{row.combinations:.0f}"
        if row.combinations < row.combinations_full:
            size += f" of {row.combinations_full:.2g}"
        verdict = "ERROR" if row.errors else ("agree" if row.spread is not None else "overlap")
        lines.append(
            f"| {row.index} | {row.family} | {row.devices} | {size} | {' | '.join(cells)} "
            f"| {claimed} | {apart} | {verdict} |"
        )
    lines += [""]
    for row in rows:
        lines += [f"- ERROR in row {row.index}: {text}; replay: `{row.replay}`"
                  for text in row.errors]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _cell(run: Run) -> str:
    if run.objective_s is None:
        return run.termination if run.bound_s is None else f"[{run.bound_s:.6g}, -]"
    if run.proved:
        return f"{run.objective_s:.6f}*"
    low = "-" if run.bound_s is None else f"{run.bound_s:.6g}"
    return f"[{low}, {run.objective_s:.6g}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; return the exit code: 0 where nothing disagrees, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, help="JSON file; the table goes beside it as .md")
    parser.add_argument("--instances", type=int, default=40)
    parser.add_argument("--only", type=int, help="replay this row alone")
    parser.add_argument("--time-limit", type=float, default=Limits.time_limit_s)
    parser.add_argument("--rel-gap", type=float, default=Limits.rel_gap)
    parser.add_argument("--combinations", type=int, default=Limits.combinations)
    chosen = parser.parse_args(arguments)
    limits = replace(
        Limits(),
        time_limit_s=chosen.time_limit,
        rel_gap=chosen.rel_gap,
        combinations=chosen.combinations,
    )
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = " ".join(["python -m benchmarks.studies.agreement", *given])
    rows: list[Row] = []
    for index in range(chosen.instances) if chosen.only is None else [chosen.only]:
        row = study(index, limits)
        rows.append(row)
        print(f"{index}: {row.family} N={row.devices} {row.combinations:.0f} combinations, "
              + ", ".join(f"{_cell(r)} {r.wall_s:.1f} s" for r in row.runs[:3])
              + "".join(f"\n   ERROR {text}\n   replay: {row.replay}" for text in row.errors),
              file=sys.stderr, flush=True)  # fmt: skip
    text = markdown(rows, command)
    if chosen.out is not None:
        data = {"command": command, "limits": asdict(limits), "counts": counts(rows),
                "rows": [asdict(row) for row in rows]}  # fmt: skip
        write_json(chosen.out, data)
        write_text(chosen.out.with_suffix(".md"), text)
    print(text)
    return 1 if any(row.errors for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
