"""Side messages: what goes in comes out, in the size that the model counts, and nothing more."""

from __future__ import annotations

import math

import pytest
import torch

from sftopt.training.split import MessageKind, WireError
from sftopt.training.split.side import pack_side, unpack_side
from tests.training.split.tiny_models import (
    BATCH,
    CLASSES,
    TOKENS,
    VOCABULARY,
    split_of,
    tiny_batch,
)

pytestmark = pytest.mark.train

MOST_HEAD_BYTES = 9
"""Name, form, type, shape and width of one tensor of two short sides."""


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def drawn(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(high))


@pytest.mark.parametrize(
    "value",
    [torch.tensor([3, 0, 4]), torch.tensor([True, False]), torch.tensor(7), torch.zeros(0, 5),
     torch.tensor([[-100, -100], [-100, -100]]), torch.tensor([-3, 900, 70_000]),
     torch.tensor([2**40, 1]), torch.tensor([0.25, -1.0], dtype=torch.bfloat16),
     drawn(70_000, 3, 5).to(torch.int32), torch.ones(2, 1, 3, 3, dtype=torch.uint8),
     torch.tensor([[0, 1, 1], [1, 0, 1]]), torch.tensor([[1, 1, 0], [0, 0, 0]])],
)  # fmt: skip
@pytest.mark.parametrize("name", ["labels", "attention_mask", "some_other_key"])
def test_every_tensor_comes_back_as_it_was(name: str, value: torch.Tensor) -> None:
    given = {name: value, "position_ids": torch.arange(6).reshape(2, 3)}
    assert same(unpack_side(pack_side(given, 5)), given)


@pytest.mark.parametrize(
    ("labels", "classes", "bits"),
    [(drawn(10, 64), 10, 64 * 4), (drawn(100, 64), 100, 64 * 7), (drawn(256, 4, 128), 256, 4096),
     (drawn(2, 4, 128), 256, 4096),  # the size does not depend on what is in the batch
     (drawn(50_257, 2, 64), 50_257, 128 * 16), (drawn(150_000, 2, 64), 151_936, 128 * 18),
     (drawn(300, 8), 10, 8 * 9)],  # beyond the classes: as many bits as they need
)  # fmt: skip
def test_labels_take_the_bits_of_their_classes(
    labels: torch.Tensor, classes: int, bits: int
) -> None:
    sent = len(pack_side({"labels": labels}, classes))
    assert 0 <= sent - bits // 8 <= 1 + MOST_HEAD_BYTES


def test_only_labels_that_count_are_sent() -> None:
    labels = torch.full((4, 128), -100)
    labels[:, 100:] = drawn(50_000, 4, 28)
    sent = pack_side({"labels": labels}, 50_257)
    assert len(sent) <= 4 * 128 / 8 + 4 * 28 * 2 + 1 + MOST_HEAD_BYTES + 1
    assert torch.equal(unpack_side(sent)["labels"], labels)


def test_masks_cost_their_lengths_and_masks_of_ones_nothing_per_sample() -> None:
    ones = {"attention_mask": torch.ones(16, 128, dtype=torch.int64)}
    assert len(pack_side(ones)) <= 1 + MOST_HEAD_BYTES
    padded = {"attention_mask": (torch.arange(128)[None] < drawn(129, 16, 1)).long()}
    assert len(pack_side(padded)) <= math.ceil(16 * 8 / 8) + 1 + MOST_HEAD_BYTES
    holes = {"attention_mask": drawn(2, 16, 128)}
    assert len(pack_side(holes)) <= 16 * 128 // 8 + 1 + MOST_HEAD_BYTES
    for given in (ones, padded, holes):
        assert same(unpack_side(pack_side(given)), given)


def test_damaged_messages_are_refused_and_fill_no_memory() -> None:
    whole = pack_side({"labels": drawn(9, 4, 8), "mask": torch.ones(3, 3)}, 9)
    for length in range(len(whole)):
        with pytest.raises(WireError):
            unpack_side(whole[:length])
    with pytest.raises(WireError, match="2 bytes too many"):
        unpack_side(whole + b"xx")
    huge = bytes([1, 2, 0, 5, 2, *[0xFF, 0xFF, 0xFF, 0xFF, 0x0F] * 2, 1])
    with pytest.raises(WireError):
        unpack_side(huge)
    for place in range(len(whole)):
        for value in (0, 1, 127, 255):
            damaged = bytearray(whole)
            damaged[place] = value
            try:
                unpack_side(bytes(damaged))
            except WireError:
                continue


def test_bytes_that_are_reported_are_those_of_the_messages() -> None:
    """A recorder on the channel: what is counted is what was sent, kind by kind."""
    split = split_of("bert", {"a": 1, "b": 3})
    before = {name: sum(c.traffic.to_dict().values()) for name, c in split.channels.items()}
    sent: list[tuple[str, str, int]] = []
    for name, channel in split.channels.items():
        for end in (channel.device, channel.server):

            def record(
                kind: MessageKind, payload: bytes, name: str = name, original: object = end.send
            ) -> None:
                sent.append((name, kind.value, len(payload)))
                original(kind, payload)  # type: ignore[operator]

            end.send = record  # type: ignore[method-assign]
    batches = {"a": tiny_batch("bert"), "b": tiny_batch("bert", 1)}
    report = split.train_step(batches)
    split.average()

    def of(name: str, kind: str) -> int:
        return sum(size for who, what, size in sent if (who, what) == (name, kind))

    for name in ("a", "b"):
        assert report.uplink_bytes[name] == of(name, "boundary")
        assert report.side_bytes[name] == of(name, "side") > 0
        assert report.downlink_bytes[name] == of(name, "gradient")
        moved = sum(split.channels[name].traffic.to_dict().values()) - before[name]
        assert moved == sum(size for who, _, size in sent if who == name)
        # 5 classes in 3 bits, the lengths of 9 tokens in 4
        counted = math.ceil(BATCH * math.ceil(math.log2(CLASSES)) / 8) + math.ceil(BATCH * 4 / 8)
        assert 0 <= report.side_bytes[name] - counted <= 1 + 2 * MOST_HEAD_BYTES
    assert (TOKENS, VOCABULARY) == (9, 37), "the sizes counted here"
