"""The sections of an instance: workload, accuracy, devices, server, radio, schedule, source.

Symbols in brackets are those of ``formulations/MODEL.md``. Types and ranges are checked here;
what holds between sections is in :mod:`sftopt.core.references`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from sftopt.core.fields import (
    MOST_BLOCKS,
    AtLeastOne,
    Count,
    Finite,
    Fraction,
    Frozen,
    Name,
    NonNegative,
    Positive,
    PositiveCount,
    Seed,
    Text,
)


class PowerLaw(StrEnum):
    """How a device's rate depends on its share of the uplink band, equation (3)."""

    PSD = "psd"
    """Fixed power density: the rate is linear in the share."""
    TOTAL = "total"
    """All transmit power on the share held: concave in the share, with R(0) = 0."""


class DownlinkPayload(StrEnum):
    """What the boundary gradient carries, equation (2)."""

    KEPT = "kept"
    """Only the kept positions."""
    DENSE = "dense"
    """All elements at the reference precision."""


class ServerOrder(StrEnum):
    """How the server works through the devices of one step, equations (7) and (11)."""

    IN_TURN = "in_turn"
    PARALLEL = "parallel"


class AdapterDownlink(StrEnum):
    """How averaged adapters return, equation (8)."""

    UNICAST = "unicast"
    """Each device gets its own copy of its blocks."""
    MULTICAST = "multicast"
    """Each block is sent once, at the rate of its weakest holder."""


class AccuracyScope(StrEnum):
    """Over what the accuracy limit is held, equation (12)."""

    MEAN = "mean"
    EACH = "each"
    COMMON = "common"


class Fading(StrEnum):
    """The law behind the mean rate, equation (3)."""

    GAMMA = "gamma"
    """16 equiprobable gains, the quantile midpoints of Gamma(branches, 1/branches)."""
    NONE = "none"
    """The gain is what it is."""


class Workload(Frozen):
    """One language model and the fine-tuning step on it; per-sample figures count one sample."""

    name: Name = "workload"
    model_type: Name = ""
    blocks: Annotated[int, Field(ge=2, le=MOST_BLOCKS, strict=True)] = Field(
        description="L, transformer blocks"
    )
    hidden: PositiveCount = Field(description="d, hidden size")
    tokens: PositiveCount = Field(description="S, tokens per sample incl. CLS and padding")
    block_forward_flops: Positive = Field(description="F^f, one block forward, per sample")
    block_backward_flops: Positive = Field(description="F^b, one block backward, per sample")
    embedding_forward_flops: NonNegative = Field(default=0.0, description="F^e, per sample")
    head_flops: NonNegative = Field(default=0.0, description="F^h, forward + backward, per sample")
    lora_rank: PositiveCount = 16
    adapter_parameters_per_rank: NonNegative = Field(
        description="adapter parameters of one block and one unit of rank"
    )
    adapter_bits: PositiveCount = Field(default=32, description="bits per adapter parameter")
    reference_bits: Literal[16, 32] = Field(default=32, description="b_ref, bits per element")
    device_base_bytes: NonNegative = Field(default=0.0, description="m_0, runtime + embedding")
    sample_base_bytes: NonNegative = Field(
        default=0.0, description="m_0b, per sample: input, boundary, its gradient, codec buffers"
    )
    block_weight_bytes: NonNegative = Field(default=0.0, description="m_w")
    block_adapter_bytes: NonNegative = Field(
        default=0.0, description="m_s: adapters, gradients, optimiser state of one block"
    )
    block_activation_bytes: NonNegative = Field(
        default=0.0, description="m_a, per sample: tensors one block saves for backward"
    )
    server_base_bytes: NonNegative = Field(
        default=0.0, description="m_s0, server runtime + head, without what grows with the batch"
    )
    sample_head_bytes: NonNegative = Field(
        default=0.0, description="m_h, per sample: what the head holds at the server"
    )
    head_parameters: NonNegative | None = Field(
        default=None, description="trained parameters of the head; null: not known"
    )
    head_bytes: NonNegative | None = Field(
        default=None,
        description="m_head: the head's weights, gradients and optimiser state, a part of "
        "server_base_bytes; null: not known",
    )
    side_bits: NonNegative = Field(
        default=0.0,
        description="S_side, bits per sample sent up beside the boundary: labels and masks in "
        "their smallest form",
    )
    heads: PositiveCount | None = Field(
        default=None, description="attention heads of a block; null: not known, as below"
    )
    key_value_heads: PositiveCount | None = Field(
        default=None, description="heads of keys and values, where several queries share one"
    )
    head_size: PositiveCount | None = Field(default=None, description="features of one head")
    element_bytes: PositiveCount | None = Field(
        default=None, description="bytes of one element of weights and activations"
    )
    adapted_matrices: PositiveCount | None = Field(
        default=None, description="matrices of one block that carry adapters"
    )
    is_decoder: bool | None = Field(
        default=None, strict=True, description="causal language model (true) or encoder (false)"
    )

    @property
    def boundary_elements(self) -> int:
        """Return the number of boundary elements per sample, E = S d."""
        return self.tokens * self.hidden

    @property
    def adapter_bits_per_block(self) -> float:
        """Return the bits of one block's adapters, A_blk."""
        return self.lora_rank * self.adapter_parameters_per_rank * self.adapter_bits


class Accuracy(Frozen):
    """a(rho, q) = a_0 - a_1 exp(-a_2 rho) - a_3 rho 4^-q, equation (12), and its limit."""

    metric: Name = Field(default="accuracy", description="accuracy, or negative_loss_nats")
    uncompressed: Finite = Field(description="a_0")
    keep_loss: NonNegative = Field(description="a_1")
    keep_decay: Positive = Field(description="a_2")
    quantisation_loss: NonNegative = Field(default=0.0, description="a_3")
    quantisation_scales_with_keep: bool = Field(
        default=True, description="false: the noise term is a_3 4^-q, without rho"
    )
    cut_factor: tuple[NonNegative, ...] | None = Field(
        default=None, description="factor on a_1 for 0..L-1 blocks on the device; null: all 1"
    )
    scope: AccuracyScope = AccuracyScope.MEAN
    minimum: Finite = Field(description="a_min")
    minimum_each: Finite | None = Field(
        default=None, description="a_each (scope mean only); null: a_min - 0.05"
    )
    band: NonNegative | None = Field(
        default=None, description="half width of the fit's 95 % confidence band, where measured"
    )
    provenance: Text = Field(default="declared", description="where the curve comes from")

    @property
    def floor_each(self) -> float:
        """Return the accuracy every device must reach: a_each under scope mean, else a_min."""
        if self.scope is not AccuracyScope.MEAN:
            return self.minimum
        return self.minimum - 0.05 if self.minimum_each is None else self.minimum_each


class Device(Frozen):
    """One device. Gains are linear mean power gains including antennas."""

    id: Annotated[str, Field(min_length=1, max_length=100)]
    kind: Name = Field(default="", description="hardware class, for tables")
    compute_flops_per_s: Positive = Field(description="f_n, sustained")
    memory_bytes: Positive = Field(description="M_n")
    batch: PositiveCount = Field(description="b_n, samples per step")
    weight: Fraction = Field(description="w_n, data weight; all weights sum to 1")
    transmit_power_w: Positive = Field(description="p_n")
    uplink_gain: NonNegative = Field(description="g^u_n")
    downlink_gain: NonNegative | None = Field(default=None, description="g^d_n; null: uplink_gain")
    blocks_min: Count = Field(default=0, description="l_min,n, privacy floor")
    blocks_max: Count | None = Field(
        default=None, description="l_max,n, most blocks it may hold; null: L-1"
    )
    codec_s_per_element: NonNegative = Field(
        default=0.0, description="e_n, per element and direction"
    )
    remembered_bytes: NonNegative | None = Field(
        default=None,
        description="m_r,n, what its codec remembers of samples that return, held by the server, "
        "too: for dense memories 2 bytes per sample and boundary element; null: nothing",
    )
    lora_rank: PositiveCount | None = Field(
        default=None, description="r_n of hsplitlora; null: the workload's rank"
    )
    energy_coefficient_j_s2_per_flop3: NonNegative | None = Field(
        default=None, description="kappa_n, for schemes that count energy"
    )
    position_m: tuple[Finite, ...] | None = Field(
        default=None,
        min_length=2,
        max_length=3,
        description="x, y and, if known, z in metres, for maps only; no rate follows from it",
    )

    @property
    def gain_down(self) -> float:
        """Return the downlink gain g^d_n, the uplink gain where no other is given."""
        return self.uplink_gain if self.downlink_gain is None else self.downlink_gain


class Server(Frozen):
    """The edge server; the range of its speed is used by schemes that choose it (CARD)."""

    compute_flops_per_s: Positive = Field(description="f_s")
    memory_bytes: Positive = Field(description="M_s")
    transmit_power_w: Positive = Field(description="p_s, over the whole downlink band")
    compute_min_flops_per_s: Positive | None = Field(
        default=None, description="f_min, the slowest it can be set to"
    )
    compute_max_flops_per_s: Positive | None = Field(
        default=None, description="f_max, the fastest it can be set to"
    )
    energy_coefficient_j_s2_per_flop3: NonNegative | None = Field(
        default=None, description="kappa_s"
    )


class Radio(Frozen):
    """The cell's spectrum and the rate law, equation (3)."""

    uplink_bandwidth_hz: Positive = Field(description="B_u")
    downlink_bandwidth_hz: Positive = Field(description="B_d")
    noise_w_per_hz: Positive = Field(default=3.981071705534986e-21, description="N0, -174 dBm/Hz")
    uplink_noise_figure: AtLeastOne = Field(
        default=1.0, description="nu_u of the base station, linear"
    )
    downlink_noise_figure: AtLeastOne = Field(
        default=1.0, description="nu_d of the devices, linear"
    )
    snr_gap: AtLeastOne = Field(default=1.0, description="Gamma, linear")
    efficiency_cap_bits_per_s_hz: Positive = Field(default=7.4, description="C_max")
    outage_rate_bits_per_s: Positive = Field(
        default=1e3, description="R_min: below it over the whole band a device is in outage"
    )
    power: PowerLaw = PowerLaw.PSD
    downlink: DownlinkPayload = DownlinkPayload.KEPT
    adapter_downlink: AdapterDownlink = AdapterDownlink.UNICAST
    fading: Fading = Fading.GAMMA
    diversity_branches: PositiveCount = Field(default=4, description="n_c")


class Training(Frozen):
    """The schedule of a round and a frame."""

    local_steps: PositiveCount = Field(default=10, description="K, steps between averagings")
    rounds_per_frame: PositiveCount = Field(default=100, description="R_f")


class Source(Frozen):
    """Where an instance comes from, and what in it is declared ours."""

    family: Name = ""
    seed: Seed | None = None
    generator: Text = ""
    text: Text = ""
