"""How time and memory of ``certify`` grow with the number of devices: rows, table, plot.

``OMP_NUM_THREADS=1 python -m benchmarks.studies.certify_scaling`` writes ``certify_scaling.jsonl``
(one row a case, appended as it ends; a rerun skips what is there), ``.md`` and ``.png`` into
``benchmarks/results``. Every case, also those with models of 32 blocks, runs in its own forked
process after everything is compiled; the time is that of the solver alone, the memory the
process's peak. A case that reaches the limit counts as at least the limit.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.cells import DEEP_BLOCKS, FEASIBLE, OWN_BLOCKS, cell
from sftopt.core.check import check
from sftopt.core.derived import derive
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Task
from sftopt.solvers.certify import SOLVER
from sftopt.solvers.certify.__main__ import compile_all
from sftopt.solvers.options import Options

SIZES = (5, 12, 30, 100, 300, 1_000, 3_000, 10_000)
"""Numbers of devices."""
FEW_SEEDS_FROM = 3_000
"""Number of devices from which on one seed is run."""
TARGET_S = {12: 0.08, 100: 0.25, 1_000: 0.8, 10_000: 7.0}
"""Median seconds aimed at, by number of devices."""
SLOWEST = 3.0
"""No single case is to take more than so many times the target."""
BINDING = {"llama-1b": 10.0}
"""The same by family, where a summed server memory binds."""


def one_case(
    family: str, blocks: int, devices: int, seed: int, rel_gap: float, limit_s: float
) -> Any:
    """Return the row of one solve."""
    instance = cell(family, devices, seed, blocks)
    row = {
        "family": family,
        "blocks": blocks,
        "devices": devices,
        "seed": seed,
        "rel_gap": rel_gap,
    }
    if blocks != OWN_BLOCKS and not check(instance).feasible:
        return {**row, "termination": "infeasible"}  # floors do not fall on the same part
    derived = derive(instance)
    options = Options(time_limit=limit_s, rel_gap=rel_gap)
    began, began_cpu = time.perf_counter(), time.process_time()
    found = SOLVER.run(
        Task(derived, get_formulation("native"), None, None, options, Deadline(limit_s))
    )
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    value, bound = found.claimed_s, found.bound_s
    return {
        **row,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "gap": None if value is None or bound is None else (value - bound) / value,
        "nodes": found.nodes,
        "termination": found.termination.value,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "limit_s": limit_s,
    }


def in_child(*case: Any) -> Any:
    """Run :func:`one_case` in a fork, so that its peak memory is its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        sender.send_bytes(json.dumps(one_case(*case)).encode())

    child = context.Process(target=work)
    child.start()
    row = json.loads(receiver.recv_bytes())
    child.join()
    return row


def summary(rows: list[Any], rel_gap: float) -> list[list[str]]:
    """Make table rows by size: cases, closed, median and slowest time, worst gap, memory."""
    table = []
    for devices in SIZES:
        here = [r for r in rows if r["devices"] == devices and r["rel_gap"] == rel_gap]
        if not here:
            continue
        closed = [r for r in here if r["gap"] is not None and r["gap"] <= rel_gap * 1.0001]
        target = TARGET_S.get(devices)
        slow = max(here, key=lambda r: r["seconds"])
        table.append(
            [
                f"{devices:,}",
                str(len(here)),
                str(len(closed)),
                f"{statistics.median(r['seconds'] for r in here):.3f}",
                f"{statistics.median(r.get('cpu_seconds', r['seconds']) for r in here):.3f}",
                "-" if target is None else f"{target:g}",
                f"{slow['seconds']:.2f} ({slow['family']}, {slow['blocks']} blocks)",
                f"{max(1.0 if r['gap'] is None else r['gap'] for r in here):.1e}",
                f"{max(r['peak_mb'] for r in here):.0f}",
            ]
        )
    return table


def fit(rows: list[Any], start: int) -> tuple[float, float, list[int]]:
    """Fit median time against the number of devices from ``start`` on, at gap 1e-4: the exponent
    without unit, seconds at N = 1, and the sizes.
    """
    sizes = [n for n in SIZES if n >= start and any(r["devices"] == n for r in rows)]
    times = [
        statistics.median(r["seconds"] for r in rows if r["devices"] == n and r["rel_gap"] == 1e-4)
        for n in sizes
    ]
    if len(sizes) < 2:
        return float("nan"), float("nan"), sizes
    slope, intercept = np.polyfit(np.log(sizes), np.log(times), 1)
    return float(slope), float(np.exp(intercept)), sizes


def write_table(rows: list[Any], path: Path, compiled_s: float) -> None:
    """Write the Markdown page."""
    names = [
        "devices",
        "cases",
        "closed",
        "median s",
        "median CPU s",
        "target s",
        "slowest s",
        "worst gap",
    ]
    names.append("peak MB")
    lines = [
        "# certify: time and memory against the number of devices",
        "",
        "Made by `OMP_NUM_THREADS=1 python -m benchmarks.studies.certify_scaling`. "
        "Gap asked for: 1e-4;",
        "one thread, on a machine shared with other work (hence CPU time beside wall time);",
        f"every feasible family with its own number of blocks ({OWN_BLOCKS}, llama-1b 16) and "
        f"with {DEEP_BLOCKS} that",
        "together do what those do; everything compiled beforehand"
        + (f" (in {compiled_s:.0f} s)" if compiled_s > 3 else "")
        + ". Unclosed cases count with the time they were given.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + "--:|" * len(names),
    ]
    lines += ["| " + " | ".join(row) + " |" for row in summary(rows, 1e-4)]
    slow = [
        f"- {r['family']}, {r['blocks']} blocks, N = {r['devices']}, seed {r['seed']}: "
        f"{r['seconds']:.2f} s ({SLOWEST * TARGET_S[r['devices']]:g} s)"
        for r in rows
        if r["rel_gap"] == 1e-4
        and r["devices"] in TARGET_S
        and r["seconds"] > BINDING.get(r["family"], SLOWEST) * TARGET_S[r["devices"]]
    ]
    if slow:
        binding = ", ".join(f"{times:g} times for {name}" for name, times in BINDING.items())
        lines += ["", f"Above {SLOWEST:g} times the target ({binding}, whose summed server memory "
                  "binds):", "", *slow]  # fmt: skip
    lines += [
        "",
        f"Exponent of the median time in N from 1,000 on: {fit(rows, 1_000)[0]:.2f}.",
        "",
    ]
    still = [r for r in rows if r["rel_gap"] == 1e-4 and (r["gap"] is None or r["gap"] > 1.0001e-4)]
    if still:
        lines += ["Not closed:", ""]
        lines += [
            f"- {r['family']}, {r['blocks']} blocks, N = {r['devices']}, seed {r['seed']}: "
            + ("no bound" if r["gap"] is None else f"gap {r['gap']:.1e}")
            + f" after {r['seconds']:.0f} s"
            for r in still
        ]
    fine = [r for r in rows if r["rel_gap"] == 1e-6]
    if fine:
        median = statistics.median(r["seconds"] for r in fine)
        closed = sum(r["gap"] is not None and r["gap"] <= 1.0001e-6 for r in fine)
        slowest = max(r["seconds"] for r in fine)
        told = f"{closed} of {len(fine)} closed, median {median:.2f} s (target 3 s)"
        told += f", slowest {slowest:.2f} s"
        lines += ["", f"Gap 1e-6 at N = 1,000: {told}."]
    path.write_text("\n".join(lines) + "\n")


def plot(rows: list[Any], path: Path) -> None:
    """Time and memory against N, log-log, one faint line a family."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for axis, key, label in zip(
        axes, ("seconds", "peak_mb"), ("seconds to gap 1e-4", "peak memory, MB"), strict=True
    ):
        for index, family in enumerate(FEASIBLE):
            chosen = [r for r in rows if r["family"] == family and r["rel_gap"] == 1e-4]
            sizes = sorted({r["devices"] for r in chosen})
            middle = [statistics.median(r[key] for r in chosen if r["devices"] == n) for n in sizes]
            style = {"color": f"C{index % 10}", "linestyle": "-" if index < 10 else ":"}
            axis.loglog(sizes, middle, marker=".", linewidth=1.2, label=family, **style)
        axis.set_xlabel("devices N")
        axis.set_ylabel(label)
        axis.grid(True, which="both", alpha=0.3)
    axes[1].set_yscale("linear")
    axes[1].set_ylim(bottom=0.0)
    known = sorted(TARGET_S)
    axes[0].loglog(known, [TARGET_S[n] for n in known], "k--", linewidth=1, label="target")
    power, unit, sizes = fit(rows, 1_000)
    if len(sizes) > 1:
        fitted = [unit * n**power for n in sizes]
        axes[0].loglog(sizes, fitted, "k-", linewidth=3, alpha=0.4, label=f"median, N^{power:.2f}")
    axes[0].legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run what is missing, then write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--limit", type=float, default=30.0, help="seconds a case")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds for all cases")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    given = parser.parse_args()
    log = given.out / "certify_scaling.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(r["family"], r["blocks"], r["devices"], r["seed"], r["rel_gap"]) for r in rows}
    compiled_s = compile_all()
    cases = [
        (family, blocks, devices, seed, 1e-4)
        for devices in given.sizes
        for blocks in (OWN_BLOCKS, DEEP_BLOCKS)
        for family in FEASIBLE
        for seed in range(1 if devices >= FEW_SEEDS_FROM else given.seeds)
    ]
    cases += [(family, OWN_BLOCKS, 1_000, 0, 1e-6) for family in FEASIBLE if 1_000 in given.sizes]
    began = time.perf_counter()
    for case in cases:
        if case in done:
            continue
        if time.perf_counter() - began + given.limit > given.budget:
            print("the budget is spent; a rerun goes on from here", flush=True)
            break
        rows.append(in_child(*case, given.limit))
        with log.open("a") as out:
            out.write(json.dumps(rows[-1]) + "\n")
        print(rows[-1], flush=True)
    solved = [row for row in rows if row["termination"] != "infeasible"]
    write_table(solved, given.out / "certify_scaling.md", compiled_s)
    plot(solved, given.out / "certify_scaling.png")


if __name__ == "__main__":
    main()
