"""Reading and writing safetensors files so that every fault of file or disk is told as one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sftopt.core.errors import DiskError, InputError
from sftopt.core.files import refuse_lfs_pointer

_DISK_PREFIX = "I/O error: "
"""Before the system's own words, in what safetensors says of a failed write."""


def read_tensors(path: Path, what: str) -> dict[str, torch.Tensor]:
    """Read all tensors of a file; ``what`` names it in messages.

    Raises InputError where the file is missing, damaged or forged; nothing in it is executed, and
    no more is allocated than the file holds.
    """
    refuse_lfs_pointer(path, what)
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(
            f"{what} '{path}' does not exist: what it belongs to is not complete."
        ) from None
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        text = str(error) or type(error).__name__
        raise InputError(
            f"{what} '{path}' cannot be read: {text.splitlines()[0]}. It is damaged, or no "
            "safetensors file."
        ) from None


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a file of tensors. Raises DiskError where the disk does not take it."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(whole, path, metadata=metadata)
    except OSError as error:
        raise DiskError(path, error) from None
    except SafetensorError as error:
        reason = str(error).rpartition(_DISK_PREFIX)[2]
        raise DiskError(path, OSError(None, reason)) from None


__all__ = ["read_tensors", "write_tensors"]
