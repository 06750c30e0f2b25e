"""How fast this machine is on a model, where no calibration says so."""

from __future__ import annotations

from statistics import median

import torch

from sftopt.core.instance import Instance
from sftopt.training.evaluation import Task
from sftopt.training.split import Phase, SplitModel
from sftopt.training.split.parts import Batch
from sftopt.training.split.whole import WholeDevice

_WARM_UPS = 1
"""Steps that are run before those that are timed."""
_REPEATS = 3
"""Steps that are timed."""


def reference_speed(instance: Instance, model: SplitModel, task: Task, seed: int) -> float:
    """Measure f_ref in FLOP/s: the FLOP of one step of all devices over its processor seconds.

    FLOP as the instance counts them, codec and optimiser left out; the median of three steps after
    one to warm up. Nothing is trained.
    """
    batches = {
        device.id: first_batch(instance, task, number, seed)
        for number, device in enumerate(instance.devices)
    }
    seconds = []
    for _ in range(_WARM_UPS + _REPEATS):
        seconds.append(sum(trial_step(model, name, batch) for name, batch in batches.items()))
    return _flops(instance) / median(seconds[_WARM_UPS:])


def first_batch(instance: Instance, task: Task, number: int, seed: int) -> Batch:
    """Return the first training batch of the device of this number."""
    count, size = len(instance.devices), instance.devices[number].batch
    return next(iter(task.train_batches(number, count, size, seed)))


def trial_step(model: SplitModel, device_id: str, batch: Batch) -> float:
    """Run one step of a device without an update; return the processor seconds of its compute."""
    device, server = model.devices[device_id], model.server
    with torch.random.fork_rng(devices=[]):
        if isinstance(device, WholeDevice):
            device.train(batch)
        else:
            upload = device.forward(batch, 0)
            served = server.serve(device_id, upload.boundary, upload.side, 1.0, 0)
            device.backward(served.gradient)
    device.reset()
    server.reset_sums()
    cpu = {**device.clock.take().cpu_s, **server.clock.take().cpu_s}
    counted = (Phase.DEVICE_FORWARD, Phase.SERVER_COMPUTE, Phase.DEVICE_BACKWARD)
    return sum(cpu.get(phase, 0.0) for phase in counted)


def _flops(instance: Instance) -> float:
    """Of one step of all devices: L (F^f + F^b) + F^e + F^h for each sample."""
    work = instance.workload
    block = work.block_forward_flops + work.block_backward_flops
    sample = work.blocks * block + work.embedding_forward_flops + work.head_flops
    return sample * sum(device.batch for device in instance.devices)
