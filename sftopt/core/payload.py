"""Payloads of one boundary exchange in bits: equations (1) and (2), and those of other papers.

Part of the judge. The kinds of problem (13) are :func:`uplink_bits_per_element` and
:func:`downlink_bits_per_element`; the other functions serve schemes and published tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from scipy.optimize import brentq

from sftopt.core.instance import DownlinkPayload, Instance, Mode, ModeKind


def binary_entropy_bits(share: float) -> float:
    """Return the entropy H2(share) of one yes-or-no symbol in bits; 0 at both ends."""
    if share <= 0.0 or share >= 1.0:
        return 0.0
    return -(share * math.log2(share) + (1.0 - share) * math.log1p(-share) / math.log(2.0))


def mask_factor(mode: Mode, keep: float) -> float:
    """Return the mask's factor omega at this keep fraction, equation (1). Where two intervals meet,
    the smaller one holds. Equation (1).
    """
    factors = [part.factor for part in mode.mask_overhead if part.keep_from <= keep <= part.keep_to]
    if factors:
        return min(factors)
    ends = mode.mask_overhead
    return ends[0].factor if keep < ends[0].keep_from else ends[-1].factor


def uplink_bits_per_element(mode: Mode, keep: float, reference_bits: int) -> float:
    """Return beta(rho, q) of equation (1), in bits per boundary element; under tokens of S' d.

    Mode ``none`` sends the reference precision whatever its ``value_bits``.
    """
    if mode.kind is ModeKind.NONE:
        return float(reference_bits)
    if mode.kind is not ModeKind.TOPK:
        return mode.entropy_bits + mode.side_bits_per_element
    mask = mask_factor(mode, keep) * binary_entropy_bits(keep)
    return keep * mode.entropy_bits + mask + mode.side_bits_per_element


def downlink_bits_per_element(
    mode: Mode, keep: float, reference_bits: int, downlink: DownlinkPayload
) -> float:
    """Return beta_g(rho, q) of equation (2), in bits per boundary element; under tokens of S' d.

    ``downlink: dense`` comes before a mode's own ``gradient_bits``, those before the rule.
    """
    if downlink is DownlinkPayload.DENSE:
        return float(reference_bits)
    if mode.gradient_bits is not None:
        return mode.gradient_bits
    if mode.kind is ModeKind.NONE:
        return float(reference_bits)
    kept = keep if mode.kind is ModeKind.TOPK else 1.0
    return kept * mode.entropy_bits + mode.side_bits_per_element


def keep_limit(mode: Mode, instance: Instance) -> float:
    """Return the keep fraction rhobar_q at which beta first reaches eta_q + sigma (or b_ref).

    Capped by rho_max. Beyond it a mask costs more than sending every element. beta is concave in
    rho on each interval of omega, so its first crossing lies before its peak there.
    """
    eta, sigma = mode.entropy_bits, mode.side_bits_per_element
    target = min(eta + sigma, float(instance.workload.reference_bits))
    parts = tuple((part.keep_from, part.keep_to, part.factor) for part in mode.mask_overhead)
    return min(_crossing(eta, sigma, target, parts), instance.compression.keep_max)


@lru_cache(maxsize=256)
def _crossing(
    eta: float, sigma: float, target: float, parts: tuple[tuple[float, float, float], ...]
) -> float:
    """The keep fraction at which beta first reaches ``target`` bits, else the last interval's end.

    ``parts``: begin, end and factor of the mask's intervals.
    """
    for keep_from, keep_to, omega in parts:

        def excess(keep: float, omega: float = omega) -> float:
            return keep * eta + omega * binary_entropy_bits(keep) + sigma - target

        right = min(keep_to, _peak(eta, omega))
        if excess(keep_from) >= 0.0:
            return keep_from
        if right > keep_from and excess(right) >= 0.0:
            return float(brentq(excess, keep_from, right, xtol=1e-15, rtol=1e-14))
    return parts[-1][1]


def _peak(eta: float, omega: float) -> float:
    """The keep fraction at which beta is largest."""
    return 1.0 if omega == 0.0 else 1.0 / (1.0 + 2.0 ** (-min(eta / omega, 1e3)))


def tolerated_keep(mode: Mode, limit: float, feas_tol: float) -> float:
    """Return the keep fraction up to which ``limit``, that of :func:`keep_limit`, counts as met.

    At most 1, and no further than beta rises: beyond its peak more elements cost fewer bits.
    """
    most = min(limit + feas_tol, 1.0)
    for index, part in enumerate(mode.mask_overhead):
        last = index == len(mode.mask_overhead) - 1
        end = 1.0 if last else part.keep_to
        begin = part.keep_from if index else 0.0
        peak = _peak(mode.entropy_bits, part.factor)
        if end > limit and begin < most and peak < min(end, most):
            return max(limit, begin, peak)
    return most


@dataclass(frozen=True)
class Traffic:
    """Bits of one exchange, both directions."""

    uplink_bits: float
    downlink_bits: float

    def share_of(self, other: Traffic) -> tuple[float, float]:
        """Return the uplink and the two directions' mean as fractions of ``other``."""
        up = self.uplink_bits / other.uplink_bits
        total = (self.uplink_bits + self.downlink_bits) / (other.uplink_bits + other.downlink_bits)
        return up, total


def dense_traffic(
    tokens: int, hidden: int, uplink_bits: float, downlink_bits: float | None = None
) -> Traffic:
    """Return the bits of sending every element at so many bits: uncompressed, AQ-SGD (4 up, 8
    down), plain quantisation.
    """
    elements = tokens * hidden
    down = uplink_bits if downlink_bits is None else downlink_bits
    return Traffic(elements * uplink_bits, elements * down)


def low_rank_residual_traffic(
    tokens: int,
    hidden: int,
    *,
    uplink_rank: int,
    uplink_bits: float,
    downlink_rank: int,
    downlink_bits: float,
) -> Traffic:
    """Return the bits of SplitLite: rank * (tokens + hidden) elements per direction.

    SplitLite (arXiv 2608.23018), Table I: rank 2r at 4 bits up, 4r at 8 bits down.
    """
    elements = tokens + hidden
    return Traffic(uplink_rank * elements * uplink_bits, downlink_rank * elements * downlink_bits)


def indexed_topk_traffic(
    tokens: int, hidden: int, *, keep: float, value_bits: float, index_bits: int | None = None
) -> Traffic:
    """Return the bits of Rand-Top-k: floor(keep d) values per token, each with an explicit index on
    the uplink only.

    ``index_bits`` defaults to ceil(log2 d). Accounting of SplitLite's Table I.
    """
    kept = math.floor(keep * hidden)
    index = math.ceil(math.log2(hidden)) if index_bits is None else index_bits
    return Traffic(tokens * kept * (value_bits + index), tokens * kept * value_bits)


def token_selection_traffic(
    kept_tokens: int, hidden: int, bits: float, *, merged_tokens: int = 1
) -> Traffic:
    """Return the bits of TSFLora and ST-SFLora: S' = kept tokens + merged token, dense at ``bits``,
    both directions.

    TSFLora (arXiv 2605.23988) merges the dropped tokens into one; ST-SFLora (2605.26120) sends
    none, ``merged_tokens=0``. ``kept_tokens`` includes CLS. Bits per sample.
    """
    return dense_traffic(kept_tokens + merged_tokens, hidden, bits)
