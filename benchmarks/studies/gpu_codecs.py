"""Codecs on tensors of one device, for ``gpu_profile``: throughput and where the time goes.

Four ways to code a boundary that lies on the device: ours where it lies; ours after the whole
tensor was copied to the host; and the plain one (Top-K or rounding in NumPy, zlib) after the same
copy. Seconds are of the wall clock, the copy included, medians of turns.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.studies.gpu_blocks import Row, Shape
from benchmarks.studies.plain_chain import (
    plain_decode,
    plain_dense_decode,
    plain_dense_encode,
    plain_encode,
)
from sftopt.training.codec import (
    CodecConfig,
    EcsqConfig,
    RotatedConfig,
    TopKConfig,
    accelerator,
    codec_from,
    sparse,
    symbols,
)
from sftopt.training.codec.basis_file import load_bases, save_bases
from sftopt.training.codec.entropy import Decoder, Encoder

KEEP = 0.1
"""Fraction that Top-K keeps."""
PLAIN_STEPS = {"ecsq": 0.9, "rotated": 0.9}
"""Steps of the plain dense versions, in spreads: near 2 bits per element."""
STAGES = ("arithmetic", "transfer", "entropy coder")
"""Where the time of a call goes; arithmetic is what is neither of the others."""
_FETCHES = (
    (sparse, "fetched"),
    (symbols, "fetched"),
    (accelerator.quantiser, "fetched"),
    (accelerator.dead_zone, "fetched"),
    (sparse, "sent"),
    (symbols, "sent"),
    (accelerator.quantiser, "sent"),
    (accelerator.dead_zone, "sent"),
)
"""Functions that copy between host and device."""
_CODERS = ((Encoder, "push"), (Encoder, "to_bytes"), (Decoder, "pop"))
"""The entropy coder itself, without its tables."""


def codec_rows(
    shapes: tuple[Shape, ...], device: torch.device, folder: Path, repeats: int
) -> Iterator[Row]:
    """Measure every codec at every model's boundary; files of bases are written to ``folder``."""
    for shape in shapes:
        tensor = boundary(shape, device)
        configs: list[CodecConfig] = [
            TopKConfig(keep=KEEP, bits=2),
            TopKConfig(keep=KEEP, bits=4),
            EcsqConfig(bits=2.0, scaling=0.0),
            RotatedConfig(bits=2.048, bases=_bases(tensor, folder / "bases"), cut=0),
        ]
        for config in configs:
            yield _measured(shape, tensor, config, repeats)


def boundary(shape: Shape, device: torch.device) -> torch.Tensor:
    """Make Student-t values of a boundary's shape, in correlated channels of uneven spread."""
    generator = torch.Generator().manual_seed(5)
    hidden = shape.boundary[-1]
    spread = (0.7 * torch.randn(hidden, generator=generator)).exp()
    centre = 0.5 * torch.randn(hidden, generator=generator)
    drawn = np.random.default_rng(6).standard_t(4, shape.boundary)
    rows = torch.tensor(drawn, dtype=torch.float32).to(device)
    # a quarter of the directions is shared by all channels: what a turn can use
    shared = torch.randn(hidden // 4, hidden, generator=generator) / (hidden // 4) ** 0.5
    mixed = rows[..., : hidden // 4] @ shared.to(device)
    return (0.5 * rows + mixed) * spread.to(device) + centre.to(device)


def _bases(tensor: torch.Tensor, path: Path) -> str:
    """A file with the eigenvectors of the tensor's covariance as its two bases."""
    rows = tensor.reshape(-1, tensor.shape[-1]).double()
    directions = torch.linalg.eigh(torch.cov(rows.T)).eigenvectors.flip(1).float().cpu()
    save_bases(path, {"activation.00": directions, "gradient.00": directions})
    return str(path)


def _measured(shape: Shape, tensor: torch.Tensor, config: CodecConfig, repeats: int) -> Row:
    codec = codec_from(config)
    sent = codec.compress(tensor, seed=1)
    payload, support = sent.payload, sent.support
    back = codec.encode_gradient(tensor, support, seed=1)
    received = codec.decode(payload, device=tensor.device)
    on_host = codec.encode(_to_host(tensor), seed=1)
    square = tensor.square().sum()
    lost = (received - tensor).square().sum() / square
    host_lost = (codec.decode(on_host).to(tensor.device) - tensor).square().sum() / square
    row: Row = {
        "model": shape.name,
        "shape": list(tensor.shape),
        "codec": config.codec,
        "config": {key: value for key, value in config.to_dict().items() if key != "bases"},
        "bits_per_element": 8.0 * len(payload) / tensor.numel(),
        "same_bytes_as_host": payload == on_host,
        "squared_error_share": float(lost),
        "host_squared_error_share": float(host_lost),
    }
    calls: dict[str, Callable[[], Any]] = {
        "encode": lambda: codec.encode(tensor, seed=1),
        "decode": lambda: codec.decode(payload, device=tensor.device),
        "gradient_encode": lambda: codec.encode_gradient(tensor, support, seed=1),
        "gradient_decode": lambda: codec.decode_gradient(back, support, device=tensor.device),
        "host_encode": lambda: codec.encode(_to_host(tensor), seed=1),
        "host_decode": lambda: codec.decode(payload).to(tensor.device),
    }
    plain, plain_bytes = _plain_calls(tensor, config)
    plain_lost = (plain["plain_decode"]() - tensor).square().sum()
    row["plain_squared_error_share"] = float(plain_lost / square)
    for name, seconds in _medians(calls | plain, tensor.device, repeats).items():
        row[f"{name}_s"] = seconds
        row[f"{name}_elements_per_s"] = tensor.numel() / seconds
    row["plain_bits_per_element"] = 8.0 * plain_bytes / tensor.numel()
    row["encode_share"] = _shares(calls["encode"], tensor.device, repeats)
    row["decode_share"] = _shares(calls["decode"], tensor.device, repeats)
    row["host_encode_share"] = _shares(calls["host_encode"], tensor.device, repeats)
    return row


def _plain_calls(
    tensor: torch.Tensor, config: CodecConfig
) -> tuple[dict[str, Callable[[], Any]], int]:
    """The plain version both ways, and its payload's bytes."""
    shape, device = tuple(tensor.shape), tensor.device
    if isinstance(config, TopKConfig):
        keep, bits = config.keep, config.bits
        payload = plain_encode(_to_host(tensor), 1, keep, bits)
        return {
            "plain_encode": lambda: plain_encode(_to_host(tensor), 1, keep, bits),
            "plain_decode": lambda: plain_decode(payload, shape, bits).to(device),
        }, sum(map(len, payload))
    step, basis, inverse = PLAIN_STEPS[config.codec], None, None
    if isinstance(config, RotatedConfig):
        bases = load_bases(config.bases)
        basis, inverse = bases.matrix(0), bases.inverse(0)
    dense = plain_dense_encode(_to_host(tensor), step, basis)
    return {
        "plain_encode": lambda: plain_dense_encode(_to_host(tensor), step, basis),
        "plain_decode": lambda: plain_dense_decode(dense, shape, inverse).to(device),
    }, sum(map(len, dense))


def _medians(
    calls: dict[str, Callable[[], Any]], device: torch.device, repeats: int
) -> dict[str, float]:
    """Wall seconds of each call, the calls taking turns, after a turn to warm up."""
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = _now(device)
            call()
            times[name].append(_now(device) - start)
    return {name: median(one[1:]) for name, one in times.items()}


def _shares(call: Callable[[], Any], device: torch.device, repeats: int) -> dict[str, float]:
    """Shares of the stages in the wall seconds of ``call``; the device is waited for at each."""
    totals: dict[str, float] = defaultdict(float)
    with _stages(totals, device):
        start = _now(device)
        for _ in range(repeats):
            call()
        whole = _now(device) - start
    found = {stage: totals[stage] / whole for stage in STAGES[1:]}
    return {"arithmetic": 1.0 - sum(found.values()), **found}


@contextmanager
def _stages(totals: dict[str, float], device: torch.device) -> Iterator[None]:
    """Within: seconds of transfers and of the entropy coder are added up in ``totals``."""

    within: list[float] = []  # seconds of the calls inside the one under way

    def timed(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = _now(device)
            within.append(0.0)
            result = function(*args, **kwargs)
            spent = _now(device) - start
            totals[stage] += spent - within.pop()
            if within:
                within[-1] += spent
            return result

        return call

    with ExitStack() as patches:
        copies = (*_FETCHES, (sys.modules[__name__], "_to_host"))
        for stage, functions in (("transfer", copies), ("entropy coder", _CODERS)):
            for owner, name in functions:
                patches.enter_context(patch.object(owner, name, timed(getattr(owner, name), stage)))
        yield


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.cpu()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
