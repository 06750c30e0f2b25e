"""What surrounds a run decides nothing, or is told: working folder, caches, locale, home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sftopt
from sftopt.face.commands.doctor import kernel_cache_check
from sftopt.solvers.engines.working_folder import in_an_empty_folder
from sftopt.solvers.registry import availability, get_solver
from sftopt.solvers.run import solve
from tests.solvers.fakes import tiny

READS = ("ipopt", "cyipopt", "bonmin", "mindtpy")
"""Engines with Ipopt or Bonmin inside."""


@pytest.mark.parametrize("name", READS)
def test_a_file_in_the_working_folder_does_not_steer_an_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    if not availability(get_solver(name)):
        assert name == "cyipopt", "the only one that may be missing here"
        return
    usual = solve(tiny(), solver=name, time_limit=None)
    (tmp_path / "ipopt.opt").write_text("max_iter 1\n")
    (tmp_path / "bonmin.opt").write_text("max_iter 0\nbonmin.node_limit 0\n")
    monkeypatch.chdir(tmp_path)
    found = solve(tiny(), solver=name, time_limit=None)
    assert get_solver(name).probe().available  # type: ignore[attr-defined]
    assert (found.termination, found.objective_s) == (usual.termination, usual.objective_s)
    assert (found.iterations, found.nodes) == (usual.iterations, usual.nodes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bonmin.opt", "ipopt.opt"]


def test_options_that_are_given_still_count(tmp_path: Path) -> None:
    steered = solve(tiny(), solver="ipopt", options={"max_iter": 1}, time_limit=None)
    assert steered.iterations == 1
    file = tmp_path / "mine.opt"
    file.write_text("max_iter 1\n")
    named = solve(tiny(), solver="ipopt", options={"option_file_name": str(file)}, time_limit=None)
    assert named.iterations == 1


def test_the_working_folder_is_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = os.getcwd()
    with in_an_empty_folder():
        assert os.listdir(".") == []
    assert os.getcwd() == here
    with pytest.raises(ZeroDivisionError), in_an_empty_folder():
        raise ZeroDivisionError
    assert os.getcwd() == here
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with in_an_empty_folder():
        assert os.listdir(".") == []


UNKEPT = """
from numba.core import caching

caching.FunctionCache._impl_class._locator_classes = []

import numpy as np
from sftopt.core.least_time import least_time
from sftopt.core.spectrum import LinearRate
from sftopt.solvers.certify.bound.keep_minimum import convexity_peak
from sftopt.face.commands.doctor import kernel_cache_check

tau, _ = least_time(np.zeros(1), np.ones(1), LinearRate(np.full(1, 2.0)))
check = kernel_cache_check()
print(tau, convexity_peak(2.0) > 0.0, check.ok, check.fix)
"""
"""A process in which Numba finds no place for its caches."""


def test_kernels_are_compiled_without_a_cache_and_that_is_said() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNKEPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=3)[:3] == ["0.5", "True", "False"]
    assert "set NUMBA_CACHE_DIR" in done.stdout
    assert done.stderr.count("compiled functions cannot be kept") == 1


def test_kernels_that_are_kept_are_no_news() -> None:
    assert kernel_cache_check().ok


@pytest.mark.parametrize(
    "surroundings",
    [
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"},
        {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "MPLCONFIGDIR": ""},
        {"TMPDIR": "/proc/none"},
        {"OMP_NUM_THREADS": "many", "OPENBLAS_NUM_THREADS": ""},
        {"NUMBA_DISABLE_JIT": "1"},
    ],
    ids=["locale", "home", "temporary folder", "threads", "no compiling"],
)
def test_the_surroundings_do_not_change_a_plan(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    cell, out = tmp_path / "zelle-ü.json", tmp_path / "plan-ü.json"
    cell.write_text(tiny().model_copy(update={"name": "Zelle ü"}).model_dump_json())
    words = ["plan", str(cell), "--solver", "ipopt", "--out", str(out), "--quiet", "--json"]
    package = Path(sftopt.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "sftopt", *words],
        env={**os.environ, "PYTHONPATH": str(package), **surroundings},
        capture_output=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = subprocess.run(
        [sys.executable, "-m", "sftopt", *words[:-4], "--quiet", "--json"],
        env={**os.environ, "PYTHONPATH": str(package)}, capture_output=True, check=True,
    )  # fmt: skip
    own, usual = (
        text.split(b'"objective_s": ')[1].split(b",")[0] for text in (done.stdout, again.stdout)
    )
    assert own == usual


def test_pictures_are_drawn_whatever_backend_the_environment_names() -> None:
    code = "from sftopt.face.output import prepare_streams; prepare_streams(); import matplotlib"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "MPLBACKEND": "nowhere"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
