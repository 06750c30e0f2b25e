"""MiniLM for ``wordnet-senses``: the package's weights, a fresh head, and bases of its boundaries.

Put together once and kept in the cache. The folder has links to nothing: its weights are a copy, so
that it stays whole when the package is removed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import transformers

from sftopt.core.files import write_json
from sftopt.core.folder_lock import FolderLock
from sftopt.core.version import SCHEMA_VERSION
from sftopt.training.bases import BASES_NAME, measure_bases, write_bases
from sftopt.training.data.wordnet_senses import (
    LEXICOGRAPHER_FILES,
    NAME,
    WordnetSenses,
    minilm_folder,
)
from sftopt.training.split.kept_folders import replacing, sha256_of

_RECORD = "minilm.json"
"""File that tells of a finished folder."""
_BASES_BATCH = 32
"""Samples of a batch from which bases are measured."""
_VERSION = 1
"""Raised when the same package would give another folder than before."""


def minilm_model(task: WordnetSenses, cache: Path, *, source: Path | None = None) -> Path:
    """Return a folder of MiniLM with a head for ``task``, made now if ``cache`` has none.

    ``source`` is a folder of another encoder in its place. Raises InputError where the package is
    not installed.
    """
    source = minilm_folder() if source is None else source
    weights = sha256_of(source / "model.safetensors")
    key = hashlib.sha256(f"{_VERSION} {weights} {task.fingerprint}".encode()).hexdigest()
    folder = cache / f"{NAME}-{key[:16]}"
    if (folder / _RECORD).is_file():
        return folder
    with FolderLock(cache / f"{NAME}.making"), replacing(folder) as fresh:
        _make(task, source, fresh)
        record = {"schema_version": SCHEMA_VERSION, "key": key, "weights_sha256": weights}
        write_json(fresh / _RECORD, record)
    return folder


def _make(task: WordnetSenses, source: Path, out: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the head
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            source, num_labels=LEXICOGRAPHER_FILES, local_files_only=True, use_safetensors=True,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
    # the head's gradients are random yet: with the weight every direction has, they do little harm
    bases = measure_bases(model, task.train_batches(0, 1, _BASES_BATCH, 0))
    model.save_pretrained(out)
    task.tokenizer.save_pretrained(out)
    write_bases(out / BASES_NAME, bases)
