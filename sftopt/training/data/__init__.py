"""Data of the fine-tuning tasks: two that need no download, and loaders for the user's own."""

from sftopt.training.data.specs import load_task
from sftopt.training.data.task import (
    Batch,
    Part,
    PretrainingDefaults,
    Task,
    TaskKind,
    TrainingDefaults,
    metric_of,
)

__all__ = [
    "Batch",
    "Part",
    "PretrainingDefaults",
    "Task",
    "TaskKind",
    "TrainingDefaults",
    "load_task",
    "metric_of",
]
