"""Tables of the user's own: every form and dialect comes out right, or is refused with its row."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from sftopt.core.errors import InputError, UnknownNameError
from sftopt.training.data import Task, TaskKind, load_task
from sftopt.training.data.columns import parse_columns
from sftopt.training.data.examples import ExampleTask
from sftopt.training.data.tokens import TokenTask
from tests.training.data.tiny_folders import SENTENCES, save_qwen3, save_roberta

pytestmark = pytest.mark.train

Rows = list[dict[str, Any]]
FEW = [{"text": f"{text} {number}", "label": ("bad", "good")[number % 2]}
       for number in range(6) for text in SENTENCES]  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_roberta(tmp_path_factory.mktemp("models") / "roberta")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen3(tmp_path_factory.mktemp("models") / "qwen3")


def jsonl(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"jsonl:{path}"


def csv_of(rows: Rows, **dialect: Any) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), **dialect)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def arrow(folder: Path, table: pa.Table, **info: Any) -> str:
    """A split as ``save_to_disk`` of datasets writes it."""
    folder.mkdir(parents=True)
    path = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return f"hf:{folder}"


def texts(task: Task, model: Path, part: str = "test") -> list[str]:
    """What the held-out samples say."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return [
        tokenizer.decode(ids[mask.bool()], skip_special_tokens=True)
        for batch in task.evaluation(64, part)
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def test_texts_with_labels_of_any_file_are_the_same_task(tmp_path: Path, encoder: Path) -> None:
    """One content, six files."""
    plain = load_task(jsonl(tmp_path / "all.jsonl", FEW), tokens=24, model=encoder)
    assert isinstance(plain, ExampleTask)
    assert (plain.kind, plain.metric) == (TaskKind.TEXT_CLASSIFICATION, "accuracy")
    assert (plain.labels, plain.label_names) == (2, ("bad", "good"))
    assert texts(plain, encoder) == [row["text"] for row in FEW[::20]]
    assert texts(plain, encoder, "validation") == [row["text"] for row in FEW[1::20]]
    batch = next(plain.evaluation(3))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 24)
    assert batch["labels"].tolist() == [int(row["label"] == "good") for row in FEW[::20]][:3]
    first = batch["input_ids"][0]
    length = int(batch["attention_mask"][0].sum())
    assert (first[0], first[length - 1]) == (0, 2), "the tokenizer's own marks"
    assert bool((first[length:] == 1).all()), "RoBERTa's padding is token 1"
    specs = []
    for name, dialect in (
        ("plain", {}), ("semicolon", {"delimiter": ";"}), ("tab", {"delimiter": "\t"}),
        ("quoted", {"quoting": csv.QUOTE_ALL, "lineterminator": "\r\n"}),
    ):  # fmt: skip
        path = tmp_path / f"{name}.csv"
        path.write_text(csv_of(FEW, **dialect), encoding="utf-8-sig", newline="")
        specs.append(f"csv:{path}")
    table = pa.Table.from_pylist(FEW)
    parquet.write_table(table, tmp_path / "all.parquet")
    named = table.set_column(1, "label", table["label"].combine_chunks().dictionary_encode())
    specs += [f"parquet:{tmp_path / 'all.parquet'}", arrow(tmp_path / "hf", named)]
    for spec in specs:
        task = load_task(spec, tokens=24, model=encoder)
        assert task.fingerprint == plain.fingerprint, spec


def test_odd_texts_survive(tmp_path: Path, encoder: Path) -> None:
    odd = [
        'say "no"; or, no',
        "line\nbreak\r\nand more",
        "\u2028 Zürich 東京 😀",
        " ",
        "a" * 300_000,
    ]
    rows = [{"text": odd[n % 5], "label": n % 2, "more": n} for n in range(45)]
    for mark in (",", "|"):
        path = tmp_path / "odd.csv"
        path.write_text(csv_of(rows, delimiter=mark), newline="")
        task = load_task(f"csv:{path}", tokens=62, model=encoder)
        assert texts(task, encoder)[:1] == [odd[0]]
        assert (
            task.fingerprint
            == load_task(jsonl(tmp_path / "odd.jsonl", rows), tokens=62, model=encoder).fingerprint
        )
    assert "9 of 45 samples are longer than 62 tokens" in task.notes[0]
    ends = next(task.evaluation(9, "validation"))["input_ids"]
    assert (ends[:, 0] == 0).all(), "cut samples keep the marks"


@pytest.mark.parametrize(
    ("labels", "names"),
    [([True, False], ("False", "True")), ([3, 1], ("1", "3")), ([1.0, 0.0], ("0", "1")),
     (["10", "9"], ("9", "10")), (["01", "1"], ("01", "1")), (["b", "ä"], ("b", "ä")),
     ([-1, 1], ("-1", "1"))],
)  # fmt: skip
def test_labels_are_taken_as_people_write_them(
    labels: list[Any], names: tuple[str, ...], tmp_path: Path, encoder: Path
) -> None:
    rows = [{"text": f"text {n}", "label": labels[n % 2]} for n in range(44)]
    task = load_task(jsonl(tmp_path / "x.jsonl", rows), tokens=16, model=encoder)
    assert task.label_names == names
    numbers = [label for batch in task.evaluation(8) for label in batch["labels"].tolist()]
    named = [str(int(label) if isinstance(label, float) else label) for label in labels]
    assert numbers == [names.index(named[n % 2]) for n in range(0, 44, 20)]


def test_names_of_classes_come_with_the_data_or_the_model(tmp_path: Path, encoder: Path) -> None:
    table = pa.table(
        {"text": [f"t {n}" for n in range(44)], "label": [n % 2 + 1 for n in range(44)]}
    )
    features = {"label": {"names": ["no", "maybe", "yes"], "_type": "ClassLabel"}}
    task = load_task(arrow(tmp_path / "hf", table, features=features), tokens=16, model=encoder)
    assert task.label_names == ("no", "maybe", "yes")
    assert next(task.evaluation(1))["labels"].tolist() == [1]
    trained = save_roberta(tmp_path / "trained")
    config = json.loads((trained / "config.json").read_text())
    config |= {"id2label": {"0": "good", "1": "bad"}, "label2id": {"good": 0, "bad": 1}}
    (trained / "config.json").write_text(json.dumps(config))
    task = load_task(jsonl(tmp_path / "x.jsonl", FEW), tokens=16, model=trained)
    assert task.label_names == ("good", "bad"), "as the head was trained"


@pytest.mark.parametrize(
    ("rows", "told"),
    [([{"text": "a", "label": "x"}] * 30, "only one class, 'x' in the training part"),
     ([*FEW, {"text": "a", "label": None}], "line 49: no label"),
     ([*FEW, {"text": "a"}], "line 49: no label"),
     ([*FEW, {"text": None, "label": "bad"}], "line 49: a text under 'text' expected, not nothing"),
     ([*FEW, {"text": 7, "label": "bad"}], "line 49: a text under 'text' expected, not a int"),
     ([*FEW, {"text": "a", "label": ["bad"]}], "line 49: label .*needs a text, a whole number"),
     ([*FEW, {"text": "a", "label": 1}], "labels of different types: str .* and int .*line 49"),
     ([{"text": "a", "label": n / 7} for n in range(30)], "regression is not offered"),
     ([{"review": "a", "stars": n} for n in range(30)],
      "columns 'review', 'stars' are of no known kind.*--columns ROLE=COLUMN"),
     ([{"text": "a", "label": f"answer {n}"} for n in range(50)], "a label of its own.*no classes"),
     ([{"text": "a", "label": -1 if n % 20 == 0 else n % 2} for n in range(50)], "they are hidden"),
     ([], "0 rows for training"), (FEW[:1], "rows for training")],
)  # fmt: skip
def test_what_cannot_be_learnt_from_is_named(
    rows: Rows, told: str, tmp_path: Path, encoder: Path
) -> None:
    with pytest.raises(InputError, match=told):
        load_task(jsonl(tmp_path / "x.jsonl", rows), tokens=16, model=encoder)


def test_columns_are_declared_or_known(tmp_path: Path, encoder: Path, decoder: Path) -> None:
    rows = [{"id": n, "review": f"text {n}", "stars": n % 3, "text": "t " * 9} for n in range(44)]
    spec = jsonl(tmp_path / "x.jsonl", rows)
    assert load_task(spec, tokens=16, model=decoder).kind is TaskKind.LANGUAGE_MODELLING
    declared = parse_columns(" text = review , label=stars")
    task = load_task(spec, tokens=16, model=encoder, columns=declared)
    assert texts(task, encoder) == ["text 0", "text 20", "text 40"]
    assert task.label_names == ("0", "1", "2")
    task = load_task(spec, tokens=16, model=encoder, columns={"label": "stars"})
    assert task.kind is TaskKind.TEXT_CLASSIFICATION
    labelled = jsonl(tmp_path / "y.jsonl", FEW)
    assert isinstance(load_task(labelled, tokens=8, model=decoder, columns={"text": "text"}),
                      TokenTask)  # fmt: skip
    with pytest.raises(InputError, match="no column 'starz' for label; columns: 'id', 'review'"):
        load_task(spec, model=encoder, columns={"label": "starz"})
    with pytest.raises(InputError, match="no kind of data has text and tags together"):
        load_task(spec, model=encoder, columns={"text": "review", "tags": "stars"})
    with pytest.raises(UnknownNameError, match="role of a column 'txt'"):
        parse_columns("txt=review")
    with pytest.raises(InputError, match="ROLE=COLUMN"):
        parse_columns("text")
    with pytest.raises(InputError, match="no columns to choose"):
        load_task("digit-scenes", columns={"text": "x"})


def test_words_with_labels(tmp_path: Path, encoder: Path) -> None:
    from sftopt.training.split.side import IGNORED_LABEL

    rows = [{"tokens": ["anna", "sees", "københavn"], "ner_tags": ["PER", "O", "LOC"]}] * 30
    task = load_task(jsonl(tmp_path / "x.jsonl", rows), tokens=40, model=encoder)
    assert (task.kind, task.label_names) == (TaskKind.TOKEN_CLASSIFICATION, ("LOC", "O", "PER"))
    batch = next(task.evaluation(1))
    labels = batch["labels"][0]
    assert labels[labels != IGNORED_LABEL].tolist() == [2, 1, 0], "one label for each word"
    assert labels[0] == IGNORED_LABEL, "none at the tokenizer's marks"
    assert bool((labels[batch["attention_mask"][0] == 0] == IGNORED_LABEL).all())
    numbered = pa.table({"tokens": [["a", "b"]] * 30, "pos_tags": [[0, 1]] * 30})
    features = {
        "pos_tags": {"feature": {"names": ["N", "V"], "_type": "ClassLabel"}, "_type": "List"}
    }
    found = load_task(arrow(tmp_path / "hf", numbered, features=features), tokens=8, model=encoder)
    assert found.label_names == ("N", "V")
    both = [{**row, "pos_tags": row["ner_tags"]} for row in rows]
    with pytest.raises(InputError, match="several columns of labels of words"):
        load_task(jsonl(tmp_path / "x.jsonl", both), model=encoder)
    short = [*rows, {"tokens": ["a"], "ner_tags": ["O", "O"]}]
    with pytest.raises(InputError, match="line 31: 1 words and 2 labels"):
        load_task(jsonl(tmp_path / "x.jsonl", short), model=encoder)


@pytest.mark.parametrize(
    ("content", "told"),
    [("text,label\na,1\nb\n", "line 3: 1 cells between ','; the first line names 2"),
     ("text,text\na,b\n", "names column 'text' more than once"),
     ('text,label\n"a"b,1\n', "line 2: .*Quotes inside a quoted cell are doubled"),
     ("\n\n", "its first line names no columns"),
     ("", "its first line names no columns")],
)  # fmt: skip
def test_broken_csv_is_refused_by_line(
    content: str, told: str, tmp_path: Path, encoder: Path
) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(InputError, match=told):
        load_task(f"csv:{tmp_path / 'x.csv'}", model=encoder)


def test_backslashes_before_quotes_are_a_dialect_too(tmp_path: Path, encoder: Path) -> None:
    lines = [f'"he said \\"no {n}\\"",{n % 2}' for n in range(44)]
    (tmp_path / "x.csv").write_text("text,label\n" + "\n".join(lines))
    task = load_task(f"csv:{tmp_path / 'x.csv'}", tokens=30, model=encoder)
    assert texts(task, encoder)[0] == 'he said "no 0"'


def test_files_that_are_none_are_refused(tmp_path: Path, encoder: Path) -> None:
    (tmp_path / "x.csv").write_bytes("text,label\nZürich,1\n".encode("latin-1"))
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    (tmp_path / "empty").mkdir()
    for spec, told in (
        (f"csv:{tmp_path / 'x.csv'}", "is not UTF-8"),
        (f"csv:{tmp_path / 'none.csv'}", "does not exist or cannot be read"),
        (f"parquet:{tmp_path / 'x.parquet'}", "cannot be read as Parquet"),
        (f"parquet:{tmp_path / 'none.parquet'}", "cannot be read"),
        (f"csv:{tmp_path / 'empty'}", "no file whose name begins with 'train'"),
        (f"hf:{tmp_path / 'empty'}", r"no split 'train' \(a folder with a state.json\)"),
        (f"hf:{tmp_path / 'none'}", "the folder does not exist"),
    ):
        with pytest.raises(InputError, match=told):
            load_task(spec, model=encoder)
    chosen = arrow(tmp_path / "chosen", pa.table({"text": ["a"]}))
    state = json.loads((tmp_path / "chosen" / "state.json").read_text())
    (tmp_path / "chosen" / "state.json").write_text(
        json.dumps({**state, "_indices_data_files": [{"filename": "indices.arrow"}]})
    )
    with pytest.raises(InputError, match="flatten_indices"):
        load_task(chosen, model=encoder)


def test_splits_are_those_of_the_folder(tmp_path: Path, encoder: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        parquet.write_table(pa.Table.from_pylist(FEW[number::2]),
                            folder / f"train-0000{number}-of-00002.parquet")  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(FEW[:3]), folder / "validation-00000-of-00001.parquet")
    task = load_task(f"parquet:{tmp_path}", tokens=24, model=encoder)
    assert texts(task, encoder) == [row["text"] for row in FEW[:3]], "what is held out is the test"
    assert task.held_out("validation") == 3, "every 20th of 48 rows of both files"
    arrow(tmp_path / "hf" / "train", pa.Table.from_pylist(FEW))
    arrow(tmp_path / "hf" / "test", pa.Table.from_pylist(FEW[:5]))
    assert load_task(f"hf:{tmp_path / 'hf'}", tokens=24, model=encoder).held_out("test") == 5


def test_pictures_of_tables_in_odd_modes(tmp_path: Path) -> None:
    def content(image: Image.Image, kind: str = "PNG") -> bytes:
        out = io.BytesIO()
        image.save(out, kind)
        return out.getvalue()

    gray = np.tile(np.linspace(0, 65535, 20).astype(np.uint16), (10, 1))
    odd = [Image.new("L", (9, 40), 200), Image.new("1", (7, 7), 1), Image.new("P", (8, 8)),
           Image.new("LA", (5, 5)), Image.new("RGBA", (33, 12), (255, 0, 0, 128)),
           Image.fromarray(gray)]  # fmt: skip
    rows = [{"image": {"bytes": content(odd[n % 6]), "path": None}, "label": n % 2}
            for n in range(48)]  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    task = load_task(f"parquet:{tmp_path / 'x.parquet'}")
    batch = next(task.evaluation(3))
    assert batch["pixel_values"].shape == (3, 3, 64, 64)
    train = torch.cat([next(task.train_batches(0, 1, 64, 0))["pixel_values"]])
    assert bool(torch.isfinite(train).all())
    assert int(((train > -0.9) & (train < 0.9)).sum()) > 0, "16 bits are scaled, not cut off"
    rows[5]["image"] = {"bytes": content(Image.new("L", (1, 900))), "path": None}
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "y.parquet")
    narrow = load_task(f"parquet:{tmp_path / 'y.parquet'}")
    with pytest.raises(InputError, match="row 6 is 1 x 900: too narrow"):
        next(narrow.train_batches(0, 1, 400, 0))
