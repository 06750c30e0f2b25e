"""The sections of ``calibration.json``; what they mean to an instance: :mod:`..calibration`."""

from __future__ import annotations

import hashlib
import math
import os
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sftopt.core.codec_files import named, without_places
from sftopt.core.errors import InputError
from sftopt.core.fields import (
    Count,
    Finite,
    Fraction,
    Frozen,
    NonNegative,
    Positive,
    PositiveCount,
    Text,
    Versioned,
)
from sftopt.core.files import canonical_json, write_json
from sftopt.core.instance import Mode, Workload
from sftopt.core.target_laws import TargetLaws


class AccuracyCurve(StrEnum):
    """Which curve of the calibration an instance gets."""

    LOWER = "lower"
    """Below the fit by its confidence band: a limit planned on it is met with that confidence."""
    FIT = "fit"
    """The fit itself."""


class Speeds(StrEnum):
    """What becomes of the speeds of devices and server."""

    DECLARED = "declared"
    """They stay; FLOP are counted by formula."""
    MEASURED = "measured"
    """The median device becomes the machine that was measured, and FLOP are such that at its speed
    every part of the model takes the seconds measured."""


class Source(Frozen):
    """What was measured, where and with what."""

    model: Text = Field(description="folder, hub id or configuration")
    model_hash: Text = Field(description="sha256 of configuration and weights")
    task: Text = ""
    task_fingerprint: Text = ""
    seed: Count = 0
    machine: Text = Field(default="", description="processor or accelerator")
    threads: PositiveCount = 1
    versions: dict[str, str] = Field(default_factory=dict)
    command: Text = ""


class BatchProfile(Frozen):
    """Seconds and bytes of one batch size. Lists: one entry for each block."""

    batch: PositiveCount
    embedding_forward_cpu_s: NonNegative
    embedding_forward_wall_s: NonNegative
    block_forward_cpu_s: tuple[NonNegative, ...]
    block_forward_wall_s: tuple[NonNegative, ...]
    block_backward_cpu_s: tuple[NonNegative, ...]
    block_backward_wall_s: tuple[NonNegative, ...]
    head_cpu_s: NonNegative = Field(description="what the server does beside its blocks")
    head_wall_s: NonNegative
    cut: PositiveCount = Field(description="blocks held in the two following figures")
    device_peak_bytes: NonNegative = Field(description="most tensor bytes alive in one step")
    device_predicted_bytes: NonNegative = Field(description="equation (10) with this workload")


class Profile(Frozen):
    """The model's blocks on the machine measured; FLOP and bytes per sample and block."""

    attention: Text
    reference_batch: PositiveCount = Field(description="the batch that speed and FLOP are taken at")
    batches: tuple[BatchProfile, ...] = Field(min_length=1)
    clock: Literal["cpu", "wall"] = Field(
        default="cpu", description="whose seconds give the speed: cpu on one thread, wall on a GPU"
    )
    speed_flops_per_s: Positive = Field(
        description="(F^f + F^b) b over the seconds of a block forward and backward"
    )
    embedding_forward_flops: NonNegative = Field(description="seconds times speed, per sample")
    block_forward_flops: Positive = Field(description="seconds times speed, per sample")
    block_backward_flops: Positive = Field(description="seconds times speed, per sample")
    head_flops: NonNegative = Field(description="seconds times speed, per sample")
    block_forward_flops_counted: NonNegative = Field(description="by torch's FlopCounterMode")
    block_backward_flops_counted: NonNegative
    block_activation_bytes_formula: NonNegative = Field(
        description="m_a by formula; the workload holds the measured one"
    )


class CodecRow(Frozen):
    """One mode at one keep fraction. Bits per element are means over tensors."""

    mode: Text
    bits: PositiveCount
    keep: Fraction
    uplink_bits: Positive = Field(description="on the tensors the mode was calibrated on")
    uplink_bits_predicted: Positive = Field(description="equation (1)")
    uplink_bits_held_out: Positive = Field(description="on other tensors")
    downlink_bits: Positive
    downlink_bits_predicted: Positive = Field(description="equation (2)")
    downlink_bits_held_out: Positive
    encode_s_per_element: NonNegative = Field(description="device, up; processor seconds")
    decode_gradient_s_per_element: NonNegative = Field(description="device, down")
    decode_s_per_element: NonNegative = Field(description="server, up")
    encode_gradient_s_per_element: NonNegative = Field(description="server, down")


class CodecProfile(Frozen):
    """The boundary codec: measured modes and what they cost."""

    config: dict[str, Any] = Field(description="of the codec; bits and keep are the mode's")
    cut: Count = Field(description="blocks before the boundary measured")
    tensors: PositiveCount = Field(description="tensors calibrated on")
    elements: PositiveCount = Field(description="elements per tensor")
    seconds_per_element: NonNegative = Field(
        description="e_n on the machine measured: mean of encoding and of decoding the gradient"
    )
    modes: tuple[Mode, ...]
    rows: tuple[CodecRow, ...]


class Curve(Frozen):
    """a(rho, q) = a_0 - a_1 exp(-a_2 rho) - a_3 rho 4^-q, equation (12)."""

    uncompressed: Finite = Field(description="a_0")
    keep_loss: NonNegative = Field(description="a_1")
    keep_decay: Positive = Field(description="a_2")
    quantisation_loss: NonNegative = Field(description="a_3")
    quantisation_scales_with_keep: bool = Field(description="false: the noise term is a_3 4^-q")

    def loss(self, keep: float, bits: float) -> float:
        """Return the loss a_0 - a(rho, q) in the unit of the metric: a fraction, or nats."""
        noise = self.quantisation_loss * math.pow(4.0, -bits)
        if self.quantisation_scales_with_keep:
            noise *= keep
        return self.keep_loss * math.exp(-self.keep_decay * keep) + noise

    def value(self, keep: float, bits: float) -> float:
        """Return the accuracy a(rho, q) in the unit of the metric: a fraction, or nats."""
        return self.uncompressed - self.loss(keep, bits)


class GridCell(Frozen):
    """The runs of one keep fraction and number of bits."""

    keep: Fraction
    bits: PositiveCount
    metric: tuple[Finite, ...] = Field(description="of each seed")
    loss: tuple[Finite, ...] = Field(description="below the uncompressed run of the same seed")
    fitted_loss: Finite
    half_width: NonNegative = Field(description="of the confidence band there")


class EcsqCell(Frozen):
    """The runs of the dead-zone quantiser at one target entropy; every element is sent."""

    target_bits: Positive
    value_bits: Positive = Field(description="eta_q measured")
    side_bits_per_element: NonNegative = Field(description="sigma measured")
    metric: tuple[Finite, ...]
    loss: tuple[Finite, ...]
    mean_loss: Finite
    half_width: NonNegative


class AccuracyFit(Frozen):
    """Equation (12) fitted to short fine-tunings."""

    metric: Text
    fit: Curve
    lower: Curve = Field(description="a curve of the same form at or below fit - band everywhere")
    confidence: Fraction = 0.95
    method: Text
    half_width: NonNegative = Field(description="largest of the band over the calibrated range")
    uncompressed_half_width: NonNegative = Field(description="of a_0 alone, over the seeds")
    keep_from: Fraction
    keep_to: Fraction
    bits_from: PositiveCount
    bits_to: PositiveCount
    uncompressed: tuple[Finite, ...] = Field(description="metric of each seed without compression")
    seeds: tuple[Count, ...]
    cells: tuple[GridCell, ...] = Field(min_length=1)
    ecsq: tuple[EcsqCell, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict, description="of every run")

    def curve(self, which: AccuracyCurve) -> Curve:
        """Return the fit or the lower curve."""
        return self.lower if which is AccuracyCurve.LOWER else self.fit

    def ecsq_levels(self, which: AccuracyCurve = AccuracyCurve.LOWER) -> dict[int, EcsqCell]:
        """Choose dead-zone levels, by the ``bits`` that name them in mode ``dense``.

        Equation (12) knows no loss of a mode of its own. A level gets the largest whole q at which
        the curve at rho = 1 loses at least what was measured (on the lower curve: measured plus its
        half width), so that a plan can only be better than said; of levels with the same q the one
        of fewest bits per element stays. A level that loses more than the curve does at q = 1 is
        left out.
        """
        curve = self.curve(which)
        found: dict[int, EcsqCell] = {}
        for cell in sorted(self.ecsq, key=lambda cell: -cell.value_bits):
            extra = cell.half_width if which is AccuracyCurve.LOWER else 0.0
            # against the fit's a_0: the lower curve may begin below it
            lost = cell.mean_loss + extra - (self.fit.uncompressed - curve.uncompressed)
            fitting = [bits for bits in range(1, 33) if curve.loss(1.0, bits) >= lost]
            if fitting:
                found[fitting[-1]] = cell
        return found


class OperatingPoint(Frozen):
    """A codec at a set rate, measured in fine-tunings: a mode with figures of its own."""

    mode: Mode = Field(description="bits up and down as sent, loss by cut, codec seconds")
    codec: dict[str, Any] = Field(description="the codec and its options")
    cuts: tuple[Count, ...] = Field(description="blocks on the devices of the fine-tunings")
    losses: tuple[tuple[Finite, ...], ...] = Field(
        description="of each cut, each seed: uncompressed metric less the point's"
    )


class Calibration(Versioned):
    """One measured model on one task."""

    name: Text
    source: Source
    workload: Workload = Field(
        description="FLOP by formula; bytes measured: m_w, m_s, m_a, m_0b, and m_0 without the "
        "runtime, that is the embedding"
    )
    profile: Profile
    codec: CodecProfile
    accuracy: AccuracyFit | None = Field(description="null: no fine-tunings were run")
    time_to_target: TargetLaws | None = Field(
        default=None, description="rounds to a target level; null: not measured"
    )

    points: tuple[OperatingPoint, ...] = Field(
        default=(), description="a menu of codecs, offered to plans besides the modes"
    )

    def point(self, label: str | None) -> OperatingPoint | None:
        """Return the point whose mode has this label; None where none has."""
        return next((one for one in self.points if one.mode.label == label), None)

    @cached_property
    def hash(self) -> str:
        """Hash the canonical JSON by sha256; where files of codecs lie does not count."""
        data = self.to_dict()
        for point in data.get("points", ()):
            point["codec"] = without_places(point["codec"])
        return hashlib.sha256(canonical_json(data).encode()).hexdigest()

    def accuracy_fit(self) -> AccuracyFit:
        """Return the fit. Raises InputError where no fine-tunings were run."""
        if self.accuracy is None:
            raise InputError(f"calibration '{self.name}' holds no fine-tunings.")
        return self.accuracy

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as plain JSON data, without laws of rounds or points it has not.

        A calibration made before there were any keeps its hash so.
        """
        data = self.model_dump(mode="json")
        if self.time_to_target is None:
            del data["time_to_target"]
        if not self.points:
            del data["points"]
        return data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, all or not at all. Raises InputError where that fails.

        Files of codecs are named from there: :mod:`sftopt.core.codec_files`.
        """
        data = self.to_dict()
        for point in data.get("points", ()):
            point["codec"] = named(point["codec"], Path(path).parent, self.source.model)
        write_json(path, data)
