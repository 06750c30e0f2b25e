"""The two-timescale run (section 6 of ``MODEL.md``): a plan per frame, shares per round.

Per frame the large problem (13) is solved with the channel's statistics; per round the small
problem (14) with the round's gains. Every delay in a row was recomputed by the judge, and stands
beside what equal shares and the plan's own shares held would have given, and beside a certified
lower bound for a planner who knew the round's gains and could choose everything anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.asked import asked_plainly
from sftopt.core.candidate import Shares
from sftopt.core.channel import RoundChannel
from sftopt.core.channel_models import ChannelSource, Sample, at_means
from sftopt.core.derived import derive
from sftopt.core.errors import InputError, SftoptError
from sftopt.core.files import json_digest, read_json, write_json
from sftopt.core.instance import AccuracyScope, Instance
from sftopt.core.plan import Plan
from sftopt.core.point import best_delay, from_plan, to_plan
from sftopt.core.row_schema import SimulationRow
from sftopt.core.rows import RowFile
from sftopt.core.verify import tolerance_of, verify_plan
from sftopt.formulations.base import Problem
from sftopt.solvers.options import Options
from sftopt.solvers.registry import formulations_for, get_solver
from sftopt.solvers.run import solve
from sftopt.studies.scenarios import plan_for_scenarios
from sftopt.studies.summary import summarise

SHARES_KEPT_UP_TO = 64
"""Shares are written into the rows of cells of at most this many devices."""
_BOUND_TOLERANCE = 1e-9
"""Relative amount by which a bound may exceed a delay through rounding."""
_DIGESTS = "plan_sha256"
"""Field of a frame's facts on disk: the digests of its plans by file name."""


@dataclass(frozen=True)
class SimulationSettings:
    """What is simulated; seconds are wall seconds of planning, not simulated time."""

    rounds: int = 200
    frame_rounds: int | None = None
    """R_f; None: the instance's."""
    planner: str = "certify"
    planner_rel_gap: float = 1e-4
    planner_time_limit_s: float = 60.0
    round_solver: str = "native-spectrum"
    clairvoyant: bool = True
    clairvoyant_rel_gap: float = 1e-4
    clairvoyant_time_limit_s: float = 10.0
    scenarios: int = 0
    """Draws of the sample-average plan that is run beside the nominal one; 0: none."""
    skip_outage: bool = False
    """A device in outage sits the round out; else the round is infeasible."""

    def __post_init__(self) -> None:
        limits = (
            ("rounds", self.rounds, 1),
            ("frame_rounds", 1 if self.frame_rounds is None else self.frame_rounds, 1),
            ("scenarios", self.scenarios, 0),
        )
        for name, value, least in limits:
            if value < least:
                raise InputError(f"{name} is {value}; at least {least} is needed")
        for gap, seconds in (
            (self.planner_rel_gap, self.planner_time_limit_s),
            (self.clairvoyant_rel_gap, self.clairvoyant_time_limit_s),
        ):
            Options(rel_gap=gap, time_limit=seconds)  # as their solver would refuse them


@dataclass(frozen=True)
class RoundNews:
    """What a progress line shows after a round."""

    round: int
    rounds: int
    row: dict[str, Any]


@dataclass(frozen=True)
class _Frame:
    """One frame: its instance and its plans. ``scenario`` is the sample-average one."""

    instance: Instance
    nominal: Plan
    scenario: Plan | None
    facts: dict[str, Any]


@asked_plainly
def simulate(
    instance: Instance,
    source: ChannelSource,
    scenario_source: ChannelSource,
    settings: SimulationSettings,
    out: Path,
    *,
    identity: dict[str, Any],
    resume: bool = False,
    on_round: Callable[[RoundNews], None] | None = None,
) -> dict[str, Any]:
    """Run all rounds, one row each in ``out/rows.jsonl``; the summary, also ``summary.json``.

    ``scenario_source`` draws the S scenarios; it must not be the channel that is simulated.
    ``identity`` says in plain JSON data which channel and settings these are: rows of another
    run are not mixed in. Raises InputError for bad input, for frames without a plan, and where the
    folder cannot be written (with what is kept).
    """
    frame_rounds = settings.frame_rounds or instance.training.rounds_per_frame
    identity = {**identity, "instance_hash": instance.hash, "frame_rounds": frame_rounds}
    known = _FramePlans(instance, scenario_source, settings, out)
    with RowFile(out, identity, resume=resume, model=SimulationRow) as file:
        done = file.rounds
        for sample in source.samples(instance, settings.rounds, frame_rounds):
            if sample.round in done:
                known.note(sample)
                continue
            frame = known.of(sample)
            row = _row(frame, sample, settings)
            file.append(row)
            if on_round is not None:
                on_round(RoundNews(sample.round, settings.rounds, row))
        file.put_in_order()
        summary = summarise(file.rows, known.facts(), identity)
        write_json(out / "summary.json", summary)
    return summary


class _FramePlans:
    """Plans by frame, made when first needed and kept as files for resumed runs."""

    def __init__(
        self,
        instance: Instance,
        scenario_source: ChannelSource,
        settings: SimulationSettings,
        out: Path,
    ) -> None:
        self._instance = instance
        self._scenario_source = scenario_source
        self._settings = settings
        self._folder = out / "plans"
        self._frames: dict[str, _Frame] = {}
        self._first: dict[str, int] = {}
        self._noted: set[int] = set()

    def note(self, sample: Sample) -> None:
        """Take in a round that is done: its frame's plans are those of frames like it later."""
        if sample.frame not in self._noted:
            self._noted.add(sample.frame)
            self._first.setdefault(at_means(self._instance, sample).hash, sample.frame)

    def of(self, sample: Sample) -> _Frame:
        """Return the frame of a round; frames of the same statistics share their plans."""
        instance = at_means(self._instance, sample)
        if instance.hash not in self._frames:
            number = self._first.setdefault(instance.hash, sample.frame)
            self._frames[instance.hash] = self._made(instance, number)
        return self._frames[instance.hash]

    def facts(self) -> list[dict[str, Any]]:
        """What each distinct frame's planning said, from the files: also of resumed runs."""
        files = sorted(self._folder.glob("frame-*.facts.json"))
        found = [read_json(file, "facts of a frame") for file in files]
        return [{k: v for k, v in facts.items() if k != _DIGESTS} for facts in found]

    def _made(self, instance: Instance, number: int) -> _Frame:
        stem = self._folder / f"frame-{number:04d}"
        nominal_file = stem.with_name(stem.name + ".plan.json")
        scenario_file = stem.with_name(stem.name + ".scenario-plan.json")
        facts_file = stem.with_name(stem.name + ".facts.json")
        if facts_file.exists():  # written last: the plans are there
            facts = read_json(facts_file, "facts of a frame")
            planned = self._settings.scenarios > 0
            return _Frame(
                instance,
                _unchanged(nominal_file, instance, facts),
                _unchanged(scenario_file, instance, facts) if planned else None,
                facts,
            )
        frame = self._planned(instance, number)
        digests = {}
        for file, plan in ((nominal_file, frame.nominal), (scenario_file, frame.scenario)):
            if plan is not None:
                plan.save(file)
                digests[file.name] = json_digest(plan.to_dict())
        write_json(facts_file, {**frame.facts, _DIGESTS: digests})
        return frame

    def _planned(self, instance: Instance, number: int) -> _Frame:
        settings = self._settings
        result = solve(
            instance, solver=settings.planner, rel_gap=settings.planner_rel_gap,
            time_limit=settings.planner_time_limit_s,
        )  # fmt: skip
        try:
            result.raise_if_interrupted().raise_for_status()
        except SftoptError as error:
            raise type(error)(f"frame {number}: {error}") from None
        assert result.plan is not None
        facts: dict[str, Any] = {
            "frame": number,
            "nominal_s": result.objective_s,
            "nominal_bound_s": result.bound_s,
        }
        scenario = None
        if settings.scenarios > 0:
            draws = self._scenario_source.samples(instance, settings.scenarios, settings.scenarios)
            made = plan_for_scenarios(
                instance, result.plan, [draw.channel for draw in draws],
                time_limit_s=settings.planner_time_limit_s,
            )  # fmt: skip
            scenario = made.plan
            facts["scenarios"] = {
                "count": made.scenarios,
                "average_s": made.average_s,
                "nominal_average_s": made.nominal_average_s,
                "bound_s": made.bound_s,
                "gap_rel": made.gap_rel,
            }
        return _Frame(instance, result.plan, scenario, facts)


def _unchanged(file: Path, instance: Instance, facts: dict[str, Any]) -> Plan:
    """The plan that this run wrote. Raises InputError where the file holds another one."""
    plan = Plan.load(file)
    written = facts.get(_DIGESTS, {}).get(file.name)
    if not instance.answers_to(plan.instance_hash) or written != json_digest(plan.to_dict()):
        raise InputError(
            f"'{file}' is not the plan that this run made for frame {facts.get('frame')}: it was "
            "changed since, and its rounds would not belong together. Put it back, or name another "
            "folder"
        )
    return plan


def _row(frame: _Frame, sample: Sample, settings: SimulationSettings) -> dict[str, Any]:
    """One round under every policy."""
    row: dict[str, Any] = {"round": sample.round, "frame": sample.frame, "status": "ok"}
    derived = derive(frame.instance, sample.channel)
    out = derived.outage
    instance, channel = frame.instance, sample.channel
    nominal, scenario = frame.nominal, frame.scenario
    if out.any():
        row["outage"] = [name for name, dark in zip(derived.ids, out, strict=True) if dark]
        if not settings.skip_outage or out.all():
            return {**row, "status": "infeasible"}
        instance = _without(instance, [plan for plan in (nominal, scenario) if plan], out)
        channel = RoundChannel(channel.uplink_gain[~out], channel.downlink_gain[~out])
        nominal = _plan_without(nominal, instance)
        scenario = None if scenario is None else _plan_without(scenario, instance)
        row["status"] = "devices_skipped"
    resolved, shares = _resolved(instance, nominal, channel, settings)
    row["resolved_s"] = resolved
    row["equal_s"] = _judged(instance, _with_equal_shares(nominal), channel)
    row["held_s"] = _judged(instance, nominal, channel)
    if scenario is not None:
        row["scenario_s"], _ = _resolved(instance, scenario, channel, settings)
    if settings.clairvoyant:
        row |= _clairvoyant(instance, nominal, channel, resolved, settings)
    if len(frame.instance.devices) <= SHARES_KEPT_UP_TO:
        row["shares"] = {
            link: dict(zip([d.id for d in instance.devices], values.tolist(), strict=True))
            for link, values in vars(shares).items()
        }
    return row


def _resolved(
    instance: Instance, plan: Plan, channel: RoundChannel, settings: SimulationSettings
) -> tuple[float, Shares]:
    """(14) for the plan's cuts, modes and keep fractions: the judged delay and the shares."""
    if settings.round_solver == "native-spectrum":  # without the ceremony around a solver
        derived = derive(instance, channel, tolerance_of(plan))
        point = from_plan(derived, plan)
        best = best_delay(derived, point)
        shares = best.shares
        made = to_plan(derived, point, plan.provenance, instance.name, shares)
        return _judged(instance, made, channel), shares
    solver = get_solver(settings.round_solver)
    form = formulations_for(solver, Problem.ROUND)[0]
    result = solve(
        instance, formulation=form, solver=solver.name, x0=plan, channel=channel,
        feas_tol=tolerance_of(plan),
    )  # fmt: skip
    result.raise_if_interrupted()
    if result.plan is None or result.objective_s is None:
        raise InputError(f"round solver '{settings.round_solver}' gave no shares: {result.message}")
    parts = result.plan.devices
    shares = Shares(
        np.array([part.uplink_share for part in parts]),
        np.array([part.downlink_share for part in parts]),
        np.array([part.adapter_uplink_share or 0.0 for part in parts]),
    )
    return result.objective_s, shares


def _judged(instance: Instance, plan: Plan, channel: RoundChannel) -> float:
    """The judge's delay of a round; infinite never: devices in outage are not here."""
    verdict = verify_plan(instance, plan, channel=channel)
    if verdict.objective_s is None or not verdict.feasible:
        broken = ", ".join(f"{v.family.value} {v.index}" for v in verdict.violations)
        raise InputError(f"the judge refutes a plan of the simulation: {broken}")
    return verdict.objective_s


def _with_equal_shares(plan: Plan) -> Plan:
    """1/N of each band to everybody; of the adapter exchange, to everybody who holds a block."""
    share = 1.0 / len(plan.devices)
    holders = max(sum(part.blocks >= 1 for part in plan.devices), 1)
    devices = tuple(
        part.model_copy(
            update={
                "uplink_share": share,
                "downlink_share": share,
                "adapter_uplink_share": 1.0 / holders if part.blocks >= 1 else 0.0,
            }
        )
        for part in plan.devices
    )
    return plan.model_copy(update={"devices": devices})


def _clairvoyant(
    instance: Instance,
    plan: Plan,
    channel: RoundChannel,
    resolved_s: float,
    settings: SimulationSettings,
) -> dict[str, Any]:
    """The certified bound of the round with cuts, modes and keep fractions free."""
    result = solve(
        instance, solver="certify", rel_gap=settings.clairvoyant_rel_gap,
        time_limit=settings.clairvoyant_time_limit_s, x0=plan, channel=channel,
        feas_tol=tolerance_of(plan),
    ).raise_if_interrupted()  # fmt: skip
    bound = result.bound_s
    if bound is not None and bound > resolved_s * (1.0 + _BOUND_TOLERANCE):
        raise InputError(
            f"certify's bound {bound:.12g} s is above a verified delay of {resolved_s:.12g} s: "
            "please report this instance"
        )
    return {"clairvoyant_bound_s": bound, "clairvoyant_s": result.objective_s}


def _without(instance: Instance, plans: list[Plan], out: NDArray[np.bool_]) -> Instance:
    """The cell without the devices in outage, data weights shared out among the others.

    The limit on accuracy is for all devices; where a plan gives the others less, that is the
    limit of this round.
    """
    stay = [device for device, dark in zip(instance.devices, out, strict=True) if not dark]
    total = math.fsum(device.weight for device in stay)
    devices = tuple(d.model_copy(update={"weight": d.weight / total}) for d in stay)
    values = {name: getattr(instance, name) for name in Instance.model_fields}
    left = Instance.model_validate({**values, "devices": devices})
    found = [verify_plan(left, _plan_without(plan, left)).breakdown for plan in plans]
    known = [breakdown.accuracy for breakdown in found if breakdown is not None]
    limits = left.accuracy
    least = min((value for value in known if value is not None), default=limits.minimum)
    if least >= limits.minimum:
        return left
    change: dict[str, Any] = {"minimum": least}
    if limits.scope is AccuracyScope.MEAN:
        change["minimum_each"] = limits.floor_each
    values |= {"devices": devices, "accuracy": limits.model_copy(update=change)}
    return Instance.model_validate(values)


def _plan_without(plan: Plan, left: Instance) -> Plan:
    """A plan for the devices that are left; held shares stay as they were."""
    ids = {device.id for device in left.devices}
    devices = tuple(part for part in plan.devices if part.id in ids)
    return plan.model_copy(update={"devices": devices, "instance_hash": left.hash})


def frames_of(rows: list[dict[str, Any]]) -> Iterator[int]:
    """Yield the rounds at which a frame begins, for plots."""
    last = None
    for row in rows:
        if row["frame"] != last:
            last = row["frame"]
            yield row["round"]
