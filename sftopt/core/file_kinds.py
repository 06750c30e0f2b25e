"""Files of one kind given in place of another: an instance for a plan, a result for either.

Without this, each of their fields would be a fault of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sftopt.core.errors import InputError


@dataclass(frozen=True)
class FileKind:
    """A kind of JSON file, the fields that every such file has, and what makes use of one."""

    name: str
    fields: frozenset[str]
    use: str


FILE_KINDS = (
    FileKind(
        "instance",
        frozenset({"workload", "accuracy", "devices", "server", "radio"}),
        "'sftopt plan FILE --out plan.json' makes a plan of it",
    ),
    FileKind(
        "result",
        frozenset({"termination", "point", "solver", "formulation"}),
        "its plan is what stands under 'plan', and what 'sftopt plan --out FILE' writes",
    ),
    FileKind(
        "plan",
        frozenset({"instance_hash", "devices"}),
        "'sftopt verify INSTANCE FILE' judges it",
    ),
    FileKind(
        "calibration",
        frozenset({"source", "workload", "profile", "codec", "accuracy"}),
        "'sftopt plan INSTANCE --calibration FILE' takes it",
    ),
    FileKind(
        "workload",
        frozenset({"blocks", "hidden", "tokens", "block_forward_flops"}),
        "'sftopt instance from-csv TABLE --workload FILE' takes it",
    ),
)
"""What the files of each kind hold at their top; the first that fits is the file's kind."""


def refuse_another_kind(wanted: str, data: dict[str, Any], what: str) -> None:
    """Refuse data of a file of another kind than ``wanted``; ``what`` names its source.

    Raises InputError that says which kind it is and what takes it. Data of no known kind pass.
    """
    found = next((kind for kind in FILE_KINDS if kind.fields <= data.keys()), None)
    known = any(kind.name == wanted for kind in FILE_KINDS)
    if known and found is not None and found.name != wanted:
        raise InputError(f"{what}: it is {_one(found.name)}, not {_one(wanted)}; {found.use}.")


def _one(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
