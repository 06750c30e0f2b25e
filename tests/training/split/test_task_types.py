"""Saved folders name their task and their base: peft's automatic classes load them."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedModel,
)

from sftopt.training.split import SplitConfig, SplitModel
from tests.training.split.tiny_models import VOCABULARY, tiny_batch, tiny_model

pytestmark = pytest.mark.train

HEADS = {
    "SEQ_CLS": (BertForSequenceClassification, peft.AutoPeftModelForSequenceClassification),
    "TOKEN_CLS": (BertForTokenClassification, peft.AutoPeftModelForTokenClassification),
    "QUESTION_ANS": (BertForQuestionAnswering, peft.AutoPeftModelForQuestionAnswering),
    "CAUSAL_LM": (None, peft.AutoPeftModelForCausalLM),
}


def base_of(task: str) -> PreTrainedModel:
    kind = HEADS[task][0]
    if kind is None:
        return tiny_model("gpt2")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=32, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return kind(config)


def batch_of(task: str) -> dict[str, torch.Tensor]:
    batch = tiny_batch("gpt2" if task == "CAUSAL_LM" else "bert")
    if task == "SEQ_CLS":
        batch["labels"] = batch["labels"] % 2
    elif task == "TOKEN_CLS":
        batch["labels"] = batch["input_ids"] % 2
    elif task == "QUESTION_ANS":
        del batch["labels"], batch["token_type_ids"]  # peft's wrapper of this task drops them
        batch |= {"start_positions": torch.tensor([1, 0, 2]),
                  "end_positions": torch.tensor([3, 2, 3])}  # fmt: skip
    return batch


@pytest.mark.parametrize("task", HEADS)
def test_the_automatic_class_of_peft_loads_the_folder(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base_of(task).save_pretrained(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    split = SplitModel.from_pretrained("base", SplitConfig.of(1))
    batch = batch_of(task)
    split.train_step({"device-0": batch})
    split.average()
    split.save_pretrained("run")
    written = json.loads((tmp_path / "run/server/adapter_config.json").read_text())
    assert written["task_type"] == task
    assert written["base_model_name_or_path"] == str(tmp_path / "base")
    monkeypatch.chdir("/")  # a relative base would not be found from here
    loaded = HEADS[task][1].from_pretrained(tmp_path / "run/server")
    found = split.evaluate("device-0", batch)
    with torch.no_grad():
        output = loaded(**batch)
    assert output.loss.item() == pytest.approx(found.loss, rel=1e-5)
    again = SplitModel.from_pretrained(tmp_path / "run")
    assert again.evaluate("device-0", batch).loss == pytest.approx(found.loss, rel=1e-5)
