"""The curve of delay against energy: speeds, bounds, what is dominated, CARD beside it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import sftopt
from sftopt.core.errors import InputError
from sftopt.core.families import generate
from sftopt.studies.pareto import Curve
from sftopt.studies.pareto.curve import server_speeds

KAPPA = "server.energy_coefficient_j_s2_per_flop3"


def cell() -> sftopt.Instance:
    return generate("jetson-vit-b", 2, 1)


@pytest.fixture(scope="module")
def curve() -> Curve:
    return sftopt.pareto(cell(), points=4)


def test_speeds_reach_from_slowest_to_fastest_in_equal_ratios() -> None:
    plain = cell().replace(
        **{"server.compute_min_flops_per_s": None, "server.compute_max_flops_per_s": None}
    )
    own = plain.server.compute_flops_per_s
    found = server_speeds(plain, 3)
    assert found == [own / 4, pytest.approx(own / 2), own]
    given = plain.replace(
        **{"server.compute_min_flops_per_s": own, "server.compute_max_flops_per_s": own}
    )
    assert server_speeds(given, 5) == [own]


def test_every_point_is_the_plan_of_its_own_cell(curve: Curve) -> None:
    assert len(curve.points) == 4
    for point in curve.points:
        own = cell().replace(**{"server.compute_flops_per_s": point.server_flops_per_s})
        assert point.plan is not None
        found = sftopt.verify_plan(own, point.plan)
        assert found.feasible
        assert found.breakdown is not None
        assert found.objective_s == point.round_s
        assert found.breakdown.energy_server_j == point.server_j
        assert point.bound_s is not None
        assert point.round_s is not None
        assert point.bound_s <= point.round_s <= point.bound_s * (1.0 + 2e-4)
        # kappa f^2 times the FLOP that this plan leaves to the server
        steps, work = own.training.local_steps, own.workload
        per_block = work.block_forward_flops + work.block_backward_flops
        flops = sum(
            steps * d.batch * ((work.blocks - p.blocks) * per_block + work.head_flops)
            for d, p in zip(own.devices, point.plan.devices, strict=True)
        )
        kappa = own.server.energy_coefficient_j_s2_per_flop3
        assert kappa is not None
        assert point.server_j == pytest.approx(kappa * point.server_flops_per_s**2 * flops)


def test_a_faster_server_is_never_slower_and_slower_ones_are_not_dominated(curve: Curve) -> None:
    delays = [point.round_s or 0.0 for point in curve.points]
    assert all(b <= a * (1.0 + 2e-4) for a, b in itertools.pairwise(delays))
    least = min(curve.points, key=lambda point: point.server_j or 0.0)
    assert not least.dominated
    assert not curve.points[-1].dominated or delays[-1] > min(delays)


def test_card_is_one_of_its_extremes_at_either_end(curve: Curve) -> None:
    first, last = curve.card[0], curve.card[-1]
    assert (first.w, last.w) == (0.0, 1.0)
    assert first.server_j is not None
    assert last.server_j is not None
    assert first.server_j <= last.server_j
    assert (first.round_s or 0.0) >= (last.round_s or 0.0)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=KAPPA):
        sftopt.pareto(cell().replace(**{KAPPA: None}))
    with pytest.raises(InputError, match="points is 1; 2 to 1,000"):
        sftopt.pareto(cell(), points=1)


def test_the_curve_is_drawn_and_tabled(curve: Curve, tmp_path: Path) -> None:
    curve.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    figure = curve.plot(tmp_path / "curve.pdf", width="column")
    assert figure.get_size_inches()[0] == 3.5
    assert figure.axes[0].get_title(loc="left") == ""
    assert b"/Type3" not in (tmp_path / "curve.pdf").read_bytes()
    assert list(curve.to_dataframe().index) == [p.server_flops_per_s for p in curve.points]
    assert repr(curve) == f"Curve({curve.instance}: 4 server speeds, 4 with a plan)"
