"""A point on its way from a solver to the judge: cuts, options and keep fractions as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """Shares of the band, each shape (N,); ``adapter`` counts under the ``total`` law only."""

    uplink: Array
    downlink: Array
    adapter: Array


@dataclass(frozen=True)
class Candidate:
    """What a solver decided; shares follow by :func:`sftopt.core.spectrum.least_time`.

    Only solvers of the small problem (14) give ``shares`` of their own, which are kept.

    ``cuts`` (N,) and ``option_weights`` (N, number of options; rows sum to 1) are integral for
    points of exact formulations and fractional for relaxed ones. ``keep`` (N,) counts only where
    the option has a mask.
    """

    cuts: Array
    option_weights: Array
    keep: Array
    shares: Shares | None = None

    def is_integral(self, tolerance: float = 1e-5) -> bool:
        """Return whether cuts and options are integers up to ``tolerance``."""
        cuts = np.abs(self.cuts - np.rint(self.cuts)).max(initial=0.0)
        options = np.abs(self.option_weights - np.rint(self.option_weights)).max(initial=0.0)
        return bool(max(cuts, options) <= tolerance)

    def choices(self) -> NDArray[np.int64]:
        """Return the index of the heaviest option of every device, shape (N,)."""
        heaviest: NDArray[np.int64] = np.argmax(self.option_weights, axis=1)
        return heaviest

    def to_dict(self) -> dict[str, Any]:
        """Return the candidate as plain JSON data."""
        data = {
            "cuts": self.cuts.tolist(),
            "option_weights": self.option_weights.tolist(),
            "keep": self.keep.tolist(),
        }
        if self.shares is not None:
            data["shares"] = {name: value.tolist() for name, value in vars(self.shares).items()}
        return data

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Candidate:
        """Return the candidate that :meth:`to_dict` wrote as ``data``."""
        return Candidate(
            np.asarray(data["cuts"], dtype=float),
            np.asarray(data["option_weights"], dtype=float),
            np.asarray(data["keep"], dtype=float),
            _shares_from(data.get("shares")),
        )

    @staticmethod
    def of(cuts: NDArray[Any], choices: NDArray[Any], keep: Array, options: int) -> Candidate:
        """Make a candidate from option indices, shape (N,), of ``options`` options."""
        weights = np.zeros((len(cuts), options))
        weights[np.arange(len(cuts)), choices] = 1.0
        return Candidate(np.asarray(cuts, dtype=float), weights, np.asarray(keep, dtype=float))


def _shares_from(data: dict[str, Any] | None) -> Shares | None:
    if data is None:
        return None
    up, down, adapter = (
        np.asarray(data[name], dtype=float) for name in ("uplink", "downlink", "adapter")
    )
    return Shares(up, down, adapter)
