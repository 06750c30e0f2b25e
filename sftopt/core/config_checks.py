"""Whether a Hugging Face configuration says that its model is one that is counted by formula.

What the keys mean stands in :mod:`sftopt.core.config_keys`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal

from sftopt.core.config_keys import (
    ALIASES,
    ARCHITECTURES,
    ASSUMED,
    ASSUMED_OF,
    BLOCK_DROPOUTS,
    DEFAULTS,
    DTYPE_BITS,
    LAYER_TYPES,
    PARTLESS,
    READ_ELSEWHERE,
    REST,
    ROPE_TYPES,
    TELLING,
)
from sftopt.core.faults import Fault


def shown(value: Any) -> str:
    """Return ``value`` as a message shows it: escaped and not longer than a line."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def config_fault(key: str, value: Any, rest: str, limit: Any = None) -> Fault:
    """Make the fault of one key, its value and what else there is to say."""
    plain = isinstance(value, str) and len(value) <= 80
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        plain = isfinite_number(value)
    return Fault(field=key[:80], value=value if plain else None, limit=limit,
                 message=f"config key {shown(key)} is {shown(value)}; {rest}")  # fmt: skip


def key_faults(config: Mapping[str, Any], model_type: str) -> Iterator[Fault]:
    """Yield a fault for every key that says the blocks are not those counted for the type."""
    way_out = (
        f"only transformers' own {model_type} is counted: give the numbers in the instance's "
        "workload yourself, or take the key out of a copy of the file to plan for the plain model"
    )
    assumed = ASSUMED | ASSUMED_OF[model_type]
    unread = set(unread_keys(config, model_type))
    for key, value in config.items():
        if key in assumed:
            allowed, why = assumed[key]
            if value not in allowed:
                yield config_fault(key, value, f"{why}; {way_out}")
        elif key == "architectures":
            yield from _architecture_faults(value, model_type, way_out)
        elif key in ("rope_scaling", "rope_parameters"):
            yield from _rope_faults(key, value, way_out)
        elif key == "layer_types":
            yield from _layer_type_faults(config, value, model_type, way_out)
        elif key in PARTLESS:
            yield from _value_faults(key, value)
        elif key in unread:
            yield from _unread_faults(config, key, model_type, way_out)


def _architecture_faults(value: Any, model_type: str, way_out: str) -> Iterator[Fault]:
    known = ARCHITECTURES[model_type]
    if value is None:
        return
    names = value if isinstance(value, list) else [value]
    for name in names:
        if not isinstance(name, str) or re.sub("^(TF|Flax)", "", name) not in known:
            yield config_fault("architectures", value, f"blocks and heads of {', '.join(known)} "
                               f"are counted; {way_out}")  # fmt: skip
            return


def _rope_faults(key: str, value: Any, way_out: str) -> Iterator[Fault]:
    if value is None:
        return
    if not isinstance(value, Mapping):
        yield config_fault(key, value, "it must be an object or null")
        return
    kind = value.get("rope_type", value.get("type"))
    if kind not in ROPE_TYPES:
        names = ", ".join(str(name) for name in ROPE_TYPES[1:])
        yield config_fault(key, kind, f"rotations of type {names} are counted; {way_out}")
    if value.get("partial_rotary_factor", 1) not in (None, 1):
        yield config_fault(f"{key}.partial_rotary_factor", value["partial_rotary_factor"],
                           f"the whole of every head is rotated; {way_out}")  # fmt: skip
    if value.get("mrope_section"):
        yield config_fault(f"{key}.mrope_section", value["mrope_section"],
                           f"positions are counted in one dimension; {way_out}")  # fmt: skip


def _layer_type_faults(
    config: Mapping[str, Any], value: Any, model_type: str, way_out: str
) -> Iterator[Fault]:
    if value is None:
        return
    if not isinstance(value, list) or any(kind not in LAYER_TYPES for kind in value):
        yield config_fault("layer_types", value, f"a list of {', '.join(LAYER_TYPES)} is counted; "
                           f"{way_out}")  # fmt: skip
        return
    name = "n_layer" if model_type == "gpt2" else "num_hidden_layers"
    blocks = config.get(name, DEFAULTS[model_type][name])
    if isinstance(blocks, int) and len(value) != blocks:
        yield Fault(field="layer_types", value=len(value), limit=blocks, message="config key "
                    f"'layer_types' has {len(value)} entries; {name} is {shown(blocks)}: give one "
                    "entry a block")  # fmt: skip


def _value_faults(key: str, value: Any) -> Iterator[Fault]:
    """Yield the fault of a key without part whose value is of a wrong type."""
    kind = PARTLESS[key][0]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None or kind == "any":
        return
    if kind == "flag":
        if not isinstance(value, bool):
            yield config_fault(key, value, "it must be true or false")
    elif not number or not isfinite_number(value) or value < 0:
        yield config_fault(key, value, "it must be a finite number, not negative")
    elif kind == "dropout" and value > 1:
        yield config_fault(key, value, "a dropout lies between 0 and 1", 1)


def isfinite_number(value: float) -> bool:
    """Return whether a number is finite and no larger than a double."""
    try:
        return isfinite(value)
    except OverflowError:
        return False


def unread_keys(config: Mapping[str, Any], model_type: str) -> list[str]:
    """List the keys that nothing here knows and whose value says something."""
    aliases = ALIASES.get(model_type, {}).values()
    known = {*DEFAULTS[model_type], *aliases, *PARTLESS, *ASSUMED, *ASSUMED_OF[model_type],
             *READ_ELSEWHERE}  # fmt: skip
    return [key for key, value in config.items() if key not in known and value not in REST]


def _unread_faults(
    config: Mapping[str, Any], key: str, model_type: str, way_out: str
) -> Iterator[Fault]:
    value = config[key]
    nested = key.endswith("_config") and isinstance(value, Mapping)
    if nested or TELLING.search(key.lower()):
        yield config_fault(key, value, f"no key of a plain {model_type}, and its name speaks of "
                           f"other blocks; {way_out}")  # fmt: skip
        return
    left_out = [
        name
        for name, default in defaulted(config, model_type).items()
        if not isinstance(default, (bool, str))
    ]
    close = get_close_matches(key[:100], left_out, n=1, cutoff=0.6)
    if close:
        yield config_fault(key, value, f"no key of a {model_type}, while '{close[0]}' is left out: "
                           f"rename it, or give '{close[0]}' too")  # fmt: skip


def defaulted(config: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """Return the keys that the file leaves out, with the values transformers takes for them."""
    aliases = ALIASES.get(model_type, {})
    return {
        key: value
        for key, value in DEFAULTS[model_type].items()
        if key not in config and aliases.get(key, key) not in config
    }


def dtype_faults(config: Mapping[str, Any], dtype_bits: Literal[16, 32] | None) -> Iterator[Fault]:
    """Yield a fault where the file's dtype is not counted, or is not what silence would assume."""
    for key in ("dtype", "torch_dtype"):
        value = config.get(key)
        if value is None:
            continue
        name = value.removeprefix("torch.") if isinstance(value, str) else None
        if name not in DTYPE_BITS:
            yield config_fault(key, value, f"workloads are counted for {', '.join(DTYPE_BITS)}; "
                               "write the dtype that the model is loaded in into a copy of the "
                               "file")  # fmt: skip
        elif dtype_bits is None and DTYPE_BITS[name] != 32:
            bits = DTYPE_BITS[name]
            yield config_fault(key, value, f"say whether the weights stay so: --dtype-bits {bits}, "
                               "or are loaded in 32 bits: --dtype-bits 32 (dtype_bits in "
                               "Python)")  # fmt: skip


def config_remarks(config: Mapping[str, Any]) -> list[str]:
    """List what a reader of the workload should know of a configuration that is not refused.

    Sizes the file leaves out, keys that are not read, and dropout, whose masks are not counted.
    """
    model_type = str(config.get("model_type"))
    remarks = []
    left_out = {k: v for k, v in defaulted(config, model_type).items() if isinstance(v, int)
                and not isinstance(v, bool)}  # fmt: skip
    if left_out:
        pairs = ", ".join(f"{key} {value}" for key, value in left_out.items())
        remarks.append(f"not in the file, taken as transformers does: {pairs}")
    unread = unread_keys(config, model_type)
    if unread:
        more = f" and {len(unread) - 12} more" if len(unread) > 12 else ""
        remarks.append("keys that are not read: " + ", ".join(map(shown, unread[:12])) + more)
    active = [key for key, (kind, _) in PARTLESS.items() if kind == "dropout" and config.get(key)
              and key in BLOCK_DROPOUTS]  # fmt: skip
    if active:
        pairs = ", ".join(f"{key} {config[key]}" for key in active)
        remarks.append(
            f"dropout is active ({pairs}): its masks are saved on top of what is counted"
        )
    return remarks
