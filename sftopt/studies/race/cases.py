"""The instances of a suite: generated or read, changed as it says, and their rounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sftopt.core.channel import RoundChannel, statistical_channel
from sftopt.core.derived import derive
from sftopt.core.errors import InputError
from sftopt.core.families import family_of, generate
from sftopt.core.files import json_digest
from sftopt.core.instance import Instance, parse_instance
from sftopt.core.library import load
from sftopt.studies.race.reduce import reduced
from sftopt.studies.race.row import InstanceRef
from sftopt.studies.race.suite import Change, Instances, Suite

_PER_BLOCK = (
    "block_forward_flops",
    "block_backward_flops",
    "adapter_parameters_per_rank",
    "block_weight_bytes",
    "block_adapter_bytes",
    "block_activation_bytes",
)
"""Fields of a workload that are of one block."""
_WEAK_DECADES = (0.3, 3.3)
"""A weak device's rate is 10 to the power of a draw between these times its outage rate."""


@dataclass(frozen=True)
class Case:
    """One instance of a suite, with the gains of its round where the small problem is raced."""

    instance: Instance
    name: str
    generator: dict[str, Any]
    """What makes it again: family, devices, seed and change, or the file."""
    channel: RoundChannel | None = None

    @property
    def round_hash(self) -> str:
        """Return the sha256 of the round's gains; empty for the large problem."""
        if self.channel is None:
            return ""
        gains = (self.channel.uplink_gain.tolist(), self.channel.downlink_gain.tolist())
        return json_digest(gains)


def cases_of(suite: Suite) -> Iterator[Case]:
    """Yield the cases of a suite in its order; one that comes twice is yielded once."""
    seen: set[tuple[str, str]] = set()
    for part in suite.instances:
        for case in _cases(part, suite.problem == "round"):
            key = (case.instance.hash, case.round_hash)
            if key not in seen:
                seen.add(key)
                yield case


def case_of(row: InstanceRef, folder: Path) -> Case:
    """Make the case of a row again: from the folder's file, or from what generated it.

    Raises InputError where what comes of that is another instance or round.
    """
    made = row.generator
    change = Change.model_validate(made.get("change", {}))
    drawn = made.get("round")
    where = {name: made[name] for name in ("family", "devices", "seed", "path") if name in made}
    part = Instances.model_validate({
        **where,
        "change": change,
        "coherence_blocks": drawn["blocks"] if drawn else 4,
        "weak_device": bool(drawn and drawn["weak_device"]),
    })  # fmt: skip
    kept = folder / "instances" / f"{row.hash}.json"
    if kept.is_file():
        instance = load(str(kept))
        channel = _gains(instance, part, made.get("seed", 0)) if drawn else None
        case = Case(instance, row.name, made, channel)
    else:
        case = next(_cases(part, bool(drawn)))
    if (case.instance.hash, case.round_hash) != (row.hash, row.round_hash):
        raise InputError(f"instance '{row.name}' comes out differently now; its file is not there")
    return case


def with_blocks(instance: Instance, blocks: int) -> Instance:
    """Return ``instance`` with its model cut into as many blocks, thinner or thicker ones.

    All of its blocks together compute, hold and send what those of the original do, and privacy
    floors lie at the same part of the model.
    """
    data = instance.to_dict()
    ratio = data["workload"]["blocks"] / blocks
    data["workload"]["blocks"] = blocks
    for name in _PER_BLOCK:
        data["workload"][name] *= ratio
    for device in data["devices"]:
        if device["blocks_min"]:
            device["blocks_min"] = max(1, int(device["blocks_min"] / ratio))
    data["name"] += f"-l{blocks}"
    return Instance.model_validate(data)


def _cases(part: Instances, rounds: bool) -> Iterator[Case]:
    for family, devices, seed in _drawn(part):
        if part.path is not None:
            instance = load(part.path)
            made: dict[str, Any] = {"path": part.path}
        else:
            instance = generate(family, devices, seed)
            made = {"family": family, "devices": len(instance.devices), "seed": seed}
        changes = part.change.model_dump(mode="json", exclude_defaults=True)
        if changes:
            made["change"] = changes
        instance = _changed(instance, part.change)
        channel = None
        if rounds:
            made["round"] = {"blocks": part.coherence_blocks, "weak_device": part.weak_device}
            channel = _gains(instance, part, seed)
        yield Case(instance, _name(instance, made), made, channel)


def _drawn(part: Instances) -> Iterator[tuple[str, int, int]]:
    """(family, devices, seed) of every instance of a part; of a file one."""
    if part.path is not None:
        yield "", 0, 0
        return
    families = _tuple(part.family)
    sizes, seeds = _tuple(part.devices), _tuple(part.seed)
    if part.pairing == "zip":
        length = max(len(families), len(sizes), len(seeds))
        for place in range(length):
            family = families[place % len(families)]
            own = family_of(family).default_devices
            yield family, sizes[place % len(sizes)] if sizes else own, seeds[place % len(seeds)]
        return
    for family in families:
        default = (family_of(family).default_devices,)
        for size, seed in itertools.product(sizes or default, seeds):
            yield family, size, seed


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _name(instance: Instance, made: dict[str, Any]) -> str:
    """What tables call it: family, devices, seed and what was changed."""
    if "path" in made:
        base = instance.name
    else:
        base = f"{made['family']}-n{made['devices']}-s{made['seed']}"
    for name, value in made.get("change", {}).items():
        base += f"-{name}" if value is True else f"-{name}{value}" if name != "set" else "-edited"
    return base + ("-weak" if made.get("round", {}).get("weak_device") else "")


def _changed(instance: Instance, change: Change) -> Instance:
    if change.blocks is not None and change.blocks != instance.workload.blocks:
        instance = with_blocks(instance, change.blocks)
    edits: dict[str, Any] = {}
    if change.power is not None:
        edits["radio.power"] = change.power
    edits |= change.set
    if edits:
        instance = instance.replace(**edits)
    instance = _with_devices(instance, change)
    if change.combinations is not None:
        instance = reduced(instance, change.combinations)
    return instance


def _with_devices(instance: Instance, change: Change) -> Instance:
    """The instance with its devices changed: one slow, all alike, one alone."""
    if change.slow_device is None and not change.devices_alike and not change.only_device:
        return instance
    data = instance.to_dict()
    devices = data["devices"]
    if change.slow_device is not None:
        devices[0]["compute_flops_per_s"] *= change.slow_device
    if change.devices_alike:
        weight = 1.0 / len(devices)
        devices = [{**devices[0], "id": one["id"], "weight": weight} for one in devices]
    if change.only_device:
        devices = [{**devices[0], "weight": 1.0}]
    return parse_instance({**data, "devices": devices}, f"changed '{instance.name}'")


def _gains(instance: Instance, part: Instances, seed: int) -> RoundChannel:
    """Rayleigh blocks about the mean gains; alike for devices that are alike."""
    draw = np.random.default_rng([seed, 14])
    mean = statistical_channel(instance)
    fade = draw.exponential(size=(2, len(instance.devices), part.coherence_blocks))
    if part.change.devices_alike:
        fade[:] = fade[:, :1]
    up = mean.uplink_gain.mean(axis=1, keepdims=True) * fade[0]
    down = mean.downlink_gain.mean(axis=1, keepdims=True) * fade[1]
    if part.weak_device:
        full = derive(instance, RoundChannel(up, down))
        rate = 10.0 ** draw.uniform(*_WEAK_DECADES) * instance.radio.outage_rate_bits_per_s
        # the rate is concave in the gain, so it stays above this
        up[0] *= rate / full.uplink_full_bits_per_s[0]
        down[0] *= rate / full.downlink_full_bits_per_s[0]
    return RoundChannel(up, down)


__all__ = ["Case", "case_of", "cases_of", "with_blocks"]
