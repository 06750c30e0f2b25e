"""``sftopt schema``: the JSON Schema of a file."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer

SCHEMAS = {
    "instance": ("sftopt.core.instance", "Instance"),
    "plan": ("sftopt.core.plan", "Plan"),
    "calibration": ("sftopt.core.calibration", "Calibration"),
    "result": ("sftopt.core.result", "Result"),
    "time-to-target": ("sftopt.studies.time_to_target", "TimeToTarget"),
    "row": ("sftopt.core.row_schema", "Row"),
    "suite": ("sftopt.studies.race.suite", "Suite"),
    "race-row": ("sftopt.studies.race.row", "RaceRow"),
}
"""File kind -> module and class of its model."""


def schema(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help=" | ".join(SCHEMAS), show_default=False)
    ],
    json: JsonOption = False,
) -> Answer:
    """Print the JSON Schema of a file.

    It is JSON with or without --json; with it, it also carries schema_version and command.
    """
    import json as json_module

    made = json_schema(kind)
    return Answer(made, json_module.dumps(made, indent=2))


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of a kind of file. Raises UnknownNameError for another name."""
    from importlib import import_module

    from sftopt.core.errors import UnknownNameError

    if kind not in SCHEMAS:
        raise UnknownNameError("schema", kind, SCHEMAS)
    module, name = SCHEMAS[kind]
    # what files hold: for a result that is what sftopt writes, with every field present
    made: dict[str, Any] = getattr(import_module(module), name).model_json_schema(
        mode="serialization" if kind in ("result", "time-to-target") else "validation"
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
