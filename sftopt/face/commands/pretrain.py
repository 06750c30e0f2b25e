"""``sftopt pretrain``: the small model of a default task, ready for fine-tuning."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer, tell
from sftopt.face.progress import PLAIN_INTERVAL_S
from sftopt.face.training_options import TokensOption, TrainingGiven, takes_training_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from sftopt.training.pretrain import Pretrained, PretrainingNews


@takes_training_options(adapters=False)
def pretrain(
    data: Annotated[
        str, typer.Option("--data", metavar="SPEC", help="digit-scenes or stdlib-bytes.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the model.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights and batches.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Default: the task's.", show_default=False),
    ] = None,
    tokens: TokensOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress lines.")] = False,
    json: JsonOption = False,
    *,
    training: TrainingGiven,
) -> Answer:
    """Pre-train the small model of a default task.

    Writes a Hugging Face model folder. With the same settings and data a second call returns at
    once; after a kill it goes on from the last checkpoint.
    """
    from sftopt.training.data import load_task
    from sftopt.training.pretrain import pretrain as run

    made = run(
        load_task(data, tokens=tokens), out, seed=seed, steps=steps,
        asked=training.options().asked(), news=None if quiet else _teller(),
    )  # fmt: skip
    for note in made.record["data_notes"]:
        tell(f"note: {note}")
    return Answer(
        {"model": str(made.path), "cached": made.cached, **made.record},
        lambda console: _show(console, made),
    )


def _teller() -> Callable[[PretrainingNews], None]:
    """A line now and then."""
    last = time.monotonic()

    def told(news: PretrainingNews) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL_S:
            last = now
            tell(
                f"step {news.step} of {news.steps}: loss {news.loss:.3f}, "
                f"{news.elapsed_s:.0f} s, about {news.left_s:.0f} s left"
            )

    return told


def _show(console: Console, made: Pretrained) -> None:
    from sftopt.face.tables import facts

    record = made.record
    console.print(
        facts(
            [
                ("model", str(made.path)),
                ("made", "before, with the same settings and data" if made.cached else "now"),
                ("pre-trained on", f"{record['recipe']['task']}, "
                                   f"{record['recipe']['settings']['steps']} steps, "
                                   f"{record['wall_s']:.0f} s"),
                (record["metric"], f"{record['test_metric']:.4g} on {record['test_count']} "
                                   "held-out samples of the pre-training part"),
            ]
        )
    )  # fmt: skip
