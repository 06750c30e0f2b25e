"""What happens inside the process of one run: limits set, ``solve`` called, the answer written.

``python -m sftopt.studies.race.worker`` does it in a fresh process where forks are not safe.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sftopt.core.channel import RoundChannel
from sftopt.core.errors import SftoptError
from sftopt.core.files import read_json
from sftopt.core.instance import Instance, parse_instance
from sftopt.core.plan import Plan
from sftopt.core.result import Result
from sftopt.solvers.run import solve

Job = dict[str, Any]


def work(job: Job, answer_file: int) -> None:
    """Run a job and write its answer to an open file; whatever fails is an answer, too."""
    try:
        _limit_data(job.get("data_limit_bytes"))
        answer = _start(job) if job["job"] == "start" else _run(job)
    except MemoryError:
        answer = {"failed": "MemoryError: out of memory"}
    except SftoptError as error:
        answer = {"refused": str(error)}
    except Exception as error:  # noqa: BLE001  whatever a plug-in raises is a row
        answer = {"failed": f"{type(error).__name__}: {error}"[:2000]}
    rest = memoryview(json.dumps(finite(answer)).encode())
    while rest:
        rest = rest[os.write(answer_file, rest) :]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def finite(value: Any) -> Any:
    """Return plain data with None for every number that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return value


def instance_of(job: Job) -> Instance:
    """Read the instance of a job."""
    return parse_instance(read_json(job["instance"], "instance"), job["instance"])


def channel_of(job: Job) -> RoundChannel | None:
    """Read the gains of a job's round; None where the large problem is raced."""
    import numpy as np

    if not job.get("round"):
        return None
    data = read_json(job["round"], "round")
    return RoundChannel(np.array(data["uplink_gain"]), np.array(data["downlink_gain"]))


def _start(job: Job) -> dict[str, Any]:
    """The plan that every run on an instance begins with, and what it took."""
    began, cpu = time.perf_counter(), time.process_time()
    channel = channel_of(job)
    instance = instance_of(job)
    result = solve(instance, solver="constructive", channel=channel, time_limit=job["limit_s"])
    plan = result.plan if result.ok else None
    if plan is not None and channel is not None:
        plan = _equal_shares(plan)
    return {
        "plan": None if plan is None else plan.model_dump(mode="json"),
        "objective_s": result.objective_s if result.ok else None,
        "wall_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "message": result.message,
    }


def _equal_shares(plan: Plan) -> Plan:
    """The plan with equal shares: what is solved for must not stand in the start."""
    share = 1.0 / len(plan.devices)
    update = dict.fromkeys(("uplink_share", "downlink_share", "adapter_uplink_share"), share)
    return plan.model_copy(
        update={"devices": tuple(part.model_copy(update=update) for part in plan.devices)}
    )


def _run(job: Job) -> dict[str, Any]:
    given = job.get("start_plan")
    start = None if given is None else Plan.model_validate(given)
    result: Result = solve(
        instance_of(job),
        solver=job["solver"],
        formulation=job["formulation"],
        time_limit=job["limit_s"],
        rel_gap=job["rel_gap"],
        threads=job["threads"],
        seed=job["seed"],
        x0=start,
        options=job["options"],
        channel=channel_of(job),
    )
    return {"result": result.to_dict()}


def _limit_data(most_bytes: int | None) -> None:
    """Let the system refuse memory far above the limit: the watch sees it only now and then."""
    if most_bytes is None:
        return
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, hard))


def main() -> None:
    """Run the job on standard input; end with whoever holds its other end."""
    job = json.loads(sys.stdin.readline())

    def end_with_agent() -> None:
        sys.stdin.read()
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end_with_agent, daemon=True).start()
    answer = os.open(Path(job["answer"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    work(job, answer)
    os._exit(0)


if __name__ == "__main__":
    main()
