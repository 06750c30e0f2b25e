"""Lossless coders beside each other on the same masks and values, for ``bench_codec``.

Also the tensors and the clock that all of that benchmark shares.
"""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Callable
from typing import Any

import constriction
import numpy as np
import torch
import zstandard
from numpy.typing import NDArray

from sftopt.core.payload import binary_entropy_bits
from sftopt.training.codec import TopKConfig, codec_from
from sftopt.training.codec.container import Reader
from sftopt.training.codec.entropy import (
    Decoder,
    Encoder,
    SymbolTable,
    pop_symbols,
    push_symbols,
)
from sftopt.training.codec.mask import MaskModel, pop_mask, push_mask

SHAPE = (16, 197, 768)
"""Samples, tokens and channels of a boundary tensor."""
KEEP = 0.1
"""Share of the elements that Top-K keeps."""
BITS = 4
"""Bits of a quantised value."""
Row = dict[str, Any]


def even_tensor() -> torch.Tensor:
    """Draw Student-t values without structure: the mask costs all of H2."""
    values = np.random.default_rng(0).standard_t(5, SHAPE)
    return torch.tensor(values, dtype=torch.float32)


def uneven_tensor() -> torch.Tensor:
    """Draw channels of different mean and spread, as in a transformer."""
    generator = np.random.default_rng(1)
    spread = np.exp(0.7 * generator.normal(size=SHAPE[-1]))
    centre = 0.5 * generator.normal(size=SHAPE[-1])
    return torch.tensor(generator.standard_t(4, SHAPE) * spread + centre, dtype=torch.float32)


TENSORS = {"even": even_tensor, "uneven": uneven_tensor}
"""What makes each tensor, by name."""


def timed(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Time each call, by turns; return best and median seconds of CPU time."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            seconds[name].append(time.thread_time() - start)
    return {name: (min(times), statistics.median(times)) for name, times in seconds.items()}


def rates(elements: int, times: tuple[float, float]) -> tuple[float, float]:
    """Return the best and the median rate in million elements per second."""
    best, median = times
    return round(elements / best / 1e6, 1), round(elements / median / 1e6, 1)


Coder = tuple[Callable[[], bytes], Callable[[bytes], Any]]


def mask_coders(mask: NDArray[np.bool_], channels: int) -> dict[str, Coder]:
    """List ways to code one mask: name -> (encode, decode)."""
    bits = np.packbits(mask)
    share = float(mask.mean())
    ones = np.bitwise_count(np.arange(256, dtype=np.uint8)).astype(np.float64)
    model = constriction.stream.model.Categorical(
        share**ones * (1.0 - share) ** (8.0 - ones), perfect=False
    )

    def ours() -> bytes:
        encoder = Encoder()
        model_bytes = push_mask(encoder, mask, int(np.count_nonzero(mask)), channels)
        return model_bytes + encoder.to_bytes()

    def ours_back(payload: bytes) -> None:
        reader = Reader(payload, 0)
        read = MaskModel.read(reader, channels)
        pop_mask(Decoder(reader), read, mask.size, channels)

    def ans() -> bytes:
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(bits.astype(np.int32), model)
        return bytes(coder.get_compressed().tobytes())

    def ans_back(payload: bytes) -> None:
        coder = constriction.stream.stack.AnsCoder(np.frombuffer(payload, dtype=np.uint32))
        coder.decode(model, bits.size)

    def ranged() -> bytes:
        coder = constriction.stream.queue.RangeEncoder()
        coder.encode(bits.astype(np.int32), model)
        return bytes(coder.get_compressed().tobytes())

    def ranged_back(payload: bytes) -> None:
        coder = constriction.stream.queue.RangeDecoder(np.frombuffer(payload, dtype=np.uint32))
        coder.decode(model, bits.size)

    return {
        "range coder, channel classes (ours)": (ours, ours_back),
        "range coder, one rate": (ranged, ranged_back),
        "ANS, one rate": (ans, ans_back),
        **byte_coders(bits.tobytes()),
    }


def value_coders(symbols: NDArray[np.int32], alphabet: int) -> dict[str, Coder]:
    """List ways to code the quantised values: name -> (encode, decode)."""

    def ours() -> bytes:
        encoder = Encoder()
        table = push_symbols(encoder, symbols, alphabet)
        return table + encoder.to_bytes()

    def ours_back(payload: bytes) -> None:
        reader = Reader(payload, 0)
        table = SymbolTable.read(reader, alphabet)
        pop_symbols(Decoder(reader), table, symbols.size)

    small = symbols.astype(np.uint8)
    if alphabet <= 16:
        pairs = np.append(small, 0) if small.size % 2 else small
        small = (pairs[0::2] << 4 | pairs[1::2]).astype(np.uint8)
    return {"range coder, own table (ours)": (ours, ours_back), **byte_coders(small.tobytes())}


def byte_coders(raw: bytes) -> dict[str, Coder]:
    """List general-purpose coders on packed bytes: name -> (encode, decode)."""

    def zstd(level: int) -> Coder:
        compressor = zstandard.ZstdCompressor(level=level)
        return lambda: compressor.compress(raw), zstandard.ZstdDecompressor().decompress

    return {
        "zstd level 1": zstd(1),
        "zstd level 3": zstd(3),
        "zlib level 1": (lambda: zlib.compress(raw, 1), zlib.decompress),
        "zlib level 6": (lambda: zlib.compress(raw, 6), zlib.decompress),
    }


def coder_choice(repeats: int) -> list[Row]:
    """Measure bits above the entropy and speed of each coder, on masks and on values."""
    rows = []
    for name, make in TENSORS.items():
        for keep in (0.05, 0.1, 0.3):
            tensor = make()
            codec = codec_from(TopKConfig(keep=keep, bits=BITS))
            positions = codec.compress(tensor, seed=1).support.positions
            assert positions is not None
            mask = np.zeros(tensor.numel(), dtype=np.bool_)
            mask[positions] = True
            ideal = mask.size * binary_entropy_bits(keep)
            coders = mask_coders(mask, SHAPE[-1])
            rows += _coder_rows(name, f"mask, keep {keep}", coders, ideal, mask.size, repeats)
    generator = np.random.default_rng(3)
    for bits in (4, 8):
        alphabet = 2**bits
        levels = np.minimum(generator.exponential(alphabet / 8.0, 240_000), alphabet // 2 - 1)
        symbols = (2 * levels.astype(np.int32) + generator.integers(0, 2, 240_000)).astype(np.int32)
        shares = np.bincount(symbols) / symbols.size
        ideal = -symbols.size * float(shares @ np.log2(np.maximum(shares, 1e-300)))
        coders = value_coders(symbols, alphabet)
        rows += _coder_rows("exponential", f"values, {bits} bits", coders, ideal, 240_000, repeats)
    return rows


def _coder_rows(
    tensor: str, what: str, coders: dict[str, Coder], ideal: float, count: int, repeats: int
) -> list[Row]:
    rows = []
    for name, (encode, decode) in coders.items():
        payload = encode()
        times = timed(
            {"encode": encode, "decode": lambda d=decode, p=payload: d(p)}, max(3, repeats // 8)
        )
        rows.append(
            {
                "tensor": tensor,
                "what": what,
                "coder": name,
                "above_entropy_percent": round(100.0 * (8.0 * len(payload) / ideal - 1.0), 2),
                "encode_m_per_s": rates(count, times["encode"])[0],
                "decode_m_per_s": rates(count, times["decode"])[0],
            }
        )
    return rows
