"""Spectral efficiency and the discrete fading law of equation (3), shared by judge and models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from sftopt.core.errors import InputError
from sftopt.core.instance import Fading, Instance, Radio

LN2 = math.log(2.0)
"""Nats per bit; of its own, as the judge's algebra is."""
FADING_POINTS = 16
"""Equiprobable gains that stand for the fading law; by definition, not an approximation."""


@lru_cache(maxsize=64)
def _gamma_midpoints(branches: int) -> tuple[float, ...]:
    middle = (np.arange(FADING_POINTS) + 0.5) / FADING_POINTS
    return tuple((gammaincinv(branches, middle) / branches).tolist())


def fading_gains(radio: Radio) -> NDArray[np.float64]:
    """Return the fading gains h_k without unit, shape (16,) under gamma fading, (1,) without:
    quantile midpoints of Gamma(n_c, 1/n_c).

    Equation (3). Every gain has the same probability.
    """
    if radio.fading is Fading.NONE:
        return np.ones(1)
    return np.array(_gamma_midpoints(radio.diversity_branches))


def spectral_efficiency(
    snr: NDArray[np.float64] | float, radio: Radio, gains: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of min(log2(1 + snr h_k / Gamma), C_max) over gains in bit/s/Hz, (3).

    ``snr`` may have any shape; the result has the same.
    """
    return mean_efficiency(np.asarray(snr, dtype=float)[..., None] * gains, radio)


_WEAK = 2.0**-10
"""A signal below this, to noise, loses digits in 1 + s; above it, plans keep their figures to the
last bit."""


def mean_efficiency(snr: NDArray[np.float64], radio: Radio) -> NDArray[np.float64]:
    """Return the mean of min(log2(1 + snr / Gamma), C_max) over the last axis in bit/s/Hz, (3)."""
    ratio = snr / radio.snr_gap
    each = np.log2(1.0 + ratio)
    weak = ratio < _WEAK
    if weak.any():
        each = np.where(weak, np.log1p(ratio) / LN2, each)
    capped = np.minimum(each, radio.efficiency_cap_bits_per_s_hz)
    # what `capped.mean(axis=-1)` returns, in a third of its time: the judge asks device by device
    mean: NDArray[np.float64] = np.add.reduce(capped, axis=-1) / capped.shape[-1]
    return mean


@dataclass(frozen=True)
class RoundChannel:
    """The known channel of one round: what problem (14) is solved for.

    ``uplink_gain`` and ``downlink_gain`` are linear power gains incl. antennas, shape (N, k): k
    equally long coherence blocks, over which the round's rates are averaged. Devices stand in the
    instance's order. Raises InputError where shapes differ or a gain is no number or negative.
    """

    uplink_gain: NDArray[np.float64]
    downlink_gain: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.uplink_gain.ndim != 2 or self.uplink_gain.shape != self.downlink_gain.shape:
            raise InputError(
                f"gains of a round have shape (devices, blocks), the same up and down; got "
                f"{self.uplink_gain.shape} and {self.downlink_gain.shape}"
            )
        for name, gain in (("uplink", self.uplink_gain), ("downlink", self.downlink_gain)):
            if not np.all(np.isfinite(gain)) or np.any(gain < 0.0):
                raise InputError(f"{name} gains of a round must be finite and not negative")

    def of(self, instance: Instance) -> RoundChannel:
        """Return the channel if it has a row per device of ``instance``; raise InputError else."""
        if len(self.uplink_gain) != len(instance.devices):
            raise InputError(
                f"the round's channel has {len(self.uplink_gain)} devices, instance "
                f"'{instance.name}' has {len(instance.devices)}"
            )
        return self


def statistical_channel(instance: Instance) -> RoundChannel:
    """Return the fading law of equation (3) as gains: g_n h_k, shape (N, 16) or (N, 1)."""
    fading = fading_gains(instance.radio)
    up = np.array([device.uplink_gain for device in instance.devices])
    down = np.array([device.gain_down for device in instance.devices])
    return RoundChannel(up[:, None] * fading, down[:, None] * fading)
