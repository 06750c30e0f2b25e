"""The tasks' own models: inside the package, put together once, or pre-trained into the cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sftopt.face.output import tell
from sftopt.face.quiet import quiet_libraries

if TYPE_CHECKING:
    from sftopt.training.pretrain import PretrainingNews

_PLAIN_INTERVAL_S = 10.0
"""Least time between two lines of progress where the terminal shows no bar."""


def cache_folder() -> Path:
    """Return the folder of models made here: ``$XDG_CACHE_HOME/sftopt``, else
    ``~/.cache/sftopt``.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "sftopt"


def default_model(data: str, quiet: bool) -> str:
    """Return the folder of the task's own model; make it now if it is not there.

    Raises InputError for data that has no such model, or whose model is not installed.
    """
    from sftopt.training.data import load_task
    from sftopt.training.data.wordnet_senses import WordnetSenses
    from sftopt.training.minilm import minilm_model
    from sftopt.training.pretrain import pretrained
    from sftopt.training.shipped import shipped_model

    task = load_task(data)
    if isinstance(task, WordnetSenses):
        with quiet_libraries():
            return str(minilm_model(task, cache_folder() / "models"))
    shipped = shipped_model(task)
    if shipped is not None:
        return str(shipped)
    last_s = 0.0

    def news(step: PretrainingNews) -> None:
        nonlocal last_s
        if not quiet and step.elapsed_s - last_s >= _PLAIN_INTERVAL_S:
            last_s = step.elapsed_s
            tell(f"pre-training {step.step}/{step.steps}, {step.left_s:.0f} s left")

    return str(pretrained(data, cache=cache_folder() / "models", news=news))
