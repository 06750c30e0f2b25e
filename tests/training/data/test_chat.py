"""Chats and answers: a loss on what the assistant says, all of it, and on nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sftopt.core.errors import InputError
from sftopt.training.data import Task, TaskKind, load_task
from sftopt.training.split.side import IGNORED_LABEL
from tests.training.data.tiny_folders import CHATML, chat_tokenizer, save_qwen3

pytestmark = pytest.mark.train

GENERATION = """{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}
{%- endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
STRICT = (
    """{%- if messages[0]['role'] != 'user' %}{{ raise_exception('starts with the user') }}
{%- endif %}"""
    + CHATML
)
TURNING = """{%- for message in messages|reverse %}{{ message['content'] }}{% endfor %}"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen3(tmp_path_factory.mktemp("models") / "qwen3")


def chat(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def task_of(tmp_path: Path, rows: list[dict[str, Any]], model: Path, tokens: int = 128) -> Task:
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_task(f"jsonl:{tmp_path / 'x.jsonl'}", tokens=tokens, model=model)


def learnt(batch: dict[str, torch.Tensor], row: int = 0) -> str:
    """The text of which a loss is taken."""
    labels = batch["labels"][row]
    assert torch.equal(labels[labels != IGNORED_LABEL],
                       batch["input_ids"][row][labels != IGNORED_LABEL])  # fmt: skip
    said: str = chat_tokenizer().decode(labels[labels != IGNORED_LABEL])
    return said


TWO_TURNS = chat(("system", "Be brief."), ("user", "one?"), ("assistant", "one."),
                 ("user", "one. And o?"), ("assistant", " o \n"))  # fmt: skip


@pytest.mark.parametrize(
    ("template", "said"),
    [(CHATML, "one.<|im_end|><think>\n\n</think>\n\n o \n<|im_end|>"),
     (CHATML.replace("['content'] +", "['content'] | trim +"),
      "one.<|im_end|><think>\n\n</think>\n\no<|im_end|>"),
     (GENERATION, "one.<|im_end|> o \n<|im_end|>")],
)  # fmt: skip
def test_the_loss_is_on_what_the_assistant_says(
    template: str, said: str, tmp_path: Path, model: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text((model / "config.json").read_text())
    chat_tokenizer(template).save_pretrained(folder)
    task = task_of(tmp_path, [TWO_TURNS] * 24, folder)
    assert (task.kind, task.metric) == (TaskKind.LANGUAGE_MODELLING, "negative_loss_nats")
    batch = next(task.evaluation(2))
    assert learnt(batch) == said
    whole = chat_tokenizer().decode(batch["input_ids"][0][batch["attention_mask"][0].bool()])
    made = chat_tokenizer(template).apply_chat_template(TWO_TURNS["messages"], tokenize=False)
    assert whole == made, "the model's own way of writing chats"
    assert int(batch["labels"][0, -1]) == IGNORED_LABEL, "none at the padding"


def test_other_names_of_roles_and_parts_of_text(tmp_path: Path, model: Path) -> None:
    rows = [
        {"conversations": [{"from": "human", "value": "hello?"}, {"from": "gpt", "value": "no"}]}
    ]
    assert learnt(next(task_of(tmp_path, rows * 24, model).evaluation(1))).endswith("no<|im_end|>")
    parts = [{"type": "text", "text": "y"}, {"type": "text", "text": "es"}]
    rows = [
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": parts}]}
    ]
    assert learnt(next(task_of(tmp_path, rows * 24, model).evaluation(1))).endswith("yes<|im_end|>")


def test_long_chats_are_cut_and_those_without_an_answer_left_out(
    tmp_path: Path, model: Path
) -> None:
    long = chat(("user", "why? " * 40), ("assistant", "so."))
    short = chat(("user", "why?"), ("assistant", "because of everything " * 20))
    task = task_of(tmp_path, [short] * 40 + [long] * 5, model, tokens=48)
    assert task.notes == (
        "45 of 45 samples are longer than 48 tokens and lose their end; --tokens sets the length",
        "5 of 45 samples have nothing to learn within 48 tokens and are left out",
    )
    for batch in task.evaluation(64):
        assert bool((batch["labels"] != IGNORED_LABEL).any(1).all())
    with pytest.raises(InputError, match="no sample of the train part has anything to learn"):
        task_of(tmp_path, [long] * 24, model, tokens=48)


@pytest.mark.parametrize(
    ("row", "told"),
    [({"messages": "hello"}, "line 25: a list of messages"),
     ({"messages": []}, "a list of messages"),
     ({"messages": None}, "a list of messages"), ({"messages": ["hi"]}, "message 1 is no object"),
     (chat(("user", "hi")), "no message is the assistant's"),
     ({"messages": [{"role": "assistant", "content": None}]}, "tool calls and pictures"),
     ({"messages": [{"content": "hi"}]}, "message 1 needs a 'role'")],
)  # fmt: skip
def test_chats_that_are_none_are_named(row: Any, told: str, tmp_path: Path, model: Path) -> None:
    with pytest.raises(InputError, match=told):
        task_of(tmp_path, [TWO_TURNS] * 24 + [row], model)


@pytest.mark.parametrize(
    ("template", "told"),
    [(None, "no chat template.*chat_template.jinja"),
     (STRICT, "line 4: the chat template refuses it: starts with the user"),
     (TURNING, "writes message 3 otherwise"), ("{{ oops", "the chat template refuses it")],
)  # fmt: skip
def test_templates_that_cannot_be_used_are_told(
    template: str | None, told: str, tmp_path: Path, model: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text((model / "config.json").read_text())
    chat_tokenizer(template).save_pretrained(folder)
    rows = (
        [chat(("user", "a"), ("assistant", "b")), TWO_TURNS] if template == STRICT else [TWO_TURNS]
    )
    with pytest.raises(InputError, match=told):
        task_of(tmp_path, rows * 24, folder)


def test_completions_are_learnt_and_prompts_are_not(tmp_path: Path, model: Path) -> None:
    rows = [{"prompt": f"Q: {n}\nA:", "completion": f" {n} and ü"} for n in range(30)]
    batch = next(task_of(tmp_path, rows, model, tokens=40).evaluation(1))
    assert learnt(batch) == " 0 and ü<|im_end|>"
    rows.append({"prompt": "no answer", "completion": None})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="line 31: a text under 'completion' expected, not noth"):
        task_of(tmp_path, rows, model)
