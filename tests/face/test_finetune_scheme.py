"""``sftopt finetune --scheme NAME``: published systems and baselines without a plan file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sftopt.core.plan import Plan
from sftopt.studies.compare import scheme_plan
from tests.face.command_line import Run
from tests.face.test_finetune_command import words as words
from tests.training.run.test_run_plan import rows_of

pytestmark = pytest.mark.train


@pytest.fixture
def by_scheme(words: list[str], tmp_path: Path) -> list[str]:
    """One round by a scheme on the instance that the plan file is for, without the plan file."""
    rest = words[words.index("--model") :]
    rest[rest.index("4")] = "1"
    return ["finetune", str(tmp_path / "instance.json"), *rest, "--no-plots"]


CASES: dict[str, dict[str, Any]] = {
    "card:w=0.5": {"order": "sequential", "aggregation": None, "scheme": "card"},
    "fedlora": {"order": "federated", "aggregation": "averaging", "scheme": "fedlora"},
    "hsplitlora": {"order": "parallel", "aggregation": "concatenation", "scheme": "hsplitlora"},
    "splitlora:aggregation=corrected": {"order": "parallel", "aggregation": "corrected"},
    "tsflora:kept_tokens=5": {"order": "parallel", "aggregation": "averaging"},
    "int8": {"order": "parallel", "aggregation": "averaging", "scheme": "int8"},
}


@pytest.mark.parametrize("scheme", CASES)
def test_a_scheme_trains_as_it_prescribes(
    scheme: str, run: Run, by_scheme: list[str], tmp_path: Path
) -> None:
    ran = run(*by_scheme, "--scheme", scheme, "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    data, (row,) = ran.data, rows_of(tmp_path / "out")
    for name, value in CASES[scheme].items():
        assert data[name] == row[name] == value
    assert set(data["ranks"]) == {"a", "b/c"}
    split = data["split"]["devices"]
    codecs = {codec["codec"] for codec in data["codecs"].values()}
    if scheme == "fedlora":
        assert {part["blocks"] for part in split} == {4}
        assert row["bytes"]["uplink_boundary"] == 0 < row["bytes"]["uplink_head"]
    elif scheme.startswith("tsflora"):
        assert codecs == {"tokens"}
        assert {codec["tokens"] for codec in data["codecs"].values()} == {5}
        # 3 steps of 12 samples, 6 of 17 tokens of 16 elements of 8 bits at most, and headers
        assert 0 < row["bytes"]["uplink_boundary"] < 3 * 12 * 6 * 16 * 1.6
    else:
        assert codecs == {"quantise" if scheme == "int8" else "none"}


def test_the_options_spell_one_instance(run: Run, by_scheme: list[str], tmp_path: Path) -> None:
    """As an option or as the argument: the same run."""
    path = by_scheme.pop(1)
    ran = run(*by_scheme, "--instance", path, "--scheme", "sl", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    words_shown = " ".join(ran.out.split())
    for text in ("scheme sl", "order sequential, adapters handed on, rank 3"):
        assert text in words_shown


@pytest.mark.parametrize(
    ("scheme", "code", "text"),
    [
        ("splitlore", 2, "Did you mean 'splitlora'?"),
        ("card:v=0.5", 2, "unknown option of scheme 'card' 'v'"),
        ("hsplitlora:rank=17", 2, "hsplitlora:rank is 17; it must be at most 16"),
        ("tsflora:kept_tokens=1", 2, "tsflora:kept_tokens is 1; it must be at least 2"),
        ("splitlora:aggregation=corected", 2, "Did you mean 'corrected'?"),
    ],
)
def test_misuse_is_told_in_a_line(
    scheme: str, code: int, text: str, run: Run, by_scheme: list[str], tmp_path: Path
) -> None:
    ran = run(*by_scheme, "--scheme", scheme, "--out", tmp_path / "out", "--json")
    assert ran.code == code, ran.err
    assert text in ran.data["error"]["message"]
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_what_a_memory_does_not_hold_is_refused_with_the_amount(
    run: Run, by_scheme: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "instance.json"
    data = json.loads(path.read_text())
    for device in data["devices"]:
        device["memory_bytes"] = 60_000.0
    path.write_text(json.dumps(data))
    ran = run(*by_scheme, "--scheme", "fedlora", "--out", tmp_path / "out", "--json")
    assert ran.code == 5, ran.err
    message = ran.data["error"]["message"]
    assert "scheme 'fedlora' is refused" in message
    assert "device memory of" in message
    assert "GB (worst of 2)" in message
    ran = run(*by_scheme, "--scheme", "fedlora:participants=fitting", "--out", tmp_path / "out")
    assert ran.code == 2
    assert "zero devices hold the whole model" in ran.err
    assert not (tmp_path / "out").exists()


def test_a_decoder_has_no_token_to_choose(run: Run, by_scheme: list[str], tmp_path: Path) -> None:
    path = tmp_path / "instance.json"
    data = json.loads(path.read_text())
    data["workload"]["is_decoder"] = True
    path.write_text(json.dumps(data))
    ran = run(*by_scheme, "--scheme", "tsflora", "--out", tmp_path / "out")
    assert ran.code == 2
    assert "is a decoder" in " ".join(ran.err.split())


def test_the_two_ways_to_say_what_is_run(run: Run, words: list[str], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out"), "--json"]
    both = run(*words, "--scheme", "sl", *out)
    assert both.code == 2
    assert "one too many" in both.data["error"]["message"]
    place = words.index("--instance")
    rest = words[:place] + words[place + 2 :]
    for given in (rest, [words[0], *words[2:]]):
        ran = run(*given, *out)
        assert ran.code == 2
        assert (
            "is missing: give PLAN --instance INSTANCE, or INSTANCE --scheme NAME"
            in (ran.data["error"]["message"])
        )


def test_the_plan_of_a_scheme_runs_from_its_file_too(
    run: Run, words: list[str], tmp_path: Path
) -> None:
    from sftopt.core.library import load

    given, plan, changes = scheme_plan(load(str(tmp_path / "instance.json")), "sl")
    assert changes == ()
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").order.value == "sequential"
    assert given.answers_to(plan.instance_hash)
    words[words.index("4")] = "1"
    ran = run(*words, "--out", tmp_path / "out", "--no-plots", "--json")
    assert ran.code == 0, ran.err
    assert (ran.data["scheme"], ran.data["order"]) == ("sl", "sequential")
