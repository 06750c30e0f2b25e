"""sftopt: planning split fine-tuning of large language models over wireless networks.

The names below are imported when first used, so that ``import sftopt`` costs next to nothing::

    import sftopt

    instance = sftopt.load("jetson-vit-b")
    result = sftopt.solve(instance, time_limit=60, rel_gap=1e-4)
    assert sftopt.verify_plan(instance, result.plan).feasible
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sftopt.core.check import check
    from sftopt.core.families import generate
    from sftopt.core.instance import Instance
    from sftopt.core.library import load
    from sftopt.core.plan import Plan
    from sftopt.core.result import Result
    from sftopt.core.verify import verify_plan
    from sftopt.solvers.run import build, list_solvers, solve
    from sftopt.studies.compare import compare
    from sftopt.studies.pareto import pareto
    from sftopt.studies.prices import prices
    from sftopt.studies.reproduce import reproduce
    from sftopt.studies.simulation import simulate
    from sftopt.studies.sweep import sweep
    from sftopt.studies.time_to_target import time_to_target
    from sftopt.studies.workload import workload

    __version__: str

__all__ = [
    "Instance",
    "Plan",
    "Result",
    "__version__",
    "build",
    "check",
    "compare",
    "generate",
    "list_solvers",
    "load",
    "pareto",
    "prices",
    "reproduce",
    "simulate",
    "solve",
    "sweep",
    "time_to_target",
    "verify_plan",
    "workload",
]

_HOMES = {
    "Instance": "sftopt.core.instance",
    "Plan": "sftopt.core.plan",
    "Result": "sftopt.core.result",
    "build": "sftopt.solvers.run",
    "check": "sftopt.core.check",
    "compare": "sftopt.studies.compare",
    "generate": "sftopt.core.families",
    "list_solvers": "sftopt.solvers.run",
    "load": "sftopt.core.library",
    "pareto": "sftopt.studies.pareto",
    "prices": "sftopt.studies.prices",
    "reproduce": "sftopt.studies.reproduce",
    "simulate": "sftopt.studies.simulation",
    "solve": "sftopt.solvers.run",
    "sweep": "sftopt.studies.sweep",
    "time_to_target": "sftopt.studies.time_to_target",
    "verify_plan": "sftopt.core.verify",
    "workload": "sftopt.studies.workload",
}
"""Exported name -> the module it lives in, and its name there where that is another."""


if not TYPE_CHECKING:  # type checkers see the imports above, and misspelt names

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            value: Any = _version()
        elif name in _HOMES:
            module, _, attribute = _HOMES[name].partition(":")
            value = getattr(import_module(module), attribute or name)
        else:
            raise AttributeError(f"module 'sftopt' has no attribute '{name}'")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sftopt")
    except PackageNotFoundError:  # a bare checkout that was never installed
        return "0+unknown"
