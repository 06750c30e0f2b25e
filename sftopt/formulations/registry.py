"""Formulations by name: our own, registered by their files, and third parties' entry points."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points

from sftopt.core.errors import RefusedError, UnknownNameError
from sftopt.core.plugin_import import load_plugin
from sftopt.formulations.base import Formulation

_MODULES = {
    "joint-product": "sftopt.formulations.algebraic.joint_product",
    "joint-ratio": "sftopt.formulations.algebraic.joint_ratio",
    "joint-reduced": "sftopt.formulations.algebraic.joint_reduced",
    "joint-relaxed": "sftopt.formulations.algebraic.joint_relaxed",
    "spectrum-nlp": "sftopt.formulations.spectrum.spectrum_nlp",
    "spectrum-conic": "sftopt.formulations.spectrum.spectrum_conic",
    "spectrum-native": "sftopt.formulations.spectrum.spectrum_native",
    "joint-grid-conic": "sftopt.formulations.conic.joint_grid_conic",
    "joint-grid-relaxed": "sftopt.formulations.conic.joint_grid_relaxed",
    "joint-grid-milp": "sftopt.formulations.conic.joint_grid_milp",
    "joint-fixed-socp": "sftopt.formulations.conic.joint_fixed_socp",
    "native": "sftopt.formulations.native",
}
"""Name -> module; the module's FORMULATION is imported where it is used."""

_NEEDED = ("name", "promise", "problem_class", "layer", "summary")
"""What every formulation says of itself."""

ENTRY_POINT_GROUP = "sftopt.formulations"
"""Where third parties' distributions register theirs."""


@lru_cache(maxsize=1)
def _third_party() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def formulation_names() -> list[str]:
    """List the registered names, ours first."""
    return [*_MODULES, *(name for name in _third_party() if name not in _MODULES)]


def is_built_in(formulation: Formulation) -> bool:
    """Say whether ``formulation`` is one of ours, whatever it calls itself."""
    module = _MODULES.get(formulation.name)
    return module is not None and import_module(module).FORMULATION is formulation


def get_formulation(name: str) -> Formulation:
    """Return the formulation called ``name``.

    Raises UnknownNameError, or RefusedError if it is broken.
    """
    if name in _MODULES:
        found = import_module(_MODULES[name]).FORMULATION
    elif name in _third_party():
        found = load_plugin("formulation", name, _third_party()[name], "FORMULATION", _NEEDED)
        if isinstance(found, Formulation) and found.name != name:
            text = f"formulation '{name}' (a plug-in) calls itself '{found.name}'"
            raise RefusedError(text)
    else:
        raise UnknownNameError("formulation", name, formulation_names())
    if not isinstance(found, Formulation):
        raise RefusedError(f"formulation '{name}': {found!r} is not an sftopt Formulation")
    return found
