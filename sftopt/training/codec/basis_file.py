"""Files of bases: matrices by name, read one at a time, each checked before it is used.

A file that :func:`save_bases` wrote has a manifest: the sha256 and the determinant of every matrix,
whose condition was checked then. Reading it takes the manifest and the matrices that are needed,
however many the file holds; payloads name the file by the manifest's sha256. A file without a
manifest is named by the sha256 of its whole content, and a matrix is checked when first used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sftopt.core.errors import InputError
from sftopt.training.codec.base import FloatArray
from sftopt.training.codec.container import Direction
from sftopt.training.codec.errors import CodecError

BASES_NAME = "boundary_bases.safetensors"
"""Of the file beside a model's weights."""

_MANIFEST = "sftopt.bases"
"""Name of the manifest in a file's metadata."""
_MARK_BYTES = 8
"""Bytes of a hash by which payloads name a file."""
_CHUNK_BYTES = 2**22
"""Bytes of a file without a manifest that are hashed at a time."""
_ROWS = 2048
"""Rows that the basis is chosen from."""
_FLOOR = 1e-3
"""Least variance, as a share of the mean one: below, a direction costs next to nothing anyway."""
_WORST_CONDITION = 1e4
"""Largest condition number of a basis: beyond, single precision would show."""
_KINDS = {Direction.FORWARD: "activation", Direction.GRADIENT: "gradient"}
"""First part of the names of the matrices for each direction."""


def basis_name(direction: Direction, cut: int) -> str:
    """Return the name of the matrix for what crosses ``cut`` in ``direction``."""
    return f"{_KINDS[direction]}.{cut:02d}"


class Bases:
    """Matrices (channels, channels) with directions in columns, numbered in the order of names."""

    def __init__(self, path: str, names: tuple[str, ...], channels: int, manifest: str) -> None:
        self._path = path
        self._matrices: dict[int, FloatArray] = {}
        self._inverses: dict[int, FloatArray] = {}
        self._log_determinants: dict[int, float] = {}
        self._placed: dict[tuple[int, bool, torch.device], torch.Tensor] = {}
        self._manifest: dict[str, Any] = json.loads(manifest) if manifest else {}
        self.names = names
        self.channels = channels
        digest = hashlib.sha256(manifest.encode()) if manifest else _sha256_of_file(path)
        self.mark = digest.digest()[:_MARK_BYTES]
        """How payloads name the file."""

    def number_of(self, direction: Direction, cut: int) -> int:
        """Return the number of a cut's basis. Raises InputError where the file has none."""
        name = basis_name(direction, cut)
        if name not in self.names:
            raise InputError(
                f"file of bases '{self._path}' has no '{name}'; it has {', '.join(self.names)}."
            )
        return self.names.index(name)

    def check(self) -> None:
        """Check every matrix that no manifest vouches for. Raises InputError."""
        if not self._manifest:
            for number in range(len(self.names)):
                self.matrix(number)

    def matrix(self, number: int) -> FloatArray:
        """Read a matrix, once; without unit. Raises InputError where it is damaged."""
        if number not in self._matrices:
            self._matrices[number] = self._read(number)
        return self._matrices[number]

    def stored(self, number: int) -> torch.Tensor:
        """Return a matrix as it is sent: (channels, channels), without unit."""
        return torch.from_numpy(self.matrix(number))

    def inverse(self, number: int) -> FloatArray:
        """Invert a matrix, once; without unit."""
        if number not in self._inverses:
            wide = np.linalg.inv(self.matrix(number).astype(np.float64))
            self._inverses[number] = wide.astype(np.float32)
        return self._inverses[number]

    def on(self, device: torch.device, number: int, *, inverse: bool = False) -> torch.Tensor:
        """Return a matrix or its inverse on ``device``, where it stays."""
        key = (number, inverse, device)
        if key not in self._placed:
            array = self.inverse(number) if inverse else self.matrix(number)
            self._placed[key] = torch.from_numpy(array).to(device)
        return self._placed[key]

    def log_determinant(self, number: int) -> float:
        """Return the natural logarithm of a matrix's absolute determinant, without unit."""
        if number not in self._log_determinants:
            entry = self._manifest.get(self.names[number])
            self._log_determinants[number] = (
                _log_determinant(self.matrix(number))
                if entry is None
                else float(entry["log_determinant"])
            )
        return self._log_determinants[number]

    def fitting(self, rows: torch.Tensor) -> int:
        """Return the number of the basis in which ``rows`` (rows, channels) concentrate most.

        The rows stay where they are.
        """
        sample = rows[:: max(1, rows.shape[0] // _ROWS)].double()
        sample = sample - sample.mean(0)
        scores = []
        for number in range(len(self.names)):
            basis = self.on(rows.device, number).double()
            variances = (sample @ basis).square().mean(0)
            floor = _FLOOR * variances.mean() + 1e-300
            # at the same volume of the quantiser's cell
            volume = -self.log_determinant(number) / self.channels
            scores.append((variances + floor).log().mean() + 2.0 * volume)
        return int(torch.stack(scores).argmin())

    def check_channels(self, channels: int) -> None:
        """Raise CodecError unless the bases are of ``channels``."""
        if channels != self.channels:
            raise CodecError(
                f"the bases are of {self.channels} channels, the tensor has {channels}"
            )

    def _read(self, number: int) -> FloatArray:
        name = self.names[number]
        try:
            with safe_open(self._path, framework="pt") as file:
                stored = file.get_tensor(name).contiguous()
        except (OSError, SafetensorError) as error:
            raise InputError(f"file of bases '{self._path}' cannot be read: {error}.") from None
        matrix: FloatArray = stored.float().numpy()
        entry = self._manifest.get(name)
        if entry is None:
            _check_invertible(matrix, self._path)
        elif entry["sha256"] != _sha256(matrix):
            raise InputError(f"file of bases '{self._path}': '{name}' is not what was written.")
        return matrix


LOADED: dict[bytes, Bases] = {}
"""Bases by mark: those whose payloads can be decoded."""


def load_bases(path: str | os.PathLike[str]) -> Bases:
    """Open a file of bases; payloads made with it can be decoded from then on.

    Raises InputError for a file that is missing, damaged, or holds other than square matrices of
    one size.
    """
    file = Path(path).expanduser()
    try:
        stat = file.stat()
    except OSError:
        raise InputError(
            f"file of bases '{file}' does not exist. `sftopt bases --model M --data D --out FILE` "
            "measures one."
        ) from None
    bases = _opened(str(file), stat.st_mtime_ns, stat.st_size)
    LOADED[bases.mark] = bases
    return bases


def save_bases(path: str | os.PathLike[str], bases: Mapping[str, torch.Tensor]) -> None:
    """Write matrices by name with a manifest. Raises InputError where one is not invertible."""
    arrays = {name: value.float().contiguous().numpy() for name, value in bases.items()}
    for array in arrays.values():
        _check_invertible(array, str(path))
    manifest = {
        name: {"sha256": _sha256(array), "log_determinant": _log_determinant(array)}
        for name, array in sorted(arrays.items())
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    save_file(tensors, path, metadata={_MANIFEST: json.dumps(manifest, sort_keys=True)})


@lru_cache(maxsize=16)
def _opened(path: str, modified_ns: int, size: int) -> Bases:
    """Cached as long as the file is not touched."""
    try:
        with safe_open(path, framework="pt") as file:
            names = tuple(sorted(file.keys()))
            shapes = {tuple(file.get_slice(name).get_shape()) for name in names}
            manifest = (file.metadata() or {}).get(_MANIFEST, "")
        stated = set(json.loads(manifest or "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"file of bases '{path}' cannot be read: {error}.") from None
    sides = next(iter(shapes)) if len(shapes) == 1 else ()
    if len(sides) != 2 or sides[0] != sides[1]:
        raise _unfit(path)
    if stated and stated != set(names):
        raise InputError(f"file of bases '{path}': its manifest names other matrices.")
    bases = Bases(path, names, sides[0], manifest)
    bases.check()
    return bases


def _unfit(path: str) -> InputError:
    return InputError(f"file of bases '{path}' must hold invertible matrices of one size.")


def _check_invertible(matrix: NDArray[np.float32], path: str) -> None:
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or not np.isfinite(matrix).all():
        raise _unfit(path)
    if not np.linalg.cond(matrix.astype(np.float64)) < _WORST_CONDITION:
        raise _unfit(path)


def _log_determinant(matrix: NDArray[np.float32]) -> float:
    logarithm = float(np.linalg.slogdet(matrix.astype(np.float64))[1])
    return logarithm if math.isfinite(logarithm) else 0.0


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _sha256_of_file(path: str) -> hashlib._Hash:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest
