"""Solution files of other solvers, read by what they hold: HiGHS, SCIP and AMPL's ``.sol``.

HiGHS (``--solution_file``, ``writeSolution``) writes "raw" files of ``name value`` lines, sparse
ones among them, and "pretty" tables; SCIP (``write solution``) lists what is not 0; solvers of
``.nl`` files (Ipopt, Bonmin, SCIP, Uno) write values without names, in the order of the ``.nl``
file's columns, which the ``.col`` file beside it names.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sftopt.core.errors import InputError
from sftopt.core.files import refuse_lfs_pointer

_FOREIGN_CONSTANTS = ("objconstant", "ONE_VAR_CONSTANT")
"""Columns that solvers and writers add for a constant of the objective."""
_OPTION_COUNTS = range(1, 10)
"""How many option words an AMPL file may announce."""


@dataclass(frozen=True)
class Value:
    """A number of a solution file and the line it is on."""

    number: float
    line: int


@dataclass
class SolutionFile:
    """What a solution file says; ``named`` or ``ordered`` holds its point, if it has one."""

    path: Path
    writer: str
    status: str = ""
    objective: float | None = None
    """In model units, where the file tells."""
    named: dict[str, Value] = field(default_factory=dict)
    ordered: list[Value] = field(default_factory=list)
    zeros_left_out: bool = False
    """Variables that are not in the file are 0."""
    has_point: bool = False

    def fault(self, line: int, text: str) -> InputError:
        """Return the error that ``text`` is wrong on ``line``."""
        return InputError(f"{self.path} line {line}: {text}")

    def add(self, name: str, text: str, line: int) -> None:
        """Take the value of a variable. Raises InputError for a number that is none."""
        if name in _FOREIGN_CONSTANTS:
            return
        if name in self.named:
            first = self.named[name].line
            raise self.fault(line, f"variable '{name}' has a value on line {first} already")
        self.named[name] = Value(self.number(text, line, f"variable '{name}'"), line)

    def number(self, text: str, line: int, what: str) -> float:
        """Return ``text`` as a finite number, in the unit of ``what``.

        Raises InputError naming line and ``what``, a variable, say.
        """
        try:
            value = float(text)
        except ValueError:
            raise self.fault(line, f"{what}: '{text}' is not a number") from None
        if not math.isfinite(value):
            raise self.fault(line, f"{what} is {text}, which is not finite")
        return value


def read_solution(path: str | os.PathLike[str]) -> SolutionFile:
    """Read a solution file of HiGHS, SCIP or a solver of ``.nl`` files.

    Raises InputError, naming file, line and variable, where it is none of these or damaged.
    """
    file = Path(path)
    lines = _lines(file)
    head = next((line.strip() for line in lines if line.strip()), "")
    reader: Callable[[Path, list[str]], SolutionFile] | None = None
    if head == "Model status":
        reader = _highs_raw
    elif head == "Columns":
        reader = _highs_pretty
    elif head.startswith(("solution status:", "objective value:", "no solution available")):
        reader = _scip
    elif "Options" in (line.strip() for line in lines):
        reader = _ampl
    if reader is None:
        begins = f"; it begins '{head[:40]}'" if head else "; it is empty"
        raise InputError(
            f"{file} is no solution file of a kind that is read{begins}. Write HiGHS's with "
            "write_solution_style 0, 1 or 4, SCIP's with 'write solution', and those of .nl "
            "solvers as text."
        )
    return reader(file, lines)


def _lines(file: Path) -> list[str]:
    refuse_lfs_pointer(file, "solution file")
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"solution file '{file}' does not exist; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"solution file '{file}' is a folder; give a file.") from None
    except UnicodeDecodeError:
        raise InputError(
            f"solution file '{file}' is not text: let the solver write .sol as text, not binary."
        ) from None
    except OSError as error:
        raise InputError(f"solution file '{file}' cannot be read: {error.strerror}.") from None


def _highs_raw(file: Path, lines: list[str]) -> SolutionFile:
    """``# Columns n`` and n lines ``name value``; -n and ``name value index`` where sparse."""
    found = SolutionFile(file, "HiGHS")
    rows = iter(enumerate(lines, start=1))
    previous = ""
    for line, text in rows:
        words = text.split()
        if previous == "Model status":
            found.status = text.strip()
        if text.startswith("# Dual solution values"):
            break
        if words[:1] == ["Objective"] and len(words) == 2:
            found.objective = found.number(words[1], line, "the objective")
        if words[:2] == ["#", "Columns"]:
            count = int(found.number(words[-1], line, "the number of columns"))
            found.zeros_left_out = found.has_point = True
            found.zeros_left_out = count < 0
            for _ in range(abs(count)):
                line, entry = next(rows, (len(lines) + 1, ""))
                parts = entry.rsplit(None, 2 if count < 0 else 1)
                if len(parts) < 2:
                    raise found.fault(
                        line, f"'name value' is expected: {abs(count)} columns are announced and "
                        f"{len(found.named)} are there"
                    )  # fmt: skip
                found.add(parts[0], parts[1], line)
        previous = text.strip()
    return found


def _highs_pretty(file: Path, lines: list[str]) -> SolutionFile:
    """A table whose numbers end where their titles end."""
    found = SolutionFile(file, "HiGHS")
    rows = iter(enumerate(lines, start=1))
    next(rows)
    _, title = next(rows, (2, ""))
    ends = {word: title.find(word) + len(word) for word in ("Upper", "Primal", "Name")}
    if title.find("Name") < 0 or title.find("Primal") < 0:
        raise found.fault(2, "the columns' titles 'Primal' and 'Name' are expected")
    for line, text in rows:
        if text.startswith("Rows"):
            break
        value = text[ends["Upper"] : ends["Primal"]].strip()
        name = text[ends["Name"] - len("Name") :].strip()
        if not value:
            break  # solved without a point
        found.has_point = True
        found.add(name, value, line)
    for line, text in rows:
        label, _, rest = text.partition(":")
        if label == "Model status":
            found.status = rest.strip()
        elif label == "Objective value" and found.has_point:
            found.objective = found.number(rest.strip(), line, "the objective")
    return found


_SCIP_ENTRY = re.compile(r"^(?P<name>.*\S)\s+(?P<value>\S+)\s+\(obj:[^)]*\)\s*$")
"""``name value (obj:coefficient)``."""


def _scip(file: Path, lines: list[str]) -> SolutionFile:
    """``name value (obj:...)`` for everything that is not 0."""
    found = SolutionFile(file, "SCIP", zeros_left_out=True)
    for line, text in enumerate(lines, start=1):
        label, _, rest = text.partition(":")
        if text.startswith("no solution available"):
            found.status = found.status or text.strip()
        elif label.strip() == "solution status":
            found.status = rest.strip()
        elif label.strip() == "objective value":
            found.objective = found.number(rest.strip(), line, "the objective")
            found.has_point = True
        elif text.strip() and not text.startswith("#"):
            entry = _SCIP_ENTRY.match(text)
            if entry is None:
                raise found.fault(line, f"'name value (obj:...)' is expected, not '{text[:60]}'")
            found.add(entry["name"], entry["value"], line)
    return found


def _ampl(file: Path, lines: list[str]) -> SolutionFile:
    """A message, ``Options``, four counts, then duals and primals one a line, then ``objno``."""
    found = SolutionFile(file, "AMPL")
    place = [line.strip() for line in lines].index("Options")
    message = " ".join(line.strip() for line in lines[:place] if line.strip())
    found.status = message

    def whole(index: int, what: str) -> int:
        text = lines[index].strip() if index < len(lines) else "the end of the file"
        if not re.fullmatch(r"-?\d+", text):
            raise found.fault(index + 1, f"{what}: a whole number is expected, not '{text[:40]}'")
        return int(text)

    options = whole(place + 1, "the number of options")
    if options not in _OPTION_COUNTS:
        raise found.fault(place + 2, f"{options} options are announced, which cannot be")
    # more than four announce a tolerance of the basis behind the counts, in place of two of them
    tolerance = 1 if options > 4 else 0
    options -= 2 * tolerance
    counts = place + 2 + options
    words = ("constraints", "dual values", "variables", "values of variables")
    _, duals, columns, primals = (whole(counts + k, f"the number of {words[k]}") for k in range(4))
    if primals not in (0, columns):
        text = f"{primals} values are announced for {columns} variables"
        raise found.fault(counts + 4, text)
    first = counts + 4 + tolerance + duals
    for k in range(primals):
        if first + k >= len(lines):
            raise found.fault(len(lines) + 1, f"the file ends after {k} of {primals} values")
        text = lines[first + k].strip()
        number = found.number(text, first + k + 1, f"variable {k + 1}")
        found.ordered.append(Value(number, first + k + 1))
    found.has_point = primals > 0
    for text in lines[first + primals :]:
        if text.startswith("objno") and len(text.split()) == 3:
            found.status = f"{message} (code {text.split()[2]})"
    return found
