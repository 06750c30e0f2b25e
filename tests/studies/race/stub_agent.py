"""An agent that answers at once and loads nothing: for tests of what the runner does with it."""

import json
import os
import sys
import time


def main() -> None:
    """Say hello, then answer every job as refused."""
    versions = {name: {"wrapper": "stub"} for name in sys.argv[1:]}
    print(json.dumps({"hello": versions, "preload_s": 0.0}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        time.sleep(float(os.environ.get("STUB_AGENT_S", "0.004")))
        answer = {"plan": None, "wall_s": 0.0} if job["job"] == "start" else {"refused": "a stub"}
        print(json.dumps({"answer": answer, "exit": 0, "cpu_s": 0.0}), flush=True)
        if os.path.exists(os.path.join(os.path.dirname(job["instance"]), "die")):
            os._exit(9)


main()
