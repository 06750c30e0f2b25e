"""Suite files: which solvers run on which instances, under which limits. TOML, read by pydantic."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.families import FAMILIES
from sftopt.core.faults import Fault
from sftopt.core.fields import Count, Frozen, Name, NonNegative, Positive, PositiveCount, Text
from sftopt.core.library import DATA
from sftopt.core.parse import field_faults, input_error
from sftopt.formulations.registry import formulation_names
from sftopt.solvers.registry import default_formulation, get_solver, solver_names

FOLDER = DATA / "suites"
"""The bundled suites; package data."""
PATIENCE_S = 1e6
"""Longest time limit of a run in seconds."""

Limit = Annotated[float, Field(gt=0, le=PATIENCE_S, allow_inf_nan=False)]
Option = str | int | float | bool


class FactorLimit(Frozen):
    """A time limit in multiples of what another entry took on the same instance."""

    factor: Positive = Field(description="times the other entry's build and engine seconds")
    of: Name = Field(description="the other entry, solver/formulation")
    least_s: Limit = 2.0


class Change(Frozen):
    """What is done to a generated or read instance, in this order."""

    blocks: PositiveCount | None = Field(
        default=None, description="the model in as many blocks, thinner or thicker in proportion"
    )
    power: Literal["psd", "total"] | None = Field(default=None, description="the rate law")
    devices_alike: bool = Field(default=False, description="every device is the first one")
    slow_device: Positive | None = Field(
        default=None, description="the first device's speed is multiplied by it"
    )
    only_device: bool = Field(default=False, description="the first device alone")
    combinations: PositiveCount | None = Field(
        default=None, description="cuts and modes taken away until so many are left to enumerate"
    )
    set: dict[str, Any] = Field(
        default_factory=dict, description="values by dotted path, as radio.uplink_bandwidth_hz"
    )


class Instances(Frozen):
    """Instances of one kind: families by number of devices and seed, or one file."""

    family: Name | tuple[Name, ...] = ()
    devices: PositiveCount | tuple[PositiveCount, ...] = ()
    seed: Count | tuple[Count, ...] = 0
    path: str | None = Field(default=None, description="in place of family; beside the suite")
    pairing: Literal["product", "zip"] = Field(
        default="product", description="every combination, or the n-th of each list together"
    )
    change: Change = Change()
    coherence_blocks: PositiveCount = Field(
        default=4, description="of a round with known gains (problem = 'round')"
    )
    weak_device: bool = Field(
        default=False, description="the round's first device is close to its outage rate"
    )


class Entry(Frozen):
    """A solver on a formulation, with options of its own."""

    solver: Name
    formulation: Name = Field(default="", description="empty: the solver's own default")
    options: dict[str, Option] = Field(default_factory=dict, description="to the engine untouched")
    label: Name = Field(default="", description="of two entries that differ in options alone")
    limit_s: Limit | None = Field(default=None, description="in place of the suite's")
    role: Literal["racer", "reference"] = Field(
        default="racer", description="a reference only checks the others; it is not ranked"
    )
    max_devices: PositiveCount | None = Field(
        default=None, description="larger instances are not planned for it"
    )
    min_devices: PositiveCount = 1

    @property
    def name(self) -> str:
        """Return what tables call it: solver/formulation, or its label."""
        return self.label or f"{self.solver}/{self.formulation}"


class Checks(Frozen):
    """What rows are held to beside the cross-checks that are always made."""

    value: NonNegative = Field(
        default=1e-4, description="relative; two proven values of an instance differ by no more"
    )
    overlap: NonNegative = Field(
        default=1e-6, description="relative; a bound is above another's value by no more"
    )
    relaxation: tuple[tuple[Name, Name], ...] = Field(
        default=(), description="pairs of entries that must claim the same value"
    )
    relaxation_value: NonNegative = Field(default=1e-6, description="relative, of those pairs")
    targets: dict[Name, dict[str, Positive]] = Field(
        default_factory=dict, description="by entry: median seconds aimed at, by number of devices"
    )


class Suite(Frozen):
    """A race as a file says it."""

    name: Name
    description: Text = ""
    problem: Literal["plan", "round"] = Field(
        default="plan", description="the large problem (13), or the small one (14)"
    )
    limit_s: Limit | None = Field(default=None, description="wall seconds of a run")
    limit: FactorLimit | None = Field(default=None, description="in place of limit_s")
    rel_gap: NonNegative = 1e-4
    memory_mb: Positive = Field(default=4096.0, description="of a run, above what it starts with")
    threads: PositiveCount = 1
    seeds: tuple[Count, ...] = Field(default=(0,), min_length=1, description="of the solvers")
    start: Literal["shared", "own"] = Field(
        default="shared",
        description="one plan made once an instance and given to all, or each makes its own",
    )
    instances: tuple[Instances, ...] = Field(min_length=1)
    entries: tuple[Entry, ...] = Field(min_length=1)
    checks: Checks = Checks()


def suite_names() -> list[str]:
    """List the bundled suites."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_suite(name_or_path: str) -> Suite:
    """Load a bundled suite by name, or a suite file.

    Raises InputError with every fault of the file, UnknownNameError for a word that is neither.
    """
    path = Path(name_or_path)
    if not path.is_file():
        if path.suffix != ".toml" and path.name == name_or_path:
            if name_or_path not in suite_names():
                raise UnknownNameError("suite", name_or_path, suite_names())
            path = FOLDER / f"{name_or_path}.toml"
        else:
            raise InputError(f"suite file '{name_or_path}': no such file")
    return parse_suite(_read(path), str(name_or_path), path.parent)


def parse_suite(data: Mapping[str, Any], what: str, folder: Path = Path()) -> Suite:
    """Return the suite of plain data; paths in it are taken from ``folder``.

    Raises InputError listing every fault: fields, values, names that nothing goes by.
    """
    faults: list[Fault] = []
    made: Suite | None = None
    try:
        made = Suite.model_validate(data)
    except ValidationError as error:
        faults += field_faults(Suite, data, error)
    faults += _name_faults(data, folder)
    if faults or made is None:
        raise input_error(f"suite '{what}'", faults)
    placed = [
        one.model_copy(update={"path": str(folder / one.path)}) if one.path else one
        for one in made.instances
    ]
    settled = [
        one.model_copy(update={"formulation": _own_formulation(one.solver)})
        if not one.formulation
        else one
        for one in made.entries
    ]
    return made.model_copy(update={"instances": tuple(placed), "entries": tuple(settled)})


def _own_formulation(solver: str) -> str:
    return default_formulation(get_solver(solver))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read suite file '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"suite file '{path}' is no text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"suite file '{path}' is no TOML: {error}") from None


def _name_faults(data: Mapping[str, Any], folder: Path) -> Iterator[Fault]:
    """Yield what single fields' types cannot show, also where other fields are faulty."""
    if ("limit_s" in data) == ("limit" in data):
        yield _fault("limit_s", "give one of limit_s (seconds) and [limit] (a factor)")
    yield from _instance_faults(_tables(data, "instances"), folder)
    yield from _entry_faults(_tables(data, "entries"), data)


def _instance_faults(tables: Iterable[Mapping[str, Any]], folder: Path) -> Iterator[Fault]:
    for place, table in enumerate(tables):
        where = f"instances[{place}]"
        path = table.get("path")
        if (path is None) == ("family" not in table):
            yield _fault(where, "give one of family and path")
        if isinstance(path, str) and not (folder / path).is_file():
            yield _fault(f"{where}.path", f"there is no file '{folder / path}'")
        for name in _listed(table.get("family", [])):
            yield from _unknown(f"{where}.family", "family", name, FAMILIES)
        if table.get("pairing") == "zip":
            sizes = {len(_listed(table.get(name, 0))) for name in ("family", "devices", "seed")}
            if len(sizes - {1}) > 1:
                text = "zip pairs lists of one length; single values are repeated"
                yield _fault(f"{where}.pairing", text)


def _entry_faults(tables: list[Mapping[str, Any]], data: Mapping[str, Any]) -> Iterator[Fault]:
    names: list[str] = []
    for place, table in enumerate(tables):
        where = f"entries[{place}]"
        solver, formulation = table.get("solver"), table.get("formulation", "")
        yield from _unknown(f"{where}.solver", "solver", solver, solver_names())
        if formulation:
            known = formulation_names()
            yield from _unknown(f"{where}.formulation", "formulation", formulation, known)
        if not formulation and solver in solver_names():
            formulation = _own_formulation(solver)
        name = table.get("label") or f"{solver}/{formulation}"
        if name in names:
            yield _fault(where, f"'{name}' is there twice; give one of them a label of its own")
        names.append(str(name))
    limit, checks = data.get("limit"), data.get("checks")
    if isinstance(limit, Mapping) and "of" in limit:
        yield from _unknown("limit.of", "entry", limit["of"], names)
    if isinstance(checks, Mapping):
        for name in _listed(list(checks.get("targets", {}))):
            yield from _unknown("checks.targets", "entry", name, names)
        for pair in _listed(checks.get("relaxation", [])):
            for name in _listed(pair):
                yield from _unknown("checks.relaxation", "entry", name, names)


def _tables(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = data.get(name)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _unknown(field: str, kind: str, name: Any, known: Iterable[str]) -> Iterator[Fault]:
    if not isinstance(name, str) or name in known:
        return  # what is no text is told by its type
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(sorted(known))}"
    yield _fault(field, f"there is no {kind} '{name}'{hint}")


def _fault(field: str, text: str) -> Fault:
    return Fault(field=field, message=f"{field}: {text}")


__all__ = [
    "FOLDER",
    "Change",
    "Checks",
    "Entry",
    "FactorLimit",
    "Instances",
    "Suite",
    "load_suite",
    "parse_suite",
    "suite_names",
]
