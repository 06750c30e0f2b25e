"""Faults between the fields of an instance that no single field's type can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sftopt.core.compression import Compression
from sftopt.core.faults import Fault
from sftopt.core.sections import Accuracy, Device, Server, Workload

MOST_CHOICES = 100_000_000
"""Devices times blocks times modes; arrays of all choices fit into a few GB."""


def reference_faults(
    devices: Sequence[Device],
    workload: Workload,
    accuracy: Accuracy,
    compression: Compression,
    server: Server,
) -> Iterable[Fault]:
    """Yield the faults between the fields of these sections of one instance."""
    counts = Counter(device.id for device in devices)
    for name, times in counts.items():
        if times > 1:
            yield Fault(field="devices.id", device=name, value=times, limit=1, unit="uses",
                        message=f"devices: the id '{name}' is used {times} times; "
                        "ids must be unique")  # fmt: skip
    total = sum(device.weight for device in devices)
    if abs(total - 1.0) > 1e-6:
        yield Fault(field="devices.weight", value=total, limit=1.0, unit="1",
                    needed_change=1.0 - total,
                    message=f"devices: the weights sum to {total:.9g}; they must sum to 1 "
                    "(divide each by the sum)")  # fmt: skip
    cells = len(devices) * workload.blocks * len(compression.modes)
    if cells > MOST_CHOICES:
        yield Fault(field="workload.blocks", value=workload.blocks, limit=MOST_CHOICES,
                    unit="blocks",
                    message=f"{len(devices)} devices with {workload.blocks} blocks and "
                    f"{len(compression.modes)} modes are {cells:.3g} choices; there is room for "
                    f"{MOST_CHOICES:.3g}: fewer devices, blocks or modes")  # fmt: skip
    last = workload.blocks - 1
    for device in devices:
        if device.blocks_min > last:
            yield Fault(field="blocks_min", device=device.id, value=device.blocks_min, limit=last,
                        unit="blocks", needed_change=last - device.blocks_min,
                        message=f"device {device.id}: blocks_min is {device.blocks_min}, but a "
                        f"device holds at most L-1 = {last} of {last + 1} blocks")  # fmt: skip
        if device.blocks_max is not None and device.blocks_max < device.blocks_min:
            yield Fault(field="blocks_max", device=device.id, value=device.blocks_max,
                        limit=device.blocks_min, unit="blocks",
                        needed_change=device.blocks_min - device.blocks_max,
                        message=f"device {device.id}: blocks_max is {device.blocks_max}, below its "
                        f"blocks_min of {device.blocks_min}; raise the one or lower the "
                        "other")  # fmt: skip
    factors = accuracy.cut_factor
    if factors is not None and len(factors) != workload.blocks:
        yield Fault(field="accuracy.cut_factor", value=len(factors), limit=workload.blocks,
                    unit="entries",
                    message=f"accuracy.cut_factor has {len(factors)} entries; one for each of "
                    f"0..{last} blocks on the device is needed ({last + 1})")  # fmt: skip
    yield from _mode_reference_faults(compression, workload)
    low, high = compression.keep_min, compression.keep_max
    if low is not None and low > high:
        yield Fault(field="compression.keep_min", value=low, limit=high, unit="fraction",
                    needed_change=high - low,
                    message=f"compression: keep_min {low} is above keep_max {high}")  # fmt: skip
    low_hz, high_hz = (
        server.compute_min_flops_per_s,
        server.compute_max_flops_per_s,
    )
    if low_hz is not None and high_hz is not None and low_hz > high_hz:
        yield Fault(field="server.compute_min_flops_per_s", value=low_hz, limit=high_hz,
                    unit="FLOP/s", needed_change=high_hz - low_hz,
                    message=f"server: compute_min_flops_per_s {low_hz:g} is above "
                    f"compute_max_flops_per_s {high_hz:g}")  # fmt: skip


def _mode_reference_faults(compression: Compression, work: Workload) -> Iterable[Fault]:
    """Yield faults between modes, and between a mode and the workload."""
    labels = Counter(mode.label for mode in compression.modes)
    for label, times in labels.items():
        if times > 1:
            yield Fault(field="compression.modes", value=label, limit=1, unit="uses",
                        message=f"compression.modes: '{label}' is listed {times} times; a plan "
                        "could not tell them apart (give each a name of its own)")  # fmt: skip
    for index, mode in enumerate(compression.modes):
        path = f"compression.modes[{index}]"
        if mode.tokens is not None and mode.tokens >= work.tokens:
            yield Fault(field=f"{path}.tokens", value=mode.tokens, limit=work.tokens - 1,
                        unit="tokens", needed_change=work.tokens - 1 - mode.tokens,
                        message=f"{path}.tokens is {mode.tokens}; at most S-1 = {work.tokens - 1} "
                        f"of the workload's {work.tokens} tokens can be sent, or use kind "
                        "dense")  # fmt: skip
        if isinstance(mode.loss, tuple) and len(mode.loss) != work.blocks:
            yield Fault(field=f"{path}.loss", value=len(mode.loss), limit=work.blocks,
                        unit="entries",
                        message=f"{path}.loss has {len(mode.loss)} entries; one number, or one for "
                        f"each of 0..{work.blocks - 1} blocks on the device is needed "
                        f"({work.blocks})")  # fmt: skip
