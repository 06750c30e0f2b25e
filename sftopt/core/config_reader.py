"""Reading the keys of a Hugging Face configuration that a workload is counted from.

Types, ranges, second names and defaults are those of transformers; every fault on the way is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sftopt.core.config_checks import config_fault, shown
from sftopt.core.config_keys import ALIASES, DEFAULTS
from sftopt.core.faults import Fault

ACTIVATION_TENSORS = {"gelu": 1, "gelu_pytorch_tanh": 1, "silu": 1, "swish": 1, "gelu_new": 4}
"""Tensors of the MLP's width that an activation function saves for backward."""

LARGEST_COUNT = 10**9
"""No size of a model is larger; products of sizes stay finite."""

_PER_BLOCK = frozenset(
    {"num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size", "n_head",
     "n_inner"}
)  # fmt: skip
"""Sizes that some files give as one entry a block."""


class ConfigReader:
    """Reads keys of a configuration and collects every fault on the way."""

    def __init__(self, config: Mapping[str, Any], model_type: str) -> None:
        self.config = config
        self.model_type = model_type
        self.faults: list[Fault] = []

    def fault(self, field: str, message: str, value: Any = None, limit: Any = None) -> None:
        """Note one fault."""
        value = value if isinstance(value, (int, float, str)) else None
        if any(known.message == message for known in self.faults):
            return
        self.faults.append(Fault(field=field, value=value, limit=limit, message=message))

    def _note(self, fault: Fault) -> None:
        if all(known.message != fault.message for known in self.faults):
            self.faults.append(fault)

    def given(self, key: str) -> Any:
        """Return a key's value, by its own or its second name; without either the default."""
        second = ALIASES.get(self.model_type, {}).get(key, key)
        values = [self.config[name] for name in (key, second) if name in self.config]
        if len(values) == 2 and values[0] != values[1]:
            self._note(config_fault(key, values[0], f"its second name '{second}' is "
                                    f"{shown(values[1])}: leave one of them out"))  # fmt: skip
        return values[0] if values else DEFAULTS[self.model_type].get(key)

    def count(self, key: str, *, when_null: int | None = None) -> int:
        """Read a positive integer without unit; ``when_null`` for null, 1 after a fault."""
        value = self.given(key)
        if isinstance(value, list) and key in _PER_BLOCK:
            value = self._same_in_all_blocks(key, value)
        if value is None and when_null is not None:
            return when_null
        if not _is_integer(value) or not 1 <= value <= LARGEST_COUNT:
            self._note(config_fault(key, value, "it must be a positive integer of at most "
                                    f"{LARGEST_COUNT}", 1))  # fmt: skip
            return 1
        return int(value)

    def _same_in_all_blocks(self, key: str, values: list[Any]) -> Any:
        """Return the one value of a list with an entry a block; 1 after a fault."""
        blocks = self.count("n_layer" if self.model_type == "gpt2" else "num_hidden_layers")
        if len(values) != blocks:
            self.fault(key, f"config key '{key}' has {len(values)} entries; one number, or one for "
                       f"each of the {blocks} blocks is needed", len(values), blocks)  # fmt: skip
            return 1
        for index, value in enumerate(values):
            if not _is_integer(value):
                self._note(config_fault(f"{key}[{index}]", value, "it must be a positive integer"))
                return 1
            if value != values[0]:
                self._note(config_fault(f"{key}[{index}]", value, f"the first block's is "
                                        f"{shown(values[0])}: all blocks are counted alike; give "
                                        "the numbers in the instance's workload "
                                        "yourself"))  # fmt: skip
                return 1
        return values[0]

    def height_and_width(self, key: str) -> tuple[int, int]:
        """Read the size of an image or patch in pixels: one number, or a list of two."""
        value = self.given(key)
        pair = value if isinstance(value, list) else [value, value]
        if len(pair) != 2 or not all(_is_integer(n) and 1 <= n <= LARGEST_COUNT for n in pair):
            self._note(config_fault(key, value, "it must be a positive integer of at most "
                                    f"{LARGEST_COUNT}, or a list of two, height and width",
                                    1))  # fmt: skip
            return 1, 1
        return pair[0], pair[1]

    def flag(self, key: str) -> bool:
        """Read a truth value."""
        value = self.given(key)
        if not isinstance(value, bool):
            self._note(config_fault(key, value, "it must be true or false"))
            return False
        return value

    def activation(self, key: str) -> str:
        """Read the name of an activation function whose saved tensors are known."""
        value = self.given(key)
        if not isinstance(value, str) or value not in ACTIVATION_TENSORS:
            known = ", ".join(sorted(ACTIVATION_TENSORS))
            self._note(config_fault(key, value, f"known: {known}"))
            return "gelu"
        return value

    def heads(self, hidden: int, key: str) -> tuple[int, int]:
        """Read the number of heads and the head size; both divide the hidden size."""
        heads = self.count(key)
        if hidden % heads != 0:
            self.fault(key, f"config key '{key}' is {heads}; it must divide the hidden size "
                       f"{hidden}", heads, hidden)  # fmt: skip
        return heads, max(hidden // heads, 1)

    def no_head_size(self, head_size: int) -> None:
        """Refuse a head size of the file's own, where the hidden size over the heads is counted."""
        value = self.config.get("head_dim")
        if value is not None and (not _is_integer(value) or value != head_size):
            self._note(config_fault("head_dim", value, f"a {self.model_type} is counted with heads "
                                    f"of the hidden size over their number, {head_size}; leave "
                                    "head_dim out", head_size))  # fmt: skip

    def text_tokens(self, tokens: int | None, positions_key: str) -> int:
        """Return the number of tokens S that is asked for, within the model's positions."""
        before = len(self.faults)
        positions = self.count(positions_key)
        if len(self.faults) > before:
            return 1
        if tokens is None:
            self.fault("tokens", "tokens: not given; a text model needs the padded length in "
                       f"tokens (1 to {positions})", limit=positions)  # fmt: skip
            return 1
        if not 1 <= tokens <= positions:
            self.fault("tokens", f"tokens: is {tokens}; this model takes 1 to {positions} "
                       f"({positions_key})", tokens, positions)  # fmt: skip
        return tokens

    def labels(self, labels: int | None) -> int:
        """Return the number of classes: asked for, else of the configuration, else 2."""
        names = self.config.get("id2label")
        if names is not None and not isinstance(names, Mapping):
            self._note(config_fault("id2label", names, "it must be an object of names or null"))
        if labels is not None:
            if labels < 1:
                self.fault("labels", f"labels: is {labels}; at least 1 is needed", labels, 1)
            return max(labels, 1)
        if isinstance(names, Mapping):
            if not names:
                self._note(config_fault("id2label", names, "it must name at least 1 class; or give "
                                        "labels (--labels)", 1))  # fmt: skip
            return max(len(names), 1)
        value = self.config.get("num_labels")
        if value is not None and (not _is_integer(value) or not 1 <= value <= LARGEST_COUNT):
            self._note(config_fault("num_labels", value, "it must be a positive integer; or give "
                                    "labels (--labels)", 1))  # fmt: skip
            return 1
        return 2 if value is None else int(value)

    def no_labels(self, labels: int | None) -> None:
        """Refuse labels: a language model's head is its vocabulary."""
        if labels is not None:
            self.fault("labels", f"labels: is {labels}; a {self.model_type} is taken as a language "
                       "model with its vocabulary as head; leave labels out", labels)  # fmt: skip

    def name(self) -> str:
        """Return what the file calls the model, at most 200 characters; else its type."""
        value = self.config.get("_name_or_path")
        return value[:200] if isinstance(value, str) and value else self.model_type


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
