"""The workload of a model: by formula where there is one, else counted where torch is."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from sftopt.core.instance import Workload
from sftopt.core.model_layouts import LAYOUTS
from sftopt.core.workload import workload_from_config
from sftopt.core.workload_settings import WorkloadSettings, settings_by_name


@settings_by_name
def workload(config: Mapping[str, Any], asked: WorkloadSettings) -> Workload:
    """Derive the workload of LoRA fine-tuning the model of a ``config.json``, given as a dict.

    Settings by name: :class:`~sftopt.core.workload_settings.WorkloadSettings`. By formula for the
    model types that have one (``vit bert gpt2 llama qwen2 mistral``); any other model that can be
    split is counted on a model without weights, which needs the extra ``train``. Raises InputError
    naming what is impossible, or where a model can be neither derived nor counted.
    """
    if has_formula_type(config) or find_spec("torch") is None or find_spec("peft") is None:
        return workload_from_config(config, **vars(asked))
    from sftopt.training.counted import counted_workload

    return counted_workload(config, **vars(asked))


def has_formula_type(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration's model type is one of those with a formula."""
    return config.get("model_type") in LAYOUTS
