"""The plan of this package and the baselines that are ours: what a claim has to beat."""

from __future__ import annotations

from sftopt.core.plan import Order
from sftopt.core.schemes.base import CompressionRule, CutRule, Scheme, SchemeOption, ShareRule

CUT = SchemeOption("cut", "blocks on every device, in place of floor(L/4)", whole=True)
"""The fixed cut of most schemes, in blocks."""
SHARES = SchemeOption("shares", "how the band is shared", "equal", choices=("equal", "best"))
"""Shares of schemes that leave the band alone."""

BASELINES = (
    Scheme(
        name="sft",
        summary="cuts, compression and shares by problem (13), certified",
        order=Order.PARALLEL,
        cut=CutRule.FREE,
        compression=CompressionRule.FREE,
        shares=ShareRule.BEST,
        objective="delay of a round within accuracy and memory",
        source="SFT, arXiv 2501.09237; JSTSP 2025, 10.1109/JSTSP.2025.3581484",
        ours="none of its equations is public: the model, and an exact method in place of theirs",
    ),
    Scheme(
        name="one-for-all",
        summary="one best cut, mode and keep fraction for all, best shares",
        order=Order.PARALLEL,
        cut=CutRule.COMMON,
        compression=CompressionRule.COMMON,
        shares=ShareRule.BEST,
        objective="delay of a round within accuracy and memory",
        source="",
        ours="all of it: the strongest plain baseline, found by an exact small search",
        fair=True,
    ),
    Scheme(
        name="int8-best",
        summary="8 bits for every element, best common cut, best shares",
        order=Order.PARALLEL,
        cut=CutRule.COMMON,
        compression=CompressionRule.DENSE,
        shares=ShareRule.BEST,
        objective="delay of a round",
        source="",
        ours="all of it: the reference of traffic claims",
        bits=8,
        fair=True,
    ),
    Scheme(
        name="fp16-best",
        summary="16 bits for every element, best common cut, best shares",
        order=Order.PARALLEL,
        cut=CutRule.COMMON,
        compression=CompressionRule.NONE,
        shares=ShareRule.BEST,
        objective="delay of a round",
        source="",
        ours="all of it: the reference of traffic claims",
        bits=16,
        fair=True,
    ),
    Scheme(
        name="int8",
        summary="8 bits for every element at a fixed cut",
        order=Order.PARALLEL,
        cut=CutRule.QUARTER,
        compression=CompressionRule.DENSE,
        shares=ShareRule.EQUAL,
        objective="none",
        source="",
        ours="all of it",
        bits=8,
        options=(CUT, SHARES),
    ),
    Scheme(
        name="fp16",
        summary="16 bits for every element at a fixed cut",
        order=Order.PARALLEL,
        cut=CutRule.QUARTER,
        compression=CompressionRule.NONE,
        shares=ShareRule.EQUAL,
        objective="none",
        source="",
        ours="all of it",
        bits=16,
        options=(CUT, SHARES),
    ),
    Scheme(
        name="no-compression",
        summary="every element at the reference precision, fixed cut, best shares",
        order=Order.PARALLEL,
        cut=CutRule.QUARTER,
        compression=CompressionRule.NONE,
        shares=ShareRule.BEST,
        objective="delay of a round, by shares alone",
        source="",
        ours="all of it",
        options=(CUT,),
    ),
    Scheme(
        name="greedy",
        summary="problem (13) by single moves of one device",
        order=Order.PARALLEL,
        cut=CutRule.FREE,
        compression=CompressionRule.FREE,
        shares=ShareRule.BEST,
        objective="delay of a round within accuracy and memory",
        source="",
        ours="all of it",
        solver="greedy",
    ),
)
"""In the order of a table: sft, the fair ones, the others."""
