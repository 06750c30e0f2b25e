"""The options of every fine-tuning on the command line: the same on all commands that train."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.face.lists import names

if TYPE_CHECKING:
    from sftopt.face.output import Answer
    from sftopt.training.options import TrainingOptions

ColumnsOption = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="ROLE=COLUMN,...",
        help="What a table's columns are: text, label, words, tags, prompt, completion, messages, "
        "image.",
        show_default="by their names",
    ),
]
TokensOption = Annotated[
    int | None,
    typer.Option("--tokens", help="Length of samples of text.", show_default="the task's"),
]

_OF_TRAINING = {
    "batch": (int, "Samples per device and step."),
    "accumulation": (int, "Local steps of one update."),
    "learning_rate": (float, "Of AdamW."),
    "schedule": (str, "constant, linear, cosine."),
    "weight_decay": (float, "Of AdamW."),
    "clip_norm": (float, "Largest norm of each part's gradient."),
}
"""Options of all training: type and help, by field of ``TrainingOptions``."""
_OF_ADAPTERS = {
    "lora_rank": (int, "Rank of the adapters."),
    "lora_alpha": (float, "Their scaling is alpha / rank."),
    "lora_dropout": (float, "Dropout before the adapters."),
    "target_modules": (str, "--lora-targets"),
    "rslora": (bool, "Scale by alpha / sqrt(rank)."),
    "dora": (bool, "Train the norms of the adapted weights too (DoRA)."),
    "adapter_dtype": (str, "In which adapters travel: float32, float16, bfloat16."),
    "side_keys": (str, "Keys of a batch to send to the server beside labels, mask and positions."),
}
"""Options of adapters, likewise."""


@dataclass(frozen=True)
class _Given:
    """What a command was given, still as typed."""

    values: dict[str, Any]

    def options(self) -> TrainingOptions:
        """Check and return the options. Raises InputError."""
        from sftopt.training.options import TrainingOptions

        values = dict(self.values)
        for listed in ("target_modules", "side_keys"):
            text = values.pop(listed, None)
            if text is not None:
                values[listed] = names(text) or None
        return TrainingOptions(**values)


def takes_training_options(
    *, adapters: bool = True
) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Give a command the options of training in place of its parameter ``training``.

    ``adapters`` false leaves those of adapters out: a pre-training has none.
    """
    offered = {**_OF_TRAINING, **(_OF_ADAPTERS if adapters else {})}

    def wrap(command: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.wraps(command)
        def taken(**named: Any) -> Answer:
            values = {name: named.pop(name) for name in offered}
            return command(**named, training=_Given(values))

        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "training"]
        added = [_parameter(name, *about) for name, about in offered.items()]
        by_kind = [*own, *added]
        taken.__signature__ = signature.replace(parameters=by_kind)  # type: ignore[attr-defined]
        taken.__annotations__ = {p.name: p.annotation for p in by_kind}
        del taken.__wrapped__
        return taken

    return wrap


def _parameter(name: str, kind: type, text: str) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    if name == "target_modules":
        flag, text = text, "Modules with adapters: ends of names in a block, or all-linear."
    option = typer.Option(flag, help=text, show_default="the task's", metavar=_METAVARS.get(name))
    if kind is bool:
        option = typer.Option(f"{flag}/--no-{flag[2:]}", help=text, show_default="the task's")
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


_METAVARS = {"target_modules": "NAME,...", "side_keys": "KEY,..."}
"""What stands for an option's value in help, where its type does not say."""

TrainingGiven = _Given
"""What commands take as ``training``."""
