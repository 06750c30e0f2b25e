"""What one end remembers of samples that return: the activation of each one's last visit.

Nothing is remembered before the step that it belongs to is done: what a step proposes is kept by
``commit`` and forgotten by ``discard``, so that a step that failed may be tried again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sftopt.training.codec.errors import CodecError

_NUMBERS = "samples"
"""Name of the samples' numbers in the state."""
_VALUES = "values"
"""Name of their activations in the state."""
STORED = torch.float16
"""Type in which activations are remembered: rounding to it errs by 1e-7 of the variance."""


class Visits:
    """Activations by sample number, each (tokens, hidden) in 16 bits."""

    def __init__(self) -> None:
        self._kept: dict[int, torch.Tensor] = {}
        self._proposed: dict[int, torch.Tensor] = {}

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all that is remembered."""
        return sum(value.nbytes for value in self._kept.values())

    def known(self, samples: torch.Tensor) -> bool:
        """Return whether any of the samples was here before."""
        return any(number in self._kept for number in samples.tolist())

    def of(self, samples: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return the last activations of ``samples``, float32 where and of the shape ``like`` is.

        Zeros for a sample that was never here. Raises CodecError where the shapes differ.
        """
        past = torch.zeros(like.shape, dtype=torch.float32, device=like.device)
        for place, number in enumerate(samples.tolist()):
            if number in self._kept:
                value = self._kept[number]
                if value.shape != past.shape[1:]:
                    raise CodecError(
                        f"sample {number} was {tuple(value.shape)} at its last visit, not "
                        f"{tuple(past.shape[1:])}"
                    )
                past[place] = value
        return past

    def propose(self, samples: torch.Tensor, values: torch.Tensor) -> None:
        """Take new activations of ``samples``, which :meth:`commit` keeps."""
        limit = torch.finfo(STORED).max
        stored = values.detach().clamp(-limit, limit).to(STORED)
        for number, value in zip(samples.tolist(), stored, strict=True):
            self._proposed[number] = value.clone()

    def commit(self) -> None:
        """Keep what was proposed."""
        self._kept |= self._proposed
        self._proposed = {}

    def discard(self) -> None:
        """Forget what was proposed."""
        self._proposed = {}

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that is kept as tensors; nothing where nothing is."""
        if not self._kept:
            return {}
        numbers = sorted(self._kept)
        return {
            _NUMBERS: torch.tensor(numbers, dtype=torch.int64),
            _VALUES: torch.stack([self._kept[number].cpu() for number in numbers]),
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put in what :meth:`state` gave. Raises CodecError for tensors that are none."""
        self._proposed, self._kept = {}, {}
        if not state:
            return
        numbers, values = state.get(_NUMBERS), state.get(_VALUES)
        if numbers is None or values is None or len(numbers) != len(values):
            raise CodecError("what was remembered of samples is damaged")
        self._kept = {int(number): value for number, value in zip(numbers, values, strict=True)}
