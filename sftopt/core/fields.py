"""What all data models share: frozen base classes, number types, and the step from version 1.

Models are frozen, refuse unknown fields and refuse NaN and infinity. A copy with changes is
validated like any other input and keeps nothing that was computed for the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from sftopt.core.version import SCHEMA_VERSION

MOST_COUNTED = 2**53
"""Largest whole number that every JSON reader keeps exactly."""

MOST_NAME = 1_000
"""Characters of a name, a version or a hash."""
MOST_TEXT = 20_000
"""Characters of the longest text: where something comes from, in words."""

LARGEST = 1e40
"""Larger numbers are refused: products of several would leave the range of doubles."""
SMALLEST = 1e-60
"""Positive numbers below it are refused for the same reason."""

MOST_BLOCKS = 10_000
"""Transformer blocks of a model; far above any, and what arrays by cut have room for."""

MOST_DEVICES = 100_000
"""Devices of a cell."""


def _not_tiny(value: float) -> float:
    """A number of 0 or more; between the two are only slips, and quotients that overflow."""
    if 0.0 < value < SMALLEST:
        raise ValueError(f"it must be 0, or at least {SMALLEST:g}")
    return value


_REAL = {"le": LARGEST, "allow_inf_nan": False, "strict": True}
"""What holds for every real number."""

Positive = Annotated[float, Field(gt=0, ge=SMALLEST, **_REAL)]
NonNegative = Annotated[float, Field(ge=0, **_REAL), AfterValidator(_not_tiny)]
AtLeastOne = Annotated[float, Field(ge=1, **_REAL)]
Finite = Annotated[float, Field(ge=-LARGEST, **_REAL)]
Fraction = Annotated[
    float, Field(ge=0, le=1, allow_inf_nan=False, strict=True), AfterValidator(_not_tiny)
]
Count = Annotated[int, Field(ge=0, le=MOST_COUNTED, strict=True)]
PositiveCount = Annotated[int, Field(ge=1, le=MOST_COUNTED, strict=True)]
Whole = Annotated[int, Field(ge=-MOST_COUNTED, le=MOST_COUNTED, strict=True)]
Seed = Annotated[int, Field(ge=-(2**128), le=2**128)]
BitsPerElement = Annotated[float, Field(ge=0, le=32, allow_inf_nan=False, strict=True)]
PositiveBits = Annotated[float, Field(gt=0, ge=SMALLEST, le=32, allow_inf_nan=False, strict=True)]
Name = Annotated[str, Field(max_length=MOST_NAME)]
Text = Annotated[str, Field(max_length=MOST_TEXT)]


class Frozen(BaseModel):
    """Base of all data: frozen, strict about names, finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; one with ``update`` is validated anew and computes its own hash.

        Raises pydantic's ValidationError where a changed value cannot be.
        """
        if not update:
            return super().model_copy(deep=deep)
        unknown = [name for name in update if name not in type(self).model_fields]
        if unknown:  # also of models that ignore them in files
            raise _unknown_fields(type(self), unknown, update)
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if deep:
            values = deepcopy(values)
        return type(self).model_validate(values | dict(update))

    def copy(  # type: ignore[override]
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> Self:
        """Return :meth:`model_copy`; pydantic's old way to copy checks nothing."""
        return self.model_copy(update=update, deep=deep)


def _unknown_fields(
    model: type[BaseModel], names: Sequence[str], update: Mapping[str, Any]
) -> ValidationError:
    faults: list[InitErrorDetails] = [
        {"type": "extra_forbidden", "loc": (name,), "input": update[name]} for name in names
    ]
    return ValidationError.from_exception_data(model.__name__, faults)


class Reported(Frozen):
    """Base of what sftopt writes and others may extend: unknown fields are read over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=True)


class Versioned(Frozen):
    """Base of what is a file of its own: it carries ``schema_version`` and reads version 1."""

    schema_version: Literal[2] = Field(
        default=SCHEMA_VERSION, description="of the format; version 1 is read and upgraded"
    )

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, data: Any) -> Any:
        """Turn version 1 into 2, which only added fields: their defaults say what held before."""
        if isinstance(data, Mapping) and is_version(data.get("schema_version"), 1):
            return {**data, "schema_version": SCHEMA_VERSION}
        return data


def is_version(value: Any, version: int) -> bool:
    """Return whether a file's ``schema_version`` is this one; ``true`` is no number."""
    return not isinstance(value, bool) and bool(value == version)
