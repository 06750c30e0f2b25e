"""Language modelling on streams of tokens: what the text tasks have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2Config, PretrainedConfig

from sftopt.core.errors import InputError
from sftopt.training.data.of_model import BYTE_WORDS
from sftopt.training.data.task import Batch, Part, Task

TokenArray = NDArray[np.int32]
IntArray = NDArray[np.int64]

DOCUMENT_END = 0
"""Between documents; the byte does not occur in text."""


@dataclass(frozen=True)
class Streams:
    """The parts of a text, documents joined, each shape (tokens,)."""

    train: TokenArray
    validation: TokenArray
    test: TokenArray

    def fingerprint(self) -> str:
        """Hash all tokens and where they belong, by sha256."""
        digest = hashlib.sha256()
        for stream in (self.train, self.validation, self.test):
            digest.update(f"{stream.size} ".encode())
            digest.update(stream.astype("<i4").tobytes())
        return digest.hexdigest()


def joined(documents: list[bytes]) -> TokenArray:
    """Join documents of bytes to one array of tokens, :data:`DOCUMENT_END` behind each."""
    whole = bytes([DOCUMENT_END]).join([*documents, b""])
    return np.frombuffer(whole, dtype=np.uint8).astype(np.int32)


@dataclass(frozen=True)
class TokenTask(Task):
    """Windows of ``tokens`` tokens out of streams; labels are the inputs, as models expect them."""

    tokens: int = 128
    words: int = BYTE_WORDS
    streams: Streams = field(default_factory=lambda: Streams(*[np.zeros(0, np.int32)] * 3))

    def check(self) -> None:
        """Raise InputError where a part is shorter than one window."""
        for name, stream in self._parts().items():
            if stream.size < self.tokens:
                raise InputError(
                    f"task '{self.name}': its {name} part has {stream.size} tokens, fewer than one "
                    f"window of {self.tokens}. Give more text or fewer tokens."
                )

    def held_out(self, part: str) -> int:
        """Return the number of windows, end to end, of a held-out part."""
        return int(self._parts()[Part(part).value].size // self.tokens)

    def model_config(self) -> PretrainedConfig:
        """Return a GPT-2 of 6 blocks, hidden 96, ``gelu_pytorch_tanh``, without dropout."""
        return GPT2Config(
            vocab_size=self.words,
            n_positions=self.tokens,
            n_embd=96,
            n_layer=6,
            n_head=4,
            activation_function="gelu_pytorch_tanh",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=0.06,  # the usual 0.02 is for wide models and learns slower here
            bos_token_id=DOCUMENT_END,
            eos_token_id=DOCUMENT_END,
            architectures=["GPT2LMHeadModel"],
        )

    def _parts(self) -> Mapping[str, TokenArray]:
        streams = self.streams
        return {"train": streams.train, "validation": streams.validation, "test": streams.test}

    def _draw(self, device: int, devices: int, batch: int, generator: np.random.Generator) -> Batch:
        size = self.streams.train.size
        first, end = device * size // devices, (device + 1) * size // devices
        if end - first < self.tokens:
            raise InputError(
                f"task '{self.name}': {size} training tokens are too few for {devices} devices "
                f"and windows of {self.tokens}."
            )
        starts = generator.integers(first, end - self.tokens + 1, size=batch)
        return self._windows(self.streams.train, starts)

    def _held_out(self, part: Part, numbers: IntArray) -> Batch:
        return self._windows(self._parts()[part.value], numbers * self.tokens)

    def _windows(self, stream: TokenArray, starts: IntArray) -> Batch:
        windows = stream[starts[:, None] + np.arange(self.tokens)]
        ids = torch.from_numpy(windows.astype(np.int64))
        return {"input_ids": ids, "labels": ids.clone()}
