"""What got slower since the last committed timings?

``make bench`` calls it with the JSON of its run. Every least time is divided by that of the
reference kernel (``bench_reference``) in the same run, and that ratio by the committed one, so a
slower day or a slower machine of the same kind does not count. ``--keep`` makes this run the
committed one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sftopt.core.files import read_json, write_json

LAST = Path(__file__).resolve().parents[1] / "results" / "bench.json"
"""The committed timings."""
REFERENCE = "test_reference"
"""The case that all others are divided by."""
SLOWER = 1.3
"""A case whose ratio grew by more than this factor is named; runs of one commit differ by less."""


@dataclass(frozen=True)
class Change:
    """One case in two runs."""

    case: str
    last_s: float
    now_s: float
    factor: float
    """Ratio to the reference kernel now, over that of the last run."""


def least_s(run: Mapping[str, Any]) -> dict[str, float]:
    """Return the least seconds of every case of a run of pytest-benchmark."""
    return {case["name"]: float(case["stats"]["min"]) for case in run["benchmarks"]}


def kept(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a run is committed."""
    machine = run["machine_info"]
    return {
        "made_by": "make bench",
        "date": run["datetime"][:10],
        "commit": run["commit_info"].get("id", "")[:12],
        "processor": machine.get("cpu", {}).get("brand_raw", machine.get("processor", "")),
        "python": machine.get("python_version", ""),
        "least_s": {name: round(time, 9) for name, time in sorted(least_s(run).items())},
    }


def compared(last: Mapping[str, float], now: Mapping[str, float]) -> list[Change]:
    """List the cases of both runs, those that got slower first."""
    pace = now[REFERENCE] / last[REFERENCE]
    made = [
        Change(name, last[name], now[name], now[name] / max(last[name], 1e-12) / pace)
        for name in last.keys() & now.keys() - {REFERENCE}
    ]
    return sorted(made, key=lambda one: -one.factor)


def told(last: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the comparison in words: what got slower, what is new, what is gone."""
    before, here = last["least_s"], now["least_s"]
    missing = [name for name in (REFERENCE,) if name not in before or name not in here]
    if missing:
        return f"no comparison: '{REFERENCE}' is not in both runs"
    changes = compared(before, here)
    slower = [one for one in changes if one.factor > SLOWER]
    faster = [one for one in reversed(changes) if one.factor < 1.0 / SLOWER]
    pace = here[REFERENCE] / before[REFERENCE]
    lines = [
        f"{len(changes)} cases against {last['date']} ({last['commit'] or 'no commit'}); the "
        f"reference kernel takes {pace:.2f} times what it took then"
    ]
    for word, some in (("slower", slower), ("faster", faster)):
        lines.append(f"{len(some)} {word} by more than {SLOWER:g} times")
        lines += [
            f"  {one.factor:5.2f}  {one.case}: {one.last_s:.3g} s then, {one.now_s:.3g} s now"
            for one in some
        ]
    for word, names in (
        ("new", here.keys() - before.keys()),
        ("gone", before.keys() - here.keys()),
    ):
        if names:
            lines.append(f"{word}: {', '.join(sorted(names))}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison, or keep the run as the committed one; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="JSON of pytest-benchmark")
    parser.add_argument("--last", type=Path, default=LAST, help="what it is compared with")
    parser.add_argument("--keep", action="store_true", help="write --last anew from this run")
    given = parser.parse_args(arguments)
    now = kept(read_json(given.run, "run of pytest-benchmark"))
    if given.last.is_file():
        print(told(read_json(given.last, "committed timings"), now))
    if given.keep:
        write_json(given.last, now)
        print(f"kept as {given.last}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
