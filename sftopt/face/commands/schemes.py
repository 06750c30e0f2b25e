"""``sftopt schemes``: which schemes ``compare`` knows, what each leaves free, and its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sftopt.core.errors import SftoptError
from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.schemes.base import Scheme


def schemes(json: JsonOption = False) -> Answer:
    """List the schemes of 'compare': what is free, what is fixed, options, source.

    Plug-ins stand behind ours; one that cannot load says why.
    """
    from sftopt.core.schemes.registry import get_scheme, scheme_names

    rows: list[dict[str, Any]] = []
    for name in scheme_names():
        try:
            rows.append(_row(get_scheme(name)))
        except SftoptError as error:
            rows.append({"name": name, "summary": str(error)})
    return Answer({"schemes": rows}, lambda console: _show(console, rows))


def _row(scheme: Scheme) -> dict[str, Any]:
    return {
        "name": scheme.name,
        "summary": scheme.summary,
        "order": scheme.order.value,
        "free": scheme.free,
        "fixed": scheme.fixed,
        "aggregation": None if scheme.aggregation is None else scheme.aggregation.value,
        "objective": scheme.objective,
        "source": scheme.source,
        "ours": scheme.ours,
        "fair_baseline": scheme.fair,
        "options": [
            {
                "name": option.name,
                "text": option.text,
                "default": option.default,
                "choices": list(option.choices),
            }
            for option in scheme.options
        ],
    }


def _show(console: Console, rows: list[dict[str, Any]]) -> None:
    from sftopt.face.tables import facts

    for row in rows:
        options = [
            f"{option['name']}: {option['text']}"
            + (f" ({', '.join(option['choices'])})" if option["choices"] else "")
            + (f"; {option['default']}" if option["default"] is not None else "")
            for option in row.get("options", [])
        ]
        console.print(facts([
            (row["name"], row["summary"]),
            ("  order", row.get("order", "")),
            ("  free", ", ".join(row.get("free", {}))),
            ("  fixed", ", ".join(f"{k} {v}" for k, v in row.get("fixed", {}).items())),
            *(("  option", option) for option in options),
            ("  source", row.get("source", "")),
            ("  ours", row.get("ours", "")),
        ]))  # fmt: skip
