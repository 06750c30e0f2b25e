"""What the plan promised beside what the run measured, each with its relative error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from sftopt.core.adapters import Messages, adapter_messages
from sftopt.core.block_work import block_activation_bytes, block_adapter_bytes
from sftopt.core.delay import Conduct
from sftopt.core.domain import modes_of, ranks_of
from sftopt.core.instance import Instance
from sftopt.core.plan import Aggregation, Breakdown, DevicePlan, Order, Plan
from sftopt.core.verify import decisions_of
from sftopt.training.loop import RoundRow
from sftopt.training.measure_memory import DeviceMemory
from sftopt.training.run.clock import ClockDelays, RoundDelays

ALL = "all"
"""In place of a device's id: over the whole cell."""

GOALS_REL = {
    "uplink": 0.03,
    "side information": 0.03,
    "downlink": 0.03,
    "adapters up": 0.03,
    "adapters down": 0.03,
    "head up": 0.03,
    "head down": 0.03,
    "saved tensors": 0.02,
    "peak memory": 0.15,
    "step": 0.15,
    "compute of a step": 0.15,
}
"""How close a prediction should come, relative."""


@dataclass(frozen=True)
class Compared:
    """One figure, predicted and measured."""

    quantity: str
    device: str
    unit: str
    predicted: float
    measured: float

    @property
    def error_rel(self) -> float | None:
        """Return the relative error (predicted - measured) / |measured|; None without both."""
        if self.measured == 0.0:
            return None
        return (self.predicted - self.measured) / abs(self.measured)

    @property
    def goal_rel(self) -> float | None:
        """Return the largest relative error aimed at; None where there is no such goal."""
        return GOALS_REL.get(self.quantity)

    @property
    def met(self) -> bool | None:
        """Return whether the error is within the goal."""
        if self.goal_rel is None or self.error_rel is None:
            return None
        return abs(self.error_rel) <= self.goal_rel

    def to_dict(self) -> dict[str, Any]:
        """Return the figure as plain JSON data."""
        return {
            **asdict(self),
            "error_rel": self.error_rel,
            "goal_rel": self.goal_rel,
            "met": self.met,
        }


def compare(
    instance: Instance,
    plan: Plan,
    breakdown: Breakdown,
    rows: Sequence[RoundRow],
    delays: Sequence[RoundDelays],
    memory: Mapping[str, DeviceMemory],
    local_steps: int,
) -> list[Compared]:
    """Compare all figures; first over the whole cell, then by device.

    Bytes are means over steps and rounds, delays medians. Rounds in which a device is absent, or
    gets its adapters once more since it was absent before, are left out of its adapters' mean; also
    those in which another is absent, where what it gets depends on who takes part.
    ``breakdown`` is the judge's.
    """
    parts = {part.id: part for part in plan.devices}
    found = _bytes(instance, plan, _messages(instance, plan), breakdown, rows, local_steps)
    found += _delays(breakdown, delays)
    found += _metric(instance, breakdown, rows)
    found += _memory(instance, parts, breakdown, memory)
    return sorted(found, key=lambda row: row.device != ALL)  # stable: the cell first


def _messages(instance: Instance, plan: Plan) -> dict[str, tuple[float, float, float]]:
    """By device what the judge counts of a round's adapters up and down and of the head, in bytes.

    The plan has been judged: it has all that is counted.
    """
    conduct, by_id = Conduct.of(plan), {part.id: part for part in plan.devices}
    parts = [by_id[device.id] for device in instance.devices]
    decisions = decisions_of(parts, modes_of(instance, parts, conduct), instance, conduct)
    assert decisions is not None, "the judge has a breakdown of this plan"
    found: Messages = adapter_messages(instance.workload, decisions, conduct)
    return {
        part.id: (up / 8.0, down / 8.0, found.head / 8.0)
        for part, up, down in zip(parts, found.up, found.down, strict=True)
    }


def _averages(instance: Instance, plan: Plan) -> bool:
    """Whether adapters become their mean: as the plan says, else if all ranks are equal."""
    ranks = ranks_of(instance.workload, plan.devices)
    return plan.aggregation is Aggregation.AVERAGING or (
        plan.aggregation is None and len(ranks) == 1
    )


def _bytes(
    instance: Instance,
    plan: Plan,
    messages: Mapping[str, tuple[float, float, float]],
    breakdown: Breakdown,
    rows: Sequence[RoundRow],
    local_steps: int,
) -> list[Compared]:
    work = instance.workload
    side_bits = {device.id: device.batch * work.side_bits for device in instance.devices}
    found = []
    # what is put together without a device has fewer terms than the judge counts
    together = plan.order is not Order.SEQUENTIAL and not _averages(instance, plan)
    for predicted in breakdown.devices:
        name = predicted.id
        present = [row for row in rows if name in row.participants]
        if not present:
            continue
        whole = [row for row in present if not _rejoined(rows, row, name)]
        if together:
            whole = [row for row in whole if len(row.participants) == len(breakdown.devices)]
        up, down, head = messages[name]
        federated = plan.order is Order.FEDERATED  # nothing crosses a boundary
        for quantity, kind, bits in (
            ("uplink", "uplink_boundary", predicted.uplink_bits_per_step),
            ("side information", "uplink_side", side_bits[name]),
            ("downlink", "downlink_gradient", predicted.downlink_bits_per_step),
        ):
            steps = sum(local_steps - row.skipped_batches.get(name, 0) for row in present)
            if not federated and steps:
                measured = sum(_of(row, name, kind) for row in present) / steps
                found.append(Compared(quantity, name, "bytes/step", bits / 8.0, measured))
        for quantity, kind, wanted in (
            ("adapters up", "uplink_adapters", up),
            ("adapters down", "downlink_adapters", down),
            ("head up", "uplink_head", head),
            ("head down", "downlink_head", head),
        ):
            if wanted > 0.0 and whole:
                measured = fmean(_of(row, name, kind) for row in whole)
                found.append(Compared(quantity, name, "bytes/round", wanted, measured))
    return found + _sums(found)


def _sums(found: Sequence[Compared]) -> list[Compared]:
    """The devices' bytes over the whole cell."""
    sums = []
    for name in dict.fromkeys(row.quantity for row in found):
        of = [row for row in found if row.quantity == name]
        predicted, measured = sum(r.predicted for r in of), sum(r.measured for r in of)
        sums.append(Compared(name, ALL, of[0].unit, predicted, measured))
    return sums


def _delays(breakdown: Breakdown, delays: Sequence[RoundDelays]) -> list[Compared]:
    clocks = [delay.planned for delay in delays]
    found = [
        Compared(name, ALL, "s", getattr(breakdown, field), _median(clocks, field))
        for name, field in (
            ("step", "step_s"),
            ("step: device forward, uplink", "tau_u_s"),
            ("step: server", "server_s"),
            ("step: downlink, device backward", "tau_d_s"),
            ("adapter exchange", "tau_a_s"),
            ("round", "round_s"),
        )
    ]
    for predicted in breakdown.devices:
        mine = [clock.devices[predicted.id] for clock in clocks if predicted.id in clock.devices]
        if not mine:
            continue
        compute = [d.s1_s + d.s3_s + d.s5_s for d in mine]
        wanted = predicted.s1_s + predicted.s3_s + predicted.s5_s
        found.append(Compared("compute of a step", predicted.id, "s", wanted, median(compute)))
        for name, field in (
            ("device forward and encoding", "s1_s"),
            ("uplink time", "s2_s"),
            ("server compute", "s3_s"),
            ("downlink time", "s4_s"),
            ("device backward and decoding", "s5_s"),
        ):
            measured = median(getattr(one, field) for one in mine)
            found.append(Compared(name, predicted.id, "s", getattr(predicted, field), measured))
    return found


def _metric(instance: Instance, breakdown: Breakdown, rows: Sequence[RoundRow]) -> list[Compared]:
    last = rows[-1]
    assert last.metric is not None, "the last round is always evaluated"
    name = instance.accuracy.metric
    promised = [(ALL, breakdown.accuracy, last.metric)]
    promised += [(d.id, d.accuracy, last.device_metrics[d.id]) for d in breakdown.devices]
    return [
        Compared(name, device, "", planned, measured)
        for device, planned, measured in promised
        if planned is not None  # tokens without a measured loss promise nothing
    ]


def _memory(
    instance: Instance,
    parts: Mapping[str, DevicePlan],
    breakdown: Breakdown,
    memory: Mapping[str, DeviceMemory],
) -> list[Compared]:
    work = instance.workload
    found = []
    for predicted in breakdown.devices:
        measured, part = memory[predicted.id], parts[predicted.id]
        blocks = part.blocks
        for name, wanted, real in (
            ("embedding", work.device_base_bytes, measured.embedding_bytes),
            ("block weights", blocks * work.block_weight_bytes, measured.block_weight_bytes),
            (
                "adapter state",
                blocks * block_adapter_bytes(work, part.rank),
                measured.adapter_state_bytes,
            ),
            (
                "saved tensors",
                saved_tensor_bytes(instance, part, first_input=measured.first_input_saved),
                measured.saved_bytes,
            ),
            ("peak memory", predicted.memory_bytes, measured.peak_bytes),
        ):
            found.append(Compared(name, predicted.id, "bytes", wanted, real))
    return found


def saved_tensor_bytes(instance: Instance, part: DevicePlan, *, first_input: bool = False) -> float:
    """Return the bytes autograd saves on a device: b_n (l_n m_a - E b_ref / 8) or 0.

    Equation (10) charges every block m_a, its own input included. Nothing before the first block is
    trained, so that one's input is not saved; in (10) it stands in for part of m_0b. With
    ``first_input`` it is: adapters read it as it is.
    """
    if part.blocks == 0:
        return 0.0
    work = instance.workload
    batch = next(device.batch for device in instance.devices if device.id == part.id)
    left_out = 0.0 if first_input else work.boundary_elements * work.reference_bits / 8.0
    per_block = block_activation_bytes(work, rank=part.rank)
    return batch * max(part.blocks * per_block - left_out, 0.0)


def _rejoined(rows: Sequence[RoundRow], row: RoundRow, device_id: str) -> bool:
    before = [other for other in rows if other.round == row.round - 1]
    return bool(before) and device_id not in before[0].participants


def _of(row: RoundRow, device_id: str, kind: str) -> int:
    return row.byte_counts[device_id].get(f"{kind}_bytes", 0)


def _median(clocks: Sequence[ClockDelays], field: str) -> float:
    return float(median(getattr(clock, field) for clock in clocks))
