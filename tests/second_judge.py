"""A second judge of plans, written from the model's page alone, for tests to hold the judge to.

Nothing of sftopt is imported and none of its code was read when this was written: equations (1)
to (12), the orders and ranks of section 7 and the operating points of section 10 are restated
here from scratch, instances and plans being the plain objects of their files. A comment that
begins with "Read:" says how a sentence was understood that could have been understood otherwise.
"""

from typing import Any

from tests.second_judge_parts import Exchange, Part, energies, merges, server_memory
from tests.second_judge_terms import DEVICE_PLAN, PLAN, Gains, Object, filled, fits, keep_end


def judge(instance: Object, plan: Object, *, gains: dict[str, Gains] | None = None) -> Object:
    """Judge a plan on an instance, both as their files hold them; seconds, bytes and joules.

    ``gains``: one round's, by device, in place of the channel's statistics, problem (14).
    """
    cell, plan = filled(instance), PLAN | plan
    order = plan["order"]
    named = {row["id"]: DEVICE_PLAN | row for row in plan["devices"]}
    parts = [
        Part(
            cell, device, named[device["id"]], plan, None if gains is None else gains[device["id"]]
        )
        for device in cell["devices"]
    ]
    server_rank = max(part.rank for part in parts)
    for part in parts:
        part.work(cell, order, server_rank)
    exchange = Exchange(cell, plan, parts)
    tau_u, server, tau_d = step_times(cell, parts, order)
    step, tau_a = tau_u + server + tau_d, exchange.time()
    steps = cell["training"]["local_steps"]
    held = server_memory(cell, parts, order, server_rank)
    server_j, device_j = energies(cell, parts, exchange)
    accuracy = level(cell, parts)
    found = violations(cell, plan, parts, exchange, held)
    return {
        "feasible": not found,
        "violations": found,
        "round_s": steps * step + tau_a,
        "step_s": step,
        "tau_u_s": tau_u,
        "server_s": server,
        "tau_d_s": tau_d,
        "tau_a_s": tau_a,
        "accuracy": accuracy,
        "accuracy_slack": None if accuracy is None else accuracy - cell["accuracy"]["minimum"],
        "server_memory_bytes": held,
        "server_memory_slack_bytes": cell["server"]["memory_bytes"] - held,
        "bytes_up": steps * sum(part.up_bits for part in parts) / 8.0,
        "bytes_down": steps * sum(part.down_bits for part in parts) / 8.0,
        "bytes_adapters": exchange.adapter_bytes,
        "bytes_head": exchange.head_bytes,
        "bytes_side": steps * sum(part.side_bits for part in parts) / 8.0,
        "energy_server_j": server_j,
        "energy_device_j": device_j,
        "radiated_w_max": radiated(cell, parts, exchange, order),
        "parts": round_parts(cell, parts, order, (server, tau_a)),
        "devices": [device_numbers(cell, part, order, tau_u, tau_d) for part in parts],
    }


def step_times(cell: Object, parts: list[Part], order: str) -> tuple[float, float, float]:
    """Return tau_u, the server's part and tau_d of equation (7), seconds."""
    ups = [part.s1 + part.s2 for part in parts]
    downs = [part.s4 + part.s5 for part in parts]
    served = [part.s3 for part in parts]
    if order == "sequential":
        return sum(ups), sum(served), sum(downs)
    # A federated step is all in s1: the slowest device's whole work, one barrier.
    whole = max(served) if cell["server_order"] == "parallel" else sum(served)
    return max(ups), whole, max(downs)


def round_parts(
    cell: Object, parts: list[Part], order: str, shared: tuple[float, float]
) -> dict[str, float]:
    """Return where a round's seconds go: of the barriers' own devices, in turn of all."""
    steps = cell["training"]["local_steps"]
    ups = downs = parts
    if order != "sequential":
        ups = [max(parts, key=lambda part: part.s1 + part.s2)]
        downs = [max(parts, key=lambda part: part.s4 + part.s5)]
    own = sum(part.s1 for part in ups) + sum(part.s5 for part in downs)
    return {
        "device_s": steps * own,
        "uplink_s": steps * sum(part.s2 for part in ups),
        "server_s": steps * shared[0],
        "downlink_s": steps * sum(part.s4 for part in downs),
        "adapters_s": shared[1],
    }


def radiated(cell: Object, parts: list[Part], exchange: Exchange, order: str) -> float:
    """Return the most that any device radiates in the round, W."""
    psd, most = cell["radio"]["power"] == "psd", 0.0
    for part, share, bits in zip(parts, exchange.shares, exchange.up, strict=True):
        step = part.plan["uplink_share"] if psd else 1.0
        step = 0.0 if order == "federated" else step
        adapters = (share if psd else 1.0) if bits > 0.0 else 0.0
        most = max(most, part.watts * step, part.watts * adapters)
    return float(most)


def device_numbers(cell: Object, part: Part, order: str, tau_u: float, tau_d: float) -> Object:
    """Return the numbers of one device: seconds, bytes and bits of one step."""
    memory = part.memory(cell, order)
    waits = order != "sequential"
    return {
        "id": part.device["id"],
        "s1_s": part.s1,
        "s2_s": part.s2,
        "s3_s": part.s3,
        "s4_s": part.s4,
        "s5_s": part.s5,
        "slack_u_s": tau_u - (part.s1 + part.s2) if waits else 0.0,
        "slack_d_s": tau_d - (part.s4 + part.s5) if waits else 0.0,
        "memory_bytes": memory,
        "memory_slack_bytes": part.device["memory_bytes"] - memory,
        "accuracy": part.accuracy,
        # Read: of the boundary, without the side bits that (4) sends beside it.
        "uplink_bits_per_step": part.up_bits,
        "downlink_bits_per_step": part.down_bits,
    }


def violations(
    cell: Object, plan: Object, parts: list[Part], exchange: Exchange, held: float
) -> list[tuple[str, str]]:
    """Return the family and the place of every limit that is missed by more than the tolerance."""
    tol = 1e-9 if plan["feas_tol"] is None else plan["feas_tol"]
    order, radio = plan["order"], cell["radio"]
    found = [("domain", field) for field in unknown_fields(cell, plan, parts)]
    for part in parts:
        name = part.device["id"]
        found += [("domain", f"{name}.{field}") for field in wrong_fields(cell, part, order, tol)]
        if part.memory(cell, order) > part.device["memory_bytes"] * (1.0 + tol):
            found.append(("device_memory", name))
        least = radio["outage_rate_bits_per_s"] * (1.0 - tol)
        if min(part.rates.uplink(1.0), part.rates.downlink(1.0)) < least:
            found.append(("outage", name))
    if held > cell["server"]["memory_bytes"] * (1.0 + tol):
        found.append(("server_memory", "all"))
    found += share_violations(cell, parts, exchange, order, tol)
    return found + accuracy_violations(cell, parts, order, tol)


def share_violations(
    cell: Object, parts: list[Part], exchange: Exchange, order: str, tol: float
) -> list[tuple[str, str]]:
    """Return the shares that are negative, missing, or sum to more than 1."""
    sent = [1.0] * len(parts)
    left_out = all(part.plan["adapter_uplink_share"] is None for part in parts)
    found = []
    for family, field, bits in (
        ("uplink_share", "uplink_share", sent),
        ("downlink_share", "downlink_share", sent),
        ("adapter_share", "adapter_uplink_share", exchange.up),
    ):
        shares = [part.plan[field] for part in parts]
        if field == "adapter_uplink_share" and left_out:
            if order == "sequential" or cell["radio"]["power"] == "psd":
                continue
        elif field != "adapter_uplink_share" and order == "federated":
            continue  # no boundary
        if order == "sequential":
            # Read: the whole band is a share of 1, no more and no less.
            apart = [0.0 if share is None else abs(share - 1.0) for share in shares]
            found += [(family, "each") for value in apart if value > tol]
            continue
        given = [share or 0.0 for share in shares]
        for share, need in zip(given, bits, strict=True):
            # Read: what is sent needs a share above 0, be it that the page says only ">= 0": at
            # 0 the round never ends.
            if share < -tol or (need > 0.0 and share <= 0.0):
                found.append((family, "each"))
        if sum(given) > 1.0 + tol:
            found.append((family, "all"))
    return found


def unknown_fields(cell: Object, plan: Object, parts: list[Part]) -> list[str]:
    """Return what the plan needs and the workload does not give, and rules that cannot be."""
    work, order, found = cell["workload"], plan["order"], []
    ranks = {part.rank for part in parts}
    other = max(ranks | {work["lora_rank"]}) > min(ranks | {work["lora_rank"]})
    merged = merges(plan, parts) and order != "sequential"
    sized = work["adapter_parameters_per_rank"] > 0.0
    needed = merged or (other and work["block_activation_bytes"] > 0.0)
    if sized and needed and work["adapted_matrices"] is None:
        # Read: without the count neither m_a(r) nor the dense update is known.
        found.append("workload.adapted_matrices")
    if plan["aggregation"] is not None and order == "sequential":
        found.append("aggregation")
    if plan["aggregation"] == "averaging" and len(ranks) > 1:
        found.append("aggregation")
    if order == "federated":
        found += [name for name in ("head_parameters", "head_bytes") if work[name] is None]
    return found


def wrong_fields(cell: Object, part: Part, order: str, tol: float) -> list[str]:
    """Return the fields of one device's plan that lie outside their domain."""
    work, server, plan, device = cell["workload"], cell["server"], part.plan, part.device
    top = work["blocks"] if order == "federated" else work["blocks"] - 1
    most = top if device["blocks_max"] is None else min(top, device["blocks_max"])
    least = work["blocks"] if order == "federated" else device["blocks_min"]
    wrong = []
    if order == "federated":
        wrong += ["mode"] if plan["mode"] != "none" else []
    else:
        wrong += wrong_compression(cell, part, tol)
        if part.mode is not None and part.mode["kind"] == "tokens":
            least = max(least, 1)
    if not least <= part.blocks <= most:
        wrong.append("blocks")
    speed, slowest = part.server_speed, server["compute_min_flops_per_s"]
    fastest = server["compute_max_flops_per_s"] or server["compute_flops_per_s"]
    slowest = server["compute_flops_per_s"] / 4.0 if slowest is None else slowest
    chosen = plan["server_flops_per_s"] is not None
    if chosen and not slowest * (1.0 - tol) <= speed <= fastest * (1.0 + tol):
        wrong.append("server_flops_per_s")
    if part.rank < 1:
        wrong.append("rank")
    return wrong


def wrong_compression(cell: Object, part: Part, tol: float) -> list[str]:
    """Return what is outside its domain of a device's mode and keep fraction."""
    plan, mode = part.plan, part.mode
    if mode is None:
        return ["mode"]
    wrong = [] if fits(mode, plan) else ["mode"]
    if mode["kind"] == "tokens" and cell["workload"]["is_decoder"]:
        wrong.append("mode")
    low = high = 1.0
    if mode["kind"] == "topk":
        low, high = cell["compression"]["keep_min"], keep_end(cell, mode)
        if low is None:
            low = max(0.05, 1.2 / cell["accuracy"]["keep_decay"])
    if not low - tol <= plan["keep_fraction"] <= high + tol:
        wrong.append("keep_fraction")
    return wrong


def accuracy_violations(
    cell: Object, parts: list[Part], order: str, tol: float
) -> list[tuple[str, str]]:
    """Return what misses the accuracy limits of equation (12)."""
    curve = cell["accuracy"]
    least = curve["minimum"] - tol
    # Read: an accuracy that nobody measured meets no limit.
    unknown = [("accuracy", "all") for part in parts if part.accuracy is None]
    if curve["scope"] == "mean":
        each = curve["minimum_each"]
        each = curve["minimum"] - 0.05 if each is None else each
        found = [
            ("accuracy_each", part.device["id"])
            for part in parts
            if part.accuracy is not None and part.accuracy < each - tol
        ]
        if not unknown and level(cell, parts) < least:
            found.append(("accuracy", "all"))
        return found + unknown
    found = unknown + [
        ("accuracy", part.device["id"])
        for part in parts
        if part.accuracy is not None and part.accuracy < least
    ]
    if curve["scope"] == "common" and order != "federated":
        first = parts[0]
        for part in parts[1:]:
            apart = abs(part.plan["keep_fraction"] - first.plan["keep_fraction"]) > tol
            if apart or part.mode != first.mode:
                found.append(("domain", f"{part.device['id']}.common"))
    return found


def level(cell: Object, parts: list[Part]) -> Any:
    """Return the accuracy that the limit is held against; None where one device's is unknown."""
    if any(part.accuracy is None for part in parts):
        return None
    if cell["accuracy"]["scope"] == "mean":
        return sum(part.device["weight"] * part.accuracy for part in parts)
    return min(part.accuracy for part in parts if part.accuracy is not None)
