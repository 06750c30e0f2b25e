"""Every method of the small problem (14) on seeded rounds, against the native one.

``python -m benchmarks.studies.small_timescale --out benchmarks/results/small_timescale.json``
solves 200 rounds with every method that runs here, and puts the verified delays beside the native
one's. Exit status 1 where a method says it has converged and is off by more than its tolerance.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.derived import derive
from sftopt.core.families import generate
from sftopt.core.files import write_json, write_text
from sftopt.core.instance import Instance, PowerLaw
from sftopt.core.plan import Plan
from sftopt.core.result import Result
from sftopt.core.status import Termination
from sftopt.solvers.registry import availability, get_solver
from sftopt.solvers.run import solve

METHODS = (
    ("native-spectrum", "spectrum-native"),
    ("ipopt", "spectrum-nlp"),
    ("cyipopt", "spectrum-nlp"),
    ("slsqp", "spectrum-nlp"),
    ("sqpmethod", "spectrum-nlp"),
    ("uno", "spectrum-nlp"),
    ("clarabel", "spectrum-conic"),
    ("scs", "spectrum-conic"),
)
"""The first is what the others are compared with."""
TOLERANCES = {"ipopt": 1e-8, "cyipopt": 1e-8}
"""Relative tolerance against the native optimum of solvers that are more exact."""
TOLERANCE = 1e-6
"""Relative tolerance against the native optimum of all others."""
CONVERGED = (Termination.CONVERGED_GLOBAL, Termination.CONVERGED_LOCAL, Termination.ACCEPTABLE)
"""Terminations by which a solver claims its point to be the optimum."""

KINDS = ("plain", "weak device", "identical devices", "dominant compute", "one device")
"""Kinds of rounds, in turn."""
BLOCKS = 4
"""Coherence blocks of a round."""
FAMILIES = ("jetson-vit-b", "weichen", "stsflora", "straggler", "weak-server", "gpt2-e2e")
"""Families that rounds are drawn from, in turn."""


@dataclass(frozen=True)
class Round:
    """One round to solve: an instance with its plan's cuts, modes and keeps, and known gains."""

    index: int
    devices: int
    law: str
    kind: str
    instance: Instance
    channel: RoundChannel


@dataclass(frozen=True)
class Run:
    """One method on one round; ``off`` is its verified delay against the native one, relative."""

    solver: str
    termination: str
    objective_s: float | None
    off: float | None
    iterations: int | None
    build_s: float
    solve_s: float
    message: str


@dataclass(frozen=True)
class Row:
    """All methods on one round."""

    index: int
    devices: int
    law: str
    kind: str
    runs: tuple[Run, ...]
    errors: tuple[str, ...]


def drawn(index: int) -> tuple[int, str, str]:
    """Draw the number of devices, law and kind of a round; of 20 nine have 2, eight 10 devices."""
    kind = KINDS[index % len(KINDS)]
    law = (PowerLaw.PSD, PowerLaw.TOTAL)[index // len(KINDS) % 2].value
    place = index // (2 * len(KINDS)) % 20
    devices = 100 if place in (3, 9, 15) else (2 if place % 2 else 10)
    return (1 if kind == "one device" else devices), law, kind


def seeded_round(index: int) -> Round:
    """Round ``index``, the same on every machine."""
    devices, law, kind = drawn(index)
    instance = _with_law(
        generate(FAMILIES[index // len(KINDS) % len(FAMILIES)], max(devices, 2), index), law
    )
    if kind == "one device":
        only = instance.devices[0].model_copy(update={"weight": 1.0})
        instance = instance.model_copy(update={"devices": (only,)})
    if kind == "dominant compute":
        slow = instance.devices[0]
        speed = slow.compute_flops_per_s * 1e-4
        changed = (slow.model_copy(update={"compute_flops_per_s": speed}), *instance.devices[1:])
        instance = instance.model_copy(update={"devices": changed})
    if kind == "identical devices":
        first = instance.devices[0]
        weight = 1.0 / len(instance.devices)
        same = tuple(
            first.model_copy(update={"id": device.id, "weight": weight})
            for device in instance.devices
        )
        instance = instance.model_copy(update={"devices": same})
    return Round(index, devices, law, kind, instance, _gains(instance, kind, index))


def _with_law(instance: Instance, law: str) -> Instance:
    radio = instance.radio.model_copy(update={"power": PowerLaw(law)})
    return instance.model_copy(update={"radio": radio})


def _gains(instance: Instance, kind: str, index: int) -> RoundChannel:
    """Rayleigh blocks about the mean gains; a weak device is left 2 to 2,000 outage rates."""
    draw = np.random.default_rng([index, 14])
    mean = statistical_channel(instance)
    count = len(instance.devices)
    fade = draw.exponential(size=(2, count, BLOCKS))
    if kind == "identical devices":
        fade[:] = fade[:, :1]
    up = mean.uplink_gain.mean(axis=1, keepdims=True) * fade[0]
    down = mean.downlink_gain.mean(axis=1, keepdims=True) * fade[1]
    if kind == "weak device":
        full = derive(instance, RoundChannel(up, down))
        limit = 10.0 ** draw.uniform(0.3, 3.3) * instance.radio.outage_rate_bits_per_s
        # the rate is concave in the gain, so it stays above this
        up[0] *= limit / full.uplink_full_bits_per_s[0]
        down[0] *= limit / full.downlink_full_bits_per_s[0]
    return RoundChannel(up, down)


def study(index: int, time_limit_s: float, methods: Sequence[tuple[str, str]] = METHODS) -> Row:
    """Run every method that is here on round ``index``, from the native one's cuts and keeps."""
    case = seeded_round(index)
    frame = solve(case.instance, solver="constructive", channel=case.channel)
    runs: list[Run] = []
    native: float | None = None
    for solver, formulation in methods:
        if not availability(get_solver(solver)):
            continue
        result = solve(
            case.instance,
            solver=solver,
            formulation=formulation,
            channel=case.channel,
            x0=_equal_shares(frame.plan),
            time_limit=time_limit_s,
            isolate=False,
        )
        native = result.objective_s if native is None else native
        runs.append(_as_run(result, native))
    return Row(index, case.devices, case.law, case.kind, tuple(runs), tuple(errors_in(runs)))


def _equal_shares(plan: Plan | None) -> Plan | None:
    """The plan with equal shares: what is solved for must not stand in the start."""
    if plan is None:
        return None
    share = 1.0 / len(plan.devices)
    update = dict.fromkeys(("uplink_share", "downlink_share", "adapter_uplink_share"), share)
    return plan.model_copy(
        update={"devices": tuple(part.model_copy(update=update) for part in plan.devices)}
    )


def _as_run(result: Result, native: float | None) -> Run:
    value = result.objective_s
    off = None if value is None or native is None else (value - native) / native
    return Run(
        solver=result.solver.name,
        termination=result.termination.value,
        objective_s=value,
        off=off,
        iterations=result.iterations,
        build_s=result.times_s.build,
        solve_s=result.times_s.solve,
        message=result.message,
    )


def errors_in(runs: Sequence[Run]) -> list[str]:
    """List claims that do not hold: converged and off, below the native optimum, or an error."""
    found = []
    for run in runs:
        allowed = TOLERANCES.get(run.solver, TOLERANCE)
        if run.termination in ("error", "refused", "infeasible_proven"):
            found.append(f"{run.solver} ended with '{run.termination}': {run.message}")
        elif run.termination in CONVERGED and (run.off is None or run.off > allowed):
            found.append(f"{run.solver} says {run.termination} and is off by {run.off}")
        if run.off is not None and run.off < -TOLERANCE:
            found.append(f"{run.solver} is {-run.off:.1e} below the native optimum")
    return found


def figures(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Summarise each method: counts, differences and median times."""
    table: list[dict[str, object]] = []
    for solver in dict.fromkeys(run.solver for row in rows for run in row.runs):
        runs = [run for row in rows for run in row.runs if run.solver == solver]
        done = [run for run in runs if run.termination in CONVERGED and run.off is not None]
        offs = [abs(run.off) for run in done if run.off is not None]
        table.append({
            "solver": solver,
            "rounds": len(runs),
            "converged": len(done),
            "numerical_error": sum(run.termination == "numerical_error" for run in runs),
            "other": sum(run.termination not in (*CONVERGED, "numerical_error") for run in runs),
            "largest_difference": max(offs, default=None),
            "within_tolerance": sum(off <= TOLERANCES.get(solver, TOLERANCE) for off in offs),
            "median_difference": median(offs) if offs else None,
            "median_build_s": median(run.build_s for run in runs),
            "median_solve_s": median(run.solve_s for run in runs),
        })  # fmt: skip
    return table


def markdown(rows: Sequence[Row], command: str, elapsed_s: float) -> str:
    """Write the study as tables, errors below them."""
    lines = ["# The small problem (14): every method against the native one", "",
             f"Made by `{command}` in {elapsed_s:.0f} s.", "",
             f"- rounds: {len(rows)}, of kinds: {', '.join(KINDS)}; both rate laws; devices: "
             + ", ".join(f"{n} ({sum(row.devices == n for row in rows)})"
                         for n in sorted({row.devices for row in rows})),
             f"- rounds with errors: {sum(bool(row.errors) for row in rows)}",
             "- differences are of verified round delays against the native method's, relative; "
             f"allowed {TOLERANCE:.0e}, Ipopt {TOLERANCES['ipopt']:.0e}. Every method starts from "
             "equal shares, with the same cuts, modes and keep fractions. Times are wall clock, in "
             "this process, compilation by the modelling layer included.", "",
             *_table(figures(rows))]  # fmt: skip
    for devices in sorted({row.devices for row in rows}):
        for law in ("psd", "total"):
            part = [row for row in rows if row.devices == devices and row.law == law]
            if part:
                lines += ["", f"## N = {devices}, {law}", "", *_table(figures(part))]
    ended = [(row, run) for row in rows for run in row.runs if run.termination not in CONVERGED]
    if ended:
        lines += ["", "## Without convergence", ""]
        lines += [f"- round {row.index} (N = {row.devices}, {row.law}, {row.kind}), {run.solver}: "
                  f"{run.termination}; {run.message}" for row, run in ended]  # fmt: skip
    lines += [""]
    for row in rows:
        lines += [f"- ERROR in round {row.index} (N = {row.devices}, {row.law}, {row.kind}): {e}"
                  for e in row.errors]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _table(table: Sequence[dict[str, object]]) -> list[str]:
    lines = ["| method | converged | numerical error | other | largest difference | median "
             "| build, median | solve, median |", "|---|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for row in table:
        most, middle = row["largest_difference"], row["median_difference"]
        lines.append(
            f"| {row['solver']} | {row['converged']} of {row['rounds']} | {row['numerical_error']} "
            f"| {row['other']} | {'-' if most is None else f'{most:.1e}'} "
            f"| {'-' if middle is None else f'{middle:.1e}'} "
            f"| {row['median_build_s']:.4f} s | {row['median_solve_s']:.4f} s |"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; return the exit code: 0 where every claim holds, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, help="JSON file; the table goes beside it as .md")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", type=int, help="replay this round alone")
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds per solve")
    chosen = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = " ".join(["python -m benchmarks.studies.small_timescale", *given])
    began, rows = time.monotonic(), []
    for index in range(chosen.rounds) if chosen.only is None else [chosen.only]:
        row = study(index, chosen.time_limit)
        rows.append(row)
        text = " ".join(
            f"{run.solver}:{'-' if run.off is None else f'{run.off:.0e}'}" for run in row.runs
        )
        print(f"{index}: N={row.devices} {row.law} {row.kind}: {text}",
              *(f"\n   ERROR {error}" for error in row.errors),
              file=sys.stderr, flush=True)  # fmt: skip
    text = markdown(rows, command, time.monotonic() - began)
    if chosen.out is not None:
        data = {"command": command, "figures": figures(rows), "rows": [asdict(r) for r in rows]}
        write_json(chosen.out, data)
        write_text(chosen.out.with_suffix(".md"), text)
    print(text)
    return 1 if any(row.errors for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
