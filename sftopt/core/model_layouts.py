"""Six transformer layouts of Hugging Face configurations as plain sizes: no formula of the model.

:mod:`sftopt.core.workload` turns a layout into FLOP and bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2
from typing import Literal

from sftopt.core.config_reader import ConfigReader

WIDE_SOFTMAX = frozenset({"vit", "llama", "qwen2", "mistral"})
"""Layouts that compute the attention probabilities in 32 bits whatever the dtype, then cast."""


@dataclass(frozen=True)
class Linear:
    """One matrix of a block: its shape, which tensor it reads, and what names it for peft.

    peft matches a target name with the end of a module's path, so that a short name can stand for
    several matrices (GPT-2's ``c_proj``, BERT's ``output.dense``).
    """

    names: tuple[str, ...]
    inputs: int
    outputs: int
    reads: Literal["attention_input", "attention_output", "mlp_input", "mlp_hidden"]
    bias: bool

    @property
    def parameters(self) -> int:
        """Return the number of parameters, bias included."""
        return self.inputs * self.outputs + (self.outputs if self.bias else 0)


@dataclass(frozen=True)
class Layout:
    """A transformer and its blocks as sizes; per-sample element counts as functions of S."""

    blocks: int
    hidden: int
    heads: int
    key_value_heads: int
    head_size: int
    mlp: int
    activation: str
    gated: bool
    linears: tuple[Linear, ...]
    default_targets: tuple[str, ...]
    norm_parameters: int
    """Of one block."""
    rms_norm: bool
    wide_softmax: bool
    """The probabilities are computed in 32 bits, then cast."""
    rotary: bool
    embedding_parameters: int
    embedding_flops: float
    input_bytes: float
    """Of one sample."""
    head_parameters: int
    """Frozen part: final norm, pooler, LM head."""
    head_trained_parameters: int
    head_flops: float
    logits: int
    tokens: int
    side_bits: float
    """Of one sample: labels and the padding mask, each in its smallest form."""
    is_decoder: bool


def label_bits(classes: int) -> int:
    """Return the bits that name one of ``classes``; a regression (1 class) has a 32-bit target."""
    return 32 if classes == 1 else ceil(log2(classes))


def length_bits(tokens: int) -> int:
    """Return the bits of a padding mask in its smallest form: how many of ``tokens`` are used."""
    return ceil(log2(tokens + 1))


def _encoder_linears(hidden: int, mlp: int, qkv_bias: bool) -> tuple[Linear, ...]:
    """Matrices of a ViT or BERT block; both the older and the newer names of transformers."""
    projection = ("attention.output.dense", "output.dense", "o_proj")
    return (
        Linear(("query", "q_proj"), hidden, hidden, "attention_input", qkv_bias),
        Linear(("key", "k_proj"), hidden, hidden, "attention_input", qkv_bias),
        Linear(("value", "v_proj"), hidden, hidden, "attention_input", qkv_bias),
        Linear(projection, hidden, hidden, "attention_output", True),
        Linear(("intermediate.dense", "fc1"), hidden, mlp, "mlp_input", True),
        Linear(("output.dense", "fc2"), mlp, hidden, "mlp_hidden", True),
    )


def _vit(read: ConfigReader, tokens: int | None, labels: int | None, element_bytes: int) -> Layout:
    hidden, mlp = read.count("hidden_size"), read.count("intermediate_size")
    heads, head_size = read.heads(hidden, "num_attention_heads")
    read.no_head_size(head_size)
    image, patch = read.height_and_width("image_size"), read.height_and_width("patch_size")
    channels, classes = read.count("num_channels"), read.labels(labels)
    if patch[0] > image[0] or patch[1] > image[1]:
        read.fault("patch_size", f"config key 'patch_size' is {patch[0]} x {patch[1]}; it must fit "
                   f"into the image, {image[0]} x {image[1]}", min(patch), min(image))  # fmt: skip
    patches = (image[0] // patch[0]) * (image[1] // patch[1])
    if tokens is not None and tokens != patches + 1:
        limit = patches + 1
        read.fault("tokens", f"tokens: is {tokens}; a ViT of image {image[0]} x {image[1]} and "
                   f"patch {patch[0]} x {patch[1]} has {limit} (CLS included); leave tokens out",
                   tokens, limit)  # fmt: skip
    patch_size = channels * patch[0] * patch[1]
    return Layout(
        blocks=read.count("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        key_value_heads=heads,
        head_size=head_size,
        mlp=mlp,
        activation=read.activation("hidden_act"),
        gated=False,
        linears=_encoder_linears(hidden, mlp, read.flag("qkv_bias")),
        default_targets=("query", "value"),
        norm_parameters=4 * hidden,
        rms_norm=False,
        wide_softmax="vit" in WIDE_SOFTMAX,
        rotary=False,
        embedding_parameters=patch_size * hidden + hidden + hidden + (patches + 1) * hidden,
        embedding_flops=2.0 * patches * patch_size * hidden,
        input_bytes=float(channels * image[0] * image[1] * element_bytes),
        head_parameters=2 * hidden,
        head_trained_parameters=hidden * classes + classes,
        head_flops=6.0 * hidden * classes,  # CLS only; trained: both gradients
        logits=classes,
        tokens=patches + 1,
        side_bits=float(label_bits(classes)),
        is_decoder=False,
    )


def _bert(read: ConfigReader, tokens: int | None, labels: int | None, element_bytes: int) -> Layout:
    hidden, mlp = read.count("hidden_size"), read.count("intermediate_size")
    heads, head_size = read.heads(hidden, "num_attention_heads")
    read.no_head_size(head_size)
    classes, positions = read.labels(labels), read.count("max_position_embeddings")
    length = read.text_tokens(tokens, "max_position_embeddings")
    rows = read.count("vocab_size") + positions + read.count("type_vocab_size")
    return Layout(
        blocks=read.count("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        key_value_heads=heads,
        head_size=head_size,
        mlp=mlp,
        activation=read.activation("hidden_act"),
        gated=False,
        linears=_encoder_linears(hidden, mlp, True),
        default_targets=("query", "value"),
        norm_parameters=4 * hidden,
        rms_norm=False,
        wide_softmax="bert" in WIDE_SOFTMAX,
        rotary=False,
        embedding_parameters=rows * hidden + 2 * hidden,
        embedding_flops=0.0,
        input_bytes=16.0 * length,  # ids and mask, 64 bits each
        head_parameters=hidden * hidden + hidden,
        head_trained_parameters=hidden * classes + classes,
        head_flops=4.0 * hidden * hidden + 6.0 * hidden * classes,  # frozen pooler, classifier
        logits=classes,
        tokens=length,
        side_bits=float(label_bits(classes) + length_bits(length)),
        is_decoder=False,
    )


def _gpt2(read: ConfigReader, tokens: int | None, labels: int | None, element_bytes: int) -> Layout:
    read.no_labels(labels)
    hidden, vocabulary = read.count("n_embd"), read.count("vocab_size")
    heads, head_size = read.heads(hidden, "n_head")
    read.no_head_size(head_size)
    mlp, length = (
        read.count("n_inner", when_null=4 * hidden),
        read.text_tokens(tokens, "n_positions"),
    )
    return Layout(
        blocks=read.count("n_layer"),
        hidden=hidden,
        heads=heads,
        key_value_heads=heads,
        head_size=head_size,
        mlp=mlp,
        activation=read.activation("activation_function"),
        gated=False,
        linears=(
            Linear(("c_attn",), hidden, 3 * hidden, "attention_input", True),
            Linear(("attn.c_proj", "c_proj"), hidden, hidden, "attention_output", True),
            Linear(("c_fc", "mlp.c_fc"), hidden, mlp, "mlp_input", True),
            Linear(("mlp.c_proj", "c_proj"), mlp, hidden, "mlp_hidden", True),
        ),
        default_targets=("c_attn",),
        norm_parameters=4 * hidden,
        rms_norm=False,
        wide_softmax="gpt2" in WIDE_SOFTMAX,
        rotary=False,
        embedding_parameters=(vocabulary + read.count("n_positions")) * hidden,
        embedding_flops=0.0,
        input_bytes=16.0 * length,
        head_parameters=2 * hidden + vocabulary * hidden,  # the server's own copy of wte
        head_trained_parameters=0,
        head_flops=4.0 * length * hidden * vocabulary,
        logits=length * vocabulary,
        tokens=length,
        side_bits=float(length * label_bits(vocabulary) + length_bits(length)),
        is_decoder=True,
    )


def _llama_like(model_type: str) -> Callable[[ConfigReader, int | None, int | None, int], Layout]:
    """Llama, Qwen2 and Mistral differ in biases and in what a missing key means."""

    def layout(
        read: ConfigReader, tokens: int | None, labels: int | None, element_bytes: int
    ) -> Layout:
        read.no_labels(labels)
        hidden, mlp = read.count("hidden_size"), read.count("intermediate_size")
        heads = read.count("num_attention_heads")
        if read.given("head_dim") is None:
            heads, head_size = read.heads(hidden, "num_attention_heads")
        else:
            head_size = read.count("head_dim")
        kv_heads = read.count("num_key_value_heads", when_null=heads)
        if heads % kv_heads != 0:
            read.fault("num_key_value_heads", f"config key 'num_key_value_heads' is {kv_heads}; it "
                       f"must divide num_attention_heads {heads}", kv_heads, heads)  # fmt: skip
        optional_bias = model_type == "llama" and read.flag("attention_bias")
        qkv_bias = model_type == "qwen2" or optional_bias
        mlp_bias = model_type == "llama" and read.flag("mlp_bias")
        length = read.text_tokens(tokens, "max_position_embeddings")
        vocabulary = read.count("vocab_size")
        wide, narrow = heads * head_size, kv_heads * head_size
        return Layout(
            blocks=read.count("num_hidden_layers"),
            hidden=hidden,
            heads=heads,
            key_value_heads=kv_heads,
            head_size=head_size,
            mlp=mlp,
            activation=read.activation("hidden_act"),
            gated=True,
            linears=(
                Linear(("q_proj",), hidden, wide, "attention_input", qkv_bias),
                Linear(("k_proj",), hidden, narrow, "attention_input", qkv_bias),
                Linear(("v_proj",), hidden, narrow, "attention_input", qkv_bias),
                Linear(("o_proj",), wide, hidden, "attention_output", optional_bias),
                Linear(("gate_proj",), hidden, mlp, "mlp_input", mlp_bias),
                Linear(("up_proj",), hidden, mlp, "mlp_input", mlp_bias),
                Linear(("down_proj",), mlp, hidden, "mlp_hidden", mlp_bias),
            ),
            default_targets=("q_proj", "v_proj"),
            norm_parameters=2 * hidden,
            rms_norm=True,
            wide_softmax=model_type in WIDE_SOFTMAX,
            rotary=True,
            embedding_parameters=vocabulary * hidden,
            embedding_flops=0.0,
            input_bytes=16.0 * length,
            head_parameters=hidden + vocabulary * hidden,
            head_trained_parameters=0,
            head_flops=4.0 * length * hidden * vocabulary,
            logits=length * vocabulary,
            tokens=length,
            side_bits=float(length * label_bits(vocabulary) + length_bits(length)),
            is_decoder=True,
        )

    return layout


LAYOUTS: dict[str, Callable[[ConfigReader, int | None, int | None, int], Layout]] = {
    "vit": _vit,
    "bert": _bert,
    "gpt2": _gpt2,
    "llama": _llama_like("llama"),
    "qwen2": _llama_like("qwen2"),
    "mistral": _llama_like("mistral"),
}
"""What reads a configuration, by its ``model_type``."""
