"""What the committed rows and pages must not hold."""

from __future__ import annotations

import re
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
KINDS = {".csv", ".json", ".jsonl", ".md", ".txt"}
OF_A_MACHINE = re.compile(r"(?<![\w.])/(tmp|home|root|work|Users|var)/\w")
"""A path that only the machine has where the rows were made."""


def test_no_row_names_a_path_of_the_machine_it_was_made_on() -> None:
    files = [path for path in RESULTS.rglob("*") if path.suffix in KINDS]
    assert len(files) > 40
    found = {
        f"{path.relative_to(RESULTS)}: {hit.group()}"
        for path in files
        for hit in [OF_A_MACHINE.search(path.read_text(encoding="utf-8"))]
        if hit
    }
    assert found == set()
