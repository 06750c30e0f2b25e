"""The judge's adapter exchange after the local steps, equation (8), at ranks of each device's own.

One size of download per block, D_k, says how adapters are put together:

* averaging (all ranks equal): D_k = A(r), the mean of the copies, as in equation (8);
* concatenation: the factors of all holders side by side, and the server's copy where someone does
  not hold the block, or the merged update itself where that is smaller: D_k = min(dense update,
  SUM over holders A(r_m) + [someone does not hold k] A(r_s)), r_s the largest rank of all;
* corrected averaging (all ranks equal): the same factors, from which every holder forms the mean
  and the correction, or the dense correction and the mean: D_k = min(dense update + A(r), SUM ..).

A plan says which, or leaves it open: averaging where all ranks are equal, else concatenation. Up,
every device sends its own l_n A(r_n). In order federated the head goes along, in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from sftopt.core.block_work import adapter_bits_of_block, dense_update_bits
from sftopt.core.delay import (
    Conduct,
    Decision,
    Links,
    seconds_of,
    server_rank,
)
from sftopt.core.instance import AdapterDownlink, Instance, PowerLaw, Workload
from sftopt.core.plan import Aggregation, Order


@dataclass(frozen=True)
class Exchange:
    """What an exchange of adapters takes and moves; per device in the instance's order."""

    time_s: float
    adapter_bits: float
    """Both ways, as they cross the air."""
    head_bits: float
    """Both ways."""
    up_s: tuple[float, ...]
    """How long each device sends."""
    up_shares: tuple[float, ...]
    """The share of the band that it sends on; 0 where it sends nothing."""


def aggregation_of(
    work: Workload, decisions: Sequence[Decision], asked: Aggregation | None
) -> Aggregation:
    """Choose how adapters are put together: as asked, else by whether all ranks are equal."""
    if asked is not None:
        return asked
    ranks = {work.lora_rank if d.rank is None else d.rank for d in decisions}
    return Aggregation.AVERAGING if len(ranks) == 1 else Aggregation.CONCATENATION


def download_bits(
    work: Workload, decisions: Sequence[Decision], aggregation: Aggregation
) -> list[float]:
    """Return the bits D_k of every block's download, k = 1 to the largest cut; equation (8)."""
    top = max(decision.blocks for decision in decisions)
    copy = adapter_bits_of_block(work, server_rank(work, decisions))
    if aggregation is Aggregation.AVERAGING:
        return [copy] * top
    ending = [0.0] * (top + 1)  # bits of adapters, by how many blocks their device holds
    devices = [0] * (top + 1)
    for decision in decisions:
        ending[decision.blocks] += adapter_bits_of_block(work, decision.rank)
        devices[decision.blocks] += 1
    held = list(accumulate(reversed(ending)))[::-1]  # at k: of all that hold block k
    holders = list(accumulate(reversed(devices)))[::-1]
    dense = dense_update_bits(work)
    if aggregation is Aggregation.CORRECTED:
        dense += copy
    return [
        min(dense, held[k] + (copy if holders[k] < len(decisions) else 0.0))
        for k in range(1, top + 1)
    ]


@dataclass(frozen=True)
class Messages:
    """Bits of the adapter messages of one round, per device in the instance's order."""

    up: tuple[float, ...]
    """Adapters of the blocks it holds."""
    down: tuple[float, ...]
    """What it gets to have all its blocks as they are after the exchange."""
    head: float
    """Of the head, beside each message in both directions; 0 but in order federated."""


def adapter_messages(work: Workload, decisions: Sequence[Decision], conduct: Conduct) -> Messages:
    """Return the sizes of all adapter messages of a round in bits, by the rule in force.

    Order sequential: a device gets its blocks' adapters and returns them. Multicast sends each
    block once; ``down`` is what a device takes of it.
    """
    up = tuple(d.blocks * adapter_bits_of_block(work, d.rank) for d in decisions)
    if conduct.order is Order.SEQUENTIAL:
        return Messages(up, up, 0.0)
    aggregation = aggregation_of(work, decisions, conduct.aggregation)
    below = _below(download_bits(work, decisions, aggregation), aggregation)
    head = head_bits(work) if conduct.order is Order.FEDERATED else 0.0
    return Messages(up, tuple(below[d.blocks] for d in decisions), head)


def _below(sizes: Sequence[float], aggregation: Aggregation) -> list[float]:
    """Bits of the first l blocks' downloads, by l from 0."""
    if aggregation is Aggregation.AVERAGING:  # l A as in equation (8), not a sum of l equal terms
        return [count * size for count, size in enumerate([0.0, *sizes])]
    return [0.0, *accumulate(sizes)]


def adapter_exchange(
    instance: Instance,
    decisions: Sequence[Decision],
    links: Links,
    conduct: Conduct,
) -> Exchange:
    """Return the exchange of adapters and its time tau_a in seconds, equation (8).

    Under ``psd`` with no adapter shares given, the best ones are taken, which equalise all
    uploads: SUM l_n A / R^u_n(1).
    """
    work = instance.workload
    head = head_bits(work) if conduct.order is Order.FEDERATED else 0.0
    uploads = [d.blocks * adapter_bits_of_block(work, d.rank) + head for d in decisions]
    senders = [n for n, bits in enumerate(uploads) if bits > 0.0]
    if not senders:
        nothing = (0.0,) * len(decisions)
        return Exchange(0.0, 0.0, 0.0, nothing, nothing)
    up, up_s, shares = _uploads(instance, decisions, links, uploads, senders)
    aggregation = aggregation_of(work, decisions, conduct.aggregation)
    sizes = download_bits(work, decisions, aggregation)
    below = _below(sizes, aggregation)
    held = [decisions[n].blocks for n in senders]
    rates = [links.down_bits_per_s(n, 1.0) for n in senders]
    if instance.radio.adapter_downlink is AdapterDownlink.UNICAST:
        down = sum(
            seconds_of(below[blocks] + head, rate) for blocks, rate in zip(held, rates, strict=True)
        )
        sent, heads_sent = math.fsum(below[blocks] for blocks in held), len(senders)
    else:
        down = sum(
            seconds_of(size, min(r for cut, r in zip(held, rates, strict=True) if cut >= block))
            for block, size in enumerate(sizes, start=1)
        )
        down += seconds_of(head, min(rates))
        sent, heads_sent = below[-1], 1
    return Exchange(
        time_s=up + down,
        adapter_bits=math.fsum(bits - head for bits in uploads) + sent,
        head_bits=head * (len(decisions) + heads_sent),
        up_s=up_s,
        up_shares=shares,
    )


def _uploads(
    instance: Instance,
    decisions: Sequence[Decision],
    links: Links,
    uploads: Sequence[float],
    senders: Sequence[int],
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """How long all send, and for every device how long it does and on what share."""

    def up_s(n: int, share: float) -> float:
        return seconds_of(uploads[n], links.up_bits_per_s(n, share))

    times, shares = [0.0] * len(uploads), [0.0] * len(uploads)
    given = [decisions[n].adapter_share for n in senders]
    if instance.radio.power is PowerLaw.PSD and all(share is None for share in given):
        alone = [up_s(n, 1.0) for n in senders]
        longest = sum(alone)
        for n, time_s in zip(senders, alone, strict=True):
            times[n] = longest
            shares[n] = time_s / longest if math.isfinite(longest) else 0.0
        return longest, tuple(times), tuple(shares)
    for n, share in zip(senders, given, strict=True):
        times[n], shares[n] = up_s(n, share or 0.0), share or 0.0
    return max(times), tuple(times), tuple(shares)


def handed_on(instance: Instance, decisions: Sequence[Decision], links: Links) -> Exchange:
    """Return the exchange of order sequential: each device gets its blocks' adapters and returns
    them, over the whole band and in its own turn, at its own rank.
    """
    up_s, down_s, bits = [], [], []
    for n, decision in enumerate(decisions):
        held = decision.blocks * adapter_bits_of_block(instance.workload, decision.rank)
        bits.append(held)
        up_s.append(seconds_of(held, links.up_bits_per_s(n, 1.0)))
        down_s.append(seconds_of(held, links.down_bits_per_s(n, 1.0)))
    return Exchange(
        time_s=math.fsum(up_s) + math.fsum(down_s),
        adapter_bits=2.0 * math.fsum(bits),
        head_bits=0.0,
        up_s=tuple(up_s),
        up_shares=tuple(1.0 if time_s > 0.0 else 0.0 for time_s in up_s),
    )


def head_bits(work: Workload) -> float:
    """Return A_head, the bits of the trained head; 0 where its parameters are not known."""
    return (work.head_parameters or 0.0) * work.adapter_bits
