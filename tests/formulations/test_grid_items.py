"""The lists of keep fractions: covers cover, chosen items are exact, chords lie below the law."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftopt.core.derived import Derived, derive
from sftopt.core.errors import InfeasibleError
from sftopt.core.point import best_delay
from sftopt.core.spectrum import ConcaveRate
from sftopt.formulations.base import Start
from sftopt.formulations.conic.grid_items import (
    OptionKeeps,
    chosen_items,
    covering_items,
    default_keeps,
    keep_spans,
)
from sftopt.formulations.conic.joint_grid_conic import FORMULATION as GRID
from sftopt.formulations.conic.linear import chord_error, chord_nodes
from sftopt.solvers.heuristics.constructive import first_point
from tests.samples import VARIANTS, sample_instance

MASKED = ("plain", "dense downlink", "flat noise", "cut factor", "omega intervals", "each")


def start_of(derived: Derived) -> Start:
    """The constructed start."""
    point = first_point(derived)
    assert point is not None
    return Start(point.candidate(derived), best_delay(derived, point).round_s)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    variant=st.sampled_from(MASKED),
    cells=st.integers(1, 40),
    place=st.floats(0.0, 1.0),
    decay=st.floats(4.0, 60.0),
    factor=st.floats(0.0, 2.0),
)
def test_mixtures_of_covering_items_lie_below_every_keep_fraction(
    variant: str, cells: int, place: float, decay: float, factor: float
) -> None:
    """At the same keep fraction, the mixture of neighbours costs no more, in all three at once."""
    fields: dict[str, Any] = dict(VARIANTS[variant])
    fields["accuracy"] = {**fields.get("accuracy", {}), "keep_decay": decay, "minimum": 0.5}
    derived = derive(sample_instance(2, 1, **fields))
    items = covering_items(derived, cells)
    loss = items.loss(derived, factor)
    for index, (option, span) in enumerate(zip(derived.options, keep_spans(derived), strict=True)):
        if span is None:
            continue
        keep = min(span[0] + place * (span[1] - span[0]), span[1])
        mine = items.option[0] == index
        order = np.argsort(items.keep[0, mine])

        def mixed(values: Any, mine: Any = mine, order: Any = order, keep: float = keep) -> float:
            own = items.keep[0, mine][order]
            return float(np.interp(keep, own, values[0, mine][order]))

        true_up = float(np.sqrt(derived.beta_up(option, keep)))
        true_down = float(np.sqrt(derived.beta_down(option, keep)))
        assert mixed(items.root_up) <= true_up * (1.0 + 1e-12)
        assert mixed(items.root_down) <= true_down * (1.0 + 1e-12)
        assert mixed(loss) <= float(derived.loss_at(option, keep, factor)) + 1e-12


def test_the_cover_tightens_with_the_square_of_the_cells() -> None:
    derived = derive(sample_instance(2, 1, modes=(4,)))
    span = keep_spans(derived)[0]
    assert span is not None
    keep = np.geomspace(*span, 500)
    short = []
    for cells in (8, 16, 32):
        items = covering_items(derived, cells)
        order = np.argsort(items.keep[0])
        mixed = np.interp(keep, items.keep[0, order], items.root_up[0, order])
        short.append(float((np.sqrt(derived.beta_up(derived.options[0], keep)) - mixed).max()))
    assert short[1] < 0.35 * short[0]
    assert short[2] < 0.35 * short[1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_chosen_items_are_exact_and_hold_the_start(variant: str) -> None:
    derived = derive(sample_instance(3, 2, **VARIANTS[variant]))
    start = start_of(derived)
    items = chosen_items(derived, default_keeps(derived, 6), start.candidate)
    for n in range(items.keep.shape[0]):
        for g in range(items.count):
            option, keep = derived.options[int(items.option[n, g])], float(items.keep[n, g])
            assert items.root_up[n, g] ** 2 == pytest.approx(float(derived.beta_up(option, keep)))
            assert items.root_down[n, g] ** 2 == pytest.approx(
                float(derived.beta_down(option, keep))
            )
            assert items.loss(derived, 1.3)[n, g] == pytest.approx(
                float(derived.loss_at(option, keep, 1.3))
            )
        own = items.option[n] == start.candidate.choices()[n]
        masked = derived.options[int(start.candidate.choices()[n])].has_mask
        wanted = start.candidate.keep[n] if masked else 1.0
        assert np.abs(items.keep[n, own] - wanted).min() <= 1e-12


def test_an_empty_grid_is_refused() -> None:
    derived = derive(sample_instance(2, modes=(2, 4)))
    with pytest.raises(InfeasibleError, match="every list is empty"):
        chosen_items(derived, OptionKeeps(((), ())), None)


@pytest.mark.parametrize("seed", range(2))
def test_chords_lie_below_the_law_by_no_more_than_they_say(seed: int) -> None:
    derived = derive(sample_instance(4, seed, radio={"power": "total"}))
    grid = GRID.build(derived, start_of(derived)).grid
    for link in (grid.frame.uplink, grid.frame.adapter):
        nodes, values = chord_nodes(grid.frame, link, 12)
        error = chord_error(grid.frame, link, 12)
        assert 0.0 < error < 0.05
        worst = 0.0
        for n in range(derived.devices):
            share = np.geomspace(nodes[n, 1], nodes[n, -1], 1000)
            chord = np.interp(share, nodes[n], values[n])
            own = share * link.share_unit[n] / derived.devices  # of the whole band
            terms = np.tile(derived.snr_terms[n], (len(own), 1))
            rate = ConcaveRate(derived.uplink_bandwidth_hz, terms, derived.efficiency_cap).rate(own)
            unit = derived.uplink_bandwidth_hz * derived.efficiency_cap / derived.devices
            ratio = rate / (chord * link.rate_unit[n] * unit)
            assert ratio.min() >= 1.0 - 1e-9
            worst = max(worst, float(ratio.max()) - 1.0)
        assert worst <= error
        assert worst >= 0.2 * error  # what is stated is not far from what is
