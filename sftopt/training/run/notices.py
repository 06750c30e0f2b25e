"""What a reader has to know of a run beside its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sftopt.core.instance import DownlinkPayload
from sftopt.training.split import known

if TYPE_CHECKING:
    from sftopt.training.run.request import PlanRun
    from sftopt.training.split import SplitModel


def notices(run: PlanRun, model: SplitModel) -> list[str]:
    """Return what makes predictions and run differ from the start, a sentence each."""
    work, stack = run.instance.workload, model.stack
    found = []
    if (work.blocks, work.hidden) != (stack.count, stack.hidden):
        found.append(
            f"the instance plans for {work.blocks} blocks of hidden size {work.hidden}; this model "
            f"has {stack.count} of {stack.hidden}: predictions are of another model"
        )
    if run.calibration is None:
        found.append("no calibration is given: the speed of this machine is of a short profile")
    sent = model.config.adapter_dtype
    if sent.bits != work.adapter_bits:
        found.append(
            f"adapters travel as {sent.value}; the instance plans {work.adapter_bits} bits a value"
        )
    if run.codec is not None:
        found.append(f"codec {run.codec.name} runs in place of the planned modes")
    found += _uncounted_memory(run, model)
    if run.instance.radio.downlink is DownlinkPayload.DENSE:
        found.append("the instance plans a dense downlink; gradients carry the kept positions only")
    if work.side_bits == 0.0:
        found.append(
            "the instance counts no labels and masks (side_bits 0): they go up with the boundary; "
            "a calibration made now has them"
        )
    if run.instance.accuracy.metric != run.task.metric:
        found.append(
            f"the instance's accuracy is '{run.instance.accuracy.metric}', the task's "
            f"'{run.task.metric}': the predicted one is of another task"
        )
    return found


def _uncounted_memory(run: PlanRun, model: SplitModel) -> list[str]:
    """What codecs remember beyond what the instance counts, equations (10) and (11)."""
    found = []
    for device in run.instance.devices:
        held = known.memory_bytes(model.devices[device.id].codec)
        if held > (device.remembered_bytes or 0.0):
            found.append(
                f"device {device.id}: its codec remembers {held} bytes, the instance counts "
                f"{device.remembered_bytes or 0:g} (devices[].remembered_bytes), so that the "
                "memory that is planned is too small"
            )
    return found
