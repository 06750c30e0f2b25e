"""Images of the user's own, in every layout that is read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from transformers import ViTConfig

from sftopt.core.errors import InputError
from sftopt.training.data import load_task
from sftopt.training.data.images import ImageTask

COLOURS = np.array([[200, 0, 40], [10, 100, 250]], dtype=np.uint8)


def picture(label: int, side: int = 32) -> Image.Image:
    """A picture of its class's colour."""
    return Image.fromarray(np.broadcast_to(COLOURS[label], (side, side, 3)).copy())


def write_cifar(path: Path, labels: list[int]) -> None:
    rows = [
        bytes([0, label]) + np.repeat(COLOURS[label], 32 * 32).astype(np.uint8).tobytes()
        for label in labels
    ]
    path.write_bytes(b"".join(rows))


def write_folder(root: Path, held: str, count: int = 12, side: int = 32) -> None:
    for part, number in (("train", count), (held, 2)):
        for label, name in enumerate(("apple", "boat")):
            (root / part / name).mkdir(parents=True)
            for copy in range(number):
                picture(label, side).save(root / part / name / f"{copy}.png")


def write_parquet(path: Path, labels: list[int]) -> None:
    items = []
    for label in labels:
        buffer = io.BytesIO()
        picture(label).save(buffer, "PNG")
        items.append({"bytes": buffer.getvalue(), "path": None})
    parquet.write_table(pa.table({"img": items, "fine_label": labels}), path)


def assert_colours_match_labels(task: ImageTask) -> None:
    """Red or blue, by label, in training, validation and test."""
    batches = [next(task.train_batches(0, 2, 8, 0)), *task.evaluation(8, "validation")]
    for batch in [*batches, *task.evaluation(8)]:
        assert batch["pixel_values"].shape[1:] == (3, task.input.side, task.input.side)
        seen = (batch["pixel_values"].mean((2, 3)) * 0.5 + 0.5) * 255.0
        expected = torch.from_numpy(COLOURS)[batch["labels"]].float()
        torch.testing.assert_close(seen, expected, atol=0.01, rtol=0.0)


def test_cifar_binary(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    write_cifar(folder / "train.bin", [0, 1] * 20)
    write_cifar(folder / "test.bin", [1, 0, 1])
    task = load_task(f"cifar100:{tmp_path}")
    assert isinstance(task, ImageTask)
    assert (task.labels, task.held_out("test"), task.held_out("validation")) == (2, 3, 2)
    assert_colours_match_labels(task)
    assert task.model_config().image_size == 32
    before = task.fingerprint
    write_cifar(folder / "test.bin", [1, 0, 0])
    assert load_task(f"cifar100:{tmp_path}").fingerprint != before


def test_cifar_damaged_or_pickled(tmp_path: Path) -> None:
    write_cifar(tmp_path / "train.bin", [0, 1] * 20)
    (tmp_path / "test.bin").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="no multiple of 3074"):
        load_task(f"cifar100:{tmp_path}")
    other = tmp_path / "other"
    (other / "cifar-100-python").mkdir(parents=True)
    with pytest.raises(InputError, match=r"pickled Python version.*binary version"):
        load_task(f"cifar100:{other}")


def test_parquet(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00001.parquet", [0, 1] * 20)
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [1, 0])
    task = load_task(f"cifar100:{tmp_path}")
    assert isinstance(task, ImageTask)
    assert_colours_match_labels(task)


def test_folders_of_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, "val")
    task = load_task(f"tiny-imagenet:{tmp_path}")
    assert isinstance(task, ImageTask)
    assert task.input.side == 64
    assert_colours_match_labels(task)


def test_tiny_imagenet_with_annotations(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    for label, name in enumerate(("n01", "n02")):
        (root / "train" / name / "images").mkdir(parents=True)
        for copy in range(12):
            picture(label, 64).save(root / "train" / name / "images" / f"{copy}.png")
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for number, label in enumerate((1, 0, 1)):
        picture(label, 64).save(root / "val" / "images" / f"{number}.png")
        lines.append(f"{number}.png\tn0{label + 1}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines))
    task = load_task(f"tiny-imagenet:{tmp_path}")
    assert isinstance(task, ImageTask)
    assert torch.cat([b["labels"] for b in task.evaluation(2)]).tolist() == [1, 0, 1]
    assert_colours_match_labels(task)
    (root / "val" / "val_annotations.txt").write_text("0.png n09")
    with pytest.raises(InputError, match="line 1: a file name and a known class"):
        load_task(f"tiny-imagenet:{tmp_path}")


def test_model_decides_on_size_and_normalisation(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", "test")
    model = tmp_path / "model"
    ViTConfig(image_size=48).save_pretrained(model)
    (model / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]})
    )
    task = load_task(f"cifar100:{tmp_path / 'data'}", model=model)
    batch = next(task.evaluation(1))
    assert batch["pixel_values"].shape == (1, 3, 48, 48)
    seen = batch["pixel_values"].mean((0, 2, 3)) * 255.0
    torch.testing.assert_close(seen, torch.from_numpy(COLOURS[0]).float(), atol=0.01, rtol=0.0)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    for spec, told in (
        (f"cifar100:{tmp_path / 'none'}", "does not exist. Nothing is downloaded"),
        (f"cifar100:{tmp_path}", "no CIFAR-100 found there"),
        (f"tiny-imagenet:{tmp_path}", "no train folder there"),
    ):
        with pytest.raises(InputError, match=told):
            load_task(spec)
    write_folder(tmp_path, "test", count=12)
    (tmp_path / "test" / "apple" / "0.png").write_bytes(b"no image")
    task = load_task(f"cifar100:{tmp_path}")
    with pytest.raises(InputError, match="cannot be read as an image"):
        next(task.evaluation(1))
