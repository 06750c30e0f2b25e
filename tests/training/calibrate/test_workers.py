"""Runs in processes of their own: the same results, and no process outlives its caller."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, cast

import pytest

from sftopt.core.errors import ExitCode, InputError, SftoptError
from sftopt.training.calibrate import Cell, CellResult, Sources, run_here
from sftopt.training.calibrate.workers import _processes, run_in_processes
from tests.training.calibrate.small import SETTINGS, TASK, base

CELLS = [Cell("topk", 0, 0.5, 8), Cell("none", 1)]


@dataclass(frozen=True)
class TinySources(Sources):
    """The tests' own model and task, found in the process itself."""

    def load_task(self) -> Any:
        return TASK

    def load_model(self, task: Any) -> Any:
        if self.model == "dies":
            import os

            os._exit(9)
        return base()


def test_results_are_those_of_this_process_and_errors_come_over() -> None:
    here: dict[Cell, CellResult] = {}
    there: dict[Cell, CellResult] = {}
    run_here(base(), TASK, SETTINGS, CELLS, here.__setitem__)
    impossible = Cell("topk", 0, keep=0.5, bits=99)
    with pytest.raises(SftoptError, match="bits = 99, 2 to 8 expected") as caught:
        run_in_processes(
            TinySources("tiny", "fake"), SETTINGS, [*CELLS, impossible], 1, there.__setitem__
        )
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert set(there) == set(CELLS)
    for cell in CELLS:
        assert there[cell].metric == here[cell].metric
        assert there[cell].uplink_bytes == here[cell].uplink_bytes > 0
        assert there[cell].downlink_bytes == here[cell].downlink_bytes > 0
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_is_told_and_takes_nobody_along() -> None:
    told: list[Any] = []
    with pytest.raises(
        SftoptError, match=r"keep 0\.5, 8 bits, seed 0\): its process died"
    ) as caught:
        run_in_processes(
            TinySources("dies", "fake"), SETTINGS, CELLS[:1], 2, lambda *one: told.append(one)
        )
    assert caught.value.exit_code is ExitCode.NO_POINT
    assert told == []
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's signals from /proc")
def test_a_process_that_still_imports_hears_no_ctrl_c() -> None:
    """The first one starts Python's tracker of resources, which lets signals through again."""
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
    with _processes(TinySources("tiny", "fake"), SETTINGS, 1):
        (child,) = multiprocessing.active_children()
        told = Path(f"/proc/{child.pid}/status").read_text()
    held = int(next(line for line in told.splitlines() if line.startswith("SigBlk")).split()[1], 16)
    for number in (signal.SIGINT, signal.SIGHUP):
        assert held >> (number - 1) & 1


def test_sources_of_real_tasks(tmp_path: Path) -> None:
    base().config.save_pretrained(tmp_path)
    sources = Sources(str(tmp_path / "config.json"), "digit-scenes")
    model = sources.load_model(cast(Any, _Images()))
    assert type(model).__name__ == "ViTForImageClassification"
    with pytest.raises(InputError, match="unknown data 'digits'"):
        Sources("x", "digits").load_task()


class _Images:
    from sftopt.training.data import TaskKind

    kind = TaskKind.IMAGE_CLASSIFICATION
    labels = padding_token = None
    label_names = ()
