"""Large models are checked by a tiny twin: every architecture of the table has one that runs."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig

from sftopt.core.errors import InputError
from sftopt.training.split import SplitConfig, SplitModel
from sftopt.training.split.twin import tiny_twin
from tests.training.conformance.architectures import HEADS
from tests.training.conformance.rows import DECODERS, ENCODERS, IMAGES, Row

pytestmark = pytest.mark.train

UNSAID: dict[str, dict[str, Any]] = {
    "ministral": {"head_dim": 128},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "dots1": {"n_routed_experts": 128, "num_experts_per_tok": 6, "n_shared_experts": 2},
    "nemotron": {"num_key_value_heads": 8},
    "deepseek_v3": {"num_hidden_layers": 6},  # of 61: three dense ones and three of experts
    "deepseek_v2": {"num_experts_per_tok": 6, "n_group": 1, "topk_group": 1},
    "esm": {"vocab_size": 33, "mask_token_id": 32, "pad_token_id": 1},
}
"""What the configurations of released models say where the defaults of transformers do not."""


def released(row: Row) -> tuple[type[transformers.PreTrainedModel], PretrainedConfig]:
    """The class of a row, and a configuration of the sizes that models are released in."""
    config = CONFIG_MAPPING[row.architecture](**UNSAID.get(row.architecture, {}))
    if row.head != "image" and getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = 0
    kinds = getattr(transformers, HEADS[row.head])._model_mapping[type(config)]
    return (kinds[0] if isinstance(kinds, tuple) else kinds), config


@pytest.mark.parametrize("row", [*DECODERS, *ENCODERS, *IMAGES], ids=lambda row: row.name)
def test_every_architecture_has_a_twin_that_runs(row: Row) -> None:
    kind, config = released(row)
    twin = tiny_twin(kind, config)
    assert twin is not None
    assert twin.config.get_text_config().num_hidden_layers == (
        config.get_text_config().num_hidden_layers
    )


@pytest.mark.parametrize(
    ("architecture", "head"),
    [("falcon", "causal"), ("deepseek_v3", "causal"), ("gemma2", "causal"), ("deberta", "text"),
     ("layoutlmv3", "token"), ("dinov2", "image")],
)  # fmt: skip
def test_a_twin_of_released_sizes_passes_the_check(architecture: str, head: str) -> None:
    kind, config = released(Row(architecture, head))
    twin = tiny_twin(kind, config)
    assert twin is not None
    blocks = twin.config.num_hidden_layers
    SplitModel(twin, SplitConfig.of([1, blocks - 1], lora={"rank": 2}))


def test_what_is_refused_is_refused_of_a_twin() -> None:
    kind, config = released(Row("bert", "causal"))
    twin = tiny_twin(kind, config)
    assert twin is not None
    with pytest.raises(InputError, match="looks both ways"):
        SplitModel(twin, SplitConfig.of(1))
