"""Large-scale propagation of 3GPP TR 38.901: path loss, line of sight, shadowing.

Urban macro (UMa) and urban micro street canyon (UMi), tables 7.4.1-1, 7.4.2-1 and 7.5-6 of TR
38.901 V17. Outdoor devices at street level: no penetration loss, and below 13 m the height term
of the line-of-sight probability is 0 and the effective environment height is 1 m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0
"""Speed of light in vacuum."""
_ENVIRONMENT_HEIGHT_M = 1.0
"""Effective height of the surroundings, note 1 of table 7.4.1-1."""


@dataclass(frozen=True)
class Scenario:
    """One deployment of TR 38.901; distances in metres, losses in dB."""

    name: str
    base_station_height_m: float
    device_height_m: float
    near: tuple[float, float, float]
    """PL1 = near[0] + near[1] log10(d_3D) + near[2] log10(f_GHz)."""
    far_height_db: float
    """PL2 = near[0] + 40 log10(d_3D) + near[2] log10(f_GHz) - this log10(d_BP^2 + dh^2)."""
    shadowed: tuple[float, float, float, float]
    """NLOS: [0] + [1] log10(d_3D) + [2] log10(f_GHz) - [3] (h_device - 1.5)."""
    sight_decay_m: float
    """Line of sight: 18/d + exp(-d / this) (1 - 18/d) beyond 18 m."""
    sight_deviation_db: float
    shadow_deviation_db: float
    sight_correlation_m: float
    shadow_correlation_m: float
    least_distance_m: float

    def sight_probability(self, ground_m: Array) -> Array:
        """Return the probability of line of sight at a distance, table 7.4.2-1; same shape."""
        far = np.maximum(ground_m, 18.0)
        value: Array = 18.0 / far + np.exp(-far / self.sight_decay_m) * (1.0 - 18.0 / far)
        return value

    def path_loss_db(self, ground_m: Array, carrier_hz: float, sight: NDArray[np.bool_]) -> Array:
        """Return the loss without shadowing in dB, table 7.4.1-1; same shape as ``ground_m``."""
        ground = np.maximum(ground_m, self.least_distance_m)
        height = self.base_station_height_m - self.device_height_m
        distance = np.hypot(ground, height)
        gigahertz = np.log10(carrier_hz / 1e9)
        effective = (self.base_station_height_m - _ENVIRONMENT_HEIGHT_M) * (
            self.device_height_m - _ENVIRONMENT_HEIGHT_M
        )
        breakpoint_m = 4.0 * effective * carrier_hz / SPEED_OF_LIGHT_M_PER_S
        base, slope, frequency = self.near
        log_distance = np.log10(distance)
        near = base + slope * log_distance + frequency * gigahertz
        bend = self.far_height_db * np.log10(breakpoint_m**2 + height**2)
        far = base + 40.0 * log_distance + frequency * gigahertz - bend
        clear = np.where(ground <= breakpoint_m, near, far)
        first, rise, colour, per_height = self.shadowed
        behind = first + rise * log_distance + colour * gigahertz
        behind = behind - per_height * (self.device_height_m - 1.5)
        loss: Array = np.where(sight, clear, np.maximum(clear, behind))
        return loss

    def deviation_db(self, sight: NDArray[np.bool_]) -> Array:
        """Return the standard deviation of the log-normal shadowing in dB, shape of ``sight``."""
        return np.where(sight, self.sight_deviation_db, self.shadow_deviation_db)

    def correlation_m(self, sight: NDArray[np.bool_]) -> Array:
        """Return the distance in metres over which shadowing falls to 1/e, shape of ``sight``."""
        return np.where(sight, self.sight_correlation_m, self.shadow_correlation_m)


URBAN_MACRO = Scenario(
    name="uma", base_station_height_m=25.0, device_height_m=1.5,
    near=(28.0, 22.0, 20.0), far_height_db=9.0, shadowed=(13.54, 39.08, 20.0, 0.6),
    sight_decay_m=63.0, sight_deviation_db=4.0, shadow_deviation_db=6.0,
    sight_correlation_m=37.0, shadow_correlation_m=50.0, least_distance_m=35.0,
)  # fmt: skip
"""The cell UMa of TR 38.901: a base station above the roofs."""
URBAN_MICRO = Scenario(
    name="umi", base_station_height_m=10.0, device_height_m=1.5,
    near=(32.4, 21.0, 20.0), far_height_db=9.5, shadowed=(22.4, 35.3, 21.3, 0.3),
    sight_decay_m=36.0, sight_deviation_db=4.0, shadow_deviation_db=7.82,
    sight_correlation_m=10.0, shadow_correlation_m=13.0, least_distance_m=10.0,
)  # fmt: skip
"""The cell UMi of TR 38.901: a base station in a street canyon."""
