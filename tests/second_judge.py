"""A second judge of plans, written from the model's page alone, for tests to hold the judge to.

Nothing of sftopt is imported and none of its code was read when this was written: equations (1)
to (12), the orders and ranks of section 7 and the operating points of section 10 are restated
here from scratch, instances and plans being the plain objects of their files. A comment that
begins with "Read:" says how a sentence was understood that could have been understood otherwise.
"""

from typing import Any

from tests.second_judge_parts import Exchange, Part, energies, server_memory
from tests.second_judge_terms import DEVICE_PLAN, Gains, Object, filled, fits, keep_end


def judge(
    instance: Object,
    plan: Object,
    *,
    sequential_power: str = "band",
    gains: dict[str, Gains] | None = None,
) -> Object:
    """Judge a plan on an instance, both as their files hold them; seconds, bytes and joules.

    ``gains``: one round's, by device, in place of the channel's statistics, problem (14).
    """
    cell, order = filled(instance), plan.get("order", "parallel")
    named = {row["id"]: DEVICE_PLAN | row for row in plan["devices"]}
    parts = [
        Part(
            cell,
            device,
            named[device["id"]],
            order,
            sequential_power,
            None if gains is None else gains[device["id"]],
        )
        for device in cell["devices"]
    ]
    server_rank = max(part.rank for part in parts)
    for part in parts:
        part.work(cell, order, server_rank)
    exchange = Exchange(cell, parts, order)
    tau_u, server, tau_d = step_times(cell, parts, order)
    step, tau_a = tau_u + server + tau_d, exchange.time()
    steps = cell["training"]["local_steps"]
    held = server_memory(cell, parts, order, server_rank)
    server_j, device_j = energies(cell, parts, exchange, order)
    accuracy = level(cell, parts)
    found = violations(cell, plan, parts, order, held)
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
        "bytes_adapters": exchange.bytes_moved(),
        "bytes_side": steps * sum(part.side_bits for part in parts) / 8.0,
        "energy_server_j": server_j,
        "energy_device_j": device_j,
        "radiated_w": radiated(cell, parts, exchange, order),
        "devices": [device_numbers(cell, part, order, tau_u, tau_d) for part in parts],
    }


def step_times(cell: Object, parts: list[Part], order: str) -> tuple[float, float, float]:
    """Return tau_u, the server's part and tau_d of equation (7), seconds."""
    if order == "federated":
        # Read: the page gives only the step, the slowest device's whole work: one barrier.
        return max(part.s1 + part.s5 for part in parts), 0.0, 0.0
    ups = [part.s1 + part.s2 for part in parts]
    downs = [part.s4 + part.s5 for part in parts]
    served = [part.s3 for part in parts]
    if order == "sequential":
        return sum(ups), sum(served), sum(downs)
    whole = max(served) if cell["server_order"] == "parallel" else sum(served)
    return max(ups), whole, max(downs)


def radiated(cell: Object, parts: list[Part], exchange: Exchange, order: str) -> list[float]:
    """Return the most that each device radiates in the round, W."""
    psd, most = cell["radio"]["power"] == "psd", []
    for part, share, bits in zip(parts, exchange.shares, exchange.up, strict=True):
        step = part.plan["uplink_share"] if psd else 1.0
        step = 0.0 if order == "federated" else step
        adapters = (share if psd else 1.0) if bits > 0.0 else 0.0
        most.append(part.watts * max(step, adapters))
    return most


def device_numbers(cell: Object, part: Part, order: str, tau_u: float, tau_d: float) -> Object:
    """Return the numbers of one device: seconds, bytes and bits of one step."""
    memory = part.memory(cell, order)
    parallel = order == "parallel"
    return {
        "id": part.device["id"],
        "s1_s": part.s1,
        "s2_s": part.s2,
        "s3_s": part.s3,
        "s4_s": part.s4,
        "s5_s": part.s5,
        "slack_u_s": tau_u - (part.s1 + part.s2) if parallel else 0.0,
        "slack_d_s": tau_d - (part.s4 + part.s5) if parallel else 0.0,
        "memory_bytes": memory,
        "memory_slack_bytes": part.device["memory_bytes"] - memory,
        "accuracy": part.accuracy,
        # Read: all that (4) sends in a step, side bits too.
        "uplink_bits_per_step": part.up_bits + part.side_bits,
        "downlink_bits_per_step": part.down_bits,
    }


def violations(
    cell: Object, plan: Object, parts: list[Part], order: str, held: float
) -> list[tuple[str, str]]:
    """Return the family and the place of every limit that is missed by more than the tolerance."""
    tol = 1e-9 if plan.get("feas_tol") is None else plan["feas_tol"]
    radio, found = cell["radio"], []
    sums = {"uplink_share": 0.0, "downlink_share": 0.0, "adapter_share": 0.0}
    shares_left_out = radio["power"] == "psd" and all(
        part.plan["adapter_uplink_share"] is None for part in parts
    )
    for part in parts:
        name = part.device["id"]
        found += [("domain", f"{name}.{field}") for field in wrong_fields(cell, part, order, tol)]
        shares = {
            "uplink_share": part.plan["uplink_share"],
            "downlink_share": part.plan["downlink_share"],
            "adapter_share": part.plan["adapter_uplink_share"] or 0.0,
        }
        for family, share in shares.items():
            # Read: in turn each has the band to itself, so each share has its own limit of 1;
            # a federated round has no boundary and asks for the adapters' shares only.
            if order == "federated" and family != "adapter_share":
                continue
            over = order == "sequential" and share > 1.0 + tol
            # Read: what is sent needs a share above 0, be it that the page says only ">= 0":
            # at 0 the round never ends.
            sends = part.blocks > 0 if family == "adapter_share" else True
            needs = sends and share <= 0.0
            if family == "adapter_share" and (shares_left_out or order == "sequential"):
                needs = False
            if needs or over or share < -tol:
                found.append((family, name))
            sums[family] += share if order != "sequential" else 0.0
        if part.memory(cell, order) > part.device["memory_bytes"] * (1.0 + tol):
            found.append(("device_memory", name))
        least = radio["outage_rate_bits_per_s"] * (1.0 - tol)
        if min(part.rates.uplink(1.0), part.rates.downlink(1.0)) < least:
            found.append(("outage", name))
    found += [(family, "all") for family, total in sums.items() if total > 1.0 + tol]
    if held > cell["server"]["memory_bytes"] * (1.0 + tol):
        found.append(("server_memory", "all"))
    return found + accuracy_violations(cell, parts, tol)


def wrong_fields(cell: Object, part: Part, order: str, tol: float) -> list[str]:
    """Return the fields of one device's plan that lie outside their domain."""
    work, server, plan, device = cell["workload"], cell["server"], part.plan, part.device
    top = work["blocks"] if order == "federated" else work["blocks"] - 1
    most = top if device["blocks_max"] is None else min(top, device["blocks_max"])
    least = work["blocks"] if order == "federated" else device["blocks_min"]
    wrong = []
    if part.mode is not None and part.mode["kind"] == "tokens":
        least = max(least, 1)
    if not least <= part.blocks <= most:
        wrong.append("blocks")
    if part.mode is None or not fits(part.mode, plan):
        wrong.append("mode")
    elif part.mode["kind"] == "topk":
        low = cell["compression"]["keep_min"]
        if low is None:
            low = max(0.05, 1.2 / cell["accuracy"]["keep_decay"])
        if not low - tol <= plan["keep_fraction"] <= keep_end(cell, part.mode) + tol:
            wrong.append("keep_fraction")
    elif abs(plan["keep_fraction"] - 1.0) > tol:
        wrong.append("keep_fraction")
    speed, slowest = part.server_speed, server["compute_min_flops_per_s"]
    fastest = server["compute_max_flops_per_s"] or server["compute_flops_per_s"]
    slowest = server["compute_flops_per_s"] / 4.0 if slowest is None else slowest
    chosen = plan["server_flops_per_s"] is not None
    if chosen and not slowest * (1.0 - tol) <= speed <= fastest * (1.0 + tol):
        wrong.append("server_flops_per_s")
    if part.rank < 1:
        wrong.append("rank")
    return wrong


def accuracy_violations(cell: Object, parts: list[Part], tol: float) -> list[tuple[str, str]]:
    """Return what misses the accuracy limits of equation (12); unknown accuracies miss none."""
    curve = cell["accuracy"]
    values = [part.accuracy for part in parts]
    if any(value is None for value in values):
        return []
    least = curve["minimum"] - tol
    if curve["scope"] == "mean":
        each = curve["minimum_each"]
        each = curve["minimum"] - 0.05 if each is None else each
        found = [
            ("accuracy_each", part.device["id"])
            for part in parts
            if part.accuracy is not None and part.accuracy < each - tol
        ]
        return found + ([("accuracy", "all")] if level(cell, parts) < least else [])
    found = [
        ("accuracy", part.device["id"])
        for part in parts
        if part.accuracy is not None and part.accuracy < least
    ]
    if curve["scope"] == "common":
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
