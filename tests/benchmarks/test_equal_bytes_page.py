"""The page of codecs at equal bytes is of the committed rows, and what is said of them holds."""

from __future__ import annotations

import math

import pytest

from benchmarks.studies.equal_bytes_arms import CHAIN, NO_PADDING, Arm
from benchmarks.studies.equal_bytes_page import RESULTS, committed_rows, losses_of, page

ROWS = committed_rows()
BEST = Arm(NO_PADDING, 1.0).label
HALF = Arm(NO_PADDING, 0.5).label


def test_the_page_is_of_the_committed_rows() -> None:
    assert (RESULTS / "equal_bytes.md").read_text(encoding="utf-8") == page(ROWS)


def test_budgets_are_kept_where_they_are_said_to_bound_the_payload() -> None:
    losses = losses_of(ROWS, "wordnet-senses", 200)
    for rate in (0.25, 0.5, 1.0, 2.0):
        found = losses[Arm(NO_PADDING, rate).label]
        assert 0.97 * rate < found.up_bits <= rate
        assert 0.97 * rate < found.down_bits <= rate


def test_one_bit_without_padding_is_within_a_point_and_the_chain_is_not() -> None:
    losses = losses_of(ROWS, "wordnet-senses", 500)
    best, chain = losses[BEST], losses[CHAIN]
    assert best.uplink_cut > 0.968
    assert best.low > -0.01
    assert chain.uplink_cut > 0.936
    assert chain.low < -0.01  # the published claim is missed: the page says by how much
    assert min(best.seeds, chain.seeds) >= 9


def test_the_readme_says_what_the_rows_say() -> None:
    readme = " ".join((RESULTS.parents[1] / "README.md").read_text(encoding="utf-8").split())
    losses = losses_of(ROWS, "wordnet-senses", 500)
    for label in (CHAIN, BEST, HALF):
        one = losses[label]
        assert f"sends {100.0 * one.uplink_cut:.1f} % less" in readme
        said = f"loses {-100.0 * one.mean:.2f} ± {100.0 * one.half_width:.2f}"
        assert said in readme
        assert f"over {one.seeds}" in readme


def test_pairs_are_of_one_seed_and_as_many_visits() -> None:
    row = {"task": "t", "steps": 1, "name": "x", "label": "x", "rate": 1.0, "epochs": 2,
           "uplink_bytes": 100, "downlink_bytes": 50, "side_bytes": 10,
           "memory_bytes": 7}  # fmt: skip
    plain = {**row, "name": "uncompressed", "label": "u", "uplink_bytes": 3200, "memory_bytes": 0}
    rows = [
        {**row, "seed": seed, "metric": 0.5 + 0.1 * seed, "metric_without_codec": 0.7}
        for seed in (0, 1)
    ]
    rows += [
        {**plain, "seed": seed, "metric": 0.6 + 0.1 * seed, "metric_without_codec": 0.6}
        for seed in (0, 1)
    ]
    rows.append({**rows[0], "epochs": 4, "label": "alone"})  # no partner of 4 visits
    losses = losses_of(rows, "t", 1)
    assert set(losses) == {"x", "u"}
    assert losses["x"].mean == pytest.approx(-0.1)
    assert losses["x"].half_width == pytest.approx(0.0, abs=1e-12)
    assert losses["x"].mean_without_codec == pytest.approx(0.1)
    assert losses["x"].up_bits == pytest.approx(1.0)
    assert losses["x"].uplink_cut == pytest.approx(1.0 - 220 / 6420)
    assert not math.isnan(losses["u"].half_width)
