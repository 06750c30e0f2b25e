"""What a reader has to know of a run beside its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sftopt.core.instance import DownlinkPayload

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
