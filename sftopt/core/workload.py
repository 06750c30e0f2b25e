"""The workload section of an instance from a Hugging Face ``config.json``, by formula.

No torch and no transformers: the configuration is read as plain JSON data. Six block layouts are
known: ``vit``, ``bert``, ``gpt2``, ``llama``, ``qwen2``, ``mistral``.

Conventions (``formulations/MODEL.md``, section 2):

* FLOP: 1 MAC = 2 FLOP, matrix products only, LoRA included; norms, softmax, activation functions
  and rotary tables are not counted; causal and sliding-window attention are counted as full.
* F^b: the activation gradient of every frozen product (its forward once), both operands of the two
  attention products (their forward twice), and for LoRA the gradients of input and of both factors
  (its forward twice). Every block is charged the full F^b; the first one really costs less, since
  nothing before it is trained.
* m_a: every tensor that a block saves for backward, its own input included and its output (the
  boundary, or the next block's input) excluded, so that the boundary is counted once, in m_0b.
  Holds for transformers' ``attn_implementation="eager"`` with torch's default kernels, adapters by
  peft without dropout, and every other dropout 0. A memory-efficient attention kernel saves less
  (not the S x S probabilities); active dropout saves its masks on top. Tables shared by all blocks
  and samples (rotary cosines and sines) belong to m_0.

* m_h: the logits of a sample and their gradient, in 32 bits; held at the server per sample, apart
  from its base.
* S_side: the label of a class, or every token of a language model's targets, in as few bits as tell
  them apart, and the number of tokens used where a text is padded (its mask).

Where a 16-bit model keeps its adapters in 32 bits (peft's default), each adapter saves a 32-bit
copy of its input; the formula follows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sftopt.core.config_checks import dtype_faults, key_faults, shown
from sftopt.core.config_reader import ACTIVATION_TENSORS, ConfigReader
from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.instance import Workload
from sftopt.core.model_layouts import LAYOUTS, Layout, Linear
from sftopt.core.parse import input_error
from sftopt.core.workload_settings import WorkloadSettings, settings_by_name

_WIDE_BYTES = 4
"""Some layouts compute norms or softmax in 32 bits whatever the dtype."""


def _targets(layout: Layout, asked: Sequence[str] | None, read: ConfigReader) -> tuple[Linear, ...]:
    """The matrices that carry adapters; unknown names are faults."""
    wanted: Collection[str] = layout.default_targets if asked is None else asked
    known = {name: linear for linear in layout.linears for name in linear.names}
    for name in wanted:
        if name not in known:
            read.fault("adapter_targets", f"adapter_targets: '{name}' is no matrix of a block; "
                       f"known: {', '.join(known)}", name)  # fmt: skip
    if not wanted:
        read.fault("adapter_targets", "adapter_targets: is empty; at least one is needed")
    return tuple(linear for linear in layout.linears if set(linear.names) & set(wanted))


def _saved_bytes(
    layout: Layout, targets: Sequence[Linear], rank: int, element_bytes: int, adapter_bytes: int
) -> float:
    """m_a, bytes per sample; the module's docstring says under which attention it holds."""
    tokens, stream = layout.tokens, layout.tokens * layout.hidden
    wide = _WIDE_BYTES if layout.rms_norm else element_bytes
    # The two norms: their inputs and statistics (mean and 1/std; RMS norm: 1/rms only).
    total = wide * (2 * stream + (2 if layout.rms_norm else 4) * tokens)
    total += element_bytes * 3 * tokens * layout.heads * layout.head_size  # keys, values repeated
    probabilities = layout.heads * tokens * tokens
    if layout.wide_softmax and element_bytes < _WIDE_BYTES:
        total += (_WIDE_BYTES + element_bytes) * probabilities
    else:
        total += element_bytes * probabilities
    # A gated MLP also saves both factors of its product.
    wide_tensors = ACTIVATION_TENSORS[layout.activation] + (2 if layout.gated else 0)
    total += element_bytes * wide_tensors * tokens * layout.mlp
    return float(total + _adapter_saved_bytes(layout, targets, rank, element_bytes, adapter_bytes))


def _adapter_saved_bytes(
    layout: Layout, targets: Sequence[Linear], rank: int, element_bytes: int, adapter_bytes: int
) -> int:
    """What LoRA saves on top: the adapted matrices' inputs and the inner activations."""
    tokens = layout.tokens
    inner = adapter_bytes * rank * tokens * len(targets)
    if adapter_bytes != element_bytes:  # each adapter casts its input: a copy of its own
        return inner + adapter_bytes * tokens * sum(linear.inputs for linear in targets)
    read = {linear.reads: linear.inputs for linear in targets}
    return inner + element_bytes * tokens * sum(read.values())


@settings_by_name
def workload_from_config(config: Mapping[str, Any], asked: WorkloadSettings) -> Workload:
    """Derive the workload of LoRA fine-tuning the model of a ``config.json``, given as a dict.

    Settings by name: :class:`~sftopt.core.workload_settings.WorkloadSettings`. GPT-2's fused
    ``c_attn``, its default target, is one adapter d -> 3d, whose 4 d parameters per rank (and FLOP)
    are those of two adapters d -> d, as in SplitLoRA.

    Sizes that the configuration leaves out are those transformers takes. Raises InputError naming
    at once every impossible key and argument, and every key that says that blocks, weights or head
    are not those counted here (:mod:`sftopt.core.config_keys`).
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in LAYOUTS:
        raise _unknown_type(model_type)
    read = ConfigReader(config, model_type)
    read.faults.extend(key_faults(config, model_type))
    read.faults.extend(dtype_faults(config, asked.dtype_bits))
    rank, states = asked.lora_rank, asked.optimiser_states
    element_bytes, adapter_bytes = asked.element_bytes, asked.adapter_bytes
    layout = LAYOUTS[model_type](read, asked.tokens, asked.labels, element_bytes)
    targets = _targets(layout, asked.adapter_targets, read)
    read.faults.extend(asked.faults())
    if layout.blocks < 2 and not read.faults:
        read.fault("blocks", "this model has 1 block; a split needs at least 2", layout.blocks, 2)
    if read.faults:
        raise input_error(f"{model_type} config", read.faults)

    length, elements = layout.tokens, layout.tokens * layout.hidden
    frozen = sum(2.0 * length * linear.inputs * linear.outputs for linear in layout.linears)
    attention = 4.0 * length * length * layout.heads * layout.head_size
    per_rank = sum(linear.inputs + linear.outputs for linear in targets)
    lora = 2.0 * length * rank * per_rank
    weights = sum(linear.parameters for linear in layout.linears) + layout.norm_parameters
    state = rank * per_rank * adapter_bytes * (2 + states)
    rotary = 2 * length * layout.head_size * element_bytes if layout.rotary else 0
    trained = layout.head_trained_parameters * _WIDE_BYTES * (2 + states)
    head_bytes = layout.head_parameters * element_bytes + trained
    return Workload(
        name=asked.name or read.name(),
        model_type=model_type,
        blocks=layout.blocks,
        hidden=layout.hidden,
        tokens=length,
        block_forward_flops=frozen + attention + lora,
        block_backward_flops=frozen + 2.0 * attention + 2.0 * lora,
        embedding_forward_flops=layout.embedding_flops,
        head_flops=layout.head_flops,
        lora_rank=rank,
        adapter_parameters_per_rank=float(per_rank),
        adapter_bits=asked.adapter_bits,
        reference_bits=asked.reference_bits,
        device_base_bytes=asked.runtime_bytes
        + layout.embedding_parameters * element_bytes
        + rotary,
        sample_base_bytes=layout.input_bytes
        + elements * (2.0 * element_bytes + asked.codec_bytes_per_element),
        block_weight_bytes=float(weights * element_bytes),
        block_adapter_bytes=float(state),
        block_activation_bytes=_saved_bytes(layout, targets, rank, element_bytes, adapter_bytes),
        server_base_bytes=float(asked.server_runtime_bytes + head_bytes),
        sample_head_bytes=2.0 * layout.logits * _WIDE_BYTES,
        head_parameters=float(layout.head_trained_parameters),
        head_bytes=float(head_bytes),
        side_bits=layout.side_bits,
        heads=layout.heads,
        key_value_heads=layout.key_value_heads,
        head_size=layout.head_size,
        element_bytes=element_bytes,
        adapted_matrices=len(targets),
        is_decoder=layout.is_decoder,
    )


def completed(work: Workload, config: Mapping[str, Any], *, labels: int | None = None) -> Workload:
    """Return the workload with what it leaves unknown of the model's layout (heads, adapted
    matrices, the trained head) out of the model's configuration; other figures stay.

    As it is where nothing is unknown, and where the configuration is of another model, of other
    tokens, or not counted by formula. ``labels`` as in :func:`workload_from_config`.
    """
    unknown = [name for name in _LAYOUT if getattr(work, name) is None]
    if not unknown or not has_formula(config):
        return work
    formula = workload_from_config(
        config, tokens=None if config["model_type"] == "vit" else work.tokens,
        lora_rank=work.lora_rank, labels=labels,
        dtype_bits=16 if work.reference_bits == 16 else 32,
    )  # fmt: skip
    sizes = [(one.blocks, one.hidden, one.tokens) for one in (work, formula)]
    if sizes[0] != sizes[1]:
        return work
    return work.model_copy(update={name: getattr(formula, name) for name in unknown})


_LAYOUT = (
    "heads", "key_value_heads", "head_size", "element_bytes", "adapted_matrices",
    "head_parameters", "head_bytes", "is_decoder",
)  # fmt: skip
"""Fields that files of older releases leave null, and that other tokens, ranks and orders need."""


def has_formula(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration's blocks are of a kind that is counted by formula.

    Its sizes are not looked at.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in LAYOUTS:
        return False
    return not any(key_faults(config, model_type)) and not any(dtype_faults(config, 32))


def _unknown_type(model_type: Any) -> InputError:
    known = ", ".join(LAYOUTS)
    if model_type is None:
        text = f"config key 'model_type' is missing; one of {known} is needed"
    else:
        text = (
            f"config key 'model_type' is {shown(model_type)}; known by formula: {known}; others "
            "are counted where torch is installed: pip install 'sftopt[train]'"
        )
    value = model_type[:80] if isinstance(model_type, str) else None
    return input_error(
        "config", [Fault(field="model_type", value=value, limit=known, message=text)]
    )
