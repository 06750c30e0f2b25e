"""Plans that commands keep: on disk, else in the temporary folder, and no signal in between."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sftopt.core.errors import ExitCode, InputError, SftoptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sftopt.core.plan import Plan
    from sftopt.core.result import Result
    from sftopt.face.progress import News
    from sftopt.studies.time_to_target import TimeToTarget


@contextmanager
def kept_once_reported(progress: Callable[[News], None]) -> Iterator[Callable[[News], None]]:
    """Make who asks for the end, from the first report on, wait until the plan is saved.

    While the solver runs, ``solve`` heeds signals by itself; no moment is left between the two.
    """
    from sftopt.solvers.interrupt import ENDINGS

    def heard(news: News) -> None:
        ENDINGS.hold()
        progress(news)

    try:
        yield heard
    finally:
        ENDINGS.let_go()


def save_plan(made: Plan, out: Path) -> tuple[Path | None, str]:
    """Save to ``out``, else under the temporary directory: (where it is, what went wrong)."""
    try:
        made.save(out)
    except InputError as error:
        trouble = str(error)
    else:
        return out, ""
    try:
        with tempfile.NamedTemporaryFile(
            prefix="sftopt-plan-", suffix=".json", delete=False
        ) as handle:
            fallback = Path(handle.name)
        made.save(fallback)
    except (InputError, OSError):
        return None, f"{trouble}\n  the plan is not saved; --json prints it on standard output"
    return fallback, f"{trouble}\n  nothing is lost: the plan is saved as {fallback}"


def exit_of(made: Result | TimeToTarget) -> tuple[ExitCode, str]:
    """Return the exit code of what planning found and, where it is not 0, the reason in words."""
    from sftopt.core.status import Termination

    if made.termination is Termination.INTERRUPTED:
        kept = "the best plan so far is kept" if made.ok else "there was no plan yet"
        return ExitCode.INTERRUPTED, f"interrupted; {kept}"
    try:
        made.raise_for_status()
    except SftoptError as error:
        return error.exit_code, str(error)
    return ExitCode.OK, ""
