"""The exceptions of sftopt, one per exit code of the command line.

Every message is meant for the person who typed the command: it names the field, the value, the
limit and the way out. The command line prints it and exits with :attr:`SftoptError.exit_code`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sftopt.core.faults import Fault


class ExitCode(IntEnum):
    """Process exit codes; the contract with scripts that call ``sftopt``."""

    OK = 0
    INTERNAL_ERROR = 1
    BAD_INPUT = 2
    INFEASIBLE = 3
    NO_POINT = 4
    REFUTED = 5
    SOLVER_MISSING = 6
    INTERRUPTED = 130


class SftoptError(Exception):
    """Base class: anything sftopt says on purpose."""

    exit_code: ExitCode = ExitCode.INTERNAL_ERROR


class InputError(SftoptError):
    """A file, field or argument is wrong. ``faults`` lists everything found, not just the first."""

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class DiskError(InputError):
    """A file cannot be written: the disk is full, say. ``path`` and ``reason`` are for callers."""

    def __init__(self, path: Path, error: BaseException, way_out: str = "") -> None:
        reason = getattr(error, "strerror", None) or str(error)
        super().__init__(f"cannot write '{path}': {reason}." + (f" {way_out}" if way_out else ""))
        self.path = path
        self.reason = reason


class UnknownNameError(InputError):
    """A name (instance, solver, formulation, family ...) that nothing goes by."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        begun = [one for one in known if len(name) > 2 and one.startswith(name)]
        close = get_close_matches(name, known, n=1, cutoff=0.6) or begun
        hint = f" Did you mean '{close[0]}'?" if close else ""
        super().__init__(f"unknown {kind} '{name}'.{hint} Known: {', '.join(known)}.")


class RefusedError(SftoptError):
    """The solver is missing, or it cannot take this formulation, instance or option."""

    exit_code = ExitCode.SOLVER_MISSING


class VerificationError(SftoptError):
    """A plan that the judge refutes."""

    exit_code = ExitCode.REFUTED


class InfeasibleError(SftoptError):
    """The instance has no feasible plan, and that is proven."""

    exit_code = ExitCode.INFEASIBLE


class NoPointError(SftoptError):
    """The run ended without a feasible plan."""

    exit_code = ExitCode.NO_POINT


class InterruptedRunError(SftoptError):
    """The run was stopped by the user."""

    exit_code = ExitCode.INTERRUPTED
