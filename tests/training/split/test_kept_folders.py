"""Folders of state that are replaced whole: killed on the way, the next write still works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sftopt.training.split.kept_folders import STATE_NAME, replacing


def test_a_kill_while_an_old_folder_is_removed_leaves_no_half_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half a folder was taken for something else's, and every later checkpoint was refused."""
    place = tmp_path / "state"

    def write(text: str) -> None:
        with replacing(place) as fresh:
            (fresh / STATE_NAME).write_text(text)
            (fresh / "other").write_text(text)

    class Killed(BaseException):
        pass

    def half(folder: Path, ignore_errors: bool = False) -> None:
        (folder / STATE_NAME).unlink(missing_ok=True)
        raise Killed

    write("1")
    write("2")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        with pytest.raises(Killed):
            write("3")
    write("4")
    assert (place / STATE_NAME).read_text() == "4"
    assert {path.name for path in tmp_path.iterdir()} <= {"state", "state-previous"}
