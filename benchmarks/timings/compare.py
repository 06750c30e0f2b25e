"""Is this checkout slower than another? The same cases by turns in both, in one run.

    git worktree add ../base COMMIT
    OMP_NUM_THREADS=1 python -m benchmarks.timings.compare --base ../base

One process each in the two checkouts is kept alive; every case runs in one, then in the other, and
so on, so that load and clock of the machine fall on both alike. Instances are made by the base and
read by both as files. The ratio of a case is new over base of the least CPU seconds, or of their
median (``--by``). Exit status 1
where the median ratio is above 1.05 or a single one above 1.2 (``--median``, ``--single``).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.timings import compare_cases
from sftopt.core.files import write_json

HERE = Path(__file__).resolve().parents[2]
"""Root of this checkout."""
MADE_BY: dict[str, Callable[[list[float]], float]] = {"least": min, "median": statistics.median}
"""What one time is made of those of all turns."""
SHORTEST_S = 0.05
"""CPU seconds of one measurement: a shorter call is repeated."""


@dataclass(frozen=True)
class Compared:
    """One case: CPU seconds in both checkouts, and what the calls returned."""

    case: str
    base_s: float
    new_s: float
    base_value: float | None
    new_value: float | None

    @property
    def ratio(self) -> float:
        """Return the ratio of the new time to the base's."""
        return self.new_s / max(self.base_s, 1e-12)


class Worker:
    """A process that runs cases with the sftopt of one checkout."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, compare_cases.__file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        found = Path(self._answer()["sftopt"])
        if root.resolve() not in found.parents:
            self.close()
            raise SystemExit(f"'{root}' was asked for, but its sftopt is '{found}'")

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended early; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def compared(
    case: str, base: Worker, new: Worker, repeats: int, by: Callable[[list[float]], float] = min
) -> Compared:
    """Time one case by turns in both checkouts; ``by`` makes one of all times."""
    base.ask(do="make", case=case)
    first_s = max(worker.ask(do="prepare", case=case)["first_s"] for worker in (base, new))
    if first_s < 20.0 * SHORTEST_S:  # the first call may have loaded or compiled something
        first_s = base.ask(do="run", times=1)["cpu_s"]
    times = max(1, round(SHORTEST_S / max(first_s, 1e-6)))
    turns = repeats if first_s > 4.0 * SHORTEST_S else 4 * repeats  # short ones are disturbed more
    spent: dict[Worker, list[float]] = {base: [], new: []}
    values: dict[Worker, float | None] = {}
    for turn in range(turns):
        for worker in (base, new) if turn % 2 == 0 else (new, base):
            answer = worker.ask(do="run", times=times)
            spent[worker].append(answer["cpu_s"])
            values[worker] = answer["value"]
    return Compared(case, by(spent[base]), by(spent[new]), values[base], values[new])


def report(rows: list[Compared], median: float, single: float) -> tuple[list[str], bool]:
    """Summarise all cases in lines of text, and say whether every limit is kept."""
    ratios = [row.ratio for row in rows]
    worst = max(rows, key=lambda row: row.ratio)
    middle = statistics.median(ratios)
    lines = [
        f"median ratio {middle:.3f} (at most {median:g}), "
        f"highest {worst.ratio:.3f} (at most {single:g}): {worst.case}"
    ]
    other = [row for row in rows if row.base_value != row.new_value]
    lines += [f"value differs: {r.case}: {r.base_value} -> {r.new_value}" for r in other]
    return lines, middle <= median and worst.ratio <= single


def main(arguments: list[str] | None = None) -> int:
    """Compare; return the exit code: 1 where a limit is exceeded, else 0."""
    parser = argparse.ArgumentParser(description="Compare timings with another checkout's.")
    parser.add_argument("--base", type=Path, required=True, help="root of the other checkout")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--long", action="store_true", help="certify up to 10,000 devices, too")
    parser.add_argument("--repeats", type=int, default=5, help="turns a case; short ones take 4x")
    parser.add_argument("--by", choices=sorted(MADE_BY), default="least", help="of all turns")
    parser.add_argument("--median", type=float, default=1.05, help="highest median ratio")
    parser.add_argument("--single", type=float, default=1.2, help="highest ratio of a case")
    parser.add_argument("--out", type=Path, help="JSON file with all rows")
    given = parser.parse_args(arguments)
    names = [name for name in compare_cases.cases(given.long) if given.only in name]
    if not names:
        parser.error(f"no case holds '{given.only}'")
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base = stack.enter_context(closing(Worker(given.base, folder)))
        new = stack.enter_context(closing(Worker(HERE, folder)))
        for name in names:
            row = compared(name, base, new, given.repeats, MADE_BY[given.by])
            rows.append(row)
            print(
                f"{name:36} {row.base_s:10.6f} s {row.new_s:10.6f} s {row.ratio:7.3f}", flush=True
            )
    lines, kept = report(rows, given.median, given.single)
    print("\n".join(lines))
    if given.out is not None:
        write_json(given.out, [{**asdict(row), "ratio": row.ratio} for row in rows])
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
