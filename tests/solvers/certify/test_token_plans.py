"""Plans where operating points leave few keep fractions to meet the mean loss by."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sftopt.core.derived import Derived, derive
from sftopt.core.families import generate
from sftopt.core.status import Termination
from sftopt.solvers.certify.guidance import Multipliers
from sftopt.solvers.certify.plan.decode import PlanItems
from sftopt.solvers.certify.plan.keep_fractions import mean_loss
from sftopt.solvers.certify.plan.links import linear_rates, more_rates, rate_at
from sftopt.solvers.certify.plan.moves import Primal
from sftopt.solvers.certify.plan.within_loss import choose_within_loss
from tests.samples import sample_instance
from tests.solvers.certify.test_certify_bound import outcome_of
from tests.solvers.certify.test_certify_points import with_modes
from tests.token_cells import with_token_modes

FINE = {"kind": "dense", "bits": 8, "loss": 0.001, "name": "fine"}
TOKENS = {"kind": "tokens", "tokens": 51, "bits": 8, "loss": [0.0, 0.02, 0.01, 0.03]}
DENSE = {"kind": "dense", "bits": 3, "loss": 0.01, "gradient_bits": 2.0}
ROUGH = {"kind": "dense", "bits": 1, "loss": 0.04, "gradient_bits": 1.0}


def never() -> bool:
    return False


def improved(derived: Derived) -> Primal:
    """A plan after the first rounds of improving."""
    primal = Primal(derived)
    primal.start()
    primal.improve(never, rounds=12)
    return primal


def seconds_of(primal: Primal, n: int, cut: int, option: int, up: float, down: float) -> float:
    """What an item of device ``n`` costs at two seconds for both barriers, without its loss."""
    data, g = primal.data, primal.data.group[option]
    room_up = 2.0 - data.s1_base[n, g] - cut * data.s1_block[n]
    room_down = 2.0 - data.s5_base[n, g] - cut * data.s5_block[n]
    if room_up <= 0.0 or room_down <= 0.0:
        return np.inf
    cost = cut * primal.per_block.adapters[n]
    cost += data.steps * (data.s3_base[n, g] - cut * data.s3_block[n, g])
    cost += up * data.elements[n] * data.up[option, 2] / (data.rate_up[n] * room_up)
    return float(
        cost + down * data.elements[n] * data.down[option, 1] / (data.rate_down[n] * room_down)
    )


def test_items_meet_the_mean_loss_nearly_as_cheaply_as_any() -> None:
    """Against all choices of points: within it, and at most one device's step above the least."""
    met = 0
    for seed in range(12):
        draw = np.random.default_rng(seed)
        instance = sample_instance(4, seed, blocks=4, modes=(FINE,), accuracy={"minimum": 0.905})
        derived = derive(with_modes(instance, TOKENS, DENSE, ROUGH))
        primal = Primal(derived)
        data, n = primal.data, derived.devices
        up, down = (10 ** draw.uniform(-1.0, 1.5, 2)).tolist()
        items = PlanItems(np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n))
        every = np.full(n, (1 << len(derived.options)) - 1, dtype=np.int64)
        allowed = primal.allowed(derived.option_cut_low, derived.cut_high, every)
        rates, more = primal.rates_now()
        price = choose_within_loss(
            data, allowed, 2.0, 2.0, Multipliers(up, down, 10 ** draw.uniform(-1.0, 3.0), 0.0),
            rates, more, primal.per_block, items,
        )  # fmt: skip
        own = [
            [
                (seconds_of(primal, k, cut, o, up, down), data.weight[k] * data.still[o, cut])
                for o in range(len(derived.options))
                for cut in range(derived.option_cut_low[k, o], derived.cut_high[k] + 1)
                if data.low[o, cut] <= data.high[o, cut]
            ]
            for k in range(n)
        ]
        within = [
            sum(cost for cost, _ in choice)
            for choice in itertools.product(*own)
            if sum(loss for _, loss in choice) <= data.budget
        ]
        least = min(within, default=np.inf)
        if not np.isfinite(least):
            continue
        met += 1
        assert price >= 0.0
        assert mean_loss(data, items.cuts, items.choice, items.keep) <= data.budget
        found = [
            seconds_of(primal, k, int(items.cuts[k]), int(items.choice[k]), up, down)
            for k in range(n)
        ]
        step = max(price * max(loss for _, loss in each) for each in own)
        assert least * (1.0 - 1e-12) <= sum(found) <= least + step
    assert met > 5


def test_other_estimates_of_shares_are_below_them_and_touch_there() -> None:
    """Shares grow faster than rates: what sends more bits needs more than the first estimate."""
    derived = derive(generate("weichen", 6, 1))
    data, factors = Primal(derived).data, np.array([0.25, 2.0, 4.0])
    shares = np.full(6, 1.0 / 6.0)
    per_bit, constant = linear_rates(data, shares)
    more = more_rates(data, shares, factors)
    for n, factor in itertools.product(range(6), np.geomspace(0.1, 5.0, 30)):
        rate, _ = rate_at(data, n, shares[n] * factor)
        estimates = constant[n] + more[n, :, 1] + per_bit[n] * more[n, :, 0] * rate
        assert np.all(estimates <= shares[n] * factor * (1.0 + 1e-9))
    for f, factor in enumerate(factors):
        rate, _ = rate_at(data, 0, shares[0] * factor)
        touching = constant[0] + more[0, f, 1] + per_bit[0] * more[0, f, 0] * rate
        assert touching == pytest.approx(shares[0] * factor)


@pytest.mark.parametrize("family", ["weichen", "weak-server"])
def test_longer_times_lead_to_plans_that_moves_at_the_same_times_do_not(family: str) -> None:
    """Devices that do few blocks fit short times, and short times leave them no more blocks."""
    derived = derive(with_token_modes(generate(family, 30, 1)))
    primal = improved(derived)
    before = primal.value_s
    primal.stretch(never, least=1.03)
    assert primal.value_s <= before
    found = outcome_of(derived, limit_s=60.0)
    assert found.termination is Termination.GAP_LIMIT
    assert found.claimed_s is not None
    assert primal.value_s <= found.claimed_s * 1.01
    assert family != "weichen" or before > found.claimed_s * 1.02


def test_a_cell_without_points_is_not_stretched() -> None:
    primal = improved(derive(generate("weichen", 8, 1)))
    before = primal.value_s
    primal.stretch(never, least=1.03)
    assert primal.value_s == before


def test_choices_that_exceed_the_loss_are_told_from_those_that_do_not() -> None:
    """A keep has one loss: its noise at the least keep and its curve at the largest are not had
    together. This cell stayed open while they were."""
    derived = derive(with_token_modes(generate("weak-server", 30, 2)))
    found = outcome_of(derived, limit_s=60.0)
    assert found.termination is Termination.GAP_LIMIT
