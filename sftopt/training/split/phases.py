"""Where the time of a step goes: processor and wall seconds by phase."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import torch


class Phase(StrEnum):
    """What the delay model counts apart, equations (4)-(6)."""

    DEVICE_FORWARD = "device_forward"
    """Of s1: embedding and held blocks."""
    DEVICE_ENCODE = "device_encode"
    """Of s1: the codec, e_n."""
    SERVER_DECODE = "server_decode"
    """Not in the model: the server's codec counts as 0."""
    SERVER_COMPUTE = "server_compute"
    """s3: forward and backward."""
    SERVER_ENCODE = "server_encode"
    """Not in the model."""
    DEVICE_DECODE = "device_decode"
    """Of s5: the codec, e_n."""
    DEVICE_BACKWARD = "device_backward"
    """Of s5: held blocks."""
    UPDATE = "update"
    """The optimiser's step; not in the model."""


@dataclass(frozen=True)
class PhaseTimes:
    """Seconds by phase. ``cpu_s`` is of the calling thread alone: pin torch to one thread."""

    cpu_s: dict[Phase, float]
    wall_s: dict[Phase, float]


def together(first: PhaseTimes, second: PhaseTimes) -> PhaseTimes:
    """Join two measurements of different phases."""
    return PhaseTimes(first.cpu_s | second.cpu_s, first.wall_s | second.wall_s)


@dataclass
class PhaseClock:
    """Adds up seconds by phase until they are taken."""

    device: torch.device
    _cpu_s: defaultdict[Phase, float] = field(default_factory=lambda: defaultdict(float))
    _wall_s: defaultdict[Phase, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def measure(self, phase: Phase) -> Iterator[None]:
        """Count the time spent within."""
        wall, cpu = self._now()
        try:
            yield
        finally:
            wall_end, cpu_end = self._now()
            self._wall_s[phase] += wall_end - wall
            self._cpu_s[phase] += cpu_end - cpu

    def take(self) -> PhaseTimes:
        """Return what was counted since the last time."""
        taken = PhaseTimes(dict(self._cpu_s), dict(self._wall_s))
        self._cpu_s.clear()
        self._wall_s.clear()
        return taken

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":  # its work is queued: wait, or the next phase pays for it
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.thread_time()
