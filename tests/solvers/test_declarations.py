"""Who solves what: declarations by layer and class, third parties' among them, and refusals."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import sftopt.solvers
from sftopt.core.derived import Derived, derive
from sftopt.core.errors import RefusedError
from sftopt.core.point import best_delay
from sftopt.core.status import Point, Promise, Termination
from sftopt.formulations.algebraic.joint_ratio import JointRatio
from sftopt.formulations.base import CONTINUOUS, INTEGER, Formulation, Problem, ProblemClass, Start
from sftopt.formulations.conic.joint_grid_milp import JointGridMilp
from sftopt.formulations.conic.joint_grid_relaxed import JointGridRelaxed
from sftopt.formulations.native import Native
from sftopt.formulations.registry import formulation_names, get_formulation
from sftopt.formulations.spectrum.spectrum_conic import SpectrumConicFormulation
from sftopt.formulations.spectrum.spectrum_nlp import SpectrumNlp
from sftopt.solvers.base import Solver, Takes
from sftopt.solvers.catalogue import list_solvers
from sftopt.solvers.engines import clarabel, scs
from sftopt.solvers.heuristics.constructive import first_point
from sftopt.solvers.options import Options
from sftopt.solvers.registry import (
    default_formulation,
    formulations_for,
    get_solver,
    solver_names,
    solvers_for,
    why_refused,
)
from sftopt.solvers.run import solve
from tests.samples import sample_instance
from tests.solvers.conformance import known_instance
from tests.solvers.fakes import Fake, answer, install, install_formulations, tiny

MIXED = known_instance("mixed pair")
MIXED_OPTIMUM_S = 17.03856562


class TheirMinlp(JointRatio):
    """A third party's exact Pyomo model."""

    name = "their-minlp"


class TheirMilp(JointGridMilp):
    """A third party's CVXPY model, linear with integers."""

    name = "their-milp"


class TheirConic(JointGridRelaxed):
    """A third party's CVXPY model on cones."""

    name = "their-conic"


class TheirRound(SpectrumNlp):
    """A third party's Pyomo model of one round."""

    name = "their-round"


class TheirConicRound(SpectrumConicFormulation):
    """A third party's CVXPY model of one round."""

    name = "their-conic-round"


class OfAnotherMake(Native):
    """A restriction of (13) as arrays of a third party's own, which no bundled solver knows."""

    name = "of-another-make"
    promise = Promise.RESTRICTION
    layer = "their-arrays"


THEIRS: tuple[Formulation, ...] = (
    TheirMinlp(),
    TheirMilp(),
    TheirConic(),
    TheirRound(),
    TheirConicRound(),
    OfAnotherMake(),
)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Third parties' formulations, as entry points would register them; asked without forks."""
    monkeypatch.setattr("sftopt.solvers.isolate.can_fork", lambda: False)
    install_formulations(monkeypatch, *THEIRS)


# --- third parties -------------------------------------------------------------------------


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize(
    ("solver", "form", "reaches"),
    [
        ("scip", "their-minlp", 1e-4),
        ("bonmin", "their-minlp", None),
        ("highs", "their-milp", 2e-3),
        ("scip", "their-milp", 2e-3),
        ("clarabel", "their-conic", 1e-2),
        ("scs", "their-conic", 1e-2),
        ("ipopt", "their-round", None),
        ("clarabel", "their-conic-round", None),
    ],
)
def test_a_third_partys_formulation_is_solved_by_bundled_solvers(
    solver: str, form: str, reaches: float | None
) -> None:
    result = solve(MIXED, solver=solver, formulation=form, time_limit=60.0)
    assert result.point in (Point.FEASIBLE, Point.OPTIMAL), result.message
    assert result.formulation == form
    assert result.objective_s is not None
    if reaches is not None:
        assert result.objective_s <= MIXED_OPTIMUM_S * (1.0 + reaches)


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize(
    ("form", "takers"),
    [
        ("their-minlp", {"scip", "bonmin", "maingo", "mindtpy"}),
        ("their-milp", {"highs", "scip", "gurobi"}),
        ("their-conic", {"clarabel", "scs"}),
        (
            "their-round",
            {"cyipopt", "ipopt", "scip", "bonmin", "slsqp", "sqpmethod", "uno"},
        ),
        ("of-another-make", set()),
    ],
)
def test_the_declarations_decide_who_takes_it(form: str, takers: set[str]) -> None:
    assert set(solvers_for(get_formulation(form))) == takers
    rows = {row["name"]: row["formulations"] for row in list_solvers()["solvers"]}
    assert {name for name, forms in rows.items() if form in forms} == takers


@pytest.mark.usefixtures("theirs")
def test_without_a_solver_a_third_partys_formulation_finds_one() -> None:
    result = solve(MIXED, formulation="their-conic")
    assert result.solver.name == "clarabel"
    assert result.point in (Point.FEASIBLE, Point.OPTIMAL)
    nobody = solve(MIXED, formulation="of-another-make")
    assert nobody.termination is Termination.REFUSED
    assert "is taken by: no solver here" in nobody.message


class Declared(Fake):
    """A third party's solver that declares kinds, not names."""

    formulations = ()
    takes = (Takes("pyomo", INTEGER | CONTINUOUS, Problem.PLAN),)
    default = "joint-product"


@pytest.mark.usefixtures("theirs")
def test_a_third_partys_solver_takes_built_in_and_third_partys_formulations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, Declared(answer))
    takes = ["joint-product", "joint-ratio", "joint-reduced", "joint-relaxed", "their-minlp"]
    assert formulations_for(get_solver("fake")) == takes
    for form in takes:
        result = solve(tiny(), solver="fake", formulation=form)
        assert result.point is Point.FEASIBLE, result.message
    assert solve(tiny(), solver="fake").formulation == "joint-product"
    assert solve(tiny(), solver="fake", formulation="their-round").termination is (
        Termination.REFUSED
    )


def test_names_alone_still_declare(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Fake`` is written as solvers were before kinds could be declared."""
    install(monkeypatch, Fake(answer))
    assert set(formulations_for(get_solver("fake"))) == set(Fake.formulations)
    assert solve(tiny(), solver="fake").formulation == Fake.formulations[0]
    assert "fake" in solvers_for(get_formulation("joint-relaxed"))


def test_a_solver_without_a_default_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Undecided(Declared):
        default = ""

    install(monkeypatch, Undecided(answer))
    with pytest.raises(RefusedError, match=r"no default formulation; name one of: joint-product"):
        default_formulation(get_solver("fake"))
    assert solve(tiny(), solver="fake", formulation="joint-ratio").point is Point.FEASIBLE


class Unitless(JointRatio):
    """A model that does not say what its objective stands for."""

    name = "unitless"

    def build(self, derived: Derived, start: Start | None) -> Any:
        model = super().build(derived, start)
        del model.objective_unit_s
        return model


def test_a_model_without_its_unit_is_refused_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_formulations(monkeypatch, Unitless())
    result = solve(tiny(), solver="bonmin", formulation="unitless")
    assert result.termination is Termination.REFUSED
    assert "set it to the seconds that one unit of the objective stands for" in result.message


# --- refusals ------------------------------------------------------------------------------


def pairs() -> Iterator[tuple[Solver, Formulation]]:
    for name in solver_names():
        for form in formulation_names():
            yield get_solver(name), get_formulation(form)


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("devices", [2, 40])
def test_a_refusal_names_only_those_that_would_not_refuse(devices: int) -> None:
    """All solvers by all formulations; 40 devices are too many for ``exhaustive``."""
    derived = derive(sample_instance(devices, 0))
    reasons = {
        (solver.name, form.name): why_refused(solver, form, derived) for solver, form in pairs()
    }
    for (solver, form), reason in reasons.items():
        takes = get_solver(solver).accepts(get_formulation(form))
        if takes:
            assert reason is None or "does not take formulation" not in reason
            continue
        assert reason is not None
        said = re.fullmatch(r".*; it takes: (.+)\. '.+' is taken by: (.+)\.", reason)
        assert said is not None, reason
        free = [name for name in solver_names() if reasons[name, form] is None]
        named = [] if said[2] == "no solver here" else said[2].split(", ")
        assert sorted(named) == sorted(free)
        own = said[1].split(", ")
        assert own == formulations_for(get_solver(solver))
    exhaustive = reasons["exhaustive", "native"]
    assert (exhaustive is None) == (devices == 2)
    assert "native" in str(reasons["scip", "native"])
    assert ("exhaustive" in str(reasons["scip", "native"])) == (devices == 2)


@pytest.mark.usefixtures("theirs")
def test_what_the_catalogue_lists_is_not_refused_for_its_kind() -> None:
    derived = derive(tiny())
    for row in list_solvers()["solvers"]:
        solver = get_solver(row["name"])
        for form in formulation_names():
            reason = why_refused(solver, get_formulation(form), derived)
            listed = form in row["formulations"]
            assert listed == (reason is None or "does not take formulation" not in reason)


def test_a_formulation_that_cannot_be_written_says_why_whoever_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Narrow(JointRatio):
        name = "narrow"

        def refusal(self, derived: Derived) -> str | None:
            return "narrow takes one device"

    install_formulations(monkeypatch, Narrow())
    for solver in ("scip", "certify"):
        result = solve(tiny(), solver=solver, formulation="narrow")
        assert result.termination is Termination.REFUSED
        assert result.message == "narrow takes one device"


# --- attributes in place of names ----------------------------------------------------------


def round_task(form: Formulation) -> Any:
    from sftopt.solvers.base import Deadline, Task

    derived = derive(sample_instance(2, 1))
    point = first_point(derived)
    assert point is not None
    start = Start(point.candidate(derived), best_delay(derived, point).round_s)
    return Task(derived, form, form.build(derived, start), start, Options(), Deadline(60.0))


def test_engines_settle_a_third_partys_shares_as_tightly_as_ours() -> None:
    ours, other = get_formulation("spectrum-conic"), TheirConicRound()
    for engine in (clarabel.SOLVER, scs.SOLVER):
        assert engine.settings(round_task(other)).keys() == engine.settings(round_task(ours)).keys()
    assert scs.SOLVER.settings(round_task(other))["eps_abs"] == scs.SHARES_TOLERANCE
    assert clarabel.SOLVER.settings(round_task(other))["reduced_tol_feas"] == 1e-7
    said = get_solver("ipopt").run(round_task(TheirRound())).start_used
    assert said.endswith("shares from the model's scales")


SOLVERS = Path(sftopt.solvers.__path__[0])


def names_in_comparison(tree: ast.AST) -> Iterator[int]:
    """Lines where a name of a formulation decides: compared, searched for or taken apart."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Compare) and not isinstance(node.ops[0], ast.Is | ast.IsNot):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("startswith", "endswith"):
                parts = [node.func.value]
        elif isinstance(node, ast.Match):
            parts = [node.subject]
        for part in parts:
            text = ast.unparse(part)
            if re.search(r"\bform(ulation)?\.name\b", text) or text in ("formulation", "form"):
                is_none = isinstance(node, ast.Compare) and isinstance(
                    node.ops[0], ast.Is | ast.IsNot
                )
                if not is_none:
                    yield part.lineno


def test_no_solver_asks_for_a_formulations_name() -> None:
    """One place may: the exceptions that a solver declares by name."""
    found = {
        (file.relative_to(SOLVERS).as_posix(), line)
        for file in sorted(SOLVERS.rglob("*.py"))
        for line in names_in_comparison(ast.parse(file.read_text(encoding="utf-8")))
    }
    base = (SOLVERS / "base.py").read_text(encoding="utf-8").splitlines()
    allowed = next(n for n, text in enumerate(base, 1) if "in self.formulations" in text)
    assert found == {("base.py", allowed)}


def test_the_search_for_names_finds_them() -> None:
    for text in (
        "x = task.formulation.name == 'a'",
        "x = task.formulation.name.startswith('a')",
        "x = formulation != 'native'",
        "x = form.name in ('a', 'b')",
    ):
        assert list(names_in_comparison(ast.parse(text))) == [1], text
    assert list(names_in_comparison(ast.parse("x = formulation is None"))) == []


# --- engines -------------------------------------------------------------------------------

LEAST_SHARED = 6
"""Lines of logic in a row that two engines may not both have."""


def logic(file: Path) -> list[str]:
    """The lines of a file that do something: without imports, docstrings, comments and names."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            keep = [
                part
                for part in body
                if not isinstance(part, ast.Import | ast.ImportFrom)
                and not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
            node.body = keep or [ast.Pass()]  # type: ignore[attr-defined]
    return [line.strip() for line in ast.unparse(tree).splitlines() if line.strip()]


def test_no_two_engines_share_a_block_of_logic() -> None:
    blocks = {}
    for file in sorted((SOLVERS / "engines").glob("*.py")):
        lines = logic(file)
        blocks[file.name] = {
            tuple(lines[at : at + LEAST_SHARED]) for at in range(len(lines) - LEAST_SHARED + 1)
        }
    shared = {
        (one, other): blocks[one] & blocks[other]
        for one, other in combinations(blocks, 2)
        if blocks[one] & blocks[other]
    }
    assert shared == {}


def test_kinds_fit_by_layer_class_and_problem() -> None:
    kind = Takes("pyomo", {ProblemClass.NLP}, Problem.ROUND)
    assert kind.fits(get_formulation("spectrum-nlp"))
    assert not kind.fits(get_formulation("joint-relaxed"))
    assert not kind.fits(get_formulation("spectrum-conic"))
    assert Takes("pyomo", {ProblemClass.NLP}).fits(get_formulation("joint-relaxed"))
    assert not Takes("pyomo", {ProblemClass.MINLP}).fits(get_formulation("joint-relaxed"))
