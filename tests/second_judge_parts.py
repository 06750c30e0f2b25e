"""The devices of the second judge: their step, the adapters' exchange, memory and energy.

Part of tests/second_judge.py: the same rules, nothing of sftopt imported or read.
"""

import math

from tests.second_judge_terms import (
    Gains,
    Object,
    Rates,
    accuracy_of,
    activation_bytes,
    adapter_bits,
    block_flops,
    dense_update_bits,
    mode_of,
    payload,
    seconds,
)


class Part:
    """One device with its part of the plan: times, payloads and bytes of one step."""

    def __init__(
        self, cell: Object, device: Object, row: Object, plan: Object, gains: Gains | None
    ) -> None:
        work, server = cell["workload"], cell["server"]
        count = len(cell["devices"])
        self.device, self.plan = device, row
        self.blocks, self.rank = row["blocks"], row["rank"]
        if self.rank is None:
            # Read: the plan's own field says "null: the workload's"; the device's is not asked.
            self.rank = work["lora_rank"]
        self.mode = mode_of(cell, row)
        self.watts = device["transmit_power_w"]
        if plan["order"] == "sequential" and plan["sequential_power"] == "share":
            self.watts /= count
        self.rates = Rates(cell, device, self.watts, gains)
        self.server_speed = row["server_flops_per_s"] or server["compute_flops_per_s"]
        self.server_tokens = work["tokens"]
        if self.mode is not None and self.mode["kind"] == "tokens":
            self.server_tokens = self.mode["tokens"]

    def work(self, cell: Object, order: str, server_rank: int) -> None:
        """Fill in equations (4) to (6), in seconds, bits and FLOP of one step."""
        work, device, plan, batch = cell["workload"], self.device, self.plan, self.device["batch"]
        speed, left = device["compute_flops_per_s"], work["blocks"] - self.blocks
        forward, backward = block_flops(cell, self.rank, work["tokens"])
        self.flops = batch * (work["embedding_forward_flops"] + self.blocks * (forward + backward))
        codec = 0.0
        if order == "federated" or self.mode is None:
            self.up_bits = self.down_bits = self.side_bits = self.server_flops = 0.0
            self.accuracy: float | None = cell["accuracy"]["uncompressed"]
            self.flops += batch * work["head_flops"] if order == "federated" else 0.0
        else:
            up, down = payload(cell, self.mode, plan["keep_fraction"])
            self.up_bits, self.down_bits = batch * up, batch * down
            self.side_bits = batch * work["side_bits"]
            # Read: the server's own adapters have rank r_s, the largest, on all that it runs.
            sided = sum(block_flops(cell, server_rank, self.server_tokens))
            self.server_flops = batch * (left * sided + work["head_flops"])
            self.accuracy = accuracy_of(cell, self.mode, plan["keep_fraction"], self.blocks)
            elements = work["tokens"] * work["hidden"]
            # Read: as (4) and (6) stand, mode none too is charged (its factor is 1 unless set),
            # and tokens for all of E, which the device goes through to choose them.
            codec = device["codec_s_per_element"] * self.mode["codec_seconds_factor"]
            codec *= batch * elements
        embedded = work["embedding_forward_flops"] + self.blocks * forward
        self.s1 = batch * embedded / speed + codec
        self.s2 = seconds(self.up_bits + self.side_bits, self.rates.uplink(plan["uplink_share"]))
        self.s3 = self.server_flops / self.server_speed
        self.s4 = seconds(self.down_bits, self.rates.downlink(plan["downlink_share"]))
        self.s5 = batch * self.blocks * backward / speed + codec
        if order == "federated":
            # Read: the page gives only the whole; all of it is s1.
            self.s1, self.s5 = self.flops / speed, 0.0

    def memory(self, cell: Object, order: str) -> float:
        """Return what the device holds by equation (10), bytes."""
        work, batch = cell["workload"], self.device["batch"]
        state = work["block_adapter_bytes"] * self.rank / work["lora_rank"]
        total = work["device_base_bytes"] + batch * work["sample_base_bytes"]
        total += self.blocks * (work["block_weight_bytes"] + state)
        total += batch * self.blocks * activation_bytes(cell, self.rank, work["tokens"])
        if order == "federated":
            return float(total + (work["head_bytes"] or 0.0) + batch * work["sample_head_bytes"])
        return float(total + (self.device["remembered_bytes"] or 0.0))


def merges(plan: Object, parts: list[Part]) -> bool:
    """Return whether increments are concatenated, hsplitlora's rule, or else adapters averaged."""
    if plan["aggregation"] is not None:
        return bool(plan["aggregation"] == "concatenation")
    # Read: unequal ranks have no average, equal ones are averaged by (8) unless the plan says.
    return len({part.rank for part in parts}) > 1


class Exchange:
    """The adapters' way up and down after the local steps, equation (8) and hsplitlora's rule."""

    def __init__(self, cell: Object, plan: Object, parts: list[Part]) -> None:
        order, self.parts = plan["order"], parts
        self.sequential = order == "sequential"
        radio, work = cell["radio"], cell["workload"]
        head = (work["head_parameters"] or 0.0) * work["adapter_bits"]
        self.head = head if order == "federated" else 0.0
        merged, most = merges(plan, parts), max(part.rank for part in parts)
        adapters = [part.blocks * adapter_bits(cell, part.rank) for part in parts]
        self.up = [bits + self.head for bits in adapters]
        self.blocks: list[tuple[float, list[Part]]] = []
        for block in range(1, max(part.blocks for part in parts) + 1):
            holders = [part for part in parts if part.blocks >= block]
            bits = adapter_bits(cell, most)
            if merged:
                others = bits if len(holders) < len(parts) else 0.0
                bits = sum(adapter_bits(cell, part.rank) for part in holders) + others
                bits = min(dense_update_bits(cell), bits)
            self.blocks.append((bits, holders))
        self.multicast = radio["adapter_downlink"] == "multicast" and not self.sequential
        # Read: in turn one set of adapters is handed on, A(r_n) both ways.
        down = list(adapters)
        if not self.sequential:
            down = [sum(bits for bits, who in self.blocks if part in who) for part in parts]
        self.down = [bits + self.head for bits in down]
        once = sum(bits for bits, _ in self.blocks) if self.multicast else sum(down)
        self.adapter_bytes = float(sum(adapters) + once) / 8.0
        heads = len(parts) + (1 if self.multicast else len(parts))
        self.head_bytes = float(self.head * heads) / 8.0
        if self.head > 0.0:
            self.blocks.append((self.head, parts))
        self.uplink(radio["power"])

    def uplink(self, law: str) -> None:
        """Fill in each device's time and share of the adapters' way up, seconds."""
        whole = [
            seconds(bits, part.rates.uplink(1.0))
            for bits, part in zip(self.up, self.parts, strict=True)
        ]
        given = [part.plan["adapter_uplink_share"] for part in self.parts]
        self.shares = [1.0] * len(whole)
        self.up_s = whole
        if self.sequential:
            return
        # Read: the shares of those that send nothing say nothing about the others' best.
        unsaid = all(
            share is None for share, bits in zip(given, self.up, strict=True) if bits > 0.0
        )
        if law == "psd" and unsaid:
            total = sum(whole)
            self.shares = [time / total if total > 0.0 else 0.0 for time in whole]
            self.up_s = [total if time > 0.0 else 0.0 for time in whole]
            return
        self.shares = [share or 0.0 for share in given]
        self.up_s = [
            seconds(bits, part.rates.uplink(share))
            for bits, part, share in zip(self.up, self.parts, self.shares, strict=True)
        ]

    def time(self) -> float:
        """Return tau_a of equation (8), seconds; for the sequential order the sum over turns."""
        down = [
            seconds(bits, part.rates.downlink(1.0))
            for bits, part in zip(self.down, self.parts, strict=True)
        ]
        if self.sequential:
            return sum(self.up_s) + sum(down)
        if self.multicast:
            # Read: each block is sent once, as fast as its slowest holder hears it.
            return max(self.up_s) + sum(
                seconds(bits, min(part.rates.downlink(1.0) for part in holders))
                for bits, holders in self.blocks
            )
        return max(self.up_s) + sum(down)


def server_memory(cell: Object, parts: list[Part], order: str, server_rank: int) -> float:
    """Return what the server holds by equation (11) or section 7, bytes."""
    work = cell["workload"]
    count = work["blocks"]
    state = work["block_adapter_bytes"] * server_rank / work["lora_rank"]
    stack = count * (work["block_weight_bytes"] + state) + work["server_base_bytes"]
    if order == "federated":
        # Read: nothing is said; the server keeps the model to average into, and no sample.
        return float(stack)
    batches = [part.device["batch"] for part in parts]
    saved = [
        part.device["batch"]
        * (count - part.blocks)
        * activation_bytes(cell, server_rank, part.server_tokens)
        for part in parts
    ]
    stack += sum(part.device["remembered_bytes"] or 0.0 for part in parts)
    base = [batch * work["sample_base_bytes"] for batch in batches]
    heads = [batch * work["sample_head_bytes"] for batch in batches]
    if order == "sequential":
        # Read: section 7's sequential sum leaves m_h out, its symbols add max_n b_n m_h; so does
        # this, be it that one device's turn has all three at once.
        return float(max(map(sum, zip(saved, base, strict=True))) + stack + max(heads))
    if cell["server_order"] == "parallel":
        return float(sum(saved) + sum(base) + stack + sum(heads))
    return float(max(saved) + sum(base) + stack + max(heads))


def energies(
    cell: Object, parts: list[Part], exchange: Exchange
) -> tuple[float | None, float | None]:
    """Return joules of one round at the server and on all devices; None where kappa is null."""
    steps, psd = cell["training"]["local_steps"], cell["radio"]["power"] == "psd"
    kappa = cell["server"]["energy_coefficient_j_s2_per_flop3"]
    server = None
    if kappa is not None:
        server = steps * sum(kappa * p.server_speed**2 * p.server_flops for p in parts)
    device = 0.0
    for part, share, time in zip(parts, exchange.shares, exchange.up_s, strict=True):
        kappa = part.device["energy_coefficient_j_s2_per_flop3"]
        if kappa is None:
            return server, None
        device += steps * kappa * part.device["compute_flops_per_s"] ** 2 * part.flops
        radiated = part.plan["uplink_share"] if psd else 1.0
        device += steps * part.watts * sending(part.s2, radiated)
        device += part.watts * sending(time, share if psd else 1.0)
    return server, device


def sending(time_s: float, share: float) -> float:
    """Return the seconds of sending at full power that a share of it makes."""
    return time_s * share if 0.0 < time_s < math.inf else time_s
