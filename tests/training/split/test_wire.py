"""What crosses between the parts: bytes only, counted; codecs, processes, faults between them."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch

from sftopt.core.errors import ExitCode, InputError
from sftopt.training.codec import TokensConfig, TokenSelection, TopK, TopKConfig, codec_from
from sftopt.training.split import (
    Direction,
    DivergedError,
    LosslessCodec,
    MemoryChannel,
    MessageKind,
    Phase,
    SplitConfig,
    SplitModel,
    WireError,
)
from sftopt.training.split.boundary import pack, unpack
from sftopt.training.split.side import pack_side, unpack_side
from tests.training.split.tiny_models import BLOCKS, gradients, split_of, tiny_batch, tiny_model

pytestmark = pytest.mark.train


def test_lossless_payloads_are_exact_and_bad_ones_named() -> None:
    codec = LosslessCodec()
    for dtype in (torch.float32, torch.bfloat16):
        tensor = torch.randn(2, 5, 8).to(dtype)
        sent = codec.compress(tensor, seed=0)
        assert torch.equal(codec.expand(sent.payload).tensor, tensor)
        back = codec.compress_gradient(tensor, None, seed=0)
        assert torch.equal(codec.decode_gradient(back.payload, None), tensor)
        assert len(sent.payload) - tensor.numel() * tensor.element_size() < 100
    with pytest.raises(WireError, match="out of step"):
        codec.expand(back.payload)
    for length in (0, 3, 8, 40, len(sent.payload) - 1):
        with pytest.raises(WireError):
            codec.expand(sent.payload[:length])


def test_a_channel_carries_bytes_in_order_and_counts_them() -> None:
    channel = MemoryChannel()
    channel.device.send(MessageKind.BOUNDARY, b"abc")
    channel.device.send(MessageKind.SIDE, b"de")
    assert channel.server.receive(MessageKind.BOUNDARY) == b"abc"
    with pytest.raises(WireError, match="expected a gradient message, but got side"):
        channel.server.receive(MessageKind.GRADIENT)
    with pytest.raises(WireError, match="none has arrived"):
        channel.device.receive(MessageKind.GRADIENT)
    with pytest.raises(TypeError, match="carries bytes, not Tensor"):
        channel.device.send(MessageKind.SIDE, torch.ones(2))  # type: ignore[arg-type]
    assert channel.traffic.of(Direction.UPLINK) == 5
    assert channel.traffic.of(Direction.UPLINK, MessageKind.SIDE) == 2
    assert channel.traffic.to_dict() == {"uplink_boundary_bytes": 3, "uplink_side_bytes": 2}


def test_a_step_reports_the_bytes_of_the_boundary() -> None:
    split = split_of("gpt2", {"a": 1, "b": 3})
    report = split.train_step({"a": tiny_batch("gpt2"), "b": tiny_batch("gpt2", 1)})
    elements = 3 * 9 * 16
    for counts in (report.uplink_bytes, report.downlink_bytes):
        assert set(counts) == {"a", "b"}
        assert all(4 * elements < count < 4 * elements + 100 for count in counts.values())


def test_the_tokens_never_leave_a_classifying_device() -> None:
    split = split_of("bert", 2)
    sent: list[tuple[MessageKind, bytes]] = []
    channel = split.channels["device-0"]
    original = channel.device.send
    channel.device.send = lambda kind, payload: (  # type: ignore[method-assign]
        sent.append((kind, payload)), original(kind, payload))[1]  # fmt: skip
    split.train_step({"device-0": tiny_batch("bert")})
    assert [kind for kind, _ in sent] == [MessageKind.BOUNDARY, MessageKind.SIDE]
    assert set(unpack_side(sent[1][1])) == {"attention_mask", "labels"}


class WatchedTopK:
    """The package's Top-K, which notes the gradient that reaches the device."""

    def __init__(self) -> None:
        self.inner = TopK(TopKConfig(keep=0.3, bits=4))
        self.device_gradient: torch.Tensor | None = None

    def compress(self, tensor: torch.Tensor, *, seed: int) -> Any:
        return self.inner.compress(tensor, seed=seed)

    def expand(self, payload: bytes) -> Any:
        return self.inner.expand(payload)

    def compress_gradient(self, gradient: torch.Tensor, support: Any, *, seed: int) -> Any:
        return self.inner.compress_gradient(gradient, support, seed=seed)

    def decode_gradient(self, payload: bytes, support: Any) -> torch.Tensor:
        self.device_gradient = self.inner.decode_gradient(payload, support)
        return self.device_gradient


def test_a_real_codec_plugs_in_and_dropped_positions_get_no_gradient() -> None:
    ends: list[WatchedTopK] = []

    def factory(device: Any) -> WatchedTopK:
        ends.append(WatchedTopK())
        return ends[-1]

    split = SplitModel(tiny_model("llama"), SplitConfig.of(2), codecs=factory)
    report = split.train_step({"device-0": tiny_batch("llama")})
    raw = 4 * 3 * 9 * 16
    assert 0 < report.uplink_bytes["device-0"] < raw / 2
    assert 0 < report.downlink_bytes["device-0"] < report.uplink_bytes["device-0"]
    gradient = next(end.device_gradient for end in ends if end.device_gradient is not None)
    assert gradient.shape == (3, 9, 16)
    kept = round(0.3 * gradient.numel())
    assert 0 < int((gradient != 0).sum()) <= kept + 1


def test_any_codec_of_the_package_by_its_plain_data() -> None:
    data = {"codec": "quantise", "bits": 8}
    split = SplitModel(tiny_model("vit"), SplitConfig.of(2), codecs=lambda _: codec_from(data))
    first = split.train_step({"device-0": tiny_batch("vit")}).losses["device-0"]
    off = SplitModel(tiny_model("vit"), SplitConfig.of(2))
    assert first == pytest.approx(off.evaluate("device-0", tiny_batch("vit")).loss, rel=0.02)


class ByNorm:
    """Token selection by the size of a token: the server sees fewer tokens than there are."""

    def __init__(self) -> None:
        self.inner = TokenSelection(TokensConfig(tokens=4, bits=8))

    def compress(self, tensor: torch.Tensor, *, seed: int) -> Any:
        return self.inner.compress(tensor, seed=seed, scores=tensor.norm(dim=-1))

    def expand(self, payload: bytes) -> Any:
        return self.inner.expand(payload)

    def compress_gradient(self, gradient: torch.Tensor, support: Any, *, seed: int) -> Any:
        return self.inner.compress_gradient(gradient, support, seed=seed)

    def decode_gradient(self, payload: bytes, support: Any) -> torch.Tensor:
        return self.inner.decode_gradient(payload, support)


def test_the_server_may_see_fewer_tokens_of_an_image() -> None:
    split = SplitModel(tiny_model("vit"), SplitConfig.of(2), codecs=lambda _: ByNorm())
    seen: list[torch.Size] = []
    split.stack.blocks(split.server.model)[3].register_forward_hook(
        lambda _, args, output: seen.append(args[0].shape)
    )
    split.train_step({"device-0": tiny_batch("vit")})
    assert seen == [(3, 5, 16)], "four tokens and a merged one, of ten"
    moved = split.devices["device-0"].adapters(range(2))
    assert all(v.abs().max() > 0 for name, v in moved.items() if name.endswith("lora_B"))


def test_the_modes_of_a_plan_become_codecs() -> None:
    modes = [("none", 32, 1.0), ("none", 16, 1.0), ("dense", 4, 1.0), ("topk", 4, 0.1)]
    devices = [
        {"id": f"{mode}{bits}", "blocks": 2, "weight": 0.25, "mode": mode, "bits": bits,
         "keep_fraction": keep} for mode, bits, keep in modes
    ]  # fmt: skip
    split = SplitModel(tiny_model("gpt2"), SplitConfig.from_dict({"devices": devices}))
    batch = tiny_batch("gpt2")
    report = split.train_step(dict.fromkeys(split.devices, batch))
    sizes = list(report.uplink_bytes.values())
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1.9 * sizes[1] > 3.0 * sizes[2]
    assert len(set(report.losses.values())) == 4, "each saw the boundary in its own way"
    devices[3]["bits"] = 40
    with pytest.raises(InputError, match="bits = 40"):
        SplitModel(tiny_model("gpt2"), SplitConfig.from_dict({"devices": devices}))


def test_a_step_says_where_its_time_went() -> None:
    split = split_of("gpt2", {"a": 0, "b": 2})
    report = split.train_step({"a": tiny_batch("gpt2"), "b": tiny_batch("gpt2")})
    every = set(Phase)
    assert set(report.times["b"].cpu_s) == every
    assert set(report.times["a"].cpu_s) == every - {Phase.DEVICE_BACKWARD, Phase.UPDATE}
    assert set(report.server_update.wall_s) == {Phase.UPDATE}
    assert all(seconds >= 0 for seconds in report.times["b"].wall_s.values())
    assert report.times["b"].cpu_s[Phase.SERVER_COMPUTE] > 0


def everything(split: SplitModel) -> list[torch.Tensor]:
    return [p.detach().clone() for part in split.parts for p in part.model.parameters()]


def test_a_loss_that_is_not_finite_changes_nothing_and_the_step_can_be_repeated() -> None:
    split, clean = (split_of("vit", {"a": 1, "b": 3}) for _ in range(2))
    good = {"a": tiny_batch("vit"), "b": tiny_batch("vit", 1)}
    bad = {**good["b"], "pixel_values": torch.full((3, 1, 12, 12), torch.nan)}
    before = everything(split)
    with pytest.raises(
        DivergedError, match=r"device b: the activation .* not finite.*no parameter"
    ) as caught:
        split.train_step({"a": good["a"], "b": bad})
    assert caught.value.exit_code is ExitCode.NO_POINT
    assert all(torch.equal(x, y) for x, y in zip(before, everything(split), strict=True))
    assert not any(gradients(part.model) for part in split.parts)
    split.train_step(good)
    clean.train_step(good)
    for x, y in zip(everything(split), everything(clean), strict=True):
        assert torch.equal(x, y), "the failed step left something behind"


def test_a_step_after_a_stray_message_is_clean() -> None:
    split, clean = (split_of("gpt2", 2) for _ in range(2))
    batches = {"device-0": tiny_batch("gpt2")}
    split.channels["device-0"].server.send(MessageKind.ADAPTERS, b"stray")
    with pytest.raises(WireError, match="expected a gradient message, but got adapters"):
        split.train_step({"device-0": tiny_batch("gpt2", 1)})
    split.train_step(batches)
    clean.train_step(batches)
    for x, y in zip(everything(split), everything(clean), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("bad", "words"), [(torch.nan, "the loss is nan"), (3e38, "loss|gradient")]
)
def test_a_server_that_diverges_says_so(bad: float, words: str) -> None:
    split = split_of("vit", 2)
    head = next(p for n, p in split.server.trainable().items() if "classifier" in n and p.ndim == 2)
    with torch.no_grad():
        head.fill_(bad)
        head[0] *= -1
        head[:, ::2] *= -1  # normalised features sum to 0: rows of one value would meet noise alone
    before = everything(split)
    with pytest.raises(DivergedError, match=words):
        split.train_step({"device-0": tiny_batch("vit")})
    for x, y in zip(before, everything(split), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


def test_bytes_that_are_corrupt_or_out_of_step_are_refused() -> None:
    split = split_of("gpt2", 2)
    server, device = split.server, split.devices["device-0"]
    upload = device.forward(tiny_batch("gpt2"), seed=0)
    with pytest.raises(WireError):
        server.serve("device-0", upload.boundary[:-4], upload.side, 1.0, 0)
    narrow = pack({"activation": torch.zeros(3, 9, 15)})
    with pytest.raises(WireError, match=r"\(batch, tokens, 16\) is needed"):
        server.serve("device-0", narrow, upload.side, 1.0, 0)
    with pytest.raises(InputError, match="no 'labels'"):
        server.serve("device-0", upload.boundary, pack_side({}), 1.0, 0)
    with pytest.raises(WireError, match="is not the activation's"):
        device.backward(pack({"gradient": torch.zeros(3, 9, 8)}))
    served = server.serve("device-0", upload.boundary, upload.side, 1.0, 0)
    device.backward(served.gradient)
    with pytest.raises(WireError, match="no forward pass waits"):
        device.backward(served.gradient)
    with pytest.raises(InputError, match="needs 'input_ids'"):
        device.forward({"labels": torch.zeros(2)}, seed=0)


def serve_one(pipe: Connection) -> None:
    """Another process: the server of the same split, fed through a pipe."""
    torch.set_num_threads(1)
    split = split_of("llama", 2)
    boundary, side = pipe.recv_bytes(), pipe.recv_bytes()
    served = split.server.serve("device-0", boundary, side, 1.0, 0)
    split.server.step()
    pipe.send_bytes(served.gradient)
    pipe.send_bytes(pack(split.server.adapters(range(BLOCKS))))


def test_device_and_server_in_two_processes() -> None:
    """The parts need nothing but bytes of each other: a pipe between two processes will do."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve_one, args=(there,))
    process.start()
    try:
        apart, together = (split_of("llama", 2) for _ in range(2))
        batch = tiny_batch("llama")
        device = apart.devices["device-0"]
        upload = device.forward(batch, seed=0)
        here.send_bytes(upload.boundary)
        here.send_bytes(upload.side)
        assert here.poll(60), "the other process does not answer"
        device.backward(here.recv_bytes())
        device.update()
        server = unpack(here.recv_bytes())
    finally:
        process.join(60)
        process.kill()
    together.train_step({"device-0": batch})
    for name, value in together.server.adapters(range(BLOCKS)).items():
        torch.testing.assert_close(server[name], value)
    for name, value in together.devices["device-0"].adapters(range(2)).items():
        torch.testing.assert_close(device.adapters(range(2))[name], value)
