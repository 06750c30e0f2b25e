"""MAiNGO, where it is installed: its proof, its options, a limit, and models it is not given."""

from __future__ import annotations

import pytest

from sftopt.core.errors import InputError
from sftopt.core.status import Point, Termination
from sftopt.solvers.registry import availability, get_solver
from sftopt.solvers.run import solve
from tests.samples import sample_instance

THERE = availability(get_solver("maingo"))
needs_maingo = pytest.mark.skipif(not THERE, reason=f"maingo: {THERE.reason}")


def test_without_it_a_run_is_refused_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sftopt.solvers.engines import engine

    def missing(solver: object) -> object:
        raise ImportError("No module named 'maingopy'")

    monkeypatch.setattr(type(get_solver("maingo")), "probe", missing)
    engine.probed.cache_clear()
    try:
        result = solve(sample_instance(2, 0), solver="maingo")
    finally:
        engine.probed.cache_clear()
    assert result.termination is Termination.REFUSED
    assert "pip install 'sftopt[maingo]'" in result.message


@needs_maingo
def test_it_proves_what_exhaustive_proves() -> None:
    instance = sample_instance(2, 0, blocks=4, modes=(2, 4))
    ours = solve(instance, solver="exhaustive", rel_gap=1e-6)
    theirs = solve(instance, solver="maingo", rel_gap=1e-4, time_limit=None)
    assert theirs.point is Point.OPTIMAL
    assert theirs.objective_s == pytest.approx(ours.objective_s, rel=2e-4)
    assert theirs.bound_s is not None
    assert ours.objective_s is not None
    assert theirs.bound_s <= ours.objective_s * (1 + 1e-6)
    assert theirs.solver.wrapper_version.startswith("maingopy ")


@needs_maingo
def test_an_option_that_it_does_not_know_is_refused() -> None:
    with pytest.raises(InputError, match="MAiNGO does not take the option nonsense"):
        solve(sample_instance(2, 0), solver="maingo", options={"nonsense": 1})


def test_relaxations_are_not_given_to_it() -> None:
    result = solve(sample_instance(2, 0), solver="maingo", formulation="joint-relaxed")
    assert result.termination is Termination.REFUSED
    assert "does not take formulation 'joint-relaxed'" in result.message
