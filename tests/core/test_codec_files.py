"""Files of codecs in a calibration: beside it or in its model's folder they move along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftopt.core.calibration import Calibration, load_calibration
from sftopt.core.calibration_file import OperatingPoint
from sftopt.core.codec_files import IN_MODEL, found, named, without_places
from sftopt.core.instance import Mode, ModeKind
from tests.calibration_samples import sample_calibration


def calibration(folder: Path, model: Path) -> Calibration:
    """With two points: books beside the file, bases in the model's folder."""
    books, bases = folder / "made" / "books-2.safetensors", model / "bases.safetensors"
    for place in (books, bases):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(place.name.encode())
    given = sample_calibration()
    mode = Mode(kind=ModeKind.DENSE, bits=2, value_bits=2.0, gradient_bits=2.0, loss=0.0)
    points = tuple(
        OperatingPoint(
            mode=mode.model_copy(update={"name": name}), codec={"codec": name, name: str(place)},
            cuts=(1,), losses=((0.0, 0.0),),
        )
        for name, place in (("books", books), ("gradient_bases", bases))
    )  # fmt: skip
    source = given.source.model_copy(update={"model": str(model)})
    return given.model_copy(update={"points": points, "source": source})


def test_a_calibration_moves_with_what_lies_beside_it(tmp_path: Path) -> None:
    made = calibration(tmp_path / "here", tmp_path / "model")
    made.save(tmp_path / "here" / "calibration.json")
    written = json.loads((tmp_path / "here" / "calibration.json").read_text())
    books, bases = (point["codec"] for point in written["points"])
    assert books["books"] == "made/books-2.safetensors"
    assert bases["gradient_bases"] == f"{IN_MODEL}bases.safetensors"
    (tmp_path / "here").rename(tmp_path / "there")
    read = load_calibration(tmp_path / "there" / "calibration.json")
    books, bases = (point.codec for point in read.points)
    assert Path(books["books"]).read_bytes() == b"books-2.safetensors"
    assert Path(books["books"]).is_relative_to(tmp_path / "there")
    assert bases["gradient_bases"] == str(tmp_path / "model" / "bases.safetensors")
    assert read.hash == made.hash  # what was measured is the same


def test_a_relative_path_of_the_file_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = calibration(Path("here"), Path("model"))
    made.save("here/calibration.json")
    monkeypatch.chdir(tmp_path / "here")
    books = load_calibration("calibration.json").points[0].codec["books"]
    assert Path(books).is_absolute()
    assert Path(books).is_file()


def test_files_of_earlier_calibrations_and_of_other_folders_are_absolute(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "bases.safetensors"
    codec = {"codec": "rotated", "bits": 1.0, "bases": str(elsewhere), "cut": None}
    assert named(codec, tmp_path / "here", str(tmp_path / "model")) == codec
    assert named(codec, tmp_path / "here", "") == codec
    elsewhere.parent.mkdir()
    elsewhere.touch()
    assert found(codec, tmp_path / "here", str(tmp_path / "model")) == codec
    assert without_places(codec) == codec | {"bases": "bases.safetensors"}


def test_the_folder_of_another_machines_model_may_be_named_later(tmp_path: Path) -> None:
    made = calibration(tmp_path / "here", tmp_path / "model")
    made.save(tmp_path / "here" / "calibration.json")
    (tmp_path / "model").rename(tmp_path / "other")
    codec = load_calibration(tmp_path / "here" / "calibration.json").points[1].codec
    assert codec["gradient_bases"] == f"{IN_MODEL}bases.safetensors"
    later = found(codec, tmp_path, str(tmp_path / "other"))
    assert later["gradient_bases"] == str(tmp_path / "other" / "bases.safetensors")
