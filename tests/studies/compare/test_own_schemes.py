"""A scheme of one's own: what it may say, and what is said of one that is faulty."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sftopt.core.errors import InputError, RefusedError
from sftopt.core.instance import Instance
from sftopt.core.plan import Order
from sftopt.core.schemes.base import (
    CompressionRule,
    CutRule,
    RankRule,
    Scheme,
    SchemeOption,
    ShareRule,
    SpeedRule,
)
from sftopt.core.schemes.registry import get_scheme
from sftopt.studies.compare import compare_cell
from tests.samples import sample_instance

INT8 = replace(get_scheme("int8"), name="mine", options=())


def cell() -> Instance:
    known = {"heads": 12, "head_size": 64, "element_bytes": 4, "adapted_matrices": 2}
    return sample_instance(2, 0, modes=(4,), workload=known)


def own(given: Any, **fields: Any) -> Scheme:
    """A scheme whose cuts are ``given``."""
    return replace(INT8, cut=CutRule.OWN, own_cuts=lambda instance, options: given, **fields)


def cuts_of(scheme: Scheme) -> Sequence[int]:
    rows = {row.scheme: row for row in compare_cell(cell(), [scheme], baselines=False)}
    plan = rows["mine"].plan
    assert plan is not None
    return [part.blocks for part in plan.devices]


@pytest.mark.parametrize(
    "given", [[1, 2], (1, 2), iter([1, 2]), np.array([1, 2]), np.array([1.0, 2.0]), [1.0, 2]]
)
def test_cuts_of_ones_own(given: Any) -> None:
    assert cuts_of(own(given)) == [1, 2]


@pytest.mark.parametrize(
    "given",
    [
        [1], [1, 1, 1], [1, 13], [-1, 1], [1.5, 1], [float("nan"), 1], [float("inf"), 1],
        [None, 1], ["1", 1], np.ones((2, 2)), itertools.repeat(1),
    ],
)  # fmt: skip
def test_cuts_that_cannot_be(given: Any) -> None:
    with pytest.raises(InputError, match="own_cuts must give 2 whole numbers of 0 to 12 blocks"):
        compare_cell(cell(), [own(given)])


@pytest.mark.parametrize("failure", [ZeroDivisionError("x"), SystemExit(3), RecursionError("x")])
def test_a_function_that_fails(failure: BaseException) -> None:
    def fails(instance: Instance, options: Any) -> Sequence[int]:
        raise failure

    scheme = replace(INT8, cut=CutRule.OWN, own_cuts=fails)
    with pytest.raises(RefusedError, match=f"own_cuts failed: {type(failure).__name__}"):
        compare_cell(cell(), [scheme])
    with pytest.raises(RefusedError, match="own_cuts failed: TypeError"):
        compare_cell(cell(), [own(None)])


def test_cuts_of_ones_own_in_turns() -> None:
    turns = {"order": Order.SEQUENTIAL, "shares": ShareRule.WHOLE, "aggregation": None}
    assert cuts_of(own([3, 1], **turns)) == [3, 1]
    fixed = replace(get_scheme("sl"), name="mine", server_speed=SpeedRule.MOST)
    rows = {row.scheme: row for row in compare_cell(cell(), [fixed], baselines=False)}
    plan, server = rows["mine"].plan, cell().server
    assert plan is not None
    fastest = server.compute_max_flops_per_s or server.compute_flops_per_s
    assert [(one.blocks, one.server_flops_per_s) for one in plan.devices] == [(3, fastest)] * 2


def test_defaults_of_options_are_in_force() -> None:
    cut = SchemeOption("cut", "blocks", 2, 1, whole=True)
    assert cuts_of(replace(INT8, options=(cut,))) == [2, 2]
    tokens = replace(
        INT8, compression=CompressionRule.TOKENS, bits=6,
        options=(SchemeOption("kept_tokens", "kept", 30, 2, whole=True),),
    )  # fmt: skip
    rows = {row.scheme: row for row in compare_cell(cell(), [tokens], baselines=False)}
    plan = rows["mine"].plan
    assert plan is not None
    assert {(one.mode_name, one.bits) for one in plan.devices} == {("tokens31-6", 6)}


X = SchemeOption("x", "an option", 1, 0, 5, whole=True)
FAULTY: dict[str, dict[str, Any]] = {
    "a name is a word": {"name": "my scheme"},
    "a name is a word without": {"name": "a:b"},
    "order is 'parallel-ish'; it must be Order.PARALLEL": {"order": "parallel-ish"},
    "cut is 'free'; it must be": {"cut": "nosuch"},
    "ranks is 'all'; it must be RankRule.WORKLOAD": {"ranks": "all"},
    "aggregation is 'mean'; it must be Aggregation.AVERAGING": {"aggregation": "mean"},
    "summary is 3; it must be a str": {"summary": 3},
    "bits is 0; it must be a whole number of 1 to 32": {"bits": 0},
    "bits is 64": {"bits": 64},
    "bits is nan": {"bits": float("nan")},
    "bits is True": {"bits": True},
    "own_cuts is 3; it must be a function": {"cut": CutRule.OWN, "own_cuts": 3},
    "rule 'own' and own_cuts go together": {"cut": CutRule.OWN},
    "rule 'dense' needs bits": {"bits": None},
    "rule 'tokens' needs bits": {"compression": CompressionRule.TOKENS, "bits": None},
    "option 'x' is there twice": {"options": (X, X)},
    "option 'x': its default is 9": {"options": (replace(X, default=9),)},
    "option 'x': its default is 1.5": {"options": (replace(X, default=1.5),)},
    "options holds 'x'": {"options": ("x",)},
    "order 'federated', cut 'all'": {"order": Order.FEDERATED},
    "go together, with an option 'w'": {
        "cut": CutRule.COST, "server_speed": SpeedRule.COST, "order": Order.SEQUENTIAL,
        "shares": ShareRule.WHOLE,
    },
    "compression 'free' needs cut 'free'": {"compression": CompressionRule.FREE},
    "compression 'common' needs cut 'common'": {"compression": CompressionRule.COMMON},
    "cut 'by-speed' needs order": {
        "cut": CutRule.BY_SPEED, "order": Order.SEQUENTIAL, "shares": ShareRule.WHOLE,
    },
    "server speed 'most' needs order": {"server_speed": SpeedRule.MOST},
    "ranks 'by-speed' need a cut": {
        "cut": CutRule.COMMON, "shares": ShareRule.BEST, "ranks": RankRule.BY_SPEED,
    },
    "a solver needs cut 'free'": {"solver": "greedy"},
    "shares are 'best' or 'equal', not 'whole'": {"shares": ShareRule.WHOLE},
    "cut 'common' shares are 'best', not 'equal'": {"cut": CutRule.COMMON},
}  # fmt: skip
"""What is said -> the fields that are wrong."""


@pytest.mark.parametrize("said", FAULTY)
def test_a_faulty_scheme_is_refused_when_it_is_made(said: str) -> None:
    with pytest.raises(ValueError, match=r"^scheme '") as raised:
        replace(INT8, **FAULTY[said])
    assert said in str(raised.value).replace("'nosuch'", "'free'")
