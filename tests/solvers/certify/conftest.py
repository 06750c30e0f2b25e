"""All is compiled before anything is timed: a cold cache would spend a test's time limit."""

from __future__ import annotations

import pytest

from sftopt.solvers.certify.__main__ import compile_all


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    """A second where the cache is warm."""
    compile_all()
