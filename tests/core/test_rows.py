"""Rows of long work: what a kill, a broken disk or a second writer leaves, and what is resumed."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sftopt.core.errors import DiskError, InputError
from sftopt.core.folder_lock import LOCK_NAME, PROCESS_FILE_NAME, FolderLock
from sftopt.core.rows import RowFile


def written(folder: Path, rows: int, settings: dict[str, int] | None = None) -> None:
    with RowFile(folder, settings or {"seed": 1}, resume=False) as file:
        for number in range(rows):
            file.append({"round": number})


def lines_of(folder: Path) -> list[str]:
    return (folder / "rows.jsonl").read_text().splitlines()


def test_resumed_rows_are_those_written(tmp_path: Path) -> None:
    written(tmp_path / "run", 3)
    with RowFile(tmp_path / "run", {"seed": 1}, resume=True) as file:
        assert [row["round"] for row in file.rows] == [0, 1, 2]
        file.append({"round": 3})
    assert len(lines_of(tmp_path / "run")) == 4


@pytest.mark.parametrize("rest", ['{"round": 3', '{"round": 3}', "\x00\x00"])
def test_a_last_line_cut_short_is_dropped(
    tmp_path: Path, rest: str, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, 3)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(rest)
    with RowFile(tmp_path, {"seed": 1}, resume=True) as found:
        assert len(found.rows) == 3
        found.append({"round": 3})
    assert lines_of(tmp_path)[-1] == '{"round":3}'
    assert not caplog.messages, "a kill is nothing to warn of"


class _Row(BaseModel):
    round: int
    delay_s: float


@pytest.mark.parametrize(
    "broken", ["nonsense", "[1]", '{"round": "2"}', '{"round": 2, "delay_s": NaN}',
               '{"round": 2, "delay_r": 1.0}', "[" * 100_000, "\udcff"],
)  # fmt: skip
def test_a_broken_line_in_the_middle_costs_no_other_row(
    tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RowFile(tmp_path, {}, resume=False, model=_Row) as file:
        for number in range(5):
            file.append({"round": number, "delay_s": 1.0})
    lines = lines_of(tmp_path)
    lines[2] = broken
    text = "\n".join(lines) + "\n"
    (tmp_path / "rows.jsonl").write_text(text, errors="surrogateescape")
    with RowFile(tmp_path, {}, resume=True, model=_Row) as found:
        assert [row["round"] for row in found.rows] == [0, 1, 3, 4]
        assert found.rounds == {0, 1, 3, 4}
        found.append({"round": 2, "delay_s": 1.0})
        found.put_in_order()
        found.append({"round": 5, "delay_s": 1.0})
    assert "line 3 cannot be read" in caplog.text
    aside = (tmp_path / "rows.damaged").read_text(errors="surrogateescape")
    assert aside == broken + "\n"
    with RowFile(tmp_path, {}, resume=True, model=_Row) as found:
        assert [row["round"] for row in found.rows] == [0, 1, 2, 3, 4, 5]


def test_a_round_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    written(tmp_path, 3)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"round":1}\n')
    before = (tmp_path / "rows.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"round 1 2 times, in lines 2, 4"):
        RowFile(tmp_path, {"seed": 1}, resume=True)
    assert (tmp_path / "rows.jsonl").read_bytes() == before


def test_a_second_writer_is_refused_while_the_first_one_writes(tmp_path: Path) -> None:
    with RowFile(tmp_path, {"seed": 1}, resume=False) as file:
        file.append({"round": 0})
        with pytest.raises(InputError, match=rf"another run \(process {os.getpid()} on .*wait"):
            RowFile(tmp_path, {"seed": 1}, resume=True)
        code = (
            "import sys, pathlib; from sftopt.core.rows import RowFile\n"
            "RowFile(pathlib.Path(sys.argv[1]), {'seed': 1}, resume=True)"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert "is being written by another run" in other.stderr
    with RowFile(tmp_path, {"seed": 1}, resume=True) as file:
        assert len(file.rows) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "settings.json"]


def test_a_refused_folder_is_not_left_locked(tmp_path: Path) -> None:
    written(tmp_path, 1)
    with pytest.raises(InputError, match="--resume"):
        RowFile(tmp_path, {"seed": 1}, resume=False)
    with FolderLock(tmp_path):
        pass


def _wait_for(connection: Any) -> None:
    connection.recv()


def test_a_forked_child_neither_keeps_nor_frees_the_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    lock = FolderLock(tmp_path)
    child = context.Process(target=_wait_for, args=(theirs,))
    child.start()
    with pytest.raises(InputError, match="another run"):
        FolderLock(tmp_path)
    lock.release()
    try:
        FolderLock(tmp_path).release()  # though the child lives on
    finally:
        ours.send(None)
        child.join()


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)


@pytest.mark.usefixtures("no_flock")
def test_where_flock_is_unsupported_a_process_file_locks(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        with pytest.raises(InputError, match=rf"process {os.getpid()} on"):
            FolderLock(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [PROCESS_FILE_NAME]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_flock")
def test_the_file_of_a_process_that_has_ended_is_taken_over(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    host = os.uname().nodename
    file = tmp_path / PROCESS_FILE_NAME
    file.write_text(f"{host} {int(ended.stdout)} 1")
    with FolderLock(tmp_path):
        pass
    file.write_text(f"{host} {os.getpid()} 1")  # a process that began at another time
    with FolderLock(tmp_path):
        pass
    file.write_text(f"elsewhere {int(ended.stdout)} 1")
    with pytest.raises(InputError, match=r"on elsewhere.*remove '.*\.lock\.pid'"):
        FolderLock(tmp_path)


def test_a_lock_file_left_by_a_killed_run_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("host 1 1")
    written(tmp_path, 1)


def test_rows_are_not_overwritten_nor_mixed(tmp_path: Path) -> None:
    written(tmp_path, 1)
    with pytest.raises(InputError, match="--resume"):
        RowFile(tmp_path, {"seed": 1}, resume=False)
    with pytest.raises(InputError, match="seed"):
        RowFile(tmp_path, {"seed": 2}, resume=True)
    assert len(lines_of(tmp_path)) == 1


def test_a_run_that_wrote_no_row_may_start_anew(tmp_path: Path) -> None:
    written(tmp_path, 0)
    written(tmp_path, 2, {"seed": 2})
    assert '"seed": 2' in (tmp_path / "settings.json").read_text()


def refused_after_a_row(file: RowFile) -> None:
    file.append({"round": 0})
    raise InputError("no such thing")


def test_a_run_refused_before_its_first_row_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    with pytest.raises(InputError, match="no such thing"), RowFile(out, {}, resume=False):
        raise InputError("no such thing")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="no such thing"), RowFile(out, {}, resume=False) as file:
        refused_after_a_row(file)
    assert len(lines_of(out)) == 1
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(InputError, match="no such thing"), RowFile(there, {}, resume=False):
        raise InputError("no such thing")
    assert (there / "settings.json").is_file()  # what was there before is nobody's to remove


def test_a_lock_takes_an_empty_folder_that_it_made_along(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with FolderLock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        RowFile(tmp_path / "file" / "run", {}, resume=False)


def test_rows_kept_elsewhere_are_put_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path, 5)
    with pytest.raises(InputError, match="other settings"):
        RowFile(tmp_path, {"seed": 2}, resume=True, kept=lambda: [])
    assert len(lines_of(tmp_path)) == 5
    with RowFile(tmp_path, {"seed": 1}, resume=True, kept=lambda: [{"round": 0}, {"round": 1}]):
        pass
    assert lines_of(tmp_path) == ['{"round":0}', '{"round":1}']
    assert not caplog.messages, "rows beyond a checkpoint are run again, as after any kill"
    (tmp_path / "rows.jsonl").write_text('{"round":0}\n{"round":2}\n')
    kept = [{"round": 0}, {"round": 1}, {"round": 2}]
    with RowFile(tmp_path, {"seed": 1}, resume=True, kept=lambda: kept) as file:
        assert file.rows == kept
    assert "round 1 was missing" in caplog.text
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(InputError, match="other settings"):
        RowFile(tmp_path, {"seed": 2}, resume=True, kept=lambda: kept)


def test_a_full_disk_is_told_with_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write

    def half(descriptor: int, data: Any) -> int:
        if len(data) > 40:
            return real_write(descriptor, bytes(data)[:30])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = RowFile(tmp_path, {}, resume=False)
    file.append({"round": 0})
    file.append({"round": 1})
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with (
            pytest.raises(InputError, match=r"No space left.*finished is kept in .*--resume"),
            file,
        ):
            file.append({"round": 2, "long": "x" * 40})
    assert lines_of(tmp_path) == ['{"round":0}', '{"round":1}'], "no half line is left"
    with RowFile(tmp_path, {}, resume=True) as file:
        file.append({"round": 2})


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device", "plans/frame-0000.plan.json"),
              DiskError(Path("checkpoint"), RuntimeError("No space left on device"))],
)  # fmt: skip
def test_other_files_of_the_run_on_a_full_disk_say_the_same(
    tmp_path: Path, error: Exception
) -> None:
    with (
        pytest.raises(InputError, match=r"'(plans|checkpoint).*No space left.*--resume"),
        RowFile(tmp_path, {}, resume=False),
    ):
        raise error


def test_changed_settings_are_named_down_to_the_field(tmp_path: Path) -> None:
    settings = {"split": {"seed": 1, "rank": 3}, "rounds": 2}
    with RowFile(tmp_path, settings, resume=False) as file:
        file.append({"round": 0})
    other = {"split": {"seed": 2, "rank": 3}, **{f"new{number}": number for number in range(9)}}
    with pytest.raises(InputError, match=r"\(new0, new1, new2, new3, new4 \.\.\.\)"):
        RowFile(tmp_path, other, resume=True)
    with pytest.raises(InputError, match=r"\(split\.seed\)"):
        RowFile(tmp_path, {**settings, "split": {"seed": 2, "rank": 3}}, resume=True)
