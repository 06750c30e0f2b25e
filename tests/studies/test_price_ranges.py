"""The end of a price's range: found to 5 %, outwards, from inside."""

from __future__ import annotations

import math

import pytest

from sftopt.studies.price_ranges import reach


@pytest.mark.parametrize("end", [1e-3, 0.04, 1.0, 2.5])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_end_is_met_from_inside(end: float, power: float) -> None:
    found = reach(lambda step: (step / end) ** power, 0.05)
    assert found is not None
    assert 0.9 * end <= found <= end


def test_no_end_within_sixty_first_steps_is_none() -> None:
    assert reach(lambda step: 0.0, 0.05) is None
    assert reach(lambda step: step / 1e9, 0.05) is None


def test_a_kink_at_the_start_leaves_no_range() -> None:
    assert reach(lambda step: math.inf, 0.05) == pytest.approx(0.0, abs=1e-9)


def test_an_edge_beyond_which_nothing_exists_is_not_passed() -> None:
    found = reach(lambda step: 0.2 if step < 0.3 else math.inf, 0.05)
    assert found is not None
    assert 0.28 <= found < 0.3
