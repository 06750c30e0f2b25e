"""The block list of a Hugging Face model: where it is, and how to run only a part of it.

No modelling file is copied. The model's own ``forward`` runs, so that masks, position numbers,
rotary embeddings and per-block attention kinds come out as in the unsplit model; blocks that a
part does not hold are replaced, at their original number, by a :class:`PassThrough`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from sftopt.core.errors import InputError


@dataclass(frozen=True)
class BlockStack:
    """Where the blocks of a model are. Found by :func:`find_blocks`, true for its copies too."""

    path: str
    """Of the block list inside the task model, such as ``transformer.h``."""
    count: int
    """L."""
    hidden: int
    """d, the size of the boundary's last dimension."""
    returns_tuple: bool
    """Whether a block returns (hidden, ...) rather than hidden: it changes between releases."""

    def blocks(self, model: nn.Module) -> nn.ModuleList:
        """Return the block list of ``model``."""
        return cast(nn.ModuleList, model.get_submodule(self.path))

    @property
    def list_name(self) -> str:
        """Return the last part of the path: peft's ``layers_pattern``."""
        return self.path.rsplit(".", 1)[-1]


class PassThrough(nn.Module):
    """Stands where a module is not held: returns its first input; owns no parameter."""

    def __init__(self, original: nn.Module, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple
        # Some releases read plain attributes of a block (Qwen2: `attention_type`) to choose its
        # mask. Only harmless scalars are taken over, never a module or a tensor.
        for name, value in vars(original).items():
            if not name.startswith("_") and isinstance(value, str):
                setattr(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the input unchanged."""
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden,) if self.as_tuple else hidden


def find_blocks(model: PreTrainedModel) -> BlockStack:
    """Find the block list of ``model`` and check it by one small forward pass.

    Raises InputError where the model has no such list, has several, is an encoder-decoder, or
    does not call its blocks once each in order with hidden states in and out: such a model would
    be split wrongly in silence.
    """
    kind = model.config.model_type or type(model).__name__
    if model.config.is_encoder_decoder:
        raise InputError(f"model type '{kind}' is an encoder-decoder; only one stack can be split.")
    text = model.config.get_text_config()
    count = getattr(text, "num_hidden_layers", None)
    if not isinstance(count, int) or count < 2:
        raise InputError(
            f"model type '{kind}': its configuration gives num_hidden_layers = {count!r}; a split "
            "needs a list of at least 2 blocks."
        )
    paths = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == count
        and all(next(block.parameters(), None) is not None for block in module)
    ]
    if len(paths) != 1:
        found = f"{len(paths)} of them: {', '.join(paths)}" if paths else "none"
        raise InputError(
            f"model type '{kind}': one list of {count} blocks is needed, found {found}. Known to "
            "work: gpt2, bert, vit, llama, qwen2, mistral."
        )
    return _probe(model, paths[0], count, kind)


def _probe(model: PreTrainedModel, path: str, count: int, kind: str) -> BlockStack:
    """Run two tokens through the base model and watch the blocks."""
    seen: list[tuple[int, torch.Tensor | None, Any]] = []
    handles = [
        block.register_forward_hook(
            lambda _, args, kwargs, output, number=number: seen.append(
                (number, args[0] if args else kwargs.get("hidden_states"), output)
            ),
            with_kwargs=True,
        )
        for number, block in enumerate(cast(nn.ModuleList, model.get_submodule(path)))
    ]
    mode = model.training
    try:
        model.train(False)
        with torch.no_grad():
            model.base_model(**stand_in_inputs(model, 1, 2, None))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"model type '{kind}' cannot be split: it refuses a plain input ({error})."
        ) from None
    finally:
        model.train(mode)
        for handle in handles:
            handle.remove()
    outputs = [output[0] if isinstance(output, tuple) else output for _, _, output in seen]
    fits = [number for number, _, _ in seen] == list(range(count)) and all(
        isinstance(given, torch.Tensor)
        and isinstance(output, torch.Tensor)
        and given.ndim == 3
        and output.shape == given.shape
        for (_, given, _), output in zip(seen, outputs, strict=True)
    )
    if not fits:
        raise InputError(
            f"model type '{kind}': its {count} blocks are not called once each in order with "
            "hidden states (batch, tokens, hidden) in and out, so it cannot be cut between them."
        )
    return BlockStack(path, count, outputs[0].shape[-1], isinstance(seen[0][2], tuple))


def stand_in_inputs(
    model: PreTrainedModel, batch: int, tokens: int, attention_mask: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Make inputs of the right shape that say nothing about the data.

    The server runs the model's own forward on them so that masks and positions are made as ever;
    what its embedding makes of them is thrown away at the cut. Token numbers follow the attention
    mask, because sequence classifiers look for the padding token in them.
    """
    config = model.config
    if model.main_input_name == "pixel_values":
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return {
            "pixel_values": torch.zeros(
                batch, config.num_channels, height, width, dtype=model.dtype, device=model.device
            )
        }
    padding = getattr(config.get_text_config(), "pad_token_id", None)
    filler = 1 if padding == 0 else 0
    ids = torch.full((batch, tokens), filler, dtype=torch.long, device=model.device)
    if padding is not None and attention_mask is not None and attention_mask.ndim == 2:
        ids = ids.masked_fill(attention_mask == 0, padding)
    return {"input_ids": ids}


@contextmanager
def only_first(model: PreTrainedModel, stack: BlockStack, cut: int) -> Iterator[None]:
    """Restrict ``model`` inside to its input side and blocks 0..cut-1.

    What stands behind the blocks is told by the order of registration: on the way from the model
    to its block list, every later sibling that owns parameters (final norm, pooler, head).
    """
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    parent: nn.Module = model
    for name in stack.path.split("."):
        names = list(parent._modules)
        for later in names[names.index(name) + 1 :]:
            module = parent._modules[later]
            if module is not None and next(module.parameters(), None) is not None:
                replaced.append((parent, later, module))
                parent._modules[later] = PassThrough(module, as_tuple=False)
        parent = parent.get_submodule(name)
    for number in range(cut, stack.count):
        block = parent.get_submodule(str(number))
        replaced.append((parent, str(number), block))
        parent._modules[str(number)] = PassThrough(block, stack.returns_tuple)
    try:
        yield
    finally:
        for owner, name, module in replaced:
            owner._modules[name] = module


@contextmanager
def entering_at(
    model: nn.Module, stack: BlockStack, cut: int, hidden: torch.Tensor
) -> Iterator[None]:
    """Pass the blocks before ``cut`` through inside, and give block ``cut`` ``hidden``."""
    blocks = stack.blocks(model)
    held = [blocks[number] for number in range(cut)]
    for number, block in enumerate(held):
        blocks[number] = PassThrough(block, stack.returns_tuple)

    def replace(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    handle = blocks[cut].register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
        for number, block in enumerate(held):
            blocks[number] = block


@contextmanager
def capturing_at(model: nn.Module, stack: BlockStack, cut: int) -> Iterator[list[torch.Tensor]]:
    """Put the input of block ``cut`` into the list at every forward pass inside."""
    captured: list[torch.Tensor] = []

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured.append(args[0] if args else kwargs["hidden_states"])

    handle = stack.blocks(model)[cut].register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield captured
    finally:
        handle.remove()
