"""Probes: a two-variable model tells whether an engine really runs, and which library answers."""

from __future__ import annotations

import re
from importlib.metadata import version as distribution_version
from pathlib import Path

from sftopt.solvers.base import Availability

ANSWER_TOLERANCE = 1e-4
"""How far (absolute) a probe's point may lie from the known answer."""


def linked_library(stem: str, version: str = "") -> str:
    """Name the file of the loaded shared library ``stem``; '' if unknown.

    Of several, the one whose name holds ``version``. Known only where /proc is.
    """
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return ""
    names = {line.split()[-1].rpartition("/")[2] for line in maps.read_text().splitlines() if line}
    wanted = re.compile(rf"{re.escape(stem)}[-.].*(so|dylib)")
    found = sorted(name for name in names if wanted.match(name))
    exact = [name for name in found if version and version in name]
    return ", ".join(exact or found)


def probe_verdict(
    point: tuple[float, float], expected: tuple[float, float], distribution: str, **known: str
) -> Availability:
    """Say that the engine is available if its probe came out at ``expected``."""
    if max(abs(a - b) for a, b in zip(point, expected, strict=True)) > ANSWER_TOLERANCE:
        return Availability(False, reason=f"its probe solve gave {point}, not {expected}", **known)
    version = f"{distribution} {distribution_version(distribution)}"
    return Availability(True, version=version, **known)
