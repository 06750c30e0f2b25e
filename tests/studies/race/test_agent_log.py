"""What a run prints is cut while it prints, and its last words stand."""

from __future__ import annotations

import os
import threading

import pytest

from sftopt.studies.race import agent
from sftopt.studies.race.agent import MOST_LOG_BYTES, TAIL_BYTES, Log
from sftopt.studies.race.file_hole import punch_hole

LINE = b"x" * 999 + b"\n"


def holes_are_made() -> bool:
    """Whether this system and the disk of temporary files make holes."""
    log = Log()
    log.file.write(LINE)
    log.file.flush()
    made = punch_hole(log.file.fileno(), 1)
    log.tail()
    return made


@pytest.mark.parametrize("holes", [True, False])
def test_a_long_log_takes_little_room_and_keeps_its_end(
    holes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if holes and not holes_are_made():
        pytest.skip("no holes are made in files here")
    if not holes:
        monkeypatch.setattr(agent, "punch_hole", lambda *_: False)
    log = Log()
    for _ in range(50):
        os.write(log.file.fileno(), LINE * 100)
        log.cut()
        room = 512 * os.fstat(log.file.fileno()).st_blocks
        assert room <= MOST_LOG_BYTES + 200 * len(LINE)
    os.write(log.file.fileno(), b"the last words\n")
    tail = log.tail()
    assert len(tail) == TAIL_BYTES
    assert tail.endswith("x\nthe last words\n")


def test_nothing_is_lost_that_is_printed_while_the_log_is_cut() -> None:
    """Words printed between reading the end and cutting before it were."""
    if not holes_are_made():
        pytest.skip("no holes are made in files here")
    log, words = Log(), 400

    def chatter() -> None:
        for number in range(words):
            os.write(log.file.fileno(), LINE * 30 + b"word %d\n" % number)
        os.write(log.file.fileno(), b"the last words\n")

    writer = threading.Thread(target=chatter)
    writer.start()
    while writer.is_alive():
        log.cut()
    log.cut()
    assert os.fstat(log.file.fileno()).st_size == (
        words * 30 * len(LINE) + sum(len(b"word %d\n" % n) for n in range(words)) + 15
    )
    assert log.tail().endswith(f"word {words - 1}\nthe last words\n")
