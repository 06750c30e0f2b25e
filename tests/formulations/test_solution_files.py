"""Solution files of HiGHS, SCIP and AMPL: real ones read, damage told by line and name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from sftopt.core.errors import InputError
from sftopt.formulations.files.solutions import read_solution

LP = """\\ 5 + 2 a + 3 b at a = 1.25, b = 0
Minimize
 obj: 2 var_a(dev0) + 3 var_b(dev0_3) + 5 objective_constant
Subject To
 con_x(dev0): var_a(dev0) + var_b(dev0_3) >= 1.25
Bounds
 objective_constant = 1
Binary
 var_b(dev0_3)
End
"""
POINT = {"var_a(dev0)": 1.25, "var_b(dev0_3)": 0.0, "objective_constant": 1.0}

AMPL = """
Ipopt 3.14: Optimal Solution Found

Options
3
1
1
0
2
2
3
3
0.5
-1.5
1.25
0
7e-1
objno 0 0
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "model.sol"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "model.lp"
    path.write_text(LP, encoding="utf-8")
    return path


def solved_by_highs(program: Path, style: int) -> Path:
    highspy: Any = import_module("highspy")
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.readModel(str(program))
    highs.run()
    path = program.with_suffix(".sol")
    highs.writeSolution(str(path), style)
    return path


@pytest.mark.parametrize("style", [0, 1, 4])
def test_every_style_of_highs_that_has_names_is_read(program: Path, style: int) -> None:
    found = read_solution(solved_by_highs(program, style))
    assert (found.writer, found.status, found.objective) == ("HiGHS", "Optimal", 7.5)
    assert found.has_point
    assert found.zeros_left_out is (style == 4)
    given = {name: value.number for name, value in found.named.items()}
    assert given == {name: v for name, v in POINT.items() if v or style != 4}
    path = found.path.read_text(encoding="utf-8").splitlines()
    for name, value in found.named.items():
        assert name in path[value.line - 1]


@pytest.mark.parametrize("style", [2, 3])
def test_styles_without_names_are_refused_with_those_that_have_them(
    program: Path, style: int
) -> None:
    with pytest.raises(InputError, match="write_solution_style 0, 1 or 4"):
        read_solution(solved_by_highs(program, style))


@pytest.mark.parametrize("style", [0, 1])
def test_an_infeasible_model_has_no_point(program: Path, style: int) -> None:
    program.write_text(LP.replace("objective_constant = 1", "var_a(dev0) <= 0.1"), encoding="utf-8")
    found = read_solution(solved_by_highs(program, style))
    assert (found.has_point, found.status) == (False, "Infeasible")


def test_scip_leaves_zeros_out(program: Path) -> None:
    pyscipopt: Any = import_module("pyscipopt")
    scip = pyscipopt.Model()
    scip.hideOutput()
    scip.readProblem(str(program))
    scip.optimize()
    path = program.with_suffix(".sol")
    scip.writeBestSol(str(path))
    found = read_solution(path)
    assert (found.writer, found.objective, found.zeros_left_out) == ("SCIP", 7.5, True)
    given = {name: value.number for name, value in found.named.items()}
    assert given == {name: value for name, value in POINT.items() if value}


def test_scip_tells_its_status_and_that_there_is_no_point(tmp_path: Path) -> None:
    text = "solution status: infeasible\nno solution available\n"
    found = read_solution(written(tmp_path, text))
    assert (found.has_point, found.status) == (False, "infeasible")


def test_ampls_values_are_in_order_and_on_their_lines(tmp_path: Path) -> None:
    found = read_solution(written(tmp_path, AMPL))
    assert found.writer == "AMPL"
    assert found.status == "Ipopt 3.14: Optimal Solution Found (code 0)"
    assert [(value.number, value.line) for value in found.ordered] == [
        (1.25, 15),
        (0.0, 16),
        (0.7, 17),
    ]


def test_ampls_long_options_have_a_tolerance_behind_the_counts(tmp_path: Path) -> None:
    text = AMPL.replace("Options\n3\n1\n1\n0\n", "Options\n5\n1\n1\n3\n").replace(
        "3\n3\n0.5", "3\n3\n1e-6\n0.5"
    )
    found = read_solution(written(tmp_path, text))
    assert [value.number for value in found.ordered] == [1.25, 0.0, 0.7]


HIGHS_RAW = """Model status
Optimal

# Primal solution values
Feasible
Objective 7.5
# Columns 2
var_a(dev0) 1.25
var_b 0
# Rows 0
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("<html>", "is no solution file of a kind that is read; it begins '<html>'"),
        (HIGHS_RAW.replace("1.25", "1,25"), r"line 8: variable 'var_a\(dev0\)': '1,25' is not"),
        (HIGHS_RAW.replace("1.25", "nan"), r"line 8: variable 'var_a\(dev0\)' is nan"),
        (HIGHS_RAW.replace("var_b 0", "var_a(dev0) 0"), "line 9: .* has a value on line 8 already"),
        (HIGHS_RAW.replace("s 2", "s 9"), "line 11: 'name value' is expected: 9 columns"),
        ("objective value: 1\nvar_a 1\n", r"line 2: 'name value \(obj:\.\.\.\)' is expected"),
        ("objective value: 1\nvar_a +infinity (obj:1)\n", "line 2: variable 'var_a' is .inf"),
        (AMPL.replace("7e-1", "seven"), "line 17: variable 3: 'seven' is not a number"),
        (AMPL[: AMPL.index("7e-1")], "line 17: the file ends after 2 of 3 values"),
        (AMPL.replace("3\n3\n0.5", "3\n2\n0.5"), "2 values are announced for 3 variables"),
        (AMPL.replace("Options\n3", "Options\nx"), "line 5: the number of options"),
        ("Columns\n Index\n", "line 2: the columns' titles"),
    ],
)
def test_damage_is_told_by_file_line_and_variable(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=said) as caught:
        read_solution(path)
    assert str(path) in str(caught.value)


def test_missing_binary_and_unfetched_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_solution(tmp_path / "none.sol")
    with pytest.raises(InputError, match="is a folder"):
        read_solution(tmp_path)
    (tmp_path / "b.sol").write_bytes(b"\x06\x00\x00\x00binary\xff\xfe")
    with pytest.raises(InputError, match="as text, not binary"):
        read_solution(tmp_path / "b.sol")
    with pytest.raises(InputError, match="Git LFS"):
        read_solution(written(tmp_path, "version https://git-lfs.github.com/spec/v1\n"))
