"""Is a certified bound ever above a verified point? Randomised instances against ground truth.

``python -m benchmarks.studies.certify_study --reference exhaustive --count 2000 --out FILE.jsonl``
appends one row per instance (seed, variant, both values and bounds) and goes on where it stopped;
the page FILE.md is made of the rows. ``--reference scip`` solves both product and ratio forms.
``--points`` puts tokens, measured losses, codec factors and side bits into every instance.

A bound is capped by the best plan, which usually is the optimum: a box dropped wrongly would not
show. So every instance is searched a second time by a search that takes its plans for 3 % worse
than they are: its bound has room to rise above the truth, and must not.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from sftopt.core.derived import Derived, derive
from sftopt.core.instance import Instance
from sftopt.core.memory import server_memory_bytes
from sftopt.core.point import IntegralPoint, to_plan
from sftopt.core.verify import verify_plan
from sftopt.formulations.registry import get_formulation
from sftopt.solvers.base import Deadline, Outcome, Task
from sftopt.solvers.certify import SOLVER
from sftopt.solvers.certify.plan.moves import Primal
from sftopt.solvers.certify.search import Search
from sftopt.solvers.exhaustive import SOLVER as EXHAUSTIVE
from sftopt.solvers.options import Options
from tests.samples import VARIANTS, sample_instance
from tests.token_cells import with_points

HANDICAP = 0.03
"""Share by which the blind search takes its plans for worse than they are."""
BLIND_NODES = 200
"""Most boxes of the blind search."""

_MANY = 3
"""With more devices fewer cuts and modes are on offer."""

STRESSES: dict[str, dict[str, Any]] = {
    "zero slack": {"accuracy": {"minimum": 0.92}, "modes": (4, {"kind": "none", "bits": 32})},
    "strong server": {"server": {"compute_flops_per_s": 1e15}},
    "weak server": {"server": {"compute_flops_per_s": 1e12}},
    "narrow band": {"radio": {"uplink_bandwidth_hz": 2e4, "downlink_bandwidth_hz": 2e4}},
    "one mode": {"modes": (4,)},
}  # fmt: skip
"""Edges beside the variants of the model, as keywords of ``sample_instance``."""


def _only_the_floor(data: dict[str, Any], draw: np.random.Generator) -> None:
    """Devices that hold no more than the privacy floor, met exactly."""
    work = data["workload"]
    for device in data["devices"]:
        device["memory_bytes"] = (
            work["device_base_bytes"]
            + device["batch"] * work["sample_base_bytes"]
            + device["blocks_min"]
            * (
                work["block_weight_bytes"]
                + work["block_adapter_bytes"]
                + device["batch"] * work["block_activation_bytes"]
            )
        )


def _near_outage(data: dict[str, Any], draw: np.random.Generator) -> None:
    """One device with a rate over the whole band a little above R_min."""
    radio, device = data["radio"], data["devices"][0]
    noise = radio["noise_w_per_hz"] * radio["uplink_bandwidth_hz"]
    efficiency = 1.01 * radio["outage_rate_bits_per_s"] / radio["uplink_bandwidth_hz"]
    device["uplink_gain"] = noise * np.expm1(efficiency * np.log(2.0)) / device["transmit_power_w"]
    device["downlink_gain"] = 1e-10


def _ties(data: dict[str, Any], draw: np.random.Generator) -> None:
    """All devices alike."""
    count = len(data["devices"])
    first = {**data["devices"][0], "weight": 1.0 / count}
    data["devices"] = [{**first, "id": f"dev{n}"} for n in range(count)]


def _wide_spread(data: dict[str, Any], draw: np.random.Generator) -> None:
    """Gains and speeds over nine decades."""
    for device in data["devices"]:
        device["uplink_gain"] = float(10 ** draw.uniform(-14, -5))
        device["compute_flops_per_s"] = float(10 ** draw.uniform(9, 15))


def _accuracy_at_its_limit(data: dict[str, Any], draw: np.random.Generator) -> None:
    """The most that the best mode can reach is just what is asked for."""
    derived = derive(Instance.model_validate(data))
    keeps = np.linspace(0.0, 1.0, 20_001)
    losses = []
    for option in derived.options:
        grid = option.keep_low + keeps * (option.keep_high - option.keep_low)
        losses.append(float(derived.loss(option, grid).min()))
    least = min(losses) * (1.0 + 1e-12) + 1e-15
    data["accuracy"]["minimum"] = data["accuracy"]["uncompressed"] - least


def _tight_summed_memory(data: dict[str, Any], draw: np.random.Generator) -> None:
    """Server in parallel, its memory between what the floors and what the tops leave it."""
    data["server_order"] = "parallel"
    instance = Instance.model_validate(data)
    derived = derive(instance)
    at_server = [
        float((derived.server_activation_bytes * (derived.blocks - cuts)).sum())
        for cuts in (derived.cut_floor, derived.cut_high)
    ]
    room = at_server[1] + draw.uniform(0.0, 1.0) * (at_server[0] - at_server[1])
    saves_nothing = server_memory_bytes(instance, [derived.blocks] * derived.devices)
    data["server"]["memory_bytes"] = saves_nothing + room


CHANGES = {
    "only the floor": _only_the_floor,
    "near outage": _near_outage,
    "ties": _ties,
    "1e9 spread": _wide_spread,
    "accuracy at its limit": _accuracy_at_its_limit,
    "tight summed memory": _tight_summed_memory,
}
"""Edges made by changing an instance's data in place."""


def instance_of(seed: int, points: bool = False) -> tuple[str, Instance]:
    """Draw a kind and an instance: 1 to 3 devices, 2 to 4 blocks, every variant in turn.

    With ``points`` operating points are on offer too, and there may be a fourth device.
    """
    kinds = {**VARIANTS, **STRESSES}
    names = [*kinds, *CHANGES]
    name = names[seed % len(names)]
    draw = np.random.default_rng([seed, 17])
    fields = {key: value for key, value in kinds.get(name, {}).items()}
    fields.setdefault("modes", (2, 4))
    blocks = int(draw.integers(2, 5))
    if "accuracy" in fields and "cut_factor" in fields["accuracy"]:
        factor = tuple(float(f) for f in np.linspace(0.6, 1.3, blocks))
        fields["accuracy"] = {**fields["accuracy"], "cut_factor": factor}
    devices = int(draw.integers(1, 5 if points else 4))
    if devices > _MANY:
        # enumeration has its limits
        blocks, fields["modes"] = 2, fields["modes"][:1]
        if "cut_factor" in fields.get("accuracy", {}):
            fields["accuracy"] = {**fields["accuracy"], "cut_factor": (0.6, 1.3)}
    instance = sample_instance(devices, seed, blocks=blocks, **fields)
    if points:
        instance = with_points(instance, draw)
    if name in CHANGES:
        data = instance.to_dict()
        CHANGES[name](data, draw)
        instance = Instance.model_validate(data)
    return name, instance


def certified(derived: Derived, limit_s: float, rel_gap: float = 1e-4) -> tuple[Outcome, float]:
    """Return the solver's outcome and its wall time in seconds."""
    options = Options(time_limit=limit_s, rel_gap=rel_gap)
    task = Task(derived, get_formulation("native"), None, None, options, Deadline(limit_s))
    began = time.perf_counter()
    outcome = SOLVER.run(task)
    return outcome, time.perf_counter() - began


def verified_s(instance: Instance, derived: Derived, outcome: Outcome) -> float:
    """Return the judge's delay of an outcome's point in seconds; infinite where it is refuted. No
    tolerance is given.
    """
    from sftopt.core.plan import Provenance

    if outcome.candidate is None:
        return float("inf")
    candidate = outcome.candidate
    point = IntegralPoint(
        np.rint(candidate.cuts).astype(np.int64), candidate.choices(), candidate.keep
    )
    plan = to_plan(derived, point, Provenance(formulation="native", solver="study"), instance.name)
    found = verify_plan(instance, plan)
    return float(found.objective_s) if found.feasible and found.objective_s else float("inf")


class Blind(Search):
    """A search that takes its plans for worse than they are."""

    seen = -np.inf
    """The bound at the end, not capped by a plan."""

    def _take(self, primal: Primal) -> None:
        value = primal.value_s * (1.0 + HANDICAP)
        if value < self.incumbent.value_s:
            self.incumbent.value_s, self.winner = value, primal
            self._charge_adapters(primal)

    def _outcome(self, closed: bool) -> Outcome:
        self.seen = self.bound()
        return super()._outcome(closed)


def blind_bound(derived: Derived) -> float:
    """Return the bound of :class:`Blind` after at most :data:`BLIND_NODES` boxes, in seconds."""
    task = Task(derived, get_formulation("native"), None, None, Options(), Deadline(20.0))
    search = Blind(task, most_nodes=BLIND_NODES)
    search.run()
    return search.seen


def row_of(seed: int, reference: str, limit_s: float, points: bool = False) -> dict[str, Any]:
    """Return one comparison as a row."""
    kind, instance = instance_of(seed, points)
    derived = derive(instance)
    row: dict[str, Any] = {"seed": seed, "kind": kind, "devices": derived.devices}
    refusal = SOLVER.refusal(derived)
    if refusal is not None:
        return {**row, "status": "refused"}
    outcome, wall_s = certified(derived, limit_s)
    blind_s = blind_bound(derived)
    row |= {
        "blind_bound_s": blind_s if np.isfinite(blind_s) else None,
        "enumerated": "enumerated" in outcome.message,
        "status": outcome.termination.value,
        "bound_s": outcome.bound_s,
        "value_s": verified_s(instance, derived, outcome),
        "wall_s": round(wall_s, 4),
        "nodes": outcome.nodes,
    }
    if reference == "exhaustive":
        if EXHAUSTIVE.refusal(derived) is not None:
            return {**row, "reference": "refused"}
        options = Options(time_limit=60.0)
        task = Task(derived, get_formulation("native"), None, None, options, Deadline(60.0))
        truth = EXHAUSTIVE.run(task)
        row["reference_s"] = verified_s(instance, derived, truth)
        row["reference_bound_s"] = truth.bound_s
    else:
        from sftopt.solvers.run import solve

        values = []
        for formulation in ("joint-product", "joint-ratio"):
            result = solve(instance, solver="scip", formulation=formulation, time_limit=20.0)
            values.append(float("inf") if result.objective_s is None else result.objective_s)
        row["reference_s"] = min(values)
    bound = row["bound_s"] or 0.0  # none yet at a limit
    truth_s = min(row["reference_s"], row["value_s"])
    row["bound_over"] = bound / truth_s - 1.0
    row["blind_over"] = (row["blind_bound_s"] or 0.0) / truth_s - 1.0
    return row


def main() -> None:
    """Run, resume, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", choices=("exhaustive", "scip"), default="exhaustive")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--points", action="store_true", help="with operating points on offer")
    parser.add_argument("--limit", type=float, default=5.0, help="seconds for each certify run")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds in all")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    if given.out.exists():
        rows = [json.loads(line) for line in given.out.read_text().splitlines()]
    done = {row["seed"] for row in rows}
    certified(derive(instance_of(0)[1]), 60.0)  # compiled before anything is timed
    began = time.monotonic()
    with given.out.open("a") as out:
        for seed in range(given.count):
            if seed in done:
                continue
            if time.monotonic() - began > given.budget:
                break
            row = row_of(seed, given.reference, given.limit, given.points)
            rows.append(row)
            out.write(json.dumps(row) + "\n")
            out.flush()
    what = " with operating points" if given.points else ""
    page = (
        f"# certify against {given.reference}: {len(rows):,} random instances{what}\n\n"
        "Made by `python -m benchmarks.studies.certify_study "
        f"--reference {given.reference} {'--points ' if given.points else ''}--count "
        f"{given.count} --out benchmarks/results/{given.out.name}`. Blind: searched again with "
        f"plans taken for {100 * HANDICAP:g} % worse than they are, so that nothing caps the "
        "bound.\n\n" + table(rows) + "\n"
    )
    given.out.with_suffix(".md").write_text(page)
    print(page)


def table(rows: list[dict[str, Any]]) -> str:
    """Write the Markdown table: per kind how many, refused, closed, worst excess, times."""
    lines = [
        "| kind | instances | refused | gap closed | of these enumerated | bound above a verified"
        " point | worst excess | blind bound above | worst excess |"
        " value above the truth by > 1e-4 | median s | max s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in sorted({row["kind"] for row in rows}):
        mine = [row for row in rows if row["kind"] == kind]
        ran = [row for row in mine if "bound_over" in row]
        over = [row["bound_over"] for row in ran]
        blind = [row["blind_over"] for row in ran]
        counted = sum(row["enumerated"] for row in ran)
        walls = [row["wall_s"] for row in ran] or [0.0]
        late = sum(row["value_s"] > row["reference_s"] * (1.0 + 1e-4) for row in ran)
        closed = sum(row["status"] == "gap_limit" for row in ran)
        refused = sum(row["status"] == "refused" for row in mine)
        worst = f"{max(over):.1e}" if over else "-"
        worst_blind = f"{max(blind):.1e}" if blind else "-"
        lines.append(
            f"| {kind} | {len(mine)} | {refused} | {closed} | {counted} |"
            f" {sum(o > 1e-9 for o in over)} | {worst} |"
            f" {sum(o > 1e-9 for o in blind)} | {worst_blind} | {late} |"
            f" {np.median(walls):.3f} | {max(walls):.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
