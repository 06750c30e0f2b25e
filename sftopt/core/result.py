"""The result of one run: two statuses, the verified numbers, the bound and where it came from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from sftopt.core.data_frame import data_frame
from sftopt.core.errors import (
    InfeasibleError,
    InterruptedRunError,
    NoPointError,
    RefusedError,
    SftoptError,
    VerificationError,
)
from sftopt.core.fields import Reported, Versioned
from sftopt.core.html_table import html_table
from sftopt.core.plan import Breakdown, Order, Plan
from sftopt.core.status import Point, PointFrom, Promise, ProvenFor, Termination
from sftopt.core.verify import Violation

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class SolverVersion(Reported):
    """Which code ran: the wrapper, the engine inside it and the library really linked."""

    name: str
    wrapper_version: str = ""
    engine_version: str = ""
    linked_library: str = ""


class Times(Reported):
    """Wall seconds by phase; only ``solve`` is the solver's.

    ``load`` is what a process does once, importing engines and compiling, and is not held against
    the time limit; ``total`` holds it too.
    """

    load: float = 0.0
    build: float = 0.0
    solve: float = 0.0
    verify: float = 0.0
    total: float = 0.0


class TracePoint(Reported):
    """What was known at one moment of a run; values are the solver's claims."""

    elapsed_s: float
    incumbent_s: float | None = None
    bound_s: float | None = None


class Proof(Reported):
    """Which proof file backs the bound, and whether the independent checker accepted it."""

    sha256: str
    checked: bool = False


class Result(Versioned):
    """What came of one ``solve``. There is no plan without a point.

    ``objective_s`` is the judge's figure for ``plan``, ``objective_claimed_s`` the solver's own.
    ``objective_answered_s`` is the judge's figure for the solver's answer before its plan was
    polished, where that differs. ``gap_rel`` is (objective - bound) / objective. ``point_from``
    says whose point the plan is: the solver's own, the run's start, or one that was polished or
    repaired from the solver's answer. ``feas_tol`` is by what a limit may be missed: for the judge
    and for the bound alike.

    ``proven_for`` says what was proven: ``problem``, a bound on all plans of problem (13);
    ``formulation``, only that the formulation as it was solved has this optimum (or no point),
    while the plan is another problem's; ``none``, nothing, as where the bound is a plug-in's.
    ``duals`` are those of the solver's own model (relaxed or with its integers fixed), by
    constraint name, where it has them: seconds of round delay per unit of the constraint's right
    side as the model states it, at most 0 for an active upper limit, at least 0 for a lower one.
    ``trace`` is how the solver got there: its best value and proven bound by seconds since the
    call, of solvers that tell while they run; the last point may be before the end.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=True)

    instance_name: str = ""
    instance_hash: str = ""
    termination: Termination
    point: Point
    point_from: PointFrom | None = None
    proven_for: ProvenFor = "none"
    objective_s: float | None = None
    objective_answered_s: float | None = None
    objective_claimed_s: float | None = None
    bound_s: float | None = None
    bound_source: str | None = None
    gap_rel: float | None = None
    breakdown: Breakdown | None = None
    violations: tuple[Violation, ...] = ()
    feas_tol: float | None = None
    formulation: str
    promise: Promise
    solver: SolverVersion
    options_used: dict[str, Any] = Field(default_factory=dict)
    options_ignored: tuple[str, ...] = ()
    seed: int | None = None
    start_used: str = ""
    iterations: int | None = None
    nodes: int | None = None
    duals: dict[str, float] = Field(
        default_factory=dict,
        description="d objective_s / d right side of the constraint as the model states it, s per "
        "its unit: <= 0 for an active upper limit, >= 0 for an active lower one",
    )
    trace: tuple[TracePoint, ...] = ()
    proof: Proof | None = None
    times_s: Times = Times()
    plan: Plan | None = None
    message: str = ""

    @property
    def ok(self) -> bool:
        """Return whether the judge accepts the point."""
        return self.point in (Point.FEASIBLE, Point.OPTIMAL)

    def raise_for_status(self) -> Result:
        """Return self where there is a feasible plan; raise the matching SftoptError otherwise."""
        if self.ok and self.termination is not Termination.ERROR:
            return self
        raise self._error()(f"{self.solver.name}: {self.message or self.termination.value}")

    def raise_if_interrupted(self) -> Result:
        """Return self, or raise KeyboardInterrupt where Ctrl-C ended the run.

        For loops of many runs: ``solve`` itself turns Ctrl-C into a result.
        """
        if self.termination is Termination.INTERRUPTED:
            raise KeyboardInterrupt
        return self

    def _error(self) -> type[SftoptError]:
        if self.termination is Termination.REFUSED:
            return RefusedError
        if self.termination is Termination.INFEASIBLE_PROVEN:
            return InfeasibleError
        if self.termination is Termination.INTERRUPTED:
            return InterruptedRunError
        if self.point is Point.INFEASIBLE or self.ok:
            return VerificationError
        return NoPointError

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return self.model_dump(mode="json")

    def to_json(self, indent: int | None = 2) -> str:
        """Return the result as a JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return one row per device: decisions, delay parts and slacks. Needs pandas."""
        return data_frame(self.device_rows(), "Result", "id")

    def device_rows(self) -> list[dict[str, Any]]:
        """List decisions, delay parts and slacks of every device as plain data, units in names."""
        parts = () if self.plan is None else self.plan.devices
        rows = [part.model_dump(mode="json") for part in parts]
        if self.breakdown is not None and rows:
            for row, times in zip(rows, self.breakdown.devices, strict=True):
                row.update(times.model_dump(mode="json"))
        return rows

    def plot(self) -> Figure:
        """Return a matplotlib figure: parts of the round in seconds, blocks and band by device.

        Raises NoPointError where there is no verified round.
        """
        from sftopt.core.pictures import parts_figure

        return parts_figure(self._drawn(), self.plan)

    def gantt(self) -> Figure:
        """Return a matplotlib figure of one step: who computes, sends and waits, in seconds.

        Raises NoPointError where there is no verified round.
        """
        from sftopt.core.pictures import gantt_figure

        breakdown = self._drawn()
        return gantt_figure(breakdown, Order.PARALLEL if self.plan is None else self.plan.order)

    def _drawn(self) -> Breakdown:
        if self.breakdown is None:
            raise NoPointError(f"{self.solver.name}: there is no round to draw; {self.message}")
        return self.breakdown

    def _repr_html_(self) -> str:
        gap = None if self.gap_rel is None else f"{100.0 * self.gap_rel:.4g} %"
        rows = [
            ("point", self.point.value), ("stopped", self.termination.value),
            ("round in s", self.objective_s), ("bound in s", self.bound_s), ("gap", gap),
            ("solver", f"{self.solver.name} on {self.formulation}"), ("note", self.message),
        ]  # fmt: skip
        return html_table(self.instance_name or "result", ("", ""), rows)

    def __repr__(self) -> str:
        objective = "none" if self.objective_s is None else f"{self.objective_s:.6g} s"
        bound = "none" if self.bound_s is None else f"{self.bound_s:.6g} s"
        return (
            f"Result({self.instance_name or 'instance'}: {self.point.value}, "
            f"{self.termination.value}, objective {objective}, bound {bound}, "
            f"{self.formulation} by {self.solver.name})"
        )

    __str__ = __repr__
