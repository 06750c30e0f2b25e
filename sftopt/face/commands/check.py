"""``sftopt check``: is the instance sound and feasible, and what would have to give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sftopt.core.errors import ExitCode
from sftopt.face.arguments import InstanceArgument, JsonOption
from sftopt.face.calibrated import (
    CalibrationOption,
    CurveOption,
    ExtrapolateOption,
    MinimumOption,
    SpeedsOption,
    load_given,
)
from sftopt.face.escaped import visible
from sftopt.face.output import Answer

if TYPE_CHECKING:
    from rich.console import Console


def check(
    instance: InstanceArgument,
    calibration: CalibrationOption = None,
    accuracy_curve: CurveOption = None,
    speeds: SpeedsOption = None,
    accuracy_minimum: MinimumOption = None,
    extrapolate: ExtrapolateOption = False,
    json: JsonOption = False,
) -> Answer:
    """Check whether an instance is feasible, and say what would have to give if not.

    Of an infeasible instance every limit in the way is named with the change that mends it.

    Exit code 0: feasible (warnings may remain); 3: infeasible; 2: not a valid instance.
    """
    from rich.text import Text

    from sftopt.core.check import check as check_instance
    from sftopt.core.faults import Severity
    from sftopt.face.tables import counted, show_faults

    loaded = load_given(
        instance, calibration, accuracy_curve, speeds, accuracy_minimum, extrapolate
    )
    report = check_instance(loaded)
    errors = sum(fault.severity is Severity.ERROR for fault in report.faults)
    verdict = "feasible" if report.feasible else "infeasible"
    counts = f"{counted(errors, 'error')}, {counted(len(report.faults) - errors, 'warning')}"
    head = f"{loaded.name}: {verdict} ({counts})"

    def show(console: Console) -> None:
        console.print(Text(visible(head)))
        show_faults(console, report.faults)

    return Answer(
        {
            "instance": loaded.name,
            "instance_hash": loaded.hash,
            "feasible": report.feasible,
            "faults": [fault.model_dump(mode="json") for fault in report.faults],
        },
        show,
        code=ExitCode.OK if report.feasible else ExitCode.INFEASIBLE,
    )
