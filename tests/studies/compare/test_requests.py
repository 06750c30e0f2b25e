"""How a comparison is asked for, and what is said of misuse."""

from __future__ import annotations

from typing import Any

import pytest

import sftopt
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.core.schemes.base import Scheme
from sftopt.core.schemes.registry import SCHEMES, get_scheme
from sftopt.studies.compare import Settings, compare_cell
from sftopt.studies.compare.request import requests_of
from tests.samples import sample_instance

FAIR = ["one-for-all", "int8-best", "fp16-best"]


def cell(**workload: Any) -> Instance:
    known = {"heads": 12, "head_size": 64, "element_bytes": 4, "adapted_matrices": 2}
    return sample_instance(2, 0, modes=(4,), workload={**known, **workload})


def test_every_scheme_says_what_is_free_and_where_it_comes_from() -> None:
    decisions = {"blocks", "compression", "shares", "ranks", "server speed"}
    for scheme in SCHEMES.values():
        assert set(scheme.free) | set(scheme.fixed) == decisions
        assert scheme.summary
        assert scheme.objective
        assert scheme.source or scheme.ours.startswith("all of it")
    assert set(SCHEMES["sft"].free) == {"blocks", "compression", "shares"}
    assert set(SCHEMES["card"].free) == {"blocks", "server speed"}
    assert SCHEMES["splitlora"].free == {}


def test_sft_first_and_the_fair_baselines_always() -> None:
    assert [r.label for r in requests_of(["card", "card:w=0.5", "sft"])] == [
        "sft", "card", "card:w=0.5", *FAIR
    ]  # fmt: skip
    assert [r.label for r in requests_of(["int8-best"])] == [
        "sft", "int8-best", "one-for-all", "fp16-best"
    ]  # fmt: skip
    # a default spelled out is the same scheme, asked for once
    assert [r.label for r in requests_of(["card:w=0.2", "card"])][:2] == ["sft", "card"]


MISUSE = {
    "splitlore": "unknown scheme 'splitlore'. Did you mean 'splitlora'?",
    "card:v=0.5": "unknown option of scheme 'card' 'v'",
    "card:w=2": "card:w is 2; it must be at most 1",
    "card:w=nan": "card:w is nan; it must be at least 0",
    "card:w=much": "card:w is 'much'; it must be a number",
    "card:w=0.1:w=0.9": "card:w is given twice; give it once",
    "card:w": "'w' is no option=value; write card:OPTION=VALUE",
    "sft:cut=2": "scheme 'sft' has no options",
    "splitlora:cut=12": "splitlora:cut is 12; it must be at most 11",
    "splitlora:cut=2.5": "splitlora:cut is '2.5'; it must be a whole number",
    "int8:shares=bset": "Did you mean 'best'?",
    "hsplitlora:rank=769": "hsplitlora:rank is 769; it must be at most 768",
    "hsplitlora:rank=0": "hsplitlora:rank is 0; it must be at least 1",
    "tsflora:kept_tokens=1": "tsflora:kept_tokens is 1; it must be at least 2",
    "tsflora:kept_tokens=196": "tsflora:kept_tokens is 196; it must be at most 195",
    "fedlora:participants=fitting": "zero devices hold the whole model",
}
"""What is asked for, and a part of what is said of it."""


@pytest.mark.parametrize("asked", list(MISUSE))
def test_misuse_is_an_input_error_that_names_the_limit(asked: str) -> None:
    instance = cell(head_parameters=1e4, head_bytes=1e5).replace(
        **{"devices[0].memory_bytes": 1e9, "devices[1].memory_bytes": 1e9}
    )
    with pytest.raises(InputError) as raised:
        compare_cell(instance, [asked])
    assert MISUSE[asked] in str(raised.value)


def test_settings_that_no_solver_takes() -> None:
    with pytest.raises(InputError, match=r"time_limit is -1\.0; it must be 0 s or more"):
        Settings(time_limit=-1.0)
    with pytest.raises(InputError, match=r"rel_gap is -0\.1"):
        Settings(rel_gap=-0.1)


def test_a_rank_of_a_device_above_the_width() -> None:
    instance = cell().replace(**{"devices[1].lora_rank": 1000})
    with pytest.raises(InputError, match="device dev1: lora_rank is 1000; it must be at most 768"):
        compare_cell(instance, ["hsplitlora"])


def test_zero_devices_and_no_schemes() -> None:
    with pytest.raises(InputError, match="devices"):
        cell().replace(devices=[])
    with pytest.raises(InputError, match="none is named"):
        compare_cell(cell(), [])
    with pytest.raises(InputError, match="needs an Instance"):
        sftopt.compare("jetson-vit-b")  # type: ignore[arg-type]


def test_a_decoder_under_tsflora_is_an_error_where_named_and_else_a_refused_row() -> None:
    decoder = cell(is_decoder=True)
    with pytest.raises(InputError, match="'workload' is a decoder"):
        compare_cell(decoder, ["tsflora"])
    row = next(row for row in compare_cell(decoder) if row.scheme == "tsflora")
    assert row.refused is not None
    assert "decoder" in row.refused
    assert (row.round_s, row.plan, row.ratio_to_sft) == (None, None, None)


def test_the_python_interface() -> None:
    found = sftopt.compare(cell(), ["splitlora"])
    assert repr(found).startswith("Comparison(sample-2-0: 5 schemes, sft ")
    data = found.to_dict()
    assert (data["reference_bits"], data["schemes"][0]["scheme"]) == (32, "sft")
    frame = found.to_dataframe()
    assert list(frame.index) == ["sft", "splitlora", *FAIR]
    assert frame.loc["splitlora", "ratio_to_sft"] > 1.0
    assert frame["parts.uplink_s"].notna().all()
    with pytest.raises(InputError, match="no scheme 'card' in this comparison"):
        found.row("card")
    assert isinstance(get_scheme("card"), Scheme)
