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


_LONGEST = 100
"""Largest ratio of an image's sides: its shorter one is stretched to the model's."""
_SIXTEEN_BITS = 65535.0
"""Largest value of a pixel of 16 bits."""


class Pictures(Protocol):
    """Images by number."""

    def size(self) -> int:
        """Return the number of pictures."""
        ...

    def pixels(self, numbers: IntArray, side: int) -> torch.Tensor:
        """Return pixels as float32 in [0, 1], shape (images, 3, side, side)."""
        ...

    def originals(self, numbers: IntArray) -> list[ByteArray]:
        """Return pictures of their own sizes, each (height, width, 3)."""
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

    def originals(self, numbers: IntArray) -> list[ByteArray]:
        """Return pictures of their own sizes, each (height, width, 3)."""
        return list(self.values[numbers].transpose(0, 2, 3, 1))

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
        decoded = [torch.from_numpy(one).permute(2, 0, 1) for one in self.originals(numbers)]
        return torch.cat([_sized(one[None].float() / 255.0, side) for one in decoded])

    def originals(self, numbers: IntArray) -> list[ByteArray]:
        """Return pictures of their own sizes, each (height, width, 3). Raises InputError."""
        return [_decoded(self.items[number]) for number in numbers]

    def feed(self, digest: Any) -> None:
        """Put all content into a hash. Raises InputError for files that hold no data."""
        for item in self.items:
            digest.update(_content(item))


@dataclass(frozen=True)
class Labelled:
    """Images with their class numbers."""

    pictures: Pictures
    labels: IntArray
    names: tuple[str, ...] = ()
    """Of the classes, where the data tells them."""


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


def _decoded(item: Path | FromTable) -> ByteArray:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise InputError("image files need Pillow (pip install pillow).") from None
    where = str(item) if isinstance(item, FromTable) else f"'{item}'"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(_content(item))) as opened:
                upright = ImageOps.exif_transpose(opened)
                values = np.array(_in_eight_bits(upright).convert("RGB"))
    except (*_DECODING_FAULTS, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{where} cannot be read as an image: {reason}.") from None
    height, width = values.shape[:2]
    if max(height, width) > _LONGEST * min(height, width):
        raise InputError(
            f"{where} is {width} x {height}: too narrow to be cut to a square. Leave it out."
        )
    return values


def _in_eight_bits(image: Any) -> Any:
    """Pictures of 16 bits (scans, X-rays) scaled to 8, which Pillow alone would cut off."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64) / _SIXTEEN_BITS
    elif image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float64)
        top = max(float(values.max()), 1.0)
        values = values / (_SIXTEEN_BITS if top > 255.0 else 255.0 if top > 1.0 else 1.0)
    else:
        return image
    return _gray(np.clip(values, 0.0, 1.0))


def _gray(values: NDArray[np.float64]) -> Any:
    from PIL import Image

    return Image.fromarray(np.rint(255.0 * values).astype(np.uint8))


def _sized(images: torch.Tensor, side: int) -> torch.Tensor:
    if images.shape[-2:] == (side, side):
        return images
    return torch.nn.functional.interpolate(
        images, size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )
