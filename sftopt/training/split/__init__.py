"""Split fine-tuning: one Hugging Face model, cut after any block, a device and a server part.

The parts own disjoint parameters and optimisers; only bytes cross between them. Equation numbers
are those of ``sftopt/formulations/MODEL.md``.
"""

from sftopt.training.split.boundary import BoundaryCodec, LosslessCodec
from sftopt.training.split.channel import (
    Channel,
    Direction,
    Endpoint,
    MemoryChannel,
    MessageKind,
    Traffic,
)
from sftopt.training.split.config import (
    AdapterDtype,
    DeviceSplit,
    LoraSettings,
    OptimizerName,
    OptimizerSettings,
    SplitConfig,
)
from sftopt.training.split.errors import DivergedError, WireError
from sftopt.training.split.loading import load_base_model
from sftopt.training.split.lora import lora_config, settings_of
from sftopt.training.split.model import SplitModel, StepReport, planned_codec
from sftopt.training.split.parts import DevicePart, Evaluated, ServerPart
from sftopt.training.split.phases import Phase, PhaseTimes
from sftopt.training.split.stack import BlockStack, find_blocks

__all__ = [
    "AdapterDtype",
    "BlockStack",
    "BoundaryCodec",
    "Channel",
    "DevicePart",
    "DeviceSplit",
    "Direction",
    "DivergedError",
    "Endpoint",
    "Evaluated",
    "LoraSettings",
    "LosslessCodec",
    "MemoryChannel",
    "MessageKind",
    "OptimizerName",
    "OptimizerSettings",
    "Phase",
    "PhaseTimes",
    "ServerPart",
    "SplitConfig",
    "SplitModel",
    "StepReport",
    "Traffic",
    "WireError",
    "find_blocks",
    "load_base_model",
    "lora_config",
    "planned_codec",
    "settings_of",
]
