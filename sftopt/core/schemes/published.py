"""The published systems as schemes; what their sources leave open is named in ``ours``."""

from __future__ import annotations

from sftopt.core.plan import Aggregation, Order
from sftopt.core.schemes.base import (
    CompressionRule,
    CutRule,
    RankRule,
    Scheme,
    SchemeOption,
    ShareRule,
    SpeedRule,
)
from sftopt.core.schemes.baselines import CUT, SHARES

RANK = SchemeOption(
    "rank", "largest rank of an adapter, in place of the workload's", least=1, whole=True
)
"""The rank from which a device's own follows."""
POWER = SchemeOption(
    "power",
    "band: a device radiates p_n over the whole band; share: p_n/N, as in a parallel round",
    "band",
    choices=("band", "share"),
)
"""What a device radiates that has the whole band; section 7: both are reported."""
AGGREGATION = SchemeOption(
    "aggregation",
    "averaging: the means of the factors, as its authors do; corrected: of their products",
    "averaging",
    choices=("averaging", "corrected"),
)
"""How adapters of equal ranks are put together."""
_CARD = "CARD, arXiv 2412.00090v2; IEEE Netw. Lett. 7(3) 2025, 10.1109/LNET.2025.3530430"
"""Where CARD and its benchmarks were published."""
_CARD_OURS = "order, memory limits and b_ref are this model's"
"""What none of its sources says."""

PUBLISHED = (
    Scheme(
        name="splitlora",
        summary="one fixed cut, nothing compressed, equal shares",
        order=Order.PARALLEL,
        cut=CutRule.QUARTER,
        compression=CompressionRule.NONE,
        shares=ShareRule.EQUAL,
        objective="none: cut and rank are given",
        source="SplitLoRA, arXiv 2407.00952 and its code",
        ours="a radio, memory limits; K is its aggregation interval; weights by data",
        options=(CUT, SHARES, AGGREGATION),
    ),
    Scheme(
        name="hsplitlora",
        summary="cuts and ranks by the devices' speed, nothing compressed, equal shares",
        order=Order.PARALLEL,
        cut=CutRule.BY_SPEED,
        compression=CompressionRule.NONE,
        shares=ShareRule.EQUAL,
        objective="accuracy within the devices' budgets",
        source="HSplitLoRA, arXiv 2505.02795; TMC 2026, 10.1109/TMC.2026.3680521",
        ours="its thresholds are not public: cuts and ranks follow from speed and memory here",
        ranks=RankRule.BY_SPEED,
        aggregation=Aggregation.CONCATENATION,
        options=(
            SchemeOption(
                "cuts",
                "speed: by f_n / median f; memory: the most that fits",
                "speed",
                choices=("speed", "memory"),
            ),
            RANK,
            SHARES,
        ),
    ),
    Scheme(
        name="tsflora",
        summary="fewer tokens in 8 bits at a fixed cut, equal shares",
        order=Order.PARALLEL,
        cut=CutRule.QUARTER,
        compression=CompressionRule.TOKENS,
        shares=ShareRule.EQUAL,
        objective="traffic and memory at held accuracy, tokens and bits by hand",
        source="TSFLora, arXiv 2605.23988",
        ours="accuracy is unknown until it is calibrated over the tokens kept",
        options=(
            SchemeOption(
                "kept_tokens",
                "tokens kept, CLS included; one more holds the merged rest",
                least=2,
                whole=True,
            ),
            SchemeOption("bits", "bits of an element", 8, 1, 32, whole=True),
            SchemeOption(
                "gradient",
                "what comes down: in as many bits, or at the reference",
                "bits",
                choices=("bits", "reference"),
            ),
            SchemeOption("cut", CUT.text, least=1, whole=True),
            SHARES,
        ),
    ),
    Scheme(
        name="card",
        summary="device by device the cut and server speed of least delay and energy",
        order=Order.SEQUENTIAL,
        cut=CutRule.COST,
        compression=CompressionRule.NONE,
        shares=ShareRule.WHOLE,
        objective="w of a device's delay and 1 - w of the server's energy, each by its range",
        source=_CARD,
        ours=f"w = 0.2, f_min = f_s/4 where the instance names none; {_CARD_OURS}",
        server_speed=SpeedRule.COST,
        aggregation=None,
        options=(
            SchemeOption("w", "weight of delay against energy", 0.2, 0.0, 1.0),
            POWER,
        ),
    ),
    Scheme(
        name="device-only",
        summary="CARD's benchmark: the highest cut that fits, the server at its fastest",
        order=Order.SEQUENTIAL,
        cut=CutRule.MOST,
        compression=CompressionRule.NONE,
        shares=ShareRule.WHOLE,
        objective="none",
        source=_CARD,
        ours=f"the reading of the benchmark; {_CARD_OURS}",
        server_speed=SpeedRule.MOST,
        aggregation=None,
        options=(POWER,),
    ),
    Scheme(
        name="server-only",
        summary="CARD's benchmark: the lowest cut that fits, the server at its fastest",
        order=Order.SEQUENTIAL,
        cut=CutRule.LEAST,
        compression=CompressionRule.NONE,
        shares=ShareRule.WHOLE,
        objective="none",
        source=_CARD,
        ours=f"the reading of the benchmark; {_CARD_OURS}",
        server_speed=SpeedRule.MOST,
        aggregation=None,
        options=(POWER,),
    ),
    Scheme(
        name="sl",
        summary="split learning: one device after another at a fixed cut, nothing compressed",
        order=Order.SEQUENTIAL,
        cut=CutRule.QUARTER,
        compression=CompressionRule.NONE,
        shares=ShareRule.WHOLE,
        objective="none",
        source="split learning as SplitLoRA and CARD compare with it",
        ours="adapters go down before and up after a device's turn",
        aggregation=None,
        options=(CUT, POWER),
    ),
    Scheme(
        name="fedlora",
        summary="no split: every device trains the whole model, adapters and head are averaged",
        order=Order.FEDERATED,
        cut=CutRule.ALL,
        compression=CompressionRule.NO_BOUNDARY,
        shares=ShareRule.EQUAL,
        objective="none",
        source="FedLoRA as SplitLoRA and TSFLora compare with it",
        ours="the head is trained and exchanged as adapters are",
        options=(
            SchemeOption(
                "participants",
                "all devices, or those whose memory holds the model",
                "all",
                choices=("all", "fitting"),
            ),
        ),
    ),
)
"""In the order of a table: parallel, sequential, federated."""
