"""Who writes the round's times and the entropy: one home on the solvers' side, and second roads.

A second road proves the first: the judge, Pyomo's expressions, certify's bound and plans and the
exhaustive search write their own algebra on purpose. Nobody else does.
"""

from __future__ import annotations

import re
from pathlib import Path

import sftopt

ROOT = Path(sftopt.__file__).parent

TIMES = {
    "core/derived": "their home: s1_s, s3_s, s5_s",
    "core/round.py": "payload_rooms_s, in the order of subtraction that keeps its digits",
    "formulations/scaling.py": "divides them by model units",
    "solvers/heuristics/alternating.py": "inverts s3 for a block that may take no time",
    "solvers/certify": "a road of its own",
}
"""Files that may name a base time of equations (4) to (6), and why."""

ENTROPY = {
    "core/entropy.py": "its home in NumPy code",
    "core/payload.py": "the judge",
    "formulations/algebraic/compression.py": "Pyomo expressions, and numbers for their constants",
    "solvers/certify": "a road of its own",
    "solvers/exhaustive": "a road of its own",
    "solvers/heuristics/separate.py": "compiled code: its slope, device by device",
}
"""Files that may write H2 or its slope, and why."""


def writers(pattern: str) -> set[str]:
    """Return the files below the package whose source matches, with ``/`` between parts."""
    found = re.compile(pattern)
    files = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*.py")}
    return {name for name, path in files.items() if found.search(path.read_text(encoding="utf-8"))}


def test_only_these_files_write_the_rounds_times() -> None:
    unknown = {name for name in writers(r"s[135]_base_s") if not name.startswith(tuple(TIMES))}
    assert unknown == set(), "use Derived.s1_s, s3_s, s5_s or core.round"


def test_only_these_files_write_the_entropy() -> None:
    written = writers(r"log(1p)?\((1\.0 )?- ?\w+\)")
    assert {"core/entropy.py", "core/payload.py"} <= written
    unknown = {name for name in written if not name.startswith(tuple(ENTROPY))}
    assert unknown == set(), "use core.entropy"


def test_every_exception_is_still_needed() -> None:
    times, entropy = writers(r"s[135]_base_s"), writers(r"log(1p)?\((1\.0 )?- ?\w+\)")
    for known, allowed in ((times, TIMES), (entropy, ENTROPY)):
        for name in allowed:
            assert any(file.startswith(name) for file in known), name
