"""What has to be said beside the numbers of a comparison: for tables, figures and captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sftopt.studies.compare.row import SchemeRow

PARTS_NOTE = (
    "Parts of a parallel round are those of the devices that hold the barriers, so they may differ "
    "where rounds hardly do; of a sequential round they are sums over all turns."
)
"""What the parts of a round mean."""
POWER = ":power=share"
"""What such a variant's name ends in."""
POWER_NOTE = (
    "power=share: the device whose turn it is radiates p_n/N over the whole band, as in a parallel "
    "round; without it p_n, which flatters schemes in which devices take turns."
)
"""What the variants mean that stand beside sequential schemes where nobody named any."""


def notes_of(rows: Sequence[SchemeRow]) -> list[str]:
    """Return the sentences that explain bars and variants, equal plans and refusals."""
    found = [PARTS_NOTE]
    if any(POWER in row.scheme for row in rows):
        found.append(POWER_NOTE)
    return [*found, *equal_notes(rows), *refused_notes(rows)]


def refused_notes(rows: Sequence[SchemeRow]) -> list[str]:
    """Return why each refused scheme is refused, one line a scheme."""
    return [f"refused: {row.scheme}: {row.refused}" for row in rows if row.refused is not None]


def equal_notes(rows: Sequence[SchemeRow]) -> list[str]:
    """Return a sentence for each group of schemes whose plans are the same."""
    return [f"{', '.join(names[:-1])} and {names[-1]}: the same plan." for names in equal(rows)]


def equal(rows: Sequence[SchemeRow]) -> list[list[str]]:
    """List the schemes that decide the same for every device and whose rounds are the same."""
    groups: dict[Any, list[str]] = {}
    for row in rows:
        if row.plan is None or row.round_s is None:
            continue
        devices = tuple(
            (p.id, p.blocks, p.mode, p.bits, p.keep_fraction, p.uplink_share, p.downlink_share,
             p.adapter_uplink_share, p.rank, p.server_flops_per_s)
            for p in row.plan.devices
        )  # fmt: skip
        key = (row.order, row.round_s, row.tokens, row.bytes, devices)
        groups.setdefault(str(key), []).append(row.scheme)
    return [names for names in groups.values() if len(names) > 1]
