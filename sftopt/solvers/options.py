"""The options every solver understands, under one set of names."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sftopt.core.errors import InputError
from sftopt.core.plan import Plan
from sftopt.core.tolerance import FEASIBILITY_TOLERANCE, LARGEST_TOLERANCE, tolerance_fault


@dataclass(frozen=True)
class Options:
    """Common options; what a solver does not heed is listed in the result as ignored.

    ``rel_gap`` is (objective - bound) / objective. ``native`` goes to the engine untouched.
    """

    time_limit: float | None = 60.0
    rel_gap: float = 1e-4
    abs_gap: float = 0.0
    threads: int = 1
    seed: int = 0
    feas_tol: float = FEASIBILITY_TOLERANCE
    x0: Plan | None = None
    tee: bool = False
    native: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that make no sense, all at once."""
        faults = []
        if self.time_limit is not None and not self.time_limit >= 0.0:
            faults.append(f"time_limit is {self.time_limit}; it must be 0 s or more (or None)")
        for name in ("rel_gap", "abs_gap"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                faults.append(f"{name} is {value}; it must be a number of 0 or more")
        if not 0.0 <= self.feas_tol <= LARGEST_TOLERANCE:
            faults.append(tolerance_fault(self.feas_tol))
        if self.threads < 1:
            faults.append(f"threads is {self.threads}; it must be 1 or more")
        if not 0 <= self.seed < 2**31:
            faults.append(f"seed is {self.seed}; it must lie in 0..2147483647")
        if faults:
            raise InputError("options: " + "; ".join(faults))

    @property
    def engine_tol(self) -> float:
        """Return the tolerance engines work to, as a fraction: at much smaller ones they fail.

        Their points are repaired to ``feas_tol`` before the judge sees them.
        """
        return max(self.feas_tol, ENGINE_TOLERANCE)

    def for_solver(self) -> Options:
        """Return the options as a solver gets them: what bounds give way by fits into its gap.

        The bound that is stated lies lower than the proven one by ``feas_tol``, relative, for
        shares may sum to as much more than 1.
        """
        gap = max(self.rel_gap - 2.0 * self.feas_tol, 0.5 * self.rel_gap)
        return replace(self, rel_gap=gap)

    def common(self) -> dict[str, Any]:
        """Return the common options as JSON data, by name."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _SPECIAL}
        data["x0"] = None if self.x0 is None else "plan"
        return data

    def native_numbers(self) -> dict[str, Any]:
        """Return the native options by name, with text that spells a number as that number."""
        return {name: as_number(value) for name, value in self.native.items()}

    def changed(self) -> set[str]:
        """Name the common options that differ from their default."""
        usual = Options()
        return {
            f.name
            for f in fields(self)
            if f.name != "native" and getattr(self, f.name) != getattr(usual, f.name)
        }


ENGINE_TOLERANCE = 1e-6
"""What is asked of engines, whose points then miss a limit by about as much, scaled."""
_SPECIAL = ("x0", "native")
"""Fields that are no plain values."""


def as_number(value: Any) -> Any:
    """Return the int or float that a text spells; anything else unchanged."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
