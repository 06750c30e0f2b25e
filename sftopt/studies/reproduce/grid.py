"""The grid of cells on which claims are tried, fixed before the first run."""

from __future__ import annotations

from dataclasses import dataclass

from sftopt.core.families import generate
from sftopt.core.files import read_json
from sftopt.core.instance import Instance, Mode, ModeKind, PowerLaw
from sftopt.core.library import DATA

SERVER_W = 250.0
"""Power of the server at its speed."""
DEVICE_W = 15.0
"""Power of a device at its speed, where the family names no energy coefficient."""
GRID = DATA / "claims" / "grid.json"
"""The cells; package data."""


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
            "compression.modes": [mode.model_dump(mode="json") for mode in grid_modes(made)],
        }
        for index, device in enumerate(made.devices):
            edits[f"devices[{index}].transmit_power_w"] = device.transmit_power_w * up
            if device.energy_coefficient_j_s2_per_flop3 is None:
                kappa = DEVICE_W / device.compute_flops_per_s**3
                edits[f"devices[{index}].energy_coefficient_j_s2_per_flop3"] = kappa
        return made.replace(**edits)


def grid_modes(instance: Instance) -> list[Mode]:
    """List the family's Top-K modes, dense in 4 and 8 bits with a scale for each token, and none.

    In the order in which the grid's cells offer them.
    """
    topk = [mode for mode in instance.compression.modes if mode.kind is ModeKind.TOPK]
    sigma = 16.0 / instance.workload.hidden
    dense = [Mode(kind=ModeKind.DENSE, bits=q, side_bits_per_element=sigma) for q in (4, 8)]
    return [*topk, *dense, Mode(kind=ModeKind.NONE, bits=instance.workload.reference_bits)]


def cells(seed: int = 0) -> list[Cell]:
    """List the cells of the grid, drawn with ``seed``."""
    found = read_json(GRID, "grid of claims")["cells"]
    return [Cell(family, n, float(mhz), float(tflops), seed) for family, n, mhz, tflops in found]
