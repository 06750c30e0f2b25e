"""Stress families: the Jetson cell of :mod:`.edge`, changed in one respect each."""

from __future__ import annotations

import math

import numpy as np

from sftopt.core.families.edge import jetson_vit_b
from sftopt.core.families.parts import (
    Array,
    changed,
    device_need_bytes,
    offered_modes,
    server_need_bytes,
    tidy,
)
from sftopt.core.instance import Instance, ModeKind
from sftopt.core.payload import keep_limit
from sftopt.core.randomness import draws

_NEAR = 1e-4
"""Relative slack of the near-infeasible family."""


def _column(instance: Instance, name: str) -> Array:
    """One numeric field of all devices, shape (N,)."""
    column: Array = np.array([getattr(device, name) for device in instance.devices], dtype=float)
    return column


def best_accuracy(instance: Instance, kinds: frozenset[ModeKind] = frozenset(ModeKind)) -> float:
    """Return the most accuracy a device can reach, equation (12), by modes of ``kinds``.

    Each mode's loss a_1 exp(-a_2 rho) + a_3 rho 4^-q is convex in rho, so its least value lies at
    an end of the range or where the slope is zero. Without ``cut_factor``.
    """
    curve = instance.accuracy
    losses = []
    for mode in instance.compression.modes:
        if mode.kind not in kinds:
            continue
        noise = 0.0 if mode.kind is ModeKind.NONE else curve.quantisation_loss * 4.0**-mode.bits
        if mode.kind is ModeKind.NONE:
            losses.append(0.0)
            continue
        low, high = instance.keep_min, keep_limit(mode, instance)
        keep = 1.0
        if mode.kind is ModeKind.TOPK:
            slope = noise if curve.quantisation_scales_with_keep else 0.0
            ratio = curve.keep_loss * curve.keep_decay / slope if slope > 0.0 else math.inf
            keep = min(max(math.log(ratio) / curve.keep_decay, low), high) if ratio > 0.0 else low
        scale = keep if curve.quantisation_scales_with_keep else 1.0
        losses.append(curve.keep_loss * math.exp(-curve.keep_decay * keep) + noise * scale)
    return curve.uncompressed - min(losses)


def tight_memory(family: str, devices: int, seed: int, text: str) -> Instance:
    """Device memory for one to four blocks, and a server that cannot hold a big batch's stack.

    The Jetson cell; declared ours: batches of 16, 24 or 32, memory for 1 to 4 blocks plus 30 % of a
    block, and a server whose activation memory is that of the largest batch with two blocks held
    by its device: such devices must hold two at least, and get room for them.
    """
    base = jetson_vit_b(family, devices, seed, text)
    rng = draws(family, seed, "memory")
    batch = rng.choice([16, 24, 32], devices)
    batch[0] = 32
    room = np.where(batch == 32, rng.integers(2, 5, devices), rng.integers(1, 5, devices))
    memory = device_need_bytes(base.workload, batch * 1.0, room + 0.3)
    at_server = server_need_bytes(base.workload, batch * 1.0, np.full(devices, 2.0))
    return changed(
        base,
        devices=[
            {"batch": int(b), "memory_bytes": tidy(m)} for b, m in zip(batch, memory, strict=True)
        ],
        server={"memory_bytes": tidy(at_server * 1.001)},
    )


def weak_server(family: str, devices: int, seed: int, text: str) -> Instance:
    """A server of a fifth of the usual speed: the devices take most of the blocks.

    The Jetson cell; declared ours: the server at 0.12 times N times the median device speed, and no
    privacy floor.
    """
    base = jetson_vit_b(family, devices, seed, text)
    return changed(
        base,
        devices=[{"blocks_min": 0}] * devices,
        server=_server_speed(base, 0.12),
    )


def strong_server(family: str, devices: int, seed: int, text: str) -> Instance:
    """A server so fast that every cut sits at its floor; adapters return by multicast.

    The Jetson cell; declared ours: the server at 40 times N times the median device speed.
    """
    base = jetson_vit_b(family, devices, seed, text)
    return changed(
        base,
        server=_server_speed(base, 40.0),
        radio={"adapter_downlink": "multicast"},
    )


def tight_accuracy(family: str, devices: int, seed: int, text: str) -> Instance:
    """Four tenths of a point of accuracy to give away, and every device must hold it.

    The Jetson cell; declared ours: a_min = a_0 - 0.004 with scope `each`.
    """
    base = jetson_vit_b(family, devices, seed, text)
    minimum = tidy(base.accuracy.uncompressed - 0.004)
    return changed(base, accuracy={"minimum": minimum, "scope": "each"})


def straggler(family: str, devices: int, seed: int, text: str) -> Instance:
    """One device ten times slower and 10 dB weaker than its class; gradients come back dense.

    The Jetson cell; declared ours: the factor on the first device, and a dense downlink (every
    gradient element at 32 bits) over four times the downlink band.
    """
    base = jetson_vit_b(family, devices, seed, text)
    first = base.devices[0]
    slow = {
        "compute_flops_per_s": tidy(first.compute_flops_per_s / 10.0),
        "uplink_gain": tidy(first.uplink_gain / 10.0),
    }
    band = tidy(4.0 * base.radio.downlink_bandwidth_hz)
    return changed(
        base,
        devices=[slow] + [{}] * (devices - 1),
        radio={"downlink": "dense", "downlink_bandwidth_hz": band},
    )


def equal_devices(family: str, devices: int, seed: int, text: str) -> Instance:
    """All devices alike: many plans tie, and solvers that count permutations drown.

    The Jetson cell; declared ours: every device is the Xavier NX of 1 TFLOP/s with the median gain
    of the cell and the same weight.
    """
    base = jetson_vit_b(family, devices, seed, text)
    gain = tidy(float(np.median(_column(base, "uplink_gain"))))
    alike = {
        "kind": "Jetson Xavier NX",
        "compute_flops_per_s": 1e12,
        "memory_bytes": 5e9,
        "uplink_gain": gain,
        "weight": 1.0 / devices,
        "energy_coefficient_j_s2_per_flop3": 1.5e-35,
    }
    return changed(
        base,
        devices=[alike] * devices,
        server={"compute_flops_per_s": tidy(0.85e12 * devices)} | _server_range(0.85e12 * devices),
    )


def near_infeasible(family: str, devices: int, seed: int, text: str) -> Instance:
    """Feasible by a hair: 1e-4 of relative slack in accuracy, device memory and server memory.

    The Jetson cell; declared ours: privacy floors of 1 to 3 blocks and memory for exactly those;
    a server for exactly those cuts; Top-K of 2, 3 and 4 bits with at most half of the elements kept
    (beside dense 8-bit and no compression), and the accuracy limit at the best that Top-K reaches;
    then each limit gives way by 1e-4.
    """
    base = jetson_vit_b(family, devices, seed, text)
    floors = draws(family, seed, "privacy").integers(1, 4, devices)
    batch = _column(base, "batch")
    memory = device_need_bytes(base.workload, batch, floors.astype(float))
    at_server = server_need_bytes(base.workload, batch, floors.astype(float))
    base = changed(
        base,
        devices=[
            {"blocks_min": int(floor), "memory_bytes": tidy((1.0 + _NEAR) * need, 9)}
            for floor, need in zip(floors, memory, strict=True)
        ],
        server={"memory_bytes": tidy((1.0 + _NEAR) * at_server, 9)},
        compression={
            "modes": [
                mode.model_dump(mode="json") for mode in offered_modes(base.workload, (2, 3, 4))
            ],
            "keep_max": 0.5,
        },
    )
    best = best_accuracy(base, frozenset({ModeKind.TOPK}))
    return changed(base, accuracy={"minimum": tidy(best - _NEAR * abs(best), 9)})


def infeasible(family: str, devices: int, seed: int, text: str) -> Instance:
    """Impossible three times over: one device's memory, the server's memory, the accuracy.

    The near-infeasible family; declared ours: the first device has 200 MB less than its privacy
    floor needs, the server 500 MB less than the fewest blocks left to it need, and the accuracy
    limit lies 0.01 above the best that any mode and keep fraction reach.
    """
    base = near_infeasible(family, devices, seed, text)
    batch, floors = _column(base, "batch"), _column(base, "blocks_min")
    memory = device_need_bytes(base.workload, batch, floors)
    at_server = server_need_bytes(base.workload, batch, floors)
    return changed(
        base,
        devices=[{"memory_bytes": tidy(memory[0] - 2e8, 9)}] + [{}] * (devices - 1),
        server={"memory_bytes": tidy(at_server - 5e8, 9)},
        accuracy={"minimum": tidy(best_accuracy(base) + 0.01, 9)},
    )


def _server_speed(instance: Instance, ratio: float) -> dict[str, float]:
    """A server of ``ratio`` times N times the median device speed."""
    median = float(np.median(_column(instance, "compute_flops_per_s")))
    speed = tidy(ratio * len(instance.devices) * median, 3)
    return {"compute_flops_per_s": speed} | _server_range(speed)


def _server_range(speed: float) -> dict[str, float]:
    return {
        "compute_min_flops_per_s": tidy(0.25 * speed),
        "compute_max_flops_per_s": tidy(speed),
        "energy_coefficient_j_s2_per_flop3": tidy(250.0 / speed**3),
    }
