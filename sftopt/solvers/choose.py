"""Which solver ``plan`` takes when none is named, and why."""

from __future__ import annotations

from sftopt.core.derived import Derived
from sftopt.core.instance import PowerLaw
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.registry import availability, get_solver, solvers_for, why_refused

BONMIN_UP_TO_DEVICES = 12
"""Devices up to which Bonmin ends within a second, under ``psd``."""
RELAX_UP_TO_DEVICES = 1_000
"""Devices up to which the relaxation is built and solved within seconds."""


def choose(derived: Derived, formulation: str | None) -> tuple[str, str]:
    """Choose a solver for an instance and possibly a given formulation.

    Returns its name and one sentence saying why.
    """
    certify = get_solver("certify")
    given = None if formulation is None else get_formulation(formulation)
    if given is not None and not certify.accepts(given):
        takers = solvers_for(given)
        free = (name for name in takers if why_refused(get_solver(name), given, derived) is None)
        name = next(free, next(iter(takers), None))  # else the refusal of one that takes it
        if name is not None:
            return name, f"No solver was named: {name}, the first that takes {formulation}."
    if availability(certify) and certify.refusal(derived) is None:
        return "certify", "No solver was named: certify, which proves its bound at any size."
    if given is None:
        if get_solver("exhaustive").refusal(derived) is None:
            return "exhaustive", (
                "No solver was named: exhaustive, which settles every choice of so few devices."
            )
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
