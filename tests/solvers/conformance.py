"""One table for every solver: known-answer instances, and what each pair must say about them.

A new solver or formulation adds its rows to :data:`TABLE`; the tests compare that table with the
registry and with the folder, so that none is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from sftopt.core.instance import (
    Accuracy,
    Compression,
    Device,
    Instance,
    Mode,
    Radio,
    Server,
    Training,
    Workload,
)
from sftopt.core.status import Point, Termination
from sftopt.solvers.registry import availability, get_solver, solver_names
from tests.samples import sample_instance

GLOBAL = frozenset({Termination.CONVERGED_GLOBAL, Termination.GAP_LIMIT})
LOCAL = frozenset({Termination.CONVERGED_LOCAL, Termination.ACCEPTABLE})
HEURISTIC = frozenset({Termination.HEURISTIC_DONE})


@dataclass(frozen=True)
class Known:
    """An instance with its optimum in seconds; ``by_hand`` where a formula gives it."""

    build: Callable[[], Instance]
    optimum_s: float
    relaxed_s: float
    """What Ipopt finds on ``joint-relaxed`` from the constructed start: a local optimum."""
    by_hand: Callable[[], float] | None = None


@dataclass(frozen=True)
class Pair:
    """What one solver on one formulation must answer on every instance it is run on.

    ``points`` are the points it may end with; ``reaches`` is how far (relative) its verified
    objective may lie above the optimum, None where it may be any feasible value.
    """

    terminations: frozenset[Termination]
    points: frozenset[Point]
    reaches: float | None
    instances: tuple[str, ...]


def _device(name: str, speed: float) -> Device:
    return Device(
        id=name,
        compute_flops_per_s=speed,
        memory_bytes=1e9,
        batch=2,
        weight=0.5,
        transmit_power_w=1.0,
        uplink_gain=1.0,  # at the cap of 5 bit/s/Hz, whatever the share
        blocks_min=1,
    )


def _round_numbers(devices: tuple[Device, ...], mode: Mode) -> Instance:
    """Two blocks, one allowed cut, 5 Mbit/s each way: every stage is a round number."""
    return Instance(
        name=f"round-numbers-{len(devices)}-{mode.label}",
        workload=Workload(
            blocks=2,
            hidden=100,
            tokens=50,
            block_forward_flops=1e9,
            block_backward_flops=2e9,
            embedding_forward_flops=5e8,
            head_flops=1e9,
            lora_rank=2,
            adapter_parameters_per_rank=1000,
        ),
        compression=Compression(modes=(mode,)),
        accuracy=Accuracy(
            uncompressed=0.9, keep_loss=0.2, keep_decay=10.0, minimum=0.88, scope="each"
        ),
        devices=tuple(d.model_copy(update={"weight": 1.0 / len(devices)}) for d in devices),
        server=Server(compute_flops_per_s=1e10, memory_bytes=1e9, transmit_power_w=1.0),
        radio=Radio(
            uplink_bandwidth_hz=1e6,
            downlink_bandwidth_hz=1e6,
            efficiency_cap_bits_per_s_hz=5.0,
            fading="none",
        ),
        training=Training(local_steps=10),
    )


def _one_device() -> Instance:
    return _round_numbers((_device("only", 1e10),), Mode(kind="dense", bits=4))


def _one_device_by_hand() -> float:
    """Ten steps of s1 0.3 s, s2 = s4 = 2 * 5,000 * 4 bit at 5 Mbit/s, s3 0.8 s, s5 0.4 s.

    s1 = 2 (0.5e9 + 1e9)/1e10; s3 = 2 (1 * 3e9 + 1e9)/1e10; s5 = 2 * 2e9/1e10. One block of
    2 * 1,000 * 32 bit of adapters goes up and comes down once.
    """
    link_s = 2 * 5000 * 4 / 5e6
    return 10 * (0.3 + link_s + 0.8 + link_s + 0.4) + 2 * 64_000 / 5e6


def _equal_pair() -> Instance:
    return _round_numbers((_device("left", 1e10), _device("right", 1e10)), Mode(bits=4))


def _equal_pair_by_hand() -> float:
    """Both keep rho = ln(0.2/0.02)/10 and hold half of each band; the server serves both in turn.

    beta = 4 rho + H2(rho) up, 4 rho down. Adapters of both: up one after the other, down likewise.
    """
    keep = math.log(10.0) / 10.0
    entropy = -(keep * math.log2(keep) + (1 - keep) * math.log2(1 - keep))
    up_s = 2 * 5000 * (4 * keep + entropy) / 2.5e6
    down_s = 2 * 5000 * 4 * keep / 2.5e6
    return 10 * (0.3 + up_s + 2 * 0.8 + down_s + 0.4) + 2 * (64_000 + 64_000) / 5e6


def _mixed_pair() -> Instance:
    return sample_instance(2, 0, blocks=4, modes=(2, 4))


def _total_power() -> Instance:
    return sample_instance(2, 2, blocks=3, modes=(3,), radio={"power": "total"})


def _common_parallel() -> Instance:
    return sample_instance(
        3, 4, blocks=3, modes=(2, 4), accuracy={"scope": "common"}, server_order="parallel"
    )


KNOWN: dict[str, Known] = {
    "one device": Known(_one_device, 15.1856, 15.1856, _one_device_by_hand),
    "equal pair": Known(_equal_pair, 23.15602119, 23.15602119, _equal_pair_by_hand),
    "mixed pair": Known(_mixed_pair, 17.03856562, 17.02497599),
    "total power": Known(_total_power, 13.75192657, 13.75192657),
    "common parallel": Known(_common_parallel, 5.56883970, 5.56883970),
}
"""``one device``: nothing to decide. ``equal pair``: symmetric, closed form. ``mixed pair``: cuts,
modes and keeps trade off under one mean limit. ``total power``: the concave rate law.
``common parallel``: one option for all, the server at once. Optima without a formula are those of
``exhaustive``, certified to 1e-7."""

ALL = tuple(KNOWN)
SOME = ("equal pair", "mixed pair", "common parallel")
ROUND = ("one device", "equal pair", "mixed pair", "total power")
"""For the small problem, at the constructed cuts, modes and keeps."""
OPTIMAL = frozenset({Point.OPTIMAL})
FEASIBLE = frozenset({Point.FEASIBLE, Point.OPTIMAL})

TABLE: dict[tuple[str, str], Pair] = {
    ("certify", "native"): Pair(GLOBAL, OPTIMAL, 1e-4, ALL),
    ("exhaustive", "native"): Pair(GLOBAL, OPTIMAL, 1e-6, ALL),
    ("scip", "joint-product"): Pair(GLOBAL, OPTIMAL, 1e-4, ALL),
    ("scip", "joint-ratio"): Pair(GLOBAL, OPTIMAL, 1e-4, ALL),
    ("scip", "joint-reduced"): Pair(GLOBAL, OPTIMAL, 1e-4, ALL),
    ("scip", "joint-relaxed"): Pair(GLOBAL, FEASIBLE, 1e-2, SOME),
    ("scip", "spectrum-nlp"): Pair(GLOBAL, FEASIBLE, None, ROUND),
    ("maingo", "joint-reduced"): Pair(GLOBAL, OPTIMAL, 1e-4, SOME),
    ("maingo", "joint-product"): Pair(GLOBAL, OPTIMAL, 1e-4, SOME),
    ("maingo", "joint-ratio"): Pair(GLOBAL, OPTIMAL, 1e-4, SOME),
    ("bonmin", "joint-product"): Pair(LOCAL, FEASIBLE, None, SOME),
    ("bonmin", "joint-ratio"): Pair(LOCAL, FEASIBLE, None, SOME),
    ("bonmin", "joint-reduced"): Pair(LOCAL, FEASIBLE, None, SOME),
    ("bonmin", "joint-relaxed"): Pair(LOCAL, FEASIBLE, None, SOME),
    ("bonmin", "spectrum-nlp"): Pair(LOCAL, FEASIBLE, None, ROUND),
    ("cyipopt", "joint-relaxed"): Pair(LOCAL, FEASIBLE, None, SOME),
    ("ipopt", "joint-relaxed"): Pair(LOCAL, FEASIBLE, None, SOME),
    ("cyipopt", "spectrum-nlp"): Pair(LOCAL, FEASIBLE, None, ROUND),
    ("ipopt", "spectrum-nlp"): Pair(LOCAL, FEASIBLE, None, ROUND),
    ("slsqp", "spectrum-nlp"): Pair(LOCAL, FEASIBLE, None, ROUND),
    ("sqpmethod", "spectrum-nlp"): Pair(LOCAL, FEASIBLE, None, ROUND),
    ("uno", "spectrum-nlp"): Pair(LOCAL, FEASIBLE, None, ROUND),
    ("clarabel", "spectrum-conic"): Pair(GLOBAL, FEASIBLE, None, ROUND),
    ("scs", "spectrum-conic"): Pair(GLOBAL, FEASIBLE, None, ROUND),
    ("alpaqa", "joint-relaxed"): Pair(LOCAL, FEASIBLE, None, SOME),
    ("augmented-lagrangian", "native"): Pair(HEURISTIC, FEASIBLE, None, ALL),
    ("scip", "joint-grid-conic"): Pair(GLOBAL, FEASIBLE, 2e-3, ALL),
    ("scip", "joint-grid-milp"): Pair(GLOBAL, FEASIBLE, 2e-3, SOME),
    ("scip", "joint-fixed-socp"): Pair(GLOBAL, FEASIBLE, 1e-2, ALL),
    ("clarabel", "joint-grid-relaxed"): Pair(GLOBAL, FEASIBLE, 1e-2, ALL),
    ("scs", "joint-grid-relaxed"): Pair(GLOBAL, FEASIBLE, 1e-2, SOME),
    ("highs", "joint-grid-milp"): Pair(GLOBAL, FEASIBLE, 2e-3, ALL),
    ("gurobi", "joint-grid-conic"): Pair(GLOBAL, FEASIBLE, 2e-3, SOME),
    ("gurobi", "joint-fixed-socp"): Pair(GLOBAL, FEASIBLE, 1e-2, SOME),
    ("gurobi", "joint-grid-milp"): Pair(GLOBAL, FEASIBLE, 2e-3, SOME),
    ("mindtpy", "joint-ratio"): Pair(LOCAL, FEASIBLE, None, SOME),
    ("mindtpy", "joint-reduced"): Pair(LOCAL, FEASIBLE, None, SOME),
    ("mindtpy", "joint-product"): Pair(LOCAL, FEASIBLE, None, SOME),
    ("greedy", "native"): Pair(HEURISTIC, FEASIBLE, None, ALL),
    ("alternating", "native"): Pair(HEURISTIC, FEASIBLE, None, ALL),
    ("constructive", "native"): Pair(HEURISTIC, FEASIBLE, None, SOME),
    ("native-spectrum", "spectrum-native"): Pair(GLOBAL, FEASIBLE, None, ROUND),
}


MAY_BE_MISSING = frozenset({"cyipopt", "gurobi", "maingo"})
"""Engines that set-up builds and goes on without where that fails, or does not install."""


@lru_cache(maxsize=1)
def running() -> tuple[str, ...]:
    """Registered solvers whose probe succeeds here."""
    return tuple(name for name in solver_names() if availability(get_solver(name)))


@lru_cache(maxsize=len(KNOWN))
def known_instance(name: str) -> Instance:
    """The instance called ``name``, built once."""
    return KNOWN[name].build()
