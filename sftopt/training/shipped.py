"""The small models of the default tasks that are inside the package, so that nobody waits for them.

Made by ``sftopt pretrain --data TASK --out sftopt/data/models/TASK``. On another release of Python
the pre-training data of ``stdlib-bytes`` differs a little; the model stays the shipped one. Its
weights were trained before pre-training ended by rounding them to 16 bits; the functions with which
it ends now rounded them and measured the bases again (``notes`` in ``pretrain.json``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sftopt.core.files import read_json
from sftopt.training.data import Task
from sftopt.training.pretrain import MADE_FILES, RECORD_NAME, check_made
from sftopt.training.pretrain_recipe import recipe_of

FOLDER = Path(__file__).parents[1] / "data" / "models"
"""Folder of the models, by the task's name."""


def shipped_model(task: Task) -> Path | None:
    """Return the folder of a task's model in the package; None where there is none.

    Also None where this release would pre-train it in another way. Raises InputError where a file
    is not as it was made.
    """
    folder = FOLDER / task.name
    if not all((folder / name).is_file() for name in (*MADE_FILES, RECORD_NAME)):
        return None
    record = read_json(folder / RECORD_NAME, "pre-training record")
    if _way(record["recipe"]) != _way(recipe_of(task, 0, {})):
        return None
    check_made(folder, record)
    return folder


def _way(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without the hash of its data."""
    return {name: value for name, value in recipe.items() if name != "data"}
