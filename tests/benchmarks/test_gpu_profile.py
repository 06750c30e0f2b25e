"""The GPU study's script, tried on the CPU at small sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.studies import gpu_profile
from benchmarks.studies.plain_chain import (
    plain_decode,
    plain_dense_decode,
    plain_dense_encode,
    plain_encode,
)

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    gpu_profile.measure(torch.device("cpu"), path, small=True, repeats=1)
    return path


@pytest.fixture(scope="module")
def document(written: Path) -> Any:
    return json.loads(written.read_text(encoding="utf-8"))


def test_blocks_of_three_kinds_in_both_precisions_and_attentions(document: Any) -> None:
    rows = document["blocks"]
    assert len(rows) == 12
    assert {(row["dtype"], row["attention"]) for row in rows} == {
        (dtype, attention) for dtype in ("float32", "bfloat16") for attention in ("sdpa", "eager")
    }
    for row in rows:
        assert len(row["block_forward_s"]) == len(row["block_backward_s"]) == row["blocks"]
        assert row["peak_bytes"] >= row["saved_bytes"]
        if row["attention"] == "eager":  # what the formula is for
            assert row["saved_bytes"] == pytest.approx(row["formula_bytes"], rel=0.05)


def test_codecs_with_their_stages(document: Any) -> None:
    rows = document["codecs"]
    assert len(rows) == 12
    for row in rows:
        assert row["same_bytes_as_host"]
        for way in ("encode", "decode", "host_encode"):
            shares = row[f"{way}_share"]
            assert sum(shares.values()) == pytest.approx(1.0)
            assert shares["entropy coder"] > 0.0


def test_the_page_is_the_files(written: Path, document: Any) -> None:
    page = written.with_suffix(".md").read_text(encoding="utf-8")
    assert page == gpu_profile.page(document) + "\n"
    assert "small Llama (4, 16, 64)" in page
    assert f"{document['codecs'][0]['bits_per_element']:.3f}" in page


def test_plain_versions_give_back_what_they_say() -> None:
    tensor = torch.randn(4, 33, 16, generator=torch.Generator().manual_seed(1))
    for bits in (2, 4, 8):
        received = plain_decode(plain_encode(tensor, 1, 0.3, bits), (4, 33, 16), bits)
        kept = received != 0
        scales = tensor.abs().amax(-1, keepdim=True)
        widths = (scales / (2 ** (bits - 1) - 1)).expand_as(tensor)
        assert bool(((received - tensor).abs() <= 1.01 * widths)[kept].all())
    dense = plain_dense_decode(plain_dense_encode(tensor, 0.1), (4, 33, 16))
    assert float((dense - tensor).abs().max()) < 0.06


def test_the_committed_page_is_the_committed_files() -> None:
    path = Path(gpu_profile.__file__).parents[1] / "results" / "gpu_profile.json"
    committed = json.loads(path.read_text(encoding="utf-8"))
    assert committed["machine"]["gpu"] != "none"
    page = path.with_suffix(".md").read_text(encoding="utf-8")
    assert page == gpu_profile.page(committed) + "\n"
    for row in committed["codecs"]:
        if row["codec"] == "topk":
            assert row["same_bytes_as_host"]
        assert row["squared_error_share"] == pytest.approx(
            row["host_squared_error_share"], rel=1e-3
        )
