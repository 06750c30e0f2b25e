"""The cases of ``compare``, and the process that runs them in one checkout.

This file runs as it is in both checkouts, so it uses only names that stay where they are:
``sftopt.load``, ``solve``, ``build``, ``check``, ``verify_plan`` and the families' generator.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Prepared = Callable[[], float | None]
"""One call to be timed; what it returns must be the same in both checkouts."""

LARGE = ("jetson-vit-b", "llama-1b", "weichen", "near-infeasible")
"""Families of certify's larger cases: usual, summed memory, other power law, hardly feasible."""
SMALL = (
    "gpt2-e2e",
    "stsflora",
    "tight-memory",
    "weak-server",
    "strong-server",
    "tight-accuracy",
    "straggler",
    "equal-devices",
)
"""Families of which certify's cases end at 100 devices, but for ``--long``."""
LAWS = ("jetson-vit-b", "weichen")
"""A family of each power law: ``psd`` and ``total``."""
BUNDLED = "bundled"
"""In place of a number of devices: the cell that comes with the package."""
REPLANNED = 24
"""Cells that plans are made for by turns: more than the package remembers."""
LIMIT_S = 60.0
"""Time limit of one solve."""


def solving(solver: str, rel_gap: float = 1e-4) -> Callable[[Any], Prepared]:
    """Return what prepares a solve by ``solver``, start and verification included."""

    def prepare(instance: Any) -> Prepared:
        import sftopt

        def call() -> float | None:
            result = sftopt.solve(
                instance, solver=solver, time_limit=LIMIT_S, rel_gap=rel_gap, isolate=False
            )
            return result.objective_s

        return call

    return prepare


def building(formulation: str) -> Callable[[Any], Prepared]:
    """Return what prepares the building of a model."""

    def prepare(instance: Any) -> Prepared:
        import sftopt

        def call() -> None:
            sftopt.build(instance, formulation)

        return call

    return prepare


def checking(instance: Any) -> Prepared:
    """Prepare a check of the instance."""
    import sftopt

    return lambda: float(sftopt.check(instance).feasible)


def verifying(instance: Any) -> Prepared:
    """Prepare the verification of a heuristic plan."""
    import sftopt

    plan = sftopt.solve(instance, solver="constructive").plan

    def call() -> float | None:
        return sftopt.verify_plan(instance, plan).objective_s

    return call


def replanning(instance: Any, warm: bool) -> Prepared:
    """Prepare plans of cells whose gains differ by up to 10 % from the instance's.

    Each call takes the next cell, of which nothing is remembered yet. ``warm``: starting from the
    plan of ``instance``, with the cell's hash, which older releases ask for.
    """
    import sftopt

    plan = sftopt.solve(instance, solver="certify").plan if warm else None
    turns = itertools.cycle(
        (cell, plan.model_copy(update={"instance_hash": cell.hash}) if warm else None)
        for cell in moved(instance, REPLANNED)
    )

    def call() -> None:
        cell, x0 = next(turns)
        sftopt.solve(cell, solver="certify", rel_gap=1e-4, time_limit=LIMIT_S, x0=x0)

    return call


def moved(instance: Any, count: int) -> list[Any]:
    """Return cells whose gains differ from the instance's by up to 10 %, one seed each."""
    made = []
    for seed in range(count):
        draw = random.Random(seed)
        data = instance.to_dict()
        for device in data["devices"]:
            device["uplink_gain"] *= draw.uniform(0.9, 1.1)
            if device.get("downlink_gain") is not None:
                device["downlink_gain"] *= draw.uniform(0.9, 1.1)
        made.append(type(instance).model_validate(data))
    return made


def sharing(instance: Any, given: bool) -> Prepared:
    """Prepare the shares of one cell again and again; ``given``: at the decisions of a plan."""
    import sftopt

    x0 = sftopt.solve(instance, solver="certify").plan if given else None

    def call() -> float | None:
        return sftopt.solve(instance, solver="native-spectrum", x0=x0).objective_s

    return call


def cases(long: bool = False) -> dict[str, Callable[[Any], Prepared]]:
    """Return what prepares each case, by name: what, family and number of devices.

    ``long`` adds certify's cells of 3,000 and 10,000 devices and a gap of 1e-6.
    """
    made: dict[str, Callable[[Any], Prepared]] = {}
    for family in (*LARGE, *SMALL):
        more = (1_000, 3_000, 10_000) if long else (1_000,) if family in LARGE else ()
        for devices in (12, 100, *more):
            made[f"certify {family} {devices}"] = solving("certify")
        if long:
            made[f"certify-1e-6 {family} 1000"] = solving("certify", 1e-6)
    for family in LAWS:
        for name in ("joint-product", "joint-ratio", "joint-relaxed", "joint-grid-conic"):
            made[f"build-{name} {family} 30"] = building(name)
        for solver in ("constructive", "greedy", "alternating"):
            made[f"{solver} {family} 30"] = solving(solver)
        made[f"exhaustive {family} 2"] = solving("exhaustive")
        made[f"ipopt {family} 10"] = solving("ipopt")
        made[f"check {family} 1000"] = checking
        made[f"verify {family} 1000"] = verifying
    for name in ("jetson-vit-b",):
        made[f"replan-cold {name} {BUNDLED}"] = partial(replanning, warm=False)
        made[f"replan-x0 {name} {BUNDLED}"] = partial(replanning, warm=True)
        made[f"spectrum {name} {BUNDLED}"] = partial(sharing, given=False)
        made[f"spectrum-x0 {name} {BUNDLED}"] = partial(sharing, given=True)
    return made


def cpu_s() -> float:
    """Return the CPU seconds of this process and its finished children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in used)


def timed(call: Prepared, times: int) -> tuple[float, float | None]:
    """Run a call so many times; return the CPU seconds of one and what the last returned."""
    value = None
    began = cpu_s()
    for _ in range(times):
        value = call()
    return (cpu_s() - began) / times, value


def make_file(path: Path, name: str) -> None:
    """Write the instance of a case, seed 1, unless it is there."""
    import sftopt
    from sftopt.core.families import generate

    if not path.exists():
        _, family, devices = name.split()
        if devices == BUNDLED:
            path.write_text(json.dumps(sftopt.load(family).to_dict()), encoding="utf-8")
            return
        path.write_text(json.dumps(generate(family, int(devices), 1).to_dict()), encoding="utf-8")


def serve(folder: Path) -> None:
    """Answer requests, one JSON line each on standard input, until it is closed.

    ``make``: write a case's instance into ``folder``. ``prepare``: load it and run once.
    ``run``: run so many times. Standard output holds the answers alone: what an engine prints goes
    nowhere.
    """
    import sftopt

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    known = cases(long=True)
    call: Prepared = lambda: None  # noqa: E731 - replaced by the first `prepare`
    answers.write(json.dumps({"sftopt": str(Path(sftopt.__file__).resolve())}) + "\n")
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        name = asked.get("case", "")
        file = folder / f"{'-'.join(name.split()[1:])}.json"
        if asked["do"] == "make":
            make_file(file, name)
        elif asked["do"] == "prepare":
            call = known[name](sftopt.load(str(file)))
            began = time.perf_counter()
            answer["value"] = call()
            answer["first_s"] = time.perf_counter() - began
        else:
            answer["cpu_s"], answer["value"] = timed(call, asked["times"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
