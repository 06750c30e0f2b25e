"""Running a plan: real split fine-tuning on its cuts, modes and shares, against what it promised.

Equation numbers are those of ``sftopt/formulations/MODEL.md``.
"""

from sftopt.training.run.clock import ClockDelays, DeviceDelays, RoundDelays, VirtualClock
from sftopt.training.run.codecs import CodecOverride, codec_chooser
from sftopt.training.run.compare import ALL, Compared
from sftopt.training.run.drive import PlanRun, RunSummary, judged, run_plan

__all__ = [
    "ALL",
    "ClockDelays",
    "CodecOverride",
    "Compared",
    "DeviceDelays",
    "PlanRun",
    "RoundDelays",
    "RunSummary",
    "VirtualClock",
    "codec_chooser",
    "judged",
    "run_plan",
]
