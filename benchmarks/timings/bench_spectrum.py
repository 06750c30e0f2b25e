"""The small problem (14): native root search against size, many rounds at once, other solvers.

``pytest benchmarks/timings/bench_spectrum.py --benchmark-only --benchmark-group-by=param:devices``;
figures of one run are comparable with each other. ``python -m benchmarks.timings.bench_spectrum``
writes ``spectrum_scaling.jsonl`` and ``.md`` into ``benchmarks/results``: best CPU time of several
calls, one call where it takes over 1 s. A rerun keeps the whole rounds that are there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sftopt.core.derived import derive
from sftopt.core.families import generate
from sftopt.core.least_time import least_time, least_times
from sftopt.core.point import best_delay
from sftopt.core.spectrum import ConcaveRate, LinearRate, RateLaw
from sftopt.formulations.base import Problem, Start
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Task
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.options import Options
from sftopt.solvers.registry import availability, formulations_for, get_solver, solver_names

Array = NDArray[np.float64]
SIZES = (10, 100, 1_000, 10_000, 100_000)
"""Numbers of devices."""
LAWS = ("psd", "total")
"""Power laws."""
ROUNDS = 10_000
"""Number of rounds solved in one call."""
MANY = 100
"""Number of devices of those rounds."""
FAMILY = {"psd": "jetson-vit-b", "total": "weichen"}
"""Family of the whole rounds, by power law."""
TARGET_MS = {("psd", 100): 0.08, ("psd", 10_000): 0.3, ("total", 100): 0.8, ("total", 10_000): 3.0}
"""Milliseconds of one link aimed at, by power law and number of devices."""
TARGET_ROUND_US = 6.0
"""Microseconds of one of many rounds aimed at."""


def link(devices: int, law: str, rounds: int | None = None) -> tuple[Array, Array, RateLaw]:
    """Draw a plausible link: 0.3-3 s of computing, 0.1-10 Mbit, -10..30 dB over the whole band.

    One round has the 16 gains of the statistics, many rounds four coherence blocks each.
    """
    draw = np.random.default_rng(devices)
    shape = (devices,) if rounds is None else (rounds, devices)
    fixed, bits = draw.uniform(0.3, 3.0, devices), 10 ** draw.uniform(5, 7, devices)
    snr = 10 ** draw.uniform(-1, 3, devices)[:, None]
    terms = snr * draw.gamma(4, 0.25, (*shape, 16 if rounds is None else 4))
    if law == "total":
        return fixed, bits, ConcaveRate(2e7, terms, 7.4)
    full = 2e7 * np.minimum(np.log2(1.0 + terms), 7.4).mean(axis=-1)
    return fixed, bits, LinearRate(full)


def rivals() -> list[tuple[str, str]]:
    """List pairs (solver, formulation) of every spectrum formulation that runs here."""
    solvers = [get_solver(name) for name in solver_names() if availability(get_solver(name))]
    return [(one.name, form) for one in solvers for form in formulations_for(one, Problem.ROUND)]


def whole_round(solver: str, form: str, law: str, devices: int) -> tuple[Callable[[], Any], float]:
    """Prepare a call that builds and solves one whole round; return it with the optimum in seconds
    that it should find.
    """
    derived = derive(generate(FAMILY[law], devices, 0))
    point = first_point(derived)
    assert point is not None
    best_s = best_delay(derived, point).round_s
    start = Start(point.candidate(derived), best_s)
    formulation, engine = get_formulation(form), get_solver(solver)

    def run() -> Any:
        model = formulation.build(derived, start)
        options = Options(time_limit=60.0)
        return engine.run(Task(derived, formulation, model, start, options, Deadline(60.0)))

    return run, best_s


@pytest.mark.parametrize("devices", SIZES)
@pytest.mark.parametrize("law", LAWS)
def test_native_link(benchmark: Any, law: str, devices: int) -> None:
    """One link of one round."""
    fixed, bits, rate = link(devices, law)
    tau, _ = benchmark(least_time, fixed, bits, rate)
    assert np.isfinite(tau)


@pytest.mark.parametrize("law", LAWS)
def test_native_many_rounds(benchmark: Any, law: str) -> None:
    """One link of 10,000 rounds of 100 devices."""
    benchmark.extra_info["rounds"] = ROUNDS
    problem = link(MANY, law, ROUNDS)
    tau, _ = benchmark.pedantic(least_times, args=problem, rounds=3, warmup_rounds=1)
    assert np.isfinite(tau).all()


@pytest.mark.parametrize("devices", [100, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("pair", rivals(), ids="-on-".join)
def test_whole_round(benchmark: Any, pair: tuple[str, str], law: str, devices: int) -> None:
    """Build and solve, all links."""
    run, best_s = whole_round(*pair, law, devices)
    found = benchmark.pedantic(run, rounds=1, warmup_rounds=0)
    benchmark.extra_info["termination"] = found.termination.value
    if found.claimed_s is not None:
        benchmark.extra_info["above_optimum"] = found.claimed_s / best_s - 1.0


def best_cpu_s(call: Callable[[], Any], times: int) -> float:
    """Return the least CPU seconds of several calls, after one that warms up."""
    call()
    spent = []
    for _ in range(times):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent)


def native_rows() -> list[dict[str, Any]]:
    """Measure single links by size, then many rounds."""
    rows: list[dict[str, Any]] = []
    for law in LAWS:
        for devices in SIZES:
            problem = link(devices, law)
            inner = max(1, 2_000 // devices)  # one call alone is below the clock's step

            def calls(problem: Any = problem, inner: int = inner) -> None:
                for _ in range(inner):
                    least_time(*problem)

            ms = best_cpu_s(calls, 30) / inner * 1e3
            target = TARGET_MS.get((law, devices))
            rows.append(
                {"what": "link", "law": law, "devices": devices, "ms": ms, "target": target}
            )
        problem = link(MANY, law, ROUNDS)
        us = best_cpu_s(lambda problem=problem: least_times(*problem), 3) / ROUNDS * 1e6  # type: ignore[misc]
        target = TARGET_ROUND_US if law == "psd" else None
        rows.append({"what": "rounds", "law": law, "devices": MANY, "us": us, "target": target})
    return rows


def rival_rows(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Measure whole rounds that ``rows`` lack; 1,000 devices where 100 took less than 1 s."""
    known = {(r["solver"], r["law"], r["devices"]): r["ms"] for r in rows if r["what"] == "round"}
    for devices in (100, 1_000):
        for law in LAWS:
            for solver, form in rivals():
                slow = devices > 100 and known[solver, law, 100] > 1e3
                if slow or (solver, law, devices) in known:
                    continue
                run, best_s = whole_round(solver, form, law, devices)
                began = time.process_time()
                found = run()
                ms = (time.process_time() - began) * 1e3
                if ms < 1e3:
                    ms = best_cpu_s(run, 3) * 1e3
                known[solver, law, devices] = ms
                off = None if found.claimed_s is None else found.claimed_s / best_s - 1.0
                yield {
                    "what": "round", "law": law, "devices": devices, "solver": solver,
                    "formulation": form, "ms": ms, "off": off,
                    "termination": found.termination.value,
                }  # fmt: skip


def page(rows: list[dict[str, Any]]) -> str:
    """Write the Markdown page."""
    lines = [
        "# Small problem (14): time against size",
        "",
        "Made by `OMP_NUM_THREADS=1 python -m benchmarks.timings.bench_spectrum`. "
        "Best CPU time of several",
        "calls (one call where it takes over 1 s), one thread, everything compiled beforehand; the",
        "time limit of 60 s is wall-clock time on a busy machine.",
        "",
        "One link of one round, native (`total`: 16 gains a device):",
        "",
        "| law | devices | ms | target ms | times psd |",
        "|---|--:|--:|--:|--:|",
    ]
    psd = {r["devices"]: r["ms"] for r in rows if r["what"] == "link" and r["law"] == "psd"}
    for r in (r for r in rows if r["what"] == "link"):
        target = "-" if r["target"] is None else f"{r['target']:g}"
        ratio = r["ms"] / psd[r["devices"]]
        lines.append(f"| {r['law']} | {r['devices']:,} | {r['ms']:.4f} | {target} | {ratio:.1f} |")
    lines += ["", f"{ROUNDS:,} rounds of {MANY} devices in one call, per round:", ""]
    for r in (r for r in rows if r["what"] == "rounds"):
        target = "no target" if r["target"] is None else f"target {r['target']:g}"
        lines.append(f"- {r['law']}: {r['us']:.2f} microseconds ({target})")
    lines += [
        "",
        "One whole round, model built and solved (`off`: claimed against the optimum):",
        "",
        "| law | devices | solver | formulation | ms | off | ended |",
        "|---|--:|---|---|--:|--:|---|",
    ]
    for r in (r for r in rows if r["what"] == "round"):
        off = "-" if r["off"] is None else f"{r['off']:.1e}"
        lines.append(
            f"| {r['law']} | {r['devices']:,} | {r['solver']} | {r['formulation']} | "
            f"{r['ms']:.2f} | {off} | {r['termination']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is missing, row by row, and write both files."""
    out = Path("benchmarks/results")
    log = out / "spectrum_scaling.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    rows = [row for row in rows if row["what"] == "round"]  # the native ones take seconds: anew
    rows = native_rows() + rows
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rival_rows(list(rows)):
        rows.append(row)
        with log.open("a") as appended:
            appended.write(json.dumps(row) + "\n")
        print(row, flush=True)
    (out / "spectrum_scaling.md").write_text(page(rows))


if __name__ == "__main__":
    main()
