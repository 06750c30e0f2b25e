"""The page on a model of one's own: its commands and its Python, on tiny models made here."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sftopt.face.cli import main
from sftopt.training.split import MessageKind
from sftopt.training.split.channel import _MemoryEndpoint
from tests.training.data.tiny_folders import SENTENCES, save_dinov2, save_qwen3, save_roberta

pytestmark = [pytest.mark.train, pytest.mark.timeout(900)]

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "own-model.md"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def make_data(folder: Path) -> None:
    rows = [{"text": f"{text} {n}", "label": ("bad", "good")[(n + k) % 2]}
            for n in range(8) for k, text in enumerate(SENTENCES)]  # fmt: skip
    (folder / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"role": "user", "content": "how was it?"}
    chats = [{"messages": [asked, {"role": "assistant", "content": row["text"]}]} for row in rows]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(24):
            size = (30 + number, 60 - number)
            picture = Image.new("RGB", size, tuple(min(255, c + 2 * number) for c in colour))
            picture.save(folder / "pictures" / name / f"{number:02d}.png")


Sent = dict[tuple[str, str], int]
"""By direction and kind of message: the bytes handed over."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """All messages of all channels, counted as they are handed over."""
    counted: Sent = Counter()
    hand_over = _MemoryEndpoint.send

    def counting(self: _MemoryEndpoint, kind: MessageKind, payload: bytes) -> None:
        counted[self._direction.value, kind.value] += len(payload)
        hand_over(self, kind, payload)

    monkeypatch.setattr(_MemoryEndpoint, "send", counting)
    return counted


def test_the_page_runs_and_its_models_load_in_plain_libraries(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sent: Sent,
) -> None:
    make_data(tmp_path)
    save_roberta(tmp_path / "my-roberta")
    save_qwen3(tmp_path / "my-qwen3")
    save_dinov2(tmp_path / "my-dinov2")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    for language, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "python":
            exec(code, found)
            continue
        for line in code.splitlines():
            words = shlex.split(line)
            assert words[0] == "sftopt"
            sent.clear()
            assert main(words[1:]) == 0, f"{line}\n{capsys.readouterr().err[-3000:]}"
            if words[1] == "finetune":
                check_bytes(Path(words[words.index("--out") + 1]), sent)
    check_models(found)
    rounds = (tmp_path / "reviews-run" / "rounds.csv").read_text().splitlines()
    steps = (tmp_path / "reviews-run" / "steps.csv").read_text().splitlines()
    assert len(rounds) == 1 + 2
    assert len(steps) == 1 + 2 * 2 * 3, "two devices, three steps, two rounds"
    wrong_input(tmp_path, capsys)


def check_models(found: dict[str, Any]) -> None:
    """The merged folder in plain transformers says what the adapters say in plain peft."""
    for merged, tuned in (
        (found["scores"], found["tuned_scores"]),
        (found["chat_model"](**found["asked"]).logits, found["next_words"]),
        (found["picture_scores"], found["tuned_picture_scores"]),
    ):
        assert merged.shape == tuned.shape
        assert torch.allclose(merged, tuned, atol=1e-5), "merged as tuned"
    asked = found["asked"]
    with found["tuned_chat_model"].disable_adapter():
        untuned = found["tuned_chat_model"](**asked).logits
    assert not torch.allclose(untuned, found["next_words"], atol=1e-4), "something was learnt"
    assert found["model"].config.id2label == {0: "bad", 1: "good"}
    assert found["said"].shape[1] > asked["input_ids"].shape[1]
    assert found["picture_scores"].shape == (1, 2)
    assert found["picture_model"].config.id2label == {0: "blue", 1: "red"}


def check_bytes(folder: Path, sent: Sent) -> None:
    """What was predicted is within three per cent; what is told is what the messages hold."""
    summary = json.loads((folder / "summary.json").read_text())
    worst = {
        row["quantity"]: row["error_rel"]
        for row in summary["compared"]
        if row["device"] == "all" and row["unit"].startswith("bytes")
    }
    for name in ("uplink", "side information", "downlink", "adapters up", "adapters down"):
        assert abs(worst[name]) < 0.03, (summary["task"], name, worst[name])
    told = summary["bytes"]
    both = {kind: sent["uplink", kind] + sent["downlink", kind] for kind in ("adapters", "head")}
    messages = {
        "uplink": sent["uplink", "boundary"],
        "downlink": sent["downlink", "gradient"],
        "side": sent["uplink", "side"],
        "setup": sent["downlink", "bases"],
        **both,
    }
    assert {kind: told[kind] for kind in messages} == messages
    assert told["total"] == sum(sent.values()) > 0


def wrong_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Merging what is none, or onto what is there, says so and writes nothing."""
    before = sorted(path.name for path in folder.iterdir())
    for words, told in (
        (["merge", "pictures", "--out", "x"], "holds no tuned model"),
        (["merge", "reviews-run", "--out", "chats-model"], "is there already"),
        (
            ["bases", "--model", "my-qwen3", "--data", "csv:none.csv", "--out", "b"],
            "not exist",
        ),
    ):
        capsys.readouterr()
        assert main(words) == 2
        assert told in capsys.readouterr().err
    save_roberta(folder / "my-roberta", seed=1)
    assert main(["merge", "reviews-run", "--out", "x"]) == 2
    assert "is not the one that was tuned" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == before
