"""``sftopt workload``: the workload section of an instance, from a Hugging Face config.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from sftopt.core.errors import InputError
from sftopt.face.arguments import JsonOption, OutOption
from sftopt.face.output import Answer, ensure_writable, tell

if TYPE_CHECKING:
    from rich.console import Console

    from sftopt.core.instance import Workload


def workload(
    from_config: Annotated[
        Path, typer.Option("--from-config", metavar="FILE", help="The model's config.json.")
    ],
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Samples per step that memory is shown for.")
    ] = 1,
    tokens: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            min=1,
            help="Tokens per sample, padding included; a ViT's follows from its image.",
            show_default=False,
        ),
    ] = None,
    lora_rank: Annotated[int, typer.Option("--lora-rank", min=1, help="Adapter rank.")] = 16,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="Matrix that carries an adapter; repeatable. Default: query and value.",
            show_default=False,
        ),
    ] = None,
    dtype_bits: Annotated[
        int | None,
        typer.Option(
            "--dtype-bits",
            help="Weights and activations: 16 or 32. Default: 32; needed where the file names a "
            "16-bit dtype.",
            show_default=False,
        ),
    ] = None,
    adapter_bits: Annotated[int, typer.Option("--adapter-bits", help="Adapters: 16 or 32.")] = 32,
    labels: Annotated[
        int | None,
        typer.Option("--labels", min=1, help="Classes of the trained head.", show_default=False),
    ] = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> Answer:
    """Derive a workload from a config.json.

    FLOP, bytes and adapter sizes per block and sample; no weights are loaded. Plain ViT, BERT,
    GPT-2, Llama, Qwen2 and Mistral by formula; any other model, or head, that can be split is
    counted with torch where that is installed (sftopt[train]). Whatever says otherwise is
    refused. The batch only chooses what memory is shown: the workload holds for every batch.
    """
    from sftopt.core.config_checks import config_remarks
    from sftopt.core.files import read_json, write_json
    from sftopt.studies.workload import by_formula
    from sftopt.studies.workload import workload as derived

    for name, bits in (("--dtype-bits", dtype_bits), ("--adapter-bits", adapter_bits)):
        if bits not in (None, 16, 32):
            raise InputError(f"{name} is {bits}; it must be 16 or 32")
    if out is not None:
        ensure_writable(out)
    config = read_json(from_config, "config")
    made = derived(
        config,
        tokens=tokens,
        lora_rank=lora_rank,
        adapter_targets=target or None,
        dtype_bits=cast(Literal[16, 32] | None, dtype_bits),
        adapter_bits=cast(Literal[16, 32], adapter_bits),
        labels=labels,
    )
    remarks = config_remarks(config) if by_formula(config) else [
        "counted on a model without weights: eager attention, no dropout"
    ]  # fmt: skip
    for remark in remarks:
        tell(f"note: {remark}")
    data = made.model_dump(mode="json")
    if out is not None:
        write_json(out, data)
        tell(f"wrote {out}")
    return Answer(
        {"workload": data, "file": None if out is None else str(out), "remarks": remarks},
        lambda console: _show(console, made, batch),
    )


def _show(console: Console, made: Workload, batch: int) -> None:
    from sftopt.face.tables import facts

    console.print(facts(workload_facts(made, batch)))


def workload_facts(made: Workload, batch: int = 1) -> list[tuple[str, str]]:
    """List a workload's facts for people: per block and sample, and at ``batch`` samples."""
    from sftopt.face.tables import bytes_text

    per_block = made.block_weight_bytes + made.block_adapter_bytes
    boundary_bytes = made.boundary_elements * made.reference_bits / 8
    return [
        ("model", f"{made.name} ({made.model_type})" if made.model_type else made.name),
        ("blocks", f"{made.blocks}, hidden {made.hidden}, {made.tokens} tokens per sample"),
        ("one block", f"{made.block_forward_flops / 1e9:.4g} GFLOP forward, "
                      f"{made.block_backward_flops / 1e9:.4g} GFLOP backward, per sample"),
        ("embedding, head", f"{made.embedding_forward_flops / 1e9:.4g} GFLOP forward, "
                            f"{made.head_flops / 1e9:.4g} GFLOP forward and backward"),
        ("boundary", f"{made.boundary_elements} elements per sample, {bytes_text(boundary_bytes)} "
                     "uncompressed"),
        ("adapters", f"rank {made.lora_rank}, "
                     f"{made.adapter_bits_per_block / 8e6:.4g} MB per block on the air"),
        ("memory, device", f"{bytes_text(made.device_base_bytes + batch * made.sample_base_bytes)} "
                           f"base, {bytes_text(per_block + batch * made.block_activation_bytes)} "
                           f"per block, at batch {batch}"),
        ("memory, server", f"{bytes_text(made.server_base_bytes)} base and head, "
                           f"{bytes_text(per_block)} per block; at batch {batch} "
                           f"{bytes_text(batch * made.block_activation_bytes)} per block, "
                           f"{bytes_text(batch * made.sample_head_bytes)} for the head"),
    ]  # fmt: skip
