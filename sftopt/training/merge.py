"""A tuned model as one: adapters worked into the weights, in a folder that transformers loads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoImageProcessor, PreTrainedModel

from sftopt.core.errors import DiskError, InputError
from sftopt.core.files import read_json, write_json
from sftopt.training.data.of_model import tokenizer_of
from sftopt.training.failures import memory_limits_told
from sftopt.training.model_hash import model_hash
from sftopt.training.split import SplitConfig, load_base_model
from sftopt.training.split.config import CONFIG_NAME
from sftopt.training.split.saving import WHOLE_NAME
from sftopt.training.task_model import fit_to_task

ADAPTERS_NAME = "adapters"
"""Folder of the tuned adapters in that of a run."""
TASK_MODEL_NAME = "task_model.json"
"""File beside the adapters that says what head their model has."""
_BESIDE = (
    "tokenizer*", "vocab*", "merges.txt", "*.model", "special_tokens_map.json",
    "added_tokens.json", "chat_template*", "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
"""Files of a model's folder that a merged one needs too."""


@dataclass(frozen=True)
class TaskModel:
    """How the base model of a run was loaded."""

    base_model: str
    """Folder, in full, or hub id."""
    task: str | None
    labels: int | None
    label_names: tuple[str, ...]
    padding_token: int | None
    model_hash: str
    """Of the base model with its fresh head."""

    def save(self, adapters: Path) -> None:
        """Write it beside the adapters. Raises InputError where that fails."""
        write_json(adapters / TASK_MODEL_NAME, asdict(self))

    @staticmethod
    def load(adapters: Path) -> TaskModel:
        """Read what :meth:`save` wrote. Raises InputError."""
        path = adapters / TASK_MODEL_NAME
        data = read_json(path, "description of a tuned model")
        try:
            names = tuple(str(name) for name in data.pop("label_names"))
            return TaskModel(**data, label_names=names)
        except (KeyError, TypeError):
            raise InputError(f"'{path}' is not what a fine-tuning writes.") from None


@dataclass(frozen=True)
class Merged:
    """A merged model."""

    path: Path
    base_model: str
    kind: str
    """Class of transformers that loads it."""
    parameters: int
    files: tuple[str, ...]


def merge(folder: Path, out: Path, *, local_files_only: bool = False) -> Merged:
    """Merge the server's adapters of a run into its base model, written into folder ``out``.

    ``folder`` is a run's, or its adapters'. Head, tokenizer and image processor come along. Raises
    InputError where ``folder`` holds no finished run, its base model is another one by now, or
    ``out`` holds something.
    """
    adapters = folder / ADAPTERS_NAME if (folder / ADAPTERS_NAME).is_dir() else folder
    if not (adapters / CONFIG_NAME).is_file() or not (adapters / TASK_MODEL_NAME).is_file():
        raise InputError(
            f"'{folder}' holds no tuned model; give the folder of a finished `sftopt finetune` "
            f"(it has {ADAPTERS_NAME}/{CONFIG_NAME})."
        )
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"'{out}' is there already; name another folder, or remove it.")
    config, about = SplitConfig.from_pretrained(adapters), TaskModel.load(adapters)
    with memory_limits_told("merging", "Take a larger machine."):
        base = load_base_model(
            about.base_model, task=about.task, local_files_only=local_files_only, seed=config.seed
        )
        fit_to_task(base, about.labels, config.seed, about.label_names, about.padding_token)
        if model_hash(base) != about.model_hash:
            raise InputError(
                f"base model '{about.base_model}' is not the one that was tuned (its weights "
                "differ); put that one back."
            )
        whole = adapters / WHOLE_NAME  # where frozen weights moved too, all of it stands there
        merged = _merged(base, whole if whole.is_dir() else adapters / "server")
        with _replacing(out) as fresh:
            merged.save_pretrained(fresh)
            _copy_beside(about.base_model, fresh)
    return Merged(
        out, about.base_model, type(merged).__name__,
        sum(p.numel() for p in merged.parameters()),
        tuple(sorted(path.name for path in out.iterdir())),
    )  # fmt: skip


def _merged(base: PreTrainedModel, server: Path) -> PreTrainedModel:
    """The base with the adapters in its weights and the trained head in place."""
    try:
        tuned: Any = PeftModel.from_pretrained(base, os.fspath(server))
        merged: PreTrainedModel = tuned.merge_and_unload(safe_merge=True)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"adapters '{server}' cannot be merged: {reason}") from None
    return merged


def _copy_beside(model: str, fresh: Path) -> None:
    """Tokenizer and image processor of the base model."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        for pattern in _BESIDE:
            for path in sorted(folder.glob(pattern)):
                if path.is_file() and not (fresh / path.name).exists():
                    shutil.copyfile(path, fresh / path.name)
        return
    if folder.is_file():  # a configuration alone: nothing stands beside it
        return
    tokenizer = tokenizer_of(model)
    if tokenizer is not None:
        tokenizer.save_pretrained(fresh)
        return
    try:
        processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            model, trust_remote_code=False, backend="pil"
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError):
        return
    processor.save_pretrained(fresh)


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A fresh folder that becomes ``out`` when all is written; nothing half-written stays."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        try:
            yield fresh
            fresh.chmod(0o755)
            os.rename(fresh, out)  # over an empty folder too
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        found = error if isinstance(error, OSError) else OSError(str(error))
        raise DiskError(out, found, "Choose another place.") from None
