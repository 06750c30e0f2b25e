"""One round at fixed cuts and payloads: its links, its least delay, and problem (14) as arrays.

The one home of equations (4)-(9) outside the judge: up to three links that share nothing, so that
the round is least where each link's barrier is, and a constant. The judge has its own road to the
same numbers and imports nothing from here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.coefficients import Coefficients
from sftopt.core.derived import Derived
from sftopt.core.instance import AdapterDownlink, PowerLaw, ServerOrder
from sftopt.core.least_time import least_time
from sftopt.core.spectrum import RateLaw

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def server_s(derived: Derived, cuts: Array | Integers, choice: Integers | None = None) -> float:
    """Return the seconds the server works per step at ``cuts``, (N,); equation (7).

    ``choice``: the option indices, (N,), where options have figures of their own.
    """
    each = derived.s3_s(cuts, choice)
    return float(each.sum() if derived.server_order is ServerOrder.IN_TURN else each.max())


def adapter_block_s(derived: Derived) -> Array:
    """Return the seconds of the exchange that one more block adds, (N,); equation (8).

    Up over the whole band, and down where adapters are sent one by one.
    """
    each = derived.adapter_bits_per_block / derived.uplink_full_bits_per_s
    if derived.adapter_downlink is AdapterDownlink.UNICAST:
        each = each + derived.adapter_bits_per_block / derived.downlink_full_bits_per_s
    return each


def payload_rooms_s(
    derived: Derived,
    cuts: Array | Integers,
    tau_up_s: float,
    tau_down_s: float,
    choice: Integers | None = None,
) -> tuple[Array, Array]:
    """Return the seconds that two barriers leave for sending up and down, (N,) each.

    What remains of tau_u after s1 and of tau_d after s5; at most 0 where a device is late.
    """
    s1_base_s = derived.by_option(derived.s1_base_s, derived.option_s1_base_s, choice)
    s5_base_s = derived.by_option(derived.s5_base_s, derived.option_s5_base_s, choice)
    up = tau_up_s - s1_base_s - cuts * derived.s1_block_s
    down = tau_down_s - s5_base_s - cuts * derived.s5_block_s
    return up, down


@dataclass(frozen=True)
class Delay:
    """A round at its shares of least delay, equations (7)-(9) and (14); arrays (N,)."""

    round_s: float
    tau_up_s: float
    tau_down_s: float
    shares: Shares


def least_round(
    derived: Derived,
    cuts: Integers,
    bits_up: Array,
    bits_down: Array,
    choice: Integers | None = None,
) -> Delay:
    """Return the round of least delay at fixed cuts and payloads, arrays (N,); equation (14).

    ``choice``: the option indices, (N,), where options have figures of their own.
    """
    tau_up, up = least_time(derived.s1_s(cuts, choice), bits_up, derived.uplink_law)
    tau_down, down = least_time(derived.s5_s(cuts, choice), bits_down, derived.downlink_law)
    still = np.zeros(derived.devices)
    tau_a, adapter = least_time(still, derived.adapter_bits(cuts), derived.uplink_law)
    step = tau_up + server_s(derived, cuts, choice) + tau_down
    total = derived.steps * step + tau_a + derived.adapter_down_s(cuts)
    return Delay(total, tau_up, tau_down, Shares(up, down, adapter))


@dataclass(frozen=True)
class LinkProblem:
    """min over shares x >= 0, SUM x <= 1 of max_n fixed_n + payload_n / R_n(x_n); arrays (N,)."""

    fixed_s: Array
    payload_bits: Array
    law: RateLaw

    def ends_s(self, shares: Array) -> Array:
        """Return when every device ends at ``shares``, in seconds, (N,); equations (4) and (6).

        Infinite for a payload without a rate.
        """
        ends = self.fixed_s.copy()
        sends = self.payload_bits > 0.0
        served = sends & (shares > 0.0)
        ends[sends & ~served] = np.inf
        rate = self.law.select(served).rate(shares[served])
        with np.errstate(divide="ignore", over="ignore"):
            ends[served] += self.payload_bits[served] / rate
        return ends

    def barrier_s(self, shares: Array) -> float:
        """Return when the last device ends at ``shares``, in seconds; equation (7)."""
        return float(self.ends_s(shares).max(initial=0.0))


@dataclass(frozen=True)
class RoundProblem:
    """Problem (14): min steps * (tau_uplink + tau_downlink) + tau_adapter + constant_s."""

    steps: int
    uplink: LinkProblem
    downlink: LinkProblem
    adapter: LinkProblem | None
    """The exchange of adapters under the ``total`` law; under ``psd`` it is in ``constant_s``."""
    constant_s: float
    """K times the server's time, and the parts of tau_a that no share changes; (7), (8)."""

    @property
    def devices(self) -> int:
        """Return the number of devices N."""
        return len(self.uplink.fixed_s)

    def links(self) -> dict[str, LinkProblem]:
        """Return the links by their names in :class:`~sftopt.core.candidate.Shares`."""
        found = {"uplink": self.uplink, "downlink": self.downlink}
        return found if self.adapter is None else {**found, "adapter": self.adapter}


def round_problem(derived: Derived, candidate: Candidate) -> RoundProblem:
    """Return problem (14) at the candidate's cuts, heaviest options and keep fractions.

    ``derived`` holds the gains of the round, see :func:`sftopt.core.derived.derive`.
    """
    cuts = np.rint(candidate.cuts).astype(np.int64)
    choice = candidate.choices()
    known = Coefficients(derived, cuts, choice)
    masked = np.array([option.has_mask for option in derived.options])[choice]
    keep = np.where(masked, candidate.keep, 1.0)  # elsewhere a candidate's keep has no meaning
    constant = derived.steps * server_s(derived, cuts, choice)
    constant += derived.adapter_down_s(cuts)
    adapter_bits = derived.adapter_bits(cuts)
    adapter = None
    if derived.power is PowerLaw.TOTAL:
        adapter = LinkProblem(np.zeros(derived.devices), adapter_bits, derived.uplink_law)
    else:
        constant += float((adapter_bits / derived.uplink_full_bits_per_s).sum())
    return RoundProblem(
        steps=derived.steps,
        uplink=LinkProblem(derived.s1_s(cuts, choice), known.bits_up(keep), derived.uplink_law),
        downlink=LinkProblem(
            derived.s5_s(cuts, choice), known.bits_down(keep), derived.downlink_law
        ),
        adapter=adapter,
        constant_s=constant,
    )


def round_s(problem: RoundProblem, shares: Shares) -> float:
    """Return the round's delay at ``shares`` in seconds; equation (9).

    Infinite where a payload gets no rate.
    """
    step = problem.uplink.barrier_s(shares.uplink) + problem.downlink.barrier_s(shares.downlink)
    adapter = 0.0 if problem.adapter is None else problem.adapter.barrier_s(shares.adapter)
    return problem.steps * step + adapter + problem.constant_s
