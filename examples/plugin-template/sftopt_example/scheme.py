"""A scheme in one file: blocks by the devices' memory, 8 bits for every element, best shares."""

from __future__ import annotations

from collections.abc import Mapping

from sftopt.plugins import (
    CompressionRule,
    CutRule,
    Instance,
    Order,
    Scheme,
    SchemeOption,
    ShareRule,
)


def cuts_by_memory(instance: Instance, options: Mapping[str, int | float | str]) -> list[int]:
    """Return the blocks of every device: ``depth`` on the largest, on others as memory goes."""
    most = instance.workload.blocks - 1
    depth = min(int(options["depth"]), most)
    largest = max(device.memory_bytes for device in instance.devices)
    return [
        max(device.blocks_min, round(depth * device.memory_bytes / largest))
        for device in instance.devices
    ]


SCHEME = Scheme(
    name="example-by-memory",
    summary="blocks by the devices' memory, 8 bits, best shares (an example plug-in)",
    order=Order.PARALLEL,
    cut=CutRule.OWN,  # own_cuts says it; a rule of sftopt would need no function
    own_cuts=cuts_by_memory,
    compression=CompressionRule.DENSE,
    bits=8,
    shares=ShareRule.BEST,
    objective="none",
    source="an example",
    ours="all of it",
    options=(SchemeOption("depth", "blocks on the device of most memory", 6, 1, whole=True),),
)
