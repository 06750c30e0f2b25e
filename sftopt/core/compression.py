"""How the boundary may be compressed: modes, their payloads and the range of the keep fraction."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from sftopt.core.fields import (
    BitsPerElement,
    Fraction,
    Frozen,
    NonNegative,
    Positive,
    PositiveBits,
    PositiveCount,
)


class ModeKind(StrEnum):
    """Kinds of boundary compression, equations (1) and (2)."""

    TOPK = "topk"
    """Keep a fraction of the elements, quantise them, code mask and values."""
    DENSE = "dense"
    """Quantise every element; no mask."""
    NONE = "none"
    """Send every element at the reference precision."""
    TOKENS = "tokens"
    """Send fewer tokens, every element of them quantised."""


class MaskOverhead(Frozen):
    """The real mask coder against H2 on one interval of the keep fraction [omega]."""

    keep_from: Fraction
    keep_to: Fraction
    factor: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, strict=True)]


LOSS_TAGS = ("one for all cuts", "by cut")
"""How pydantic marks the two forms of ``loss`` in the place of an error."""


def _loss_form(value: Any) -> str:
    return LOSS_TAGS[1] if isinstance(value, list | tuple) else LOSS_TAGS[0]


Loss = Annotated[
    Annotated[NonNegative, Tag(LOSS_TAGS[0])]
    | Annotated[tuple[NonNegative, ...], Tag(LOSS_TAGS[1])],
    Discriminator(_loss_form),
]


def _without_bits(schema: dict[str, Any]) -> None:
    """Say in a mode's schema that kind none needs no bits."""
    schema["required"] = [name for name in schema.get("required", []) if name != "bits"]
    schema["if"] = {"properties": {"kind": {"const": "none"}}, "required": ["kind"]}
    schema["else"] = {"required": ["bits"]}


class Mode(Frozen):
    """One way to compress the boundary.

    Every kind but ``topk`` may carry measured figures of its own: ``gradient_bits``, ``loss``.
    """

    model_config = ConfigDict(json_schema_extra=_without_bits)

    name: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        default=None,
        description="what plans call it, unique; null: its label (topk4, dense8, none, tokens41-8)",
    )
    kind: ModeKind = ModeKind.TOPK
    bits: Annotated[int, Field(ge=1, le=32, strict=True)] = Field(
        description="q, bits per kept value; ignored by kind none, which may leave it out"
    )
    tokens: PositiveCount | None = Field(
        default=None,
        description="S', tokens sent, CLS and the merged one included, below the workload's "
        "tokens; kind tokens needs it, no other has it",
    )
    value_bits: PositiveBits | None = Field(
        default=None, description="eta_q, entropy of a quantised value incl. sign; null: bits"
    )
    gradient_bits: PositiveBits | None = Field(
        default=None,
        description="measured bits per element of the gradient; null: as equation (2). "
        "Not of kind topk",
    )
    side_bits_per_element: BitsPerElement = Field(
        default=0.0, description="sigma, group scales spread over all elements"
    )
    loss: Loss | None = Field(
        default=None,
        description="measured loss of accuracy in place of equation (12), a number or one for "
        "each of 0..L-1 blocks on the device; null: as equation (12). Not of kind topk",
    )
    codec_seconds_factor: NonNegative = Field(
        default=1.0, description="c_o, factor on the devices' codec seconds"
    )
    mask_overhead: tuple[MaskOverhead, ...] = Field(
        default=(MaskOverhead(keep_from=0.0, keep_to=1.0, factor=1.0),),
        description="omega by intervals of the keep fraction; they must join without a gap",
        min_length=1,
    )

    @model_validator(mode="before")
    @classmethod
    def _bits_of_none(cls, data: Any) -> Any:
        """Kind none sends at the reference precision; its ``bits`` may be left out."""
        if isinstance(data, Mapping) and data.get("kind") == ModeKind.NONE and "bits" not in data:
            return {**data, "bits": 32}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*self._kind_problems(), *self._interval_problems()]
        if problems:
            raise ValueError("; ".join(problems))
        if self.name == self.usual_label:  # written out or not: the same mode
            self.__dict__["name"] = None
        return self

    def _kind_problems(self) -> list[str]:
        problems = []
        if self.kind is ModeKind.TOKENS and self.tokens is None:
            problems.append("tokens is missing; kind tokens needs it (S', the tokens sent)")
        if self.kind is not ModeKind.TOKENS and self.tokens is not None:
            problems.append(f"tokens is {self.tokens}, but only kind tokens has it")
        if self.kind is ModeKind.TOPK:
            problems += [
                f"{name} is given, but kind topk has its loss and bits by the keep fraction; "
                "use another kind or leave it out"
                for name in ("gradient_bits", "loss")
                if getattr(self, name) is not None
            ]
        return problems

    def _interval_problems(self) -> list[str]:
        problems = [
            f"mask_overhead intervals must join: {left.keep_to} is followed by {right.keep_from}"
            for left, right in zip(self.mask_overhead, self.mask_overhead[1:], strict=False)
            if left.keep_to != right.keep_from
        ]
        problems += [
            f"mask_overhead interval [{part.keep_from}, {part.keep_to}] is empty"
            for part in self.mask_overhead
            if part.keep_from >= part.keep_to
        ]
        return problems

    @property
    def entropy_bits(self) -> float:
        """Return eta_q in bits: the declared entropy, else the bits themselves."""
        return float(self.bits) if self.value_bits is None else self.value_bits

    @property
    def usual_label(self) -> str:
        """Return what a mode without a name is called: ``topk4``, ``none``, ``tokens41-8``."""
        if self.kind is ModeKind.NONE:
            return self.kind.value
        if self.kind is ModeKind.TOKENS:
            return f"{self.kind.value}{self.tokens}-{self.bits}"
        return f"{self.kind.value}{self.bits}"

    @property
    def label(self) -> str:
        """Return what plans and tables call the mode: its name, else its usual label."""
        return self.usual_label if self.name is None else self.name

    @property
    def beyond_equations(self) -> str:
        """Name what equations (1)-(12) do not know of this mode; empty where they know all."""
        if self.kind is ModeKind.TOKENS:
            return "kind tokens"
        given = [name for name in ("gradient_bits", "loss") if getattr(self, name) is not None]
        if self.codec_seconds_factor != 1.0:
            given.append("codec_seconds_factor")
        return ", ".join(given)


MOST_MODES = 1_000
"""Modes on offer in one cell."""


class Compression(Frozen):
    """The compression modes on offer and the range of the keep fraction."""

    modes: tuple[Mode, ...] = Field(
        default=tuple(Mode(bits=q) for q in (2, 3, 4, 6, 8)), min_length=1, max_length=MOST_MODES
    )
    keep_min: Annotated[Positive, Field(le=1)] | None = Field(
        default=None, description="rho_min; null: max(0.05, 1.2 / keep_decay)"
    )
    keep_max: Annotated[Positive, Field(le=1)] = 1.0
