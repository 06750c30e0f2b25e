"""What the solvers inside CasADi's wheel do alike: made, run, watched, their options faulted."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import InputError
from sftopt.solvers.base import Availability, Outcome, Task
from sftopt.solvers.engines.engine import Pulse
from sftopt.solvers.engines.local_nlp import LocalNlp
from sftopt.solvers.engines.messages import complaint, last_line
from sftopt.solvers.engines.nl_bridge import Nlp
from sftopt.solvers.engines.probe import probe_verdict
from sftopt.solvers.engines.silence import listening

Array = NDArray[np.float64]

PROBE_ANSWER = (0.5, 1.5)
"""Where min (x - 1)^2 + (y - 2)^2, x + y <= 2 has its optimum."""


@dataclass(frozen=True)
class End:
    """Where a run ended: ``x`` (n,), ``multipliers`` (m,) and CasADi's ``statistics``."""

    x: Array
    multipliers: Array
    statistics: dict[str, Any]


class CasadiNlp(LocalNlp):
    """A plug-in of CasADi's ``nlpsol``."""

    fix = "pip install casadi"
    plugin: ClassVar[str]
    """CasADi's name for it."""
    title: ClassVar[str]
    """As people write it."""
    our_derivatives: ClassVar[bool] = False
    """Whether it is given the bridge's sparse derivatives; else CasADi makes its own."""
    stoppable: ClassVar[bool] = True
    """Whether it calls back at every iteration, and ends when told to."""
    option_faults: ClassVar[tuple[str, ...]] = ()
    """What an error while solving says where an option is at fault; '' for any error."""

    @abstractmethod
    def settings(self, task: Task, nlp: Nlp, native: dict[str, Any]) -> dict[str, Any]:
        """Return the options as CasADi wants them; native ones win.

        Raises InputError for one that the engine is known not to take.
        """

    @abstractmethod
    def outcome(self, task: Task, nlp: Nlp, end: End) -> Outcome:
        """Translate the end of a run."""

    def native(self, task: Task) -> dict[str, Any]:
        """Return the native options by the engine's own names."""
        return task.options.native_numbers()

    def solve(self, task: Task, nlp: Nlp) -> Outcome:
        """Solve ``nlp``. Raises InputError for a native option that the engine does not take."""
        native = self.native(task)
        settings = {"print_time": False, **self.settings(task, nlp, native)}
        watch = iteration_callback(task, nlp) if self.stoppable else None
        if watch is not None:
            settings["iteration_callback"] = watch
        try:
            with listening() as heard:  # what is wrong with an option is said on the way
                solver = nlp.nlpsol(self.plugin, settings, self.our_derivatives)
        except (RuntimeError, NotImplementedError) as error:
            if not native:
                raise
            raise self._not_taken(native, complaint(heard.text) or last_line(error)) from None
        try:
            found = solver(**nlp.limits)
        except RuntimeError as error:
            if watch is not None and watch.error is not None:
                raise watch.error from None
            if not native or not any(fault in str(error) for fault in self.option_faults):
                raise
            raise self._not_taken(native, last_line(error)) from None
        if watch is not None and watch.error is not None:
            raise watch.error
        x, multipliers = (np.array(found[key].full()).ravel() for key in ("x", "lam_g"))
        return self.outcome(task, nlp, End(x, multipliers, solver.stats()))

    def _not_taken(self, native: dict[str, Any], reason: str) -> InputError:
        return InputError(f"{self.title} does not take the options {native}: {reason}")

    def probe(self) -> Availability:
        """Solve min (x - 1)^2 + (y - 2)^2, x + y <= 2 and read the versions from what it prints."""
        import casadi

        x = casadi.SX.sym("x", 2)
        problem = {"x": x, "f": (x[0] - 1) ** 2 + (x[1] - 2) ** 2, "g": x[0] + x[1]}
        settings = {"print_time": False, **self.probe_settings()}
        with listening() as heard:
            solver = casadi.nlpsol("probe", self.plugin, problem, settings)
            answer = solver(x0=0, ubg=2)["x"].full().ravel().tolist()
        versions = self.versions(heard.text)
        return probe_verdict((answer[0], answer[1]), PROBE_ANSWER, "casadi", **versions)

    def probe_settings(self) -> dict[str, Any]:
        """Return the options of the probe as CasADi wants them."""
        return {}

    @abstractmethod
    def versions(self, said: str) -> dict[str, str]:
        """Return ``engine_version`` and ``linked_library``; ``said`` is what the probe printed."""


def iteration_callback(task: Task, nlp: Nlp) -> Any:
    """Make a CasADi callback that ends the run at a request to stop or after the deadline."""
    import casadi

    pulse = Pulse(task)
    sizes = {"f": 1, "x": nlp.x.shape[0], "lam_x": nlp.x.shape[0]}
    sizes |= {"g": nlp.g.shape[0], "lam_g": nlp.g.shape[0]}

    class Watch(casadi.Callback):
        error: BaseException | None = None

        def __init__(self) -> None:
            casadi.Callback.__init__(self)
            self.construct("watch", {})

        def get_n_in(self) -> int:
            return int(casadi.nlpsol_n_out())

        def get_n_out(self) -> int:
            return 1

        def get_name_in(self, index: int) -> str:
            return str(casadi.nlpsol_out(index))

        def get_name_out(self, index: int) -> str:
            return "stop"

        def get_sparsity_in(self, index: int) -> Any:
            return casadi.Sparsity.dense(sizes.get(casadi.nlpsol_out(index), 0), 1)

        def eval(self, arguments: Any) -> list[int]:
            try:
                return [int(pulse.stop() or task.deadline.passed())]
            except BaseException as error:  # noqa: BLE001  none may cross the engine's C code
                self.error = error
                return [1]

    return Watch()
