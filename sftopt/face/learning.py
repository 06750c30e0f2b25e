"""A plan's fine-tuning: what is run, and how it learns.

How it learns is what is asked for, over the calibration's, over the task's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sftopt.core.errors import InputError

if TYPE_CHECKING:
    from sftopt.core.calibration import Calibration
    from sftopt.core.instance import Instance
    from sftopt.core.plan import Plan
    from sftopt.training.data import Task
    from sftopt.training.options import TrainingOptions
    from sftopt.training.run import PlanRun


def plan_run(
    made: Plan, given: Instance, task: Task, measured: Calibration | None, **settings: Any
) -> PlanRun:
    """Return the fine-tuning of ``task`` as a plan says; ``settings`` are fields of PlanRun."""
    from sftopt.training.run import PlanRun

    return PlanRun(
        instance=given,
        plan=made,
        task=task,
        model_task=task.kind.model_task,
        labels=task.labels,
        label_names=task.label_names,
        padding_token=task.padding_token,
        calibration=measured,
        **settings,
    )


def learning(
    given: Instance, task: Task, measured: Calibration | None, options: TrainingOptions
) -> dict[str, Any]:
    """Return optimiser and adapters: as asked, else as in the calibration's fine-tunings, else what
    suits the task.

    Raises InputError for what the plan has decided on already.
    """
    from sftopt.training.calibrate.defaults import settings_for
    from sftopt.training.calibrate.settings import TRAINED_AS
    from sftopt.training.schedule import Schedule
    from sftopt.training.split import AdapterDtype

    asked = options.asked()
    known: dict[str, Any] = {}
    if measured is not None and measured.accuracy is not None:
        found = measured.accuracy.settings
        known = {name: found[name] for name in TRAINED_AS if name in found}
        known |= {name: tuple(v) for name, v in known.items() if isinstance(v, list)}
    batches = {device.batch for device in given.devices}
    if "batch" in asked and {asked.pop("batch")} != batches:
        raise InputError(
            f"--batch {options.batch}: the plan is for batches of {_listed(batches)}; set another "
            "in the instance (devices.*.batch) and plan again"
        )
    rank = given.workload.lora_rank
    if options.lora_rank not in (None, rank):
        raise InputError(
            f"--lora-rank {options.lora_rank}: the plan is for rank {rank}; calibrate with another "
            "and plan again"
        )
    if "lora_alpha" in asked:  # of the plan's rank
        asked["lora_rank"] = rank
    settings = settings_for(task, **known | asked)
    narrow = AdapterDtype(settings.adapter_dtype) if "adapter_dtype" in known | asked else None
    return {
        "optimizer": settings.optimizer(),
        "schedule": Schedule(settings.schedule),
        "accumulation": settings.accumulation,
        "lora": settings.lora(rank),
        "adapter_dtype": narrow,
        "side_keys": settings.side_keys,
    }


def _listed(numbers: set[int]) -> str:
    return " and ".join(str(number) for number in sorted(numbers))
