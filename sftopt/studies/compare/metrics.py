"""Figures of a scheme's row that are numbers: what people call each, its unit, when it is null."""

from __future__ import annotations

from dataclasses import dataclass

from sftopt.core.errors import UnknownNameError
from sftopt.core.instance import Instance


@dataclass(frozen=True)
class Metric:
    """One figure of a row: its column, its words, and the unit in which people are shown it."""

    name: str
    words: str
    unit: str = ""
    per_unit: float = 1.0
    """How many of the row's unit make one of ``unit``."""
    unknown: str = "no scheme has a plan in any cell"
    """Why it is null where it is null in every row."""

    @property
    def label(self) -> str:
        """Return words and unit as an axis has them: ``round delay in s``."""
        return f"{self.words} in {self.unit}" if self.unit else self.words

    @property
    def head(self) -> str:
        """Return words and unit as a table's head has them: ``Round delay (s)``."""
        words = self.words[:1].upper() + self.words[1:]
        return f"{words} ({self.unit})" if self.unit else words


_NO_SERVER_ENERGY = (
    "server.energy_coefficient_j_s2_per_flop3 is null: give kappa_s, the watts the server draws "
    "divided by its speed cubed"
)
"""Why the server's energy is null."""
_NO_DEVICE_ENERGY = (
    "devices[*].energy_coefficient_j_s2_per_flop3 is null on some device: give kappa_i, the watts "
    "it draws divided by its speed cubed"
)
"""Why the devices' energy is null."""
_NO_ACCURACY = "no accuracy is known for the modes, as the curve was not calibrated for them"
"""Why an accuracy is null."""
_MB = 1e6
"""Bytes of a megabyte."""
_GB = 1e9
"""Bytes of a gigabyte."""

METRICS = {
    one.name: one
    for one in (
        Metric("round_s", "round delay", "s"),
        Metric("ratio_to_sft", "round delay, sft = 1", unknown="sft has no plan in any cell"),
        Metric("bound_s", "proven bound of the round delay", "s"),
        Metric("parts.device_s", "devices' part of the round", "s"),
        Metric("parts.uplink_s", "uplink part of the round", "s"),
        Metric("parts.server_s", "server's part of the round", "s"),
        Metric("parts.downlink_s", "downlink part of the round", "s"),
        Metric("parts.adapters_s", "adapters' part of the round", "s"),
        Metric("bytes.up", "boundary up of a round", "MB", _MB),
        Metric("bytes.down", "gradient down of a round", "MB", _MB),
        Metric("bytes.adapters", "adapters of a round", "MB", _MB),
        Metric("bytes.side", "labels and masks of a round", "MB", _MB),
        Metric("bytes.head", "head of a round", "MB", _MB),
        Metric("device_memory_max_bytes", "most memory of a device", "GB", _GB),
        Metric("devices_over", "devices beyond their memory"),
        Metric("server_memory_bytes", "server memory", "GB", _GB),
        Metric("energy.server_j", "server energy of a round", "J", unknown=_NO_SERVER_ENERGY),
        Metric("energy.device_j", "devices' energy of a round", "J", unknown=_NO_DEVICE_ENERGY),
        Metric("radiated_w_max", "most radiated power", "W"),
        Metric("accuracy", "accuracy", unknown=_NO_ACCURACY),
        Metric("accuracy_slack", "accuracy over its limit", unknown=_NO_ACCURACY),
    )
}
"""Column -> the figure: every number of a row that can be drawn, tabled, or summed up."""


def metric_of(name: str) -> Metric:
    """Return the figure of column ``name``. Raises UnknownNameError naming the nearest."""
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    return METRICS[name]


def unknown_on(name: str, instance: Instance) -> str | None:
    """Return why a figure cannot be known on an instance, before anything is planned; or None."""
    if name == "energy.server_j" and instance.server.energy_coefficient_j_s2_per_flop3 is None:
        return _NO_SERVER_ENERGY
    devices = [device.energy_coefficient_j_s2_per_flop3 for device in instance.devices]
    return _NO_DEVICE_ENERGY if name == "energy.device_j" and None in devices else None
