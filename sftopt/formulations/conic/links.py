"""Barriers of a link in conic form: shares, rates, and room x rate >= payload.

Every device has ``room`` for its payload: the barrier less its fixed time. In model units
room x rate >= load x payload, and payloads come as square roots
(:mod:`sftopt.formulations.conic.grid_items`). How the product and the concave rate law are written
is a matter of rules with one signature, here and in :mod:`sftopt.formulations.conic.linear`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.entropy import LN2
from sftopt.formulations.conic.cvxpy_layer import cp
from sftopt.formulations.conic.frame import ConicFrame, Link

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Root:
    """The square root of a payload per element (or of the blocks): an expression and its range.

    ``low`` and ``high`` have shape (N,) and hold wherever something is sent.
    """

    value: Any
    low: Array
    high: Array
    sends: Any = 1.0
    """1 where a device sends, an expression in its binaries where it may send nothing."""


SendRule = Callable[[ConicFrame, Link, Any, Any, Root], None]
"""(frame, link, room, rate, root): adds room_n rate_n >= load_n root_n^2, or what stands for it."""
RateRule = Callable[[ConicFrame, Link, Any, Any], None]
"""(frame, link, share, rate): adds what keeps the rates within the concave law."""


@dataclass(frozen=True)
class LinkRules:
    """How a model writes products and concave rates."""

    send: SendRule
    concave: RateRule


def add_link(
    frame: ConicFrame, link: Link, barrier: Any, fixed: Any, root: Root, rules: LinkRules
) -> None:
    """Add room + fixed <= barrier, SUM x <= 1, room x rate >= payload: equations (4), (6), (7)."""
    count, name, builder = frame.derived.devices, link.name, frame.builder
    room = frame.variable(f"var_{name}_room", count, nonneg=True)
    share = frame.variable(f"var_{name}_share", count, nonneg=True)
    builder.add(f"con_{name}_time", room + fixed <= barrier * np.ones(count), frame.ids)
    builder.add(f"con_{name}_share", link.share_unit / count @ share <= 1.0)
    rate = share
    if link.snr_terms is not None:
        rate = frame.variable(f"var_{name}_rate", count, nonneg=True)
        rules.concave(frame, link, share, rate)
    rules.send(frame, link, room, rate, root)


def send_by_cones(frame: ConicFrame, link: Link, room: Any, rate: Any, root: Root) -> None:
    """Add room x rate >= load x root^2 as second-order cones, equations (4), (6) and (8)."""
    size = cp.multiply(np.sqrt(link.load), root.value)
    cone = cp.SOC(room + rate, cp.vstack([room - rate, 2.0 * size]), axis=0)
    frame.builder.add(f"con_{link.name}_send", cone, frame.ids)


def exponential_rates(frame: ConicFrame, link: Link, share: Any, rate: Any) -> None:
    """Add rate <= mean_k min(x log2(1 + a_k/x), C x) under ``total``, equation (3), exactly.

    One exponential cone per term whose cap can fail within the whole band.
    """
    assert link.snr_terms is not None
    derived, terms = frame.derived, link.snr_terms
    cap = derived.efficiency_cap
    whole = derived.devices / link.share_unit
    device, branch = np.nonzero(terms / (2.0**cap - 1.0) < whole[:, None])
    capped = terms.shape[1] - np.bincount(device, minlength=derived.devices)
    per_share = link.share_unit / (link.rate_unit * terms.shape[1])
    total = cp.multiply(capped * per_share, share)
    if len(device):
        term = frame.variable(f"var_{link.name}_term", len(device), nonneg=True)
        own = share[device]
        index = [f"{frame.ids[n]},{k}" for n, k in zip(device, branch, strict=True)]
        gain = terms[device, branch]
        # x ln(1 + a/x) >= t, that is x exp(t/x) <= x + a, divided by 1 + a: all near 1 at x = 1
        log = cap * LN2 * term - cp.multiply(np.log1p(gain), own)
        cone = cp.ExpCone(log, own, cp.multiply(1.0 / (1.0 + gain), own) + gain / (1.0 + gain))
        frame.builder.add(f"con_{link.name}_cap", term <= own, index)
        frame.builder.add(f"con_{link.name}_term", cone, index)
        spread = np.zeros((derived.devices, len(device)))
        spread[device, np.arange(len(device))] = per_share[device]
        total = total + spread @ term
    frame.builder.add(f"con_{link.name}_rate", rate <= total, frame.ids)


EXACT_RULES = LinkRules(send_by_cones, exponential_rates)
"""Second-order cones, and exponential cones under ``total``."""
