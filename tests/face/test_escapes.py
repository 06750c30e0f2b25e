"""Names and paths that would act on the terminal: shown as escapes, wherever they come up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sftopt.face.escaped import visible, visible_message
from tests.face.command_line import Run, Write, small_data

HOSTILE = "a\x1b[31m\x1b]0;title\x07\x9b2J\u202e\nerror: forged"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]")


@pytest.fixture
def hostile(write: Write) -> Path:
    data = small_data()
    data["name"] = f"cell {HOSTILE}"
    data["devices"][0]["id"] = HOSTILE
    return write("hostile.json", data)


@pytest.mark.parametrize(
    "words",
    [
        ["check"],
        ["plan", "--time-limit", "5"],
        ["plan", "--formulation", HOSTILE],
        ["instance", "show"],
        ["verify", "nowhere" + HOSTILE.replace("/", "")],
        ["prices", HOSTILE],
        ["simulate", "--rounds", "2", "--no-plots", "--no-clairvoyant", "--out", "OUT"],
    ],
    ids=lambda words: " ".join(words[:2])[:20].encode("unicode_escape").decode(),
)
def test_nothing_from_a_file_or_an_argument_acts_on_the_terminal(
    run: Run, hostile: Path, tmp_path: Path, words: list[str]
) -> None:
    command, *rest = words
    verb = [command, rest.pop(0)] if command == "instance" else [command]
    rest = [str(tmp_path / f"out {HOSTILE.replace('/', '')}") if w == "OUT" else w for w in rest]
    found = run(*verb, hostile, *rest)
    for text in (found.out, found.err):
        assert not RAW.search(text), text.encode("unicode_escape")
        assert not re.search("^error: forged", text, re.MULTILINE)
    assert found.out or found.err


def test_a_path_that_does_not_exist_is_shown_escaped(run: Run) -> None:
    found = run("check", f"/nowhere/{HOSTILE}")
    assert found.code == 2
    assert "a\\x1b[31m\\x1b]0;title\\x07\\x9b2J\\u202e\\nerror: forged" in found.err


def test_lists_of_faults_keep_their_lines() -> None:
    text = "instance 'x': 2 faults\n  - one\n  - two\n  ... and 3 more (--json lists all)"
    assert visible_message(text) == text
    assert visible_message("bad\nTry 'sftopt --help'.") == "bad\nTry 'sftopt --help'."
    assert visible("é ü 漢 🙂") == "é ü 漢 🙂"


@pytest.mark.parametrize("columns", ["0", "1", "-3", "wide", ""])
def test_a_width_that_leaves_no_room_is_not_heeded(
    run: Run, small: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    plain = run("instance", "show", small).out
    monkeypatch.setenv("COLUMNS", columns)
    assert run("instance", "show", small).out == plain
    assert plain
