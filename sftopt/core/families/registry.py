"""The families by name, and the one function that generates an instance of any of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from sftopt.core.errors import UnknownNameError
from sftopt.core.families import edge, language, stress
from sftopt.core.families.parts import check_devices
from sftopt.core.instance import Instance

Build = Callable[[str, int, int, str], Instance]


@dataclass(frozen=True)
class Family:
    """A named kind of instance. ``build`` takes (name, devices, seed, text)."""

    name: str
    default_devices: int
    build: Build
    feasible: bool = True

    @property
    def text(self) -> str:
        """Return what the family is, with its source: the builder's docstring."""
        return inspect.getdoc(self.build) or ""

    @property
    def summary(self) -> str:
        """Return the first line of :attr:`text`."""
        return self.text.split("\n", 1)[0]


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("jetson-vit-b", 10, edge.jetson_vit_b),
        Family("gpt2-e2e", 3, language.gpt2_e2e),
        Family("llama-1b", 8, language.llama_1b),
        Family("weichen", 20, edge.weichen),
        Family("stsflora", 100, edge.stsflora),
        Family("tight-memory", 6, stress.tight_memory),
        Family("weak-server", 6, stress.weak_server),
        Family("strong-server", 6, stress.strong_server),
        Family("tight-accuracy", 6, stress.tight_accuracy),
        Family("straggler", 6, stress.straggler),
        Family("equal-devices", 6, stress.equal_devices),
        Family("near-infeasible", 6, stress.near_infeasible),
        Family("infeasible", 6, stress.infeasible, feasible=False),
    )
}
"""Name -> family, the paper-like ones first, then the stress families."""


def family_of(name: str) -> Family:
    """Return the family called ``name``. Raises UnknownNameError with the nearest known name."""
    if name not in FAMILIES:
        raise UnknownNameError("family", name, FAMILIES)
    return FAMILIES[name]


def generate(family: str, devices: int | None = None, seed: int = 0) -> Instance:
    """Generate an instance of ``family`` with ``devices`` devices (null: the family's own number).

    The same arguments give the same instance. Raises UnknownNameError for an unknown family and
    InputError for a number of devices outside 1 to 10,000 or a negative seed.
    """
    kind = family_of(family)
    count = check_devices(kind.default_devices if devices is None else devices)
    return kind.build(kind.name, count, seed, kind.text)
