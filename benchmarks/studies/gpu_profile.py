"""Three models' blocks and their boundaries' codecs on a GPU: seconds, bytes, FLOP/s, stages.

    python -m benchmarks.studies.gpu_profile --device cuda --out benchmarks/results/gpu_profile.json

writes the JSON file and, beside it, the page. ``--render FILE`` writes the page of a file anew.
``--small`` is for trying it out where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.studies.gpu_blocks import (
    MINILM_PACKAGE,
    SHAPES,
    SMALL,
    Row,
    ceilings,
    profile_rows,
)
from benchmarks.studies.gpu_codecs import codec_rows
from sftopt.core.files import write_json, write_text

COMMAND = "python -m benchmarks.studies.gpu_profile --device cuda --out FILE.json"
"""How the file was made."""


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine: chip, processor and versions; no names of hosts."""
    chip = "none"
    if device.type == "cuda":
        chip = torch.cuda.get_device_name(device)
    packages = ("torch", "transformers", "peft", "numpy", "numba", "constriction")
    return {
        "gpu": chip,
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
        **{name: version(name) for name in packages},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def page(document: dict[str, Any]) -> str:
    """Write the page of a document in Markdown."""
    facts = document["machine"]
    ceiling = document["ceilings"]
    products = ", ".join(
        f"{name.removeprefix('product_').removesuffix('_flops_per_s')} {speed / 1e12:.3g} TFLOP/s"
        for name, speed in ceiling.items()
        if name.startswith("product")
    )
    copies = ", ".join(
        f"{name.removesuffix('_bytes_per_s').replace('_', ' ')} {speed / 1e9:.3g} GB/s"
        for name, speed in ceiling.items()
        if name.endswith("bytes_per_s")
    )
    return "\n\n".join(
        [
            "# Blocks and codecs on a GPU",
            f"Made by `{document['command']}` on {facts['gpu']}, torch {facts['torch']}, "
            f"transformers {facts['transformers']}, host {facts['processor']} "
            f"({facts['processors']} processors). Best measured there: products of square "
            f"matrices {products}" + (f"; pinned copies {copies}." if copies else "."),
            "## Blocks",
            "Median over the blocks of medians over repeats, launch gaps included: one pass "
            "forward and one backward over all blocks, as in a step. LoRA of rank 16 on query "
            "and value, kept in float32. FLOP by our formulas. Small blocks wait for their "
            "launches: compare with the best products above. Saved bytes are what a block keeps "
            "for its backward pass; the formula is for plain attention (`eager`). Peak bytes are "
            "the most alive during one block's forward and backward pass. Weights: MiniLM's own "
            f"where the package `{MINILM_PACKAGE}` is installed, else random; seconds do not "
            "depend on them.",
            _block_table(document["blocks"]),
            "## Codecs",
            "Student-t values in correlated channels, on the GPU before encoding and after "
            "decoding, float32. Million elements per second of wall clock: ours on the GPU; ours "
            "on the host, the tensor copied there first; the plain version (Top-K or rounding in "
            "NumPy at a fixed step, then zlib) on the host. Error is the squared error's share of "
            "the tensor's square; the plain versions are not at equal bits. `rotated` tries up to "
            "four rates to fill the bits asked for. `same bytes`: the payload is the host's.",
            _codec_table(document["codecs"]),
            "## Where the time goes",
            "Shares of the wall clock with the device waited for at every border. The entropy "
            "coder is the range coder alone; its tables, and all that is neither copy nor coder, "
            "are arithmetic, most of it the GPU's (in the last three columns the host's). "
            "Transfer includes rounding noise and symbols on their way to the GPU.",
            _stage_table(document["codecs"]),
        ]
    )


def _table(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0]) if rows else []
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row.values())) + " |" for row in rows])


def _block_table(rows: list[Row]) -> str:
    return _table(
        [
            {
                "model": row["model"],
                "weights": row["weights"],
                "batch x tokens": f"{row['batch']} x {row['tokens']}",
                "dtype": row["dtype"],
                "attention": row["attention"],
                "forward ms": f"{1e3 * median(row['block_forward_s']):.3f}",
                "backward ms": f"{1e3 * median(row['block_backward_s']):.3f}",
                "forward TFLOP/s": f"{row['forward_flops_per_s'] / 1e12:.2f}",
                "backward TFLOP/s": f"{row['backward_flops_per_s'] / 1e12:.2f}",
                "sustained TFLOP/s": f"{row['sustained_flops_per_s'] / 1e12:.2f}",
                "saved MB": f"{row['saved_bytes'] / 1e6:.2f}",
                "formula MB": f"{row['formula_bytes'] / 1e6:.2f}",
                "peak MB": f"{row['peak_bytes'] / 1e6:.2f}",
            }
            for row in rows
        ]
    )


def _label(row: Row) -> str:
    config = row["config"]
    bits = f"{config['bits']} bits"
    return (
        f"{row['codec']} {bits}, keep {config['keep']}"
        if "keep" in config
        else (f"{row['codec']} {bits}")
    )


def _codec_table(rows: list[Row]) -> str:
    return _table(
        [
            {
                "boundary": f"{row['model']} {tuple(row['shape'])}",
                "codec": _label(row),
                "encode": f"{row['encode_elements_per_s'] / 1e6:.1f}",
                "decode": f"{row['decode_elements_per_s'] / 1e6:.1f}",
                "gradient encode": f"{row['gradient_encode_elements_per_s'] / 1e6:.1f}",
                "gradient decode": f"{row['gradient_decode_elements_per_s'] / 1e6:.1f}",
                "host encode": f"{row['host_encode_elements_per_s'] / 1e6:.1f}",
                "host decode": f"{row['host_decode_elements_per_s'] / 1e6:.1f}",
                "plain encode": f"{row['plain_encode_elements_per_s'] / 1e6:.1f}",
                "plain decode": f"{row['plain_decode_elements_per_s'] / 1e6:.1f}",
                "bits per element": f"{row['bits_per_element']:.3f}",
                "plain bits": f"{row['plain_bits_per_element']:.3f}",
                "error": f"{row['squared_error_share']:.5f}",
                "error on host": f"{row['host_squared_error_share']:.5f}",
                "plain error": f"{row['plain_squared_error_share']:.5f}",
                "same bytes": "yes" if row["same_bytes_as_host"] else "no",
            }
            for row in rows
        ]
    )


def _stage_table(rows: list[Row]) -> str:
    found = []
    for row in rows:
        cells = {"boundary": row["model"], "codec": _label(row)}
        for what in ("encode", "decode", "host_encode"):
            for stage, share in row[f"{what}_share"].items():
                cells[f"{what.replace('_', ' ')}: {stage}"] = f"{100.0 * share:.1f} %"
        found.append(cells)
    return _table(found)


def write(path: Path, document: dict[str, Any]) -> None:
    """Write the document, and its page beside it."""
    write_json(path, document)
    write_text(path.with_suffix(".md"), page(document) + "\n")


def measure(device: torch.device, path: Path | None, small: bool, repeats: int) -> dict[str, Any]:
    """Measure everything; what there is so far is written after every row."""
    start = time.perf_counter()
    shapes = SMALL if small else SHAPES
    document: dict[str, Any] = {
        "command": COMMAND,
        "machine": machine(device),
        "ceilings": ceilings(device),
        "blocks": [],
        "codecs": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in (
            ("blocks", profile_rows(shapes, device, repeats)),
            ("codecs", codec_rows(shapes, device, Path(folder), repeats)),
        ):
            for row in rows:
                document[name].append(row)
                spent = time.perf_counter() - start
                print(f"{spent:6.1f} s  {name}: {row['model']} {row.get('dtype', '')} "
                      f"{row.get('attention', row.get('codec', ''))}", flush=True)  # fmt: skip
                if path is not None:
                    write(path, document)
    document["seconds"] = time.perf_counter() - start
    if path is not None:
        write(path, document)
    return document


def main() -> int:
    """Measure, or write a page anew; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--render", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.render is not None:
        write(arguments.render, json.loads(arguments.render.read_text(encoding="utf-8")))
        return 0
    document = measure(
        torch.device(arguments.device), arguments.out, arguments.small, arguments.repeats
    )
    print(page(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
