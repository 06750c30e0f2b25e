"""The docstring rule, as CONTRIBUTING states it, held against the source of sftopt and benchmarks.

* A public function or method starts with a sentence: verb, object and, where numbers are returned,
  their unit: "Return the round delay in seconds, equation (9)."
* Every constant has a docstring of its own, in the statement below it.
* Every module says what it is for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

_VERBS = """
Accept Add Adopt Advance Allocate Alternate Answer Append Apply Ask Assemble Assign Attach Average
Begin Bisect Bound Break Build Calibrate Call Carry Cast Change Check Choose Clear Clip Close Code
Collect Combine Compare Compile Complete Compress Compute Convert Copy Correct Count Create Cut
Declare Decode Decompress Delete Derive Descend Describe Deserialise Detach Differentiate Divide
Download Draw Drive Drop Encode End Enter Enumerate Estimate Evaluate Exchange Exclude Exit Expand
Explain Export Extend Extract Factorise Fail Fetch Fill Filter Find Fine-tune Finish Fit Fix Flag
Flatten Fold Follow Forget Form Format Forward Freeze Gather Generate Give Group Guess Hand Hash
Hold Identify Ignore Import Improve Include Initialise Insert Install Instantiate Integrate
Interpolate Invert Join Judge Keep Label Leave Limit Linearise List Load Locate Log Lower Make Map
Mark Mask Match Maximise Measure Merge Minimise Move Multiply Name Narrow Normalise Note Observe
Omit Open Order Overwrite Pack Pad Parse Part Partition Pass Pick Place Plan Plot Point Polish
Pre-train Predict Prepare Price Print Probe Process Project Propose Prove Prune Push Put Quantise
Raise Rank Read Rebuild Receive Recompute Record Recover Reduce Refer Refine Refuse Register Relax
Release Remember Remove Rename Render Repair Repeat Replace Report Request Require Reset Reshape
Resolve Restore Restrict Resume Return Reverse Rotate Round Run Sample Save Say Scale Scan Score
Search Select Send Separate Serialise Serve Set Settle Shape Share Shift Show Shuffle Shrink
Simulate Skip Solve Sort Split Start State Step Stop Store Subtract Sum Summarise Swap Switch
Tabulate Take Tell Test Tighten Time Tokenise Train Transform Translate Try Turn Undo Unpack
Update Use Validate Verify View Visit Wait Warn Weigh Widen Wrap Write Yield
"""
"""First words a docstring may have; add one where no word here says it."""

VERBS = frozenset(_VERBS.split())
"""The same as a set."""

UNITS = (
    # physical units and counts of data
    r"(milli|micro)?seconds?|hertz|[kMG]?Hz|bits?|bytes?|[KMG]iB|watts?|joules?|dBm?|metres?|FLOPs?",
    r"FLOP/s|bit/s|nats?|degrees|parameters?|elements?|words?|tokens?|symbols?|rounds?|blocks?",
    # pure numbers
    r"number of|numbers of|count of|counts of|how many|fractions?|shares?|ratios?|relative|percent",
    r"probabilit(y|ies)|accuracy|accuracies|loss|losses|factors?|weights?|slopes?|gains?|per",
    r"multipliers?|signs?|without unit|units of|in the unit|in units|scaled|seeds?|gradients?",
    # places
    r"index|indices|indexes|positions?|rank|code|class|classes|version|cuts?|modes?|size|shape",
)
"""What counts as the unit of a returned number: a unit, a kind of pure number, or a place."""

UNIT_SUFFIXES = r"_(s|ms|hz|bits|bytes|flops|w|j|db|dbm|m|rel|percent|share|count|index)$"
"""Ends of a function's name that give the unit already, as they do for fields."""

NUMBERS = frozenset(
    {"float", "int", "Array", "FloatArray", "IntArray", "Integers", "ndarray", "float64", "int64"}
)
"""Names in a return annotation that mean numbers: their unit has to be said."""

REGISTERED = frozenset({"SOLVER", "FORMULATION"})
"""Instances at the foot of a file, for the registry; their class says what they are."""

_UNIT = re.compile(r"\b(" + "|".join(UNITS) + r")\b|\[0, 1\]|%")


def _functions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield every public function and method with its dotted name; tests name themselves."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _functions(node.body, f"{prefix}{node.name}.")
        elif (
            isinstance(node, ast.FunctionDef)
            and not node.name.startswith(("_", "test_"))
            and not _describes_a_cell(node)
        ):
            yield prefix + node.name, node


def _describes_a_cell(function: ast.FunctionDef) -> bool:
    """Families of instances: their docstring is the ``source`` text that goes into the file."""
    return [name.arg for name in function.args.args] == ["family", "devices", "seed", "text"]


def _constants(body: list[ast.stmt]) -> Iterator[tuple[str, int, bool]]:
    """Yield every constant of a module: name, line, and whether a docstring stands below it.

    Values unpacked from one expression (``A, B = range(2)``) may share one; ``A, B = 1, 2`` not.
    """
    for node, below in zip(body, [*body[1:], ast.Pass()], strict=True):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        said = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        pair = isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
        for target in targets:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            for name in names:
                if isinstance(name, ast.Name) and re.fullmatch(r"_?[A-Z][A-Z0-9_]*", name.id):
                    yield name.id, node.lineno, said and not (pair and len(names) > 1)


def _returns_numbers(function: ast.FunctionDef) -> bool:
    names = ast.walk(function.returns) if function.returns is not None else ()
    return any(
        (isinstance(name, ast.Name) and name.id in NUMBERS)
        or (isinstance(name, ast.Attribute) and name.attr in NUMBERS)
        for name in names
    )


def faults_of_function(name: str, function: ast.FunctionDef) -> Iterator[str]:
    """Yield what the docstring of one function lacks."""
    text = ast.get_docstring(function)
    if not text:
        yield f"{name}: has no docstring"
        return
    summary = " ".join(text.split("\n\n")[0].split())
    sentence = re.match(r".*?\.(?=\s|$)", summary)
    if sentence is None:
        yield f"{name}: its first paragraph is no sentence that ends with a full stop"
    word = summary.split()[0].rstrip(".,:;")
    if word not in VERBS:
        yield f"{name}: starts with {word!r}; start with a verb, such as 'Return'"
    says_unit = re.search(UNIT_SUFFIXES, function.name) or _UNIT.search(summary)
    if _returns_numbers(function) and not says_unit:
        yield f"{name}: returns numbers; name their unit (or 'number of', 'fraction', 'index')"


def faults_of(source: str) -> list[str]:
    """Return every fault against the rule in one file's source, with line numbers."""
    tree = ast.parse(source)
    faults = [] if ast.get_docstring(tree) else ["1 the module: has no docstring"]
    for name, function in _functions(tree.body):
        faults += [f"{function.lineno} {fault}" for fault in faults_of_function(name, function)]
    for constant, line, said in _constants(tree.body):
        if not said and constant not in REGISTERED:
            faults.append(f"{line} {constant}: a constant without a docstring of its own below it")
    return faults


def _files() -> list[str]:
    folders = ("sftopt", "benchmarks")
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@pytest.mark.parametrize("file", _files())
def test_every_docstring_says_what_is_done_and_in_which_unit(file: str) -> None:
    faults = faults_of((ROOT / file).read_text())
    assert not faults, "\n".join([f"{file} against the docstring rule (CONTRIBUTING):", *faults])


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("X = 1\n", "X: a constant"),
        ('X = 1\nY = 2\n"""Both."""\n', "X: a constant"),
        ('A, b = 1, 2\n"""Both."""\n', "A: a constant"),
        ("def f() -> None: ...\n", "no docstring"),
        ('def f() -> None:\n    """The delay."""\n', "starts with 'The'"),
        ('def f() -> None:\n    """Return the delay"""\n', "no sentence"),
        ('def f() -> float:\n    """Return the delay."""\n', "name their unit"),
        ('def f() -> tuple[str, float]:\n    """Return name and delay."""\n', "name their unit"),
        ('class A:\n    def f(self) -> None:\n        """Delay."""\n', "A.f: starts with"),
    ],
)
def test_the_rule_finds_a_fault(source: str, fault: str) -> None:
    found = faults_of('"""A module."""\n' + source)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    "source",
    [
        'X = 1\n"""One second."""\n',
        'A, B = range(2)\n"""Places."""\n',
        "SOLVER = 1\n",
        'def f() -> float:\n    """Return the delay in seconds, equation (9). It adds up."""\n',
        'def delay_s() -> float:\n    """Return the delay."""\n',
        "def _f() -> float: ...\n",
    ],
)
def test_the_rule_lets_good_source_pass(source: str) -> None:
    assert faults_of('"""A module."""\n' + source) == []
