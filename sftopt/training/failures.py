"""Failures of the machine in the user's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from sftopt.core.errors import ExitCode, InputError, SftoptError

_HOST_ALLOCATOR = (
    "can't allocate memory", "not enough memory", "bad alloc", "could not create a primitive",
)  # fmt: skip
"""What torch says when the host's allocator fails; on CUDA it has an exception of its own. oneDNN
says that it could not create a primitive where there is no room for the compiled one."""


class OutOfMemoryError(SftoptError):
    """The machine's memory does not suffice. What was saved before is whole."""

    exit_code = ExitCode.NO_POINT


@contextmanager
def memory_limits_told(where: str, way_out: str) -> Iterator[None]:
    """Turn an allocation that fails inside into an OutOfMemoryError that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"{where}: out of memory. {way_out}") from None


@contextmanager
def misfits_told(task: str, model: str, batch: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Turn what a model raises inside, given data of another kind, into an InputError."""
    try:
        yield
    except (IndexError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        shapes = ", ".join(
            f"{name} {tuple(value.shape)}"
            for name, value in batch.items()
            if isinstance(value, torch.Tensor)
        )
        raise InputError(
            f"the data of '{task}' ({shapes}) does not fit model '{model}': {first_line(error)}"
        ) from None


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, at most 300 characters, or its type's name."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` is a failed allocation of Python, numpy or torch."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _HOST_ALLOCATOR)
