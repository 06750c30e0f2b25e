"""The codec's one exception."""

from __future__ import annotations

from sftopt.core.errors import ExitCode, SftoptError


class CodecError(SftoptError):
    """A tensor that cannot be coded, or a payload that is corrupt, truncated or hostile."""

    exit_code = ExitCode.BAD_INPUT
