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


def test_hidden_and_stray_files_are_skipped_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path, "val")
    plain = load_task(f"tiny-imagenet:{tmp_path}")
    for part in ("train", "val"):
        (tmp_path / part / ".ipynb_checkpoints").mkdir()
        (tmp_path / part / "apple" / ".cache").mkdir()
        picture(1).save(tmp_path / part / "apple" / ".cache" / "0.png")
        (tmp_path / part / "boat" / "._0.png").write_bytes(b"\0\5\x16\7")
        (tmp_path / part / "boat" / "Thumbs.db").write_bytes(b"\xd0")
    (tmp_path / "train" / "__MACOSX").mkdir()
    task = load_task(f"tiny-imagenet:{tmp_path}")
    assert task.fingerprint == plain.fingerprint
    assert task.labels == 2
    assert_colours_match_labels(task)
    assert len(caplog.messages) == 1
    assert "skipped" in caplog.messages[0]
    assert "'train/.ipynb_checkpoints'" in caplog.messages[0]
    assert "and 6 more" in caplog.messages[0]


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_class_without_images_is_named(tmp_path: Path, part: str) -> None:
    write_folder(tmp_path, "val")
    (tmp_path / "train" / "bird").mkdir()
    if part == "val":
        picture(0).save(tmp_path / "train" / "bird" / "1.png")
        (tmp_path / "val" / "bird").mkdir()
    (tmp_path / part / "bird" / "readme.txt").write_text("none yet")
    with pytest.raises(InputError, match=rf"{part}'.*class folders 'bird'"):
        load_task(f"tiny-imagenet:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [("train/apple/3.png", b"", "3.png' is empty"),
     ("train/apple/3.png", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
     ("val/val_annotations.txt", b"\xff\xfe0", "val_annotations.txt' cannot be read"),
     ("val/val_annotations.txt", b"gone.png apple\n", "gone.png' cannot be read: No such")],
)  # fmt: skip
def test_files_without_their_data_are_named_at_the_start(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    write_folder(tmp_path, "val")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        load_task(f"tiny-imagenet:{tmp_path}")


def png(side: int = 32) -> bytes:
    buffer = io.BytesIO()
    picture(0, side).save(buffer, "PNG")
    return buffer.getvalue()


def test_images_as_plain_bytes_in_a_table(tmp_path: Path) -> None:
    for name, count in (("train", 40), ("test", 4)):
        table = pa.table({"img": [png()] * count, "label": [0, 1] * (count // 2)})
        parquet.write_table(table, tmp_path / f"{name}-0.parquet")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "train-0.parquet").write_text("half")
    task = load_task(f"cifar100:{tmp_path}")
    assert next(task.train_batches(0, 1, 4, 0))["pixel_values"].shape == (4, 3, 32, 32)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"img": [{"bytes": None, "path": "1.png"}] * 20}, "'img', row 1: only the path '1.png'"),
        ({"img": [{"bytes": png(), "path": None}] * 19 + [None]}, "'img', row 20: no bytes"),
        ({"img": ["AAAA"] * 20}, "'img', row 1: a str"),
        ({"img": [b""] * 20}, "'img', row 1: a bytes"),
        ({"label": ["cat"] * 20}, "'label', row 1: label 'cat'"),
        ({"label": [0] * 19 + [None]}, r"'label', row 20: label None \(the labels.*hidden"),
        ({"label": [0] * 19 + [-1]}, r"'label', row 20: label -1 \(the labels.*hidden"),
        ({"label": [0.5] * 20}, "'label', row 1: label 0.5"),
        ({"label": [2**40] * 20}, "'label', row 1: label 1099511627776"),
    ],
)
def test_a_columns_fault_is_named_with_file_column_and_row(
    tmp_path: Path, change: dict[str, list[object]], told: str
) -> None:
    good: dict[str, list[object]] = {"img": [png()] * 20, "label": [0, 1] * 10}
    parquet.write_table(pa.table(good), tmp_path / "train-0.parquet")
    parquet.write_table(pa.table({**good, **change}), tmp_path / "test-0.parquet")
    with pytest.raises(InputError, match=rf"test-0.parquet', column {told}"):
        load_task(f"cifar100:{tmp_path}")


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n", "git lfs pull"),
     (b"PAR1", "cannot be read as Parquet"), (b"", "cannot be read as Parquet")],
)  # fmt: skip
def test_a_table_that_is_none_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}-0.parquet").write_bytes(content)
    with pytest.raises(InputError, match=rf"train-0.parquet'.*{told}"):
        load_task(f"cifar100:{tmp_path}")


def test_images_that_cannot_be_decoded_are_named_with_their_place(tmp_path: Path) -> None:
    header = png()[:16] + (60_000).to_bytes(4, "big") * 2 + png()[24:]
    for content in (png()[:40], header, b"GIF89a", png()[:-40]):
        table = pa.table({"img": [content] * 20, "label": [0, 1] * 10})
        for name in ("train", "test"):
            parquet.write_table(table, tmp_path / f"{name}-0.parquet")
        task = load_task(f"cifar100:{tmp_path}")
        with pytest.raises(InputError, match=r"column 'img', row \d+ cannot be read as an image"):
            next(task.train_batches(0, 1, 2, 0))
