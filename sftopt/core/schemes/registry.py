"""Schemes by name: ours and the published ones, and third parties' entry points."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points

from sftopt.core.errors import RefusedError, UnknownNameError
from sftopt.core.plugin_import import load_plugin
from sftopt.core.schemes.base import Scheme
from sftopt.core.schemes.baselines import BASELINES
from sftopt.core.schemes.published import PUBLISHED

SCHEMES = {scheme.name: scheme for scheme in (*BASELINES, *PUBLISHED)}
"""Name -> scheme, in the order of a table."""

ENTRY_POINT_GROUP = "sftopt.schemes"
"""Where third parties' distributions register theirs."""


@lru_cache(maxsize=1)
def _third_party() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def scheme_names() -> list[str]:
    """List the registered names, ours first."""
    return [*SCHEMES, *(name for name in _third_party() if name not in SCHEMES)]


def get_scheme(name: str) -> Scheme:
    """Return the scheme called ``name``.

    Raises UnknownNameError with the nearest known name, or RefusedError if it cannot load.
    """
    if name in SCHEMES:
        return SCHEMES[name]
    if name not in _third_party():
        raise UnknownNameError("scheme", name, scheme_names())
    found = load_plugin("scheme", name, _third_party()[name], "SCHEME", ("name", "order", "cut"))
    if not isinstance(found, Scheme):
        raise RefusedError(f"scheme '{name}': {found!r} is not an sftopt Scheme")
    if found.name != name:
        text = f"scheme '{name}' (a plug-in) calls itself '{found.name}'; give both one name"
        raise RefusedError(text)
    return found
