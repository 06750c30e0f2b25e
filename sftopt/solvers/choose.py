"""Which solver ``plan`` takes when none is named, and why."""

from __future__ import annotations

from sftopt.core.derived import Derived
from sftopt.core.instance import PowerLaw
from sftopt.solvers.registry import availability, get_solver, solvers_for

BONMIN_UP_TO_DEVICES = 12
"""Devices up to which Bonmin ends within a second, under ``psd``."""
RELAX_UP_TO_DEVICES = 1_000
"""Devices up to which the relaxation is built and solved within seconds."""


def choose(derived: Derived, formulation: str | None) -> tuple[str, str]:
    """(solver, one sentence saying why) for an instance and possibly a given formulation."""
    if formulation is not None and formulation != "native":
        for name in solvers_for(formulation):
            if availability(get_solver(name)):
                return name, f"No solver was named: {name}, the first that takes {formulation}."
    certify = get_solver("certify")
    if availability(certify) and certify.refusal(derived) is None:
        return "certify", "No solver was named: certify, which proves its bound at any size."
    if formulation != "native":
        few = derived.devices <= BONMIN_UP_TO_DEVICES and derived.power is PowerLaw.PSD
        if few and availability(get_solver("bonmin")):
            return "bonmin", "No solver was named: bonmin, quick at this size; it proves no bound."
        some = derived.devices <= RELAX_UP_TO_DEVICES
        if some and availability(get_solver("ipopt")):
            return "ipopt", (
                "No solver was named: ipopt, whose relaxation is rounded and repaired; "
                "it proves no bound."
            )
    return "constructive", (
        f"No solver was named: constructive, as there are {derived.devices} devices; "
        "it proves no bound."
    )
