"""One planned run made into a row: its files written, its start made, its agent asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sftopt import __version__
from sftopt.core.files import read_json, write_json
from sftopt.studies.race.cases import Case
from sftopt.studies.race.machine import commit, machine
from sftopt.studies.race.plan import PlannedRun
from sftopt.studies.race.row import (
    Context,
    Cost,
    EntryRef,
    InstanceRef,
    Outcome,
    RaceRow,
    RunTimes,
    latest,
)
from sftopt.studies.race.slot import AgentLost, Slot
from sftopt.studies.race.suite import Suite
from sftopt.studies.race.verdict import outcome_of

TRIES = 3
"""An agent that is lost with a run is replaced and asked again, so often in all."""
START_LIMIT_S = 60.0
"""Limit of making a shared start, in seconds."""


class Jobs:
    """Makes rows; safe to call from several threads, each with a slot and instances of its own."""

    def __init__(
        self, suite: Suite, out: Path, keep_plans: bool, grace_s: float, rows: list[RaceRow]
    ) -> None:
        self.suite = suite
        self.out = out
        self.keep_plans = keep_plans
        self.grace_s = grace_s
        self.attempts: dict[str, int] = {}
        for row in rows:
            self.attempts[row.key] = max(self.attempts.get(row.key, 0), row.attempt + 1)
        self.times = {self._place(row): row.solve_s for row in latest(rows)}

    def row_of(self, run: PlannedRun, slot: Slot, stopped: threading.Event) -> RaceRow | None:
        """Make one run and return its row; None where the race was stopped."""
        asked_at = time.monotonic()
        began = datetime.now(UTC).isoformat(timespec="milliseconds")
        limit_s = self._limit_s(run)
        start: dict[str, Any] = {}
        if run.start == "shared":
            found = self._start(run, slot, stopped)
            if found is None:
                return None
            start = found
        queue_s = time.monotonic() - asked_at
        seen = self._asked(self._job(run, limit_s, start), slot, stopped)
        if seen is None:
            return None
        row = self._row(run, limit_s, start, seen, began, queue_s)
        self.times[self._place(row)] = row.solve_s
        plan = seen.get("answer", {}).get("result", {}).get("plan")
        if self.keep_plans and plan is not None:
            write_json(self.plan_path(run.key), plan)
        return row

    def lost_row(self, run: PlannedRun, reason: str) -> RaceRow:
        """Return the row of a run whose machine was lost, again and again."""
        seen = {"answer": {}, "lost": reason}
        began = datetime.now(UTC).isoformat(timespec="milliseconds")
        return self._row(run, self._limit_s(run), {}, seen, began, 0.0)

    def plan_path(self, key: str) -> Path:
        """Return where the plan of a run is kept."""
        return self.out / "plans" / f"{key}.json"

    def kept_plan(self, key: str) -> dict[str, Any] | None:
        """Return the plan of a run as it was kept; None where there is none."""
        path = self.plan_path(key)
        return read_json(path, "plan") if path.is_file() else None

    def replay_command(self, key: str) -> str:
        """Return the command that makes a row of this folder again."""
        return f"sftopt race replay {self.out} {key[:16]}"

    def keep_case(self, case: Case) -> tuple[Path, Path | None]:
        """Write an instance and its round's gains where they are not yet; return their files."""
        instance = self.out / "instances" / f"{case.instance.hash}.json"
        if not instance.is_file():
            write_json(instance, case.instance.to_dict())
        if case.channel is None:
            return instance, None
        gains = self.out / "rounds" / f"{_file_name(case)}.json"
        if not gains.is_file():
            write_json(gains, {
                "uplink_gain": case.channel.uplink_gain.tolist(),
                "downlink_gain": case.channel.downlink_gain.tolist(),
            })  # fmt: skip
        return instance, gains

    def _limit_s(self, run: PlannedRun) -> float:
        """The run's limit in seconds; what it is a multiple of has a row by now."""
        if not isinstance(run.limit, dict):
            return run.limit
        place = (run.case.instance.hash, run.case.round_hash, run.limit["of"], run.seed)
        other_s = self.times.get(place, 0.0)
        return float(max(run.limit["factor"] * other_s, run.limit["least_s"]))

    def _place(self, row: RaceRow) -> tuple[str, str, str, int]:
        return (*row.cell, row.entry.name, row.seed)

    def _start(
        self, run: PlannedRun, slot: Slot, stopped: threading.Event
    ) -> dict[str, Any] | None:
        """The shared start of an instance, made once and kept; None where the race was stopped."""
        path = self.out / "starts" / f"{_file_name(run.case)}.json"
        if not path.is_file():
            job = {**self._job(run, START_LIMIT_S, {}), "job": "start"}
            seen = self._asked(job, slot, stopped)
            if seen is None:
                return None
            answer = seen.get("answer", {})
            write_json(path, answer if "plan" in answer else {"plan": None, "wall_s": 0.0})
        return read_json(path, "start")

    def _job(self, run: PlannedRun, limit_s: float, start: Mapping[str, Any]) -> dict[str, Any]:
        instance, gains = self.keep_case(run.case)
        return {
            "job": "run",
            "instance": str(instance),
            "round": None if gains is None else str(gains),
            "solver": run.entry.solver,
            "formulation": run.entry.formulation,
            "options": run.entry.options,
            "limit_s": limit_s,
            "rel_gap": run.rel_gap,
            "threads": run.threads,
            "seed": run.seed,
            "memory_mb": run.memory_mb,
            "grace_s": self.grace_s,
            "start_plan": start.get("plan"),
        }

    def _asked(
        self, job: dict[str, Any], slot: Slot, stopped: threading.Event
    ) -> dict[str, Any] | None:
        """What the slot's agent saw; an agent that is lost is replaced. None where stopped."""
        reason = ""
        for _ in range(TRIES):
            if stopped.is_set():
                return None
            try:
                return slot.ask(job)
            except AgentLost as error:
                reason = str(error)
        if stopped.is_set():
            return None
        return {"answer": {}, "lost": f"{TRIES} times {reason}"}

    def _row(
        self, run: PlannedRun, limit_s: float, start: Mapping[str, Any], seen: Mapping[str, Any],
        began: str, queue_s: float,
    ) -> RaceRow:  # fmt: skip
        answer = seen["answer"]
        result = answer.get("result", {})
        outcome = outcome_of(answer, seen, limit_s)
        if "lost" in seen:
            outcome = Outcome(verdict="crashed", message=seen["lost"])
        outcome = outcome.model_copy(update={"start_s": start.get("objective_s")})
        case, entry = run.case, run.entry
        attempt = self.attempts.get(run.key, 0)
        self.attempts[run.key] = attempt + 1
        return RaceRow(
            key=run.key,
            attempt=attempt,
            suite=run.suite,
            instance=InstanceRef(
                name=case.name,
                hash=case.instance.hash,
                round_hash=case.round_hash,
                devices=len(case.instance.devices),
                family=case.generator.get("family", ""),
                generator=case.generator,
            ),
            entry=EntryRef(
                name=entry.name,
                solver=entry.solver,
                formulation=entry.formulation,
                options=entry.options,
                role=entry.role,
            ),
            seed=run.seed,
            limit_s=limit_s,
            rel_gap=run.rel_gap,
            memory_mb=run.memory_mb,
            threads=run.threads,
            start="shared" if run.start == "shared" else "own",
            outcome=outcome,
            cost=Cost(
                times_s=_times(result.get("times_s", {}), start, seen, queue_s),
                cpu_s=seen.get("cpu_s"),
                peak_bytes=seen.get("peak_bytes"),
                base_bytes=seen.get("base_bytes"),
                trace=result.get("trace", ()),
            ),
            context=Context(
                exit=seen.get("exit"),
                log_tail=seen.get("log_tail", ""),
                versions={"sftopt": __version__, **_versions(result)},
                commit=commit(),
                machine=machine().model_copy(
                    update={"load": seen.get("load"), "reference_s": seen.get("reference_s")}
                ),
                began_at=began,
                started_by=seen.get("started_by", "fork"),
                replay=self.replay_command(run.key),
            ),
        )


def _file_name(case: Case) -> str:
    return case.instance.hash + (f"-{case.round_hash[:16]}" if case.round_hash else "")


def _versions(result: Mapping[str, Any]) -> dict[str, str]:
    found = result.get("solver", {})
    names = ("wrapper_version", "engine_version", "linked_library")
    return {name: found[name] for name in names if found.get(name)}


def _times(
    told: Mapping[str, float], start: Mapping[str, Any], seen: Mapping[str, Any], queue_s: float
) -> RunTimes:
    """The run's wall seconds by phase; of one without a result only what was seen outside."""
    load, build = told.get("load", 0.0), told.get("build", 0.0)
    engine, verify = told.get("solve", 0.0), told.get("verify", 0.0)
    total = max(told.get("total", 0.0) - load, 0.0)
    return RunTimes(
        queue=queue_s,
        start=start.get("wall_s", 0.0),
        load=load,
        prepare=max(total - build - engine - verify, 0.0),
        build=build,
        engine=max(engine, 0.0),
        verify=verify,
        total=total,
        process=seen.get("process_s", 0.0),
    )


__all__ = ["Jobs"]
