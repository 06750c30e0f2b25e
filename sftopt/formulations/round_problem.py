"""The small problem (14) of one round as plain arrays: cuts, options and keep fractions fixed.

What every spectrum formulation is built from: up to three links that share nothing, so that the
round is least where each link's barrier is, and a constant. Nothing here chooses a share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.candidate import Candidate, Shares
from sftopt.core.derived import Derived
from sftopt.core.instance import PowerLaw, ServerOrder
from sftopt.core.spectrum import RateLaw
from sftopt.formulations.base import Start

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinkProblem:
    """min over shares x >= 0, SUM x <= 1 of max_n fixed_n + payload_n / R_n(x_n); arrays (N,)."""

    fixed_s: Array
    payload_bits: Array
    law: RateLaw

    def ends_s(self, shares: Array) -> Array:
        """When every device ends at ``shares``, (N,); equations (4) and (6).

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
        """The last end at ``shares``; equation (7)."""
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
        """N."""
        return len(self.uplink.fixed_s)

    def links(self) -> dict[str, LinkProblem]:
        """The links by their names in :class:`~sftopt.core.candidate.Shares`."""
        found = {"uplink": self.uplink, "downlink": self.downlink}
        return found if self.adapter is None else {**found, "adapter": self.adapter}


def round_problem(derived: Derived, candidate: Candidate) -> RoundProblem:
    """Problem (14) at the candidate's cuts, heaviest options and keep fractions.

    ``derived`` holds the gains of the round, see :func:`sftopt.core.derived.derive`.
    """
    cuts = np.rint(candidate.cuts).astype(np.int64)
    up, down = _bits_per_element(derived, candidate)
    server = derived.s3_base_s - cuts * derived.s3_block_s
    in_turn = derived.server_order is ServerOrder.IN_TURN
    adapter_bits = np.asarray(cuts * derived.adapter_bits_per_block, dtype=float)
    constant = derived.steps * float(server.sum() if in_turn else server.max())
    constant += derived.adapter_down_s(cuts)
    adapter = None
    if derived.power is PowerLaw.TOTAL:
        adapter = LinkProblem(np.zeros(derived.devices), adapter_bits, derived.uplink_law)
    else:
        constant += float((adapter_bits / derived.uplink_full_bits_per_s).sum())
    return RoundProblem(
        steps=derived.steps,
        uplink=LinkProblem(
            derived.s1_base_s + cuts * derived.s1_block_s, derived.elements * up, derived.uplink_law
        ),
        downlink=LinkProblem(
            derived.s5_base_s + cuts * derived.s5_block_s,
            derived.elements * down,
            derived.downlink_law,
        ),
        adapter=adapter,
        constant_s=constant,
    )


def _bits_per_element(derived: Derived, candidate: Candidate) -> tuple[Array, Array]:
    """Equations (1) and (2) at the candidate's options, both shape (N,)."""
    up, down = np.zeros(derived.devices), np.zeros(derived.devices)
    choices = candidate.choices()
    for index, option in enumerate(derived.options):
        chosen = choices == index
        keep = candidate.keep[chosen] if option.has_mask else np.ones(int(chosen.sum()))
        up[chosen] = derived.beta_up(option, keep)
        down[chosen] = derived.beta_down(option, keep)
    return up, down


def round_s(problem: RoundProblem, shares: Shares) -> float:
    """The round's delay at ``shares``, equation (9); infinite where a payload gets no rate."""
    step = problem.uplink.barrier_s(shares.uplink) + problem.downlink.barrier_s(shares.downlink)
    adapter = 0.0 if problem.adapter is None else problem.adapter.barrier_s(shares.adapter)
    return problem.steps * step + adapter + problem.constant_s


def fixed_candidate(derived: Derived, start: Start | None) -> Candidate:
    """The start's cuts, options and keep fractions; least cuts and least loss without a start."""
    if start is not None:
        return start.candidate
    losses = [float(derived.loss(option, option.keep_high)) for option in derived.options]
    best = int(np.argmin(losses))
    keep = np.full(derived.devices, derived.options[best].keep_high)
    choices = np.full(derived.devices, best)
    return Candidate.of(derived.cut_low, choices, keep, len(derived.options))
