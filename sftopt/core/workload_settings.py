"""How a model is fine-tuned, as far as its workload depends on it: by formula or counted alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, cast

from sftopt.core.asked import check_names
from sftopt.core.faults import Fault
from sftopt.core.instance import Workload


@dataclass(frozen=True, kw_only=True)
class WorkloadSettings:
    """What is asked for besides the model's configuration."""

    tokens: int | None = None
    """S, required for text models; that of a model of images follows from its image."""
    lora_rank: int = 16
    adapter_targets: Sequence[str] | None = None
    """peft's names of the modules with adapters; None: query and value."""
    dtype_bits: Literal[16, 32] | None = None
    """Weights and activations; None: 32. It has to be given where the configuration names a type of
    16 bits."""
    adapter_bits: Literal[16, 32] = 32
    """Adapters, their gradients and moments."""
    optimiser_states: int = 2
    """Moments of each trained parameter (Adam: 2)."""
    labels: int | None = None
    """Classes of a head, which is then trained; a decoder's head for words is frozen."""
    runtime_bytes: float = 0.0
    """Of a device; declared, not derived, as are the next two."""
    server_runtime_bytes: float = 0.0
    codec_bytes_per_element: float = 4.0
    """Buffers of the boundary codec."""
    name: str | None = None
    """None: the configuration's, or the model type."""

    @property
    def reference_bits(self) -> Literal[16, 32]:
        """Return the bits of a weight, and of an element of an activation."""
        return self.dtype_bits or 32

    @property
    def element_bytes(self) -> int:
        """Return the same in bytes."""
        return self.reference_bits // 8

    @property
    def adapter_bytes(self) -> int:
        """Return the bytes of an adapter's parameter."""
        return self.adapter_bits // 8

    def faults(self) -> Iterator[Fault]:
        """Yield a fault for every number that is too small."""
        for field, low in (("lora_rank", 1), ("optimiser_states", 0)):
            value = getattr(self, field)
            if value < low:
                text = f"{field}: is {value}; at least {low} is needed"
                yield Fault(field=field, value=value, limit=low, message=text)


Given = ParamSpec("Given")
Derive = Callable[[Mapping[str, Any], WorkloadSettings], Workload]
"""What makes a workload of a configuration and the settings as one."""


def _taking(
    settings: Callable[Given, WorkloadSettings],
) -> Callable[[Derive], Callable[Concatenate[Mapping[str, Any], Given], Workload]]:
    parameters = inspect.signature(settings).parameters

    def of(derive: Derive) -> Callable[Concatenate[Mapping[str, Any], Given], Workload]:
        own = inspect.signature(derive).parameters["config"]

        @wraps(derive)
        def named(
            config: Mapping[str, Any], *values: Given.args, **given: Given.kwargs
        ) -> Workload:
            check_names(derive.__name__, given, list(parameters))
            return derive(config, settings(*values, **given))

        shown = inspect.Signature([own, *parameters.values()], return_annotation="Workload")
        named.__signature__ = shown  # type: ignore[attr-defined]
        return cast(Callable[Concatenate[Mapping[str, Any], Given], Workload], named)

    return of


settings_by_name = _taking(WorkloadSettings)
"""Makes a function of a configuration and settings take the settings by name, as keywords.

It then raises TypeError, with the nearest name, for a name that is none.
"""
