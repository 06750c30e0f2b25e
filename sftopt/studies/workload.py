"""The workload of a model: by formula where there is one, else counted where torch is."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from sftopt.core.config_keys import ARCHITECTURES
from sftopt.core.instance import Workload
from sftopt.core.model_layouts import LAYOUTS
from sftopt.core.workload import workload_from_config
from sftopt.core.workload_settings import WorkloadSettings, settings_by_name


@settings_by_name
def workload(config: Mapping[str, Any], asked: WorkloadSettings) -> Workload:
    """Derive the workload of LoRA fine-tuning the model of a ``config.json``, given as a dict.

    Settings by name: :class:`~sftopt.core.workload_settings.WorkloadSettings`. By formula for the
    model types that have one (``vit bert gpt2 llama qwen2 mistral``) with their usual heads; any
    other model that can be split is counted on a model without weights, which needs the extra
    ``train``. Raises InputError naming what is impossible, or where a model can be neither derived
    nor counted.
    """
    if by_formula(config) or not _can_count():
        return workload_from_config(config, **vars(asked))
    from sftopt.training.counted import counted_workload

    return counted_workload(config, **vars(asked))


def by_formula(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration is for the formulas: by its model type and its head."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in LAYOUTS:
        return False
    named = config.get("architectures")
    if not isinstance(named, list) or not named or set(named) & set(ARCHITECTURES[kind]):
        return True
    return not _can_count() or not _is_of_transformers(named[0])


def _can_count() -> bool:
    return find_spec("torch") is not None and find_spec("peft") is not None


def _is_of_transformers(name: Any) -> bool:
    import transformers

    return isinstance(name, str) and hasattr(transformers, name)
