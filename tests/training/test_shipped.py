"""The models inside the package: whole, of today's recipe, and found before anything is trained."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageClassification

from sftopt.core.errors import InputError
from sftopt.face.default_model import default_model
from sftopt.training import shipped
from sftopt.training.bases import measure_bases
from sftopt.training.data import load_task
from sftopt.training.data.digit_scenes import DigitScenes
from sftopt.training.pretrain import _BASES_BATCH
from sftopt.training.shipped import shipped_model
from sftopt.training.split import load_base_model

HEADS = {"digit-scenes": AutoModelForImageClassification, "stdlib-bytes": AutoModelForCausalLM}
NAMES = sorted(path.name for path in shipped.FOLDER.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_default_task_needs_no_pretraining(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # an empty cache, which stays empty
    folder = Path(default_model(name, quiet=True))
    assert folder == shipped.FOLDER / name
    assert list(tmp_path.iterdir()) == []
    task = load_task(name, model=folder)
    assert any(label.startswith("rotated") for label in task.recommended_codecs)
    model = HEADS[name].from_pretrained(folder)
    assert model.config.num_hidden_layers == 6


def test_they_are_small() -> None:
    sizes = [path.stat().st_size for path in shipped.FOLDER.rglob("*") if path.is_file()]
    assert sum(sizes) < 3_500_000


def test_the_language_model_has_16_bits_in_the_file_and_32_in_memory() -> None:
    """For this package and for plain transformers alike, as its configuration says; its bases are
    those of the weights as they are in the file.
    """
    folder = shipped.FOLDER / "stdlib-bytes"
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {
        torch.float16
    }
    ours = load_base_model(folder, local_files_only=True)
    assert {one.dtype for one in ours.parameters()} == {torch.float32}
    for options in ({}, {"dtype": "auto"}):
        plain: Any = AutoModelForCausalLM.from_pretrained(folder, **options)
        assert plain.dtype is torch.float32
        assert all(map(torch.equal, plain.parameters(), ours.parameters()))
    part = load_task("stdlib-bytes").pretraining()
    assert part is not None
    measured = measure_bases(ours, part.train_batches(0, 1, _BASES_BATCH, 0))
    for name, basis in load_file(folder / "boundary_bases.safetensors").items():
        signs = torch.sign((measured[name] * basis).sum(0))  # an eigenvector has either
        torch.testing.assert_close(measured[name] * signs, basis, rtol=0, atol=2e-3)


def test_another_recipe_or_a_damaged_file_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(shipped.FOLDER, tmp_path / "models")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "models")
    task = load_task("digit-scenes")
    assert isinstance(task, DigitScenes)
    assert shipped_model(task) == tmp_path / "models" / "digit-scenes"
    assert shipped_model(replace(task, labels=29)) is None
    weights = tmp_path / "models" / "digit-scenes" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="its checksum differs"):
        shipped_model(task)
    weights.unlink()
    assert shipped_model(task) is None
