"""The reference kernel: a fixed computation that no change of sftopt makes faster or slower.

Times of a run are divided by it, so that runs of different days compare (``against_last``).
"""

from __future__ import annotations

from typing import Any

from sftopt.studies.race.agent import reference_s


def test_reference(benchmark: Any) -> None:
    assert benchmark.pedantic(reference_s, rounds=40, warmup_rounds=2) > 0.0
