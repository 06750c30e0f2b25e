"""Tests of what exists only where processes are forked are left out where they are not."""

from __future__ import annotations

import pytest

from sftopt.solvers.child import FORK_VARIABLE, can_fork


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked ``forks`` where nothing is forked: macOS, or SFTOPT_FORK=0."""
    if can_fork():
        return
    without = pytest.mark.skip(reason=f"nothing is forked here (macOS, or {FORK_VARIABLE}=0)")
    for item in items:
        if item.get_closest_marker("forks"):
            item.add_marker(without)
