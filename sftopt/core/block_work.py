"""Work, memory and adapters of one block at other numbers of tokens and other ranks.

The workload states one block at its own tokens S and its own rank r_0. What it costs at S' tokens
(kind ``tokens`` of :class:`sftopt.core.compression.Mode`) or at rank r (a device's ``lora_rank``)
follows from the workload's own figures, section 7 of ``formulations/MODEL.md``:

* F^f(r) = F^f + 2 S P (r - r_0) and F^b(r) = F^b + 4 S P (r - r_0), with P the adapter parameters
  per unit of rank;
* F^f(S') = (F^f - 4 S^2 d) S'/S + 4 S'^2 d, F^b(S') likewise with 8, with d = heads x head size;
* m_a(S') = (m_a - c S^2) S'/S + c S'^2, with c the attention probabilities' bytes per pair of
  tokens: heads x element bytes, and for layouts that take the softmax in 32 bits whatever the
  dtype, those 32 bits on top of 16-bit elements;
* m_a(r) = m_a + S x adapted matrices x adapter bytes x (r - r_0): each adapter saves its inner
  activations; m_s and the adapters' bits are proportional to r.

Exact for the workloads of :func:`sftopt.core.workload.workload_from_config` (held by a test). Where
tokens and rank are the workload's own, or None, its own figures come back to the last bit. A figure
of 0 (not counted) stays 0.

Plain functions, used by the judge and by ``derived`` alike, as the payload's ends are.
"""

from __future__ import annotations

from sftopt.core.faults import Fault
from sftopt.core.model_layouts import WIDE_SOFTMAX
from sftopt.core.parse import input_error, unit_of
from sftopt.core.sections import Workload

_WIDE_BYTES = 4
"""Bytes of an element of a softmax that is taken in 32 bits."""


def block_forward_flops(
    work: Workload, *, tokens: int | None = None, rank: int | None = None
) -> float:
    """Return F^f, the forward work of one block per sample in FLOP, at S' tokens and rank r.

    Raises InputError naming the workload's fields that are needed and missing.
    """
    flops = work.block_forward_flops
    if rank is not None and rank != work.lora_rank:
        flops += 2.0 * _lora_slope(work) * (rank - work.lora_rank)
    if tokens is not None and tokens != work.tokens:
        per_pair = 4.0 * _attention_width(work)
        flops = _at_tokens(work, "block_forward_flops", flops, per_pair, tokens)
    return flops


def block_backward_flops(
    work: Workload, *, tokens: int | None = None, rank: int | None = None
) -> float:
    """Return F^b, the backward work of one block per sample in FLOP, at S' tokens and rank r.

    Raises InputError naming the workload's fields that are needed and missing.
    """
    flops = work.block_backward_flops
    if rank is not None and rank != work.lora_rank:
        flops += 4.0 * _lora_slope(work) * (rank - work.lora_rank)
    if tokens is not None and tokens != work.tokens:
        per_pair = 8.0 * _attention_width(work)
        flops = _at_tokens(work, "block_backward_flops", flops, per_pair, tokens)
    return flops


def block_activation_bytes(
    work: Workload, *, tokens: int | None = None, rank: int | None = None
) -> float:
    """Return m_a, what one block saves per sample in bytes, at S' tokens and rank r.

    Raises InputError naming the workload's fields that are needed and missing.
    """
    saved = work.block_activation_bytes
    if saved == 0.0:
        return 0.0
    if rank is not None and rank != work.lora_rank and work.adapter_parameters_per_rank > 0.0:
        (matrices,) = _needed(work, "adapted_matrices")
        inner = work.tokens * matrices * (work.adapter_bits / 8.0)
        saved = _positive(work, "block_activation_bytes", saved + inner * (rank - work.lora_rank))
    if tokens is not None and tokens != work.tokens:
        heads, element_bytes = _needed(work, "heads", "element_bytes")
        wide = work.model_type in WIDE_SOFTMAX and element_bytes < _WIDE_BYTES
        per_pair = float(heads * (element_bytes + (_WIDE_BYTES if wide else 0)))
        saved = _at_tokens(work, "block_activation_bytes", saved, per_pair, tokens)
    return saved


def block_adapter_bytes(work: Workload, rank: int | None = None) -> float:
    """Return m_s, the adapter state of one block in bytes, at rank r."""
    if rank is None or rank == work.lora_rank:
        return work.block_adapter_bytes
    return work.block_adapter_bytes * rank / work.lora_rank


def adapter_bits_of_block(work: Workload, rank: int | None = None) -> float:
    """Return A(r), the bits of one block's adapters at rank r."""
    if rank is None:
        return work.adapter_bits_per_block
    return rank * work.adapter_parameters_per_rank * work.adapter_bits


def dense_update_bits(work: Workload) -> float:
    """Return the bits of one block's merged update, all adapted matrices written out.

    Every matrix of a block has the hidden size d on one side, so that k of them with P parameters
    per unit of rank, the sum of their sides, have d (P - k d) entries; sent at the adapters' bits.

    Raises InputError naming the workload's field that is needed and missing.
    """
    if work.adapter_parameters_per_rank == 0.0:
        return 0.0
    (matrices,) = _needed(work, "adapted_matrices")
    other_sides = work.adapter_parameters_per_rank - matrices * work.hidden
    if other_sides <= 0.0:
        raise input_error(f"workload '{work.name}'", [Fault(
            field="workload.adapter_parameters_per_rank", value=work.adapter_parameters_per_rank,
            limit=matrices * work.hidden, unit="parameters",
            message="workload.adapter_parameters_per_rank is "
            f"{work.adapter_parameters_per_rank:g}, but its {matrices} adapted matrices of hidden "
            f"size {work.hidden} have more than {matrices * work.hidden} per unit of rank",
        )])  # fmt: skip
    return work.hidden * other_sides * work.adapter_bits


def _lora_slope(work: Workload) -> float:
    """S P: tokens times adapter parameters per unit of rank."""
    return work.tokens * work.adapter_parameters_per_rank


def _attention_width(work: Workload) -> int:
    """The d of the attention term: heads x head size, which need not be the hidden size."""
    heads, size = _needed(work, "heads", "head_size")
    return heads * size


def _at_tokens(work: Workload, field: str, figure: float, per_pair: float, tokens: int) -> float:
    """``figure`` at other tokens: ``per_pair`` grows with their square, the rest linearly."""
    if figure == 0.0:
        return 0.0
    linear = _positive(work, field, figure - per_pair * work.tokens * work.tokens)
    return linear * tokens / work.tokens + per_pair * tokens * tokens


def _positive(work: Workload, field: str, rest: float) -> float:
    """The rest of a figure; InputError where attention or adapters alone are more than all."""
    if rest >= 0.0:
        return rest
    value = getattr(work, field)
    raise input_error(f"workload '{work.name}'", [Fault(
        field=f"workload.{field}", value=value, limit=value - rest, unit=unit_of(field),
        needed_change=-rest,
        message=f"workload.{field} is {value:g} {unit_of(field)}, but its attention and adapters "
        f"alone are {value - rest:g}: at other tokens or ranks it is not known; count both in it, "
        "or use the workload's own tokens and rank",
    )])  # fmt: skip


def _needed(work: Workload, *names: str) -> list[int]:
    """The values of these fields; InputError naming every one that is null."""
    values = [getattr(work, name) for name in names]
    missing = [name for name, value in zip(names, values, strict=True) if value is None]
    if missing:
        raise input_error(f"workload '{work.name}'", [
            Fault(
                field=f"workload.{name}",
                message=f"workload.{name} is not given; it is needed for the work and memory of a "
                "block at other tokens or ranks (sftopt workload --from-config writes it)",
            )
            for name in missing
        ])  # fmt: skip
    return values
