"""Channels over time (section 6 of ``MODEL.md``): mean gains per frame, fading gains per round.

A round's rate is averaged over ``coherence_blocks`` independent blocks. A block's fading is the
mean power of ``diversity_branches`` branches (the instance's n_c), each Rayleigh or Rician, so
that its law is the one behind the statistics of the large problem; every branch is a first-order
autoregression from round to round whose coefficient follows Doppler.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import j0

from sftopt.core.channel import RoundChannel
from sftopt.core.fields import Frozen
from sftopt.core.instance import Fading, Instance
from sftopt.core.path_loss import SPEED_OF_LIGHT_M_PER_S, URBAN_MACRO, URBAN_MICRO, Scenario
from sftopt.core.randomness import draws

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ChannelKind(StrEnum):
    """Where a device's mean gain comes from."""

    INSTANCE = "instance"
    """The instance's gains, constant over time."""
    UMA = "uma"
    """3GPP TR 38.901 urban macro: positions, path loss and shadowing are drawn."""
    UMI = "umi"
    """3GPP TR 38.901 urban micro street canyon."""


class ChannelModel(Frozen):
    """What a simulated channel is made of; every default is ours unless a source is named."""

    kind: ChannelKind = ChannelKind.INSTANCE
    coherence_blocks: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=4, description="independent blocks a round's rate is averaged over"
    )
    rician_k_db: float | None = Field(
        default=None, description="line-of-sight power over scattered power; null: Rayleigh"
    )
    speed_m_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    carrier_hz: _Positive = 3.5e9
    sample_interval_s: _Positive = Field(
        default=0.02, description="time between the channel samples of successive rounds"
    )
    correlation: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="autoregression coefficient; null: max(J0(2 pi f_D interval), 0)"
    )
    cell_radius_m: _Positive = 200.0
    antenna_gain_db: float = Field(default=8.0, description="both ends together, uma and umi")
    frame_distance_m: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=25.0, description="how far a device walks from frame to frame, uma and umi"
    )

    @property
    def coefficient(self) -> float:
        """Return the autoregression coefficient without unit: Jakes' J0, cut off at 0."""
        if self.correlation is not None:
            return self.correlation
        doppler_hz = self.speed_m_per_s * self.carrier_hz / SPEED_OF_LIGHT_M_PER_S
        return max(float(j0(2.0 * math.pi * doppler_hz * self.sample_interval_s)), 0.0)


@dataclass(frozen=True)
class Sample:
    """The channel of one round and the mean gains of its frame, shape (N,)."""

    frame: int
    round: int
    uplink_mean_gain: Array
    downlink_mean_gain: Array
    channel: RoundChannel


class ChannelSource(Protocol):
    """A channel over time: drawn, or read from a table."""

    def samples(self, instance: Instance, rounds: int, frame_rounds: int) -> Iterator[Sample]:
        """Yield the channel of rounds 0, 1, ...; the same ones every time it is called."""
        ...


@dataclass(frozen=True)
class SimulatedChannel:
    """A seeded draw of a :class:`ChannelModel`."""

    model: ChannelModel
    seed: int

    def samples(self, instance: Instance, rounds: int, frame_rounds: int) -> Iterator[Sample]:
        """Yield the channel of rounds 0 to ``rounds`` - 1, in frames of ``frame_rounds`` each."""
        count, blocks = len(instance.devices), self.model.coherence_blocks
        means = self._frame_means(instance)
        faded = instance.radio.fading is not Fading.NONE
        shape = (2, count, blocks, instance.radio.diversity_branches)
        fading = self._fading(shape) if faded else None
        up = down = np.zeros(count)
        for number in range(rounds):
            if number % frame_rounds == 0:
                up, down = next(means)
            gain = np.ones((2, count, 1)) if fading is None else next(fading)
            channel = RoundChannel(up[:, None] * gain[0], down[:, None] * gain[1])
            yield Sample(number // frame_rounds, number, up, down, channel)

    def _fading(self, shape: tuple[int, ...]) -> Iterator[Array]:
        """Power gains of mean 1, shape (link, device, block), branches averaged."""
        source = draws("channel", self.seed, "fading")
        factor = self.model.coefficient
        sight = _sight_fraction(self.model.rician_k_db)
        state = _complex_normal(source, shape)
        while True:
            field = math.sqrt(sight) + math.sqrt(1.0 - sight) * state
            yield (field.real**2 + field.imag**2).mean(axis=-1)
            fresh = _complex_normal(source, shape)
            state = factor * state + math.sqrt(1.0 - factor * factor) * fresh

    def _frame_means(self, instance: Instance) -> Iterator[tuple[Array, Array]]:
        """Mean gains up and down of every frame."""
        if self.model.kind is ChannelKind.INSTANCE:
            up = np.array([device.uplink_gain for device in instance.devices])
            down = np.array([device.gain_down for device in instance.devices])
            while True:
                yield up, down
        scenario = URBAN_MACRO if self.model.kind is ChannelKind.UMA else URBAN_MICRO
        for gain in _walks(scenario, self.model, len(instance.devices), self.seed):
            yield gain, gain  # path loss and shadowing are the same both ways


def _sight_fraction(rician_k_db: float | None) -> float:
    """K / (K + 1): the share of the power that comes on the direct way."""
    if rician_k_db is None:
        return 0.0
    factor = math.pow(10.0, rician_k_db / 10.0)
    return factor / (factor + 1.0)


def _complex_normal(source: np.random.Generator, shape: tuple[int, ...]) -> Complex:
    """Circular complex normal of mean power 1."""
    parts = source.standard_normal((*shape, 2)) * math.sqrt(0.5)
    value: Complex = parts[..., 0] + 1j * parts[..., 1]
    return value


def _walks(scenario: Scenario, model: ChannelModel, count: int, seed: int) -> Iterator[Array]:
    """Mean gains, shape (N,), frame by frame: devices walk straight, reflected at the cell edge.

    Line of sight is drawn once per device; shadowing is correlated over the distance walked.
    """
    source = draws("channel", seed, "positions")
    radius = model.cell_radius_m * np.sqrt(source.random(count))
    angle = 2.0 * np.pi * source.random(count)
    place = radius * np.exp(1j * angle)
    heading = np.exp(2j * np.pi * source.random(count))
    sight = source.random(count) < scenario.sight_probability(np.abs(place))
    shadow = source.standard_normal(count)
    kept = np.exp(-model.frame_distance_m / scenario.correlation_m(sight))
    while True:
        loss = scenario.path_loss_db(np.abs(place), model.carrier_hz, sight)
        loss = loss + scenario.deviation_db(sight) * shadow
        yield 10.0 ** ((model.antenna_gain_db - loss) / 10.0)
        moved = place + model.frame_distance_m * heading
        outside = np.abs(moved) > model.cell_radius_m
        heading = np.where(outside, -heading, heading)
        inward = place + model.frame_distance_m * heading
        place = np.where(outside, inward, moved)
        distance = np.abs(place)
        place = place * np.minimum(1.0, model.cell_radius_m / np.maximum(distance, 1e-9))
        shadow = kept * shadow + np.sqrt(1.0 - kept**2) * source.standard_normal(count)


def at_means(instance: Instance, sample: Sample) -> Instance:
    """Return ``instance`` with a frame's mean gains, itself if they are unchanged."""
    devices = []
    same = True
    for device, up, down in zip(
        instance.devices, sample.uplink_mean_gain, sample.downlink_mean_gain, strict=True
    ):
        same = same and device.uplink_gain == up and device.gain_down == down
        change = {"uplink_gain": float(up), "downlink_gain": float(down)}
        devices.append(device.model_copy(update=change))
    if same:
        return instance
    # not model_copy: that would carry the old instance's hash along
    values = {name: getattr(instance, name) for name in Instance.model_fields}
    return Instance.model_validate({**values, "devices": tuple(devices)})
