"""Images in one folder per class, as people keep them: with other programs' files among them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sftopt.core.errors import InputError
from sftopt.training.data.pictures import EncodedPictures, FromTable, Labelled
from sftopt.training.data.tables import HELD_OUT_EVERY

LOGGER = logging.getLogger(__name__)
"""Tells what was skipped; on standard error by default."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
"""Ends of the names of image files."""
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")
"""Names that programs leave among data without hiding them."""
_SHOWN = 3
"""Most names listed in a message."""


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is of some program and no data."""
    return name.startswith(".") or name in _LITTER


class _Listing:
    """What is in folders of classes, without what is hidden, which is counted."""

    def __init__(self) -> None:
        self.skipped: list[Path] = []

    def entries(self, folder: Path) -> list[Path]:
        """Return what is in ``folder``, sorted by name. Raises InputError where that fails."""
        try:
            found = sorted(folder.iterdir())
        except OSError as error:
            raise InputError(f"'{folder}' cannot be read: {error.strerror}.") from None
        self.skipped += [path for path in found if is_hidden(path.name)]
        return [path for path in found if not is_hidden(path.name)]

    def classes(self, folder: Path) -> list[str]:
        """Return the names of the folders in ``folder``, sorted."""
        return [path.name for path in self.entries(folder) if path.is_dir()]

    def images(self, folder: Path) -> list[Path]:
        """Return all image files below ``folder``, sorted."""
        found = []
        for path in self.entries(folder):
            if path.is_dir():
                found += self.images(path)
            elif path.suffix.lower() in _SUFFIXES:
                found.append(path)
        return sorted(found)

    def of_classes(self, folder: Path, classes: Sequence[str]) -> Labelled:
        """Return all images of all classes. Raises InputError for a class without any."""
        paths: list[Path | FromTable] = []
        labels: list[int] = []
        empty = []
        for number, name in enumerate(classes):
            found = self.images(folder / name) if (folder / name).is_dir() else []
            if not found and (folder / name).is_dir():
                empty.append(name)
            paths += found
            labels += [number] * len(found)
        if empty:
            raise InputError(
                f"'{folder}': no images ({', '.join(_SUFFIXES)}) in the class folders "
                f"{_listed(empty)}. Put images there, or remove the folders in every part."
            )
        return Labelled(EncodedPictures(paths), np.array(labels, dtype=np.int64), tuple(classes))

    def tell(self, folder: Path) -> None:
        """Say in one line what was skipped, where anything was."""
        if self.skipped:
            names = _listed([path.relative_to(folder).as_posix() for path in self.skipped])
            LOGGER.warning("'%s': skipped what is hidden or no data: %s", folder, names)


def class_folders(folder: Path) -> tuple[Labelled, Labelled]:
    """Read ``train/CLASS`` and ``test/CLASS`` (or ``val``, ``valid``). Raises InputError."""
    listing = _Listing()
    held = next((name for name in ("test", "val", "valid") if (folder / name).is_dir()), None)
    if held is None:
        raise InputError(f"'{folder}' has a train folder but none named test or val.")
    classes = _training_classes(listing, folder)
    unknown = sorted(set(listing.classes(folder / held)) - set(classes))
    if unknown:
        raise InputError(f"'{folder / held}': classes without training data: {_listed(unknown)}.")
    both = (
        listing.of_classes(folder / "train", classes),
        listing.of_classes(folder / held, classes),
    )
    listing.tell(folder)
    return both


def one_folder(folder: Path) -> tuple[Labelled, Labelled]:
    """Read ``CLASS`` folders without parts: every 20th image of a class is for testing.

    Raises InputError.
    """
    listing = _Listing()
    classes = listing.classes(folder)
    if len(classes) < 2:
        raise InputError(
            f"'{folder}' holds {len(classes)} folders of classes; 2 or more are needed, or folders "
            "train and test with them."
        )
    whole = listing.of_classes(folder, classes)
    listing.tell(folder)
    assert isinstance(whole.pictures, EncodedPictures)
    seen: Counter[int] = Counter()
    held = np.zeros(whole.labels.size, bool)
    for number, label in enumerate(whole.labels.tolist()):
        held[number] = seen[label] % HELD_OUT_EVERY == 1  # a class of one image trains with it
        seen[label] += 1
    train, test = (
        Labelled(
            EncodedPictures(
                [whole.pictures.items[number] for number in np.flatnonzero(part).tolist()]
            ),
            whole.labels[part],
            whole.names,
        )
        for part in (~held, held)
    )
    return train, test


def annotated_folder(folder: Path, annotations: Path) -> tuple[Labelled, Labelled]:
    """Read ``train/CLASS`` and the images that ``annotations`` lists, as Tiny-ImageNet has them.

    Raises InputError.
    """
    listing = _Listing()
    classes = _training_classes(listing, folder)
    numbers = {name: number for number, name in enumerate(classes)}
    paths: list[Path | FromTable] = []
    labels = []
    try:
        lines = annotations.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{annotations}' cannot be read: {error}.") from None
    for row, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or words[1] not in numbers:
            raise InputError(f"'{annotations}' line {row}: a file name and a known class expected.")
        paths.append(folder / "val" / "images" / words[0])
        labels.append(numbers[words[1]])
    held = Labelled(EncodedPictures(paths), np.array(labels, dtype=np.int64))
    train = listing.of_classes(folder / "train", classes)
    listing.tell(folder)
    return train, held


def _training_classes(listing: _Listing, folder: Path) -> list[str]:
    classes = listing.classes(folder / "train")
    if len(classes) < 2:
        raise InputError(f"'{folder / 'train'}' holds {len(classes)} class folders; 2 are needed.")
    return classes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more
