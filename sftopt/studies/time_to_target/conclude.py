"""From the end of a search to its answer: the judge's word on the plan, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sftopt.core.instance import AccuracyScope, Instance
from sftopt.core.plan import Breakdown, Plan
from sftopt.core.status import Point, Termination
from sftopt.core.target_laws import SaturatingLaw
from sftopt.core.verify import Verification, verify_plan
from sftopt.studies.time_to_target.answer import TimeToTarget
from sftopt.studies.time_to_target.cells import Ladder
from sftopt.studies.time_to_target.goal import Best, Found, Goal

_OPTIMAL_GAP = 1e-3
"""The largest gap at which a plan is called optimal."""
_NEAR = 1e-4
"""By what the nearest target stays below the limit, as a share of the way there: rounds are
infinite at the limit itself."""
_FAR = 0.05
"""By what a device may be below the mean before it is named."""
_DIGITS = 9
"""Decimals of an accuracy limit that is lowered for a plan."""


def conclude(
    goal: Goal, ladders: Sequence[Ladder], found: Found, feas_tol: float, seed: int, total_s: float
) -> TimeToTarget:
    """Return the answer: the best plan as the judge finds it on the user's instance."""
    answer = TimeToTarget(
        instance_name=goal.instance.name,
        instance_hash=goal.instance.hash,
        target=goal.target,
        metric=goal.instance.accuracy.metric,
        law=goal.law,
        termination=found.termination,
        point=Point.NONE,
        bound_s=found.bound_s,
        bound_source=found.bound_source,
        free_accuracy=goal.free,
        levels=found.levels,
        feas_tol=feas_tol,
        seed=seed,
        total_s=total_s,
        message=found.message,
    )
    if found.best is None:
        if found.termination is not Termination.INFEASIBLE_PROVEN:
            return answer
        nearest, text = _unreachable(goal, ladders)
        return answer.model_copy(update={"nearest_target": nearest, "message": text})
    return _with_plan(answer, goal, found.best)


def _with_plan(answer: TimeToTarget, goal: Goal, best: Best) -> TimeToTarget:
    cell, edits = cell_of(goal, best)
    plan = _as_plan_of(cell, best)
    verdict = verify_plan(cell, plan)
    if verdict.breakdown is None or not verdict.feasible:
        return _refuted(answer, verdict, plan)
    loss = goal.loss_of(verdict.breakdown)
    assert loss is not None, "a plan with a point has a known accuracy"
    factor, measured = goal.factor(best.ladder.rank)
    rounds, round_s = goal.rounds(best.ladder.rank, loss), verdict.breakdown.round_s
    time_s, whole = rounds * round_s, math.ceil(rounds)
    bound_s = None if answer.bound_s is None else min(answer.bound_s, time_s)
    gap = None if bound_s is None else (time_s - bound_s) / time_s
    optimal = gap is not None and gap <= _OPTIMAL_GAP
    optimal = optimal and answer.termination is Termination.GAP_LIMIT
    return answer.model_copy(
        update={
            "point": Point.OPTIMAL if optimal else Point.FEASIBLE,
            "rank": best.ladder.rank,
            "factor": factor,
            "factor_measured": measured,
            "rounds": rounds,
            "rounds_whole": whole,
            "loss": loss,
            "round_s": round_s,
            "time_s": time_s,
            "time_whole_s": whole * round_s,
            "bound_s": bound_s,
            "gap_rel": gap,
            "edits": edits,
            "breakdown": verdict.breakdown,
            "plan": plan.model_copy(update={"breakdown": verdict.breakdown}),
            "message": _notes(answer, goal, verdict.breakdown, loss, measured),
        }
    )


def _as_plan_of(cell: Instance, best: Best) -> Plan:
    """The plan as one of the user's cell: its rank written out, its hash the cell's."""
    parts = best.plan.devices
    if best.ladder.rank != cell.workload.lora_rank:
        parts = tuple(part.model_copy(update={"rank": best.ladder.rank}) for part in parts)
    return best.plan.model_copy(
        update={"devices": parts, "instance_hash": cell.hash, "instance_name": cell.name}
    )


def cell_of(goal: Goal, best: Best) -> tuple[Instance, dict[str, float]]:
    """Return the user's instance, or where its limits are lifted and the plan needs it, one with
    lower ones; and what was changed, each in the unit of the metric: a fraction, or nats.
    """
    if not goal.free:
        return goal.instance, {}
    given, accuracy = goal.instance, goal.instance.accuracy
    reached, least = accuracy.uncompressed - best.loss, best.least_accuracy
    mean = accuracy.scope is AccuracyScope.MEAN
    edits = {}
    minimum = min(_lowered(reached if mean else least), accuracy.minimum)
    if minimum < accuracy.minimum:
        edits["accuracy.minimum"] = minimum
    follows = mean and accuracy.minimum_each is None
    if follows and least < accuracy.model_copy(update={"minimum": minimum}).floor_each:
        edits["accuracy.minimum_each"] = _lowered(least)
    return given.replace(**edits), edits


def _lowered(value: float) -> float:
    """``value`` rounded down to few decimals."""
    return math.floor(value * 10.0**_DIGITS) / 10.0**_DIGITS


def _refuted(answer: TimeToTarget, verdict: Verification, plan: Plan) -> TimeToTarget:
    said = "; ".join(
        f"{v.family.value} {v.index}: misses by {v.amount:.4g} {v.unit}" for v in verdict.violations
    )
    return answer.model_copy(
        update={
            "termination": Termination.ERROR,
            "point": Point.INFEASIBLE,
            "bound_s": None,
            "bound_source": None,
            "plan": plan,
            "message": f"the judge refutes the plan found: {said}",
        }
    )


def _notes(
    answer: TimeToTarget, goal: Goal, breakdown: Breakdown, loss: float, measured: bool
) -> str:
    """What a reader must know beside the numbers."""
    said = [answer.message] if answer.message else []
    law, uncompressed = goal.law, goal.instance.accuracy.uncompressed
    if law.error is None:
        said.append(f"the {law.kind} law is declared: how far its rounds are off is not known")
    else:
        error = law.error
        said.append(
            f"the {law.kind} law was off by {100.0 * error.median_abs_rel:.3g} % in the median "
            f"({100.0 * error.confidence:.0f} %: {100.0 * error.low:.3g} to "
            f"{100.0 * error.high:.3g} %) over {error.settings} settings"
        )
    if law.loss_to is not None and loss > law.loss_to:
        said.append(
            f"the plan loses {loss:.4g}, more than the {law.loss_to:.4g} that the law was measured "
            "to: an extrapolation"
        )
    steps = goal.instance.training.local_steps
    if goal.laws.local_steps not in (None, steps):
        said.append(
            f"the law is of rounds of {goal.laws.local_steps} local steps, this cell's have {steps}"
        )
    if not measured:
        said.append("rounds at this rank were not measured: they are taken as the workload's own")
    worst = min(breakdown.devices, key=lambda d: math.inf if d.accuracy is None else d.accuracy)
    if goal.free and worst.accuracy is not None and worst.accuracy < uncompressed - loss - _FAR:
        said.append(
            f"device {worst.id} is left at {worst.accuracy:.4g}, far below the mean of "
            f"{uncompressed - loss:.4g}; accuracy.minimum_each would hold it"
        )
    return "; ".join(said)


def _unreachable(goal: Goal, ladders: Sequence[Ladder]) -> tuple[float | None, str]:
    """The nearest target that a plan can reach (None: no plan at all), and why not this one."""
    name = goal.instance.name
    losses = [loss for ladder in ladders if (loss := ladder.least_feasible_loss()) is not None]
    if not losses:
        return None, f"{name}: no plan exists, whatever the target, and that is proven"
    least = min(losses)
    most = goal.instance.accuracy.uncompressed - least
    start = goal.law.start if isinstance(goal.law, SaturatingLaw) else most
    nearest = most - _NEAR * max(most - start, 0.0)
    text = (
        f"{name}: target {goal.target:g} is out of reach: the least loss of a plan is "
        f"{least:.4g}, which by the {goal.law.kind} law ends below {most:.6g}; the nearest "
        f"target is {nearest:.6g}"
    )
    return nearest, text
