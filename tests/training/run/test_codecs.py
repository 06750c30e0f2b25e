"""Which codec carries a planned mode."""

from __future__ import annotations

from typing import Any

import pytest

from sftopt.core.calibration import apply
from sftopt.core.calibration_file import OperatingPoint
from sftopt.core.codec_files import IN_MODEL
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.instance import Mode, ModeKind
from sftopt.training.bases import BASES_NAME
from sftopt.training.codec import (
    EcsqConfig,
    NoneConfig,
    QuantiseConfig,
    RandTopKConfig,
    RotatedConfig,
    TokensConfig,
    TopKConfig,
)
from sftopt.training.data import load_task
from sftopt.training.run.codecs import CodecOverride, codec_chooser, codec_of
from sftopt.training.shipped import shipped_model
from sftopt.training.split import DeviceSplit, LosslessCodec
from tests.calibration_samples import sample_calibration
from tests.samples import sample_instance

pytestmark = pytest.mark.train

INSTANCE = sample_instance(modes=(4, {"kind": "dense", "bits": 3}, {"kind": "none", "bits": 32}))


def device(**values: Any) -> DeviceSplit:
    return DeviceSplit.model_validate({"id": "a", "blocks": 1, "weight": 1.0, **values})


TOPK = device(mode=ModeKind.TOPK, bits=4, keep_fraction=0.2)
NONE = device(mode=ModeKind.NONE, bits=32)
LEVEL = {"target_bits": 1.5, "value_bits": 1.51, "side_bits_per_element": 0.05,
         "metric": [0.79] * 2, "loss": [0.01] * 2, "mean_loss": 0.01,
         "half_width": 0.001}  # fmt: skip


def test_without_a_calibration_modes_are_the_published_chain() -> None:
    choose = codec_chooser(INSTANCE)
    assert choose(TOPK) == TopKConfig(bits=4, keep=0.2)
    assert choose(device(mode=ModeKind.DENSE, bits=3)) == QuantiseConfig(bits=3)
    assert choose(NONE) == NoneConfig("float32")
    assert isinstance(codec_of(choose(NONE)), LosslessCodec)
    half = sample_instance(workload={"reference_bits": 16}, modes=({"kind": "none", "bits": 16},))
    assert codec_chooser(half)(device(mode=ModeKind.NONE, bits=16)) == NoneConfig("float16")
    assert not isinstance(codec_of(NoneConfig("float16")), LosslessCodec)


def test_bases_named_by_the_model_are_those_of_the_model_that_runs() -> None:
    model = shipped_model(load_task("digit-scenes"))
    assert model is not None
    mode = Mode(name="turned", kind=ModeKind.DENSE, bits=1, value_bits=1.0, loss=0.0)
    codec = {"codec": "rotated", "bits": 1.0, "bases": f"{IN_MODEL}{BASES_NAME}"}
    point = OperatingPoint(mode=mode, codec=codec, cuts=(1,), losses=())
    calibration = sample_calibration().model_copy(update={"points": (point,)})
    turned = device(mode=ModeKind.DENSE, bits=1, mode_name="turned")
    chosen = codec_chooser(INSTANCE, calibration, model=str(model))(turned)
    assert isinstance(chosen, RotatedConfig)
    assert chosen.bases == str(model / BASES_NAME)


def test_with_a_calibration_they_are_the_measured_ones() -> None:
    settings = {"ecsq_codec": {"codec": "ecsq", "dead_zone": 0.65, "scaling": 1.0}}
    calibration = sample_calibration(
        accuracy={"ecsq": [LEVEL], "settings": settings},
        codec={**sample_calibration().codec.model_dump(),
               "config": {"codec": "topk", "rate": "entropy", "centre": True}},
    )  # fmt: skip
    ((bits, _),) = calibration.accuracy_fit().ecsq_levels().items()
    given = sample_instance(modes=(4, {"kind": "dense", "bits": bits}), blocks=4)
    choose = codec_chooser(apply(given, calibration), calibration)
    assert choose(TOPK) == TopKConfig.from_dict(
        {"bits": 4, "keep": 0.2, "rate": "entropy", "centre": True}
    )
    assert choose(device(mode=ModeKind.DENSE, bits=bits)) == EcsqConfig(bits=1.5, dead_zone=0.65)
    foreign = codec_chooser(given, calibration)
    with pytest.raises(InputError, match="not one that calibration 'sample' measured"):
        foreign(device(mode=ModeKind.DENSE, bits=bits))


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


def test_modes_of_equal_kind_and_bits_are_told_apart_by_name() -> None:
    calibration = sample_calibration(accuracy={"ecsq": [LEVEL]})
    ((bits, level),) = calibration.accuracy_fit().ecsq_levels().items()
    plain = {"kind": "dense", "bits": bits}
    measured = {**plain, "name": "measured", "value_bits": level.value_bits}
    instance = sample_instance(2, 1, modes=(plain, measured))
    choose = codec_chooser(instance, calibration)
    chosen = choose(device(mode=ModeKind.DENSE, bits=bits, mode_name="measured"))
    assert isinstance(chosen, EcsqConfig)
    assert chosen.bits == level.target_bits
    with pytest.raises(InputError, match="unknown mode 'elsewhere'"):
        choose(device(mode=ModeKind.DENSE, bits=bits, mode_name="elsewhere"))
    with pytest.raises(InputError, match="unknown mode 'tokens8'"):
        choose(device(mode=ModeKind.TOKENS, bits=8))


def test_modes_that_a_scheme_brings_along_need_no_calibration() -> None:
    calibration = sample_calibration(accuracy={"ecsq": [LEVEL]})
    tokens = {"kind": "tokens", "bits": 8, "tokens": 41}
    choose = codec_chooser(sample_instance(2, 1, modes=({"kind": "dense", "bits": 8}, tokens)),
                           calibration, scheme="int8")  # fmt: skip
    assert choose(device(mode=ModeKind.DENSE, bits=8)) == QuantiseConfig(bits=8)
    assert choose(device(mode=ModeKind.TOKENS, bits=8)) == TokensConfig(tokens=40, bits=8)
