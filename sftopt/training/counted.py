"""The workload of any model that can be split, counted on meta tensors: no weight is allocated.

The model is built from its configuration on torch's meta device with eager attention and every
dropout at 0, gets its adapters, and every block is run once with what the model calls it with:
torch's counter gives the FLOP, a hook what autograd saves. The conventions are those of
:mod:`sftopt.core.workload`, and so are the figures, where a formula exists too. Blocks that differ
(dense ones before mixtures of experts) are averaged.

Experts choose their tokens by value, which meta tensors do not have: they are counted as top-k
experts for every token (the router as it is). Where shapes follow from values (Longformer), a model
of at most 1e9 parameters is run on the host instead, on weights that nothing was written to.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, cast

import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from sftopt.core.config_checks import dtype_faults
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.instance import Workload
from sftopt.core.model_layouts import label_bits, length_bits
from sftopt.core.parse import input_error
from sftopt.core.workload_settings import WorkloadSettings, settings_by_name
from sftopt.training.block_calls import BlockCall, block_calls
from sftopt.training.calibrate.memory import saved_bytes
from sftopt.training.experts import answering_meta, counted_experts
from sftopt.training.failures import first_line, is_out_of_memory
from sftopt.training.split import BlockStack, SplitConfig, find_blocks, lora_config
from sftopt.training.split.lora import add_adapters, block_adapters, trained_modules
from sftopt.training.split.side import label_classes
from sftopt.training.split.stack import capturing_at, entering_at, later_siblings, only_first
from sftopt.training.split.stand_ins import logits_of, stand_in_inputs

_ID_BYTES = 16
"""Of a token in a batch: its number and its mask, 64 bits each."""
_WIDE_BYTES = 4
"""Logits, their gradient and a trained head are kept in 32 bits."""
_MOST_ALLOCATED = 1_000_000_000
"""Most parameters of a model that is built with weights where it cannot be counted without."""
_REFUSED_KEYS = {
    "auto_map": "the model has code of its own, which is not run",
    "quantization_config": "quantised weights are not counted",
    "add_cross_attention": "cross-attention is not counted",
}
"""Key of a configuration that makes other blocks than those built here -> why it is refused."""
_HEADS = (
    ("AutoModelForImageClassification", "AutoModelForImageClassification"),
    ("AutoModelForMaskedLM", "AutoModelForSequenceClassification"),
    ("AutoModelForCausalLM", "AutoModelForCausalLM"),
    ("AutoModelForSequenceClassification", "AutoModelForSequenceClassification"),
)
"""For a configuration without a class: where it has the first head, it gets the second."""


@settings_by_name
def counted_workload(config: Mapping[str, Any], asked: WorkloadSettings) -> Workload:
    """Count the workload of LoRA fine-tuning the model of a ``config.json``, given as a dict.

    Settings by name: :class:`~sftopt.core.workload_settings.WorkloadSettings`. Raises InputError
    where the model cannot be built or split, or says that its blocks are not those of transformers.
    """
    made = _configuration(config, asked)
    measured = _measured(made, asked)
    element_bytes, states = asked.element_bytes, asked.optimiser_states
    trained = measured.trained_parameters * _WIDE_BYTES * (2 + states)
    head_bytes = float(measured.head_parameters * element_bytes + trained)
    elements = measured.tokens * measured.hidden
    text = made.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    return Workload(
        name=asked.name or str(config.get("_name_or_path") or made.model_type),
        model_type=made.model_type,
        blocks=measured.blocks,
        hidden=measured.hidden,
        tokens=measured.tokens,
        block_forward_flops=measured.forward_flops,
        block_backward_flops=measured.backward_flops,
        embedding_forward_flops=measured.embedding_flops,
        head_flops=measured.head_flops,
        lora_rank=asked.lora_rank,
        adapter_parameters_per_rank=measured.adapter_parameters / asked.lora_rank,
        adapter_bits=asked.adapter_bits,
        reference_bits=asked.reference_bits,
        device_base_bytes=asked.runtime_bytes
        + measured.embedding_parameters * element_bytes
        + measured.rotary_bytes,
        sample_base_bytes=measured.input_bytes
        + elements * (2.0 * element_bytes + asked.codec_bytes_per_element),
        block_weight_bytes=measured.block_parameters * element_bytes,
        block_adapter_bytes=measured.adapter_parameters * asked.adapter_bytes * (2 + states),
        block_activation_bytes=measured.saved_bytes,
        server_base_bytes=float(asked.server_runtime_bytes + head_bytes),
        sample_head_bytes=2.0 * measured.logits * _WIDE_BYTES,
        head_parameters=float(measured.trained_parameters),
        head_bytes=head_bytes,
        side_bits=measured.side_bits,
        heads=heads,
        key_value_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_size=getattr(text, "head_dim", None) or (measured.hidden // heads if heads else None),
        element_bytes=element_bytes,
        adapted_matrices=measured.adapted_matrices,
        is_decoder=measured.is_decoder,
    )


def _measured(made: PretrainedConfig, asked: WorkloadSettings) -> _Measured:
    """Counts on meta tensors or, where shapes follow from values, on weights never written to."""
    for device in ("meta", "cpu"):
        with (
            answering_meta(), torch.device(device), no_init_weights(), warnings.catch_warnings(),
        ):  # fmt: skip
            warnings.simplefilter("ignore")
            model = _built(made, _type_of(asked.element_bytes))
            small = sum(p.numel() for p in model.parameters()) <= _MOST_ALLOCATED
            try:
                with counted_experts(model):
                    return _Measured.of(model, asked)
            except Exception as error:  # foreign code: whatever it says is the reason
                if device == "meta" and small and not is_out_of_memory(error):
                    continue
                if isinstance(error, InputError) or is_out_of_memory(error):
                    raise
                raise InputError(
                    f"model type '{made.model_type}' cannot be counted: {first_line(error)}"
                ) from None
    raise AssertionError("the last device returns or raises")


@dataclass(frozen=True)
class _Measured:
    """Counts of one sample, means over the blocks."""

    blocks: int
    hidden: int
    tokens: int
    forward_flops: float
    backward_flops: float
    embedding_flops: float
    head_flops: float
    saved_bytes: float
    block_parameters: float
    adapter_parameters: float
    adapted_matrices: int
    embedding_parameters: int
    head_parameters: int
    """Frozen ones."""
    trained_parameters: int
    rotary_bytes: float
    input_bytes: float
    logits: int
    side_bits: float
    is_decoder: bool

    @staticmethod
    def of(model: PreTrainedModel, asked: WorkloadSettings) -> _Measured:
        """Count the parameters, give ``model`` its adapters and count a step."""
        inputs = _inputs(model, asked.tokens)
        stack = find_blocks(model)
        named = None if asked.adapter_targets is None else tuple(asked.adapter_targets)
        split = SplitConfig.of(1, lora={"rank": asked.lora_rank, "target_modules": named})
        trained = set(trained_modules(split, model))
        counts = _parameters(model, stack, trained)
        for module in model.modules():
            module.training = False
        add_adapters(model, lora_config(split, model, stack), seed=0)
        blocks = list(stack.blocks(model))
        adapters = [block_adapters(block) for block in blocks]
        for held in adapters:
            for parameter in held.values():
                parameter.data = parameter.data.to(_type_of(asked.adapter_bytes))
        calls = block_calls(model, stack, inputs)
        runs = [_block_flops(block, call) for block, call in zip(blocks, calls, strict=True)]
        saved = [
            saved_bytes(block, partial(call.run, block, _entry(call)), call)
            for block, call in zip(blocks, calls, strict=True)
        ]
        embedding, rotary_flops = _embedding_flops(model, stack, inputs)
        last, logits = _last_part_flops(model, stack, inputs, calls[-1])
        per_block = fmean(sum(p.numel() for p in held.values()) for held in adapters)
        images = model.main_input_name == "pixel_values"
        length = calls[0].hidden.shape[1]
        classes = label_classes(model)
        decoder = logits.ndim == 3
        labels = label_bits(max(classes, 1)) * (length if decoder else 1)
        main = inputs[model.main_input_name]
        return _Measured(
            blocks=stack.count,
            hidden=stack.hidden,
            tokens=length,
            forward_flops=fmean(forward for forward, _ in runs),
            backward_flops=fmean(backward for _, backward in runs),
            embedding_flops=embedding - rotary_flops,
            head_flops=last - embedding - sum(runs[-1]),
            saved_bytes=fmean(saved),
            block_parameters=counts.block,
            adapter_parameters=per_block,
            adapted_matrices=len(adapters[0]) // 2,
            embedding_parameters=counts.embedding,
            head_parameters=counts.head,
            trained_parameters=counts.trained,
            rotary_bytes=max(_rotary_bytes(call) for call in calls),
            input_bytes=float(main.numel() * main.element_size() if images else _ID_BYTES * length),
            logits=logits.numel(),
            side_bits=float(labels + (0 if images else length_bits(length))),
            is_decoder=decoder and type(model).__name__.endswith(("CausalLM", "LMHeadModel")),
        )


@dataclass(frozen=True)
class _Parameters:
    block: float
    embedding: int
    head: int
    trained: int


def _configuration(data: Mapping[str, Any], asked: WorkloadSettings) -> PretrainedConfig:
    """The configuration of transformers, eager, without dropout."""
    rest = {key: value for key, value in data.items() if key != "model_type"}
    kind = data.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise UnknownNameError("model type", str(kind), list(CONFIG_MAPPING))
    for key, why in _REFUSED_KEYS.items():
        if rest.get(key):
            raise InputError(f"config key '{key}': {why}; give the workload's numbers yourself.")
    faults = [*dtype_faults(data, asked.dtype_bits), *asked.faults()]
    if faults:
        raise input_error(f"{kind} config", faults)
    try:
        made = AutoConfig.for_model(cast(str, kind), **rest)
    except Exception as error:  # a foreign constructor's own checks
        if is_out_of_memory(error):
            raise
        raise InputError(f"config of model type '{kind}': {first_line(error)}") from None
    for key, value in made.to_dict().items():
        drops = "drop" in key or key.endswith("pdrop") or "jitter" in key
        if drops and isinstance(value, float):
            setattr(made, key, 0.0)
    if asked.labels is not None:
        made.num_labels = asked.labels
    made._attn_implementation = "eager"
    if hasattr(made, "use_cache"):
        made.use_cache = False
    return made


def _built(config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    kind = _class_of(config)
    try:
        model = kind._from_config(config, dtype=dtype)
    except Exception as error:  # a foreign constructor's own checks
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"model type '{config.model_type}' cannot be built: {first_line(error)}"
        ) from None
    return cast(PreTrainedModel, model)


def _class_of(config: PretrainedConfig) -> Any:
    for name in config.architectures or ():
        kind = getattr(transformers, name, None)
        if kind is not None:
            return kind
    for known, wanted in _HEADS:
        mapping = getattr(transformers, wanted)._model_mapping
        if type(config) in getattr(transformers, known)._model_mapping and type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, (list, tuple)) else found
    raise InputError(
        f"model type '{config.model_type}' has no head for language or classification; name its "
        "class in the configuration's 'architectures'."
    )


def _inputs(model: PreTrainedModel, tokens: int | None) -> dict[str, torch.Tensor]:
    if model.main_input_name == "pixel_values":
        return stand_in_inputs(model, 1, 0)
    if model.main_input_name == "input_ids" and tokens is None:
        raise InputError(
            f"tokens: required for model type '{model.config.model_type}', a text model"
        )
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(most, int) and tokens is not None and 0 < most < tokens:
        raise InputError(f"tokens: is {tokens}; the model has positions for {most}")
    inputs = stand_in_inputs(model, 1, tokens or 0)
    return {**inputs, "attention_mask": torch.ones(1, tokens or 0, dtype=torch.long)}


def _parameters(model: PreTrainedModel, stack: BlockStack, trained: set[str]) -> _Parameters:
    blocks = {id(p) for block in stack.blocks(model) for p in block.parameters()}
    behind = [
        (path, module)
        for _, path, module in later_siblings(model, stack.path)
        if path not in stack.early
    ]
    late = {f"{path}." for path, _ in behind}
    embedding = _distinct(
        p
        for name, p in model.named_parameters(remove_duplicate=False)
        if id(p) not in blocks and not any(name.startswith(path) for path in late)
    )
    held = _distinct(p for block in stack.blocks(model) for p in block.parameters())
    return _Parameters(
        block=held / stack.count,
        embedding=embedding,
        head=_distinct(p for path, m in behind if path not in trained for p in m.parameters()),
        trained=_distinct(p for path, m in behind if path in trained for p in m.parameters()),
    )


def _distinct(parameters: Iterable[nn.Parameter]) -> int:
    return sum({id(p): p.numel() for p in parameters}.values())


def _entry(call: BlockCall) -> torch.Tensor:
    return call.hidden.detach().requires_grad_()


def _block_flops(block: nn.Module, call: BlockCall) -> tuple[float, float]:
    """FLOP forward and backward: of the input, and of the adapters."""
    entry = _entry(call)
    with FlopCounterMode(display=False) as forward:
        output = call.run(block, entry)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(
            output,
            [entry, *block_adapters(block).values()],
            torch.ones_like(output),
            allow_unused=True,  # BART's cross-attention, where there is no encoder
        )
    return float(forward.get_total_flops()), float(backward.get_total_flops())


def _embedding_flops(
    model: PreTrainedModel, stack: BlockStack, inputs: Mapping[str, torch.Tensor]
) -> tuple[float, float]:
    """FLOP before the first block, and those of them that make rotary tables."""
    rotary = [0.0]

    def watch(module: nn.Module, args: Any, kwargs: Any) -> None:
        with FlopCounterMode(display=False) as own:
            type(module).forward(module, *args, **kwargs)
        rotary[0] += own.get_total_flops()

    handles = [
        module.register_forward_pre_hook(watch, with_kwargs=True)
        for module in model.modules()
        if "Rotary" in type(module).__name__
    ]
    try:
        with torch.no_grad(), only_first(model, stack, 0), capturing_at(model, stack, 0):
            model.base_model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    with (
        torch.no_grad(), only_first(model, stack, 0), capturing_at(model, stack, 0),
        FlopCounterMode(display=False) as counter,
    ):  # fmt: skip
        model.base_model(**inputs)
    return float(counter.get_total_flops()), rotary[0]


def _last_part_flops(
    model: PreTrainedModel,
    stack: BlockStack,
    inputs: Mapping[str, torch.Tensor],
    call: BlockCall,
) -> tuple[float, torch.Tensor]:
    """FLOP of embedding, last block and head, forward and backward, and the logits."""
    entry = _entry(call)
    trained = [p for p in model.parameters() if p.requires_grad]
    with entering_at(model, stack, stack.count - 1, entry), FlopCounterMode(display=False) as all_:
        logits = logits_of(model(**inputs))
        torch.autograd.backward(logits, torch.ones_like(logits), inputs=[entry, *trained])
    return float(all_.get_total_flops()), logits


def _rotary_bytes(call: BlockCall) -> float:
    """Bytes of the cosines and sines a block is given."""
    tables = call.kwargs.get("position_embeddings")
    found = tables if isinstance(tables, (tuple, list)) else (tables,)
    return float(sum(t.numel() * t.element_size() for t in found if isinstance(t, torch.Tensor)))


def _type_of(element_bytes: int) -> torch.dtype:
    return torch.float32 if element_bytes == _WIDE_BYTES else torch.bfloat16
