"""Sphinx extension's text: every equation with its statement, the code that computes it, its tests.

Statements and code come from MODEL.md, whose map a test holds against the docstrings; which tests
would fail if an equation were computed otherwise stands here.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "sftopt" / "formulations" / "MODEL.md"

_BY_HAND = "core/test_judge.py::test_every_part_by_hand"
_PARALLEL = "core/test_judge.py::test_parallel_server_by_hand"
_ANY_SHARES = "core/test_round.py::test_the_judge_finds_the_same_round_at_any_shares"

TESTS: dict[int, tuple[str, ...]] = {
    1: (
        "core/test_payload.py::test_published_chain_against_fp32",
        "core/test_payload.py::test_keep_limit_is_the_first_crossing",
        "core/test_payload.py::test_entropy_is_exact_at_the_ends_and_the_middle",
    ),
    2: ("core/test_payload.py::test_downlink_kinds", _BY_HAND),
    3: (
        "core/test_judge.py::test_total_power_by_hand",
        "core/test_spectrum.py::test_the_concave_law_inverts_its_rate",
        "formulations/test_joint_models.py::test_rate_terms_rebuild_the_concave_rate",
    ),
    4: (
        _BY_HAND,
        "core/test_round.py::test_the_round_by_hand",
        "core/test_orders.py::test_side_bits_go_up_with_the_boundary",
    ),
    5: (
        _PARALLEL,
        "core/test_round.py::test_times_at_cuts_and_the_servers_order",
        "core/test_block_work.py::test_a_block_at_other_tokens_and_ranks_is_the_one_built_there",
    ),
    6: (_BY_HAND, "core/test_round.py::test_the_round_by_hand"),
    7: (_PARALLEL, _ANY_SHARES),
    8: (
        "core/test_judge.py::test_multicast_by_hand",
        "core/test_judge.py::test_given_adapter_shares_count_under_psd",
        "formulations/test_spectrum_models.py::"
        "test_under_psd_the_adapter_shares_are_the_eliminated_ones",
    ),
    9: (_BY_HAND, "core/test_second_judge.py::test_both_judges_agree_on_every_number"),
    10: (
        "core/test_judge.py::test_device_memory_is_caught_with_the_missing_bytes",
        "core/test_tolerance.py::test_memory_short_of_one_more_block_by_less_than_the_tolerance",
    ),
    11: ("core/test_judge.py::test_server_memory_is_caught",),
    12: (
        "core/test_judge.py::test_mean_accuracy_is_caught",
        "core/test_judge.py::test_scope_common_wants_one_mode_and_keep",
        "core/test_tolerance.py::test_an_accuracy_limit_that_is_met_exactly_is_met",
    ),
    13: (
        "formulations/test_against_judge.py::"
        "test_every_combination_of_options_agrees_with_the_judge",
        "core/test_check.py::test_feasibility_is_exact_and_always_mendable",
        "core/test_tolerance.py::test_infeasible_means_that_the_judge_accepts_no_plan",
    ),
    14: (
        "core/test_least_time.py::test_tau_is_certified_to_fourteen_digits",
        "core/test_least_time.py::test_tau_equals_a_scalar_root_search",
        "solvers/test_small_problem.py::test_every_method_earns_the_optimum_with_shares_of_its_own",
    ),
    15: (
        "solvers/heuristics/test_augmented_lagrangian.py::test_at_a_plan_it_is_the_problem_itself",
        "solvers/heuristics/test_augmented_lagrangian.py::test_multipliers_are_slopes_in_seconds",
    ),
    16: (
        "solvers/exhaustive/test_exhaustive.py::"
        "test_inside_the_convex_interval_no_interval_is_split",
        "solvers/exhaustive/test_exhaustive_statements.py::"
        "test_statement_3_log_downlink_payload_is_convex_in_log_uplink_payload",
    ),
}
"""Equation -> tests that would fail if it were computed otherwise, by file and name."""


def statements() -> dict[int, str]:
    """Return what MODEL.md states under each equation's number."""
    text = MODEL.read_text(encoding="utf-8")
    part = text.split("## 3. Equations")[1].split("\n## ")[0]
    found = re.split(r"^(?=\*\*\(\d+\))", part, flags=re.MULTILINE)[1:]
    return {int(one[3 : one.index(")")]): one.strip() for one in found}


def mapped() -> dict[int, tuple[str, list[str], list[str]]]:
    """Return what an equation is about, who judges it and who writes it as algebra."""
    text = MODEL.read_text(encoding="utf-8")
    table = text.split("## 5. Equation by equation")[1].split("\n## ")[0]
    rows = re.findall(r"^\| \((\d+)\) \| (.*?) \|(.*?)\|(.*?)\|$", table, flags=re.MULTILINE)
    return {
        int(number): (what, re.findall(r"`([\w.]+)`", judge), re.findall(r"`([\w.]+)`", algebra))
        for number, what, judge, algebra in rows
    }


def place(name: str) -> tuple[str, int]:
    """Return file and line of a dotted name below ``sftopt``. Raises KeyError where it is not."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        stem = ROOT / "sftopt" / Path(*parts[:cut])
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file.relative_to(ROOT).as_posix(), _line(file, parts[cut:])
    raise KeyError(name)


def place_of_test(test: str) -> tuple[str, int]:
    """Return file and line of ``FILE::NAME`` below ``tests``. Raises KeyError where it is not."""
    path, _, name = test.partition("::")
    file = ROOT / "tests" / path
    if not file.is_file():
        raise KeyError(test)
    return file.relative_to(ROOT).as_posix(), _line(file, [name])


def _line(file: Path, names: list[str]) -> int:
    """The line at which nested classes and functions of these names begin; 1 for the file."""
    body, line = ast.parse(file.read_text(encoding="utf-8")).body, 1
    for name in names:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                body, line = node.body, node.lineno
                break
        else:
            raise KeyError(f"{file}: {name}")
    return line


def equations() -> str:
    """Write every equation: statement, code, tests."""
    stated, parts = statements(), []
    for number, (what, judge, algebra) in mapped().items():
        parts.append(f"## ({number}) {what}\n\n{stated[number]}\n")
        for title, names in (
            ("Judge and shared numbers", judge),
            ("Formulations and solvers", algebra),
        ):
            if names:
                parts.append(f"**{title}**\n\n" + "\n".join(map(_listed, names)) + "\n")
        tests = [(*place_of_test(one), one.partition("::")[2]) for one in TESTS[number]]
        lines = [f"- `{name}` in `{file}`, line {line}" for file, line, name in tests]
        parts.append("**Tests that hold it**\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _listed(name: str) -> str:
    file, line = place(name)
    return f"- `{name}` in `{file}`, line {line}"
