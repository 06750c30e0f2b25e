"""One command, one signal, one moment: what is lost, what is left, and does it go on?

A part of ``kills.py``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sftopt.core.files import write_json
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.verify import verify_plan
from sftopt.core.workload import workload_from_config
from tests.face.command_line import small_data
from tests.training.run.small_run import small_instance, small_plan

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Those tried."""
_TO_ALL = (signal.SIGHUP, signal.SIGINT)
"""Signals that a terminal sends to all processes in it."""
_MARK = "SFTOPT_KILLED_AS"
"""Environment variable by which the processes of a trial are known, wherever they went."""
_NO_MARK = "\n"
"""Stands in no environment."""
_GRACE_S = 5.0
"""Seconds in which all processes of a killed command must be gone."""
_PATIENCE_S = 900.0
"""Seconds that a command may take on a busy machine."""
_POLL_S = 0.01
"""How often a command is looked at, in seconds."""
_MEASURED = {
    "cpu_s", "wall_s", "delay", "time_s", "time_unscaled_s", "reference_flops_per_s", "sha256",
}  # fmt: skip
"""Fields of rows that differ from run to run."""
_MODEL = {
    "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 16,
    "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 20,
    "patch_size": 5, "num_channels": 1, "num_labels": 30,
}  # fmt: skip
"""A tiny model for the scenes of digits."""


@dataclass(frozen=True)
class Command:
    """A command line that is killed."""

    name: str
    words: tuple[str, ...]
    """Without its output; "{inputs}" is the folder of the inputs."""
    out: str
    """What it writes: a file, or a folder of rows."""
    rows: str = ""
    """The file of rows, below the trial's folder; empty where there are none."""

    def line(self, inputs: Path, folder: Path, *more: str) -> list[str]:
        """Write the whole command line."""
        words = [word.format(inputs=inputs) for word in self.words]
        return [sys.executable, "-m", "sftopt", *words, "--out", str(folder / self.out), *more]


_LEARN = ("--model", "{inputs}/model.json", "--data", "digit-scenes", "--evaluation-limit", "40")
"""Options of the commands that train."""
_PLAN = ("plan", "{inputs}/cell.json", "--json", "--time-limit", "30")
"""How a plan is asked for."""
COMMANDS = {
    command.name: command
    for command in (
        Command("plan", _PLAN, "plan.json"),
        Command("plan-scip", (*_PLAN, "--solver", "scip"), "plan.json"),
        Command(
            "simulate",
            ("simulate", "{inputs}/cell.json", "--rounds", "12", "--seed", "1", "--no-plots",
             "--json"),
            "out", "out/rows.jsonl",
        ),
        Command(
            "calibrate",
            ("calibrate", *_LEARN, "--keep", "0.1,0.3", "--bits", "2,8", "--seeds", "1", "--rounds",
             "1", "--local-steps", "1", "--workers", "2", "--json"),
            "c.json", "c.json.work/cells.jsonl",
        ),
        Command(
            "finetune",
            ("finetune", "{inputs}/plan.json", "--instance", "{inputs}/instance.json", *_LEARN,
             "--rounds", "4", "--no-plots", "--json"),
            "out", "out/rows.jsonl",
        ),
        Command(
            "finetune-memory",
            ("finetune", "{inputs}/plan.json", "--instance", "{inputs}/instance.json", *_LEARN,
             "--rounds", "4", "--samples", "16", "--codec",
             "rest:inner=ecsq,bits=1.0,first_bits=3.0,memory=true", "--no-plots", "--json"),
            "out", "out/rows.jsonl",
        ),
    )
}  # fmt: skip
"""What is killed, by name."""


def write_inputs(folder: Path) -> None:
    """Write the cells, the plan and the model that the commands read."""
    write_json(folder / "cell.json", small_data())
    write_json(folder / "model.json", _MODEL)
    work = workload_from_config(_MODEL, lora_rank=3, labels=_MODEL["num_labels"])
    instance = Instance.model_validate(
        {**small_instance().to_dict(), "workload": work.model_dump()}
    )
    write_json(folder / "instance.json", instance.to_dict())
    small_plan(instance).save(folder / "plan.json")


@dataclass(frozen=True)
class Ended:
    """What a command line left behind, and how many of its rows were there before the signal."""

    code: int
    out: str
    err: str
    rows_before: tuple[bytes, ...] = ()
    seconds: float = 0.0
    """From its start to the signal, or to its end without one."""
    left_s: float = 0.0
    """How long after its end processes of it were still there."""
    processes: tuple[str, ...] = ()
    """Those that stayed beyond the grace; they are ended."""


When = Callable[[Path, float], bool]
"""Says, of a trial's folder and the seconds since the start, whether the moment has come."""


def never(folder: Path, seconds: float) -> bool:
    """Return False: the command runs to its end."""
    return False


def run(
    command: Command, inputs: Path, folder: Path, when: When, number: signal.Signals, *more: str
) -> Ended:
    """Run a command in a session of its own and send it ``number`` (a signal) when it is time."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}.{time.monotonic_ns()}"
    began = time.monotonic()
    with open(folder / "stdout", "w+") as out, open(folder / "stderr", "w+") as err:
        process = subprocess.Popen(
            command.line(inputs, folder, *more), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            start_new_session=True,
            env={**os.environ, _MARK: mark, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        while process.poll() is None and not when(folder, time.monotonic() - began):
            time.sleep(_POLL_S)
        seconds = time.monotonic() - began
        before = whole_lines(folder / command.rows) if command.rows else ()
        if process.poll() is None:
            (os.killpg if number in _TO_ALL else os.kill)(process.pid, number)
        code = process.wait(_PATIENCE_S)
        left_s, processes = _wait_for_all(process.pid, f"{_MARK}={mark}")
        texts = [(folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
    return Ended(code, *texts, before, seconds, left_s, processes)


def whole_lines(path: Path) -> tuple[bytes, ...]:
    """Read the lines of a file of rows that are whole; none where there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    return tuple(content.split(b"\n")[:-1])


def repeatable(lines: tuple[bytes, ...]) -> list[str]:
    """List rows as text without what is measured in seconds, in order."""
    return sorted(json.dumps(_without_measured(json.loads(line)), sort_keys=True) for line in lines)


def _without_measured(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _without_measured(v) for k, v in data.items() if k not in _MEASURED}
    return [_without_measured(each) for each in data] if isinstance(data, list) else data


def left_processes(session: int) -> tuple[str, ...]:
    """List the words of processes that stay in a session beyond the grace; they are ended."""
    return _wait_for_all(session, _NO_MARK)[1]


def _wait_for_all(session: int, mark: str) -> tuple[float, tuple[str, ...]]:
    """Until no process is left: (seconds, those that stayed), which are ended."""
    began = time.monotonic()
    while found := _processes(session, mark):
        if time.monotonic() - began > _GRACE_S:
            for process in found:
                os.kill(process, signal.SIGKILL)
            return time.monotonic() - began, tuple(found.values())
        time.sleep(_POLL_S)
    return time.monotonic() - began, ()


def _processes(session: int, mark: str) -> dict[int, str]:
    """Running processes of a session or with a mark in their environment, with their words."""
    found = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal():
            continue
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            of_it = int(fields[3]) == session
            of_it = of_it or mark.encode() in (place / "environ").read_bytes()
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, IndexError):  # it ended just now
            continue
        if of_it and fields[0] not in "ZX":
            found[int(place.name)] = words.strip()
    return found


def faults(
    command: Command, inputs: Path, folder: Path, ended: Ended, number: signal.Signals
) -> list[str]:
    """List what is wrong after a signal; nothing where all is as it should be."""
    found = [f"left running: {words}" for words in ended.processes]
    starting = ended.rows_before == () and not ended.out and _is_pythons_start(ended.err)
    if "Traceback" in ended.err and not starting:
        found.append(f"a traceback: {ended.err.strip().splitlines()[-1]}")
    silent = not ended.out and not ended.rows_before
    answered = ended.out.endswith("}\n")
    if ended.code not in (0, 130) and ended.code != -number and not starting:
        found.append(f"exit code {ended.code}: {ended.err.strip()[-300:]}")
    if ended.code == -number and number != signal.SIGKILL and not (silent or answered):
        found.append("ended by the signal, not by itself, in the midst of its work")
    now = set(whole_lines(folder / command.rows)) if command.rows else set()
    lost = [row for row in ended.rows_before if row not in now]
    found += [f"lost or changed: {row[:80]!r}" for row in lost]
    for path in sorted(folder.rglob("*.json")):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            found += unreadable(path)
    if not command.rows:
        found += _plan_faults(inputs, folder / command.out, ended)
    return found


def _is_pythons_start(err: str) -> bool:
    """Whether a traceback is of before the program: Python starts, and imports what starts it."""
    frames = re.findall(r'File "([^"]+)"', err)
    inside = [name for name in frames if "/sftopt/" in name]
    return "Traceback" in err and all(
        name.endswith(("/sftopt/__init__.py", "/sftopt/__main__.py")) for name in inside
    )


def unreadable(path: Path) -> list[str]:
    """List what is wrong with a file of JSON; nothing where it is whole."""
    try:
        json.loads(path.read_text())
    except ValueError as error:
        return [f"half-written: {path.name}: {error}"]
    return []


def _plan_faults(inputs: Path, path: Path, ended: Ended) -> list[str]:
    """What was reported of a plan is in its file, which the judge accepts."""
    found = []
    if path.exists():
        instance = Instance.model_validate_json((inputs / "cell.json").read_text())
        if not verify_plan(instance, Plan.load(path)).feasible:
            found.append("the plan that was written is none")
    reported = re.search(r"incumbent [0-9]", ended.err) is not None
    if ended.code in (0, 130) and ended.out.endswith("}\n"):
        reported = reported or json.loads(ended.out).get("point") in ("feasible", "optimal")
    if reported and ended.code in (0, 130) and not path.exists():
        found.append("a plan was reported, and none is there")
    return found


def faults_of_going_on(
    command: Command, inputs: Path, folder: Path, ended: Ended, whole: Path
) -> list[str]:
    """List what differs, after going on, from the run in ``whole`` that had no signal."""
    started = (folder / command.rows).parent.is_dir() if command.rows else False
    more = ("--resume",) if started else ()
    again = run(command, inputs, folder, never, signal.SIGTERM, *more)
    if again.code != 0:
        return [f"going on: exit code {again.code}: {again.err.strip()[-300:]}"]
    found = faults(command, inputs, folder, again, signal.SIGTERM)
    if command.rows:
        mine, theirs = (repeatable(whole_lines(each / command.rows)) for each in (folder, whole))
        if mine != theirs:
            found.append(f"going on: {len(mine)} rows are not the {len(theirs)} of a whole run")
    elif json.loads((folder / command.out).read_text()) != json.loads(
        (whole / command.out).read_text()
    ):
        found.append("again: another plan")
    left = [path.name for path in folder.rglob(".checkpoint.*")]
    return found + [f"left behind: {name}" for name in left]


def row_of(name: str, number: int, kind: signal.Signals, ended: Ended, found: list[str]) -> Any:
    """Make the row of a trial for the study's file."""
    data = asdict(ended)
    return {
        "round": number, "command": name, "signal": kind.name, "code": ended.code,
        "rows_before": len(ended.rows_before), "faults": found,
        **{key: round(data[key], 3) for key in ("seconds", "left_s")},
    }  # fmt: skip


__all__ = [
    "COMMANDS",
    "SIGNALS",
    "Command",
    "Ended",
    "When",
    "faults",
    "faults_of_going_on",
    "left_processes",
    "never",
    "repeatable",
    "row_of",
    "run",
    "unreadable",
    "whole_lines",
    "write_inputs",
]
