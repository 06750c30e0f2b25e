"""The side message: labels, masks and what else goes up beside the boundary, in its smallest form.

Equation (4) counts it as S_side. Of a message: one byte of how many tensors, then for each its name
(one byte for the usual ones), form, type, shape, and

* ``CONSTANT``: the one value of all elements (a mask of ones takes no byte per sample);
* ``PACKED``: whole numbers from 0 on, as few bits each as tell them apart; labels take those of the
  model's classes or words, so that a batch's size does not depend on what is in it;
* ``MARKED``: a bit for each element that says whether a loss is taken of it, then the labels that
  count, packed;
* ``PREFIX``: masks that are ones and then zeros: the number of ones in each row;
* ``RAW``: anything else, numbers in the smallest type that holds them.

Beside labels, masks and positions there may be: the bits of padding tokens, for a decoder that
classifies; plain arguments of the model's forward; and what the user names in ``side_keys``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from sftopt.core.model_layouts import label_bits, length_bits
from sftopt.training.split.errors import WireError

IGNORED_LABEL = -100
"""Marks positions that no loss is taken of, as in transformers and torch."""
PADDING = "padding"
"""Name of the bits that say which tokens are the padding token, where the mask does not say it."""
IMAGE_SIZE = "image_size"
"""Name of height and width, pixels, of images that are not of the configuration's size."""
TOKENS = "tokens"
"""Name of the length of the text, where the boundary is longer than it."""

_LABELS = "labels"
"""Name of the tensor whose bits follow from the model."""
_USUAL = ("", _LABELS, "attention_mask", "position_ids")
"""Names that take one byte, their place here; 0: the name follows."""
_ARGUMENTS = "#"
"""Name of the plain arguments, as JSON; no tensor of a model is called so."""
_TYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
    torch.bfloat16, torch.float32, torch.float64,
)  # fmt: skip
"""Types of tensors, named by their place."""
_MOST_CONSTANT = 2**28
"""Most elements of a tensor that takes no bytes for them: a damaged shape must not fill memory."""


class _Form(IntEnum):
    CONSTANT = 0
    PACKED = 1
    MARKED = 2
    PREFIX = 3
    RAW = 4


def label_classes(model: PreTrainedModel) -> int:
    """Return how many labels a model's head tells apart: classes, or words of a language model."""
    if type(model).__name__.endswith("Classification"):
        return model.config.num_labels or 0
    return int(getattr(model.config.get_text_config(), "vocab_size", 0))


def pack_side(values: Mapping[str, Any], classes: int = 0) -> bytes:
    """Write named tensors as a message; ``classes`` labels are told apart, 0: as many as there are.

    They come out of :func:`unpack_side` as they are, type and shape included. Plain numbers, texts
    and lists of them go as JSON.
    """
    tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
    plain = {name: value for name, value in values.items() if name not in tensors}
    if plain:
        text = json.dumps(plain, separators=(",", ":")).encode()
        tensors[_ARGUMENTS] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    parts = [bytes([len(tensors)])]
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        body = _body(name, value, classes)
        code = _USUAL.index(name) if name in _USUAL else 0
        named = b"" if code else bytes([len(name.encode())]) + name.encode()
        head = bytes([code]) + named + bytes([body.form, _TYPES.index(value.dtype), value.ndim])
        parts += [head, *(_number(size) for size in value.shape), body.content]
    return b"".join(parts)


def unpack_side(payload: bytes) -> dict[str, Any]:
    """Read what a message holds. Raises WireError for bytes that are none."""
    reader = _Reader(payload)
    found: dict[str, Any]
    try:
        found = dict(_read_tensor(reader) for _ in range(reader.byte()))
        if _ARGUMENTS in found:
            found.update(json.loads(bytes(found.pop(_ARGUMENTS).tolist())))
    except (ValueError, IndexError, TypeError, OverflowError, RuntimeError):
        raise WireError(f"a side message of {len(payload)} bytes cannot be read.") from None
    if reader.left:
        raise WireError(f"a side message has {reader.left} bytes too many.")
    return found


@dataclass(frozen=True)
class _Body:
    form: _Form
    content: bytes


def _body(name: str, value: torch.Tensor, classes: int) -> _Body:
    """The smallest form of a tensor's elements."""
    if value.dtype.is_floating_point or value.numel() == 0:
        return _Body(_Form.RAW, bytes([_TYPES.index(value.dtype)]) + _raw(value))
    numbers = value.reshape(-1).to(torch.int64).numpy()
    if name == _LABELS:
        return _label_body(numbers, classes)
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0:
        return _signed(numbers)
    if low == high and numbers.size <= _MOST_CONSTANT:
        return _Body(_Form.CONSTANT, _number(low))
    if value.ndim == 2 and high == 1 and _is_prefix(value):
        width = length_bits(value.shape[1])
        return _Body(_Form.PREFIX, _packed(value.to(torch.int64).sum(1).numpy(), width))
    return _Body(_Form.PACKED, _packed(numbers, high.bit_length()))


def _label_body(numbers: NDArray[np.int64], classes: int) -> _Body:
    """Labels, in bits that follow from the model where they are of its classes."""
    counted = numbers != IGNORED_LABEL
    held = numbers[counted]
    if held.size and int(held.min()) < 0:
        return _signed(numbers)
    high = int(held.max()) if held.size else 0
    width = label_bits(classes) if classes > 1 and high < classes else max(1, high.bit_length())
    if counted.all():
        return _Body(_Form.PACKED, _packed(numbers, width))
    return _Body(_Form.MARKED, _packed(counted.astype(np.int64), 1) + _packed(held, width))


def _is_prefix(mask: torch.Tensor) -> bool:
    """Whether every row is ones and then zeros."""
    ones = mask.to(torch.int64)
    return bool((ones[:, 1:] <= ones[:, :-1]).all())


def _signed(numbers: NDArray[np.int64]) -> _Body:
    """Numbers below 0 in the smallest signed type."""
    low, high = int(numbers.min()), int(numbers.max())
    for dtype in (torch.int8, torch.int16, torch.int32, torch.int64):
        limits = torch.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            break
    stored = torch.from_numpy(numbers).to(dtype)
    return _Body(_Form.RAW, bytes([_TYPES.index(dtype)]) + _raw(stored))


def _raw(value: torch.Tensor) -> bytes:
    return bytes(value.reshape(-1).view(torch.uint8).numpy().tobytes())


def _packed(numbers: NDArray[np.int64], width: int) -> bytes:
    """The width in one byte, then ``width`` bits for each number, lowest first."""
    if width in (8, 16, 32):
        content = numbers.astype(f"<u{width // 8}").tobytes()
    else:
        bits = (numbers[:, None] >> np.arange(width)) & 1
        content = np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()
    return bytes([width]) + content


def _number(value: int) -> bytes:
    """A number from 0 on, seven bits in a byte, lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


class _Reader:
    """Takes a message apart from its start on. Raises ValueError where it ends too early."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return len(self._payload) - self._at

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise ValueError("message ends early")
        self._at += count
        return self._payload[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte <= 0x7F:
                return value
            shift += 7

    def packed(self, count: int) -> NDArray[np.int64]:
        width = self.byte()
        if width > 63:
            raise ValueError("numbers too wide")
        content = self.take(-(-count * width // 8))
        if width in (8, 16, 32):
            return np.frombuffer(content, f"<u{width // 8}").astype(np.int64)
        bits = np.unpackbits(
            np.frombuffer(content, np.uint8), count=count * width, bitorder="little"
        )
        weights = np.left_shift(np.int64(1), np.arange(width, dtype=np.int64))
        numbers: NDArray[np.int64] = bits.reshape(count, width).astype(np.int64) @ weights
        return numbers


def _read_tensor(reader: _Reader) -> tuple[str, torch.Tensor]:
    code = reader.byte()
    name = _USUAL[code] if code else reader.take(reader.byte()).decode()
    form, dtype = _Form(reader.byte()), _TYPES[reader.byte()]
    shape = tuple(reader.number() for _ in range(reader.byte()))
    value: torch.Tensor = _READERS[form](reader, shape)
    return name, value.to(dtype).reshape(shape)


def _read_constant(reader: _Reader, shape: tuple[int, ...]) -> torch.Tensor:
    count = math.prod(shape)
    if count > _MOST_CONSTANT:
        raise ValueError("too many elements")
    return torch.full((count,), reader.number(), dtype=torch.int64)


def _read_packed(reader: _Reader, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(reader.packed(math.prod(shape)))


def _read_marked(reader: _Reader, shape: tuple[int, ...]) -> torch.Tensor:
    counted = reader.packed(math.prod(shape)).astype(bool)
    numbers = np.full(counted.size, IGNORED_LABEL, np.int64)
    numbers[counted] = reader.packed(int(counted.sum()))
    return torch.from_numpy(numbers)


def _read_prefix(reader: _Reader, shape: tuple[int, ...]) -> torch.Tensor:
    rows, tokens = shape
    if rows * tokens > _MOST_CONSTANT:
        raise ValueError("too many elements")
    ones = reader.packed(rows)
    return torch.from_numpy((np.arange(tokens)[None, :] < ones[:, None]).astype(np.int64))


def _read_raw(reader: _Reader, shape: tuple[int, ...]) -> torch.Tensor:
    dtype = _TYPES[reader.byte()]
    content = bytearray(reader.take(math.prod(shape) * dtype.itemsize))
    return torch.frombuffer(content, dtype=dtype) if content else torch.zeros(0, dtype=dtype)


_READERS: dict[_Form, Callable[[_Reader, tuple[int, ...]], Any]] = {
    _Form.CONSTANT: _read_constant,
    _Form.PACKED: _read_packed,
    _Form.MARKED: _read_marked,
    _Form.PREFIX: _read_prefix,
    _Form.RAW: _read_raw,
}
"""What reads the elements of each form."""
