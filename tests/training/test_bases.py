"""Bases of a model's boundaries: orthogonal, in the right order, and worth their file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from sftopt.core.errors import InputError
from sftopt.training import bases as bases_module
from sftopt.training.bases import BASES_NAME, measure_bases, write_bases
from sftopt.training.codec import (
    EcsqConfig,
    RotatedConfig,
    RotatedTopKConfig,
    codec_from,
    decode,
    load_bases,
)
from sftopt.training.data import load_task


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256, n_positions=32, n_embd=24, n_layer=3, n_head=2, initializer_range=0.3
    )
    return GPT2LMHeadModel(config).train(False)


@pytest.fixture(scope="module")
def batches() -> list[dict[str, torch.Tensor]]:
    source = load_task("stdlib-bytes", tokens=32).train_batches(0, 1, 8, 0)
    return [next(source) for _ in range(4)]


def test_covariances_are_diagonal_in_the_bases(
    model: GPT2LMHeadModel, batches: list[dict[str, torch.Tensor]]
) -> None:
    """Activations' in theirs, up to 32-bit rounding; sorted; the basis measures C and G at once."""
    bases = measure_bases(model, batches)
    assert sorted(bases) == sorted(
        f"{kind}.{cut:02d}" for kind in ("activation", "gradient") for cut in range(3)
    )
    with torch.no_grad():
        states = [model(**batch, output_hidden_states=True).hidden_states for batch in batches]
    for cut in range(3):
        rows = torch.cat([state[cut].reshape(-1, 24) for state in states]).double()
        basis = bases[f"activation.{cut:02d}"].double()
        covariance = torch.cov((rows @ basis).T, correction=0)
        off = covariance - torch.diag(covariance.diagonal())
        assert float(off.abs().max()) < 1e-4 * float(covariance.max())
        assert bool((covariance.diagonal().diff() <= 1e-5 * covariance.max()).all())
        turned = bases[f"gradient.{cut:02d}"].double()
        torch.testing.assert_close(turned.T @ turned, torch.eye(24).double(), atol=1e-5, rtol=0)


def test_importance_is_the_gradients() -> None:
    """A A' = G / mean + weight I, whatever the activations are."""
    draws = torch.randn(2, 200, 6, generator=torch.Generator().manual_seed(1)).double()
    draws[1] *= torch.tensor([3.0, 1.0, 1.0, 0.1, 0.1, 0.0])
    activations, gradients = (torch.cov(part.T) for part in draws)
    basis = bases_module._weighted_basis(activations, gradients)
    mean = torch.trace(gradients) / 6
    expected = gradients / mean + bases_module._WEIGHT * torch.eye(6).double()
    torch.testing.assert_close(basis @ basis.T, expected)


def test_model_is_left_alone(
    model: GPT2LMHeadModel, batches: list[dict[str, torch.Tensor]]
) -> None:
    model.train(True)
    measure_bases(model, batches, count=1)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    model.train(False)


def test_the_file_serves_the_codec(
    model: GPT2LMHeadModel, batches: list[dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    write_bases(tmp_path / BASES_NAME, measure_bases(model, batches[:3]))
    assert len(load_bases(tmp_path / BASES_NAME).names) == 6
    with torch.no_grad():
        tensor = model(**batches[3], output_hidden_states=True).hidden_states[2]
    plain = codec_from(EcsqConfig(bits=2.0, scaling=0.0)).encode(tensor)
    bits = 8.0 * len(plain) / tensor.numel()
    path = str(tmp_path / BASES_NAME)
    turned = codec_from(RotatedConfig(bits=bits, bases=path)).encode(tensor)
    assert len(turned) <= len(plain)
    errors = [float((decode(p).tensor - tensor).square().mean()) for p in (plain, turned)]
    assert errors[1] < 0.95 * errors[0]


def test_batches_without_labels_are_told(
    model: GPT2LMHeadModel, batches: list[dict[str, torch.Tensor]]
) -> None:
    with pytest.raises(InputError, match="labels"):
        measure_bases(model, [{"input_ids": batches[0]["input_ids"]}])


def test_a_model_with_bases_has_more_recommended_codecs(
    model: GPT2LMHeadModel, batches: list[dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    """And their payloads take no more than their names say, counted in whole."""
    assert all("rotated" not in name for name in load_task("stdlib-bytes").recommended_codecs)
    assert all(
        "rotated" not in name
        for name in load_task("stdlib-bytes", model=tmp_path).recommended_codecs
    )
    write_bases(tmp_path / BASES_NAME, measure_bases(model, batches))
    found = load_task("stdlib-bytes", model=tmp_path).recommended_codecs
    tensor = torch.randn(32, 128, 24, generator=torch.Generator().manual_seed(0))
    names = [name for name in found if "topk" not in name]
    assert len(names) == 4
    for name in names:
        cut = 1.0 - len(codec_from(found[name]).encode(tensor)) / (4.0 * tensor.numel())
        assert 100.0 * cut >= float(name.split()[2])
    turned = found["rotated-topk at 93.6 %"]
    assert isinstance(turned, RotatedTopKConfig)
    assert turned.centre, "without, it loses three times as much on the images"
    for name in set(found) - set(names):  # their keep fractions are the default tasks'
        assert len(codec_from(found[name]).encode(tensor)) < 4 * tensor.numel()
