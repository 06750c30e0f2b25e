"""What turning into a basis costs beside the dead-zone quantiser alone, for ``bench_codec``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from benchmarks.studies.codec_coders import Row, timed
from sftopt.training.codec import Direction, EcsqConfig, RotatedConfig, codec_from
from sftopt.training.codec.basis_file import basis_name, save_bases
from sftopt.training.codec.rotated import Turn

WIDTHS = {768: (4, 197), 4096: (2, 128)}
"""Samples and tokens of a boundary by its channels."""
_BITS = 2.0
"""Bits per element of both codecs."""
_LEAST_REPEATS = 5
"""The median of at least so many timings counts."""


def turns(repeats: int) -> list[Row]:
    """Measure encoding by ``ecsq``, the turn alone, and ``rotated``: medians in milliseconds.

    The limit at 768 channels is three times ``ecsq``, at 4,096 the turn and 1.5 times ``ecsq``.
    """
    return [_of_width(width, max(_LEAST_REPEATS, repeats)) for width in WIDTHS]


def _of_width(width: int, repeats: int) -> Row:
    generator = torch.Generator().manual_seed(width)
    spread = torch.exp(0.7 * torch.randn(width, generator=generator))
    tensor = torch.randn(*WIDTHS[width], width, generator=generator) * spread
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bases.safetensors"
        basis = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
        save_bases(path, {basis_name(direction, 2): basis for direction in Direction})
        plain = codec_from(EcsqConfig(bits=_BITS, scaling=0.0))
        rotated = codec_from(RotatedConfig(bits=_BITS, bases=str(path), cut=2))
        turn = Turn(str(path), 2)
        times = timed(
            {
                "ecsq": lambda: plain.encode(tensor, seed=1),
                "turn": lambda: turn(tensor, Direction.FORWARD),
                "rotated": lambda: rotated.encode(tensor, seed=1),
            },
            repeats,
        )
    alone, turned, whole = (1e3 * times[name][1] for name in ("ecsq", "turn", "rotated"))
    limit = 3.0 * alone if width < max(WIDTHS) else turned + 1.5 * alone
    return {
        "channels": width, "ecsq_ms": round(alone, 2), "turn_ms": round(turned, 2),
        "rotated_ms": round(whole, 2), "at_most_ms": round(limit, 2), "met": whole <= limit,
    }  # fmt: skip
