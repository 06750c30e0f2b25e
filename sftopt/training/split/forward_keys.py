"""Which keys of a batch a model's forward reads, and on which side of the cut they are needed.

Told by signatures: the task model's forward, its base model's, and, where these take any keyword,
the ones that transformers hands on through them and those of the loss. A key that nothing reads is
left out, as the unsplit model leaves it out. A key that is read, but is not one of those the
server is sent, is refused: the unsplit model would heed it, the server could not.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.utils.generic import TransformersKwargs, find_labels

from sftopt.core.errors import InputError
from sftopt.training.split.known import SAMPLES
from sftopt.training.split.side import IGNORED_LABEL, IMAGE_SIZE, PADDING, TOKENS

SENT_KEYS = ("attention_mask", "position_ids", "num_items_in_batch", "shift_labels")
"""What the server is always sent where a batch has it, beside the labels."""
DEVICE_KEYS = ("token_type_ids", "bbox")
"""What is read before the first block in most models; a check at the start tells in which."""

_OUTPUT_KEYS = frozenset({"return_dict", "output_hidden_states", "output_attentions", "use_cache"})
"""Arguments that change only what a forward returns besides loss and logits."""
_NOT_OF_MODELS = _OUTPUT_KEYS | {SAMPLES}
"""Keys that no part is given: numbers of samples are for codecs alone."""
_EMBEDS = "inputs_embeds"
"""What a text model takes in place of tokens."""


@dataclass(frozen=True)
class ForwardKeys:
    """What a model's forward reads of a batch."""

    model_type: str
    main: str
    """``input_ids`` or ``pixel_values``."""
    labels: tuple[str, ...]
    """Names of what the loss needs."""
    task: frozenset[str]
    """Names the task model reads."""
    base: frozenset[str]
    """Names the base model reads."""
    reads_padding: bool
    """Whether the task model looks for the padding token, as decoders that classify do."""
    takes_any: bool
    """Whether own code takes any keyword, so that every key counts as read."""
    padding_id: int | None
    shifted: bool
    """Whether a token's label is that of the next one: the first is then never counted."""
    side_keys: tuple[str, ...] = ()
    """Named by the user to be sent."""
    needed_by_server: frozenset[str] = field(default=frozenset())
    """Of ``DEVICE_KEYS``: those that the server turned out to need, so that a batch is refused."""
    required: frozenset[str] = field(default=frozenset())
    """What the task model makes of the tokens where a batch has it not: then it is refused."""

    def device_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the base model is given on the device. Raises InputError by the key."""
        if self.main not in batch and (_EMBEDS not in batch or self.reads_padding):
            raise InputError(f"the batch has {sorted(batch)}; this model needs '{self.main}'.")
        self._refuse(batch)
        return {
            name: value
            for name, value in self.given(batch).items()
            if name not in self.labels and (name in self.base or self.takes_any)
        }

    def side(
        self,
        batch: Mapping[str, Any],
        tokens: int | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> dict[str, Any]:
        """Return what the server is sent of a batch; bits of padding tokens included.

        ``tokens``: of the boundary, which is longer than the text where a model rounds it up.
        ``image_size``: (height, width) of the configuration; another one is sent.
        """
        sent = {
            name: value
            for name, value in self.given(batch).items()
            if self._is_sent(name, value) and (self.takes_any or name in self.task)
        }
        ids, embeds = batch.get(self.main), batch.get(_EMBEDS)
        if ids is None and isinstance(embeds, torch.Tensor) and embeds.shape[1] != tokens:
            sent[TOKENS] = embeds.shape[1]
        if not isinstance(ids, torch.Tensor) or self.main in sent:
            return sent
        if image_size is not None:
            if tuple(ids.shape[-2:]) != image_size:
                sent[IMAGE_SIZE] = list(ids.shape[-2:])
            return sent
        if tokens is not None and ids.shape[-1] != tokens:
            sent[TOKENS] = ids.shape[-1]
        if self.reads_padding:
            padding = ids == self.padding_id
            mask = sent.get("attention_mask")
            if not (mask is not None and mask.shape == ids.shape and (mask == 0).equal(padding)):
                sent[PADDING] = padding
        return sent

    def has_targets(self, batch: Mapping[str, Any]) -> bool:
        """Return whether a batch has any label that counts: with none a mean loss is 0 / 0."""
        found = [batch[name] for name in self.labels if isinstance(batch.get(name), torch.Tensor)]
        if self.labels == ("start_positions", "end_positions"):
            ids = batch.get(self.main)
            length = ids.shape[-1] if isinstance(ids, torch.Tensor) else None
            return length is None or all(bool((value < length).any()) for value in found)
        found = [value for value in found if not value.is_floating_point() and value.numel()]
        if not found:
            return True
        ignored = [_ignored(value, self.shifted) for value in found]
        return not all(ignored)

    def given(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch without what nothing reads, or what only adds outputs."""
        return {
            name: _plain(value)
            for name, value in batch.items()
            if value is not None and name not in _NOT_OF_MODELS and self._is_read(name)
        }

    def _is_read(self, name: str) -> bool:
        return self.takes_any or name in self.task or name in self.base

    def _is_sent(self, name: str, value: Any) -> bool:
        if name in self.side_keys or name in self.labels or name in SENT_KEYS:
            return True
        return not isinstance(value, torch.Tensor)

    def _refuse(self, batch: Mapping[str, Any]) -> None:
        for name in sorted(self.required - set(batch)):
            raise InputError(
                f"the batch has no '{name}', which model type '{self.model_type}' makes of all "
                "tokens before its first block; neither side of a cut can. Put it into the batch."
            )
        kept = {self.main, _EMBEDS, *DEVICE_KEYS} - self.needed_by_server
        for name, value in self.given(batch).items():
            if name == "output_router_logits" and value:
                raise InputError(ROUTER_LOSS.format(model_type=self.model_type))
            if isinstance(value, torch.Tensor):
                if not self._is_sent(name, value) and name not in kept:
                    raise InputError(
                        f"the batch's '{name}' is read by the forward of model type "
                        f"'{self.model_type}' behind the cut, where only labels, mask and "
                        f"positions are known: name it in SplitConfig.side_keys (--side-keys "
                        f"{name}) to send it, or leave it out of the batch."
                    )
            elif not _is_json(value):
                raise InputError(
                    f"the batch's '{name}' is a {type(value).__name__}, which model type "
                    f"'{self.model_type}' reads; only tensors and plain numbers, texts and lists "
                    "of them can be sent to the server. Leave it out of the batch."
                )


ROUTER_LOSS = (
    "model type '{model_type}': output_router_logits adds a loss of all blocks' routers, and those "
    "below the cut are on the devices. Set output_router_logits=False in the model's "
    "configuration: training then leaves out the balancing of experts."
)
"""Why a mixture of experts with its balancing loss on is refused, and the way out."""


def forward_keys(model: PreTrainedModel, side_keys: tuple[str, ...] = ()) -> ForwardKeys:
    """Read what the forward of ``model`` takes. Raises InputError for side keys it never reads."""
    kind = type(model)
    task, any_task = _names(model)
    base, any_base = _names(model.base_model)
    if model.main_input_name not in base and any_base:  # a mere wrapper, that of BART's decoder
        base |= task
    if any_task:
        task |= set(inspect.signature(ForCausalLMLoss).parameters)
    labels = tuple(find_labels(kind)) or ("labels",)  # type: ignore[no-untyped-call]
    model_type = model.config.model_type or kind.__name__
    takes_any = any(_is_own_code(one) for one in (model, model.base_model)) and (
        any_task or any_base
    )
    for name in side_keys:
        if not takes_any and name not in task | base:
            raise InputError(
                f"side_keys: '{name}' is not read by the forward of model type '{model_type}'; it "
                f"reads {', '.join(sorted(task | base))}."
            )
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    return ForwardKeys(
        model_type=model_type,
        main=model.main_input_name,
        labels=labels,
        task=frozenset(task),
        base=frozenset(base),
        reads_padding=padding is not None and _reads_padding(model),
        takes_any=takes_any,
        padding_id=padding,
        shifted=is_causal(model),
        side_keys=side_keys,
    )


def is_causal(model: PreTrainedModel) -> bool:
    """Return whether the model has the head of a causal language model."""
    return type(model).__name__.endswith(("ForCausalLM", "LMHeadModel", "DoubleHeadsModel"))


def _names(model: torch.nn.Module) -> tuple[set[str], bool]:
    """Names a forward takes, and whether it takes any other keyword too.

    With any keyword these are also the ones that transformers' forwards hand on.
    """
    parameters = inspect.signature(type(model).forward).parameters.values()
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if takes_any:
        names |= set(TransformersKwargs.__annotations__)
    return names - {"self"}, takes_any


def _is_own_code(model: torch.nn.Module) -> bool:
    return not inspect.unwrap(type(model).forward).__module__.startswith("transformers.")


def _reads_padding(model: PreTrainedModel) -> bool:
    """Whether the task model's own forward names the padding token; also where it cannot be read.

    The base model's does not count: what it makes of tokens is made on the device.
    """
    if model.main_input_name != "input_ids":
        return False
    try:
        source = inspect.getsource(inspect.unwrap(type(model).forward))
    except (OSError, TypeError):
        return True
    return "pad_token_id" in source


def _ignored(labels: torch.Tensor, shifted: bool) -> bool:
    counted = labels[..., 1:] if shifted and labels.ndim > 1 else labels
    return bool((counted == IGNORED_LABEL).all())


def _plain(value: Any) -> Any:
    """Arrays and numbers of numpy as torch's and Python's."""
    if isinstance(value, torch.Tensor):
        return value
    if hasattr(value, "__array__"):
        made = torch.as_tensor(value)
        return made if made.ndim else made.item()
    return value


def _is_json(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_json(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))
