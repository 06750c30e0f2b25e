"""Settings of the environment that libraries cannot take: one line, exit 2; others do no harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sftopt

PACKAGE = Path(sftopt.__file__).parents[1]


def checked(folder: Path, **surroundings: str) -> subprocess.CompletedProcess[str]:
    """Run a short command with variables set."""
    return subprocess.run(
        [sys.executable, "-m", "sftopt", "check", "tight-memory"],
        env={**os.environ, "PYTHONPATH": str(PACKAGE), **surroundings},
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("NUMBA_NUM_THREADS", "abc", "Numba cannot read NUMBA_NUM_THREADS='abc'"),
        ("NUMBA_NUM_THREADS", "0", "must be > 0"),
        ("NUMBA_DISABLE_JIT", "perhaps", "Numba cannot read NUMBA_DISABLE_JIT='perhaps'"),
        ("PYTHONOPTIMIZE", "2", "unset PYTHONOPTIMIZE"),
    ],
)
def test_what_a_library_cannot_take_is_one_line(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    done = checked(tmp_path, **{name: value})
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert said in done.stderr
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "imported"), [("1", False), ("4", False), ("0", True), ("abc", True)]
)
def test_numba_is_not_imported_for_a_variable_that_it_takes(value: str, imported: bool) -> None:
    """Every command asks, and many need no Numba."""
    asks = (
        "import sys; from sftopt.core.errors import InputError\n"
        "from sftopt.face.surroundings import refuse_surroundings\n"
        "try: refuse_surroundings()\n"
        "except InputError: pass\n"
        "print(any(name == 'numba' or name.startswith('numba.') for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", asks], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "NUMBA_NUM_THREADS": value},
    )  # fmt: skip
    assert done.stdout.strip() == str(imported)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command prints where no variable is set."""
    return checked(tmp_path_factory.mktemp("usual")).stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COLUMNS", "abc"),
        ("PYTHONWARNINGS", "error"),
        ("PYTHONOPTIMIZE", "1"),
        ("PYTHONHASHSEED", "7"),
        ("NUMBA_CACHE_DIR", "/proc/none"),
        ("NUMBA_NUM_THREADS", "1"),
        ("NUMBA_NUM_THREADS", "2"),
        ("NUMBA_THREADING_LAYER", "workqueue"),
    ],
)
def test_other_settings_do_no_harm(tmp_path: Path, usual: str, name: str, value: str) -> None:
    done = checked(tmp_path, **{name: value})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == usual
