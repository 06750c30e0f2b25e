"""One line of ``rows.jsonl``, as data: what ``sftopt simulate`` and ``sftopt finetune`` write.

The commands write plain JSON objects; these models say what stands in them, for readers and for
``sftopt schema row``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, RootModel

from sftopt.core.fields import Count, Finite, Frozen, Name, NonNegative, Positive, PositiveCount
from sftopt.core.plan import Aggregation, Order


class SimulationRow(Frozen):
    """One round of ``sftopt simulate``; delays are the judge's."""

    round: Count = Field(description="from 0")
    frame: Count = Field(description="from 0")
    status: Literal["ok", "devices_skipped", "infeasible"]
    outage: tuple[str, ...] | None = Field(
        default=None, description="ids of devices without a usable rate, where there are any"
    )
    resolved_s: Positive | None = Field(
        default=None, description="shares solved anew; like all delays absent where infeasible"
    )
    equal_s: Positive | None = Field(default=None, description="equal shares")
    held_s: Positive | None = Field(default=None, description="the plan's own shares")
    scenario_s: Positive | None = Field(
        default=None, description="the sample-average plan with shares solved anew"
    )
    clairvoyant_bound_s: Positive | None = Field(
        default=None, description="certified: no plan of this round is faster"
    )
    clairvoyant_s: Positive | None = Field(default=None, description="a plan that reaches it")
    shares: dict[Literal["uplink", "downlink", "adapter"], dict[str, NonNegative]] | None = Field(
        default=None, description="of resolved_s, by link and device; of small cells only"
    )


class DeviceDelayRow(Frozen):
    """Seconds of one step on one device, equations (4) to (6)."""

    s1_s: NonNegative
    s2_s: NonNegative
    s3_s: NonNegative
    s4_s: NonNegative
    s5_s: NonNegative


class ClockRow(Frozen):
    """A round on one clock, equations (7) to (9)."""

    round_s: NonNegative
    step_s: NonNegative
    tau_u_s: NonNegative
    server_s: NonNegative
    tau_d_s: NonNegative
    tau_a_s: NonNegative
    devices: dict[str, DeviceDelayRow]


class DelayRow(Frozen):
    """A round on both clocks, and what is on neither."""

    planned: ClockRow = Field(description="compute scaled to the planned speeds")
    unscaled: ClockRow = Field(description="compute as fast as on this machine")
    server_codec_s: NonNegative = Field(description="processor seconds, mean of a step")
    update_s: NonNegative = Field(description="processor seconds of optimisers, mean of a step")


class FinetuneRow(Frozen):
    """One round of ``sftopt finetune``."""

    round: PositiveCount = Field(description="from 1")
    participants: tuple[str, ...]
    losses: dict[str, Finite] = Field(description="nats, mean over the steps, by device")
    loss: Finite | None = Field(description="mean over the participants; null: none had a label")
    skipped_batches: dict[str, Count] = Field(
        default_factory=dict, description="batches without a label that counts, by device"
    )
    step_losses: dict[str, tuple[Finite, ...]] = Field(
        default_factory=dict, description="nats, of each local step, by device"
    )
    metric: Finite | None = Field(description="null where the round was not evaluated")
    device_metrics: dict[str, Finite]
    byte_counts: dict[str, dict[str, Count]] = Field(description="by device and kind")
    bytes: dict[str, Count] = Field(description="by kind, all devices")
    cpu_s: dict[str, dict[str, NonNegative]] = Field(description="by device or server, by phase")
    wall_s: dict[str, dict[str, NonNegative]]
    delay: DelayRow
    time_s: NonNegative = Field(description="virtual, since the start, at the planned speeds")
    time_unscaled_s: NonNegative = Field(description="likewise, at this machine's speed")
    reference_flops_per_s: Positive = Field(description="this machine's speed, of both clocks")
    scheme: Name | None = Field(default=None, description="the plan's; null: planned freely")
    order: Order = Field(default=Order.PARALLEL, description="in what order devices work")
    aggregation: Aggregation | None = Field(
        default=Aggregation.AVERAGING, description="of adapters; null: they are handed on"
    )
    ranks: dict[str, PositiveCount] = Field(
        default_factory=dict, description="of adapters, by device; empty in rows of older releases"
    )


class Row(RootModel[SimulationRow | FinetuneRow]):
    """One line of ``rows.jsonl``."""


__all__ = ["FinetuneRow", "Row", "SimulationRow"]
