"""Images of the user's own: CIFAR-100 and Tiny-ImageNet as downloaded, or any folder of classes.

Nothing is fetched, and no pickle is read. Layouts known:

* ``cifar-100-binary``: ``train.bin`` and ``test.bin`` (the binary version of the data set);
* parquet files named ``train*`` and ``test*`` as on the Hugging Face hub;
* ``train/CLASS/*.png`` and ``test/CLASS/*.png`` (also ``val``; jpg, jpeg, bmp, webp);
* ``CLASS/*.png`` without parts, of which every 20th image is for testing (``images:``);
* ``tiny-imagenet-200``: ``train/CLASS/images/*.JPEG`` and ``val/val_annotations.txt``.

Hidden files and folders are skipped, with a line that says so. Every 20th training image is kept
apart for validation. Devices hold equal random shares.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import PretrainedConfig, ViTConfig

from sftopt.core.errors import InputError
from sftopt.core.files import refuse_lfs_pointer
from sftopt.training.data.class_folders import annotated_folder, class_folders, one_folder
from sftopt.training.data.encode import label_classes
from sftopt.training.data.image_tables import image_tables, images_of
from sftopt.training.data.of_model import ImageInput
from sftopt.training.data.pictures import DecodedPictures, EncodedPictures, IntArray, Labelled
from sftopt.training.data.tables import Table
from sftopt.training.data.task import Batch, Part, Task, TaskKind, TrainingDefaults, generator_of

_CIFAR_ROW_BYTES = 2 + 3 * 32 * 32
"""Bytes of one picture in CIFAR-100's binary files: two labels, then the pixels."""
_SIDE = 64
"""Side in pixels to which images are brought where no model says."""
_VALIDATION_EVERY = 20
"""Of the training pictures every so many-th is for validation."""
_SHARES_SEED = 7
"""Seed of the order in which pictures are shared among devices."""


@dataclass(frozen=True)
class ImageTask(Task):
    """A data set of images in classes."""

    train: Labelled | None = None
    test: Labelled | None = None
    input: ImageInput = field(default_factory=ImageInput)

    def held_out(self, part: str) -> int:
        """Return the number of images of a held-out part."""
        return int(self._numbers(Part(part)).size)

    def model_config(self) -> PretrainedConfig:
        """Return a ViT of 6 blocks, hidden 96, with 64 patches; its weights are random."""
        return ViTConfig(
            hidden_size=96,
            num_hidden_layers=6,
            num_attention_heads=4,
            intermediate_size=384,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            image_size=self.input.side,
            patch_size=max(self.input.side // 8, 1),
            initializer_range=0.1,
            id2label={number: str(number) for number in range(self.labels or 0)},
            architectures=["ViTForImageClassification"],
        )

    def _numbers(self, part: Part) -> IntArray:
        train, test = self._both()
        if part is Part.TEST:
            return np.arange(test.labels.size)
        return np.arange(0, train.labels.size, _VALIDATION_EVERY)

    def _draw(self, device: int, devices: int, batch: int, generator: np.random.Generator) -> Batch:
        train, _ = self._both()
        every = np.arange(train.labels.size)
        order = generator_of(_SHARES_SEED).permutation(every[every % _VALIDATION_EVERY != 0])
        own = order[device::devices]
        if own.size == 0:
            raise InputError(f"task '{self.name}': fewer training images than {devices} devices.")
        return self._batch(train, own[generator.integers(own.size, size=batch)])

    def _held_out(self, part: Part, numbers: IntArray) -> Batch:
        train, test = self._both()
        return self._batch(test if part is Part.TEST else train, self._numbers(part)[numbers])

    def _batch(self, images: Labelled, numbers: IntArray) -> Batch:
        given = self.input
        if given.processor is not None:
            values = given.processed(images.pictures.originals(numbers))
        else:
            values = given.normalised(images.pictures.pixels(numbers, given.side))
        return {"pixel_values": values, "labels": torch.from_numpy(images.labels[numbers])}

    def _both(self) -> tuple[Labelled, Labelled]:
        assert self.train is not None  # `_task` gives both
        assert self.test is not None
        return self.train, self.test


def load_cifar100(place: str, model: str | os.PathLike[str] | None = None) -> ImageTask:
    """Load CIFAR-100 in any layout above. Raises InputError where none is found."""
    folder = _folder(place, "cifar100")
    for root in (folder, folder / "cifar-100-binary"):
        if (root / "train.bin").is_file():
            both = (_cifar_binary(root / "train.bin"), _cifar_binary(root / "test.bin"))
            return _task(f"cifar100:{place}", *both, ImageInput.of(model, 32))
    parquet = image_tables(folder)
    if parquet is not None:
        return _task(f"cifar100:{place}", *parquet, ImageInput.of(model, 32))
    if (folder / "train").is_dir():
        return _task(f"cifar100:{place}", *class_folders(folder), ImageInput.of(model, 32))
    pickled = (folder / "meta").is_file() or (folder / "cifar-100-python").is_dir()
    because = " This is the pickled Python version, which is not read." if pickled else ""
    raise InputError(
        f"data 'cifar100:{place}': no CIFAR-100 found there.{because} Unpack the binary version "
        "(cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html), the hub's "
        "parquet files, or folders train/CLASS and test/CLASS of images."
    )


def load_tiny_imagenet(place: str, model: str | os.PathLike[str] | None = None) -> ImageTask:
    """Load Tiny-ImageNet, or any folder of classes. Raises InputError where neither is found."""
    folder = _folder(place, "tiny-imagenet")
    if (folder / "tiny-imagenet-200").is_dir():
        folder = folder / "tiny-imagenet-200"
    annotations = folder / "val" / "val_annotations.txt"
    if annotations.is_file():
        both = annotated_folder(folder, annotations)
    elif (folder / "train").is_dir():
        both = class_folders(folder)
    else:
        parquet = image_tables(folder)
        if parquet is None:
            raise InputError(
                f"data 'tiny-imagenet:{place}': no train folder there. Unpack "
                "tiny-imagenet-200.zip (http://cs231n.stanford.edu/tiny-imagenet-200.zip) and "
                "name the folder, or give folders train/CLASS and val/CLASS of images."
            )
        both = parquet
    return _task(f"tiny-imagenet:{place}", *both, ImageInput.of(model, 64))


def load_folder(place: str, model: str | os.PathLike[str] | None = None) -> ImageTask:
    """Load a folder of classes, or of ``train`` and ``test`` with classes in them.

    Raises InputError where neither is found.
    """
    folder = _folder(place, "images")
    both = class_folders(folder) if (folder / "train").is_dir() else one_folder(folder)
    return _task(f"images:{place}", *both, ImageInput.of(model, _SIDE))


def load_table(
    data: str,
    parts: Mapping[str, Table],
    columns: Mapping[str, str],
    model: str | os.PathLike[str] | None = None,
) -> ImageTask:
    """Load images and labels out of the columns of a table. Raises InputError naming the row."""
    classes = label_classes(parts, columns["label"], None, data)
    train, test = (
        Labelled(
            EncodedPictures(images_of(parts[part], columns["image"])),
            np.array([classes.numbers[value] for value in classes.values[part]], np.int64),
            classes.names,
        )
        for part in ("train", "test")
    )
    return _task(data, train, test, ImageInput.of(model, _SIDE))


def _task(name: str, train: Labelled, test: Labelled, images: ImageInput) -> ImageTask:
    if train.labels.size < _VALIDATION_EVERY or test.labels.size == 0:
        raise InputError(
            f"data '{name}': {train.labels.size} training and {test.labels.size} test images; at "
            f"least {_VALIDATION_EVERY} and 1 are needed."
        )
    digest = hashlib.sha256(f"{images.side} {images.mean} {images.deviation}".encode())
    digest.update(images.processing.encode())
    names = train.names
    for part in (train, test):
        digest.update(part.labels.astype("<i8").tobytes())
        part.pictures.feed(digest)
    return ImageTask(
        name=name,
        kind=TaskKind.IMAGE_CLASSIFICATION,
        metric="accuracy",
        labels=len(names) or int(max(train.labels.max(), test.labels.max())) + 1,
        label_names=names,
        fingerprint=digest.hexdigest(),
        training=TrainingDefaults(batch=32, steps=1000, cut=2, learning_rate=1e-3),
        train=train,
        test=test,
        input=images,
    )


def _folder(place: str, kind: str) -> Path:
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"data '{kind}:{place}': the folder '{folder}' does not exist. Nothing is downloaded: "
            "put the data there, or use digit-scenes, which needs none."
        )
    return folder


def _cifar_binary(path: Path) -> Labelled:
    """Rows of coarse label, fine label, 3 x 32 x 32 pixels. Raises InputError."""
    refuse_lfs_pointer(path, "file")
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from None
    if data.size == 0 or data.size % _CIFAR_ROW_BYTES:
        raise InputError(
            f"'{path}' has {data.size} bytes, no multiple of {_CIFAR_ROW_BYTES}: it is damaged, or "
            "not the binary version of CIFAR-100."
        )
    rows = data.reshape(-1, _CIFAR_ROW_BYTES)
    if rows[:, 1].max() > 99:
        raise InputError(f"'{path}' holds labels above 99; it is not CIFAR-100.")
    return Labelled(
        DecodedPictures(rows[:, 2:].reshape(-1, 3, 32, 32)), rows[:, 1].astype(np.int64)
    )
