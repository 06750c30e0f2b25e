"""Seconds, FLOP and bytes of blocks against formulas, torch's counter and whole steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from sftopt.core.calibration import Profile
from sftopt.core.instance import Workload
from sftopt.core.workload import workload_from_config
from sftopt.training.calibrate.memory import peak_bytes
from sftopt.training.calibrate.profile import profile_model
from sftopt.training.calibrate.settings import CalibrationSettings
from sftopt.training.split import SplitModel
from tests.training.calibrate.small import Sequences, causal_model, split_of
from tests.training.conformance.architectures import tiny_model as conformance_model
from tests.training.fake_task import FakeTask
from tests.training.split.tiny_models import tiny_model

SETTINGS = CalibrationSettings(cuts=(2,), batch=4, repeats=3, lora_rank=4)
TASK = Sequences(tokens=64)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def eager(one_thread: None) -> tuple[Profile, Workload, SplitModel]:
    model = causal_model()
    model.set_attn_implementation("eager")
    split = split_of(model, SETTINGS)
    return *profile_model(split, TASK, SETTINGS), split


def test_flops_are_the_formula_s_and_the_counter_s(
    eager: tuple[Profile, Workload, SplitModel],
) -> None:
    profile, workload, split = eager
    formula = workload_from_config(split.server.model.config.to_dict(), tokens=64, lora_rank=4)
    assert workload.block_forward_flops == formula.block_forward_flops
    assert workload.block_backward_flops == formula.block_backward_flops
    assert profile.block_forward_flops_counted == pytest.approx(formula.block_forward_flops)
    assert profile.block_backward_flops_counted == pytest.approx(formula.block_backward_flops)
    assert workload.head_flops == formula.head_flops


def test_bytes_are_measured_and_agree_with_the_formula_where_it_holds(
    eager: tuple[Profile, Workload, SplitModel],
) -> None:
    profile, workload, split = eager
    formula = workload_from_config(split.server.model.config.to_dict(), tokens=64, lora_rank=4)
    assert profile.attention == "eager"
    assert workload.block_activation_bytes == pytest.approx(
        formula.block_activation_bytes, rel=0.01
    )
    assert profile.block_activation_bytes_formula == formula.block_activation_bytes
    assert workload.block_weight_bytes == formula.block_weight_bytes
    assert workload.block_adapter_bytes == formula.block_adapter_bytes
    assert workload.adapter_parameters_per_rank == formula.adapter_parameters_per_rank
    assert workload.device_base_bytes == formula.device_base_bytes
    assert (workload.blocks, workload.hidden, workload.tokens) == (4, 64, 64)


def test_predicted_memory_is_the_peak_within_fifteen_percent(
    eager: tuple[Profile, Workload, SplitModel],
) -> None:
    profile, workload, _ = eager
    assert [one.batch for one in profile.batches] == [1, 4, 8]
    for one in profile.batches:
        assert one.device_predicted_bytes == pytest.approx(one.device_peak_bytes, rel=0.15)
    assert profile.batches[-1].device_peak_bytes > profile.batches[0].device_peak_bytes
    assert workload.sample_base_bytes >= 64 * 64 * 4  # the boundary at least


def test_flop_at_the_measured_speed_give_the_measured_seconds(
    eager: tuple[Profile, Workload, SplitModel],
) -> None:
    profile, workload, _ = eager
    at = profile.batches[1]
    assert at.batch == profile.reference_batch == 4
    speed = profile.speed_flops_per_s
    seconds = sum(at.block_forward_cpu_s) + sum(at.block_backward_cpu_s)
    flops = 4 * 4 * (profile.block_forward_flops + profile.block_backward_flops)
    assert flops / speed == pytest.approx(seconds)
    assert 4 * profile.head_flops / speed == pytest.approx(at.head_cpu_s)
    assert 4 * profile.embedding_forward_flops / speed == pytest.approx(at.embedding_forward_cpu_s)
    total = profile.block_forward_flops + profile.block_backward_flops
    assert total == pytest.approx(workload.block_forward_flops + workload.block_backward_flops)
    assert len(at.block_forward_wall_s) == 4


@pytest.mark.parametrize("family", ["vit", "bert", "llama", "qwen2-sliding"])
def test_other_families_are_profiled_too(one_thread: None, family: str) -> None:
    """Also where blocks are called with keywords, tables and several masks."""
    settings = replace(SETTINGS, batch=2, profile_batches=(2,), repeats=1, cuts=(3,), lora_rank=3)
    task = FakeTask() if family == "vit" else FakeTask(metric="negative_loss_nats")
    if family == "bert":
        task = _Sentences()
    profile, workload = profile_model(split_of(tiny_model(family), settings), task, settings)
    assert workload.blocks == 4
    assert profile.block_forward_flops_counted == pytest.approx(workload.block_forward_flops)
    assert profile.block_backward_flops_counted == pytest.approx(workload.block_backward_flops)
    assert workload.block_activation_bytes > 0.0


def test_adapters_that_a_model_never_runs_are_profiled(one_thread: None) -> None:
    """BART's decoder has cross-attention, which has no part where there is no encoder."""
    settings = replace(SETTINGS, batch=2, profile_batches=(2,), repeats=1, cuts=(1,), lora_rank=3)
    model = conformance_model("bart", "causal")
    profile, workload = profile_model(
        split_of(model, settings), FakeTask(metric="negative_loss_nats"), settings
    )
    assert workload.blocks == 3
    assert profile.block_backward_flops_counted > profile.block_forward_flops_counted > 0.0


class _Sentences(FakeTask):
    """Texts with one label each."""

    def draw(self, batch: int, *seed: int) -> dict[str, torch.Tensor]:
        ids = FakeTask(metric="negative_loss_nats").draw(batch, *seed)["input_ids"]
        return {"input_ids": ids, "labels": ids[:, 0] % 5}


def test_a_peak_is_what_is_alive_at_once() -> None:
    def step() -> None:
        first = torch.ones(1000)  # 4,000 bytes
        second = first + 1.0  # 8,000 alive
        del first
        third = second * 2.0  # 8,000 again
        del second, third

    assert peak_bytes(step, torch.device("cpu")) == pytest.approx(8000, abs=200)
