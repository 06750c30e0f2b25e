"""The plan: what every device holds, sends and gets. Schema version 1."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sftopt.core.files import read_json, write_json
from sftopt.core.instance import SCHEMA_VERSION, ModeKind

FiniteNumber = Annotated[float, Field(allow_inf_nan=False, strict=True)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DevicePlan(_Model):
    """One device's part. Only types are checked here; ranges are the judge's business."""

    id: str
    blocks: Annotated[int, Field(strict=True)] = Field(description="l_n")
    mode: ModeKind
    bits: Annotated[int, Field(strict=True)] = Field(
        description="q_n; the reference bits under mode none"
    )
    keep_fraction: FiniteNumber = Field(description="rho_n; 1 under modes dense and none")
    uplink_share: FiniteNumber = Field(description="x_n")
    downlink_share: FiniteNumber = Field(description="y_n")
    adapter_uplink_share: FiniteNumber | None = Field(
        default=None, description="x^a_n; null under psd: the best shares, which are known"
    )


class DeviceBreakdown(_Model):
    """Delay parts and memory of one device, equations (4)-(7) and (10)."""

    id: str
    s1_s: float
    s2_s: float
    s3_s: float
    s4_s: float
    s5_s: float
    slack_u_s: float
    slack_d_s: float
    memory_bytes: float
    memory_slack_bytes: float
    accuracy: float
    uplink_bits_per_step: float
    downlink_bits_per_step: float


class Breakdown(_Model):
    """The round's delay by parts, equation (9), and what is left of the shared limits."""

    round_s: float
    step_s: float
    tau_u_s: float
    server_s: float
    tau_d_s: float
    tau_a_s: float
    accuracy: float
    accuracy_slack: float
    server_memory_bytes: float
    server_memory_slack_bytes: float
    devices: tuple[DeviceBreakdown, ...]


class Provenance(_Model):
    """How a plan came about."""

    sftopt_version: str = ""
    formulation: str = ""
    solver: str = ""
    engine_version: str = ""
    seed: int | None = None
    note: str = ""


class Plan(_Model):
    """A decision for every device of one instance, named by that instance's hash."""

    schema_version: Literal[1] = SCHEMA_VERSION
    instance_hash: str
    instance_name: str = ""
    provenance: Provenance = Provenance()
    devices: tuple[DevicePlan, ...]
    breakdown: Breakdown | None = Field(
        default=None, description="as verified when the plan was written; verify recomputes it"
    )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return self.model_dump(mode="json")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, all or not at all. Raises InputError where that fails."""
        write_json(path, self.to_dict())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Plan:
        """Read a plan file. Raises InputError naming every fault found."""
        from sftopt.core.parse import parse_model

        return parse_model(Plan, read_json(path, "plan"), f"plan '{path}'")
