"""``stdlib-bytes``: the next byte of Python's own standard library.

Fine-tuned on asyncio and email, pre-trained on other modules; validation and test are whole files
kept apart. The list of files is frozen with their hashes in CPython 3.11.7; files of another
release are used as they are, which the task's notes and its fingerprint tell.
"""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path

from sftopt.core.errors import InputError
from sftopt.training.data import stdlib_files
from sftopt.training.data.task import PretrainingDefaults, TaskKind, TrainingDefaults
from sftopt.training.data.tokens import Streams, TokenTask, joined

NAME = "stdlib-bytes"
"""Name of the task."""
TOKENS = 128
"""Default window in tokens."""
_MOST_MISSING = 0.2
"""Share of a part's files that may be missing."""


@dataclass(frozen=True)
class StdlibBytes(TokenTask):
    """One of the two parts of the standard library."""

    def pretraining(self) -> TokenTask | None:
        """Return the task of all other modules of the list."""
        if self.name != NAME:
            return None
        train, told_train = _read(stdlib_files.PRETRAINING_TRAIN)
        held, told_held = _read(stdlib_files.PRETRAINING_HELD_OUT)
        streams = Streams(joined(train), joined(held), joined(held))
        task = replace(
            self,
            name=f"{NAME}/pretraining",
            streams=streams,
            fingerprint=streams.fingerprint(),
            notes=_notes([*told_train, *told_held]),
        )
        task.check()
        return task

    def pretraining_defaults(self) -> PretrainingDefaults:
        """Return settings that take about 3 minutes on 2 cores; 16 bits are kept of each weight."""
        return PretrainingDefaults(steps=3000, batch=8, learning_rate=5e-3, stored="float16")


def load(tokens: int = TOKENS, folder: Path | None = None) -> StdlibBytes:
    """Load the task. Raises InputError where the standard library's sources are not installed."""
    parts = [
        _read(files, folder)
        for files in (
            stdlib_files.TUNING_TRAIN,
            stdlib_files.TUNING_VALIDATION,
            stdlib_files.TUNING_TEST,
        )
    ]
    streams = Streams(*(joined(documents) for documents, _ in parts))
    task = StdlibBytes(
        name=NAME,
        kind=TaskKind.LANGUAGE_MODELLING,
        metric="negative_loss_nats",
        labels=None,
        fingerprint=streams.fingerprint(),
        notes=_notes([line for _, told in parts for line in told]),
        training=TrainingDefaults(
            batch=8, steps=200, cut=3, learning_rate=3e-3, lora_rank=16, lora_alpha=32.0
        ),
        tokens=tokens,
        streams=streams,
    )
    task.check()
    return task


def _read(table: str, folder: Path | None = None) -> tuple[list[bytes], list[str]]:
    """The files of a table, and what about them is not as in the list."""
    folder = folder or Path(sysconfig.get_path("stdlib"))
    documents, told, missing = [], [], []
    for line in table.splitlines():
        expected, name = line.split()
        try:
            content = (folder / name).read_bytes()
        except OSError:
            missing.append(name)
            continue
        # checked out or installed with other line ends, it is still the same text
        content = content.replace(b"\r\n", b"\n").replace(b"\0", b"")
        if not hashlib.sha256(content).hexdigest().startswith(expected):
            told.append(f"{name} differs")
        documents.append(content)
    lines = len(table.splitlines())
    if len(missing) > _MOST_MISSING * lines:
        raise InputError(
            f"task '{NAME}': {len(missing)} of {lines} files of the standard library are not in "
            f"'{folder}' ({', '.join(missing[:3])} ...). It needs the library's sources as a "
            "usual CPython 3.11 has them; on other texts use jsonl:PATH."
        )
    return documents, told + [f"{name} is missing" for name in missing]


def _notes(told: list[str]) -> tuple[str, ...]:
    if not told:
        return ()
    return (
        f"the standard library here is not CPython 3.11.7's: {len(told)} listed files are not the "
        f"same ({', '.join(told[:3])}{' ...' if len(told) > 3 else ''})",
    )
