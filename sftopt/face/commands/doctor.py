"""``sftopt doctor``: does everything that is needed really work here?"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.errors import ExitCode, SftoptError
from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer, engines_on_stderr

if TYPE_CHECKING:
    from rich.console import Console

_OLDEST_PYTHON = (3, 11)
"""Oldest release of Python that sftopt runs on."""
_CYIPOPT_FIX = "python -m sftopt.solvers.engines.install_cyipopt"
"""The command that builds cyipopt against the Ipopt that is installed."""
_ANEW = "install sftopt anew: pip install --force-reinstall sftopt"
"""What to do about a broken installation."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that limit the threads of numeric libraries."""


@dataclass(frozen=True)
class Check:
    """One finding. ``severity`` says what a failure means: ``error`` or ``warning``."""

    name: str
    ok: bool
    severity: str
    detail: str
    fix: str = ""


def doctor(json: JsonOption = False) -> Answer:
    """Check that everything works here.

    Python, dependencies, solvers, data files, working directory, threads.

    Exit code 0: planning works, if with warnings; 1: the core is broken; 6: nothing can solve.
    """
    with engines_on_stderr():
        checks = [python_check(), *dependency_checks(), *_core_checks()]
        solver_checks = list(_solver_checks())
    checks += [
        *solver_checks,
        kernel_cache_check(),
        working_directory_check(Path.cwd()),
        threads_check(),
    ]
    code, problem = _verdict(checks, solver_checks)
    return Answer(
        {"ok": code is ExitCode.OK, "checks": [asdict(check) for check in checks]},
        lambda console: _show(console, checks),
        code,
        problem,
    )


def _verdict(checks: list[Check], solver_checks: list[Check]) -> tuple[ExitCode, str]:
    broken = [check.name for check in checks if not check.ok and check.severity == "error"]
    if broken:
        return ExitCode.INTERNAL_ERROR, "not working: " + ", ".join(broken)
    if not any(check.ok for check in solver_checks):
        return ExitCode.SOLVER_MISSING, "no solver works here"
    return ExitCode.OK, ""


def python_check() -> Check:
    """Check that the interpreter is new enough."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    needed = ".".join(str(part) for part in _OLDEST_PYTHON)
    ok = sys.version_info[:2] >= _OLDEST_PYTHON
    fix = "" if ok else f"install Python {needed} or newer"
    return Check("python", ok, "error", f"{found} at {sys.executable}", fix)


def dependency_checks(distribution: str = "sftopt") -> Iterator[Check]:
    """Check every dependency of the installed distribution and its extras."""
    from importlib import metadata  # here: it takes longer to import than all else above

    try:
        declared = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        yield Check("installation", False, "warning", f"{distribution} is not installed",
                    "pip install -e .")  # fmt: skip
        return
    seen: set[str] = set()
    for line in declared:
        name, extra = _requirement(line)
        if name in seen or extra == "dev":
            continue
        seen.add(name)
        severity = "warning" if extra else "error"
        try:
            yield Check(name, True, severity, metadata.version(name))
        except metadata.PackageNotFoundError:
            detail = f"not installed (optional, extra '{extra}')" if extra else "not installed"
            fix = f"pip install '{distribution}[{extra}]'" if extra else f"pip install {name}"
            fix = _CYIPOPT_FIX if name == "cyipopt" else fix
            yield Check(name, False, severity, detail, fix)


def _requirement(line: str) -> tuple[str, str]:
    """``torch==2.13.0; extra == "train"`` -> (torch, train); no extra: an empty text."""
    head, _, marker = line.partition(";")
    name = head.strip()
    for position, letter in enumerate(name):
        if not (letter.isalnum() or letter in "-_."):
            name = name[:position]
            break
    extra = ""
    if "extra" in marker:
        extra = marker.partition("extra")[2].strip(" ='\"").rstrip("'\" )")
    return name, extra


def _core_checks() -> Iterator[Check]:
    """Bundled instances load and the formulas run on each of them."""
    try:
        from sftopt.core.derived import derive
        from sftopt.core.library import bundled_names, load

        names = bundled_names()
        for name in names:
            derive(load(name))
    except ImportError as error:
        yield Check("core", False, "error", f"cannot be imported: {error}", _ANEW)
    except SftoptError as error:
        yield Check("bundled instances", False, "error", str(error), _ANEW)
    else:
        yield Check("bundled instances", bool(names), "error", f"{len(names)} load", _ANEW)


def _solver_checks() -> Iterator[Check]:
    """Every solver solves a two-variable probe; says which library is linked."""
    try:
        from sftopt.solvers.run import list_solvers
    except ImportError as error:
        yield Check("solvers", False, "error", f"cannot be imported: {error}", _ANEW)
        return
    listed: dict[str, Any] = list_solvers()
    for item in listed["solvers"]:
        name = f"solver {item['name']}"
        if not item["available"]:
            yield Check(name, False, "warning", item["reason"], item["fix"])
            continue
        parts = [
            f"engine {item['engine_version']}" if item["engine_version"] else "",
            f"wrapper {item['version']}" if item["version"] else "",
            item["linked_library"],
        ]
        yield Check(name, True, "warning", ", ".join(part for part in parts if part))


def kernel_cache_check() -> Check:
    """Check that compiled functions can be kept for the next process."""
    from sftopt.core.kernel_cache import WAY_OUT, prepare_cache

    if prepare_cache():
        return Check("compiled functions", True, "warning", "kept for the next process")
    detail = "no writable place to keep them: every process compiles anew, up to a minute"
    return Check("compiled functions", False, "warning", detail, WAY_OUT)


def working_directory_check(folder: Path) -> Check:
    """Check that plans can be written where the user is."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".sftopt-"):
            pass
    except OSError as error:
        return Check("write access", False, "warning", f"{folder}: {error.strerror}",
                     "go to a folder of your own, or give --out a path elsewhere")  # fmt: skip
    return Check("write access", True, "warning", str(folder))


def threads_check() -> Check:
    """Check that numeric libraries leave cores free: else timings side by side mean nothing."""
    settings = {name: os.environ.get(name, "") for name in _THREAD_VARIABLES}
    shown = ", ".join(f"{name}={value}" for name, value in settings.items() if value)
    ok = settings["OMP_NUM_THREADS"] != ""
    fix = "" if ok else "export OMP_NUM_THREADS=1 before timing solvers"
    return Check("threads", ok, "warning", shown or "no limit is set", fix)


def _show(console: Console, checks: list[Check]) -> None:
    from rich.text import Text

    from sftopt.face.tables import table

    made = table("check", "state", "detail", left=["state", "detail"])
    for check in checks:
        made.add_row(check.name, "ok" if check.ok else check.severity, check.detail)
    console.print(made)
    for check in checks:
        if check.fix and not check.ok:
            console.print(Text(f"{check.name}: {check.fix}"))
