"""Holds the judge to the second judge: every number of one plan, and the families it misses."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from sftopt.core.instance import parse_instance
from sftopt.core.plan import Plan
from sftopt.core.verify import Verification, verify_plan
from tests.second_judge import judge
from tests.second_judge_draws import Case
from tests.second_judge_terms import Object

RELATIVE = 1e-12
"""By how much two numbers may differ, as a fraction of the larger."""
SUMS = (
    *("round_s", "step_s", "tau_u_s", "server_s", "tau_d_s", "tau_a_s", "accuracy"),
    *("server_memory_bytes", "bytes_up", "bytes_down", "bytes_adapters", "bytes_side"),
    *("energy_server_j", "energy_device_j", "accuracy_slack", "server_memory_slack_bytes"),
    *("bytes_head", "radiated_w_max"),
)
DEVICE = (
    *("s1_s", "s2_s", "s3_s", "s4_s", "s5_s", "slack_u_s", "slack_d_s", "memory_bytes"),
    *("memory_slack_bytes", "accuracy", "uplink_bits_per_step", "downlink_bits_per_step"),
)
SIZES = {
    "accuracy_slack": "accuracy",
    "server_memory_slack_bytes": "server_memory_bytes",
    "slack_u_s": "tau_u_s",
    "slack_d_s": "tau_d_s",
    "memory_slack_bytes": "memory_bytes",
}
"""Differences, and the number whose rounding they have."""


@dataclass
class Comparison:
    """Where the two judges differ on one case: ``lines`` in words, empty where they agree.

    ``largest`` holds the largest relative difference seen by number, ``counted`` says whether the
    plan had numbers at all.
    """

    feasible: bool
    families: set[str]
    lines: list[str] = field(default_factory=list)
    largest: dict[str, float] = field(default_factory=dict)
    counted: bool = True

    def number(self, name: str, where: str, first: Any, second: Any, size: Any) -> None:
        """Note two values of one number; ``size``: what its rounding is a fraction of."""
        if first is None or second is None:
            if first is not second:
                self.lines.append(f"{where}{name}: {first} against {second}")
            return
        apart = abs(first - second)
        scale = max(abs(first), abs(second), abs(size or 0.0))
        relative = apart / scale if apart > 0.0 else 0.0
        self.largest[name] = max(self.largest.get(name, 0.0), relative)
        if not relative <= RELATIVE:
            self.lines.append(f"{where}{name}: {first!r} against {second!r} ({relative:.1e})")


def first_judge(case: Case) -> Verification:
    """Return what sftopt's judge finds."""
    instance = parse_instance(case.instance)
    plan = Plan.model_validate(case.plan | {"instance_hash": instance.hash})
    return verify_plan(instance, plan)


def compare(case: Case) -> Comparison:
    """Judge one case by both and compare all they say."""
    second = judge(case.instance, case.plan)
    return compared(first_judge(case), second)


def compared(first: Verification, second: Object) -> Comparison:
    """Compare what the two judges say of one case."""
    theirs = {violation.family.value for violation in first.violations}
    mine = {family for family, _ in second["violations"]}
    found = Comparison(second["feasible"], mine)
    if first.feasible != second["feasible"]:
        found.lines.append(f"feasible: {first.feasible} against {second['feasible']}")
    if first.breakdown is None:
        # nothing was counted: the plan is outside its domain or waits for ever
        found.counted = False
        if math.isfinite(second["round_s"]) and "domain" not in mine:
            found.lines.append(f"nothing counted: {sorted(theirs)} against {sorted(mine)}")
        return found
    if theirs != mine:
        found.lines.append(f"families: {sorted(theirs)} against {sorted(mine)}")
    numbers = first.breakdown.model_dump()
    for name in SUMS:
        found.number(name, "", numbers[name], second[name], second.get(SIZES.get(name, "")))
    parts = numbers["parts"]
    for name, value in second["parts"].items():
        found.number(f"parts.{name}", "", parts[name], value, None)
    for ours, other in zip(numbers["devices"], second["devices"], strict=True):
        for name in DEVICE:
            size = (second | other).get(SIZES.get(name, ""))
            found.number(name, f"{ours['id']}.", ours[name], other[name], size)
    return found
