"""Measuring the bases that codec ``rotated`` turns boundaries into.

With C the covariance of a cut's activations and G that of the loss's gradients there (which says
how much an error in a direction costs: to second order the loss grows by e' G e / 2, G standing for
the Fisher information),

    A = H V,    H = (G / mean eigenvalue of G + weight I)^(1/2),    V the eigenvectors of H C H.

Equal steps in y = x A then spend the bits where they lower the loss most. Gradients themselves are
turned into the eigenvectors of G alone. The file belongs to the base model and is made before
fine-tuning, from data like that which the model was trained on; devices and server hold the same
copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.training.codec.basis_file import BASES_NAME, save_bases
from sftopt.training.split import BlockStack, find_blocks
from sftopt.training.split.stack import capturing_at

__all__ = ["BASES_NAME", "boundaries_of", "measure_bases", "write_bases"]

_WEIGHT = 0.3
"""Importance every direction has anyway: fine-tuning moves what matters. Of 0.02, 0.1, 0.3, 1 the
one with the least loss."""


def measure_bases(
    model: PreTrainedModel, batches: Iterable[Mapping[str, torch.Tensor]], count: int = 8
) -> dict[str, torch.Tensor]:
    """Measure the bases of every cut from the first ``count`` batches: ``activation.03``,
    ``gradient.03``.

    Shape (hidden, hidden) each, one direction per column, those of most variance first.
    The model is left as it was. Raises InputError for a model that cannot be split, or batches
    without labels.
    """
    stack = find_blocks(model)
    totals: dict[str, _Covariance] = {}
    mode = model.training
    model.train(False)
    try:
        for batch in itertools.islice(batches, count):
            for name, rows in boundaries_of(model, stack, batch).items():
                totals.setdefault(name, _Covariance(rows.shape[1])).add(rows)
    finally:
        model.train(mode)
    bases = {}
    for cut in range(stack.count):
        activations = totals[f"activation.{cut:02d}"].matrix()
        gradients = totals[f"gradient.{cut:02d}"].matrix()
        bases[f"activation.{cut:02d}"] = _weighted_basis(activations, gradients).float()
        bases[f"gradient.{cut:02d}"] = _directions(gradients).float()
    return bases


def write_bases(path: Path, bases: Mapping[str, torch.Tensor]) -> None:
    """Write what :func:`measure_bases` gave. Raises InputError where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_bases(path, bases)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write '{path}': {error}.") from None


class _Covariance:
    """Sums over rows, in 64 bits."""

    def __init__(self, channels: int) -> None:
        self._rows = 0
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, rows: torch.Tensor) -> None:
        """Take in (rows, channels)."""
        rows = rows.double().cpu()
        self._rows += rows.shape[0]
        self._sum += rows.sum(0)
        self._products += rows.T @ rows

    def matrix(self) -> torch.Tensor:
        """The covariance."""
        mean = self._sum / self._rows
        return self._products / self._rows - torch.outer(mean, mean)


def _directions(covariance: torch.Tensor) -> torch.Tensor:
    """Eigenvectors in columns, largest eigenvalue first."""
    vectors: torch.Tensor = torch.linalg.eigh(covariance).eigenvectors
    return vectors.flip(1)


def _weighted_basis(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """A of the module's docstring."""
    values, vectors = torch.linalg.eigh(gradients)
    scale = values.mean().clamp_min(torch.finfo(values.dtype).tiny)
    stretch = vectors * (values.clamp_min(0.0) / scale + _WEIGHT).sqrt() @ vectors.T
    basis: torch.Tensor = stretch @ _directions(stretch @ activations @ stretch)
    return basis


def boundaries_of(
    model: PreTrainedModel, stack: BlockStack, batch: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the inputs of all blocks and the loss's gradients there, (rows, hidden) each.

    By the names of bases. Raises InputError for a batch without labels.
    """
    given = {name: value.to(model.device) for name, value in batch.items()}
    with ExitStack() as captures:
        held = [
            captures.enter_context(capturing_at(model, stack, cut)) for cut in range(stack.count)
        ]
        loss = model(**given).loss
    if loss is None:
        raise InputError("measuring bases needs batches with labels.")
    inputs = [captured[0] for captured in held]
    gradients = torch.autograd.grad(loss, inputs)
    found = {}
    for cut, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        found[f"activation.{cut:02d}"] = value.detach().reshape(-1, stack.hidden)
        found[f"gradient.{cut:02d}"] = gradient.reshape(-1, stack.hidden)
    return found
