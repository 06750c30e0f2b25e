"""What all pictures share: colours of the parts of a round, how many devices one shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from matplotlib.axis import Axis

PARTS = {
    "device": "#56b4e9",
    "uplink": "#e69f00",
    "server": "#009e73",
    "downlink": "#f0e442",
    "adapters": "#cc79a7",
}
"""Parts of a round -> Okabe and Ito's colours, which the colour-blind can tell apart."""
WAIT = "#d9dee5"
"""Colour of waiting at a barrier."""
MOST_DEVICES_SHOWN = 30
"""Devices of a picture; of more, those that bind are shown."""

_Entry = TypeVar("_Entry")


def most_binding(entries: Sequence[_Entry], slacks: Sequence[float]) -> list[_Entry]:
    """Return at most :data:`MOST_DEVICES_SHOWN` entries, those of least slack, in their order."""
    if len(entries) <= MOST_DEVICES_SHOWN:
        return list(entries)
    ranked = sorted(range(len(entries)), key=lambda index: slacks[index])
    kept = sorted(ranked[:MOST_DEVICES_SHOWN])
    return [entries[index] for index in kept]


def plain_logarithms(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers: 50, 100, 200 rather than powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
