"""Vision families: a Jetson cell, Wei & Chen's radio and compute table, ST-SFLora's disc."""

from __future__ import annotations

import numpy as np

from sftopt.core.families.parts import (
    NOISE_W_PER_HZ,
    assemble,
    data_weights,
    decibel,
    device_rows,
    disc_distances_m,
    image_accuracy,
    offered_modes,
    server_need_bytes,
    tidy,
    urban_micro_gains,
    vit_b_16,
)
from sftopt.core.instance import (
    Compression,
    Instance,
    PowerLaw,
    Radio,
    Server,
    Training,
)
from sftopt.core.randomness import draws

JETSON_CLASSES = (
    ("Jetson Nano", 0.3e12, 2.2e9, 10.0),
    ("Jetson TX2", 0.6e12, 5.0e9, 15.0),
    ("Jetson Xavier NX", 1.0e12, 5.0e9, 15.0),
    ("Jetson AGX Orin", 2.6e12, 24e9, 40.0),
)
"""Classes of boards: kind, sustained FLOP/s, memory left for training in bytes, power in W."""


def jetson_vit_b(family: str, devices: int, seed: int, text: str) -> Instance:
    """Ten boards of four Jetson classes fine-tune ViT-B/16 over 20 MHz.

    Source: sizes of ViT-B/16 (google/vit-base-patch16-224), LoRA of rank 16 on query and value,
    batch 32; gains by 3GPP TR 38.901 UMi without line of sight, 50 to 250 m, 3.5 GHz, 0.2 W.
    Declared ours: sustained speeds of 0.3, 0.6, 1.0 and 2.6 TFLOP/s +-10 % (a quarter to two
    thirds of the boards' published half-precision peaks), memory left after system and runtime
    (2.2, 5, 5, 24 GB), one block at least on the device, a server of 0.6 times N times
    the median speed, 7 dB device and 5 dB base-station noise figure, and the accuracy curve.
    Bandwidth (2 MHz for each device, at 10 mW/MHz), server speed and server memory grow with N; so
    does the power field, which is that over the whole band, of which a device uses its share.
    """
    rng = draws(family, seed, "compute")
    rows = [JETSON_CLASSES[index % len(JETSON_CLASSES)] for index in range(devices)]
    speed = np.array([row[1] for row in rows]) * rng.uniform(0.9, 1.1, devices)
    distance = disc_distances_m(draws(family, seed, "places"), devices, 50.0, 250.0)
    workload = vit_b_16()
    batch = np.full(devices, 32)
    server_speed = tidy(0.6 * devices * float(np.median(speed)), 3)
    return assemble(
        family,
        seed,
        text,
        workload=workload,
        devices=device_rows(
            {
                "kind": [row[0] for row in rows],
                "compute_flops_per_s": speed,
                "memory_bytes": np.array([row[2] for row in rows]),
                "batch": batch,
                "weight": data_weights(draws(family, seed, "data"), devices),
                "transmit_power_w": 0.02 * devices,
                "uplink_gain": urban_micro_gains(draws(family, seed, "shadowing"), distance),
                "blocks_min": 1,
                "energy_coefficient_j_s2_per_flop3": np.array([row[3] for row in rows]) / speed**3,
            },
            devices,
        ),
        server=Server(
            compute_flops_per_s=server_speed,
            memory_bytes=tidy(1.2 * server_need_bytes(workload, batch * 1.0, batch * 0.0)),
            transmit_power_w=tidy(4.0 * devices / 10.0),
            compute_min_flops_per_s=tidy(0.25 * server_speed),
            compute_max_flops_per_s=server_speed,
            energy_coefficient_j_s2_per_flop3=tidy(250.0 / server_speed**3),
        ),
        radio=Radio(
            uplink_bandwidth_hz=tidy(2e6 * devices),
            downlink_bandwidth_hz=tidy(2e6 * devices),
            uplink_noise_figure=tidy(float(decibel(5.0))),
            downlink_noise_figure=tidy(float(decibel(7.0))),
        ),
        accuracy=image_accuracy(),
        compression=Compression(modes=offered_modes(workload)),
        training=Training(local_steps=10, rounds_per_frame=100),
    )


def weichen(family: str, devices: int, seed: int, text: str) -> Instance:
    """Wei & Chen's radio and compute table (20 clients, 100/200 MHz) with a ViT in place of ResNet.

    Source: Wei & Chen, arXiv 2608.17849, Table II: n_i in U[0.2, 3]e4 FLOP per cycle, f_i in 50 to
    625 MHz, server 3e4 FLOP per cycle at 210 MHz to 3.135 GHz (taken at half its top), powers 20 to
    33 dBm, gains U[0.1, 1]e-6 up and 1e-6 down with Rayleigh fading, N0 3.98e-21 W/Hz, batch 32,
    kappa = G / n^3 with G 1e-26 (clients) and 2e-26 (server); no cap on the spectral efficiency.
    Changed by us: their ResNet-50 and VGG-16 have no transformer blocks and no LoRA, so the
    workload is ViT-B/16 with rank 16; each client there has the whole band, here they share it,
    with all power on the share held (law `total`). Declared ours: memory (not limited there; 4 to
    12 GB), no privacy floor, compression and the accuracy curve. Bandwidths and server speed grow
    with N.
    """
    rng = draws(family, seed, "compute")
    per_cycle = rng.uniform(0.2e4, 3e4, devices)
    speed = per_cycle * rng.uniform(50e6, 625e6, devices)
    radio_rng = draws(family, seed, "radio")
    workload = vit_b_16()
    batch = np.full(devices, 32)
    growth = devices / 20.0
    top = 3e4 * 3.135e9 * growth
    return assemble(
        family,
        seed,
        text,
        workload=workload,
        devices=device_rows(
            {
                "kind": "client",
                "compute_flops_per_s": speed,
                "memory_bytes": draws(family, seed, "memory").uniform(4e9, 12e9, devices),
                "batch": batch,
                "weight": data_weights(draws(family, seed, "data"), devices),
                "transmit_power_w": decibel(radio_rng.uniform(20.0, 33.0, devices)) / 1e3,
                "uplink_gain": radio_rng.uniform(0.1e-6, 1e-6, devices),
                "downlink_gain": 1e-6,
                "energy_coefficient_j_s2_per_flop3": 1e-26 / per_cycle**3,
            },
            devices,
        ),
        server=Server(
            compute_flops_per_s=tidy(0.5 * top),
            memory_bytes=tidy(1.2 * server_need_bytes(workload, batch * 1.0, batch * 0.0)),
            transmit_power_w=tidy(float(decibel(33.0)) / 1e3 * growth),
            compute_min_flops_per_s=tidy(3e4 * 210e6 * growth),
            compute_max_flops_per_s=tidy(top),
            energy_coefficient_j_s2_per_flop3=tidy(2e-26 / (3e4 * growth) ** 3),
        ),
        radio=Radio(
            uplink_bandwidth_hz=tidy(100e6 * growth),
            downlink_bandwidth_hz=tidy(200e6 * growth),
            noise_w_per_hz=3.98e-21,
            efficiency_cap_bits_per_s_hz=40.0,
            diversity_branches=1,
            power=PowerLaw.TOTAL,
        ),
        accuracy=image_accuracy(minimum=0.885),
        compression=Compression(modes=offered_modes(workload)),
        training=Training(local_steps=10, rounds_per_frame=100),
    )


def stsflora(family: str, devices: int, seed: int, text: str) -> Instance:
    """A hundred devices in a disc of 5 to 500 m share 50 MHz to fine-tune ViT-B/16.

    Source: ST-SFLora, arXiv 2605.26120: 100 clients uniform over the disc, 50 MHz of uplink, 0.2 W,
    -174 dBm/Hz, path-loss exponent 2.5, GPUs of 4 to 6 cores at 1.0 to 1.5 GHz, batch 64, 32-bit
    activations, ViT-B/16. Declared ours: 43.3 dB at 1 m (free space at 3.5 GHz), shadowing none,
    128 FLOP per core and cycle, 4 to 12 GB for training, a server of 0.6 times N times the median
    speed that serves in turn, 50 MHz of downlink, 7 dB device and 5 dB base-station noise
    figure, and the accuracy curve.
    Their clients run no backward pass and choose tokens; here the model of this package applies.
    Bandwidth (at the same power density) and server grow with N.
    """
    rng = draws(family, seed, "compute")
    speed = 128.0 * rng.integers(4, 7, devices) * rng.uniform(1.0e9, 1.5e9, devices)
    distance = disc_distances_m(draws(family, seed, "places"), devices, 5.0, 500.0)
    workload = vit_b_16()
    batch = np.full(devices, 64)
    server_speed = tidy(0.6 * devices * float(np.median(speed)), 3)
    return assemble(
        family,
        seed,
        text,
        workload=workload,
        devices=device_rows(
            {
                "kind": "client",
                "compute_flops_per_s": speed,
                "memory_bytes": draws(family, seed, "memory").uniform(4e9, 12e9, devices),
                "batch": batch,
                "weight": data_weights(draws(family, seed, "data"), devices),
                "transmit_power_w": 0.002 * devices,
                "uplink_gain": decibel(-43.3 - 25.0 * np.log10(distance)),
            },
            devices,
        ),
        server=Server(
            compute_flops_per_s=server_speed,
            memory_bytes=tidy(1.2 * server_need_bytes(workload, batch * 1.0, batch * 0.0)),
            transmit_power_w=tidy(10.0 * devices / 100.0),
        ),
        radio=Radio(
            uplink_bandwidth_hz=tidy(0.5e6 * devices),
            downlink_bandwidth_hz=tidy(0.5e6 * devices),
            noise_w_per_hz=NOISE_W_PER_HZ,
            uplink_noise_figure=tidy(float(decibel(5.0))),
            downlink_noise_figure=tidy(float(decibel(7.0))),
        ),
        accuracy=image_accuracy(),
        compression=Compression(modes=offered_modes(workload)),
        training=Training(local_steps=10, rounds_per_frame=100),
    )
