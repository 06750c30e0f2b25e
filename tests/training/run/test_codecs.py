"""Which codec carries a planned mode."""

from __future__ import annotations

from typing import Any

import pytest

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.instance import ModeKind
from sftopt.training.codec import (
    EcsqConfig,
    NoneConfig,
    QuantiseConfig,
    RandTopKConfig,
    TopKConfig,
)
from sftopt.training.run.codecs import CodecOverride, codec_chooser, codec_of
from sftopt.training.split import DeviceSplit, LosslessCodec
from tests.samples import sample_instance

pytestmark = pytest.mark.train

INSTANCE = sample_instance(modes=(4, {"kind": "dense", "bits": 3}, {"kind": "none", "bits": 32}))


def device(**values: Any) -> DeviceSplit:
    return DeviceSplit.model_validate({"id": "a", "blocks": 1, "weight": 1.0, **values})


TOPK = device(mode=ModeKind.TOPK, bits=4, keep_fraction=0.2)
NONE = device(mode=ModeKind.NONE, bits=32)


def test_without_a_calibration_modes_are_the_published_chain() -> None:
    choose = codec_chooser(INSTANCE)
    assert choose(TOPK) == TopKConfig(bits=4, keep=0.2)
    assert choose(device(mode=ModeKind.DENSE, bits=3)) == QuantiseConfig(bits=3)
    assert choose(NONE) == NoneConfig("float32")
    assert isinstance(codec_of(choose(NONE)), LosslessCodec)
    half = sample_instance(workload={"reference_bits": 16}, modes=({"kind": "none", "bits": 16},))
    assert codec_chooser(half)(device(mode=ModeKind.NONE, bits=16)) == NoneConfig("float16")
    assert not isinstance(codec_of(NoneConfig("float16")), LosslessCodec)


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("none", TOPK, NoneConfig()),
        ("none:precision=float16", TOPK, NoneConfig("float16")),
        ("topk:rate=entropy,centre=true", TOPK,
         TopKConfig.from_dict({"bits": 4, "keep": 0.2, "rate": "entropy", "centre": True})),
        ("rand-topk:outside=0.1", TOPK, RandTopKConfig(bits=4, keep=0.2, outside=0.1)),
        ("topk:bits=2,keep=0.5", NONE, TopKConfig(bits=2, keep=0.5)),
        ("ecsq:bits=2.4,dead_zone=0.7", NONE, EcsqConfig(bits=2.4, dead_zone=0.7)),
        ("ecsq:step=0.5", TOPK, EcsqConfig(step=0.5)),
        ("quantise:bits=3", TOPK, QuantiseConfig(bits=3)),
    ],
)  # fmt: skip
def test_an_override_rules_and_leaves_the_rest_to_the_plan(
    text: str, given: DeviceSplit, expected: object
) -> None:
    assert codec_chooser(INSTANCE, override=CodecOverride.parse(text))(given) == expected


@pytest.mark.parametrize(
    ("text", "given", "words"),
    [
        ("zip", TOPK, "unknown codec 'zip'"),
        ("tokens", TOPK, "unknown codec 'tokens'"),
        ("topk:keep", TOPK, "give it as NAME=VALUE"),
        ("topk:depth=3", TOPK, "unknown option of codec 'topk' 'depth'"),
        ("topk:keep=7", TOPK, "keep = 7"),
        ("ecsq", TOPK, "does not give bits; say for instance ecsq:bits="),
        ("topk:bits=4", NONE, "does not give keep"),
    ],
)
def test_an_override_that_cannot_be_is_refused(text: str, given: DeviceSplit, words: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=words):
        codec_chooser(INSTANCE, override=CodecOverride.parse(text))(given)
