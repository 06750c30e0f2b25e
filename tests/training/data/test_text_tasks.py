"""Text: the standard library's bytes and JSON lines."""

from __future__ import annotations

import json
import shutil
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from sftopt.core.errors import InputError
from sftopt.training.data import TaskKind, load_task, metric_of, stdlib_bytes, stdlib_files
from sftopt.training.data.tokens import TokenTask

STDLIB = Path(sysconfig.get_path("stdlib"))


def names(table: str) -> list[str]:
    return [line.split()[1] for line in table.splitlines()]


def bytes_of(task: TokenTask, part: str) -> bytes:
    return b"".join(
        bytes(batch["input_ids"].flatten().tolist()) for batch in task.evaluation(64, part)
    )


def test_test_part_is_the_listed_files_and_nothing_else() -> None:
    task = stdlib_bytes.load()
    whole = b"".join(
        (STDLIB / name).read_bytes() + b"\0" for name in names(stdlib_files.TUNING_TEST)
    )
    assert bytes_of(task, "test") == whole[: len(whole) // 128 * 128]
    assert task.held_out("test") * 128 > 50_000
    assert (task.kind, task.metric, task.labels) == (
        TaskKind.LANGUAGE_MODELLING,
        "negative_loss_nats",
        None,
    )


def test_no_file_is_in_two_parts() -> None:
    tables = [value for name, value in vars(stdlib_files).items() if name.isupper()]
    every = [name for table in tables for name in names(table)]
    assert len(tables) == 5
    assert len(every) == len(set(every)) > 200


def test_devices_draw_from_their_own_stretch() -> None:
    task = stdlib_bytes.load(tokens=64)
    train = bytes(task.streams.train.astype(np.uint8))
    for device in range(3):
        stretch = train[device * len(train) // 3 : (device + 1) * len(train) // 3]
        batch = next(task.train_batches(device, 3, 16, seed=1))
        assert torch.equal(batch["input_ids"], batch["labels"])
        assert batch["input_ids"].shape == (16, 64)
        assert all(bytes(row.tolist()) in stretch for row in batch["input_ids"])


def test_skipping_is_exact() -> None:
    task = stdlib_bytes.load()
    batches = task.train_batches(0, 1, 4, seed=2)
    third = [next(batches) for _ in range(3)][2]
    again = next(task.train_batches(0, 1, 4, seed=2, skip=2))
    assert torch.equal(third["input_ids"], again["input_ids"])


def test_another_release_is_used_and_told(tmp_path: Path) -> None:
    for table in ("TRAIN", "VALIDATION", "TEST"):
        for name in names(getattr(stdlib_files, f"TUNING_{table}")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(STDLIB / name, tmp_path / name)
    same = stdlib_bytes.load(folder=tmp_path)
    assert same.fingerprint == stdlib_bytes.load().fingerprint
    (tmp_path / "asyncio/tasks.py").write_text("pass\n" * 9)
    (tmp_path / "email/utils.py").unlink()
    other = stdlib_bytes.load(folder=tmp_path)
    assert other.fingerprint != same.fingerprint
    assert "email/utils.py is missing" in "".join(other.notes)


def test_line_ends_of_the_checkout_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"one\r\ntwo\r\n")
    assert stdlib_bytes._read("0 a.py\n", tmp_path)[0] == [b"one\ntwo\n"]


def test_no_sources_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"standard library are not in .* jsonl:PATH"):
        stdlib_bytes.load(folder=tmp_path)


def test_pretraining_part_is_other_text() -> None:
    task = stdlib_bytes.load()
    part = task.pretraining()
    assert part is not None
    assert part.pretraining() is None
    assert part.fingerprint != task.fingerprint
    held = (STDLIB / "heapq.py").read_bytes()
    assert held in bytes_of(part, "test")
    assert held[:2000] not in bytes(part.streams.train.astype(np.uint8))


def test_metric_agrees_with_the_models_own_loss() -> None:
    task = stdlib_bytes.load(tokens=16)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=256, n_positions=16, n_embd=8, n_layer=2, n_head=2)
    ).train(False)
    batch = next(task.evaluation(3))
    batch["labels"][1, 4:] = -100
    with torch.no_grad():
        output = model(**batch)
    total, count = metric_of(task, output.logits, batch["labels"])
    assert count == 15 + 3 + 15
    assert total / count == pytest.approx(-output.loss.item(), rel=1e-6)


def write_lines(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def test_json_lines_of_one_file_are_divided(tmp_path: Path) -> None:
    texts = [f"document {number:03d} \u2028 and so on" for number in range(60)]
    write_lines(tmp_path / "all.jsonl", texts)
    task = load_task(f"jsonl:{tmp_path / 'all.jsonl'}", tokens=8)
    assert isinstance(task, TokenTask)
    parts = {
        name: bytes(stream.astype(np.uint8)).decode().split("\0")[:-1]
        for name, stream in task._parts().items()
    }
    assert parts["test"] == texts[::20]
    assert parts["validation"] == texts[1::20]
    assert sorted(text for part in parts.values() for text in part) == texts
    assert next(task.train_batches(0, 2, 3, 0))["input_ids"].shape == (3, 8)


def test_json_lines_in_a_folder(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [f"train {n} " + "x" * 20 for n in range(40)])
    write_lines(tmp_path / "test.jsonl", ["for the test " * 4])
    task = load_task(f"jsonl:{tmp_path}", tokens=16)
    assert isinstance(task, TokenTask)
    assert bytes_of(task, "test") == ("for the test " * 4).encode()[:48]
    assert b"train 20 " in bytes(task.streams.validation.astype(np.uint8))
    assert b"train 20 " not in bytes(task.streams.train.astype(np.uint8))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"text": "good"}\n' * 3 + '{"text": 3}\n', "line 4: a text under 'text' expected"),
        ('{"text": "good"}\n[3]\n', "line 2: an object such as .* expected, not a list"),
        ('{"text": "good"}\nnot json\n', "line 2 is not JSON"),
        ('{"text": "good"}\n{"text": "half \\ud83d here"}\n', "line 2: 'text' holds half a char"),
        ('{"text": "good"}\n' + "[" * 100_000, "line 2 is not JSON"),
        ('{"text": "good"}\n{"n": ' + "9" * 5000 + "}", "line 2 is not JSON"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "git lfs pull"),
        ('{"text": "short"}\n' * 3, "fewer than one window"),
        ('{"text": "short"}\n', "0 rows for training and 1 for testing; give more"),
        ("", "0 rows for training"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(InputError, match=told):
        load_task(f"jsonl:{tmp_path / 'x.jsonl'}")


def test_a_byte_order_mark_and_whole_surrogate_pairs_are_read(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"face {chr(0x1F600)} {number} and more"}) for number in range(60)]
    (tmp_path / "plain.jsonl").write_text("\n".join(lines))
    (tmp_path / "marked.jsonl").write_text("\n".join(lines), encoding="utf-8-sig")
    plain, marked = (
        load_task(f"jsonl:{tmp_path / name}.jsonl", tokens=8) for name in ("plain", "marked")
    )
    assert plain.fingerprint == marked.fingerprint


def test_missing_text_and_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist or cannot be read"):
        load_task(f"jsonl:{tmp_path / 'none.jsonl'}")
    with pytest.raises(InputError, match="write jsonl:PATH"):
        load_task("jsonl")
    with pytest.raises(InputError, match="at least 2"):
        load_task("stdlib-bytes", tokens=1)


def test_model_decides_on_tokens_and_window(tmp_path: Path) -> None:
    write_lines(tmp_path / "x.jsonl", ["some text of a document"] * 60)
    model = tmp_path / "model"
    GPT2Config(vocab_size=256, n_positions=32).save_pretrained(model)
    task = load_task(f"jsonl:{tmp_path / 'x.jsonl'}", model=model)
    assert isinstance(task, TokenTask)
    assert (task.tokens, task.words) == (32, 256)
    with pytest.raises(InputError, match="32 positions"):
        load_task(f"jsonl:{tmp_path / 'x.jsonl'}", tokens=64, model=model)


def test_model_with_a_tokenizer_is_heeded(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<end>": 0, "red": 1, "green": 2, "?": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    write_lines(tmp_path / "x.jsonl", ["red green red"] * 60)
    model = tmp_path / "model"
    GPT2Config(vocab_size=4, n_positions=32, bos_token_id=0, eos_token_id=0).save_pretrained(model)
    with pytest.raises(InputError, match="no tokenizer stands beside it"):
        load_task(f"jsonl:{tmp_path / 'x.jsonl'}", tokens=4, model=model)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", unk_token="?"
    ).save_pretrained(model)
    task = load_task(f"jsonl:{tmp_path / 'x.jsonl'}", tokens=4, model=model)
    assert next(task.evaluation(1))["input_ids"].tolist() == [[1, 2, 1, 0]]
    config = GPT2Config(vocab_size=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    config.save_pretrained(model)
    with pytest.raises(InputError, match="do not belong together"):
        load_task(f"jsonl:{tmp_path / 'x.jsonl'}", tokens=4, model=model)
