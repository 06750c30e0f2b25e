"""What a calibration is refused for before anything is measured or written."""

from __future__ import annotations

import copy

import torch
from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.evaluation import Task
from sftopt.training.failures import misfits_told
from sftopt.training.split import SplitModel


def check_fits(
    base: PreTrainedModel, task: Task, settings: CalibrationSettings, model_name: str
) -> None:
    """Refuse cuts, adapters, side keys or data that do not fit the model. Raises InputError."""
    blocks = int(base.config.get_text_config().num_hidden_layers)
    if max(settings.cuts) > blocks - 1:
        raise InputError(
            f"cuts: {max(settings.cuts)} blocks on a device; this model of {blocks} blocks takes "
            f"at most {blocks - 1}."
        )
    hidden = int(base.config.get_text_config().hidden_size)
    if max(settings.ranks, default=1) > hidden:
        raise InputError(
            f"ranks: {max(settings.ranks)} is above the hidden size of {hidden}; a higher rank is "
            "of no use"
        )
    SplitModel(copy.deepcopy(base), settings.split_config(settings.seeds[0]))
    _check_data(base, task, settings, model_name)


@torch.no_grad()
def _check_data(
    base: PreTrainedModel, task: Task, settings: CalibrationSettings, model_name: str
) -> None:
    """Run one batch through the model, and draw one of the last device, whose share is least."""
    devices, seed = len(settings.cuts), settings.seeds[0]
    batch = next(iter(task.train_batches(0, devices, settings.batch, seed)))
    next(iter(task.train_batches(devices - 1, devices, settings.batch, seed)))
    with torch.random.fork_rng(devices=[]), misfits_told(task.name, model_name, batch):
        base(**{name: value.to(base.device) for name, value in batch.items()})
