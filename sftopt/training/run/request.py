"""What is asked of a run of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sftopt.core.calibration import Calibration
from sftopt.core.channel import RoundChannel
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.training.evaluation import Task
from sftopt.training.run.codecs import CodecOverride
from sftopt.training.schedule import Schedule
from sftopt.training.split import AdapterDtype, LoraSettings, OptimizerSettings


@dataclass(frozen=True)
class PlanRun:
    """What is to be run."""

    instance: Instance
    plan: Plan
    model: str
    """Folder, hub id, or a JSON configuration (random weights out of ``seed``)."""
    task: Task
    model_task: str | None
    """Head of the model, as in ``load_base_model``; None: the configuration's own."""
    labels: int | None
    """Classes of a classifier: another head is replaced by a fresh one. None: as it is."""
    rounds: int
    label_names: tuple[str, ...] = ()
    """Of the classes, which the tuned model is to know."""
    padding_token: int | None = None
    """Of the data; None: nothing is padded."""
    seed: int = 0
    local_steps: int | None = None
    """K; None: the instance's."""
    evaluate_every: int = 1
    evaluation_limit: int | None = None
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: Schedule = Schedule.CONSTANT
    accumulation: int = 1
    """Local steps of one update."""
    lora: LoraSettings | None = None
    """Adapters; their rank is the instance's. None: query and value, alpha twice the rank."""
    adapter_dtype: AdapterDtype | None = None
    """In which adapters travel; None: of the instance's bits."""
    side_keys: tuple[str, ...] = ()
    """Keys of a batch that are sent beside those always sent."""
    calibration: Calibration | None = None
    """The one the instance was made with: codec options, speed of the machine."""
    codec: CodecOverride | None = None
    channels: tuple[RoundChannel, ...] | None = None
    """Gains of each round; None: the instance's statistics in every round."""
    channel_name: str = "nominal"
    drops: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Devices that miss a round, by its number from 1."""
    local_files_only: bool = False

    @property
    def steps(self) -> int:
        """Return the number K of local steps in a round."""
        return self.instance.training.local_steps if self.local_steps is None else self.local_steps
