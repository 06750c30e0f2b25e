"""Writes docs/reference/conformance.md from the table: ``python -m <this module>``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.training.conformance.rows import (
    DECODERS,
    ENCODERS,
    IMAGES,
    OPTIONS,
    REFUSALS,
    ROWS,
    Row,
)

PAGE = "docs/reference/conformance.md"
HEADS = {
    "causal": "causal language model",
    "masked": "masked language model",
    "text": "classification of texts",
    "token": "classification of tokens",
    "span": "question answering",
    "image": "classification of images",
    "choice": "multiple choice",
    "seq2seq": "text to text",
    "video": "classification of videos",
    "audio": "classification of sounds",
    "both": "images against texts",
    "none": "none",
}
INTRODUCTION = """# Models that can be split

Every row below is a test: a tiny model of the architecture (3 blocks, random weights) is split for
two devices, at block 1 and at block 2, and takes a step. *Equal* means that loss and all gradients
(adapters on the devices, adapters and head on the server) are those of the unsplit model in plain
peft, to a relative 1e-5 (2e-2 in bfloat16); *refused* means that nothing is trained and the words
shown are said. {total} rows: {equal} equal, {refused} refused.

Other models are not on trust either: when a split is built, every cut in use is checked once
against the unsplit model on a small made batch (models of more than 200 million parameters by a
tiny twin of their configuration), and a difference or an error is a refusal. What of a batch is
sent beside the activation: labels, attention mask, position numbers, `num_items_in_batch`, plain
(non-tensor) arguments, for a decoder that classifies which of its tokens are the padding token, and
whatever is named in `SplitConfig.side_keys` (`--side-keys`; [how](../how-to/side-keys.md)). Another
key that the model's forward reads is refused by name, and so is a batch without one that the model
would make up of its tokens; keys that it does not read are left on the device.

Texts packed into one row and told apart by `position_ids` alone (no mask) are kept apart as in
transformers' trainer, which turns the cache of keys and values off, as a split does.
"""


def page() -> str:
    """The page's text."""
    refused = sum(row.refusal is not None for row in ROWS)
    parts = [
        INTRODUCTION.format(total=len(ROWS), equal=len(ROWS) - refused, refused=refused),
        "## Language models\n",
        _named(DECODERS),
        "## Encoders of text\n",
        _named(ENCODERS),
        "## Models of images\n",
        _named(IMAGES),
        "## Options\n",
        _table(("model type", "head", "option", "result"),
               ((row.architecture, HEADS[row.head], row.option, "equal") for row in OPTIONS)),
        "## Refused\n",
        _table(("model type", "head", "option", "what is said"),
               ((row.architecture, HEADS[row.head], row.option, row.refusal or "")
                for row in REFUSALS)),
    ]  # fmt: skip
    return "\n".join(parts)


def _named(rows: Iterable[Row]) -> str:
    return _table(
        ("model type", "head", "result"),
        ((row.architecture, HEADS[row.head], "equal" if row.refusal is None else row.refusal)
         for row in rows),
    )  # fmt: skip


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    root = Path(__file__).parents[3]
    (root / PAGE).parent.mkdir(parents=True, exist_ok=True)
    (root / PAGE).write_text(page(), encoding="utf-8")
