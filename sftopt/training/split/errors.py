"""What can go wrong while a split model trains, apart from wrong input."""

from __future__ import annotations

from sftopt.core.errors import ExitCode, InputError, SftoptError


class WireError(InputError):
    """Bytes that came over the channel are not what the protocol says: corrupt or out of step."""


class DivergedError(SftoptError):
    """The loss is not a finite number. No parameter was changed by the step that found it."""

    exit_code = ExitCode.NO_POINT
