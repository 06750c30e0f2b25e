"""The terms of the second judge: defaults, modes, payloads, accuracy, rates, FLOP and bytes.

Part of tests/second_judge.py: the same rules, nothing of sftopt imported or read.
"""

import math
from functools import lru_cache
from typing import Any

from scipy.stats import gamma

Object = dict[str, Any]
Gains = tuple[list[float], list[float]]
"""One round's gains of a device, up and down, one for each coherence block."""

DEFAULTS: dict[str, Object] = {
    "workload": {
        "embedding_forward_flops": 0.0,
        "head_flops": 0.0,
        "lora_rank": 16,
        "adapter_bits": 32,
        "reference_bits": 32,
        "device_base_bytes": 0.0,
        "sample_base_bytes": 0.0,
        "block_weight_bytes": 0.0,
        "block_adapter_bytes": 0.0,
        "block_activation_bytes": 0.0,
        "server_base_bytes": 0.0,
        "sample_head_bytes": 0.0,
        "head_parameters": None,
        "head_bytes": None,
        "side_bits": 0.0,
        "heads": None,
        "head_size": None,
        "element_bytes": None,
        "adapted_matrices": None,
        "is_decoder": None,
    },
    "compression": {
        "modes": [{"bits": bits} for bits in (2, 3, 4, 6, 8)],
        "keep_min": None,
        "keep_max": 1.0,
    },
    "accuracy": {
        "quantisation_loss": 0.0,
        "quantisation_scales_with_keep": True,
        "cut_factor": None,
        "scope": "mean",
        "minimum_each": None,
    },
    "server": {
        "compute_min_flops_per_s": None,
        "compute_max_flops_per_s": None,
        "energy_coefficient_j_s2_per_flop3": None,
    },
    "radio": {
        "noise_w_per_hz": 3.981071705534986e-21,
        "uplink_noise_figure": 1.0,
        "downlink_noise_figure": 1.0,
        "snr_gap": 1.0,
        "efficiency_cap_bits_per_s_hz": 7.4,
        "outage_rate_bits_per_s": 1000.0,
        "power": "psd",
        "downlink": "kept",
        "adapter_downlink": "unicast",
        "fading": "gamma",
        "diversity_branches": 4,
    },
    "training": {"local_steps": 10},
}
DEVICE: Object = {
    "downlink_gain": None,
    "blocks_min": 0,
    "blocks_max": None,
    "codec_s_per_element": 0.0,
    "remembered_bytes": None,
    "energy_coefficient_j_s2_per_flop3": None,
}
MODE: Object = {
    "name": None,
    "kind": "topk",
    "bits": None,
    "tokens": None,
    "value_bits": None,
    "gradient_bits": None,
    "side_bits_per_element": 0.0,
    "loss": None,
    "codec_seconds_factor": 1.0,
    "mask_overhead": [{"keep_from": 0.0, "keep_to": 1.0, "factor": 1.0}],
}
PLAN: Object = {
    "order": "parallel",
    "sequential_power": "band",
    "aggregation": None,
    "feas_tol": None,
}
DEVICE_PLAN: Object = {
    "mode_name": None,
    "adapter_uplink_share": None,
    "rank": None,
    "server_flops_per_s": None,
}


def filled(instance: Object) -> Object:
    """Return the instance with every field that it leaves out at the schema's default."""
    cell: Object = {"server_order": "in_turn"} | instance
    for section, fields in DEFAULTS.items():
        cell[section] = fields | instance.get(section, {})
    cell["devices"] = [DEVICE | device for device in instance["devices"]]
    modes = [MODE | mode for mode in cell["compression"]["modes"]]
    cell["compression"] = cell["compression"] | {"modes": modes}
    return cell


# ---- (1), (2), (12) and section 10: what a mode sends and what it costs in accuracy


def label(mode: Object) -> str:
    """Return the name that plans know a mode by."""
    if mode["name"] is not None:
        return str(mode["name"])
    plain = {"none": "none", "tokens": f"tokens{mode['tokens']}-{mode['bits']}"}
    return plain.get(mode["kind"], f"{mode['kind']}{mode['bits']}")


def fits(mode: Object, part: Object) -> bool:
    """Return whether a device's part of a plan has the mode's kind and bits."""
    bits = mode["kind"] == "none" or mode["bits"] == part["bits"]
    return bool(mode["kind"] == part["mode"] and bits)


def mode_of(cell: Object, part: Object) -> Object | None:
    """Return the mode that a device's part of a plan names, None where there is no such mode."""
    modes = cell["compression"]["modes"]
    if part["mode_name"] is not None:
        # Read: the name decides; kind or bits that contradict it are outside the domain.
        return next((mode for mode in modes if label(mode) == part["mode_name"]), None)
    fitting = [mode for mode in modes if fits(mode, part)]
    # Read: kind and bits that several modes share name none of them.
    return fitting[0] if len(fitting) == 1 else None


def entropy_bits(share: float) -> float:
    """Return the binary entropy H2 of a share in bits."""
    if share <= 0.0 or share >= 1.0:
        return 0.0
    return -share * math.log2(share) - (1.0 - share) * math.log2(1.0 - share)


def value_bits(mode: Object) -> float:
    """Return eta_q, the bits of one quantised value."""
    return float(mode["bits"] if mode["value_bits"] is None else mode["value_bits"])


def topk_bits(mode: Object, keep: float) -> float:
    """Return beta of equation (1) at a keep fraction, in bits per element."""
    omega = next(
        (part["factor"] for part in mode["mask_overhead"] if keep <= part["keep_to"]),
        mode["mask_overhead"][-1]["factor"],
    )
    bits = keep * value_bits(mode) + omega * entropy_bits(keep)
    return float(bits + mode["side_bits_per_element"])


def keep_end(cell: Object, mode: Object) -> float:
    """Return rhobar of equation (1), the largest keep fraction of a Top-K mode."""
    eta, sigma = value_bits(mode), mode["side_bits_per_element"]
    # beta stays below eta + sigma up to its first root, so the reference bits bind only below.
    level = min(eta + sigma, cell["workload"]["reference_bits"]) - sigma
    cap = float(cell["compression"]["keep_max"])
    for part in mode["mask_overhead"]:
        low, high, omega = part["keep_from"], part["keep_to"], part["factor"]

        def excess(keep: float, omega: float = omega) -> float:
            return keep * float(eta) + omega * entropy_bits(keep) - float(level)

        peak = 1.0 / (1.0 + 2.0 ** (-eta / omega)) if omega > 0.0 else 1.0
        top = min(max(peak, low), high)
        if excess(low) >= 0.0:
            return min(cap, float(low))
        if excess(top) < 0.0:
            continue
        bottom = low
        for _ in range(80):
            middle = 0.5 * (bottom + top)
            bottom, top = (middle, top) if excess(middle) < 0.0 else (bottom, middle)
        return min(cap, top)
    return cap


def payload(cell: Object, mode: Object, keep: float) -> tuple[float, float]:
    """Return the bits of one sample's boundary up and of its gradient down."""
    work = cell["workload"]
    reference, kind = work["reference_bits"], mode["kind"]
    tokens = mode["tokens"] if kind == "tokens" else work["tokens"]
    elements = tokens * work["hidden"]
    if kind == "topk":
        up = topk_bits(mode, keep)
        down = keep * value_bits(mode) + mode["side_bits_per_element"]
    elif kind == "none":
        up = down = reference
    else:
        # Read: tokens are dense over S' tokens, group scales included.
        up = down = value_bits(mode) + mode["side_bits_per_element"]
    if mode["gradient_bits"] is not None:
        down = mode["gradient_bits"]
    if cell["radio"]["downlink"] == "dense":
        # Read: the option is the cell's and stands above a mode's own figure.
        down = reference
    return elements * up, elements * down


def accuracy_of(cell: Object, mode: Object, keep: float, blocks: int) -> float | None:
    """Return a(rho, q) of equation (12) or from the mode's own loss; None where unknown."""
    curve = cell["accuracy"]
    best = curve["uncompressed"]
    loss = mode["loss"]
    if loss is not None:
        if isinstance(loss, list):
            loss = loss[min(max(blocks, 0), len(loss) - 1)]
        return float(best - loss)
    if mode["kind"] == "none":
        return float(best)
    if mode["kind"] == "tokens":
        return None
    factors = curve["cut_factor"]
    factor = 1.0 if factors is None else factors[min(max(blocks, 0), len(factors) - 1)]
    keep = keep if mode["kind"] == "topk" else 1.0
    noise = curve["quantisation_loss"] * 4.0 ** (-mode["bits"])
    if curve["quantisation_scales_with_keep"]:
        noise *= keep
    return float(best - curve["keep_loss"] * factor * math.exp(-curve["keep_decay"] * keep) - noise)


# ---- (3): rates


@lru_cache
def fading_gains(branches: int) -> list[float]:
    """Return the 16 equiprobable gains that stand for the fading law, linear."""
    middles = [(k + 0.5) / 16.0 for k in range(16)]
    return [float(gamma.ppf(q, branches, scale=1.0 / branches)) for q in middles]


class Rates:
    """Rates of one device over shares of the two bands, equation (3)."""

    def __init__(
        self, cell: Object, device: Object, power_w: float, gains: Gains | None = None
    ) -> None:
        radio = self.radio = cell["radio"]
        noise = radio["noise_w_per_hz"]
        self.up = radio["uplink_bandwidth_hz"]
        self.down = radio["downlink_bandwidth_hz"]
        self.up_snr = power_w / (noise * radio["uplink_noise_figure"] * self.up)
        self.down_snr = cell["server"]["transmit_power_w"]
        self.down_snr /= noise * radio["downlink_noise_figure"] * self.down
        if gains is not None:
            self.up_gains, self.down_gains = gains
            return
        law = fading_gains(radio["diversity_branches"]) if radio["fading"] == "gamma" else [1.0]
        down = device["downlink_gain"]
        down = device["uplink_gain"] if down is None else down
        self.up_gains = [device["uplink_gain"] * gain for gain in law]
        self.down_gains = [down * gain for gain in law]

    def efficiency(self, snr: float, gains: list[float]) -> float:
        """Return the mean spectral efficiency at a signal-to-noise ratio by gain, bit/s/Hz."""
        cap, gap = self.radio["efficiency_cap_bits_per_s_hz"], self.radio["snr_gap"]
        terms = [min(math.log1p(snr * gain / gap) / math.log(2.0), cap) for gain in gains]
        return float(sum(terms) / len(terms))

    def uplink(self, share: float) -> float:
        """Return the rate over a share of the uplink band, bit/s."""
        if share <= 0.0:
            return 0.0
        snr = self.up_snr / share if self.radio["power"] == "total" else self.up_snr
        return float(share * self.up * self.efficiency(snr, self.up_gains))

    def downlink(self, share: float) -> float:
        """Return the rate over a share of the downlink band, bit/s."""
        return float(max(share, 0.0) * self.down * self.efficiency(self.down_snr, self.down_gains))


def seconds(bits: float, rate: float) -> float:
    """Return the time of a payload at a rate, seconds; infinite where nothing passes."""
    if bits <= 0.0:
        return 0.0
    return bits / rate if rate > 0.0 else math.inf


# ---- sections 2 and 7: FLOP, bytes and adapters by rank and tokens


def block_flops(cell: Object, rank: int, tokens: int) -> tuple[float, float]:
    """Return FLOP of one block forward and backward per sample, at a rank and a token count."""
    work = cell["workload"]
    full = work["tokens"]
    more = work["adapter_parameters_per_rank"] * (rank - work["lora_rank"])
    forward = work["block_forward_flops"]
    backward = work["block_backward_flops"]
    if tokens != full:
        width = work["heads"] * work["head_size"]
        forward = (forward - 4.0 * full**2 * width) * tokens / full + 4.0 * tokens**2 * width
        backward = (backward - 8.0 * full**2 * width) * tokens / full + 8.0 * tokens**2 * width
    return float(forward + 2.0 * tokens * more), float(backward + 4.0 * tokens * more)


def activation_bytes(cell: Object, rank: int, tokens: int) -> float:
    """Return m_a, what one block saves for backward per sample at a rank and tokens, bytes."""
    work = cell["workload"]
    full, total = work["tokens"], work["block_activation_bytes"]
    if total == 0.0:
        return 0.0
    if work["adapter_parameters_per_rank"] > 0.0:
        # Read: section 7 names only m_s and the FLOP as following the rank, but section 2 gives
        # m_a "at r = 16 on q,v": each adapted matrix saves its inner activations, S r values.
        inner = full * (work["adapted_matrices"] or 0) * work["adapter_bits"] / 8.0
        total += inner * (rank - work["lora_rank"])
    if tokens == full:
        return float(total)
    # Read: "from heads and element bytes": one attention matrix for each head grows with the
    # square of the tokens, all else in proportion to them.
    square = work["heads"] * work["element_bytes"]
    return float((total - square * full**2) * tokens / full + square * tokens**2)


def adapter_bits(cell: Object, rank: int) -> float:
    """Return A(r), the adapters of one block at a rank in bits."""
    work = cell["workload"]
    return float(work["adapter_parameters_per_rank"] * rank * work["adapter_bits"])


def dense_update_bits(cell: Object) -> float:
    """Return one block's merged update as whole matrices in bits; infinite where unknown."""
    work = cell["workload"]
    count = work["adapted_matrices"]
    if count is None:
        return math.inf
    # Read: the adapted matrices take the hidden features as input, so that P = count d + outputs.
    outputs = work["adapter_parameters_per_rank"] - count * work["hidden"]
    entries = work["hidden"] * outputs
    return float(entries * work["adapter_bits"]) if entries > 0.0 else math.inf
