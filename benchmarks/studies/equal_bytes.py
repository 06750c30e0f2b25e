"""How much does each codec lose at equal bytes? Fine-tunings of one task, paired by seed.

Every codec sends the same bits per element, mean of both directions, everything counted; rows come
one by one into a folder and a run that was stopped goes on. Two parts: ``table``, all codecs;
``ten``, the uncompressed run, the published chain (Top-K 0.30 at 4 bits) and the best codec at 1
and 0.5 bit, ten seeds at the task's own number of steps. The page is written from the committed
rows.

    python -m benchmarks.studies.equal_bytes --task wordnet-senses --model DIR --part table \\
        --work DIR --device cuda --workers 14 --budget-s 540
    python -m benchmarks.studies.equal_bytes --page
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from benchmarks.studies.equal_bytes_arms import (
    CHAIN,
    CHAIN_AT_CLAIM,
    NO_PADDING,
    UNCOMPRESSED,
    Arm,
    arms_of,
)
from benchmarks.studies.equal_bytes_page import RESULTS, ROWS, committed_rows, page
from benchmarks.studies.equal_bytes_runs import Job, Runner, begin, do
from sftopt.core.codec_files import without_places
from sftopt.core.files import canonical_json, write_text
from sftopt.core.rows import Identity, RowFile
from sftopt.face.default_model import default_model
from sftopt.training.data import Task, load_task

TABLE_SEEDS = 3
"""Seeds of the table."""
TABLE_STEPS = 200
"""Steps of the table's runs."""
TEN_SEEDS = 10
"""Seeds of the part on the published claim."""
TEN_RATES = (1.0, 0.5)
"""Budgets of the best codec there."""
_IDENTITY = Identity("run", lambda row: (row["label"], row["seed"], row["steps"]), sorts=False)
"""What tells rows apart."""


def jobs_of(task: Task, part: str, steps: int | None, seeds: int | None) -> list[Job]:
    """List the runs of a part, seed by seed, so that an early end is even."""
    labels = [arm.label for arm in arms_of(task)]
    if part == "ten":
        name = NO_PADDING if Arm(NO_PADDING, 1.0).label in labels else "rotated"
        chains = [one for one in (CHAIN, CHAIN_AT_CLAIM) if one in labels]
        labels = [UNCOMPRESSED, *chains, *(Arm(name, rate).label for rate in TEN_RATES)]
    count = seeds or (TEN_SEEDS if part == "ten" else TABLE_SEEDS)
    long = steps or (task.training.steps if part == "ten" else TABLE_STEPS)
    return [Job(label, seed, long) for seed in range(count) for label in labels]


def run_all(
    make: Any, jobs: list[Job], rows: RowFile, workers: int, ends_s: float, tell: Any
) -> bool:
    """Run the jobs that have no row, until ``ends_s`` on the monotonic clock; whether all are."""
    done = {(row["label"], row["seed"], row["steps"]) for row in rows.rows}
    left = [job for job in jobs if (job.label, job.seed, job.steps) not in done]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, begin, (make,)) as pool:
        busy: dict[Future[dict[str, Any]], Job] = {}
        while left or busy:
            while left and len(busy) < workers and time.monotonic() < ends_s:
                job = left.pop(0)
                busy[pool.submit(do, job)] = job
            ready, _ = wait(
                busy, timeout=max(0.0, ends_s - time.monotonic()), return_when=FIRST_COMPLETED
            )
            for future in ready:
                job = busy.pop(future)
                row = future.result()
                rows.append(row)
                tell(f"{job.label}, seed {job.seed}: {row['metric']:.4f} in {row['wall_s']:.0f} s")
            if time.monotonic() >= ends_s and not ready:
                tell(f"time is up: {len(busy) + len(left)} runs are left")
                _end(pool)
                return False
    return True


def _end(pool: ProcessPoolExecutor) -> None:
    """End the pool's processes without waiting for what they do."""
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)


def main() -> int:
    """Run a part or write the page; return the exit code: 1 where runs are left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="digit-scenes")
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--part", choices=("table", "ten"), nargs="+", default=["table"])
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--evaluated", type=int, default=2000)
    parser.add_argument("--budget-s", type=float, default=1e9)
    parser.add_argument("--only", default="", help="arms whose label holds this")
    parser.add_argument("--page", action="store_true", help="write the page from committed rows")
    parser.add_argument("--take", type=Path, nargs="*", default=[], help="rows to commit")
    given = parser.parse_args()
    if given.take:
        _take(given.take)
    if given.page or given.take:
        write_text(RESULTS / "equal_bytes.md", page(committed_rows()))
        return 0
    if given.work is None:
        parser.error("--work: a folder for the rows is needed")
    ends_s = time.monotonic() + given.budget_s
    model = given.model or Path(default_model(given.task, quiet=False))
    make = functools.partial(
        Runner, given.task, model, given.work / "files", given.device, given.evaluated
    )
    task = load_task(given.task, model=model)
    jobs = [
        job
        for part in given.part
        for job in jobs_of(task, part, given.steps, given.seeds)
        if given.only in job.label
    ]
    settings = {"task": given.task.partition(":")[0], "evaluated": given.evaluated}
    resume = (given.work / "settings.json").exists()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - ends_s + given.budget_s:6.0f} s  {text}", flush=True)

    with RowFile(given.work, settings, resume=resume, identity=_IDENTITY) as rows:
        done = run_all(make, jobs, rows, given.workers, ends_s, tell)
    if not done:
        sys.stdout.flush()
        os._exit(1)  # the pool's threads would wait for processes that are gone
    return 0


def _take(paths: list[Path]) -> None:
    """Add rows of other files to the committed ones; of two of one run the later one stays."""
    kept = {_key(row): row for row in committed_rows()}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            row["codec"] = row["codec"] and without_places(row["codec"])
            kept[_key(row)] = row
    lines = [canonical_json(kept[key]) for key in sorted(kept, key=str)]
    write_text(ROWS, "".join(line + "\n" for line in lines))


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["task"], row["label"], row["seed"], row["steps"])


if __name__ == "__main__":
    sys.exit(main())
