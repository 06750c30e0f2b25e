"""Warnings of what a command was given: lines on standard error, and data for ``--json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sftopt.face.output import tell

if TYPE_CHECKING:
    from sftopt.core.faults import Fault
    from sftopt.core.instance import Instance

_FIELDS_NAMED = 6
"""Unused fields that the one line about them names."""


def warnings_of(instance: Instance, round_s: float | None = None) -> list[Fault]:
    """List what ``check`` warns of in ``instance``, and a round delay in s that no cell has."""
    from sftopt.core.sense import delay_warning, sense_warnings
    from sftopt.core.unused import unused_warnings

    odd = delay_warning(round_s)
    return [*([odd] if odd else []), *sense_warnings(instance), *unused_warnings(instance)]


def tell_warnings(instance: Instance) -> None:
    """Tell each oddity on a line of its own, and all fields that are not used yet on one line."""
    from sftopt.core.sense import sense_warnings
    from sftopt.core.unused import unused_warnings

    for warning in sense_warnings(instance):
        tell(f"warning: {warning}")
    unused = [warning.field for warning in unused_warnings(instance)]
    if unused:
        left_out = len(unused) - _FIELDS_NAMED
        more = f" and {left_out} more" if left_out > 0 else ""
        tell(
            f"warning: given, but not used yet: {', '.join(unused[:_FIELDS_NAMED])}{more} "
            "('sftopt check' says why)"
        )


def tell_delay(round_s: float | None) -> None:
    """Warn of a round delay in s that no cell has."""
    from sftopt.core.sense import delay_warning

    odd = delay_warning(round_s)
    if odd is not None:
        tell(f"warning: {odd}")


def as_data(warnings: Sequence[Fault]) -> list[dict[str, Any]]:
    """Return warnings as plain JSON data."""
    return [warning.model_dump(mode="json") for warning in warnings]
