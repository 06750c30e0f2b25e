"""Residual vector quantisation: small groups of coordinates, each as the nearest of 256 vectors.

Coordinates are those of a basis; every group has some of large and some of small variance. What the
first vector leaves is coded by the next stage's. Eight bits for each group and stage; no entropy
coder. Codebooks are learnt before fine-tuning (:func:`learnt_books`) and held at both ends, in a
file beside the bases.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from sftopt.core.errors import InputError
from sftopt.training.codec.base import (
    CodecConfig,
    Decoded,
    Encoded,
    EvenCodec,
    Parts,
    Support,
    in_dtype,
    is_whole,
    register,
)
from sftopt.training.codec.basis_file import basis_name
from sftopt.training.codec.container import Direction, Header, Reader
from sftopt.training.codec.errors import CodecError
from sftopt.training.codec.rotated import product

_LAYOUT = struct.Struct("<8sBHf")
"""Layout of the head of a body: mark of the books, direction, cut, and the tensor's spread."""
_MARK_BYTES = 8
"""Bytes of a hash by which payloads name a file."""
_WORDS = 256
"""Vectors of a codebook: one byte each."""
_ROUNDS = 12
"""Rounds of k-means in learning a codebook."""
_PARTS = ("centre", "turn", "back", "books")
"""What the file holds of each direction and cut."""
_FLOOR = 1e-12
"""Least spread that a tensor is divided by."""


@dataclass(frozen=True)
class CodebookConfig(CodecConfig):
    """The file of codebooks."""

    codec = "codebook"

    books: str = ""
    """Path of the file, at either end a copy of the same."""
    cut: int | None = None
    """Blocks before the boundary; None: it is told."""

    def faults(self) -> list[str]:
        """List the faults of the parameters; the file is looked at when the codec is made."""
        faults = [] if self.books else ["books: the path of a file of codebooks is needed"]
        if self.cut is not None and not is_whole(self.cut, 0, 9999):
            faults.append(f"cut = {self.cut!r}, a number of blocks expected")
        return faults


class Books:
    """Centres, bases and codebooks by name; books have shape (stages, groups, 256, width)."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], mark: bytes) -> None:
        self._tensors = dict(tensors)
        self._placed: dict[tuple[str, torch.device], torch.Tensor] = {}
        self.mark = mark
        """How payloads name the file."""

    def of(self, name: str, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Return centre, turn, back and books of a direction and cut, on ``device``."""
        found = []
        for part in _PARTS:
            key = f"{name}.{part}"
            if key not in self._tensors:
                raise CodecError(f"the codebooks have none for '{name}'")
            if (key, device) not in self._placed:
                self._placed[key, device] = self._tensors[key].to(device)
            found.append(self._placed[key, device])
        return tuple(found)


_LOADED: dict[bytes, Books] = {}
"""Files by mark: those whose payloads can be decoded."""


@lru_cache(maxsize=16)
def load_books(path: str) -> Books:
    """Read a file of codebooks; payloads made with it can be decoded from then on."""
    try:
        content = Path(path).expanduser().read_bytes()
        tensors = load(content)
    except (OSError, SafetensorError) as error:
        raise InputError(f"file of codebooks '{path}' cannot be read: {error}.") from None
    mark = hashlib.sha256(content).digest()[:_MARK_BYTES]
    return _LOADED.setdefault(mark, Books(tensors, mark))


def save_books(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write what :func:`learnt_books` gave, for all directions and cuts."""
    save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path)


def learnt_books(
    name: str, rows: torch.Tensor, basis: torch.Tensor, width: int, stages: int, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return the codebooks of one boundary, learnt from (rows, channels) in a basis.

    ``name`` is as of bases, ``activation.02``; groups have ``width`` coordinates.
    """
    channels = rows.shape[1]
    if channels % width:
        raise InputError(f"{channels} channels in groups of {width}: a divisor is needed")
    groups = channels // width
    # group g has the directions g, g + groups, ...: some of large and some of small variance
    order = torch.arange(channels).reshape(width, groups).T.reshape(-1)
    turn = basis[:, order].to(rows.device).float()
    # gradients have no centre to speak of, and one that was learnt would outlast their scale
    centre = rows.float().mean(0) * (not name.startswith("gradient"))
    turned = product(rows.float() - centre, turn)
    left = (turned / turned.square().mean().sqrt().clamp_min(_FLOOR)).reshape(-1, groups, width)
    generator = torch.Generator().manual_seed(seed)
    books = []
    for _ in range(stages):
        book = torch.stack([_means(left[:, g], generator) for g in range(groups)])
        books.append(book)
        left = left - _nearest(left, book)[1]
    return {
        f"{name}.centre": centre,
        f"{name}.turn": turn,
        f"{name}.back": torch.linalg.inv(turn.double()).float(),
        f"{name}.books": torch.stack(books),
    }


def _means(points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """256 centres of (points, width), by k-means."""
    first = torch.randint(len(points), (_WORDS,), generator=generator)
    centres = points[first.to(points.device)].clone()
    for _ in range(_ROUNDS):
        nearest = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        counts = torch.bincount(nearest, minlength=_WORDS).unsqueeze(1)
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres


def _nearest(points: torch.Tensor, book: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers (rows, groups) of the nearest vectors to (rows, groups, width), and the vectors."""
    by_group = points.transpose(0, 1)
    numbers = torch.cdist(by_group, book).argmin(2)
    return numbers.T, _looked_up(numbers.T, book)


def _looked_up(numbers: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """The vectors of (rows, groups) numbers, (rows, groups, width)."""
    groups = torch.arange(book.shape[0], device=book.device)
    return book[groups[None, :], numbers]


@register
class Codebook(EvenCodec[CodebookConfig]):
    """Residual vector quantisation; mode ``dense``."""

    name = "codebook"
    wire_id = 11
    config_class = CodebookConfig

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__(config)
        self._books = load_books(config.books)

    def _coded(
        self, tensor: torch.Tensor, direction: Direction, generator: np.random.Generator
    ) -> Encoded:
        cut = self.config.cut
        if cut is None:
            raise CodecError(f"codec '{self.name}' is not told of its cut")
        name = basis_name(direction, cut)
        centre, turn, _, books = self._books.of(name, tensor.device)
        if tensor.shape[-1] != centre.numel():
            raise CodecError(f"codebooks of {centre.numel()} channels, not {tensor.shape[-1]}")
        rows = tensor.detach().float().reshape(-1, tensor.shape[-1]) - centre
        turned = product(rows, turn)
        spread = float(turned.square().mean().sqrt())
        if not np.isfinite(spread):
            raise CodecError("the tensor holds NaN or infinity")
        spread = float(np.float32(max(spread, _FLOOR)))
        left = (turned / spread).reshape(len(rows), books.shape[1], books.shape[3])
        numbers = []
        for book in books:
            found, vectors = _nearest(left, book)
            numbers.append(found)
            left = left - vectors
        body = torch.stack(numbers).to(torch.uint8).cpu().numpy().tobytes()
        head = _LAYOUT.pack(self._books.mark, direction, cut, spread)
        payload = self._seal(tensor, direction, [head, body])
        parts = Parts(tensor.numel(), tensor.numel(), 8.0 * len(body), 0.0, 8.0 * len(head))
        return Encoded(payload, Support(tuple(tensor.shape)), parts)

    @classmethod
    def expand_body(cls, header: Header, reader: Reader, device: torch.device) -> Decoded:
        """Add up the vectors and turn back. Refuses payloads of books that are not loaded."""
        mark, direction, cut, spread = reader.unpack(_LAYOUT, "the codebooks")
        books = _LOADED.get(mark)
        if books is None:
            raise CodecError(f"payload of codebooks {mark.hex()}, which are not loaded here")
        if direction not in tuple(Direction) or not np.isfinite(spread):
            raise CodecError(f"payload damaged: direction {direction}, spread {spread}")
        centre, _, back, every = books.of(basis_name(Direction(direction), cut), device)
        if header.shape[-1] != centre.numel():
            raise CodecError(f"payload damaged: {header.shape[-1]} channels, not {centre.numel()}")
        stages, groups = every.shape[:2]
        rows = header.elements // centre.numel()
        coded = reader.array("u1", stages * rows * groups, "numbers of vectors")
        reader.end()
        numbers = torch.from_numpy(coded.astype(np.int64)).to(device).reshape(stages, rows, groups)
        turned = sum(
            (_looked_up(each, book) for each, book in zip(numbers, every, strict=True)),
            start=torch.zeros((), device=device),
        ).reshape(rows, -1)  # fmt: skip
        values = (product(turned * spread, back) + centre).reshape(header.shape)
        return Decoded(in_dtype(values, header.dtype), Support(header.shape))
