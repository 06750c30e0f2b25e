"""The grid of cells on which published systems are compared, fixed before the first run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.studies.cells import FEASIBLE
from sftopt.core.families import generate
from sftopt.core.instance import Instance, Mode, ModeKind, PowerLaw

SERVER_W = 250.0
"""Power of the server at its speed, where the family names no energy coefficient."""
DEVICE_W = 15.0
"""Power of a device at its speed, likewise."""


@dataclass(frozen=True)
class Cell:
    """One cell: a family's, with band and server speed as given."""

    family: str
    devices: int
    band_mhz: float
    server_tflops: float
    seed: int = 0

    @property
    def key(self) -> str:
        """Return the cell's name in rows."""
        return f"{self.family}|{self.devices}|{self.band_mhz:g}|{self.server_tflops:g}|{self.seed}"

    def instance(self) -> Instance:
        """Return the instance.

        Both bands have ``band_mhz`` at the family's power density (the server's power scales with
        the band, the devices' do under psd), the server runs at ``server_tflops`` and down to a
        quarter; modes Top-K, dense in 4 and 8 bits, and none.
        """
        made = generate(self.family, self.devices, self.seed)
        band, speed = self.band_mhz * 1e6, self.server_tflops * 1e12
        radio, psd = made.radio, made.radio.power is PowerLaw.PSD
        up = band / radio.uplink_bandwidth_hz if psd else 1.0
        down = band / radio.downlink_bandwidth_hz  # always a density, equation (3)
        edits = {
            "radio.uplink_bandwidth_hz": band,
            "radio.downlink_bandwidth_hz": band,
            "server.transmit_power_w": made.server.transmit_power_w * down,
            "server.compute_flops_per_s": speed,
            "server.compute_min_flops_per_s": speed / 4.0,
            "server.compute_max_flops_per_s": speed,
            "server.energy_coefficient_j_s2_per_flop3": SERVER_W / speed**3,
            "compression.modes": [mode.model_dump(mode="json") for mode in _modes(made)],
        }
        for index, device in enumerate(made.devices):
            edits[f"devices[{index}].transmit_power_w"] = device.transmit_power_w * up
            if device.energy_coefficient_j_s2_per_flop3 is None:
                kappa = DEVICE_W / device.compute_flops_per_s**3
                edits[f"devices[{index}].energy_coefficient_j_s2_per_flop3"] = kappa
        return made.replace(**edits)


def _modes(instance: Instance) -> list[Mode]:
    """The family's Top-K modes, dense in 4 and 8 bits with a scale for each token, and none."""
    topk = [mode for mode in instance.compression.modes if mode.kind is ModeKind.TOPK]
    sigma = 16.0 / instance.workload.hidden
    dense = [Mode(kind=ModeKind.DENSE, bits=q, side_bits_per_element=sigma) for q in (4, 8)]
    return [*topk, *dense, Mode(kind=ModeKind.NONE, bits=instance.workload.reference_bits)]


def cells() -> list[Cell]:
    """List the 75 cells of seed 0."""
    found = [
        Cell(family, devices, band, speed)
        for family in ("jetson-vit-b", "gpt2-e2e")
        for devices in (4, 10, 30)
        for band in (5.0, 20.0, 100.0)
        for speed in (1.0, 10.0, 100.0)
    ]
    pairs = [(5.0, 1.0), (5.0, 10.0), (5.0, 100.0), (20.0, 1.0), (20.0, 10.0)]
    for family in ("jetson-vit-b", "gpt2-e2e"):
        found += [Cell(family, 100, band, speed) for band, speed in pairs]
    found += [
        Cell("llama-1b", 4, band, speed) for band in (5.0, 20.0) for speed in (1.0, 10.0, 100.0)
    ]
    found += [Cell("weichen", 4, band, speed) for band, speed in pairs]
    return found


SCOPES = ("mean", "each", "common")
"""Scopes of the accuracy limit that random cells have."""


def random_cell(seed: int) -> Instance:
    """Return a random cell of 2 to 6 devices on which every contained scheme can be planned.

    Any feasible family; bands and server speed up to five times and down to a fifth of its own,
    every variant of power law, scope, server order and downlink; Top-K, dense 4 and 8 and none.
    """
    random = np.random.default_rng([seed, 12])
    made = generate(str(random.choice(FEASIBLE)), int(random.integers(2, 7)), seed)
    slack = made.accuracy.uncompressed - made.accuracy.minimum
    edits = {
        "radio.uplink_bandwidth_hz": made.radio.uplink_bandwidth_hz * _factor(random),
        "radio.downlink_bandwidth_hz": made.radio.downlink_bandwidth_hz * _factor(random),
        "radio.power": str(random.choice(["psd", "total"])),
        "radio.downlink": str(random.choice(["kept", "kept", "dense"])),
        "server.compute_flops_per_s": made.server.compute_flops_per_s * _factor(random),
        "server.compute_min_flops_per_s": None,
        "server.compute_max_flops_per_s": None,
        "server_order": str(random.choice(["in_turn", "in_turn", "parallel"])),
        "accuracy.scope": str(random.choice(SCOPES)),
        "accuracy.minimum": made.accuracy.uncompressed - slack * float(random.uniform(1.0, 2.0)),
        "compression.modes": [mode.model_dump(mode="json") for mode in _modes(made)],
    }
    if made.accuracy.minimum_each is not None:
        edits["accuracy.minimum_each"] = None
    return made.replace(**edits)


def _factor(random: np.random.Generator) -> float:
    """A factor between a fifth and five, even in its logarithm."""
    return float(5.0 ** random.uniform(-1.0, 1.0))
