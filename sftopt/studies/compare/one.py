"""The plan of one scheme on one cell, to run: what compare makes of it, refused where it breaks."""

from __future__ import annotations

from sftopt.core.errors import VerificationError
from sftopt.core.instance import Instance
from sftopt.core.plan import Plan
from sftopt.core.schemes.base import Scheme
from sftopt.studies.compare.decide import Settings, draft
from sftopt.studies.compare.request import parsed
from sftopt.studies.compare.row import row_of


def scheme_plan(
    instance: Instance, scheme: str | Scheme, settings: Settings | None = None
) -> tuple[Instance, Plan, tuple[str, ...]]:
    """Return the judged plan of ``scheme``, such as ``card:w=0.5``, the instance it is made for,
    and what that has that the given one has not (the scheme's mode, where none is on offer).

    Raises InputError for unknown names and options and where the scheme has no meaning on the
    instance; VerificationError, with the amount, where its own choice breaks a limit.
    """
    request = parsed(scheme)
    made = draft(instance, request, settings or Settings())
    row = row_of(request, made)
    if row.refused is not None or row.plan is None:
        raise VerificationError(
            f"scheme '{request.label}' is refused on '{instance.name}': {row.refused}. Its own "
            "choice breaks the limit: take other options of the scheme, another scheme, or a cell "
            "with more room (sftopt compare shows all schemes)"
        )
    return made.instance, row.plan, made.changes
