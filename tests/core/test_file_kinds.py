"""A file of one kind in place of another: one sentence, not forty faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sftopt
from sftopt.core.calibration import load_calibration
from sftopt.core.errors import InputError
from sftopt.core.file_kinds import FILE_KINDS, refuse_another_kind
from sftopt.core.files import read_json, write_json
from sftopt.core.plan import Plan

DATA = Path(sftopt.__file__).parent / "data"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One real file of each kind, as sftopt writes it."""
    folder = tmp_path_factory.mktemp("kinds")
    cell = sftopt.load("equal-devices")
    result = sftopt.solve(cell, solver="constructive")
    assert result.plan is not None
    result.plan.save(folder / "plan.json")
    calibration = DATA / "calibrations" / "digit-scenes.json"
    made: dict[str, dict[str, Any]] = {
        "instance": cell.to_dict(),
        "result": result.to_dict(),
        "plan": read_json(folder / "plan.json", "plan"),
        "calibration": read_json(calibration, "calibration"),
        "workload": cell.workload.model_dump(mode="json"),
    }
    for kind, data in made.items():
        write_json(folder / f"{kind}.json", data)
    return {kind: folder / f"{kind}.json" for kind in made}


READERS = {"instance": sftopt.load, "plan": Plan.load, "calibration": load_calibration}


@pytest.mark.parametrize("given", [kind.name for kind in FILE_KINDS])
@pytest.mark.parametrize("wanted", list(READERS))
def test_each_reader_names_the_kind_it_was_given(
    files: dict[str, Path], wanted: str, given: str
) -> None:
    if given == wanted:
        assert READERS[wanted](files[given])
        return
    with pytest.raises(InputError) as caught:
        READERS[wanted](files[given])
    said = str(caught.value)
    assert f"it is a{'n' * (given == 'instance')} {given}, not a" in said
    assert "'sftopt " in said
    assert "\n" not in said


def test_own_kind_with_faults_and_unknown_files_keep_their_own_faults() -> None:
    refuse_another_kind("instance", {"devices": [], "radio": {}}, "mine")
    refuse_another_kind("split config", {"instance_hash": "", "devices": []}, "mine")


def test_a_folder_and_a_table_in_place_of_an_instance(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name one instance file"):
        sftopt.load(tmp_path)
    table = tmp_path / "devices.csv"
    table.write_text("id,gain_db\na,-90\n")
    with pytest.raises(InputError, match="'sftopt instance from-csv'"):
        sftopt.load(table)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("devices", [], "is []; at least 1 entry is needed"),
        ("devices", None, "is None; a list is needed"),
        ("radio", [], "is []; an object is needed"),
        ("devices[0].batch", "16", "is '16'; a whole number is needed"),
        ("devices[0].batch", 16.5, "is 16.5; a whole number is needed"),
        ("server.compute_flops_per_s", "1e12", "is '1e12'; a number is needed"),
        ("name", 3, "is 3; text is needed"),
    ],
)
def test_types_are_told_without_words_of_python(
    tmp_path: Path, field: str, value: Any, said: str
) -> None:
    data = sftopt.load("equal-devices").to_dict()
    *way, last = field.replace("[0]", ".0").split(".")
    place: Any = data
    for part in way:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    write_json(tmp_path / "cell.json", data)
    with pytest.raises(InputError) as caught:
        sftopt.load(tmp_path / "cell.json")
    assert said in str(caught.value)
