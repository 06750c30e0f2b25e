"""Centre and spread of each channel as the receiver of a dead-zone payload will see them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sftopt.training.codec.base import FloatArray
from sftopt.training.codec.container import Reader
from sftopt.training.codec.contexts import ClassArray, classes_of
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.quantiser import from_bfloat16, to_bfloat16

_MEAN_UNIT = 16.0
"""Means are stored in sixteenths of the spread."""
_LARGEST_MEAN = 32767.0 / _MEAN_UNIT
"""In spreads: what 16 bits hold."""
_LARGEST_SPREAD = 0x7680
"""2^110 as bfloat16."""
_LEAST_SPREAD = 1e-37
"""Below, a spread has no float32 reciprocal worth having."""


@dataclass(frozen=True)
class Channels:
    """Centre and spread of each channel, shape (channels,)."""

    means: NDArray[np.int16]
    spreads: NDArray[np.uint16]

    @property
    def spread(self) -> FloatArray:
        """Return the standard deviations in the unit of the tensor, rounded to bfloat16."""
        return from_bfloat16(self.spreads)

    @property
    def centre(self) -> FloatArray:
        """Return the means in the unit of the tensor, rounded to sixteenths of the spread."""
        return self.means.astype(np.float32) * (self.spread / np.float32(_MEAN_UNIT))

    @property
    def inverse(self) -> FloatArray:
        """Return the factors a centred value is multiplied by; 0 for a constant channel."""
        spread = self.spread
        return np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > _LEAST_SPREAD)

    @classmethod
    def from_moments(
        cls, means: NDArray[np.float64], squares: NDArray[np.float64], scaling: float
    ) -> tuple[Channels, ClassArray]:
        """Return the channels of given means and mean squares, and the scaled channels' classes.

        Raises :class:`CodecError` where the moments say that there was NaN or infinity.
        """
        if not (np.all(np.isfinite(means)) and np.all(squares < 2.0**219)):
            raise CodecError("the tensor holds NaN, infinity or a mean square above 8e65")
        deviations = np.sqrt(np.maximum(squares - means**2, 0.0))
        common = math.sqrt(float(np.mean(deviations**2)))
        spreads = deviations**scaling * common ** (1.0 - scaling)
        # a constant channel is carried by its centre alone
        spreads = np.maximum(spreads, np.abs(means) / (0.9 * _LARGEST_MEAN))
        channels = cls(np.zeros(means.size, np.int16), to_bfloat16(spreads.astype(np.float32)))
        unit = channels.spread.astype(np.float64) / _MEAN_UNIT
        scaled = np.divide(means, unit, out=np.zeros_like(means), where=unit > 0.0)
        centres = np.clip(np.rint(scaled), -32767, 32767).astype(np.int16)
        left = np.divide(deviations, spreads, out=np.zeros_like(means), where=spreads > 0.0)
        return cls(centres, channels.spreads), classes_of(left)

    def to_bytes(self) -> bytes:
        """Return means, then spreads."""
        return self.means.astype("<i2").tobytes() + self.spreads.astype("<u2").tobytes()

    @classmethod
    def read(cls, reader: Reader, channels: int) -> Channels:
        """Read the channels of a payload."""
        means = reader.array("<i2", channels, "channel centres").astype(np.int16)
        spreads = reader.array("<u2", channels, "channel spreads").astype(np.uint16)
        if np.any(spreads > _LARGEST_SPREAD):
            raise CodecError("payload damaged: a channel's spread is negative or above 2^110")
        return cls(means, spreads)
