"""Codec rest: padding stays off the wire, the last visit is not sent again, both ends agree."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.codec import (
    CodecError,
    EcsqConfig,
    Known,
    QuantiseConfig,
    Rest,
    RestConfig,
    TopKConfig,
    codec_from,
)
from sftopt.training.codec.rest import told_of_cut

SHAPE = (4, 10, 16)
MASK = (torch.arange(10)[None, :] < torch.tensor([10, 3, 7, 2])[:, None]).long()
NUMBERS = torch.tensor([5, 0, 9, 2])


def rest_of(**options: object) -> Rest:
    codec = codec_from({"codec": "rest", "inner": "ecsq", "bits": 3.0, **options})
    assert isinstance(codec, Rest)
    return codec


def tensor_of(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).square().mean())


@pytest.mark.parametrize("inner", ["ecsq", "topk"])
def test_padding_is_zero_at_the_server_and_its_gradient_is_zero(inner: str) -> None:
    bits = 3.0 if inner == "ecsq" else 4
    codec, known = rest_of(inner=inner, bits=bits), Known(None, MASK)
    tensor = tensor_of(0)
    sent = codec.compress(tensor, known=known)
    received = codec.expand(sent.payload, known=known)
    counts = MASK.bool()
    assert received.tensor.shape == SHAPE
    assert not received.tensor[~counts].any()
    changed = tensor.clone()
    changed[~counts] = 1e6  # what is not sent does not matter
    assert codec.compress(changed, known=known).payload == sent.payload
    back = codec.compress_gradient(tensor_of(1), received.support, seed=2).payload
    gradient = codec.decode_gradient(back, sent.support)
    assert gradient.shape == SHAPE
    assert not gradient[~counts].any()
    assert gradient[counts].any()


def test_the_bits_of_padding_go_to_what_counts() -> None:
    """The budget is of the whole tensor: at equal bytes the error is far lower."""
    tensor = torch.randn(8, 64, 48, generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(64)[None, :] < 26).long().expand(8, 64)
    plain = codec_from(EcsqConfig(bits=1.5))
    codec, known = rest_of(bits=1.5), Known(None, mask)
    counts = mask.bool()
    sizes, errors = [], []
    for payload, received in (
        (plain.encode(tensor), None), (codec.compress(tensor, known=known).payload, known)
    ):  # fmt: skip
        found = plain.expand(payload) if received is None else codec.expand(payload, known=received)
        sizes.append(len(payload))
        errors.append(error(found.tensor[counts], tensor[counts]))
    assert sizes[1] < 1.05 * sizes[0]
    assert errors[1] < 0.2 * errors[0]


def visits(codec: Rest, server: Rest, tensor: torch.Tensor) -> tuple[int, torch.Tensor]:
    """One step: bytes sent and what the server sees."""
    known = Known(NUMBERS)
    sent = codec.compress(tensor, known=known)
    received = server.expand(sent.payload, known=known).tensor
    for end in (codec, server):
        end.visits.commit()
    return len(sent.payload), received


def test_every_visit_of_a_still_sample_halves_what_is_left() -> None:
    codec, server = rest_of(memory=True, bits=2.0), rest_of(memory=True, bits=2.0)
    tensor = tensor_of(4)
    errors = [error(visits(codec, server, tensor)[1], tensor) for _ in range(4)]
    assert all(later < 0.3 * earlier for earlier, later in itertools.pairwise(errors))
    ours, theirs = codec.visits.state(), server.visits.state()
    assert ours["samples"].tolist() == sorted(NUMBERS.tolist())
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert codec.visits.size_bytes == 2 * tensor.numel()


def test_a_step_that_failed_leaves_no_trace_and_first_visits_have_their_own_bits() -> None:
    codec = rest_of(memory=True, bits=1.0, first_bits=4.0)
    tensor, known = tensor_of(5), Known(NUMBERS)
    first = codec.compress(tensor, known=known).payload
    codec.visits.discard()
    assert codec.compress(tensor, known=known).payload == first
    codec.visits.commit()
    later = codec.compress(tensor, known=known).payload
    assert len(later) < 0.6 * len(first)
    other = Known(torch.tensor([70, 71, 72, 73]))
    assert codec.compress(tensor, known=other).payload == first
    assert codec.compress(tensor).payload == first  # held out: no number, no memory


def test_state_goes_to_disk_and_back(tmp_path: Path) -> None:
    codec, server = rest_of(memory=True, bits=2.0), rest_of(memory=True, bits=2.0)
    visits(codec, server, tensor_of(6))
    save_file(codec.visits.state(), tmp_path / "memory.safetensors")
    again = rest_of(memory=True, bits=2.0)
    again.visits.restore(codec.visits.state())
    known = Known(NUMBERS)
    assert (
        again.compress(tensor_of(7), known=known).payload
        == codec.compress(tensor_of(7), known=known).payload
    )
    with pytest.raises(CodecError, match="damaged"):
        again.visits.restore({"samples": torch.arange(3)})
    wrong = Known(torch.tensor([5, 5, 5, 5]))
    with pytest.raises(CodecError, match="last visit"):
        codec.compress(torch.randn(4, 3, 16), known=wrong)


def test_the_configuration_is_flat_and_comes_back() -> None:
    data = {"codec": "rest", "inner": "topk", "keep": 0.2, "bits": 4, "gradient_bits": 8,
            "first_keep": 0.4, "memory": True}  # fmt: skip
    config = codec_from(data).config
    assert config.inner == TopKConfig(keep=0.2, bits=4)
    assert config.first == TopKConfig(keep=0.4, bits=4)
    assert config.gradient == TopKConfig(keep=0.2, bits=8)
    assert RestConfig.from_dict(config.to_dict()) == config
    assert hash(config) == hash(RestConfig.from_dict(config.to_dict()))
    assert told_of_cut(config, 3) == config  # nothing inside has a cut


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"inner": "rest"}, "codec inside"),
        ({"inner": "ecsq", "bits": 2.0, "memory": 3}, "memory = 3"),
        ({"inner": "topk", "keeep": 0.2}, "keep"),
        ({"inner": "tokens", "tokens": 3}, "cannot be inside"),
    ],
)
def test_wrong_options_are_named(data: dict[str, object], message: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=message):
        RestConfig.from_dict(data)


def test_what_does_not_fit_is_refused() -> None:
    codec = rest_of()
    payload = codec.compress(tensor_of(8), known=Known(None, MASK)).payload
    with pytest.raises(CodecError, match="tokens count"):
        codec.expand(payload, known=Known(None, MASK.roll(1, 1)[:, :9]))
    with pytest.raises(CodecError, match="mask"):
        codec.compress(tensor_of(8), known=Known(None, MASK[:2]))
    with pytest.raises(CodecError, match="not of a payload"):
        codec.compress_gradient(
            tensor_of(8), codec_from(QuantiseConfig()).compress(tensor_of(8)).support
        )
    with pytest.raises(CodecError, match="scores"):
        codec.compress(tensor_of(8), scores=torch.ones(4, 10))
