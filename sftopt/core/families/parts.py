"""What the families share: seeded draws, path loss, modes, and building blocks of an instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.instance import (
    Accuracy,
    Compression,
    Device,
    Instance,
    Mode,
    ModeKind,
    Radio,
    Server,
    ServerOrder,
    Source,
    Training,
    Workload,
)
from sftopt.core.workload import workload_from_config

Array = NDArray[np.float64]

MAX_DEVICES = 10_000
"""Most devices that a family generates."""

NOISE_W_PER_HZ = 3.981071705534986e-21
"""-174 dBm/Hz."""

VIT_B_16 = {
    "model_type": "vit",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 16,
}
"""google/vit-base-patch16-224's sizes."""


def tidy(value: float, digits: int = 6) -> float:
    """Round to so many significant digits, in the unit of ``value``, for readable files."""
    return float(f"{value:.{digits}g}")


def decibel(value: float | Array) -> Any:
    """Convert so many dB to the linear value."""
    return 10.0 ** (np.asarray(value) / 10.0)


def disc_distances_m(rng: np.random.Generator, devices: int, near_m: float, far_m: float) -> Array:
    """Draw the distances, shape (N,), of points uniform over the ring between two radii."""
    return np.sqrt(rng.uniform(near_m**2, far_m**2, devices))


def urban_micro_gains(
    rng: np.random.Generator,
    distance_m: Array,
    *,
    carrier_ghz: float = 3.5,
    antenna_db: float = 8.0,
) -> Array:
    """Draw linear mean power gains, shape (N,): 3GPP TR 38.901 UMi street canyon, no line of sight.

    PL = max(32.4 + 21 lg d + 20 lg f, 35.3 lg d + 22.4 + 21.3 lg f) dB, d in m, f in GHz, terminal
    at 1.5 m (Table 7.4.1-1, below the breakpoint); log-normal shadowing of 7.82 dB cut at two
    standard deviations (the cut is ours); ``antenna_db`` both antennas together.
    """
    shadow_db = 7.82 * np.clip(rng.standard_normal(len(distance_m)), -2.0, 2.0)
    log_distance, log_carrier = np.log10(distance_m), np.log10(carrier_ghz)
    sight_db = 32.4 + 21.0 * log_distance + 20.0 * log_carrier
    blocked_db = 35.3 * log_distance + 22.4 + 21.3 * log_carrier
    loss_db = np.maximum(sight_db, blocked_db) + shadow_db - antenna_db
    return np.asarray(decibel(-loss_db), dtype=float)


def data_weights(rng: np.random.Generator, devices: int) -> Array:
    """Draw weights w_n, shape (N,), summing to 1: shares of 300 to 700 samples a device."""
    samples = rng.integers(300, 701, devices).astype(float)
    weights: Array = samples / samples.sum()
    return weights


def topk_modes(hidden: int, bits: Sequence[int] = (2, 3, 4, 6, 8)) -> tuple[Mode, ...]:
    """Return Top-K modes with one 16-bit scale per token: sigma = 16 / hidden."""
    return tuple(Mode(bits=q, side_bits_per_element=tidy(16.0 / hidden)) for q in bits)


def offered_modes(workload: Workload, bits: Sequence[int] = (2, 3, 4, 6, 8)) -> tuple[Mode, ...]:
    """Return what every family offers: Top-K, dense 8-bit with token scales, and no compression.

    So the planning problem contains the published schemes, which send the boundary whole.
    """
    sigma = tidy(16.0 / workload.hidden)
    return (
        *topk_modes(workload.hidden, bits),
        Mode(kind=ModeKind.DENSE, bits=8, side_bits_per_element=sigma),
        Mode(kind=ModeKind.NONE, bits=workload.reference_bits),
    )


def vit_b_16(*, labels: int = 100, runtime_bytes: float = 4e8) -> Workload:
    """Return the workload of ViT-B/16 in fp32 with LoRA of rank 16 on query and value."""
    return workload_from_config(
        VIT_B_16,
        lora_rank=16,
        labels=labels,
        runtime_bytes=runtime_bytes,
        server_runtime_bytes=1e9,
        name="vit-b-16",
    )


def image_accuracy(**changes: Any) -> Accuracy:
    """Return a declared accuracy curve of an image classifier, to be replaced by a calibration."""
    values: dict[str, Any] = {
        "uncompressed": 0.9,
        "keep_loss": 0.3,
        "keep_decay": 12.0,
        "quantisation_loss": 0.6,
        "minimum": 0.88,
        "provenance": "declared: shape of equation (12), numbers not measured",
    }
    return Accuracy(**(values | changes))


def server_need_bytes(
    workload: Workload, batch: Array, cuts: Array, order: ServerOrder = ServerOrder.IN_TURN
) -> float:
    """Return the left side of equation (11); ``batch`` and ``cuts`` have shape (N,)."""
    saved = batch * (workload.blocks - cuts) * workload.block_activation_bytes
    heads = batch * workload.sample_head_bytes
    if order is ServerOrder.IN_TURN:
        in_use = saved.max() + heads.max()
    else:
        in_use = saved.sum() + heads.sum()
    model = workload.blocks * (workload.block_weight_bytes + workload.block_adapter_bytes)
    boundary = batch.sum() * workload.sample_base_bytes
    return float(in_use + boundary + model + workload.server_base_bytes)


def device_need_bytes(workload: Workload, batch: Array, cuts: Array) -> Array:
    """Return the left side of equation (10) in bytes, shape (N,)."""
    per_block = (
        workload.block_weight_bytes
        + workload.block_adapter_bytes
        + batch * workload.block_activation_bytes
    )
    need: Array = workload.device_base_bytes + batch * workload.sample_base_bytes + cuts * per_block
    return need


def device_rows(columns: dict[str, Any], devices: int) -> tuple[Device, ...]:
    """Make devices ``dev0001`` onwards from columns, each a scalar or of length N.

    Weights are kept to the last digit, because they must sum to 1.
    """
    rows = []
    for index in range(devices):
        row: dict[str, Any] = {"id": f"dev{index + 1:0{max(2, len(str(devices)))}d}"}
        for name, column in columns.items():
            value = column if np.isscalar(column) or column is None else column[index]
            if isinstance(value, (float, np.floating)):
                row[name] = float(value) if name == "weight" else tidy(float(value))
            else:
                row[name] = int(value) if isinstance(value, np.integer) else value
        rows.append(Device(**row))
    return tuple(rows)


def assemble(
    family: str,
    seed: int,
    text: str,
    *,
    workload: Workload,
    devices: tuple[Device, ...],
    server: Server,
    radio: Radio,
    accuracy: Accuracy,
    compression: Compression,
    training: Training,
    server_order: ServerOrder = ServerOrder.IN_TURN,
) -> Instance:
    """Assemble the parts to an instance that says where it comes from."""
    return Instance(
        name=f"{family}-n{len(devices)}-s{seed}",
        source=Source(
            family=family,
            seed=seed,
            generator=f"sftopt instance new --family {family} --devices {len(devices)} "
            f"--seed {seed}",
            text=text,
        ),
        workload=workload,
        compression=compression,
        accuracy=accuracy,
        devices=devices,
        server=server,
        radio=radio,
        training=training,
        server_order=server_order,
    )


def changed(instance: Instance, **sections: Any) -> Instance:
    """Return ``instance`` with fields of its sections replaced, validated again.

    A dict updates a section; ``devices`` is a list of N dicts; anything else replaces the field.
    """
    data = instance.to_dict()
    for name, change in sections.items():
        if name == "devices":
            for row, update in zip(data["devices"], change, strict=True):
                row.update(update)
        elif isinstance(change, dict):
            data[name].update(change)
        else:
            data[name] = change
    return Instance.model_validate(data)


def check_devices(devices: int) -> int:
    """Return the number of devices if a family can generate so many; raise InputError otherwise."""
    if not 1 <= devices <= MAX_DEVICES:
        message = f"devices: is {devices}; 1 to {MAX_DEVICES} can be generated"
        raise InputError(
            message,
            [Fault(field="devices", value=devices, limit=MAX_DEVICES, message=message)],
        )
    return devices
