"""The plan: what every device holds, sends and gets. Schema version 2."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from sftopt.core.fields import MOST_DEVICES, Finite, Frozen, Name, Seed, Text, Versioned, Whole
from sftopt.core.files import read_json, write_json
from sftopt.core.html_table import html_table
from sftopt.core.instance import ModeKind
from sftopt.core.tolerance import LARGEST_TOLERANCE


class Order(StrEnum):
    """In what order the devices of a round work."""

    PARALLEL = "parallel"
    """All devices at the same time, with barriers: equation (7)."""
    SEQUENTIAL = "sequential"
    """One device after another, each with the whole band: its shares are 1."""
    FEDERATED = "federated"
    """Every device trains the whole model alone: blocks are L and the mode is of kind none.

    Nothing crosses a boundary: boundary shares are not read.
    """


class SequentialPower(StrEnum):
    """What a device radiates over the whole band that it has alone, order sequential."""

    BAND = "band"
    """All of its power p_n: under ``psd`` N times what it radiates at an equal share."""
    SHARE = "share"
    """p_n / N: what it radiates at an equal share."""


class Aggregation(StrEnum):
    """How adapters of the same block are put together after the local steps."""

    AVERAGING = "averaging"
    """Copies of one rank become their mean, equation (8)."""
    CONCATENATION = "concatenation"
    """Increments are summed without cross terms: factors of any ranks side by side."""
    CORRECTED = "corrected"
    """Copies of one rank become their mean, and what the mean of their products is more than the
    product of their means goes into the frozen weights."""


class DevicePlan(Frozen):
    """One device's part. Only types are checked here; ranges are the judge's business."""

    id: Name
    blocks: Whole = Field(description="l_n")
    mode: ModeKind
    mode_name: Name | None = Field(
        default=None,
        description="the mode's name or label in the instance; null (old plans): by mode and bits",
    )
    bits: Whole = Field(description="q_n; the reference bits under mode none")
    keep_fraction: Finite = Field(description="rho_n; 1 under modes dense and none")
    uplink_share: Finite = Field(description="x_n")
    downlink_share: Finite = Field(description="y_n")
    adapter_uplink_share: Finite | None = Field(
        default=None, description="x^a_n; null under psd: the best shares, which are known"
    )
    rank: Whole | None = Field(
        default=None,
        description="r_n, rank of its adapters; null: the workload's, whatever the device's own "
        "lora_rank",
    )
    server_flops_per_s: Finite | None = Field(
        default=None, description="f_s,n, server speed while it works for this device; null: f_s"
    )


class DeviceBreakdown(Frozen):
    """Delay parts and memory of one device, equations (4)-(7) and (10)."""

    id: Name
    s1_s: float
    s2_s: float
    s3_s: float
    s4_s: float
    s5_s: float
    slack_u_s: float
    slack_d_s: float
    memory_bytes: float
    memory_slack_bytes: float
    accuracy: float | None = Field(
        description="null: not known, as of tokens whose loss was not measured"
    )
    uplink_bits_per_step: float
    downlink_bits_per_step: float


class RoundParts(Frozen):
    """Where the time of a round goes; the five parts sum to ``round_s``.

    Order parallel: the devices that the two barriers wait for. Order sequential: the sum over all
    devices. Order federated: the slowest device.
    """

    device_s: float
    uplink_s: float
    server_s: float
    downlink_s: float
    adapters_s: float = Field(description="the exchange of adapters, and of heads if federated")


class Breakdown(Frozen):
    """The round's delay by parts, equation (9), and what is left of the shared limits."""

    round_s: float
    step_s: float
    tau_u_s: float
    server_s: float
    tau_d_s: float
    tau_a_s: float
    accuracy: float | None = Field(description="null: not known of every device")
    accuracy_slack: float | None
    server_memory_bytes: float
    server_memory_slack_bytes: float
    devices: tuple[DeviceBreakdown, ...]
    bytes_up: float | None = Field(
        default=None, description="boundary, all devices, one round; null: not counted"
    )
    bytes_down: float | None = Field(default=None, description="as bytes_up, of the gradients")
    bytes_adapters: float | None = Field(
        default=None, description="adapters both ways, one round; null: not counted"
    )
    bytes_side: float | None = Field(
        default=None, description="labels and masks, one round; null: not counted"
    )
    bytes_head: float | None = Field(
        default=None, description="heads both ways, one round, order federated; null: not counted"
    )
    energy_server_j: float | None = Field(
        default=None,
        description="the server's compute, one round; null: its energy coefficient is not known",
    )
    energy_device_j: float | None = Field(
        default=None,
        description="all devices' compute and radio, one round; null: an energy coefficient is "
        "not known",
    )
    radiated_w_max: float | None = Field(
        default=None, description="the most that a device radiates; null: not counted"
    )
    parts: RoundParts | None = Field(default=None, description="null: not counted")


class Provenance(Frozen):
    """How a plan came about."""

    sftopt_version: Text = ""
    formulation: Text = ""
    solver: Text = ""
    engine_version: Text = ""
    seed: Seed | None = None
    note: Text = ""


class Plan(Versioned):
    """A decision for every device of one instance, named by that instance's hash."""

    instance_hash: Name
    instance_name: Name = ""
    provenance: Provenance = Provenance()
    order: Order = Field(default=Order.PARALLEL, description="in what order devices work")
    sequential_power: SequentialPower = Field(
        default=SequentialPower.BAND,
        description="order sequential: power over the whole band; no other order reads it",
    )
    aggregation: Aggregation | None = Field(
        default=None,
        description="how adapters are put together; null: averaging where all ranks are equal, "
        "else concatenation. Not of order sequential, where one device's adapters go to the next",
    )
    scheme: Name | None = Field(
        default=None, description="the scheme whose decisions these are; null: planned freely"
    )
    devices: tuple[DevicePlan, ...] = Field(max_length=MOST_DEVICES)
    feas_tol: Annotated[Finite, Field(ge=0, le=LARGEST_TOLERANCE)] | None = Field(
        default=None,
        description="by what the plan may miss a limit, as it was judged: absolute on shares, keep "
        "fractions and accuracy, relative on memory and rates; null: 1e-6 if an older release "
        "wrote the plan, else 1e-9",
    )
    breakdown: Breakdown | None = Field(
        default=None, description="as verified when the plan was written; verify recomputes it"
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON data."""
        return self.model_dump(mode="json")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, all or not at all. Raises InputError where that fails."""
        write_json(path, self.to_dict())

    def __repr__(self) -> str:
        round_s = "" if self.breakdown is None else f", round {self.breakdown.round_s:.6g} s"
        return f"Plan({self.instance_name or 'instance'}: {len(self.devices)} devices{round_s})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        rows = [
            (one.id, one.blocks, one.mode_name or f"{one.mode.value}{one.bits}", one.keep_fraction,
             one.uplink_share, one.downlink_share)
            for one in self.devices
        ]  # fmt: skip
        head = ("device", "blocks", "mode", "keep", "uplink share", "downlink share")
        return html_table(repr(self), head, rows)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Plan:
        """Read a plan file. Raises InputError naming every fault found."""
        from sftopt.core.parse import parse_model

        return parse_model(Plan, read_json(path, "plan"), f"plan '{path}'")
