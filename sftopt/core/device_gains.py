"""Gains of a table's devices: as given, or by TR 38.901 from where the devices are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sftopt.core.path_loss import Scenario
from sftopt.core.table_faults import LineFault, lines_text
from sftopt.core.unit_suffixes import from_decibel

DEFAULT_ANTENNA_GAIN_DB = 8.0
"""Gain in dB of both antennas together, where gains come from positions."""
BOTH_LINKS = "gain"
"""A gain that holds for uplink and downlink."""
PLACES = ("x_m", "y_m", "z_m", "distance_m")
"""Columns that say where a device is."""


@dataclass(frozen=True)
class Propagation:
    """How a gain follows from a position: a deployment of TR 38.901 and a carrier."""

    scenario: Scenario
    carrier_hz: float
    antenna_gain_db: float = DEFAULT_ANTENNA_GAIN_DB

    def gain(self, distance_m: float) -> float:
        """Return the linear mean gain at a distance on the ground, with antennas.

        The mean over line of sight and none by its probability at that distance, without shadowing.
        """
        ground = np.array([distance_m])
        seen = float(self.scenario.sight_probability(ground)[0])
        clear, hidden = (
            float(self.scenario.path_loss_db(ground, self.carrier_hz, np.array([sight]))[0])
            for sight in (True, False)
        )
        mean = seen * from_decibel(-clear) + (1.0 - seen) * from_decibel(-hidden)
        return mean * from_decibel(self.antenna_gain_db)


def with_gain(
    number: int, row: dict[str, Any], propagation: Propagation | None, faults: list[LineFault]
) -> dict[str, Any]:
    """Return a row with its gains and position as a device's fields; adds what is wrong."""
    kept = {name: value for name, value in row.items() if name not in (*PLACES, BOTH_LINKS)}
    for name in (BOTH_LINKS, "uplink_gain", "downlink_gain"):
        if row.get(name, 0.0) > 1.0:
            faults.append(_lost_sign(number, name, row[name]))
    if BOTH_LINKS in row:
        kept["uplink_gain"] = row[BOTH_LINKS]
    at = [row[name] for name in ("x_m", "y_m", "z_m") if name in row]
    if "x_m" in row and "y_m" in row:
        kept["position_m"] = at
    elif at:
        faults.append(LineFault(number, "x_m", "a position needs both x_m and y_m"))
        return kept
    if "uplink_gain" in kept:
        return kept
    distance = ground_distance_m(row)
    if distance is None:
        said = "no gain; give a column gain_db, or x_m and y_m (distance_m) with --path-loss"
        faults.append(LineFault(number, "gain", said))
    elif propagation is None:
        said = "a position and no gain; say how gains follow, as in --path-loss umi"
        faults.append(LineFault(number, "gain", f"{said} --carrier-ghz 3.5"))
    elif distance < 0.0:
        said = f"distance_m is {distance:g}; it must be at least 0"
        faults.append(LineFault(number, "distance_m", said, distance))
    else:
        kept["uplink_gain"] = propagation.gain(distance)
    return kept


def ground_distance_m(row: Mapping[str, Any]) -> float | None:
    """Return the distance in metres on the ground that a row names; None where it names none."""
    if "distance_m" in row:
        return float(row["distance_m"])
    return math.hypot(row["x_m"], row["y_m"]) if "x_m" in row and "y_m" in row else None


def propagation_notes(
    lines: Sequence[int], rows: Sequence[Mapping[str, Any]], propagation: Propagation
) -> list[str]:
    """Say how gains came from places, and of which devices the model does not reach so near."""
    scenario = propagation.scenario
    notes = [
        f"gains by TR 38.901 {scenario.name} at {propagation.carrier_hz / 1e9:g} GHz with "
        f"{propagation.antenna_gain_db:g} dB of antennas, mean over line of sight, without "
        "shadowing"
    ]
    least = scenario.least_distance_m
    distances = [(line, ground_distance_m(row)) for line, row in zip(lines, rows, strict=True)]
    near = [line for line, metres in distances if metres is not None and metres < least]
    if near:
        notes.append(
            f"{lines_text(near)}: nearer than {least:g} m, where {scenario.name} begins; the gain "
            "is that of there (is the distance in metres?)"
        )
    return notes


def _lost_sign(number: int, name: str, gain: float) -> LineFault:
    """A link that gives out more power than it takes in: most often a loss without its minus."""
    decibel = 10.0 * math.log10(gain)
    said = (
        f"{name}_db is {decibel:g}; a link's gain is at most 0 dB. A loss of {decibel:g} dB is "
        f"{name}_db {-decibel:g}, or path_loss_db {decibel:g}"
    )
    return LineFault(number, name, said, gain)
