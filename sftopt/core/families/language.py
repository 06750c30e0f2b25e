"""Language families: SplitLoRA's GPT-2 small on E2E, and a Llama-3.2-1B shape."""

from __future__ import annotations

import numpy as np

from sftopt.core.families.parts import (
    assemble,
    data_weights,
    decibel,
    device_rows,
    disc_distances_m,
    offered_modes,
    server_need_bytes,
    tidy,
    urban_micro_gains,
)
from sftopt.core.instance import (
    Accuracy,
    Compression,
    Instance,
    Radio,
    Server,
    ServerOrder,
    Training,
)
from sftopt.core.randomness import draws
from sftopt.core.workload import workload_from_config

GPT2_SMALL = {
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
    "activation_function": "gelu_new",
}
"""openai-community/gpt2's sizes."""

LLAMA_3_2_1B = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "vocab_size": 128256,
    "hidden_act": "silu",
}
"""meta-llama/Llama-3.2-1B's sizes."""


def gpt2_e2e(family: str, devices: int, seed: int, text: str) -> Instance:
    """SplitLoRA's sizes: GPT-2 small on E2E, three clients, 512 tokens, LoRA of rank 4.

    Source: SplitLoRA, arXiv 2407.00952 and its code: GPT-2 small (12 x 768), 512 tokens, batch 8,
    rank 4 on query and value (the fused c_attn has as many parameters), three clients, adapters
    averaged every 100 steps in all, that is 33 on each client; validation perplexity 3.51, so
    a_0 = -ln 3.51 nats. Declared ours: everything its one-process code has not: device speeds of
    0.5 to 2.5 TFLOP/s, 3 to 8 GB, a cell of 50 to 250 m (3GPP TR 38.901 UMi) with 2 MHz for each
    device, a server of 0.8 times N times the median speed, and the loss curve, whose noise term is
    taken without the keep fraction. Bandwidth (at the same power density) and server grow with N.
    """
    workload = workload_from_config(
        GPT2_SMALL, tokens=512, lora_rank=4, runtime_bytes=4e8, server_runtime_bytes=1e9,
        name="gpt2-small",
    )  # fmt: skip
    speed = draws(family, seed, "compute").uniform(0.5e12, 2.5e12, devices)
    distance = disc_distances_m(draws(family, seed, "places"), devices, 50.0, 250.0)
    batch = np.full(devices, 8)
    return assemble(
        family,
        seed,
        text,
        workload=workload,
        devices=device_rows(
            {
                "kind": "client",
                "compute_flops_per_s": speed,
                "memory_bytes": draws(family, seed, "memory").uniform(3e9, 8e9, devices),
                "batch": batch,
                "weight": data_weights(draws(family, seed, "data"), devices),
                "transmit_power_w": 0.02 * devices,
                "uplink_gain": urban_micro_gains(draws(family, seed, "shadowing"), distance),
                "blocks_min": 1,
            },
            devices,
        ),
        server=Server(
            compute_flops_per_s=tidy(0.8 * devices * float(np.median(speed)), 3),
            memory_bytes=tidy(1.2 * server_need_bytes(workload, batch * 1.0, batch * 0.0)),
            transmit_power_w=tidy(0.4 * devices),
        ),
        radio=Radio(
            uplink_bandwidth_hz=tidy(2e6 * devices),
            downlink_bandwidth_hz=tidy(2e6 * devices),
            uplink_noise_figure=tidy(float(decibel(5.0))),
            downlink_noise_figure=tidy(float(decibel(7.0))),
        ),
        accuracy=_loss_curve(uncompressed=-1.2556, minimum=-1.2756),
        compression=Compression(modes=offered_modes(workload)),
        training=Training(local_steps=33, rounds_per_frame=100),
    )


def llama_1b(family: str, devices: int, seed: int, text: str) -> Instance:
    """Llama-3.2-1B's shape in bf16 on eight devices; the server works in parallel, short of memory.

    Source: sizes of meta-llama/Llama-3.2-1B (16 x 2048, 8 of 32 heads for keys and values), LoRA of
    rank 16 on query and value kept in 32 bits, boundary reference 16 bits. Declared ours: 512
    tokens, batch 4, device speeds of 1 to 3 TFLOP/s, 6 to 16 GB, a cell of 50 to 250 m (3GPP TR
    38.901 UMi) with 4 MHz for each device, a server that works on all devices at once (order
    `parallel`), each at 10 TFLOP/s, with room for 60 % of the activations it would hold if the
    devices held none: somebody has to take blocks. The loss curve's noise term is taken without
    the keep fraction. Bandwidth (at the same power density) and server
    memory grow with N.
    """
    workload = workload_from_config(
        LLAMA_3_2_1B, tokens=512, lora_rank=16, dtype_bits=16, runtime_bytes=6e8,
        server_runtime_bytes=2e9, name="llama-3.2-1b",
    )  # fmt: skip
    speed = draws(family, seed, "compute").uniform(1e12, 3e12, devices)
    distance = disc_distances_m(draws(family, seed, "places"), devices, 50.0, 250.0)
    batch = np.full(devices, 4)
    spare = 0.4 * float(batch.sum()) * workload.blocks * workload.block_activation_bytes
    need = server_need_bytes(workload, batch * 1.0, batch * 0.0, ServerOrder.PARALLEL)
    return assemble(
        family,
        seed,
        text,
        workload=workload,
        devices=device_rows(
            {
                "kind": "client",
                "compute_flops_per_s": speed,
                "memory_bytes": draws(family, seed, "memory").uniform(6e9, 16e9, devices),
                "batch": batch,
                "weight": data_weights(draws(family, seed, "data"), devices),
                "transmit_power_w": 0.04 * devices,
                "uplink_gain": urban_micro_gains(draws(family, seed, "shadowing"), distance),
                "blocks_min": 1,
            },
            devices,
        ),
        server=Server(
            compute_flops_per_s=10e12,
            memory_bytes=tidy(need - spare),
            transmit_power_w=tidy(0.8 * devices),
        ),
        radio=Radio(
            uplink_bandwidth_hz=tidy(4e6 * devices),
            downlink_bandwidth_hz=tidy(4e6 * devices),
            uplink_noise_figure=tidy(float(decibel(5.0))),
            downlink_noise_figure=tidy(float(decibel(7.0))),
        ),
        accuracy=_loss_curve(uncompressed=-1.9, minimum=-1.92),
        compression=Compression(modes=offered_modes(workload)),
        training=Training(local_steps=10, rounds_per_frame=100),
        server_order=ServerOrder.PARALLEL,
    )


def _loss_curve(*, uncompressed: float, minimum: float) -> Accuracy:
    """A declared curve in nats; the noise term without the keep fraction."""
    return Accuracy(
        metric="negative_loss_nats",
        uncompressed=uncompressed,
        keep_loss=0.4,
        keep_decay=14.0,
        quantisation_loss=0.8,
        quantisation_scales_with_keep=False,
        minimum=minimum,
        provenance="declared: shape of equation (12), numbers not measured",
    )
