"""Payloads: published tables to the printed digit, and the domain of the keep fraction."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftopt.core.instance import DownlinkPayload, Mode, ModeKind
from sftopt.core.payload import (
    binary_entropy_bits,
    dense_traffic,
    downlink_bits_per_element,
    indexed_topk_traffic,
    keep_limit,
    low_rank_residual_traffic,
    token_selection_traffic,
    uplink_bits_per_element,
)
from tests.samples import sample_instance

SPLITLITE_TABLE_1 = [
    ("SplitLite", "Qwen-1.5B", 1536, 6.8, 16.9),
    ("SplitLite", "Qwen-3B", 2048, 6.6, 16.6),
    ("SplitLite", "Gemma-1B", 1152, 6.9, 17.4),
    ("SplitLite", "Llama-3B", 3072, 6.5, 16.3),
    ("AQ-SGD", "Qwen-1.5B", 1536, 25.0, 37.5),
    ("AQ-SGD", "Qwen-3B", 2048, 25.0, 37.5),
    ("AQ-SGD", "Gemma-1B", 1152, 25.0, 37.5),
    ("AQ-SGD", "Llama-3B", 3072, 25.0, 37.5),
    ("Rand-Top-k", "Qwen-1.5B", 1536, 50.5, 40.2),
    ("Rand-Top-k", "Qwen-3B", 2048, 50.6, 40.3),
    ("Rand-Top-k", "Gemma-1B", 1152, 50.5, 40.2),
    ("Rand-Top-k", "Llama-3B", 3072, 52.5, 41.2),
]
"""(method, model, hidden, uplink %, total %) of SplitLoRA, arXiv 2608.23018, Table I."""


@pytest.mark.parametrize(("method", "model", "hidden", "uplink", "total"), SPLITLITE_TABLE_1)
def test_splitlite_table_1(
    method: str, model: str, hidden: int, uplink: float, total: float
) -> None:
    tokens = 128
    reference = dense_traffic(tokens, hidden, 16)
    traffic = {
        "SplitLite": low_rank_residual_traffic(
            tokens, hidden, uplink_rank=32, uplink_bits=4, downlink_rank=64, downlink_bits=8
        ),
        "AQ-SGD": dense_traffic(tokens, hidden, 4, 8),
        "Rand-Top-k": indexed_topk_traffic(tokens, hidden, keep=0.3, value_bits=16),
    }[method]
    up, both = traffic.share_of(reference)
    assert (round(100 * up, 1), round(100 * both, 1)) == (uplink, total), model


def test_adaptsfl_sends_everything() -> None:
    assert dense_traffic(128, 1536, 16).share_of(dense_traffic(128, 1536, 16)) == (1.0, 1.0)


@pytest.mark.parametrize(("tokens", "mebibytes"), [(196, 36.75), (64, 12.0)])
def test_st_sflora_token_payload(tokens: int, mebibytes: float) -> None:
    """ST-SFLora (2605.26120): B D q0 / 8 bytes a token, B = 64, D = 768, q0 = 32."""
    traffic = token_selection_traffic(tokens, 768, 32, merged_tokens=0)
    assert 64 * traffic.uplink_bits / 8 / 2**20 == mebibytes


def test_tsflora_token_ratio() -> None:
    """TSFLora: 50 tokens fp32 against 40 and 30 tokens at 8 bits are 5.0 and 6.67 times."""
    raw = dense_traffic(50, 768, 32).uplink_bits
    assert raw / token_selection_traffic(39, 768, 8).uplink_bits == pytest.approx(5.0)
    assert raw / token_selection_traffic(29, 768, 8).uplink_bits == pytest.approx(6.6667, 1e-4)


@pytest.mark.parametrize(
    ("keep", "bits", "saved"),
    [(0.30, 4, 93.5), (0.20, 6, 94.0), (0.25, 4, 94.3), (0.15, 8, 94.3), (0.10, 4, 97.3)],
)
def test_published_chain_against_fp32(keep: float, bits: int, saved: float) -> None:
    beta = uplink_bits_per_element(Mode(bits=bits), keep, 32)
    assert round(100 * (1 - beta / 32), 1) == saved


@pytest.mark.parametrize(("eta", "limit"), [(2, 0.50), (3, 0.71), (4, 0.84)])
def test_keep_limit_at_known_entropies(eta: int, limit: float) -> None:
    instance = sample_instance(1)
    assert keep_limit(Mode(bits=eta), instance) == pytest.approx(limit, abs=6e-3)


@given(
    bits=st.integers(1, 8),
    omega=st.floats(0.0, 3.0),
    sigma=st.floats(0.0, 1.0),
    part=st.floats(0.001, 0.999),
)
def test_keep_limit_is_the_first_crossing(
    bits: int, omega: float, sigma: float, part: float
) -> None:
    mode = Mode.model_validate(
        {
            "bits": bits,
            "side_bits_per_element": sigma,
            "mask_overhead": [{"keep_from": 0, "keep_to": 1, "factor": omega}],
        }
    )
    limit = keep_limit(mode, sample_instance(1))
    dense = bits + sigma
    assert uplink_bits_per_element(mode, part * limit, 32) <= dense + 1e-12
    at_limit = limit * bits + omega * binary_entropy_bits(limit) + sigma
    assert at_limit == pytest.approx(dense, abs=1e-9)


def test_keep_limit_ends_where_a_dearer_interval_begins() -> None:
    mode = Mode.model_validate(
        {
            "bits": 2,
            "mask_overhead": [
                {"keep_from": 0.0, "keep_to": 0.3, "factor": 0.5},
                {"keep_from": 0.3, "keep_to": 1.0, "factor": 3.0},
            ],
        }
    )
    assert keep_limit(mode, sample_instance(1)) == 0.3


def test_entropy_is_exact_at_the_ends_and_the_middle() -> None:
    assert binary_entropy_bits(0.0) == binary_entropy_bits(1.0) == 0.0
    assert binary_entropy_bits(0.5) == pytest.approx(1.0, abs=1e-15)
    assert binary_entropy_bits(1e-12) == pytest.approx(1e-12 * (math.log2(1e12) + 1.4427), 1e-3)


def test_downlink_kinds() -> None:
    topk, dense = Mode(bits=4, side_bits_per_element=0.1), Mode(kind=ModeKind.DENSE, bits=4)
    none = Mode(kind=ModeKind.NONE, bits=32)
    kept = DownlinkPayload.KEPT
    assert downlink_bits_per_element(topk, 0.25, 32, kept) == pytest.approx(1.1)
    assert downlink_bits_per_element(topk, 0.25, 32, DownlinkPayload.DENSE) == 32
    assert downlink_bits_per_element(dense, 1.0, 32, kept) == 4
    assert uplink_bits_per_element(none, 1.0, 16) == 16
