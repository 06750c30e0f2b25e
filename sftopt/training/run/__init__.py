"""Running a plan: real split fine-tuning on its cuts, modes and shares, against what it promised.

Equation numbers are those of ``sftopt/formulations/MODEL.md``.
"""

from sftopt.training.run.callbacks import Callback, CsvLog, TensorBoardLog, logs_of
from sftopt.training.run.clock import ClockDelays, DeviceDelays, RoundDelays, VirtualClock
from sftopt.training.run.codecs import CodecOverride, codec_chooser
from sftopt.training.run.compare import ALL, Compared
from sftopt.training.run.drive import RunSummary, judged, run_plan
from sftopt.training.run.request import PlanRun

__all__ = [
    "ALL",
    "Callback",
    "ClockDelays",
    "CodecOverride",
    "Compared",
    "CsvLog",
    "DeviceDelays",
    "PlanRun",
    "RoundDelays",
    "RunSummary",
    "TensorBoardLog",
    "VirtualClock",
    "codec_chooser",
    "judged",
    "logs_of",
    "run_plan",
]
