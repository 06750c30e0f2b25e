"""Points of whole cuts and options: payload and loss against the judge, plans there and back."""

from __future__ import annotations

import numpy as np
import pytest

from sftopt.core.accuracy import predicted_accuracy
from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import derive
from sftopt.core.entropy import entropy_bits, entropy_slope_nats, entropy_with_slope
from sftopt.core.payload import (
    binary_entropy_bits,
    downlink_bits_per_element,
    uplink_bits_per_element,
)
from sftopt.core.plan import Provenance
from sftopt.core.point import IntegralPoint, best_delay, from_plan, plan_shares, to_plan
from tests.samples import VARIANTS, sample_instance


def test_entropy_is_the_judges_and_its_slope_a_difference() -> None:
    assert entropy_bits(np.array([0.5])).tolist() == [1.0]
    assert entropy_bits(np.array([0.0, 1.0])) == pytest.approx([0.0, 0.0], abs=1e-13)
    shares = np.array([1e-9, 0.01, 0.11, 0.5, 0.9, 1.0 - 1e-9])
    judged = [binary_entropy_bits(float(share)) for share in shares]
    assert entropy_bits(shares) == pytest.approx(judged, rel=1e-13)
    middle = shares[1:-1]
    rise = entropy_bits(middle + 1e-7) - entropy_bits(middle - 1e-7)
    assert entropy_slope_nats(middle) == pytest.approx(rise / 2e-7 * np.log(2.0), abs=1e-7)
    value, slope = entropy_with_slope(shares)
    assert np.array_equal(value, entropy_bits(shares))
    assert np.array_equal(slope, entropy_slope_nats(shares))


@pytest.mark.parametrize("variant", VARIANTS)
def test_payload_and_loss_are_the_judges(variant: str) -> None:
    """Every option at keep fractions across its domain; slopes by differences."""
    instance = sample_instance(3, 1, **VARIANTS[variant])
    derived = derive(instance)
    cuts = np.array([1, 4, 7])
    for index, option in enumerate(derived.options):
        known = Coefficients(derived, cuts, np.full(3, index))
        keep = option.keep_low + np.array([0.1, 0.5, 0.9]) * (option.keep_high - option.keep_low)
        mode = instance.compression.modes[option.mode]
        bits = instance.workload.reference_bits
        up = [uplink_bits_per_element(mode, float(k), bits) for k in keep]
        down = [
            downlink_bits_per_element(mode, float(k), bits, instance.radio.downlink) for k in keep
        ]
        assert known.bits_up(keep) == pytest.approx(derived.elements * up, rel=1e-13)
        assert known.bits_down(keep) == pytest.approx(derived.elements * down, rel=1e-13)
        accuracy = [
            predicted_accuracy(instance.accuracy, mode, float(k), int(c))
            for k, c in zip(keep, cuts, strict=True)
        ]
        lost = instance.accuracy.uncompressed - np.array(accuracy)
        assert known.loss(keep) == pytest.approx(lost, abs=1e-14)
        assert known.mean_loss(keep) == pytest.approx(float(derived.weight @ lost), abs=1e-14)
        if option.has_mask:
            step = 1e-6
            rise = known.bits_up(keep + step) - known.bits_up(keep - step)
            assert known.bits_up_slope(keep) == pytest.approx(rise / (2 * step), rel=1e-6)
            fall = known.loss(keep + step) - known.loss(keep - step)
            assert known.loss_slope(keep) == pytest.approx(fall / (2 * step), rel=1e-6)
            assert np.all(known.bits_up_bend(keep) <= 0.0)
            assert np.all(known.loss_bend(keep) >= 0.0)


def test_a_plan_holds_the_points_decisions_and_shares() -> None:
    instance = sample_instance(3, 2, **VARIANTS["omega intervals"])
    derived = derive(instance)
    intervals = [index for index, option in enumerate(derived.options) if option.bits == 4]
    assert len(intervals) == 2  # one mode, two intervals of the keep fraction
    point = IntegralPoint(np.array([1, 2, 3]), np.array([*intervals, 2]), np.array([0.1, 0.3, 0.4]))
    plan = to_plan(derived, point, Provenance(), instance.name)
    again = from_plan(derived, plan)
    assert np.array_equal(again.cuts, point.cuts)
    assert np.array_equal(again.choice, point.choice)
    assert np.array_equal(again.keep, point.keep)
    shares, best = plan_shares(derived, plan), best_delay(derived, point).shares
    for name in ("uplink", "downlink", "adapter"):
        assert np.array_equal(getattr(shares, name), getattr(best, name))
        assert getattr(shares, name).sum() == pytest.approx(1.0, rel=1e-12)


def test_a_foreign_plan_is_no_point_here() -> None:
    derived = derive(sample_instance(2, 2))
    larger = derive(sample_instance(3, 2))
    point = IntegralPoint(np.array([1, 2]), np.array([0, 0]), np.array([0.1, 0.3]))
    plan = to_plan(derived, point, Provenance(), "")
    with pytest.raises(KeyError, match="dev2"):
        from_plan(larger, plan)
    with pytest.raises(KeyError, match="dev2"):
        plan_shares(larger, plan)
