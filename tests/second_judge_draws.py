"""Random cells and plans for the second judge: every field and variant, feasible and not.

Both are plain objects of their files. Limits of a cell are drawn around what the plan needs, so
that plans pass and fail each family of limits in turn: met to the last bit, or by 1e-5 or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sftopt.core.families import FAMILIES, generate
from tests.second_judge import judge
from tests.second_judge_terms import Object, filled, keep_end, label

NAMES = tuple(FAMILIES)


@dataclass(frozen=True)
class Scope:
    """What is drawn: ``orders`` of plans, and whether plans may ask what came after the first."""

    orders: tuple[str, ...] = ("parallel", "sequential", "federated")
    points: bool = True
    ranks: bool = True
    speeds: bool = True
    side: bool = True


TODAY = Scope()
"""What the judge counts so far."""


@dataclass(frozen=True)
class Case:
    """One cell with one plan, as their files hold them."""

    instance: Object
    plan: Object


class Draw:
    """Draws cases; the same seed draws the same."""

    def __init__(self, seed: int, scope: Scope) -> None:
        self.random = np.random.default_rng(seed)
        self.scope = scope

    def chance(self, probability: float) -> bool:
        """Return true with this probability."""
        return bool(self.random.random() < probability)

    def pick(self, values: Any) -> Any:
        """Return one of the values."""
        return values[int(self.random.integers(len(values)))]

    def between(self, low: float, high: float) -> float:
        """Return a number drawn evenly between two."""
        return float(self.random.uniform(low, high))

    def case(self) -> Case:
        """Draw a cell and a plan, then the cell's limits around what the plan needs."""
        order = self.pick(self.scope.orders)
        cell = self.cell()
        plan = self.plan(cell, order)
        self.limits(cell, plan)
        if self.chance(0.3):
            self.spoil(cell, plan)
        return Case(cell, plan)

    # ---- the cell

    def cell(self) -> Object:
        """Draw a family's cell with most of its fields changed."""
        made = generate(self.pick(NAMES), int(self.random.integers(1, 7)), int(self.pick(range(9))))
        cell: Object = made.model_dump(mode="json")
        work, radio, server = cell["workload"], cell["radio"], cell["server"]
        if self.chance(0.5):
            work["blocks"] = int(self.random.integers(2, 15))
        for field, value in work.items():
            if field.endswith(("_flops", "_bytes")) and value and field != "element_bytes":
                work[field] = value * self.between(1.0, 1.3)
        work["adapter_bits"] = self.pick((16, 32))
        work["reference_bits"] = self.pick((16, 32))
        work["lora_rank"] = self.pick((1, 4, 16))
        if self.chance(0.05):
            work["adapted_matrices"] = None
        for field in ("block_activation_bytes", "adapter_parameters_per_rank", "head_flops"):
            if self.chance(0.03):
                work[field] = 0.0
        for field in ("head_parameters", "head_bytes"):
            if self.chance(0.05):
                work[field] = None
        work["side_bits"] = self.pick((0.0, 7.0, 8714.0)) if self.scope.side else 0.0
        for field, values in {
            "power": ("psd", "total"),
            "downlink": ("kept", "kept", "dense"),
            "adapter_downlink": ("unicast", "unicast", "multicast"),
            "fading": ("gamma", "gamma", "none"),
            "diversity_branches": (1, 2, 4, 8),
            "snr_gap": (1.0, 2.5),
            "efficiency_cap_bits_per_s_hz": (5.0, 7.4, 30.0),
        }.items():
            radio[field] = self.pick(values)
        cell["server_order"] = self.pick(("in_turn", "parallel"))
        cell["training"]["local_steps"] = self.pick((1, 10, 37))
        if self.chance(0.3):
            server["energy_coefficient_j_s2_per_flop3"] = None
        cell["compression"] = {
            "modes": self.modes(work),
            "keep_min": self.pick((None, 0.02, 0.1)),
            "keep_max": self.pick((1.0, 1.0, 0.6)),
        }
        self.accuracy(cell)
        self.devices(cell)
        return cell

    def modes(self, work: Object) -> list[Object]:
        """Draw the modes on offer, of all kinds, each with a name of its own."""
        kinds = ["topk", "topk", "dense", "none"]
        if self.scope.points and (not work["is_decoder"] or self.chance(0.1)):
            kinds += ["tokens", "tokens"]
        modes: list[Object] = []
        for _ in range(int(self.random.integers(1, 7))):
            kind = self.pick(kinds)
            mode = {"kind": kind, "bits": int(self.pick((1, 2, 3, 4, 6, 8, 8, 16, 20)))}
            mode["side_bits_per_element"] = self.pick((0.0, 0.0208333, 0.25))
            if kind == "tokens":
                mode["tokens"] = int(self.random.integers(1, work["tokens"]))
            if kind != "none" and self.chance(0.4):
                mode["value_bits"] = self.between(0.3, float(mode["bits"]))
            if kind == "topk" and self.chance(0.5):
                mode["mask_overhead"] = self.overhead()
            if self.scope.points:
                self.own_figures(mode, work["blocks"])
            if self.chance(0.3) or label(DEFAULT | mode) in {label(DEFAULT | m) for m in modes}:
                mode["name"] = f"mode {len(modes)}"
            modes.append(mode)
        return modes

    def overhead(self) -> list[Object]:
        """Draw the mask's factor by intervals of the keep fraction."""
        ends = [0.0, *sorted(self.random.uniform(0.05, 0.95, self.pick((0, 1, 2))).tolist()), 1.0]
        return [
            {"keep_from": low, "keep_to": high, "factor": self.pick((0.0, 0.82, 1.0, 1.3))}
            for low, high in pairwise(ends)
        ]

    def own_figures(self, mode: Object, blocks: int) -> None:
        """Give a mode measured figures of its own, where its kind may have them."""
        if self.chance(0.3):
            mode["codec_seconds_factor"] = self.between(0.0, 3.0)
        if mode["kind"] == "topk":
            return
        if self.chance(0.4):
            mode["gradient_bits"] = self.between(0.5, 16.0)
        if mode["kind"] == "tokens" or self.chance(0.4):
            losses = self.random.uniform(0.0, 0.05, blocks).tolist()
            mode["loss"] = self.pick((losses[0], losses))

    def accuracy(self, cell: Object) -> None:
        """Draw the accuracy curve and over what its limit is held."""
        blocks = cell["workload"]["blocks"]
        cell["accuracy"] |= {
            "keep_decay": self.between(5.0, 30.0),
            "quantisation_loss": self.between(0.0, 0.6),
            "quantisation_scales_with_keep": self.chance(0.5),
            "cut_factor": self.pick((None, self.random.uniform(0.5, 1.5, blocks).tolist())),
            "scope": self.pick(("mean", "each", "common")),
            "minimum_each": self.pick((None, 0.5)),
        }

    def devices(self, cell: Object) -> None:
        """Change every device: floors, codecs, gains, energy."""
        last = cell["workload"]["blocks"] - 1
        weights = self.random.dirichlet(np.full(len(cell["devices"]), 3.0))
        null = self.chance(0.2)
        for device, weight in zip(cell["devices"], weights / weights.sum(), strict=True):
            device["weight"] = float(weight)
            device["blocks_min"] = int(self.random.integers(0, min(3, last) + 1))
            most = int(self.random.integers(device["blocks_min"], last + 1))
            device["blocks_max"] = self.pick((None, None, most))
            device["batch"] = int(self.random.integers(1, 65))
            device["uplink_gain"] *= float(10.0 ** self.between(-2.0, 1.0))
            device["downlink_gain"] = self.pick((None, device["uplink_gain"] * 0.3))
            device["codec_s_per_element"] = self.pick((0.0, 2e-9))
            device["lora_rank"] = self.pick((None, None, 8))
            remembers = device["batch"] % 3 == 0
            device["remembered_bytes"] = 1e6 * device["batch"] if remembers else None
            kappa = None if null and self.chance(0.5) else self.between(1e-36, 1e-34)
            device["energy_coefficient_j_s2_per_flop3"] = kappa

    # ---- the plan

    def plan(self, cell: Object, order: str) -> Object:
        """Draw a plan inside the domain; limits of the cell are not looked at."""
        whole = filled(cell)
        count = len(cell["devices"])
        blocks = cell["workload"]["blocks"]
        shares = [self.shares(count) for _ in range(3)]
        given = cell["radio"]["power"] == "total" or self.chance(0.4)
        common = self.decision(whole) if cell["accuracy"]["scope"] == "common" else None
        ranked = self.scope.ranks and self.chance(0.5)
        alone = 1.0 if order == "sequential" else None
        rows = []
        for n, device in enumerate(cell["devices"]):
            mode, keep = common or self.decision(whole)
            if order == "federated":
                mode, keep = DEFAULT | {"kind": "none", "bits": 32}, 1.0
                device["blocks_max"] = self.pick((None, None, blocks, device["blocks_max"]))
            most = blocks - 1 if device["blocks_max"] is None else device["blocks_max"]
            floor = max(device["blocks_min"], 1 if mode["kind"] == "tokens" else 0)
            held = int(self.random.integers(floor, max(most, floor) + 1))
            row = {
                "id": device["id"],
                "blocks": blocks if order == "federated" else held,
                "mode": mode["kind"],
                "mode_name": None if self.chance(0.1) else label(mode),
                "bits": mode["bits"] or cell["workload"]["reference_bits"],
                "keep_fraction": keep,
                "uplink_share": alone or shares[0][n],
                "downlink_share": alone or shares[1][n],
                "adapter_uplink_share": alone or shares[2][n] if given else None,
            }
            if ranked and self.chance(0.8):
                row["rank"] = self.pick((1, 2, 4, 8, 16))
            if self.scope.speeds and self.chance(0.4):
                row["server_flops_per_s"] = self.speed(cell["server"])
            rows.append(row)
        plan = {"order": order, "devices": rows, "feas_tol": self.pick((None, 1e-9, 1e-7))}
        if order == "sequential":
            plan["sequential_power"] = self.pick(("band", "share"))
        elif self.scope.ranks and self.chance(0.3):
            equal = len({row.get("rank", cell["workload"]["lora_rank"]) for row in rows}) == 1
            plan["aggregation"] = self.pick(("averaging",) * equal + ("concatenation",))
        return plan

    def shares(self, count: int) -> list[float]:
        """Draw shares that sum to at most 1."""
        parts = self.random.dirichlet(np.full(count, 4.0)) * self.pick((0.5, 0.9, 1.0))
        return [float(part) for part in parts]

    def decision(self, cell: Object) -> tuple[Object, float]:
        """Draw a mode with a keep fraction in its domain."""
        mode = self.pick(cell["compression"]["modes"])
        if mode["kind"] != "topk":
            return mode, 1.0
        low = cell["compression"]["keep_min"]
        low = max(0.05, 1.2 / cell["accuracy"]["keep_decay"]) if low is None else low
        high = max(low, keep_end(cell, mode))
        return mode, self.pick((low, *(self.between(low, high) for _ in range(8))))

    def speed(self, server: Object) -> float:
        """Draw a server speed in its range."""
        fastest = server["compute_max_flops_per_s"] or server["compute_flops_per_s"]
        slowest = server["compute_min_flops_per_s"] or server["compute_flops_per_s"] / 4.0
        return self.between(slowest, fastest)

    # ---- limits around the plan, and plans outside their domain

    def limits(self, cell: Object, plan: Object) -> None:
        """Set memory, accuracy and outage limits around what the plan has, mostly met."""
        found = judge(cell, plan)
        for device, row in zip(cell["devices"], found["devices"], strict=True):
            if row["memory_bytes"] > 0.0:
                device["memory_bytes"] = row["memory_bytes"] * self.around(0.04)
        if found["server_memory_bytes"] > 0.0:
            cell["server"]["memory_bytes"] = found["server_memory_bytes"] * self.around()
        if found["accuracy"] is not None:
            cell["accuracy"]["minimum"] = found["accuracy"] - (self.around() - 1.0) / 20.0

    def around(self, below: float = 0.1) -> float:
        """Return a factor above 1, at times 1, with the probability ``below`` one below it."""
        if self.chance(0.05):
            return 1.0
        if self.chance(below):
            return 1.0 - self.between(1e-5, 0.2)
        return 1.0 + self.between(1e-5, 0.5)

    def spoil(self, cell: Object, plan: Object) -> None:
        """Move one entry of the plan, or one limit of the cell, out of its range."""
        row = self.pick(plan["devices"])
        blocks = cell["workload"]["blocks"]
        keep = row["keep_fraction"]
        changes: list[Object] = [
            {"blocks": self.pick((-1, 0, 0, blocks - 1, blocks, blocks + 1))},
            {"keep_fraction": self.pick((self.between(0.0, 1.1), keep - 0.01, keep + 0.01))},
            {"mode_name": self.pick(("no such mode", None)), "bits": self.pick((2, 4, 8))},
            {"mode": "dense"},
            {"uplink_share": self.pick((-0.01, 0.0, 0.9, 1.1))},
            {"downlink_share": self.pick((-0.01, 0.0, 0.9, 1.1))},
            {"adapter_uplink_share": self.pick((None, -0.01, 0.0, 0.9, 1.1))},
        ]
        if self.scope.ranks:
            changes.append({"rank": self.pick((0, -3, 400))})
        if self.scope.speeds:
            slow = cell["server"]["compute_flops_per_s"]
            changes.append({"server_flops_per_s": slow * self.pick((1e-3, 1e3))})
        row |= self.pick(changes)
        if self.chance(0.2):
            cell["radio"]["outage_rate_bits_per_s"] = self.pick((1e6, 3e7))
        if self.chance(0.05):
            self.pick(cell["devices"])["uplink_gain"] = 0.0


DEFAULT: Object = {"name": None, "tokens": None, "bits": None}
"""What a mode's label is made of."""
