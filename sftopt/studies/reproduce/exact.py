"""Published tables that follow from their settings alone: ours beside theirs, to the digit."""

from __future__ import annotations

from dataclasses import dataclass

from sftopt.core.payload import (
    Traffic,
    dense_traffic,
    indexed_topk_traffic,
    low_rank_residual_traffic,
    token_selection_traffic,
)

REFERENCE_BITS = 16
"""Of SplitLite's Table I."""
_TOKENS = 128
"""Tokens of a sample there."""
_MIB_BITS = 8.0 * 2**20
"""Bits of a mebibyte."""


@dataclass(frozen=True)
class ExactEntry:
    """One published number and ours, in ``unit``; ``digits`` after the point are printed."""

    table: str
    what: str
    published: float
    ours: float
    unit: str
    digits: int

    @property
    def agrees(self) -> bool:
        """Tell whether ours, rounded as the paper prints, is the published number."""
        return round(self.ours, self.digits) == self.published


_SPLITLITE = {
    "SplitLite": ((6.8, 16.9), (6.6, 16.6), (6.9, 17.4), (6.5, 16.3)),
    "AQ-SGD": ((25.0, 37.5),) * 4,
    "Rand-Top-k(0.3)": ((50.5, 40.2), (50.6, 40.3), (50.5, 40.2), (52.5, 41.2)),
}
"""Uplink and both directions in per cent of SplitLoRA, arXiv 2608.23018, Table I."""
_HIDDEN = {"Qwen-1.5B": 1536, "Qwen-3B": 2048, "Gemma-1B": 1152, "Llama-3B": 3072}
"""Its models, in the order of the rows above."""


def _sent(method: str, hidden: int) -> Traffic:
    if method == "SplitLite":
        return low_rank_residual_traffic(
            _TOKENS, hidden, uplink_rank=32, uplink_bits=4, downlink_rank=64, downlink_bits=8
        )
    if method == "AQ-SGD":
        return dense_traffic(_TOKENS, hidden, 4, 8)
    return indexed_topk_traffic(_TOKENS, hidden, keep=0.3, value_bits=REFERENCE_BITS)


def splitlite() -> list[ExactEntry]:
    """List the 12 pairs of SplitLite's Table I, in per cent of uncompressed 16 bits."""
    found = []
    for method, rows in _SPLITLITE.items():
        for (model, hidden), published in zip(_HIDDEN.items(), rows, strict=True):
            plain = dense_traffic(_TOKENS, hidden, REFERENCE_BITS)
            ours = _sent(method, hidden).share_of(plain)
            for way, theirs, share in zip(("uplink", "total"), published, ours, strict=True):
                what = f"{method}, {model}, {way}"
                found.append(ExactEntry("SplitLite Table I", what, theirs, 100.0 * share, "%", 1))
    return found


def st_sflora() -> list[ExactEntry]:
    """List ST-SFLora's payloads of a batch of 64 samples in MiB, 32 bits an element, d = 768."""
    found = []
    for tokens, published in ((196, 36.75), (64, 12.0)):
        sent = token_selection_traffic(tokens, 768, 32, merged_tokens=0)
        ours = 64 * sent.uplink_bits / _MIB_BITS
        found.append(ExactEntry("ST-SFLora payload", f"{tokens} tokens", published, ours, "MiB", 2))
    return found


def exact_entries() -> list[ExactEntry]:
    """List all published numbers that follow from settings, with ours, each in its own unit."""
    return [*splitlite(), *st_sflora()]
