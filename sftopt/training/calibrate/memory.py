"""Bytes: parameters, what autograd saves, the most that is alive at once, the codec's buffers."""

from __future__ import annotations

import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from sftopt.training.split import BoundaryCodec


class _Call(Protocol):
    @property
    def args(self) -> tuple[Any, ...]: ...

    @property
    def kwargs(self) -> dict[str, Any]: ...

    @property
    def hidden(self) -> torch.Tensor: ...


def parameter_bytes(parameters: Iterable[torch.Tensor]) -> int:
    """Sum the bytes of distinct tensors."""
    return sum({p.data_ptr(): p.numel() * p.element_size() for p in parameters}.values())


def device_state_bytes(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> int:
    """Sum the bytes that stay: parameters, buffers and the optimiser's moments."""
    held = [*model.parameters(), *model.buffers()]
    if optimizer is not None:
        for state in optimizer.state.values():
            held += [value for value in state.values() if isinstance(value, torch.Tensor)]
    return parameter_bytes(held)


def saved_bytes(block: nn.Module, forward: Callable[[], torch.Tensor], call: _Call) -> float:
    """Return the bytes of storages that ``forward`` saves for backward: m_a of the batch.

    Without parameters, buffers and what the block is given beside its hidden states (masks, rotary
    tables: of the whole model, not of the block), and without its output, which is the next one's
    input.
    """
    given = [value for value in _tensors((call.args, call.kwargs)) if value is not call.hidden]
    outside = {_storage(tensor) for tensor in (*block.parameters(), *block.buffers(), *given)}
    sizes: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # until the end, so that no storage is named twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        if _storage(tensor) not in outside:
            sizes[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    sizes.pop(_storage(output), None)
    return float(sum(sizes.values()))


def _storage(tensor: torch.Tensor) -> int:
    """A number of the tensor's storage, one on the meta device too, where all addresses are 0."""
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in _tensors(part)]
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in _tensors(part)]
    return []


def peak_bytes(step: Callable[[], None], device: torch.device) -> int:
    """Return the most tensor bytes alive at once during ``step``, above what was alive before.

    On a GPU by its allocator, on the host from the allocations torch's profiler records; what
    NumPy holds is not in it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it writes of its start on standard error
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    alive = peak = 0
    for event in sorted(changes, key=lambda event: float(event["ts"])):
        alive += int(event["args"]["Bytes"])
        peak = max(peak, alive)
    return peak


def codec_buffer_bytes(codec: BoundaryCodec, tensor: torch.Tensor) -> int:
    """Return the most bytes that the codec holds while it encodes ``tensor``, payload included."""
    codec.compress(tensor, seed=0)
    tracemalloc.start()
    try:
        codec.compress(tensor, seed=0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
