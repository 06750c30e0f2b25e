"""From a plan's compression mode to the codec that carries it."""

from __future__ import annotations

from sftopt.core.errors import InputError
from sftopt.core.instance import ModeKind
from sftopt.training.codec.base import CodecConfig
from sftopt.training.codec.ecsq import EcsqConfig
from sftopt.training.codec.plain import NoneConfig
from sftopt.training.codec.quantiser import Rate
from sftopt.training.codec.sparse import QuantiseConfig, TopKConfig


def config_of_mode(
    kind: ModeKind,
    bits: int,
    keep: float,
    *,
    reference_bits: int = 32,
    rate: Rate = Rate.LEVELS,
    group: int | None = None,
    ecsq_bits: float | None = None,
) -> CodecConfig:
    """Return the codec of one device's mode: kind, q and rho of equation (1).

    ``reference_bits`` (16 or 32) is the precision of mode ``none``. Mode ``dense`` is the
    stochastic quantiser, or with ``ecsq_bits`` the dead-zone quantiser at that entropy.
    """
    if kind is ModeKind.TOKENS:
        raise InputError("mode tokens names no codec of a plan yet; use topk, dense or none")
    if kind is ModeKind.NONE:
        if reference_bits not in (16, 32):
            raise InputError(f"reference precision of {reference_bits} bits; 16 or 32 expected")
        return NoneConfig(precision=f"float{reference_bits}")
    if kind is ModeKind.TOPK:
        return TopKConfig(bits=bits, rate=rate, group=group, keep=keep)
    if ecsq_bits is not None:
        return EcsqConfig(bits=ecsq_bits)
    return QuantiseConfig(bits=bits, rate=rate, group=group)
