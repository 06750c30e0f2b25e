"""Learning the codebooks of every cut, for codec ``codebook``.

From boundaries of the base model, in the bases of the same model; before fine-tuning, once.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel

from sftopt.training.bases import boundaries_of
from sftopt.training.codec import load_bases
from sftopt.training.codec.codebook import learnt_books, save_books
from sftopt.training.split import find_blocks

STAGES = 2
"""Stages of residual vector quantisation."""
_BATCHES = 8
"""Batches that codebooks are learnt from."""


def learn_books(
    model: PreTrainedModel, batches: Iterable[Mapping[str, torch.Tensor]], bases: Path, width: int,
    path: Path,
) -> Path:  # fmt: skip
    """Write the codebooks of all cuts to ``path``, in groups of ``width``, unless it is there.

    Return the path. The model is left as it was. Raises InputError for batches without labels,
    bases that cannot be read, and a width that does not divide the channels.
    """
    if path.is_file():
        return path
    known, stack = load_bases(bases), find_blocks(model)
    rows: defaultdict[str, list[torch.Tensor]] = defaultdict(list)
    mode = model.training
    model.train(False)
    try:
        for batch in itertools.islice(batches, _BATCHES):
            for name, one in boundaries_of(model, stack, batch).items():
                rows[name].append(one)
    finally:
        model.train(mode)
    books: dict[str, torch.Tensor] = {}
    for name, found in rows.items():
        basis = torch.from_numpy(known.matrix(known.names.index(name)))
        books |= learnt_books(name, torch.cat(found), basis, width, STAGES)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    save_books(fresh, books)
    fresh.replace(path)
    return path


def books_width(rate: float, hidden: int) -> int:
    """Return the coordinates of a group at which ``rate`` bits per element are sent.

    The next divisor of ``hidden`` upward: at most that many bits.
    """
    width = max(1, round(8 * STAGES / rate))
    while hidden % width and width < hidden:
        width += 1
    return min(width, hidden)
