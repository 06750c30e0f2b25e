"""Places: cuts with a group of options that have the same times, cost and memory there.

Where no option has figures of its own there is one group, and places are the cuts. Used by the
bound alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.core.derived import Derived, Option

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Places:
    """P places in G groups of L cuts each, group after group."""

    members: tuple[tuple[int, ...], ...]
    """The options of each group."""
    tabled: int
    """How many of the groups, the first ones, a merged table may hold: no member's loss whatever
    is kept depends on the cut, and no member changes the server's work."""
    cuts: int
    """L."""

    @property
    def blocks(self) -> Integers:
        """Return the blocks on the device, (P,)."""
        return np.tile(np.arange(self.cuts), len(self.members))

    @property
    def group(self) -> Integers:
        """Return the index of the group, (P,)."""
        return np.repeat(np.arange(len(self.members)), self.cuts)

    @property
    def option(self) -> Integers:
        """Return the index of an option that has the group's times and memory, (P,)."""
        return np.array([group[0] for group in self.members])[self.group]

    @property
    def group_of_options(self) -> Integers:
        """Return the index of the group of every option, (O,)."""
        groups = {index: g for g, members in enumerate(self.members) for index in members}
        return np.array([groups[index] for index in range(len(groups))])

    def of_option(self, index: int) -> slice:
        """Return where the places of an option are."""
        group = int(self.group_of_options[index])
        return slice(group * self.cuts, (group + 1) * self.cuts)

    def seconds(self, time: Callable[[Integers, Integers], Array]) -> Array:
        """Return a time of ``Derived`` by cuts and options in seconds, (N, P)."""
        return np.ascontiguousarray(time(self.blocks[:, None], self.option[:, None]).T)

    def timing(self, derived: Derived) -> Integers:
        """Return the index of the first place with the same times, (P,); a table's is its own."""
        first: list[int] = []
        for group, members in enumerate(self.members):
            alike = (
                g for g in range(group) if _same_times(derived, members[0], self.members[g][0])
            )
            first.append(group if group < self.tabled else next(alike, group))
        return np.array(first)[self.group] * self.cuts + self.blocks

    def lowest_cuts(self, derived: Derived) -> Integers:
        """Return the least cut that every device may take in each group, (N, G)."""
        heads = [members[0] for members in self.members]
        return np.ascontiguousarray(derived.option_cut_low[:, heads])


def places_of(derived: Derived) -> Places:
    """Group the options of a cell."""
    groups: dict[tuple[bool, float, int], list[int]] = {}
    coded = bool(np.any(derived.codec_s > 0.0))
    for index, option in enumerate(derived.options):
        factor = option.codec_factor if coded else 1.0
        key = (not _is_tabled(option), factor, option.tokens or 0)
        groups.setdefault(key, []).append(index)
    keys = sorted(groups)
    return Places(
        tuple(tuple(groups[key]) for key in keys),
        sum(not key[0] for key in keys),
        derived.blocks,
    )


def _is_tabled(option: Option) -> bool:
    """Tell whether a merged table may hold an option: its figures are alike at all cuts."""
    if option.tokens is not None:
        return False
    return option.own_loss is None or bool(np.all(option.own_loss == option.own_loss[0]))


def _same_times(derived: Derived, option: int, other: int) -> bool:
    """Tell whether two options have the same device times, of every device."""
    return all(
        np.array_equal(table[:, option], table[:, other])
        for table in (derived.option_s1_base_s, derived.option_s5_base_s)
    )
