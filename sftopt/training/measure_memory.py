"""The memory a device of a split model really takes in one step, by the parts of equation (10).

Counted are tensor bytes: a runtime's own code and libraries are apart. *State* is what stays
(parameters, optimiser moments). *Saved* are the distinct storages autograd keeps from forward to
backward, without parameters, the batch, and the boundary (which m_0b counts). The *peak* is the
larger of two moments: the most tensor bytes alive at once in forward and backward (from the
allocations that torch's profiler records, on a GPU from its allocator), and the time the codec
works, when its NumPy buffers (from tracemalloc) stand beside the saved tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from sftopt.training.calibrate.memory import (
    codec_buffer_bytes,
    device_state_bytes,
    parameter_bytes,
    peak_bytes,
)
from sftopt.training.split import DevicePart, SplitModel, known
from sftopt.training.split.lora import block_adapters
from sftopt.training.split.stack import capturing_at
from sftopt.training.split.whole import WholeDevice

Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device."""

    embedding_bytes: int
    """Parameters and buffers outside the blocks: m_0 without a runtime."""
    block_weight_bytes: int
    """Frozen parameters and buffers of the held blocks: l_n m_w."""
    adapter_state_bytes: int
    """Adapters, their gradients and moments: l_n m_s."""
    saved_bytes: int
    """b_n l_n m_a."""
    first_block_saved_bytes: int
    """Of these, the first block's: nothing before it is trained, so it saves less than others."""
    peak_bytes: int
    """Left side of equation (10) without a runtime."""
    first_input_saved: bool = False
    """Whether the first block's own input is among what is saved: where adapters read it as it is,
    as in BERT; behind a norm, as in a ViT, it is not."""


def measure_device_memory(
    model: SplitModel, device_id: str, batch: Batch, *, seed: int = 0
) -> DeviceMemory:
    """Measure one step of ``device_id`` on ``batch``; the model is left as it was.

    The optimiser's moments count only where it has made a step.
    """
    device = model.devices[device_id]
    blocks = list(device.stack.blocks(device.model))[: device.cut]
    with torch.random.fork_rng(devices=[]):
        saved, first, input_saved, boundary = _saved(device, batch)
        step = _step(model, device_id, batch, seed)
        state = device_state_bytes(device.model, device.optimizer)
        working = peak_bytes(step, device.model.device)
    inputs = sum(v.untyped_storage().nbytes() for name, v in batch.items() if name != "labels")
    whole = isinstance(device, WholeDevice)  # nothing is encoded there
    coding = 0 if whole else _nbytes(boundary) + codec_buffer_bytes(device.codec, boundary)
    adapters = [p for block in blocks for p in block_adapters(block).values()]
    held = [t for block in blocks for t in (*block.parameters(), *block.buffers())]
    everything = [*device.model.parameters(), *device.model.buffers()]
    weights = parameter_bytes(held) - parameter_bytes(adapters)
    moments = state - parameter_bytes(everything)
    return DeviceMemory(
        embedding_bytes=parameter_bytes(everything) - parameter_bytes(held),
        block_weight_bytes=weights,
        adapter_state_bytes=2 * parameter_bytes(adapters) + moments,
        saved_bytes=saved,
        first_block_saved_bytes=first,
        peak_bytes=state + inputs + known.memory_bytes(device.codec) + max(working, saved + coding),
        first_input_saved=input_saved,
    )


def _saved(device: DevicePart, batch: Batch) -> tuple[int, int, bool, torch.Tensor]:
    """Saved bytes of all held blocks, of the first one, whether its input is; the boundary."""
    own = {_address(t) for t in (*device.model.parameters(), *device.model.buffers())}
    given = {name: value.to(device.model.device) for name, value in batch.items()}
    own |= {_address(value) for value in given.values()}
    sizes: dict[int, tuple[int, int]] = {}
    alive: list[torch.Tensor] = []  # until the end, so that no address is used twice
    block_now = [0]
    first_input: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        if _address(tensor) not in own:
            sizes.setdefault(_address(tensor), (_nbytes(tensor), block_now[0]))
        return tensor

    def enter(args: tuple[object, ...], number: int) -> None:
        block_now[0] = number
        if number == 0 and args and isinstance(args[0], torch.Tensor):
            alive.append(args[0])
            first_input.append(_address(args[0]))

    handles = [
        block.register_forward_pre_hook(lambda _, args, number=number: enter(args, number))
        for number, block in enumerate(device.stack.blocks(device.model))
    ]
    kept = ("labels", known.SAMPLES)
    inputs = {name: value for name, value in given.items() if name not in kept}
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            boundary = _end_of_blocks(device, inputs)
    finally:
        for handle in handles:
            handle.remove()
    sizes.pop(_address(boundary), None)
    total = sum(size for size, _ in sizes.values())
    first = sum(size for size, block in sizes.values() if block == 0)
    return total, first, any(address in sizes for address in first_input), boundary.detach()


def _step(model: SplitModel, device_id: str, batch: Batch, seed: int) -> Callable[[], None]:
    """One step of a device that is then forgotten."""
    device = model.devices[device_id]
    if isinstance(device, WholeDevice):
        whole = device

        def alone() -> None:
            whole.train(batch)
            whole.reset()

        return alone
    gradient = _gradient(model, device_id, batch, seed)

    def split() -> None:
        device.forward(batch, seed)
        device.backward(gradient)
        device.reset()

    return split


def _gradient(model: SplitModel, device_id: str, batch: Batch, seed: int) -> bytes:
    """What the server would send for this batch; nothing is trained by it."""
    device = model.devices[device_id]
    upload = device.forward(batch, seed)
    served = model.server.serve(device_id, upload.boundary, upload.side, 1.0, seed)
    device.reset()
    model.server.reset_sums()
    for part in (device, model.server):
        part.clock.take()
    return served.gradient


def _end_of_blocks(device: DevicePart, inputs: Batch) -> torch.Tensor:
    """Run what the device holds; return what leaves its last block. Heads are not looked at."""
    if device.cut < device.stack.count:
        with capturing_at(device.model, device.stack, device.cut) as captured:
            device.model.base_model(**inputs)
        return captured[0]
    ends: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: object, output: torch.Tensor | tuple[torch.Tensor]) -> None:
        ends.append(output[0] if isinstance(output, tuple) else output)

    last = device.stack.blocks(device.model)[device.cut - 1]
    handle = last.register_forward_hook(keep)
    try:
        device.model.base_model(**inputs)
    finally:
        handle.remove()
    return ends[0]


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _nbytes(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().nbytes()
