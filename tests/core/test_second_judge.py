"""Two judges, one page: the judge against one written without its code, over random plans."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sftopt.core.channel import RoundChannel
from sftopt.core.instance import parse_instance
from sftopt.core.plan import Plan
from sftopt.core.verify import verify_plan
from tests import second_judge
from tests.second_judge import judge
from tests.second_judge_compare import compare, compared, first_judge
from tests.second_judge_draws import TODAY, Case, Draw
from tests.second_judge_edges import EDGES, case_at
from tests.second_judge_terms import Object, keep_end

HERE = Path(__file__).parents[1]
FILES = ("second_judge.py", "second_judge_parts.py", "second_judge_terms.py")
ALLOWED = {"functools", "math", "scipy", "tests", "typing"}
CASES = 40
EDGE_CASES = 24
WRONG_FIELDS = second_judge.wrong_fields
WRONG_COMPRESSION = second_judge.wrong_compression
ACCURACY_VIOLATIONS = second_judge.accuracy_violations
VIOLATIONS = second_judge.violations


def parallel_case(seed: int) -> Case:
    """Return a case of the parallel order."""
    return Draw(seed, replace(TODAY, orders=("parallel",))).case()


@pytest.mark.parametrize("name", FILES)
def test_the_second_judge_imports_nothing_of_sftopt(name: str) -> None:
    tree = ast.parse((HERE / name).read_text())
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    assert {str(module).split(".")[0] for module in imported} <= ALLOWED
    files = {f"{module}.py" for module in imported if str(module).startswith("tests")}
    assert files <= {f"tests.{file}" for file in FILES}
    assert "__import__" not in (HERE / name).read_text()


@pytest.mark.parametrize("order", TODAY.orders)
@pytest.mark.parametrize("seed", range(5))
def test_both_judges_agree_on_every_number(order: str, seed: int) -> None:
    draw = Draw(seed, replace(TODAY, orders=(order,)))
    verdicts = [compare(draw.case()) for _ in range(CASES)]
    assert [verdict.lines for verdict in verdicts] == [[]] * CASES
    assert sum(verdict.feasible for verdict in verdicts) >= CASES // 5
    assert sum(not verdict.feasible for verdict in verdicts) >= CASES // 5
    assert sum(verdict.counted for verdict in verdicts) >= CASES // 2


def test_both_judges_agree_on_one_rounds_gains() -> None:
    for seed in range(20):
        draw = Draw(seed, replace(TODAY, orders=("parallel",)))
        case = draw.case()
        instance = parse_instance(case.instance)
        shape = (len(instance.devices), 4)
        up, down = (draw.random.exponential(1e-11, shape) for _ in range(2))
        plan = Plan.model_validate(case.plan | {"instance_hash": instance.hash})
        first = verify_plan(instance, plan, channel=RoundChannel(up, down))
        gains = {
            device.id: (up[n].tolist(), down[n].tolist())
            for n, device in enumerate(instance.devices)
        }
        assert compared(first, judge(case.instance, case.plan, gains=gains)).lines == []


def test_fields_at_their_defaults_may_be_left_out() -> None:
    for seed in range(20):
        case = Draw(seed, TODAY).case()
        short = parse_instance(case.instance).model_dump(mode="json", exclude_defaults=True)
        assert repr(judge(short, case.plan)) == repr(judge(case.instance, case.plan))


@pytest.mark.parametrize("edge", EDGES)
def test_both_judges_agree_at_an_edge(edge: str) -> None:
    verdicts = [compare(case_at(edge, seed)) for seed in range(EDGE_CASES)]
    assert [verdict.lines for verdict in verdicts] == [[]] * EDGE_CASES


def without(cell: Object, section: str, **fields: Any) -> Object:
    """The cell with some fields of a section replaced."""
    return cell | {section: cell[section] | fields}


def no_cap(cell: Object, mode: Object) -> float:
    return keep_end(without(cell, "workload", reference_bits=10**6), mode)


def any_first_block(cell: Object, part: Any, order: str, tol: float) -> list[str]:
    tokens = part.mode is not None and part.mode["kind"] == "tokens"
    found = WRONG_FIELDS(cell, part, order, tol)
    return [name for name in found if not (name == "blocks" and tokens and part.blocks == 0)]


def plain_least_keep(cell: Object, part: Any, tol: float) -> list[str]:
    given = cell["compression"]["keep_min"]
    other = without(cell, "compression", keep_min=0.05 if given is None else given)
    return WRONG_COMPRESSION(other, part, tol)


def unknown_is_met(*given: Any) -> list[tuple[str, str]]:
    cell, parts = given[:2]
    known = [part for part in parts if part.accuracy is not None]
    return ACCURACY_VIOLATIONS(cell, known, *given[2:]) if len(known) == len(parts) else []


def no_outage(*given: Any) -> list[tuple[str, str]]:
    return [entry for entry in VIOLATIONS(*given) if entry[0] != "outage"]


@pytest.mark.parametrize(
    ("edge", "name", "broken"),
    [
        ("reference bits", "keep_end", no_cap),
        ("first block", "wrong_fields", any_first_block),
        ("least keep", "wrong_compression", plain_least_keep),
        ("unknown accuracy", "accuracy_violations", unknown_is_met),
        ("outage", "violations", no_outage),
    ],
)
def test_a_rule_that_the_second_judge_forgets_is_noticed(
    edge: str, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case_at(edge, seed) for seed in range(EDGE_CASES)]
    monkeypatch.setattr(second_judge, name, broken)
    assert sum(bool(compare(case).lines) for case in cases) >= EDGE_CASES // 10


def test_a_difference_is_seen() -> None:
    case = next(case for case in map(parallel_case, range(100)) if first_judge(case).feasible)
    first = first_judge(case)
    second = judge(case.instance, case.plan)
    assert compared(first, second).lines == []
    other = second | {"round_s": second["round_s"] * (1.0 + 1e-11)}
    assert [line.split(":")[0] for line in compared(first, other).lines] == ["round_s"]
    refused = second | {"violations": [("outage", "all")], "feasible": False}
    assert len(compared(first, refused).lines) == 2
    bare = replace(first, breakdown=None)
    assert len(compared(bare, second).lines) == 1
