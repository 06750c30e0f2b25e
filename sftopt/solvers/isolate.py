"""Run a solver in a child process that can be killed; its incumbents survive it.

The child sends news as JSON lines through a pipe. Whatever happens to it (a crash, a hang past
the limit, Ctrl-C), the parent holds the last incumbent and bound. Nothing is pickled: the child is
a fork. Where the platform has no fork, the solver runs in the calling process. Either way the model
is built where the solver runs, and what goes on after the limit is ended.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, Pipe
from typing import Any

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.errors import SftoptError
from sftopt.core.status import Termination
from sftopt.solvers.base import Availability, Outcome, Progress, Solver, Task
from sftopt.solvers.child import Child, can_fork
from sftopt.solvers.deadline import run_until
from sftopt.solvers.interrupt import Interrupts
from sftopt.solvers.news import finite

PROBE_S = 20.0
"""Seconds that a plug-in gets to answer whether it runs here and takes an instance."""
GRACE_S = 5.0
"""After Ctrl-C a child gets this long to end by itself."""


@dataclass(frozen=True)
class Hearer:
    """Who hears of a run while it goes on."""

    listen: Callable[[Progress], None]
    built: Callable[[float], None]
    """Told once, for how many seconds the model was built."""
    compiling: Callable[[bool], None]
    """Told when functions begin to be compiled, and when that ends."""
    interrupts: Interrupts


Runner = Callable[[Solver, Task, Hearer], Outcome]
"""Builds the model of a task and runs a solver on it."""


@dataclass
class Incumbent:
    """The best news so far from a run; claimed values, not verified ones."""

    incumbent_s: float | None = None
    candidate: Candidate | None = None
    bound_s: float | None = None
    bound_source: str | None = None

    def update(self, news: Progress) -> None:
        """Keep the better of what is known and ``news``."""
        value, bound = finite(news.incumbent_s), finite(news.bound_s)
        better = value is not None and (self.incumbent_s is None or value < self.incumbent_s)
        if news.candidate is not None and better:
            self.incumbent_s, self.candidate = value, news.candidate
        if bound is not None and (self.bound_s is None or bound > self.bound_s):
            self.bound_s, self.bound_source = bound, news.bound_source

    def complete(self, outcome: Outcome) -> Outcome:
        """Return ``outcome`` with the kept incumbent and bound where it has none of its own."""
        if outcome.candidate is None and self.candidate is not None:
            outcome = replace(outcome, candidate=self.candidate, claimed_s=self.incumbent_s)
        if outcome.bound_s is None and self.bound_s is not None:
            outcome = replace(outcome, bound_s=self.bound_s, bound_source=self.bound_source)
        return outcome


def probe_isolated(solver: Solver) -> Availability:
    """Ask ``solver.available()`` in a forked child: a crash, an exit or a hang is a no."""
    if not can_fork():
        return _probe_here(solver)
    answer, fault = _asked(lambda: asdict(_probe_here(solver)))
    return Availability(False, reason=f"its probe {fault}") if fault else Availability(**answer)


def refusal_isolated(refusal: Callable[[Derived], str | None], derived: Derived) -> str | None:
    """Ask a plug-in's ``refusal`` in a forked child: a crash, an exit or a hang is a refusal."""

    def question() -> str | None:
        try:
            return refusal(derived)
        except (Exception, SystemExit) as error:  # noqa: BLE001  foreign code may fail
            return f"its refusal failed: {type(error).__name__}: {error}"

    if not can_fork():
        return question()
    answer, fault = _asked(question)
    if fault:
        return f"whether it takes the instance is not known: its refusal {fault}"
    return None if answer is None else str(answer)


def _asked(question: Callable[[], Any]) -> tuple[Any, str]:
    """(a forked child's answer as JSON data, why there is none)."""
    receiver, sender = Pipe(duplex=False)
    child = Child(lambda: sender.send_bytes(json.dumps(question()).encode()))
    sender.close()
    try:
        if not receiver.poll(PROBE_S):
            return None, f"did not end within {PROBE_S:g} s"
        return json.loads(receiver.recv_bytes()), ""
    except (EOFError, OSError):
        child.join(1.0)
        return None, f"crashed (exit status {child.exitcode})"
    finally:
        child.end()
        receiver.close()


def _probe_here(solver: Solver) -> Availability:
    try:
        return solver.available()
    except (Exception, SystemExit) as error:  # noqa: BLE001  foreign code may fail
        return Availability(False, reason=f"its probe failed: {type(error).__name__}: {error}")


def build_task(task: Task) -> Task | Outcome:
    """Build the model of ``task``; a formulation that cannot is an outcome with its reason."""
    try:
        return replace(task, model=task.formulation.build(task.derived, task.start))
    except SftoptError:
        raise
    except MemoryError:
        return Outcome(Termination.ERROR, message="not enough memory to build the model")
    except Exception as error:  # noqa: BLE001  a plug-in's fault becomes a result
        text = f"building '{task.formulation.name}' failed: {type(error).__name__}: {error}"
        return Outcome(Termination.ERROR, message=text)


def _run(solver: Solver, task: Task, built: Callable[[float], None]) -> Outcome:
    began = task.deadline.elapsed()
    ready = build_task(task)
    built(task.deadline.elapsed() - began)
    if isinstance(ready, Outcome):
        return ready
    return _late(True) if task.deadline.passed() else solver.run(ready)


def _late(building: bool) -> Outcome:
    text = "the solver did not stop at its time limit and was ended"
    if building:
        text = "the time limit passed while the model was built"
    return Outcome(Termination.TIME_LIMIT, message=text)


def run_here(solver: Solver, task: Task, hearer: Hearer) -> Outcome:
    """Run in this process. Ctrl-C asks the solver to stop; a second one ends it at once."""
    known = Incumbent()
    building = True

    def report(news: Progress) -> None:
        known.update(news)
        hearer.listen(news)

    def built(seconds: float) -> None:
        nonlocal building
        building = False
        hearer.built(seconds)

    hearer.listen(Progress())
    stop = hearer.interrupts.asked.is_set
    heard = replace(task, report=report, stop_requested=stop)
    outcome: Outcome | None = Outcome(Termination.INTERRUPTED, message="interrupted")
    try:
        hearer.interrupts.raises_at = 2
        with task.deadline.stopped_by_compiling(hearer.compiling):
            outcome = run_until(task.deadline, lambda: _run(solver, heard, built))
    except KeyboardInterrupt:
        hearer.interrupts.asked.set()  # a solver may raise it by itself
    finally:
        hearer.interrupts.raises_at = None
    outcome = known.complete(outcome or _late(building))
    return replace(outcome, termination=Termination.INTERRUPTED) if stop() else outcome


def run_isolated(solver: Solver, task: Task, hearer: Hearer) -> Outcome:
    """Run in a forked child, which is killed soon after the limit."""
    receiver, sender = Pipe(duplex=False)
    child = Child(lambda: _child(solver, task, sender))
    sender.close()
    try:
        return _follow(child, receiver, task, hearer)
    finally:
        child.end()
        receiver.close()


def _follow(child: Child, receiver: Connection, task: Task, hearer: Hearer) -> Outcome:
    """Read the child's news until its outcome, its death, or the end of patience."""
    known = Incumbent()
    asked = hearer.interrupts.asked
    hearer.listen(Progress())  # the run has begun: a progress line may start ticking
    told_to_stop_at: float | None = None
    building = True
    while True:
        if asked.is_set() and told_to_stop_at is None:
            told_to_stop_at = time.monotonic()
            child.ask_to_stop()
        if receiver.poll(0.05):
            try:
                kind, data = json.loads(receiver.recv_bytes().decode())
            except (EOFError, OSError):  # OSError: it died in the middle of a message
                child.join(1.0)
                return known.complete(_death(child, asked))
            if kind == "built":
                building = False
                hearer.built(data)
                continue
            if kind == "progress":
                news = _progress(data)
                known.update(news)
                hearer.listen(news)
                continue
            if kind == "sftopt_error":
                raise _rebuilt(data)
            outcome = known.complete(_outcome(data))
            if asked.is_set():
                outcome = replace(outcome, termination=Termination.INTERRUPTED)
            return outcome
        if told_to_stop_at is not None and time.monotonic() - told_to_stop_at > GRACE_S:
            return known.complete(Outcome(Termination.INTERRUPTED, message="interrupted"))
        if task.deadline.overdue():
            return known.complete(_late(building))


def _death(child: Child, asked: threading.Event) -> Outcome:
    if asked.is_set():
        return Outcome(Termination.INTERRUPTED, message="interrupted")
    code = child.exitcode
    how = (
        f"killed by signal {signal.Signals(-code).name}"
        if code is not None and code < 0
        else f"ended with exit status {code}"
    )
    return Outcome(Termination.ERROR, message=f"the solver's process crashed ({how})")


def _child(solver: Solver, task: Task, sender: Connection) -> None:
    """The child's whole life: run, send, leave without touching the parent's buffers."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())

    def send(kind: str, data: Any) -> None:
        sender.send_bytes(json.dumps([kind, data]).encode())

    def report(news: Progress) -> None:
        send("progress", _progress_data(news))

    try:
        heard = replace(task, report=report, stop_requested=stop.is_set)
        outcome = _run(solver, heard, lambda seconds: send("built", seconds))
        send("outcome", _outcome_data(outcome))
    except SftoptError as error:
        send("sftopt_error", [type(error).__name__, str(error)])
    except BaseException as error:  # noqa: BLE001  a solver's fault becomes a result
        text = f"the solver failed: {type(error).__name__}: {error}"
        send("outcome", _outcome_data(Outcome(Termination.ERROR, message=text)))
    finally:
        sender.close()
        sys.stdout.flush()
        sys.stderr.flush()


def _rebuilt(data: list[str]) -> SftoptError:
    from sftopt.core import errors

    name, text = data
    kind = getattr(errors, name, errors.InputError)
    if kind is errors.UnknownNameError:
        kind = errors.InputError
    rebuilt: SftoptError = kind(text)
    return rebuilt


def _progress_data(news: Progress) -> dict[str, Any]:
    return {
        "incumbent_s": finite(news.incumbent_s),
        "bound_s": finite(news.bound_s),
        "candidate": None if news.candidate is None else news.candidate.to_dict(),
        "bound_source": news.bound_source,
    }


def _progress(data: dict[str, Any]) -> Progress:
    candidate = data["candidate"]
    return Progress(
        data["incumbent_s"],
        data["bound_s"],
        None if candidate is None else Candidate.from_dict(candidate),
        data["bound_source"],
    )


def _outcome_data(outcome: Outcome) -> dict[str, Any]:
    data = {
        name: getattr(outcome, name)
        for name in ("bound_source", "iterations", "nodes", "start_used", "message", "settled")
    }
    data["termination"] = outcome.termination.value
    data["claimed_s"] = finite(outcome.claimed_s)
    data["bound_s"] = finite(outcome.bound_s)
    data["duals"] = {k: float(v) for k, v in outcome.duals.items() if math.isfinite(v)}
    data["candidate"] = None if outcome.candidate is None else outcome.candidate.to_dict()
    return data


def _outcome(data: dict[str, Any]) -> Outcome:
    candidate = data.pop("candidate")
    data["termination"] = Termination(data["termination"])
    found = None if candidate is None else Candidate.from_dict(candidate)
    return Outcome(candidate=found, **data)
