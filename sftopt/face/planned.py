"""What ``sftopt finetune`` runs: a plan file with its instance, or the plan of a scheme."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.errors import InputError
from sftopt.face.calibrated import load_given
from sftopt.face.output import tell

if TYPE_CHECKING:
    from sftopt.core.instance import Instance
    from sftopt.core.plan import Plan

_USAGE = "PLAN --instance INSTANCE, or INSTANCE --scheme NAME"
"""The two ways to say what is run."""


def plan_and_instance(plan: Path | None, instance: str | None) -> tuple[Path, str]:
    """Return the plan file and its instance. Raises InputError where one of them is missing."""
    if plan is None or instance is None:
        missing = "PLAN" if plan is None else "--instance INSTANCE"
        raise InputError(f"{missing} is missing: give {_USAGE}")
    return plan, instance


def instance_of(plan: Path | None, instance: str | None) -> str:
    """Return the instance of a scheme, however it was given. Raises InputError."""
    if plan is not None and instance is not None:
        raise InputError(
            f"--scheme makes the plan, so '{plan}' beside --instance is one too many: give {_USAGE}"
        )
    if plan is None and instance is None:
        raise InputError(f"--scheme needs an instance: give {_USAGE}")
    return str(plan) if instance is None else instance


def planned(
    scheme: str,
    instance: str,
    calibration: Path | None,
    curve: str | None,
    speeds: str | None,
    minimum: float | None,
    extrapolate: bool,
    *,
    model: str,
    labels: int | None,
    quiet: bool,
) -> tuple[Instance, Plan]:
    """Return a scheme's judged plan and the instance it is made for: the given one, with the
    scheme's mode where it offers none, and with what schemes need to know of ``model`` where its
    calibration is older.

    Raises InputError for unknown names and options, VerificationError where the scheme's own choice
    breaks a limit.
    """
    from sftopt.core.workload import completed
    from sftopt.studies.compare import scheme_plan

    given = load_given(instance, calibration, curve, speeds, minimum, extrapolate)
    work = completed(given.workload, _configuration(model), labels=labels)
    if work != given.workload:
        given = given.model_copy(update={"workload": work})
    if not quiet:
        tell(f"planning by scheme {scheme}")
    made_for, plan, changes = scheme_plan(given, scheme)
    for change in changes:
        tell(f"note: scheme {scheme} runs on a copy of '{given.name}': {change}")
    return made_for, plan


def check_scheme(scheme: str) -> None:
    """Raise InputError for a slip in a scheme's name or options: before anything takes long."""
    from sftopt.studies.compare.request import parsed

    parsed(scheme)


def _configuration(model: str) -> dict[str, Any]:
    """The configuration of a model on disk; empty for one of a hub, which loading will find."""
    from sftopt.core.files import read_json

    path = Path(model)
    if path.is_dir():
        path = path / "config.json"
    return read_json(path, "configuration") if path.is_file() else {}
