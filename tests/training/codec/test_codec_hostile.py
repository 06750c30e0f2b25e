"""Corrupt, truncated and forged payloads: one named error, nothing large allocated, no crash."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sftopt.core.errors import SftoptError
from sftopt.training.codec import (
    CodecConfig,
    CodecError,
    EcsqConfig,
    NoneConfig,
    QuantiseConfig,
    RandTopKConfig,
    Support,
    TokensConfig,
    TopKConfig,
    codec_from,
    decode,
)
from tests.training.codec.activations import heavy_tailed

CONFIGS: tuple[CodecConfig, ...] = (
    NoneConfig(precision="float16"),
    QuantiseConfig(bits=4),
    QuantiseConfig(bits=8, group=7),
    TopKConfig(keep=0.2, bits=4),
    TopKConfig(keep=0.2, bits=8, rate="entropy", centre=True),
    RandTopKConfig(keep=0.3, bits=2),
    TokensConfig(tokens=3, bits=4),
    EcsqConfig(bits=2.0),
    EcsqConfig(step=0.2, scaling=0.0),
)
CHECKSUM_AT = 9
BODY_AT = CHECKSUM_AT + 4
FUZZ = settings(max_examples=150, deadline=None, derandomize=True)


CHANNELS = torch.logspace(-2, 2, 16)  # uneven enough for channel classes


def _payload(config: CodecConfig) -> bytes:
    tensor = heavy_tailed(1, (2, 64, 16)) * CHANNELS
    scores = torch.ones(2, 64) if isinstance(config, TokensConfig) else None
    return codec_from(config).encode(tensor, seed=1, scores=scores)


def _gradient_payload(config: CodecConfig) -> tuple[bytes, Support]:
    tensor = heavy_tailed(1, (2, 64, 16)) * CHANNELS
    scores = torch.ones(2, 64) if isinstance(config, TokensConfig) else None
    codec = codec_from(config)
    sent = codec.compress(tensor, seed=1, scores=scores)
    received = codec.expand(sent.payload)
    return codec.encode_gradient(received.tensor, received.support), sent.support


PAYLOADS = [_payload(config) for config in CONFIGS]
GRADIENTS = [_gradient_payload(config) for config in CONFIGS]


def resealed(payload: bytes) -> bytes:
    """With a checksum that fits: what a hostile sender writes."""
    rest = zlib.crc32(payload[BODY_AT:], zlib.crc32(payload[:CHECKSUM_AT]))
    return payload[:CHECKSUM_AT] + struct.pack("<I", rest) + payload[BODY_AT:]


def decodes_or_names_the_fault(payload: bytes) -> None:
    with suppress(CodecError):
        assert bool(torch.isfinite(decode(payload).tensor).all())


@FUZZ
@given(which=st.integers(0, len(CONFIGS) - 1), data=st.data())
def test_any_flipped_bit_is_noticed(which: int, data: st.DataObject) -> None:
    payload = bytearray(PAYLOADS[which])
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    payload[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CodecError):
        decode(bytes(payload))


@FUZZ
@given(which=st.integers(0, len(CONFIGS) - 1), data=st.data())
def test_any_truncation_is_noticed(which: int, data: st.DataObject) -> None:
    payload = PAYLOADS[which]
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
    with pytest.raises(CodecError):
        decode(cut)
    with pytest.raises(CodecError):
        decode(payload + cut[:3] + b"x")


@FUZZ
@given(noise=st.binary(max_size=200))
def test_random_bytes(noise: bytes) -> None:
    with pytest.raises(CodecError):
        decode(noise)
    with pytest.raises(CodecError):
        decode(b"SFTC\x01" + noise)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(which=st.integers(0, len(CONFIGS) - 1), data=st.data())
def test_forged_bytes_with_a_right_checksum(which: int, data: st.DataObject) -> None:
    payload = bytearray(PAYLOADS[which])
    # most fields sit in front, so most changes go there
    front = st.integers(0, min(len(payload), 160) - 1)
    anywhere = st.integers(0, len(payload) - 1)
    for at in data.draw(st.lists(front | anywhere, min_size=1, max_size=4)):
        payload[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 8))
    decodes_or_names_the_fault(resealed(bytes(payload[: len(payload) - cut])))


@FUZZ
@given(which=st.integers(0, len(CONFIGS) - 1), body=st.binary(max_size=120))
def test_forged_bodies_with_a_right_checksum(which: int, body: bytes) -> None:
    head = PAYLOADS[which][: BODY_AT + 12]
    decodes_or_names_the_fault(resealed(head + body))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(which=st.integers(0, len(CONFIGS) - 1), data=st.data())
def test_forged_gradients(which: int, data: st.DataObject) -> None:
    payload, support = GRADIENTS[which]
    forged = bytearray(payload)
    for at in data.draw(st.lists(st.integers(0, len(payload) - 1), min_size=1, max_size=4)):
        forged[at] = data.draw(st.integers(0, 255))
    codec = codec_from(CONFIGS[which])
    try:
        gradient = codec.decode_gradient(resealed(bytes(forged)), support)
    except CodecError:
        return
    assert gradient.shape == (2, 64, 16)
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("which", range(len(CONFIGS)), ids=lambda at: CONFIGS[at].codec)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(shape=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8))
def test_lies_about_the_shape_allocate_nothing(which: int, shape: list[int]) -> None:
    payload = PAYLOADS[which]
    fixed = payload[: CHECKSUM_AT - 1] + bytes([len(shape)])
    dimensions = struct.pack(f"<{len(shape)}I", *shape)
    forged = resealed(fixed + bytes(4) + dimensions + payload[BODY_AT + 12 :])
    tracemalloc.start()
    try:
        with suppress(CodecError):
            decode(forged, max_elements=2048)  # a receiver knows what it waits for
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2048


def test_a_small_payload_cannot_claim_a_large_tensor() -> None:
    # even where the receiver sets no limit
    payload = codec_from(TopKConfig(keep=0.5)).encode(torch.ones(4, 4, 4))
    for side in (2**10, 2**15, 2**31):
        forged = payload[:BODY_AT] + struct.pack("<3I", 4, side, side) + payload[BODY_AT + 12 :]
        with pytest.raises(CodecError, match=r"elements in|elements; 1 to"):
            decode(resealed(forged))
    with pytest.raises(CodecError, match="1 to 63"):
        decode(payload, max_elements=63)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, ord("X"), "begins with"),
        (4, 2, "version 2"),
        (5, 99, "codec 99"),
        (6, 7, "dtype 7"),
        (7, 5, "direction 5"),
        (8, 0, "0 dimensions"),
        (8, 9, "9 dimensions"),
    ],
)
def test_header_faults_are_named(at: int, value: int, message: str) -> None:
    payload = bytearray(PAYLOADS[3])
    payload[at] = value
    with pytest.raises(CodecError, match=message):
        decode(resealed(bytes(payload)))


def test_the_error_is_one_of_ours() -> None:
    assert issubclass(CodecError, SftoptError)


def test_gradient_of_another_forward_payload_is_refused() -> None:
    codec = codec_from(TopKConfig(keep=0.2))
    first = codec.compress(heavy_tailed(1, (2, 64, 16)))
    fewer = codec_from(TopKConfig(keep=0.01)).compress(heavy_tailed(2, (2, 64, 16)))
    gradient = codec.encode_gradient(torch.ones(2, 64, 16), first.support)
    with pytest.raises(CodecError, match="groups"):
        codec.decode_gradient(gradient, fewer.support)
