"""The search of ``certify``: shortcuts of large cells forced on small ones, and plans of equals."""

from __future__ import annotations

import numpy as np
import pytest

import sftopt.solvers.certify.search as search
from sftopt.core.derived import derive
from sftopt.core.families import generate
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Task
from sftopt.solvers.certify import SOLVER
from sftopt.solvers.certify.primal import Primal
from sftopt.solvers.exhaustive import SOLVER as EXHAUSTIVE
from sftopt.solvers.options import Options
from tests.samples import sample_instance


@pytest.mark.parametrize("seed", range(12))
def test_shortcuts_of_large_cells_keep_the_bound_below_the_optimum(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged table, live lists and sampled multipliers at N = 2 and 3, against enumeration."""
    for name in ("_MERGED", "_LISTED", "_SAMPLED"):
        monkeypatch.setattr(search, name, 1)
    monkeypatch.setattr(search, "_LARGE", 0)
    skims, skim = [0], search.Search._may_skim

    def forced(self: search.Search, node: search.Node) -> bool:
        self.parts = 3
        return skim(self, node)

    def merge(self: search.Search, *given: object) -> None:
        self.parts = 3
        real_merge(self, *given)  # type: ignore[arg-type]
        self.coarse_loss = 0.0
        skims[0] += self.roots[0].merged.table.size > 0

    real_merge = search.Search._merge
    monkeypatch.setattr(search.Search, "_merge", merge)
    monkeypatch.setattr(search.Search, "_may_skim", forced)
    monkeypatch.setattr(search, "_BRANCHED", 1)
    derived = derive(sample_instance(2 + seed % 2, seed, blocks=4, modes=(2, 4)))
    formulation = get_formulation("native")
    options = Options(time_limit=1.0, rel_gap=1e-4)
    found = SOLVER.run(Task(derived, formulation, None, None, options, Deadline(1.0)))
    truth = EXHAUSTIVE.run(Task(derived, formulation, None, None, Options(), Deadline(60.0)))
    assert found.bound_s is not None
    assert found.claimed_s is not None
    assert truth.claimed_s is not None
    assert skims[0] == 1
    assert 0.5 * truth.claimed_s < found.bound_s <= truth.claimed_s * (1.0 + 1e-9)
    assert found.claimed_s >= truth.claimed_s * (1.0 - 1e-9)


def test_equal_devices_are_mixed() -> None:
    """1,000 equal devices: the best plan parts them between two cuts; one cut is 2e-4 worse."""
    derived = derive(generate("equal-devices", 1_000, 0))
    primal = Primal(derived)
    primal.start()
    primal.improve(lambda: False, rounds=10)
    before = primal.value_s
    assert primal.best is not None
    assert len(np.unique(primal.best.cuts)) == 1
    assert primal.mix(lambda: False, enough=1e-5)
    assert len(np.unique(primal.best.cuts)) == 2
    assert primal.value_s < before * (1.0 - 2e-4)
