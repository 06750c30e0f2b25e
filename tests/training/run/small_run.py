"""A tiny model on disk, an instance that plans for it, and a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sftopt.core.instance import Instance
from sftopt.core.plan import DevicePlan, Plan
from sftopt.core.workload import workload_from_config
from sftopt.training.run import PlanRun
from sftopt.training.split import OptimizerSettings
from tests.samples import sample_instance
from tests.training.fake_task import FakeTask
from tests.training.split.tiny_models import tiny_model

RANK = 3


def small_instance(
    family: str = "vit", blocks: int = 4, name_of: str = "small", **fields: Any
) -> Instance:
    """Two devices with the workload of the tiny model; any plan is accurate enough."""
    config = tiny_model(family).config.to_dict()
    work = workload_from_config(
        config, tokens=None if family == "vit" else 9, lora_rank=RANK, labels=None
    )
    made = sample_instance(
        2,
        workload={**work.model_dump(), "blocks": blocks},
        modes=(4, 8, {"kind": "none", "bits": 32}),
        accuracy={"minimum": -10.0, "minimum_each": -10.0},
        compression={"keep_min": 0.01},
        **fields,
    )
    devices = [
        device.model_copy(update={"batch": batch, "blocks_min": 0, "id": name})
        for device, batch, name in zip(made.devices, (8, 4), ("a", "b/c"), strict=True)
    ]
    training = made.training.model_copy(update={"local_steps": 3})
    return Instance.model_validate(
        {**made.to_dict(), "name": name_of, "devices": [d.model_dump() for d in devices],
         "training": training.model_dump()}
    )  # fmt: skip


def small_plan(instance: Instance, cuts: tuple[int, ...] = (1, 3), **change: Any) -> Plan:
    """Top-K at 4 bits, a quarter kept, equal shares."""
    parts = []
    for device, blocks in zip(instance.devices, cuts, strict=True):
        values = {"id": device.id, "blocks": blocks, "mode": "topk", "bits": 4,
                  "keep_fraction": 0.25, "uplink_share": 0.5, "downlink_share": 0.5}  # fmt: skip
        parts.append(DevicePlan.model_validate({**values, **change}))
    return Plan(instance_hash=instance.hash, instance_name=instance.name, devices=tuple(parts))


def small_run(folder: Path, family: str = "vit", **change: Any) -> PlanRun:
    """A run of three rounds; ``change`` are fields of PlanRun."""
    model = folder / f"{family}.json"
    config = tiny_model(family).config.to_dict()
    model.write_text(json.dumps({**config, "architectures": [type(tiny_model(family)).__name__]}))
    instance = change.pop("instance", None) or small_instance(family)
    values: dict[str, Any] = {
        "instance": instance,
        "plan": change.pop("plan", None) or small_plan(instance),
        "model": str(model),
        "model_task": None,
        "labels": None,
        "task": FakeTask(metric="accuracy" if family == "vit" else "negative_loss_nats"),
        "rounds": 3,
        "evaluation_limit": 40,
        "optimizer": OptimizerSettings(learning_rate=0.02),
    }
    return PlanRun(**{**values, **change})
