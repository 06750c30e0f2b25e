"""``sftopt bases``: the bases that codecs turn a model's boundaries into."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer, engines_on_stderr, ensure_writable, tell
from sftopt.face.training_options import ColumnsOption, TokensOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from rich.console import Console


def bases(
    model: Annotated[
        str, typer.Option("--model", metavar="DIR|ID|CONFIG", help="Folder or hub id.")
    ],
    data: Annotated[
        str,
        typer.Option("--data", metavar="SPEC", help="digit-scenes, stdlib-bytes, or KIND:PATH."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the bases here.")],
    columns: ColumnsOption = None,
    tokens: TokensOption = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples of a batch.")] = 32,
    batches: Annotated[int, typer.Option("--batches", min=1, help="Batches measured on.")] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the samples.")] = 0,
    local_files_only: Annotated[
        bool, typer.Option("--local-files-only", help="Never ask a model hub.")
    ] = False,
    json: JsonOption = False,
) -> Answer:
    """Measure the bases of every cut of a model, for codecs such as rotated.

    From activations and gradients of training data, before fine-tuning. Use them with
    finetune --codec rotated:bits=2.048,bases=FILE; where the file lies in the model's folder as
    boundary_bases.safetensors, commands find it. A device is sent the two of its cut once.
    """
    from sftopt.face.quiet import quiet_libraries
    from sftopt.training.bases import measure_bases, write_bases
    from sftopt.training.data import load_task
    from sftopt.training.data.columns import parse_columns
    from sftopt.training.failures import memory_limits_told, misfits_told
    from sftopt.training.task_model import load_task_model
    from sftopt.training.threads import one_thread

    ensure_writable(out)
    task = load_task(data, tokens=tokens, model=model, columns=parse_columns(columns))
    with engines_on_stderr(), quiet_libraries(), one_thread():
        base = load_task_model(model, task, local_files_only=local_files_only, seed=seed)
        drawn = task.train_batches(0, 1, batch, seed)
        first = next(task.train_batches(0, 1, batch, seed))
        way_out = "Take a smaller --batch."
        with memory_limits_told("measuring bases", way_out), misfits_told(task.name, model, first):
            made = measure_bases(base, drawn, batches)
    write_bases(out, made)
    tell(f"wrote {out}")
    hidden = next(iter(made.values())).shape[0]
    return Answer(
        {"file": str(out), "matrices": sorted(made), "hidden": int(hidden),
         "bytes_per_device": 2 * 4 * int(hidden) ** 2},
        lambda console: _show(console, out, made),
    )  # fmt: skip


def _show(console: Console, out: Path, made: Mapping[str, torch.Tensor]) -> None:
    from sftopt.face.tables import bytes_text, facts

    hidden = next(iter(made.values())).shape[0]
    console.print(facts([
        ("bases", str(out)),
        ("cuts", f"0 to {len(made) // 2 - 1}, two matrices of {hidden} x {hidden} each"),
        ("a device gets", f"{bytes_text(2 * 4 * hidden * hidden)}, once"),
    ]))  # fmt: skip
