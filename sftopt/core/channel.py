"""Spectral efficiency and the discrete fading law of equation (3), shared by judge and models."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from sftopt.core.instance import Fading, Radio

FADING_POINTS = 16
"""Equiprobable gains that stand for the fading law; by definition, not an approximation."""


@lru_cache(maxsize=64)
def _gamma_midpoints(branches: int) -> tuple[float, ...]:
    middle = (np.arange(FADING_POINTS) + 0.5) / FADING_POINTS
    return tuple((gammaincinv(branches, middle) / branches).tolist())


def fading_gains(radio: Radio) -> NDArray[np.float64]:
    """h_k, shape (16,) under gamma fading, (1,) without: quantile midpoints of Gamma(n_c, 1/n_c).

    Equation (3). Every gain has the same probability.
    """
    if radio.fading is Fading.NONE:
        return np.ones(1)
    return np.array(_gamma_midpoints(radio.diversity_branches))


def spectral_efficiency(
    snr: NDArray[np.float64] | float, radio: Radio, gains: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean of min(log2(1 + snr h_k / Gamma), C_max) over the gains, in bit/s/Hz; equation (3).

    ``snr`` may have any shape; the result has the same.
    """
    snr = np.asarray(snr, dtype=float)
    each = np.log2(1.0 + snr[..., None] * gains / radio.snr_gap)
    mean: NDArray[np.float64] = np.minimum(each, radio.efficiency_cap_bits_per_s_hz).mean(axis=-1)
    return mean
