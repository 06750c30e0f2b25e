"""An orthogonal projection learnt for the task, as MAPL has it, for equal_bytes.

Before fine-tuning, a head and a projection of the boundary onto a few orthogonal directions are
learnt together through the frozen base model; the projection then stands in a file of bases.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrizations
from transformers import PreTrainedModel

from sftopt.training.bases import write_bases
from sftopt.training.codec import load_bases
from sftopt.training.data import Task
from sftopt.training.split import find_blocks

_STEPS = 120
"""Steps of learning."""
_LEARNING_RATE = 3e-3
"""Of projection and head."""


def learned_bases(
    base: PreTrainedModel, task: Task, bases: str, rank: int, path: Path, seed: int = 0
) -> None:
    """Write ``rank`` directions, learnt at the task's cut, to ``path`` as bases.

    The columns behind them complete an orthogonal matrix; the gradient has the same directions.
    """
    cut = task.training.cut
    torch.manual_seed(seed)
    model = copy.deepcopy(base).requires_grad_(False)
    hidden = find_blocks(model).hidden
    known = load_bases(bases)
    start = torch.from_numpy(known.matrix(known.names.index(f"gradient.{cut:02d}")))
    projection = nn.Linear(hidden, rank, bias=False)
    projection.weight.data.copy_(start[:, :rank].T)  # eigenvectors: orthogonal already
    projection = parametrizations.orthogonal(projection).to(base.device)
    heads = [
        p for name, p in model.named_parameters() if not name.startswith(model.base_model_prefix)
    ]
    for parameter in heads:
        parameter.requires_grad_(True)
    block = find_blocks(model).blocks(model)[cut]

    def projected(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        rows, *rest = given
        mean = rows.mean((0, 1), keepdim=True)
        directions = projection.weight
        return (mean + (rows - mean) @ directions.T @ directions, *rest)

    handle = block.register_forward_pre_hook(projected)
    learnt = [*projection.parameters(), *heads]
    optimiser = torch.optim.Adam(learnt, lr=_LEARNING_RATE)
    batches = task.train_batches(0, 1, task.training.batch, seed)
    for _ in range(_STEPS):
        batch = {name: value.to(base.device) for name, value in next(batches).items()}
        optimiser.zero_grad()
        model(**batch).loss.backward()
        optimiser.step()
    handle.remove()
    directions = projection.weight.detach().cpu().double().T
    full = torch.linalg.qr(directions, mode="complete")[0]
    full[:, :rank] = directions
    whole = full.float()
    write_bases(path, {f"activation.{cut:02d}": whole, f"gradient.{cut:02d}": whole.clone()})
