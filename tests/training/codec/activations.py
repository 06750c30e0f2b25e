"""Tensors the codec tests share: synthetic heavy tails, and a small transformer's activations."""

from __future__ import annotations

import inspect
from functools import cache

import numpy as np
import torch
from transformers import GPT2Config, GPT2Model


def heavy_tailed(seed: int, shape: tuple[int, int, int] = (8, 128, 192)) -> torch.Tensor:
    """Student-t values, channels of different mean and spread (the same for every seed)."""
    channels = np.random.default_rng(5)
    spread = np.exp(0.7 * channels.normal(size=shape[-1]))
    centre = 0.5 * channels.normal(size=shape[-1])
    values = np.random.default_rng(seed).standard_t(4, shape) * spread + centre
    return torch.tensor(values, dtype=torch.float32)


@cache
def transformer_activations() -> tuple[torch.Tensor, ...]:
    """Four batches (16, 128, 96) at the middle of a randomly initialised GPT-2, fed source text."""
    config = GPT2Config(
        n_layer=4,
        n_embd=96,
        n_head=4,
        n_positions=128,
        vocab_size=256,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    model = GPT2Model(config).eval()
    text = inspect.getsource(inspect).encode()[: 4 * 16 * 128]
    batches = torch.frombuffer(bytearray(text), dtype=torch.uint8).long().view(4, 16, 128)
    with torch.no_grad():
        return tuple(model(batch, output_hidden_states=True).hidden_states[2] for batch in batches)
