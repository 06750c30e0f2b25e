"""What a little more of each resource is worth at the cuts and modes of a plan.

At fixed cuts and options problem (13) is: over keep fractions and shares, minimise T of equation
(9) within the accuracy limit (12). Let T(p) be its optimum, as
:func:`sftopt.solvers.heuristics.polish.polish` finds it, at a parameter p of the instance. The
price of p is the derivative of T, by the envelope theorem: keep fractions that the accuracy limit
leaves free stay where they are, and shares follow from the share equation (14), SUM_n x_n(tau, p) =
1, by the implicit function rule:

    d tau / d p = -SUM dx_n/dp / SUM dx_n/dtau,   dx_n/dB = -(dR_n/dB) / (dR_n/dx) at fixed rate.

- *Bandwidth.* Transmit power is fixed, so the signal to noise ratio a_nk falls as 1/B. ``psd``:
  R = x B mean_k C(a_nk) and d(B C)/dB = mean_k [C - (a/(1 + a))/ln 2], or the cap where it holds.
  ``total``: R depends on x B alone, so dx/dB = -x/B. The adapter exchange (8) counts.
- *Server.* The time of equation (7) is proportional to 1/f_s, in turn and parallel.
- *Accuracy.* Scope ``mean``: the multiplier alpha of the mean loss, from the stationarity of the
  devices inside their range, c_n + alpha w_n loss'_n = 0 with c_n = dT/d rho_n. Devices at the
  least keep fraction of their own limit (scopes ``each`` and ``common``; under ``mean`` where
  ``minimum_each`` follows ``minimum``) move with it: d rho/d a_min = -1/loss'(rho).
- *Device memory* has no derivative: at fixed cuts nothing changes until one more block fits. Its
  price is that of the step: the seconds gained by one more block on that device, with keep
  fractions and shares chosen anew, over the bytes missing for it.

All prices are derivatives in closed form, no differences; ranges come from evaluating T itself.
``polish`` is exact where (16) holds and local elsewhere, and so are T and its derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sftopt.core.asked import asked_plainly
from sftopt.core.channel import fading_gains
from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived, derive
from sftopt.core.errors import InputError, VerificationError
from sftopt.core.fields import Frozen
from sftopt.core.instance import AccuracyScope, AdapterDownlink, Instance, ServerOrder
from sftopt.core.memory import device_memory_bytes
from sftopt.core.plan import Plan
from sftopt.core.point import IntegralPoint, best_delay, from_plan
from sftopt.core.round import server_s
from sftopt.core.tolerance import Tolerance
from sftopt.core.verify import tolerance_of, verify_plan
from sftopt.solvers.heuristics.polish import keep_range, polish
from sftopt.solvers.spectrum.slopes import Band, link_slopes
from sftopt.studies.price_ranges import reach

Array = NDArray[np.float64]

RANGE_TOLERANCE = 0.05
"""How far T may stray from its linear prediction within a price's range, relative to the change
that is predicted."""

GIB = float(2**30)
"""Bytes in a GiB."""
MEMORY_STEPS = 8
"""Devices whose next block is tried out: the most promising by first-order estimate."""

_FIRST_STEP = 0.05
"""Where the search for the ends of a range begins, relative."""
_SAME_REL = 1e-10
"""Differences of T below this, relative, are the rounding of its evaluation."""
_SLACK = 1e-6
"""A mean loss this near to its budget, relative, meets it."""
_EDGE = 1e-7
"""A keep fraction nearer than this to an end of its range, relative to the range, is at it."""


class Price(Frozen):
    """Seconds of round delay gained per ``unit`` of a parameter, cuts and modes fixed.

    ``value`` >= 0 counts a gain: by raising a bandwidth or the server's speed, by lowering the
    accuracy limit. Within [``low``, ``high``] (same unit as ``at``) the delay of the fixed-cut
    problem strays from the linear prediction by at most ``RANGE_TOLERANCE`` times the predicted
    change (at price 0: it does not change). The ends are found by evaluating that problem, going
    outwards from ``at``, and lie inside the true range by about 5 % of its half; None
    where the search met no end. ``low`` or ``high`` equal to ``at``: a kink, the price does not
    hold on that side, or no point exists there.
    """

    name: str
    unit: str
    value: float
    parameter: str
    at: float
    low: float | None
    high: float | None


class MemoryPrice(Frozen):
    """The next block of a device whose memory is in the way of it: a step, not a slope.

    ``gain_s`` comes whole once the memory reaches ``high_bytes`` = ``at_bytes`` +
    ``missing_bytes``; anywhere in [``low_bytes``, ``high_bytes``), from what the plan uses, memory
    changes nothing. ``value`` is gain_s per missing GiB; both are 0 where one more block does not
    help or the accuracy limit forbids it.
    """

    device: str
    unit: str = "s per GiB"
    value: float
    gain_s: float
    missing_bytes: float
    at_bytes: float
    low_bytes: float
    high_bytes: float


class Prices(Frozen):
    """All prices of a plan, best memory step first.

    ``round_s`` is T, the delay at the plan's cuts and modes with keep fractions and shares at
    their best, to which the prices belong; ``plan_round_s`` is that of the plan as it is.
    ``binding_devices`` counts those that lack memory for one more block; ``memory`` holds the
    ``MEMORY_STEPS`` most promising of them.
    """

    instance_hash: str
    round_s: float
    plan_round_s: float
    range_tolerance: float = RANGE_TOLERANCE
    prices: tuple[Price, ...]
    binding_devices: int
    memory: tuple[MemoryPrice, ...]

    def named(self, name: str) -> Price:
        """Return the price called ``name``. Raises KeyError."""
        for price in self.prices:
            if price.name == name:
                return price
        raise KeyError(name)


@asked_plainly
def prices(instance: Instance, plan: Plan) -> Prices:
    """Price every resource at the cuts and modes of ``plan``.

    Raises InputError where the plan is for another instance, VerificationError where the judge
    refutes it.
    """
    verdict = verify_plan(instance, plan)
    if not verdict.hash_matches:
        raise InputError(
            f"the plan was made for another instance (hash {plan.instance_hash[:12]}..., "
            f"'{instance.name}' has {instance.hash[:12]}...); give a plan of this instance"
        )
    if not verdict.feasible or verdict.objective_s is None:
        raise VerificationError(
            "the plan is not feasible, so it has no prices; 'sftopt verify' lists what is violated"
        )
    derived = derive(instance, feas_tol=tolerance_of(plan))
    point = polish(derived, from_plan(derived, plan))
    if point is None:  # feasible by the rounding of one sum
        raise VerificationError(
            "the plan's cuts and modes meet the accuracy limit only up to rounding; plan again"
        )
    case = _Case(instance, derived, point)
    binding, steps = case.memory()
    return Prices(
        instance_hash=instance.hash,
        round_s=case.round_s,
        plan_round_s=verdict.objective_s,
        prices=(case.uplink(), case.downlink(), case.server(), case.accuracy()),
        binding_devices=binding,
        memory=steps,
    )


class _Case:
    """One instance at one polished point: its prices, and T at other parameters."""

    def __init__(self, instance: Instance, derived: Derived, point: IntegralPoint) -> None:
        self.instance, self.derived, self.point = instance, derived, point
        self.known = Coefficients(derived, point.cuts, point.choice)
        self.round_s = best_delay(derived, point, self.known).round_s
        radio, cap = instance.radio, derived.efficiency_cap
        self.up_band = Band(radio.uplink_bandwidth_hz, derived.snr_terms, cap)
        gain = np.array([device.gain_down for device in instance.devices])
        noise = radio.noise_w_per_hz * radio.downlink_noise_figure * radio.downlink_bandwidth_hz
        snr = instance.server.transmit_power_w * gain / noise
        terms = snr[:, None] * fading_gains(radio) / radio.snr_gap
        self.down_band = Band(radio.downlink_bandwidth_hz, terms, cap)
        up_slope = self.up_band.full_slope()
        self.up = link_slopes(
            derived.s1_s(point.cuts, point.choice), self.known.bits_up(point.keep),
            derived.uplink_law, radio.uplink_bandwidth_hz, up_slope,
        )  # fmt: skip
        self.down = link_slopes(
            derived.s5_s(point.cuts, point.choice), self.known.bits_down(point.keep),
            derived.downlink_law, radio.downlink_bandwidth_hz, self.down_band.full_slope(),
        )  # fmt: skip
        self.adapter = link_slopes(
            np.zeros(derived.devices), derived.adapter_bits(point.cuts), derived.uplink_law,
            radio.uplink_bandwidth_hz, up_slope,
        )  # fmt: skip

    def delay(self, derived: Derived, cuts: NDArray[np.int64] | None = None) -> float | None:
        """T of the fixed-cut problem; None where it has no point."""
        if np.any(derived.outage):
            return None
        start = self.point if cuts is None else replace(self.point, cuts=cuts)
        point = polish(derived, start)
        return None if point is None else best_delay(derived, point).round_s

    def with_bands(self, uplink_hz: float, downlink_hz: float) -> Derived:
        """The arrays at other bandwidths."""
        up, down = self.up_band.full(uplink_hz), self.down_band.full(downlink_hz)
        limit = self.instance.radio.outage_rate_bits_per_s
        least = Tolerance(self.derived.feas_tol).least_rate(limit)
        return replace(
            self.derived,
            uplink_full_bits_per_s=up,
            downlink_full_bits_per_s=down,
            snr_terms=self.up_band.terms(uplink_hz),
            uplink_bandwidth_hz=uplink_hz,
            outage=(up < least) | (down < least),
        )

    def with_limit(self, minimum: float) -> Derived:
        """The arrays at another accuracy limit; ``minimum_each`` follows unless it is given."""
        limits = self.instance.accuracy.model_copy(update={"minimum": minimum})
        most = Tolerance(self.derived.feas_tol).most_loss
        loss, rounding = most(limits.uncompressed, minimum)
        each, rounding_each = most(limits.uncompressed, limits.floor_each)
        return replace(
            self.derived, loss_budget=loss, loss_budget_each=each, loss_rounding=rounding,
            loss_rounding_each=rounding_each,
        )  # fmt: skip

    def uplink(self) -> Price:
        """Seconds per MHz of B_u."""
        at, other = self.up_band.bandwidth_hz, self.down_band.bandwidth_hz
        slope = self.derived.steps * self.up.per_hz + self.adapter.per_hz
        low, high = self._range(
            at, slope, _FIRST_STEP * at, (0.0, np.inf),
            lambda hz: self.delay(self.with_bands(hz, other)),
        )  # fmt: skip
        return _price("uplink_bandwidth", "s per MHz", -1e6 * slope, "Hz", at, low, high)

    def downlink(self) -> Price:
        """Seconds per MHz of B_d."""
        at, other = self.down_band.bandwidth_hz, self.up_band.bandwidth_hz
        slope = self.derived.steps * self.down.per_hz + self._adapter_down_slope()
        low, high = self._range(
            at, slope, _FIRST_STEP * at, (0.0, np.inf),
            lambda hz: self.delay(self.with_bands(other, hz)),
        )  # fmt: skip
        return _price("downlink_bandwidth", "s per MHz", -1e6 * slope, "Hz", at, low, high)

    def _adapter_down_slope(self) -> float:
        """d/dB_d of the downlink part of equation (8); to the right where holders tie."""
        derived, cuts = self.derived, self.point.cuts
        rate = derived.downlink_full_bits_per_s
        each = derived.adapter_bits_per_block / rate
        slope = -each * self.down_band.full_slope() / rate
        if derived.adapter_downlink is AdapterDownlink.UNICAST:
            return float((cuts * slope).sum())
        total = 0.0
        for block in range(1, int(cuts.max(initial=0)) + 1):
            holds = cuts >= block
            weakest = holds & (each >= each[holds].max() * (1.0 - 1e-12))
            total += float(slope[weakest].max())
        return total

    def server(self) -> Price:
        """Seconds per GFLOP/s of f_s. T - T_0 is S (f_0/f - 1), so the range has a closed form:
        with f = f_0 (1 + d) the linear prediction is off by |d/(1 + d)|."""
        at = self.instance.server.compute_flops_per_s
        slope = (
            -self.derived.steps * server_s(self.derived, self.point.cuts, self.point.choice) / at
        )
        low = at * (1.0 - RANGE_TOLERANCE / (1.0 + RANGE_TOLERANCE))
        high = at * (1.0 + RANGE_TOLERANCE / (1.0 - RANGE_TOLERANCE))
        return _price("server_speed", "s per GFLOP/s", -1e9 * slope, "FLOP/s", at, low, high)

    def accuracy(self) -> Price:
        """Seconds per 0.01 of a_min, gained by asking for less."""
        limits = self.instance.accuracy
        at, budget = limits.minimum, self.derived.loss_budget
        slope = self._accuracy_slope()
        first = max(_FIRST_STEP * abs(budget), 1e-9)
        low, high = self._range(
            at, slope, first, (-np.inf, np.inf), lambda value: self.delay(self.with_limit(value))
        )
        unit = f"s per 0.01 {limits.metric}"
        return _price("accuracy_limit", unit, 0.01 * slope, limits.metric, at, low, high)

    def _accuracy_slope(self) -> float:
        """dT/d a_min."""
        derived, known, keep = self.derived, self.known, self.point.keep
        bounds = keep_range(derived, self.point)
        assert bounds is not None  # the point is polished
        low, high = bounds
        cost = derived.steps * (
            self.up.per_bit * known.bits_up_slope(keep)
            + self.down.per_bit * known.elements * known.eta_down
        )
        # where the device's own limit, not the option's domain, sets the least keep fraction
        own = low > known.low
        if derived.scope is AccuracyScope.COMMON:
            top = int(np.argmax(low))
            return float(cost.sum() / -known.loss_slope(keep)[top]) if own[top] else 0.0
        if derived.scope is AccuracyScope.EACH:
            return float((cost[own] / -known.loss_slope(keep)[own]).sum())
        gradient = known.weight * known.loss_slope(keep)
        margin = _EDGE * (high - low)
        inside = (keep > low + margin) & (keep < high - margin)
        alpha = 0.0
        slack = derived.loss_budget - known.mean_loss(keep)
        # where a device keeps more than its least, the mean limit binds; polish may end with a
        # little slack, as it halves between points that meet the limit
        if slack <= _SLACK * abs(derived.loss_budget) and inside.any():
            # one multiplier for all: least squares over the stationarity conditions
            alpha = -float(cost[inside] @ gradient[inside] / (gradient[inside] ** 2).sum())
        if self.instance.accuracy.minimum_each is not None:
            return alpha
        held = own & (keep <= low + margin)
        moved = -1.0 / known.loss_slope(keep)[held]
        return alpha + float(((cost + alpha * gradient)[held] * moved).sum())

    def _range(
        self,
        at: float,
        slope: float,
        first: float,
        limits: tuple[float, float],
        delay_at: Callable[[float], float | None],
    ) -> tuple[float | None, float | None]:
        """The ends of :class:`Price`'s range below and above ``at``."""

        def strain(value: float) -> float:
            if not limits[0] < value < limits[1]:
                return np.inf
            found = delay_at(value)
            if found is None:
                return np.inf
            predicted = slope * (value - at)
            allowed = RANGE_TOLERANCE * abs(predicted) + _SAME_REL * self.round_s
            return abs(found - self.round_s - predicted) / allowed

        below = reach(lambda step: strain(at - step), first)
        above = reach(lambda step: strain(at + step), first)
        return None if below is None else at - below, None if above is None else at + above

    def memory(self) -> tuple[int, tuple[MemoryPrice, ...]]:
        """(devices short of memory for one more block, steps of the most promising of them)."""
        work, cuts = self.instance.workload, self.point.cuts
        devices = self.instance.devices
        held = [device_memory_bytes(work, d, int(c)) for d, c in zip(devices, cuts, strict=True)]
        more = [
            device_memory_bytes(work, d, int(c) + 1) for d, c in zip(devices, cuts, strict=True)
        ]
        missing = np.array(more) - np.array([d.memory_bytes for d in devices])
        binding = np.flatnonzero((missing > 0.0) & (cuts + 1 < work.blocks))
        order = binding[np.argsort(-self._gain_estimates()[binding], kind="stable")]
        found = []
        for n in order[:MEMORY_STEPS]:
            raised = cuts.copy()
            raised[n] += 1
            after = self.delay(self.derived, raised)
            gain = 0.0 if after is None else max(self.round_s - after, 0.0)
            found.append(
                MemoryPrice(
                    device=devices[n].id,
                    value=gain / (float(missing[n]) / GIB),
                    gain_s=gain,
                    missing_bytes=float(missing[n]),
                    at_bytes=devices[n].memory_bytes,
                    low_bytes=held[n],
                    high_bytes=more[n],
                )
            )
        return len(binding), tuple(sorted(found, key=lambda step: -step.gain_s))

    def _gain_estimates(self) -> Array:
        """First-order seconds gained by one more block, shape (N,): decides only who is tried."""
        derived = self.derived
        server = derived.s3_s(self.point.cuts, self.point.choice)
        spared = derived.s3_blocks_s(self.point.choice)
        if derived.server_order is ServerOrder.PARALLEL and derived.devices > 1:
            second, first = np.partition(server, -2)[-2:]
            spared = np.where(server < first, 0.0, np.minimum(spared, first - second))
        step = (
            spared
            - self.up.per_fixed_s * derived.s1_block_s
            - self.down.per_fixed_s * derived.s5_block_s
        )
        bits = derived.adapter_bits_per_block
        sent = self.adapter.per_bit * bits
        if derived.adapter_downlink is AdapterDownlink.UNICAST:
            sent = sent + bits / derived.downlink_full_bits_per_s
        return np.asarray(derived.steps * step - sent)


def _price(
    name: str, unit: str, value: float, parameter: str, at: float,
    low: float | None, high: float | None,
) -> Price:  # fmt: skip
    # -0.0 would be a strange price
    return Price(name=name, unit=unit, value=value + 0.0, parameter=parameter, at=at, low=low,
                 high=high)  # fmt: skip


__all__ = ["RANGE_TOLERANCE", "MemoryPrice", "Price", "Prices", "prices"]
