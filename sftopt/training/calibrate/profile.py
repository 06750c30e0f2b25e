"""Seconds, FLOP and bytes of a model's blocks on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any, cast

import torch
from peft import LoraConfig
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from sftopt.core.calibration import BatchProfile, Profile
from sftopt.core.errors import InputError
from sftopt.core.instance import Workload
from sftopt.core.workload import has_formula, workload_from_config
from sftopt.training.block_calls import BlockCall, block_calls
from sftopt.training.calibrate.memory import (
    codec_buffer_bytes,
    device_state_bytes,
    parameter_bytes,
    peak_bytes,
    saved_bytes,
)
from sftopt.training.calibrate.payloads import side_bits
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.codec import codec_from
from sftopt.training.evaluation import Task
from sftopt.training.split import SplitModel
from sftopt.training.split.forward_keys import forward_keys
from sftopt.training.split.lora import ADAPTER_NAME, block_adapters
from sftopt.training.split.stack import capturing_at, entering_at, only_first
from sftopt.training.split.stand_ins import configured_image_size, server_inputs, to_device

_WARM_UPS = 2
"""Turns that are run before those that are timed."""
Batch = Mapping[str, torch.Tensor]


def profile_model(
    split: SplitModel, task: Task, settings: CalibrationSettings
) -> tuple[Profile, Workload]:
    """Measure the profile and the workload section of ``split``'s model.

    ``split`` has one device, which holds ``settings.cuts[0]`` blocks; its adapters are trained on
    by a few steps. Seconds are medians over repetitions, blocks taking turns as in a step. Raises
    InputError where no sample of the task fits the model.
    """
    largest = max(settings.measured_batches)
    samples = next(task.train_batches(device=0, devices=1, batch=largest, seed=settings.seeds[0]))
    reference = first_of(samples, settings.batch)
    calls = block_calls(split.server.model, split.stack, reference)
    flops = _counted_flops(split, calls)
    workload = _workload(split, task, settings, calls, flops)
    batches = [
        _batch_profile(split, first_of(samples, batch), batch, settings)
        for batch in settings.measured_batches
    ]
    peaks = _peaks(split, samples, settings)
    workload = workload.model_copy(
        update={"sample_base_bytes": _sample_base_bytes(workload, peaks, split, calls, settings)}
    )
    batches = [
        one.model_copy(
            update={
                "device_peak_bytes": peaks[one.batch],
                "device_predicted_bytes": _predicted_bytes(workload, one.batch, settings.cuts[0]),
            }
        )
        for one in batches
    ]
    formula = _activation_bytes_by_formula(split, settings, calls)
    at = next(one for one in batches if one.batch == settings.batch)
    return _profile(split, settings, workload, tuple(batches), at, flops, formula), workload


def first_of(samples: Batch, count: int) -> dict[str, torch.Tensor]:
    """Return the first ``count`` samples as one batch. Raises InputError where there are fewer."""
    for name, value in samples.items():
        if value.shape[0] < count:
            raise InputError(f"the data gives {value.shape[0]} samples of '{name}', not {count}.")
    return {name: value[:count] for name, value in samples.items()}


def _inputs(model: PreTrainedModel, batch: Batch) -> dict[str, Any]:
    return to_device(forward_keys(model).device_inputs(batch), model.device)


def _profile(
    split: SplitModel,
    settings: CalibrationSettings,
    workload: Workload,
    batches: tuple[BatchProfile, ...],
    at: BatchProfile,
    flops: tuple[float, float],
    formula: float,
) -> Profile:
    """Speed and FLOP at that speed, from the reference batch."""
    on_cpu = split.server.model.device.type == "cpu"
    clock = "cpu" if on_cpu else "wall"
    forward = sum(getattr(at, f"block_forward_{clock}_s")) / workload.blocks / at.batch
    backward = sum(getattr(at, f"block_backward_{clock}_s")) / workload.blocks / at.batch
    speed = (workload.block_forward_flops + workload.block_backward_flops) / (forward + backward)
    return Profile(
        attention=str(getattr(split.server.model.config, "_attn_implementation", "")),
        reference_batch=at.batch,
        batches=batches,
        clock="cpu" if on_cpu else "wall",
        speed_flops_per_s=speed,
        embedding_forward_flops=getattr(at, f"embedding_forward_{clock}_s") / at.batch * speed,
        block_forward_flops=forward * speed,
        block_backward_flops=backward * speed,
        head_flops=getattr(at, f"head_{clock}_s") / at.batch * speed,
        block_forward_flops_counted=flops[0],
        block_backward_flops_counted=flops[1],
        block_activation_bytes_formula=formula,
    )


def _counted_flops(split: SplitModel, calls: list[BlockCall]) -> tuple[float, float]:
    """FLOP of the middle block by torch's counter, forward and backward, per sample."""
    number = len(calls) // 2
    block, call = split.stack.blocks(split.server.model)[number], calls[number]
    hidden = call.hidden.detach().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the counter knows products, not every fused kernel
        with FlopCounterMode(display=False) as forward:
            output = call.run(block, hidden)
        with FlopCounterMode(display=False) as backward:
            torch.autograd.grad(output, [hidden, *block_adapters(block).values()],
                                torch.ones_like(output), allow_unused=True)  # fmt: skip
    samples = hidden.shape[0]
    return forward.get_total_flops() / samples, backward.get_total_flops() / samples


def _workload(
    split: SplitModel,
    task: Task,
    settings: CalibrationSettings,
    calls: list[BlockCall],
    flops: tuple[float, float],
) -> Workload:
    """FLOP by formula (counted ones for a model type without a formula); bytes as measured."""
    model, stack = split.server.model, split.stack
    samples, tokens, hidden = calls[0].hidden.shape
    block = stack.blocks(model)[number := len(calls) // 2]
    adapters = block_adapters(block)
    adapter_bytes = parameter_bytes(adapters.values())
    rank, sent_bits = settings.lora_rank, split.config.adapter_dtype.bits
    states = 4  # the adapter, its gradient, two moments of AdamW
    device = split.devices[next(iter(split.devices))]
    held = sum(parameter_bytes(b.parameters()) for b in device.stack.blocks(device.model))
    head = parameter_bytes(p for p in model.parameters()) - sum(
        parameter_bytes(b.parameters()) for b in stack.blocks(model)
    )
    common: dict[str, Any] = {
        "name": str(task.name),
        "model_type": str(model.config.model_type),
        "blocks": stack.count,
        "hidden": int(hidden),
        "tokens": int(tokens),
        "lora_rank": rank,
        "adapter_parameters_per_rank": sum(p.numel() for p in adapters.values()) / rank,
        "adapter_bits": min(8 * next(iter(adapters.values())).element_size(), sent_bits),
        "reference_bits": 8 * calls[0].hidden.element_size(),
        "side_bits": side_bits(split, task, settings),
        "device_base_bytes": float(parameter_bytes(device.model.parameters()) - held),
        "block_weight_bytes": float(parameter_bytes(block.parameters()) - adapter_bytes),
        "block_adapter_bytes": float(states * adapter_bytes),
        "block_activation_bytes": saved_bytes(
            block, lambda: calls[number].run(block, calls[number].hidden.detach().requires_grad_()),
            calls[number],
        ) / samples,
        "server_base_bytes": float(head),
    }  # fmt: skip
    formula = _formula(split, settings, tokens)
    if formula is None:
        return Workload(block_forward_flops=flops[0], block_backward_flops=flops[1], **common)
    return Workload.model_validate({**formula.model_dump(), **common})


def _formula(split: SplitModel, settings: CalibrationSettings, tokens: int) -> Workload | None:
    """The workload by formula; None for a model whose blocks or head have none."""
    model = split.server.model
    config = model.config.to_dict()
    if not has_formula(config):
        return None
    lora = cast(LoraConfig, split.server.peft_model.peft_config[ADAPTER_NAME])
    return workload_from_config(
        config,
        tokens=None if model.main_input_name == "pixel_values" else tokens,
        lora_rank=settings.lora_rank,
        adapter_targets=sorted(lora.target_modules or ()),
        dtype_bits=16 if model.dtype.itemsize == 2 else 32,
    )


def _activation_bytes_by_formula(
    split: SplitModel, settings: CalibrationSettings, calls: list[BlockCall]
) -> float:
    """m_a by formula, which holds for eager attention; 0 where there is none."""
    found = _formula(split, settings, calls[0].hidden.shape[1])
    return found.block_activation_bytes if found else 0.0


def _batch_profile(
    split: SplitModel, batch: Batch, size: int, settings: CalibrationSettings
) -> BatchProfile:
    """Seconds of all parts at one batch size; memory is filled in later."""
    model, stack = split.server.model, split.stack
    calls = block_calls(model, stack, batch)
    blocks = list(stack.blocks(model))
    watch = _Stopwatch(model.device)
    for turn in range(_WARM_UPS + settings.repeats):
        if turn == _WARM_UPS:
            watch.clear()
        with watch.measure("embedding"), torch.no_grad():
            _embedding(split, batch)
        outputs = []
        for number, (block, call) in enumerate(zip(blocks, calls, strict=True)):
            hidden = call.hidden.detach().requires_grad_()
            with watch.measure(f"forward {number}"):
                outputs.append(call.run(block, hidden))
        for number in reversed(range(len(blocks))):
            gradient = torch.ones_like(outputs[number])
            with watch.measure(f"backward {number}"):
                torch.autograd.backward(outputs[number], gradient)
        with watch.measure("last part"):
            _last_part(split, batch, calls[-1].hidden)
        model.zero_grad(set_to_none=True)
    cpu, wall = watch.medians("cpu"), watch.medians("wall")
    last = len(blocks) - 1
    count = range(len(blocks))
    return BatchProfile(
        batch=size,
        embedding_forward_cpu_s=cpu["embedding"],
        embedding_forward_wall_s=wall["embedding"],
        block_forward_cpu_s=tuple(cpu[f"forward {n}"] for n in count),
        block_forward_wall_s=tuple(wall[f"forward {n}"] for n in count),
        block_backward_cpu_s=tuple(cpu[f"backward {n}"] for n in count),
        block_backward_wall_s=tuple(wall[f"backward {n}"] for n in count),
        head_cpu_s=_rest(cpu, last),
        head_wall_s=_rest(wall, last),
        cut=settings.cuts[0],
        device_peak_bytes=0.0,
        device_predicted_bytes=0.0,
    )


def _rest(seconds: dict[str, float], last: int) -> float:
    """What the server does beside its blocks: the last part less its one block."""
    blocks = seconds[f"forward {last}"] + seconds[f"backward {last}"]
    return max(seconds["last part"] - blocks, 0.0)


def _embedding(split: SplitModel, batch: Batch) -> None:
    """A device's forward pass up to block 0, as with no block held."""
    model, stack = split.server.model, split.stack
    with only_first(model, stack, 0), capturing_at(model, stack, 0):
        model.base_model(**_inputs(model, batch))


def _last_part(split: SplitModel, batch: Batch, hidden: torch.Tensor) -> None:
    """The server's forward and backward pass behind the last cut."""
    model, stack = split.server.model, split.stack
    entry = hidden.detach().requires_grad_()
    side = split.keys.side(batch, hidden.shape[1], configured_image_size(model))
    inputs = server_inputs(model, split.keys, hidden, side)
    trained = list(split.server.trainable().values())
    with entering_at(model, stack, stack.count - 1, entry):
        loss = model(**inputs).loss
        torch.autograd.grad(loss, (entry, *trained), allow_unused=True)


def _peaks(split: SplitModel, samples: Batch, settings: CalibrationSettings) -> dict[int, float]:
    """Most tensor bytes alive on the device in a step, by batch size."""
    device_id = next(iter(split.devices))
    device = split.devices[device_id]
    found = {}
    for size in settings.measured_batches:
        batch = first_of(samples, size)
        split.train_step({device_id: batch})  # the optimiser's moments are there after it
        upload = device.forward(batch, 0)
        served = split.server.serve(device_id, upload.boundary, upload.side, 1.0, 0)
        device.backward(served.gradient)
        device.reset()
        split.server.reset_sums()

        def step(batch: Batch = batch, gradient: bytes = served.gradient) -> None:
            device.forward(batch, 0)
            device.backward(gradient)
            device.update()

        inputs = sum(v.untyped_storage().nbytes() for n, v in batch.items() if n != "labels")
        base = device_state_bytes(device.model, device.optimizer) + inputs
        found[size] = float(base + peak_bytes(step, device.model.device))
    return found


def _sample_base_bytes(
    workload: Workload,
    peaks: dict[int, float],
    split: SplitModel,
    calls: list[BlockCall],
    settings: CalibrationSettings,
) -> float:
    """m_0b: what a sample adds to the device's peak beside the blocks' saved tensors.

    The larger of two moments: somewhere in the backward pass (temporary tensors, from the slope of
    the peak over the batch), and while the boundary is encoded (the codec's buffers).
    """
    held = settings.cuts[0] * workload.block_activation_bytes
    sizes = sorted(peaks)
    slope = 0.0
    if len(sizes) > 1:
        slope = (peaks[sizes[-1]] - peaks[sizes[0]]) / (sizes[-1] - sizes[0])
    boundary = calls[settings.cuts[0]].hidden
    codec = codec_from(settings.topk(max(settings.bits), max(settings.keeps)))
    coding = codec_buffer_bytes(codec, boundary) / boundary.shape[0]
    boundary_bytes = workload.boundary_elements * workload.reference_bits / 8.0
    return max(slope - held, boundary_bytes + coding)


def _predicted_bytes(workload: Workload, batch: int, cut: int) -> float:
    """Left side of equation (10) for a device that holds ``cut`` blocks."""
    return (
        workload.device_base_bytes
        + batch * workload.sample_base_bytes
        + cut * (workload.block_weight_bytes + workload.block_adapter_bytes)
        + batch * cut * workload.block_activation_bytes
    )


class _Stopwatch:
    """Processor and wall seconds by name, once for each measurement."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, list[tuple[float, float]]] = {}

    def clear(self) -> None:
        self._seconds.clear()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        wall, cpu = self._now()
        yield
        wall_end, cpu_end = self._now()
        self._seconds.setdefault(name, []).append((cpu_end - cpu, wall_end - wall))

    def medians(self, clock: str) -> dict[str, float]:
        index = 0 if clock == "cpu" else 1
        return {name: median(one[index] for one in all_) for name, all_ in self._seconds.items()}

    def _now(self) -> tuple[float, float]:
        if self._device.type == "cuda":  # its work is queued
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.thread_time()
