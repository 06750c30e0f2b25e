"""What SCIP says while it runs: an event handler that calls a function of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def heard(scip: Any, look: Callable[[], None]) -> Any:
    """Call ``look`` on events of ``scip``; return the handler.

    An exception stops SCIP and is kept as the handler's ``error``.
    """
    import pyscipopt

    kind: Any = pyscipopt.scip.PY_SCIP_EVENTTYPE
    wanted = kind.BESTSOLFOUND | kind.NODESOLVED | kind.LPSOLVED | kind.PRESOLVEROUND

    class Handler(pyscipopt.Eventhdlr):
        error: BaseException | None = None

        def eventinit(self) -> None:
            self.model.catchEvent(wanted, self)

        def eventexec(self, event: Any) -> None:
            try:
                look()
            except BaseException as error:  # noqa: BLE001  none may cross SCIP's C code
                self.error = error
                self.model.interruptSolve()

    handler = Handler()
    scip.includeEventhdlr(handler, "sftopt", "reports progress, stops on request")
    return handler


__all__ = ["heard"]
