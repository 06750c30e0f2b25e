"""One row of a comparison: what the judge says of a scheme's plan, and why it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low
from typing import Any

from pydantic import Field

from sftopt.core.fields import Reported
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan, RoundParts
from sftopt.core.status import Termination
from sftopt.core.verify import Verification, verify_plan
from sftopt.core.violations import Family, Violation
from sftopt.studies.compare.decide import Draft
from sftopt.studies.compare.request import Request


class Bytes(Reported):
    """What crosses the air in one round, all devices; null: not counted."""

    up: float | None
    down: float | None
    adapters: float | None
    side: float | None
    head: float | None = None


class Energy(Reported):
    """What server and devices spend in one round; null where a coefficient is not given."""

    server_j: float | None
    device_j: float | None


class Refusal(Reported):
    """One kind of limit that the scheme's own choice breaks."""

    family: str
    worst: str
    """The device, or ``all``."""
    amount: float
    unit: str
    count: int
    """How many limits of this kind are broken."""


class SchemeRow(Reported):
    """What a scheme costs on an instance, as the judge finds it."""

    scheme: str
    options: dict[str, int | float | str] = Field(default_factory=dict)
    refused: str | None = None
    refusals: tuple[Refusal, ...] = ()
    round_s: float | None = None
    ratio_to_sft: float | None = None
    bound_s: float | None = Field(
        default=None, description="proven: no plan of problem (13) on this instance is faster"
    )
    termination: Termination | None = Field(
        default=None, description="why the solver stopped, where the scheme has one"
    )
    parts: RoundParts | None = Field(default=None, description="they sum to the round")
    bytes: Bytes | None = None
    device_memory_max_bytes: float | None = None
    devices_over: int | None = None
    server_memory_bytes: float | None = None
    energy: Energy | None = None
    radiated_w_max: float | None = None
    accuracy: float | None = Field(default=None, description="null: not known, not calibrated")
    accuracy_slack: float | None = None
    order: str = ""
    cuts: tuple[int, int, int] | None = Field(default=None, description="least, median, most")
    ranks: tuple[int, int] | None = Field(default=None, description="least and most")
    tokens: tuple[int, int] | None = Field(default=None, description="least and most sent")
    changes: tuple[str, ...] = Field(
        default=(), description="what the judged instance has that the user's has not"
    )
    instance_hash: str | None = Field(
        default=None, description="of the instance the plan is made for and judged on"
    )
    plan: Plan | None = None


def row_of(request: Request, made: Draft) -> SchemeRow:
    """Judge a draft and return its row; the ratio to sft is filled in by the comparison."""
    common: dict[str, Any] = {
        "scheme": request.label,
        "options": request.options,
        "order": request.scheme.order.value,
        "changes": made.changes,
        "bound_s": made.bound_s,
        "termination": made.termination,
    }
    if made.plan is None:
        return SchemeRow(refused=made.message or "no plan", **common)
    verdict = verify_plan(made.instance, made.plan)
    refusals = _refusals(verdict.broken)
    plan = made.plan.model_copy(update={"breakdown": verdict.breakdown})
    numbers = {} if verdict.breakdown is None else _numbers(verdict)
    return SchemeRow(
        refused="; ".join(map(_told, refusals)) or None,
        refusals=refusals,
        cuts=_cuts(plan),
        ranks=_ends([part.rank or made.instance.workload.lora_rank for part in plan.devices]),
        tokens=_ends([_tokens(made.instance, part.mode_name) for part in plan.devices]),
        instance_hash=made.instance.hash,
        plan=plan,
        **common,
        **numbers,
    )


def _numbers(verdict: Verification) -> dict[str, Any]:
    """What the judge counts of a plan with a finite delay."""
    found = verdict.breakdown
    assert found is not None
    over = [v for v in verdict.violations if v.family is Family.DEVICE_MEMORY]
    return {
        "round_s": found.round_s,
        "parts": found.parts,
        "bytes": Bytes(
            up=found.bytes_up, down=found.bytes_down, adapters=found.bytes_adapters,
            side=found.bytes_side, head=found.bytes_head,
        ),
        "device_memory_max_bytes": max(device.memory_bytes for device in found.devices),
        "devices_over": len(over),
        "server_memory_bytes": found.server_memory_bytes,
        "energy": Energy(server_j=found.energy_server_j, device_j=found.energy_device_j),
        "radiated_w_max": found.radiated_w_max,
        "accuracy": found.accuracy,
        "accuracy_slack": found.accuracy_slack,
    }  # fmt: skip


def _refusals(violations: Sequence[Violation]) -> tuple[Refusal, ...]:
    """The violations by family and unit: how many, and the worst."""
    groups: dict[tuple[str, str], list[Violation]] = {}
    for one in violations:
        groups.setdefault((one.family.value, one.unit), []).append(one)
    found = []
    for (family, unit), members in groups.items():
        worst = max(members, key=lambda one: one.amount)
        found.append(Refusal(family=family, worst=worst.index, amount=worst.amount, unit=unit,
                             count=len(members)))  # fmt: skip
    return tuple(found)


def _told(refusal: Refusal) -> str:
    """A refusal in words: ``device memory of dev01 over by 1.68 GB (worst of 3)``."""
    family = refusal.family.replace("_", " ")
    where = "" if refusal.worst == "all" else f" of {refusal.worst}"
    missed, amount = "missed by", f"{refusal.amount:.4g} {refusal.unit}"
    if refusal.unit == "bytes":
        missed, amount = "over by", f"{refusal.amount / 1e9:.4g} GB"
    more = f" (worst of {refusal.count})" if refusal.count > 1 else ""
    return f"{family}{where} {missed} {amount}{more}"


def _cuts(plan: Plan) -> tuple[int, int, int]:
    cuts = [part.blocks for part in plan.devices]
    return min(cuts), median_low(cuts), max(cuts)


def _ends(values: Sequence[int]) -> tuple[int, int]:
    return min(values), max(values)


def _tokens(instance: Instance, mode_name: str | None) -> int:
    """The tokens that a mode of the instance sends."""
    for mode in instance.compression.modes:
        if mode.label == mode_name and mode.tokens is not None:
            return mode.tokens
    return instance.workload.tokens
