"""Modes with figures of their own in the relaxation: work, memory and losses, mixed by weight.

Where no mode has any, all are what they are without: the same for every mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from sftopt.core.derived import Derived

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mixed:
    """What a mixture takes of every device and of the server, shapes (N,)."""

    s1_none_s: Array
    """Of a device that holds no block, as the next two."""
    s5_none_s: Array
    s3_none_s: Array
    s3_block_s: Array
    activation_bytes: Array
    loss: Array
    """Of modes with a loss of their own, at the cut."""
    loss_by_cut: Array

    def served_s(self, cuts: Array) -> Array:
        """Return the seconds that the server works for each device at ``cuts``; equation (5)."""
        value: Array = self.s3_none_s - cuts * self.s3_block_s
        return value


class Tables:
    """Times, memory and measured losses of every option, shapes (N, O)."""

    def __init__(self, derived: Derived) -> None:
        self.derived = derived
        losses = np.zeros((derived.blocks, len(derived.options)))
        for index, option in enumerate(derived.options):
            if option.own_loss is not None:
                losses[:, index] = option.own_loss
        every = np.broadcast_to(
            np.arange(len(derived.options))[:, None], (len(derived.options), derived.devices)
        )
        none = np.zeros(derived.devices)
        self.s1, self.s5, self.s3, self.s3_block, self.activation = (
            np.broadcast_to(values, every.shape).T
            for values in (
                derived.s1_s(none, every), derived.s5_s(none, every), derived.s3_s(none, every),
                derived.s3_blocks_s(every), derived.activation_bytes(every),
            )
        )  # fmt: skip
        self.losses = PchipInterpolator(np.arange(derived.blocks), losses)
        self.loss_slopes = self.losses.derivative()

    def least_s(self) -> tuple[Array, Array]:
        """Return the least seconds of s1 and s5 of every device, on the options that take least."""
        derived, cuts = self.derived, self.derived.cut_low
        return (
            self.s1.min(axis=1) + cuts * derived.s1_block_s,
            self.s5.min(axis=1) + cuts * derived.s5_block_s,
        )

    def mixed(self, weights: Array, cuts: Array) -> Mixed:
        """Return what ``weights`` (N, O) or (1, O) of options make at ``cuts`` (N,)."""
        tables = (self.s1, self.s5, self.s3, self.s3_block, self.activation)
        if self.derived.plain:  # as if the weights summed to 1, which here they need not
            none = np.zeros(self.derived.devices)
            return Mixed(*(*(table[:, 0] for table in tables), none, none))
        every = (*tables, self.losses(cuts), self.loss_slopes(cuts))
        return Mixed(*((weights * table).sum(axis=1) for table in every))

    def by_weight(
        self, cuts: Array, by_s1: Array, by_s5: Array, by_served: Array, by_memory: Array,
        by_loss: Array,
    ) -> Array | float:  # fmt: skip
        """Return slopes by every weight, shape (N, O), of what mixtures take; 0 for plain modes.

        From slopes (N,) by seconds of s1, s5 and the server, by bytes of a block there, by loss.
        """
        if self.derived.plain:
            return 0.0
        parts = (
            (by_s1, self.s1), (by_s5, self.s5), (by_memory, self.activation),
            (by_served, self.s3 - cuts[:, None] * self.s3_block), (by_loss, self.losses(cuts)),
        )  # fmt: skip
        value: Array = sum((slope[:, None] * table for slope, table in parts), np.zeros(()))
        return value
