"""Runs of the grid in processes of their own, which cannot outlive or take down the caller."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import torch
from transformers import PreTrainedModel
from transformers.utils import logging as hub_logging

from sftopt.core.errors import ExitCode, SftoptError
from sftopt.core.lifeline import killed_when_closed
from sftopt.training.calibrate.cells import Cell, CellResult, OnCell, result_of, run_cell
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.data import Task, load_task
from sftopt.training.task_model import load_task_model

_OF_TERMINALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP"))
"""Signals that a terminal sends to all processes in it."""


@dataclass(frozen=True)
class Sources:
    """Where a process finds model and task."""

    model: str | None
    """Folder, hub id or configuration; None: the task is loaded without one."""
    task: str
    local_files_only: bool = False
    """Never ask a model hub; a folder that exists is never looked for there."""
    tokens: int | None = None
    """Length of samples of text; None: the task's."""
    columns: tuple[tuple[str, str], ...] = ()
    """Of a table, by role."""

    def load_task(self) -> Task:
        """Load the task. Raises InputError where it cannot be had."""
        return load_task(
            self.task, tokens=self.tokens, model=self.model, columns=dict(self.columns)
        )

    def load_model(self, task: Task) -> PreTrainedModel:
        """Load the base model with the task's head. Raises InputError where it cannot be had."""
        assert self.model is not None
        return load_task_model(self.model, task, local_files_only=self.local_files_only)


class _WorkerFailed(SftoptError):
    """A run failed in its process; the message is the error's own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(exit_code)


def run_in_processes(
    sources: Sources,
    settings: CalibrationSettings,
    cells: Sequence[Cell],
    workers: int,
    on_cell: OnCell,
) -> None:
    """Run ``cells`` by up to ``workers`` processes of one thread each; ``on_cell`` as each ends.

    The first error ends all processes and is raised, with its own exit code; so does Ctrl-C.
    """
    left = list(cells)
    with _processes(sources, settings, min(workers, len(left))) as connections:
        busy: dict[Connection, Cell] = {}
        for connection in connections:
            busy[connection] = left.pop(0)
            _send(connection, asdict(busy[connection]))
        while busy:
            for ready in wait(list(busy)):
                connection = cast(Connection, ready)
                cell = busy.pop(connection)
                on_cell(cell, _result(connection, cell))
                if left:
                    busy[connection] = left.pop(0)
                    _send(connection, asdict(busy[connection]))


@contextmanager
def _processes(
    sources: Sources, settings: CalibrationSettings, count: int
) -> Iterator[list[Connection]]:
    """Started processes, told by their pipes; all are gone afterwards."""
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    resource_tracker.ensure_running()  # starting with the first process, it would end our hold
    processes, connections, lifelines = [], [], []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            lifeline, held = context.Pipe(duplex=False)
            process = context.Process(
                target=_work, args=(theirs, lifeline, sources, settings), daemon=True
            )
            with _signals_held():
                process.start()
                processes.append(process)
            if process.pid is not None:
                # it imports torch before it can watch for our end itself
                killed_when_closed(lifeline.fileno(), process.pid)
            theirs.close()  # or the pipe would not end when the process does
            lifeline.close()
            lifelines.append(held)
            connections.append(ours)
        yield connections
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.terminate()
            process.join()
        for held in lifelines:
            held.close()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back what a terminal sends to all its processes; one that is started here holds it too.

    Else Ctrl-C would find a process that still imports, or one that nobody has noted yet.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TERMINALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    connection: Connection, lifeline: Connection, sources: Sources, settings: CalibrationSettings
) -> None:
    """The process: cells in, results or an error out, until the pipe is closed.

    The kernel ends it when ``lifeline`` closes; where it cannot, the process does itself.
    """
    for number in _OF_TERMINALS:  # they reach all: the parent decides
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_TERMINALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hub_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    base: PreTrainedModel | None = None
    task: Task | None = None
    while True:
        try:
            cell = Cell(**_receive(connection))
        except EOFError:  # done
            return
        try:
            if base is None or task is None:
                task = sources.load_task()
                base = sources.load_model(task)
            answer: dict[str, Any] = {"result": asdict(run_cell(base, task, settings, cell))}
        except SftoptError as error:
            answer = {"error": str(error), "exit_code": int(error.exit_code)}
        except Exception as error:  # noqa: BLE001 - told by the parent, with its kind
            text = f"calibration run ({cell.label}): {type(error).__name__}: {error}"
            answer = {"error": text, "exit_code": int(ExitCode.INTERNAL_ERROR)}
        try:
            _send(connection, answer)
        except BrokenPipeError:
            return


def _end_with_parent() -> None:
    """A parent that was killed cannot end its processes: they watch for it themselves."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _result(connection: Connection, cell: Cell) -> CellResult:
    try:
        answer = _receive(connection)
    except (EOFError, ConnectionResetError):
        raise _WorkerFailed(
            f"calibration run ({cell.label}): its process died (killed, or out of memory). "
            "Finished runs are kept: go on with --resume, and with fewer --workers.",
            ExitCode.NO_POINT,
        ) from None
    if "error" in answer:
        raise _WorkerFailed(str(answer["error"]), int(answer["exit_code"]))
    return result_of(answer["result"])


def _send(connection: Connection, data: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(data).encode())


def _receive(connection: Connection) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(connection.recv_bytes())
    return data
