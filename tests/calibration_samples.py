"""A calibration as a file would hold it, with figures that are easy to follow."""

from __future__ import annotations

from typing import Any

from sftopt.core.calibration import Calibration


def sample_calibration(*, accuracy: dict[str, Any] | None = None, **fields: Any) -> Calibration:
    """Four blocks of 64, bits 2 to 8, keep 0.1 to 0.5; ``accuracy`` overrides single fields."""
    modes = [
        {"kind": "topk", "bits": bits, "value_bits": 0.9 * bits, "side_bits_per_element": 0.1,
         "mask_overhead": [{"keep_from": 0.0, "keep_to": 0.2, "factor": 1.1},
                           {"keep_from": 0.2, "keep_to": 1.0, "factor": 0.9}]}
        for bits in (2, 4, 8)
    ]  # fmt: skip
    curve = {"uncompressed": 0.8, "keep_loss": 0.2, "keep_decay": 12.0, "quantisation_loss": 0.3,
             "quantisation_scales_with_keep": True}  # fmt: skip
    fit: dict[str, Any] = {
        "metric": "accuracy",
        "fit": curve,
        "lower": {**curve, "uncompressed": 0.799, "keep_loss": 0.25},
        "method": "made up",
        "half_width": 0.004,
        "uncompressed_half_width": 0.002,
        "keep_from": 0.1,
        "keep_to": 0.5,
        "bits_from": 2,
        "bits_to": 8,
        "uncompressed": [0.8, 0.8],
        "seeds": [0, 1],
        "cells": [
            {"keep": 0.1, "bits": 2, "metric": [0.7, 0.7], "loss": [0.1, 0.1],
             "fitted_loss": 0.1, "half_width": 0.01}
        ],
        "settings": {"cuts": [2]},
    }  # fmt: skip
    batch = {
        "batch": 4, "embedding_forward_cpu_s": 1e-4, "embedding_forward_wall_s": 1e-4,
        "block_forward_cpu_s": [4e-4] * 4, "block_forward_wall_s": [4e-4] * 4,
        "block_backward_cpu_s": [4e-4] * 4, "block_backward_wall_s": [4e-4] * 4,
        "head_cpu_s": 2e-4, "head_wall_s": 2e-4, "cut": 2,
        "device_peak_bytes": 1e6, "device_predicted_bytes": 1e6,
    }  # fmt: skip
    row = {
        "mode": "topk4", "bits": 4, "keep": 0.2, "uplink_bits": 1.5, "uplink_bits_predicted": 1.5,
        "uplink_bits_held_out": 1.5, "downlink_bits": 0.8, "downlink_bits_predicted": 0.8,
        "downlink_bits_held_out": 0.8, "encode_s_per_element": 3e-8,
        "decode_gradient_s_per_element": 1e-8, "decode_s_per_element": 1e-8,
        "encode_gradient_s_per_element": 2e-8,
    }  # fmt: skip
    data = {
        "schema_version": 2,
        "name": "sample",
        "source": {"model": "tiny", "model_hash": "ab" * 32},
        "workload": {
            "name": "measured", "model_type": "vit", "blocks": 4, "hidden": 64, "tokens": 20,
            "block_forward_flops": 2e6, "block_backward_flops": 2.2e6, "head_flops": 1e5,
            "adapter_parameters_per_rank": 256, "lora_rank": 4, "block_weight_bytes": 2e5,
            "block_adapter_bytes": 3e4, "block_activation_bytes": 7e4, "device_base_bytes": 1e4,
            "sample_base_bytes": 3e4, "server_base_bytes": 2e4,
        },
        "profile": {
            "attention": "sdpa", "reference_batch": 4, "batches": [batch],
            "speed_flops_per_s": 2.1e10, "embedding_forward_flops": 5.25e5,
            "block_forward_flops": 2.1e6, "block_backward_flops": 2.1e6, "head_flops": 1.05e6,
            "block_forward_flops_counted": 2e6, "block_backward_flops_counted": 2.2e6,
            "block_activation_bytes_formula": 7e4,
        },
        "codec": {
            "config": {"codec": "topk"}, "cut": 2, "tensors": 4, "elements": 5120,
            "seconds_per_element": 2e-8, "modes": modes, "rows": [row],
        },
        "accuracy": {**fit, **(accuracy or {})},
        **fields,
    }  # fmt: skip
    return Calibration.model_validate(data)
