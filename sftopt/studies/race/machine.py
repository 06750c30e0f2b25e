"""What a row says of the machine, and whether it has room for a race now."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import subprocess
from functools import cache
from pathlib import Path

from sftopt.core.errors import InputError
from sftopt.studies.race.row import Machine

BUSY = 0.5
"""Load for each core above which a race does not start unasked."""


def refuse_busy() -> None:
    """Check that this machine is idle enough to be timed. Raises InputError."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > BUSY * cores:
        raise InputError(
            f"this machine is busy: its load of the last minute is {load:.2f} with {cores} cores, "
            f"and times are believed up to {BUSY:g} a core. Wait, or give --allow-busy"
        )


@cache
def machine() -> Machine:
    """Return what stays the same of this machine; its name only as a hash."""
    return Machine(
        host=hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12],
        processor=_processor(),
        cores=os.cpu_count() or 0,
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    )


@cache
def commit() -> str:
    """Return the commit of the checkout that runs, with + where it was changed; else empty."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return head[:12] + ("+" if changed else "")


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


__all__ = ["commit", "machine", "refuse_busy"]
