"""Is anything lost or left when a command is killed? Random commands, signals and moments.

Each moment is drawn from its own seed, uniformly over the time that the command took in a run of
its own before, so that one can be looked at alone. The rows go on where they stopped.

    python -m benchmarks.studies.kills --moments 200 --seed 0 --out DIR

``--page FILE`` writes the page of results.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.studies.kills_trial import (
    COMMANDS,
    SIGNALS,
    Command,
    When,
    faults,
    faults_of_going_on,
    never,
    row_of,
    run,
    whole_lines,
    write_inputs,
)
from sftopt.core.files import read_json, write_json, write_text
from sftopt.core.rows import RowFile

_AFTER_A_ROW_S = 0.5
"""Drawn from: seconds after a row until the signal."""
_SHOWN = 20
"""Faults that the page shows in full."""


def usual_seconds(command: Command, inputs: Path, folder: Path) -> float:
    """Run a command to its end, once; its usual duration in seconds, kept in ``folder``."""
    known = folder / "usual.json"
    if not known.exists():
        shutil.rmtree(folder, ignore_errors=True)
        ended = run(command, inputs, folder, never, signal.SIGTERM)
        if ended.code:
            raise SystemExit(f"{command.name}: exit code {ended.code} without a signal")
        write_json(known, {"seconds": ended.seconds})
    return float(read_json(known, "usual duration")["seconds"])


def moment(number: int, seed: int, at: str, out: Path) -> dict[str, Any]:
    """Try one moment, and return its row.

    ``at``: "time" draws it evenly from the command's whole duration, most of which is spent before
    its first row; "rows" draws a number of rows and waits until there are as many, and a little on.
    """
    draw = random.Random(f"{seed} {number}")
    some = [name for name in COMMANDS if at == "time" or COMMANDS[name].rows]
    command = COMMANDS[draw.choice(sorted(some))]
    kind = draw.choice(SIGNALS)
    inputs, whole, folder = out / "inputs", out / "whole" / command.name, out / f"at{number}"
    usual_s = usual_seconds(command, inputs, whole)
    if at == "time":
        when = after_seconds(draw.random() * usual_s)
    else:
        wanted = draw.randint(1, len(whole_lines(whole / command.rows)))
        when = after_rows(command.rows, wanted, draw.random() * _AFTER_A_ROW_S)
    shutil.rmtree(folder, ignore_errors=True)
    ended = run(command, inputs, folder, when, kind)
    found = faults(command, inputs, folder, ended, kind)
    found += faults_of_going_on(command, inputs, folder, ended, whole)
    if not found:
        shutil.rmtree(folder)
    return row_of(command.name, number, kind, ended, found)


def after_seconds(at_s: float) -> When:
    """Say when a command has run for ``at_s`` seconds."""
    return lambda folder, seconds: seconds >= at_s


def after_rows(file: str, wanted: int, more_s: float) -> When:
    """Say when ``file`` has ``wanted`` rows and ``more_s`` seconds have gone by since."""
    there_s: list[float] = []

    def when(folder: Path, seconds: float) -> bool:
        if not there_s and len(whole_lines(folder / file)) >= wanted:
            there_s.append(seconds)
        return bool(there_s) and seconds >= there_s[0] + more_s

    return when


def page(rows: Sequence[dict[str, Any]], asked: str) -> str:
    """Write the page of all moments."""
    wrong = [row for row in rows if row["faults"]]
    lines = [
        "# Commands that are killed", "", f"Made by `{asked}`.", "",
        f"- moments: {len(rows)}",
        f"- with a fault: {len(wrong)}",
        f"- the longest that a process outlived its command: "
        f"{max((row['left_s'] for row in rows), default=0.0):.2f} s",
        "", "| command | signal | moments | before any row | exit codes | faults |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, kind in sorted({(row["command"], row["signal"]) for row in rows}):
        some = [row for row in rows if (row["command"], row["signal"]) == (name, kind)]
        codes = Counter(row["code"] for row in some)
        told = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
        early = sum(not row["rows_before"] for row in some)
        bad = sum(bool(row["faults"]) for row in some)
        lines.append(f"| {name} | {kind} | {len(some)} | {early} | {told} | {bad} |")
    for row in wrong[:_SHOWN]:
        lines += ["", f"Moment {row['round']}, {row['command']}, {row['signal']}: ",
                  *(f"- {text}" for text in row["faults"])]  # fmt: skip
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """Try all moments; exit code 1 where one has a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at", choices=("time", "rows"), default="time")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args(words)
    out = given.out.resolve()
    if not (out / "inputs").exists():
        write_inputs(out / "inputs")
    with RowFile(out, {"seed": given.seed, "at": given.at}, resume=True) as file:
        for number in range(given.moments):
            if number not in file.rounds:
                row = moment(number, given.seed, given.at, out)
                file.append(row)
                print(number, row["command"], row["signal"], row["faults"] or "", flush=True)
        rows = [row for row in file.rows if row["round"] < given.moments]
    asked = f"--moments {len(rows)} --seed {given.seed} --at {given.at} --out DIR"
    text = page(rows, f"python -m benchmarks.studies.kills {asked}")
    print(text)
    if given.page is not None:
        write_text(given.page, text)
    return int(any(row["faults"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
