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
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from sftopt.core.errors import InputError
from sftopt.training.failures import first_line, is_out_of_memory
from sftopt.training.split.kinds import refuse_kind
from sftopt.training.split.stand_ins import stand_in_inputs

_CHECKPOINTING_NAMES = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
"""Methods that turn recomputation of activations on, by release; the first that is there."""


@dataclass(frozen=True)
class BlockStack:
    """Where the blocks of a model are. Found by :func:`find_blocks`, true for its copies too."""

    path: str
    """Of the block list inside the task model, such as ``transformer.h``."""
    count: int
    """L."""
    hidden: int
    """d, the size of the boundary's last dimension."""
    tuple_items: int
    """Items of the tuple (hidden, ...) a block returns; 0 where it returns hidden itself."""
    early: frozenset[str] = frozenset()
    """Paths of modules registered after the blocks whose parameters are used before the last."""

    def blocks(self, model: nn.Module) -> nn.ModuleList:
        """Return the block list of ``model``."""
        return cast(nn.ModuleList, model.get_submodule(self.path))

    @property
    def list_name(self) -> str:
        """Return the last part of the path: peft's ``layers_pattern``."""
        return self.path.rsplit(".", 1)[-1]


class PassThrough(nn.Module):
    """Stands where a module is not held: returns its first input; owns no parameter.

    ``tuple_items``: of the tuple it returns, the rest of them None; 0: the input itself.
    """

    def __init__(self, original: nn.Module, tuple_items: int = 0) -> None:
        super().__init__()
        self.tuple_items = tuple_items
        # Some releases read plain attributes of a block (Qwen2: `attention_type`) to choose its
        # mask. Only harmless scalars are taken over, never a module or a tensor.
        for name, value in vars(original).items():
            if not name.startswith("_") and isinstance(value, str):
                setattr(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the input unchanged."""
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *[None] * (self.tuple_items - 1)) if self.tuple_items else hidden


def find_blocks(model: PreTrainedModel) -> BlockStack:
    """Find the block list of ``model`` and check it by one small forward pass.

    Raises InputError where the model is of a kind that cannot be split (see
    :mod:`~sftopt.training.split.kinds`), has no such list, has several, or does not call its blocks
    once each in order with hidden states in and out: such a model would be split wrongly in
    silence.
    """
    refuse_kind(model)
    kind = model.config.model_type or type(model).__name__
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
            f"model type '{kind}': one list of {count} blocks is needed, found {found}. Which "
            "models can be split: docs/reference/conformance.md."
        )
    return _watched(model, paths[0], count, kind)


def _watched(model: PreTrainedModel, path: str, count: int, kind: str) -> BlockStack:
    """Run two tokens through the base model and watch the blocks."""
    seen: list[tuple[int, torch.Tensor | None, Any]] = []
    touched = _TouchedParameters()

    def watch(number: int, args: Any, kwargs: Any, output: Any) -> None:
        seen.append((number, args[0] if args else kwargs.get("hidden_states"), output))
        touched.active = number < count - 1

    handles = [
        block.register_forward_hook(
            lambda _, args, kwargs, output, number=number: watch(number, args, kwargs, output),
            with_kwargs=True,
        )
        for number, block in enumerate(cast(nn.ModuleList, model.get_submodule(path)))
    ]
    try:
        with in_evaluation(model), torch.no_grad(), touched:
            model.base_model(**stand_in_inputs(model, 1, 2))
    except Exception as error:  # whatever foreign code says to a plain input is a reason
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"model type '{kind}' cannot be split: it refuses a plain input "
            f"({type(error).__name__}: {first_line(error)})."
        ) from None
    finally:
        for handle in handles:
            handle.remove()
    outputs = [output[0] if isinstance(output, (tuple, list)) else output for _, _, output in seen]
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
    if outputs[0].shape[0] != 1:
        raise InputError(
            f"model type '{kind}': hidden states go through its blocks as "
            f"{tuple(outputs[0].shape)} for one sample; (batch, tokens, hidden) is needed."
        )
    first = seen[0][2]
    items = len(first) if isinstance(first, (tuple, list)) else 0
    return BlockStack(path, count, outputs[0].shape[-1], items, _early(model, path, touched.ids))


def _early(model: nn.Module, path: str, touched: set[int]) -> frozenset[str]:
    """Modules after the block list with parameters of their own that were used before its end.

    A head's matrix that is the embedding's too does not count: the embedding has it.
    """
    later = {name: module for _, name, module in later_siblings(model, path)}
    elsewhere = {
        id(parameter)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not any(name.startswith(f"{owner}.") for owner in later)
    }
    own = touched - elsewhere
    return frozenset(
        name
        for name, module in later.items()
        if any(id(parameter) in own for parameter in module.parameters())
    )


class _TouchedParameters(TorchFunctionMode):
    """Notes which parameters the operations inside read, as long as it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.active = True
        self.ids: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.active:
            leaves = tree_leaves((args, kwargs or {}))
            self.ids |= {id(value) for value in leaves if isinstance(value, nn.Parameter)}
        return func(*args, **(kwargs or {}))


@contextmanager
def in_evaluation(*models: nn.Module) -> Iterator[None]:
    """Put models into evaluation mode inside; every module's own mode comes back after it."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.train(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def only_first(model: PreTrainedModel, stack: BlockStack, cut: int) -> Iterator[None]:
    """Restrict ``model`` inside to its input side and blocks 0..cut-1.

    What stands behind the blocks is told by the order of registration: on the way from the model
    to its block list, every later sibling that owns parameters (final norm, pooler, head), but for
    those that are used before the last block all the same (``stack.early``: DeBERTa's table of
    relative positions).
    """
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for owner, path, module in list(later_siblings(model, stack.path)):
        if path not in stack.early:
            name = path.rsplit(".", 1)[-1]
            replaced.append((owner, name, module))
            owner._modules[name] = PassThrough(module)
    parent = stack.blocks(model)
    for number in range(cut, stack.count):
        block = parent.get_submodule(str(number))
        replaced.append((parent, str(number), block))
        parent._modules[str(number)] = PassThrough(block, stack.tuple_items)
    try:
        yield
    finally:
        for owner, name, module in replaced:
            owner._modules[name] = module


def later_siblings(model: nn.Module, path: str) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield owner, path and module of what stands after the block list and owns parameters.

    On the way from the model to its list of blocks, by the order of registration.
    """
    parent, prefix = model, ""
    for name in path.split("."):
        names = list(parent._modules)
        for later in names[names.index(name) + 1 :]:
            module = parent._modules[later]
            if module is not None and next(module.parameters(), None) is not None:
                yield parent, prefix + later, module
        parent, prefix = parent.get_submodule(name), f"{prefix}{name}."


@contextmanager
def entering_at(
    model: nn.Module, stack: BlockStack, cut: int, hidden: torch.Tensor
) -> Iterator[None]:
    """Pass the blocks before ``cut`` through inside, and give block ``cut`` ``hidden``."""
    blocks = stack.blocks(model)
    held = [blocks[number] for number in range(cut)]
    for number, block in enumerate(held):
        blocks[number] = PassThrough(block, stack.tuple_items)

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


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Make a model run its blocks again on the way back. Raises InputError where it cannot."""
    kind = type(model)  # newer transformers renamed the method and warns at the old name
    name = next(n for n in _CHECKPOINTING_NAMES if callable(getattr(kind, n, None)))
    try:
        getattr(model, name)({"use_reentrant": False})
    except ValueError as error:
        raise InputError(f"gradient checkpointing: {error}") from None
