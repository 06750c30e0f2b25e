"""Images by number: in memory, as files, or as bytes out of tables, decoded when asked for."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sftopt.core.errors import InputError
from sftopt.core.files import LFS_POINTER, refuse_lfs_pointer

ByteArray = NDArray[np.uint8]
IntArray = NDArray[np.int64]

_DECODING_FAULTS = (
    OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, struct.error,
    ArithmeticError, RuntimeWarning,
)  # fmt: skip
"""What Pillow raises of damaged or forged files; its warnings of giant ones are raised as well."""


class Pictures(Protocol):
    """Images by number."""

    def size(self) -> int:
        """Return the number of pictures."""
        ...

    def pixels(self, numbers: IntArray, side: int) -> torch.Tensor:
        """Return pixels as float32 in [0, 1], shape (images, 3, side, side)."""
        ...

    def feed(self, digest: Any) -> None:
        """Put all content into a hash."""
        ...


@dataclass(frozen=True)
class DecodedPictures:
    """Images in memory, uint8 (images, 3, height, width)."""

    values: ByteArray

    def size(self) -> int:
        """Return the number of pictures."""
        return len(self.values)

    def pixels(self, numbers: IntArray, side: int) -> torch.Tensor:
        """Return pixels as float32 in [0, 1], shape (images, 3, side, side)."""
        return _sized(torch.from_numpy(self.values[numbers]).float() / 255.0, side)

    def feed(self, digest: Any) -> None:
        """Put all content into a hash."""
        digest.update(np.ascontiguousarray(self.values).data)


@dataclass(frozen=True)
class FromTable:
    """An encoded image out of a table, and where it stood."""

    content: bytes
    path: Path
    column: str
    row: int

    def __str__(self) -> str:
        return f"'{self.path}', column '{self.column}', row {self.row}"


@dataclass(frozen=True)
class EncodedPictures:
    """Image files, decoded when asked for: by path, or their bytes."""

    items: Sequence[Path | FromTable]

    def size(self) -> int:
        """Return the number of pictures."""
        return len(self.items)

    def pixels(self, numbers: IntArray, side: int) -> torch.Tensor:
        """Return pixels as float32 in [0, 1], shape (images, 3, side, side). Raises InputError for
        a file that is no image.
        """
        return torch.cat([_sized(_decoded(self.items[number]), side) for number in numbers])

    def feed(self, digest: Any) -> None:
        """Put all content into a hash. Raises InputError for files that hold no data."""
        for item in self.items:
            digest.update(_content(item))


@dataclass(frozen=True)
class Labelled:
    """Images with their class numbers."""

    pictures: Pictures
    labels: IntArray


def _content(item: Path | FromTable) -> bytes:
    if isinstance(item, FromTable):
        return item.content
    try:
        content = item.read_bytes()
    except OSError as error:
        raise InputError(f"image '{item}' cannot be read: {error.strerror}.") from None
    if content.startswith(LFS_POINTER):
        refuse_lfs_pointer(item, "image")
    if not content:
        raise InputError(f"image '{item}' is empty; put the image back, or remove the file.")
    return content


def _decoded(item: Path | FromTable) -> torch.Tensor:
    try:
        from PIL import Image
    except ImportError:
        raise InputError("image files need Pillow (pip install pillow).") from None
    where = str(item) if isinstance(item, FromTable) else f"'{item}'"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(_content(item))) as opened:
                values = np.asarray(opened.convert("RGB"), dtype=np.float32)
    except (*_DECODING_FAULTS, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where} cannot be read as an image: {reason}.") from None
    return torch.from_numpy(values / np.float32(255.0)).permute(2, 0, 1)[None]


def _sized(images: torch.Tensor, side: int) -> torch.Tensor:
    if images.shape[-2:] == (side, side):
        return images
    return torch.nn.functional.interpolate(
        images, size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )
