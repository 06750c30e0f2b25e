"""Plans of every order and aggregation in real fine-tuning: bytes, rows, resuming, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sftopt.core.errors import InputError, VerificationError
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.row_schema import FinetuneRow
from sftopt.training.run import PlanRun, run_plan
from tests.training.run.small_run import small_instance, small_plan, small_run
from tests.training.run.test_run_plan import adapters_of, repeatable, rows_of, same_tensors

pytestmark = pytest.mark.train

FULL = {"mode": "none", "bits": 32, "keep_fraction": 1.0}
WHOLE_BAND = {**FULL, "uplink_share": 1.0, "downlink_share": 1.0}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, int]]] = {
    "sequential": ({"order": "sequential"}, WHOLE_BAND, (1, 3)),
    "federated": ({"order": "federated", "aggregation": "averaging"}, FULL, (4, 4)),
    "concatenation": ({"aggregation": "concatenation"}, FULL, (1, 3)),
    "corrected": ({"aggregation": "corrected"}, FULL, (1, 3)),
}


def plan_for(instance: Instance, kind: str) -> Plan:
    fields, parts, cuts = KINDS[kind]
    plan = small_plan(instance, cuts, **parts).model_copy(update={"scheme": "ours"})
    if kind == "concatenation":  # the server's copy has the larger rank
        ranked = [
            p.model_copy(update={"rank": r}) for p, r in zip(plan.devices, (1, 3), strict=True)
        ]
        plan = plan.model_copy(update={"devices": tuple(ranked)})
    return Plan.model_validate({**plan.to_dict(), **fields})


def run_of(folder: Path, kind: str, **change: Any) -> PlanRun:
    instance = small_instance()
    return small_run(folder, instance=instance, plan=plan_for(instance, kind), **change)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_moves_what_the_judge_counts_and_resumes_to_the_same_bytes(
    kind: str, tmp_path: Path
) -> None:
    whole = run_of(tmp_path, kind, rounds=4, drops={2: ("a",)})
    summary = run_plan(whole, tmp_path / "whole")
    found = {(row.quantity, row.device): row for row in summary.compared}
    names = ["adapters up", "adapters down"] + ["head up", "head down"] * (kind == "federated")
    for name in names:  # and a header, of 60 to 80 bytes for each of at most four blocks
        row = found[name, "b/c"]
        assert row.predicted < row.measured < row.predicted + 320, name
    assert (("uplink", "b/c") in found) == (kind != "federated")
    assert found["step", "all"].predicted > 0.0
    rows = rows_of(tmp_path / "whole")
    fields, _, _ = KINDS[kind]
    for row in rows:
        FinetuneRow.model_validate(row)
        assert row["scheme"] == "ours"
        assert row["order"] == fields.get("order", "parallel")
        assert row["aggregation"] == fields.get("aggregation")
        assert row["ranks"] == ({"a": 1, "b/c": 3} if kind == "concatenation"
                                else {"a": 3, "b/c": 3})  # fmt: skip
    assert summary.data["order"] == rows[0]["order"]
    assert (summary.data["bytes"]["head"] > 0) == (kind == "federated")

    class Killed(Exception):
        pass

    def kill(row: dict[str, Any]) -> None:
        if row["round"] == 3:  # its row is written, its checkpoint is not
            raise Killed

    with pytest.raises(Killed):
        run_plan(whole, tmp_path / "killed", on_round=kill)
    run_plan(whole, tmp_path / "killed", resume=True)
    assert repeatable(rows_of(tmp_path / "killed")) == repeatable(rows)
    assert same_tensors(adapters_of(tmp_path / "killed"), adapters_of(tmp_path / "whole"))
    other = whole.plan.model_copy(update={"scheme": "another"})
    with pytest.raises(InputError, match="plan_hash"):
        run_plan(replace(whole, plan=other), tmp_path / "killed", resume=True)


def test_what_the_judge_refuses_is_not_run(tmp_path: Path) -> None:
    run = run_of(tmp_path, "federated")
    small = [d.model_copy(update={"memory_bytes": 1e4}) for d in run.instance.devices]
    tight = run.instance.model_copy(update={"devices": tuple(small)})
    plan = run.plan.model_copy(update={"instance_hash": tight.hash})
    with pytest.raises(VerificationError, match=r"device_memory a: misses by .* bytes"):
        run_plan(replace(run, instance=tight, plan=plan), tmp_path / "out")
    assert not (tmp_path / "out").exists()
