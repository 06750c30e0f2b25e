"""Lists typed with commas: one rule for every option that takes one."""

from __future__ import annotations

import pytest

from sftopt.core.errors import InputError
from sftopt.face.lists import maybe_numbers, names, numbers


def test_blanks_and_a_comma_too_many_do_not_count() -> None:
    assert names(" card, ,sl,") == ("card", "sl")
    assert numbers("--keep", "0.3, 0.5,", float) == (0.3, 0.5)
    assert numbers("--cuts", "1,,2", int) == (1, 2)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("0.3;0.5", float, "--keep is '0.3;0.5'; give numbers with commas between them"),
        ("1.5", int, "--keep is '1.5'; give whole numbers with commas between them"),
        (" ,", float, "--keep is ' ,', which holds none"),
    ],
)
def test_what_is_no_list_of_numbers_is_named_with_its_option(text, kind, said) -> None:
    with pytest.raises(InputError) as raised:
        numbers("--keep", text, kind)
    assert said in str(raised.value)


def test_an_option_that_was_not_given_is_no_empty_list() -> None:
    assert maybe_numbers("--bits", None, int) is None
    assert maybe_numbers("--bits", "4", int) == (4,)


@pytest.mark.parametrize(
    "words",
    [
        ["calibrate", "--data", "digit-scenes", "--keep", "0.3;0.5", "--out", "no.json"],
        ["closed-loop", "--data", "digit-scenes", "--keep", "0.3;0.5", "--out", "no"],
        ["race", "--suite", "smoke", "--sizes", "three", "--out", "no"],
    ],
)
def test_commands_say_it_the_same_way(words, run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run(*words)
    assert answer.code == 2
    assert "with commas between them" in answer.err
    assert not list(tmp_path.iterdir())
