"""What every key of a Hugging Face configuration means for a workload: used, without part, refused.

A key of the six supported types is either read (:data:`DEFAULTS`), without any part in FLOP,
parameters and saved bytes (:data:`PARTLESS`), or has one value that the blocks counted here have
and is refused at every other (:data:`ASSUMED`). A key of none of these is refused where its name
speaks of other blocks (:data:`TELLING`), and named as unread elsewhere. The checks:
:mod:`sftopt.core.config_checks`.
"""

from __future__ import annotations

import re
from typing import Any, Literal

_BLOCKS = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
           "intermediate_size": 3072, "hidden_act": "gelu"}  # fmt: skip
"""What ViT and BERT have in common."""

_LONG = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
         "head_dim": None, "hidden_act": "silu"}  # fmt: skip
"""What Llama, Qwen2 and Mistral have in common."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "vit": {**_BLOCKS, "image_size": 224, "patch_size": 16, "num_channels": 3, "qkv_bias": True},
    "bert": {**_BLOCKS, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2},
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None, "n_positions": 1024,
             "vocab_size": 50257, "activation_function": "gelu_new"},
    "llama": {**_LONG, "intermediate_size": 11008, "num_key_value_heads": None,
              "vocab_size": 32000, "max_position_embeddings": 2048, "attention_bias": False,
              "mlp_bias": False},
    "qwen2": {**_LONG, "intermediate_size": 22016, "num_key_value_heads": 32,
              "vocab_size": 151936, "max_position_embeddings": 32768},
    "mistral": {**_LONG, "intermediate_size": 14336, "num_key_value_heads": 8,
                "vocab_size": 32000, "max_position_embeddings": 131072},
}  # fmt: skip
"""The keys that are read, by model type, and what transformers takes where the file has none."""

ALIASES = {
    "gpt2": {"n_embd": "hidden_size", "n_layer": "num_hidden_layers",
             "n_head": "num_attention_heads", "n_positions": "max_position_embeddings"},
}  # fmt: skip
"""Second names of keys, as transformers reads them."""

ARCHITECTURES = {
    "vit": ("ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling"),
    "bert": ("BertModel", "BertForPreTraining", "BertForMaskedLM",
             "BertForNextSentencePrediction", "BertForSequenceClassification"),
    "gpt2": ("GPT2Model", "GPT2LMHeadModel"),
    "llama": ("LlamaModel", "LlamaForCausalLM", "LLaMAForCausalLM"),
    "qwen2": ("Qwen2Model", "Qwen2ForCausalLM"),
    "mistral": ("MistralModel", "MistralForCausalLM"),
}  # fmt: skip
"""Classes whose blocks and head are counted: base models, and those they are fine-tuned as."""

Kind = Literal["number", "flag", "dropout", "any"]
"""What the value of a key without part may be."""

PARTLESS: dict[str, tuple[Kind, str]] = {
    **dict.fromkeys(
        ("layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "initializer_range", "rope_theta"),
        ("number", "a constant inside an elementwise step"),
    ),
    **dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop", "attn_pdrop",
         "embd_pdrop", "attention_dropout", "classifier_dropout", "hidden_dropout",
         "summary_first_dropout"),
        ("dropout", "by convention no masks are counted; a remark says where dropout is active"),
    ),
    **dict.fromkeys(
        ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "rope_interleaved"),
        ("flag", "a factor before the softmax, or the order of the rotated"),
    ),
    **dict.fromkeys(
        ("tie_word_embeddings", "tie_encoder_decoder", "tie_last_hidden_states"),
        ("flag", "each side holds its own copy of the vocabulary's matrix"),
    ),
    "use_cache": ("flag", "a training step keeps no cache"),
    "use_sliding_window": ("flag", "a window is counted as full attention"),
    "sliding_window": ("number", "a window is counted as full attention"),
    "max_window_layers": ("number", "a window is counted as full attention"),
    "pretraining_tp": ("number", "the same products in slices; newer releases ignore it"),
    **dict.fromkeys(
        ("encoder_stride", "pooler_act", "pooler_output_size", "summary_type", "summary_use_proj",
         "summary_activation", "summary_proj_to_labels", "label2id", "mask_token_id"),
        ("any", "of a head that is not counted"),
    ),
    **dict.fromkeys(
        ("n_ctx", "max_sequence_length", "model_max_length", "original_max_position_embeddings"),
        ("any", "transformers reads the number of positions from another key"),
    ),
    **dict.fromkeys(
        ("model_type", "transformers_version", "tokenizer_class", "finetuning_task", "_commit_hash",
         "task_specific_params", "_name_or_path", "name_or_path", "_num_labels", "directionality",
         "gradient_accumulation_steps", "unsloth_version", "unsloth_fixed", "custom_pipelines",
         "transformers.js_config", "is_llama_config", "sentence_transformers"),
        ("any", "bookkeeping"),
    ),
    **dict.fromkeys(
        ("return_dict", "output_hidden_states", "output_attentions", "output_past", "torchscript",
         "use_bfloat16", "tf_legacy_loss", "_attn_implementation", "attn_implementation"),
        ("any", "how it is run: the convention is eager attention"),
    ),
    **dict.fromkeys(
        ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id",
         "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "temperature",
         "num_beam_groups", "diversity_penalty", "top_k", "top_p", "typical_p", "prefix",
         "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "num_return_sequences",
         "encoder_no_repeat_ngram_size", "bad_words_ids", "output_scores", "suppress_tokens",
         "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
         "remove_invalid_values", "exponential_decay_length_penalty", "begin_suppress_tokens"),
        ("any", "of generating text"),
    ),
    "pooler_fc_size": ("any", "of TensorFlow's BERT"),
    "pooler_num_attention_heads": ("any", "of TensorFlow's BERT"),
    "pooler_num_fc_layers": ("any", "of TensorFlow's BERT"),
    "pooler_size_per_head": ("any", "of TensorFlow's BERT"),
    "pooler_type": ("any", "of TensorFlow's BERT"),
}  # fmt: skip
"""Keys without part in FLOP, parameters and saved bytes: what their values may be, and why."""

BLOCK_DROPOUTS = frozenset(
    {"hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop", "attn_pdrop",
     "attention_dropout"}
)  # fmt: skip
"""Those inside the blocks."""

READ_ELSEWHERE = frozenset(
    {"dtype", "torch_dtype", "id2label", "num_labels", "architectures", "head_dim",
     "rope_scaling", "rope_parameters", "layer_types"}
)  # fmt: skip
"""Keys with checks of their own."""

Assumption = tuple[tuple[Any, ...], str]
"""Values that a key may have, and why others are refused."""

_NONE = (None, False)
"""The values of a switch that is off."""

ASSUMED: dict[str, Assumption] = {
    "auto_map": ((None, {}), "it names code of the model's own, whose blocks are not known"),
    "quantization_config": ((None, {}), "bytes and FLOP are counted for plain weights"),
    "compression_config": ((None, {}), "bytes and FLOP are counted for plain weights"),
    "add_cross_attention": (_NONE, "blocks are counted without cross-attention"),
    "cross_attention_hidden_size": ((None,), "blocks are counted without cross-attention"),
    "is_encoder_decoder": (_NONE, "one stack of blocks is counted"),
    "pruned_heads": ((None, {}), "every head is counted"),
    "gradient_checkpointing": (_NONE, "every saved tensor is counted, none is computed again"),
    "chunk_size_feed_forward": ((None, 0), "the MLP is counted in one piece"),
    "per_layer_config": ((None, {}), "all blocks are counted alike"),
    "partial_rotary_factor": ((None, 1), "the whole of every head is rotated"),
}
"""Keys of every type: the values that the counted blocks have, and why others are refused."""

_ABSOLUTE: Assumption = ((None, "absolute"), "positions are counted as one table before the blocks")
"""Of ViT, BERT and GPT-2."""

_NO_BIAS: Assumption = ((None, False), "transformers' own blocks have no bias there")
"""Of a matrix that never has one."""

_BIAS: Assumption = ((None, True), "transformers' own blocks have a bias there")
"""Of a matrix that always has one."""

_NO_LABEL: Assumption = ((None,), "it is counted as a language model")
"""Of GPT-2, Llama, Qwen2 and Mistral."""

_ENCODER: dict[str, Assumption] = {
    "position_embedding_type": _ABSOLUTE,
    "is_decoder": (_NONE, "it is counted as an encoder with a classifier"),
    "mlp_bias": _BIAS,
    "attention_bias": _BIAS,
    "problem_type": (
        (None, "single_label_classification", "regression"),
        "one label a sample is counted",
    ),
}
"""Of ViT and BERT."""

_DECODER: dict[str, Assumption] = {
    "position_embedding_type": ((None, "rope", "rotary"), "positions are counted as rotations"),
    "is_decoder": ((None, False, True), "it must be true or false"),
    "problem_type": _NO_LABEL,
}
"""Of Llama, Qwen2 and Mistral."""

ASSUMED_OF: dict[str, dict[str, Assumption]] = {
    "vit": _ENCODER,
    "bert": {**_ENCODER, "qkv_bias": _BIAS},
    "gpt2": {**_DECODER, "position_embedding_type": _ABSOLUTE, "mlp_bias": _BIAS,
             "attention_bias": _BIAS, "qkv_bias": _BIAS,
             "reorder_and_upcast_attn": (_NONE, "attention is counted in the weights' dtype")},
    "llama": {**_DECODER, "qkv_bias": _NO_BIAS},
    "qwen2": {**_DECODER, "qkv_bias": _BIAS, "attention_bias": _BIAS, "mlp_bias": _NO_BIAS},
    "mistral": {**_DECODER, "qkv_bias": _NO_BIAS, "attention_bias": _NO_BIAS,
                "mlp_bias": _NO_BIAS},
}  # fmt: skip
"""The same by model type."""

TELLING = re.compile(
    r"expert|(^|_)moe|router|glu(?!e)|ffn|feed_?forward|alibi|relative|cross_att|adapter|"
    r"(^|_)lora|spars|recurs|loop|latent|mamba|(^|_)ssm|(^|_)conv|recurrent|parallel_(attn|attention|res)|"
    r"shar(e|ing)|layer_?scale|qk_?(norm|layer)|(norm|attn|attention|mlp|block)_type|softcap|"
    r"register|_groups|multi_query|quant|4bit|8bit|compress|(^|_)mtp|nextn|block_config|"
    r"checkpointing|embedding_size|embed_dim|rotary_dim|layer_config|residual_mult"
)
"""Names that speak of other blocks than those of the six types."""

ROPE_TYPES = (None, "default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional")
"""Kinds of rotation of the same cost: only the tables of angles differ."""

LAYER_TYPES = ("full_attention", "sliding_attention", "attention")
"""Kinds of attention that are counted alike: a window as full attention."""

DTYPE_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}
"""Dtypes of weights whose workload is counted, in bits."""

REST: tuple[Any, ...] = (None, False, 0, "", [], {})
"""Values with which a key says nothing."""
