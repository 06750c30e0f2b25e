"""Tiny configurations of the architectures in the conformance table: 3 blocks, width 32."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedModel

BLOCKS = 3
VOCABULARY = 61
CLASSES = 3

_TOKENS: dict[str, Any] = {
    "vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_DECODER: dict[str, Any] = {
    **_TOKENS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
_ENCODER: dict[str, Any] = {
    **_TOKENS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4, "max_position_embeddings": 64, "type_vocab_size": 2,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
_IMAGES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4, "image_size": 16, "patch_size": 4, "num_channels": 3,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
_EXPERTS: dict[str, Any] = {
    **_DECODER, "num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
}  # fmt: skip
_GEMMA = {**_DECODER, "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8}
_LATENT = {  # multi-head latent attention of DeepSeek
    **_DECODER, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 24,
    "n_shared_experts": 1, "first_k_dense_replace": 1,
}  # fmt: skip

SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {**_TOKENS, "n_positions": 64, "n_embd": 32, "n_layer": BLOCKS, "n_head": 4,
             "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "gpt_bigcode": {**_TOKENS, "n_positions": 64, "n_embd": 32, "n_layer": BLOCKS, "n_head": 4,
                    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "openai-gpt": {**_TOKENS, "n_positions": 64, "n_embd": 32, "n_layer": BLOCKS, "n_head": 4,
                   "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "gptj": {**_TOKENS, "n_positions": 64, "n_embd": 32, "n_layer": BLOCKS, "n_head": 4,
             "rotary_dim": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "codegen": {**_TOKENS, "n_positions": 64, "n_ctx": 64, "n_embd": 32, "n_layer": BLOCKS,
                "n_head": 4, "rotary_dim": 4},
    "gpt_neo": {**_TOKENS, "hidden_size": 32, "num_layers": BLOCKS, "num_heads": 4,
                "intermediate_size": 48, "max_position_embeddings": 64, "window_size": 4,
                "attention_types": [[["global", "local"], 1], [["global"], 1]],
                "embed_dropout": 0.0, "attention_dropout": 0.0, "resid_dropout": 0.0},
    "gpt_neox": {**_DECODER, "rotary_pct": 0.25, "hidden_dropout": 0.0, "attention_dropout": 0.0},
    "opt": {**_TOKENS, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": BLOCKS,
            "num_attention_heads": 4, "max_position_embeddings": 64, "word_embed_proj_dim": 32,
            "dropout": 0.0},
    "bloom": {**_TOKENS, "hidden_size": 32, "n_layer": BLOCKS, "n_head": 4},
    "mpt": {**_TOKENS, "d_model": 32, "n_layers": BLOCKS, "n_heads": 4, "max_seq_len": 64,
            "expansion_ratio": 2},
    "falcon": {**_TOKENS, "hidden_size": 32, "num_hidden_layers": BLOCKS,
               "num_attention_heads": 4, "alibi": False, "new_decoder_architecture": False},
    "llama": _DECODER,
    "mistral": {**_DECODER, "sliding_window": 4},
    "ministral": {**_DECODER, "head_dim": 8, "sliding_window": 4},
    "qwen2": _DECODER,
    "qwen3": {**_DECODER, "head_dim": 8},
    "gemma": {**_DECODER, "head_dim": 8},
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gemma3n_text": {**_GEMMA, "vocab_size_per_layer_input": VOCABULARY,
                     "hidden_size_per_layer_input": 8, "laurel_rank": 4, "altup_num_inputs": 2,
                     "num_kv_shared_layers": 0, "activation_sparsity_pattern": None},
    "phi": {**_DECODER, "partial_rotary_factor": 0.5},
    "phi3": {**_DECODER, "sliding_window": None},
    "starcoder2": {**_DECODER, "sliding_window": 4, "residual_dropout": 0.0},
    "stablelm": {**_DECODER, "partial_rotary_factor": 0.5},
    "cohere": _DECODER,
    "cohere2": {**_DECODER, "head_dim": 8, "sliding_window": 4},
    "olmo": _DECODER,
    "olmo2": _DECODER,
    "olmo3": {**_DECODER, "sliding_window": 4},
    "granite": {**_DECODER, "embedding_multiplier": 6.0, "residual_multiplier": 0.5},
    "glm": {**_DECODER, "head_dim": 8},
    "glm4": {**_DECODER, "head_dim": 8},
    "helium": {**_DECODER, "head_dim": 8},
    "nemotron": _DECODER,
    "persimmon": {**_DECODER, "partial_rotary_factor": 0.5},
    "smollm3": {**_DECODER, "no_rope_layers": [1, 0, 1]},
    "exaone4": {**_DECODER, "sliding_window": 4},
    "ernie4_5": {**_DECODER, "head_dim": 8},
    "hunyuan_v1_dense": {**_DECODER, "head_dim": 8},
    "seed_oss": {**_DECODER, "head_dim": 8},
    "biogpt": {**_TOKENS, "hidden_size": 32, "intermediate_size": 48,
               "num_hidden_layers": BLOCKS, "num_attention_heads": 4,
               "max_position_embeddings": 64},
    "xglm": {**_TOKENS, "d_model": 32, "ffn_dim": 48, "num_layers": BLOCKS,
             "attention_heads": 4, "max_position_embeddings": 64},
    "mixtral": {**_EXPERTS, "sliding_window": None},
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": {**_EXPERTS, "head_dim": 8},
    "olmoe": _EXPERTS,
    "phimoe": _EXPERTS,
    "granitemoe": _EXPERTS,
    "gpt_oss": {**_EXPERTS, "head_dim": 8, "sliding_window": 4},
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "llama4_text": {**_EXPERTS, "head_dim": 8, "intermediate_size_mlp": 48,
                    "interleave_moe_layer_step": 2, "attention_chunk_size": 4,
                    "no_rope_layers": [1, 0, 1]},
    "bert": _ENCODER,
    "roberta": {**_ENCODER, "pad_token_id": 1, "bos_token_id": 0},
    "xlm-roberta": {**_ENCODER, "pad_token_id": 1, "bos_token_id": 0},
    "camembert": {**_ENCODER, "pad_token_id": 1, "bos_token_id": 0},
    "electra": {**_ENCODER, "embedding_size": 16},
    "distilbert": {**_TOKENS, "dim": 32, "hidden_dim": 48, "n_layers": BLOCKS, "n_heads": 4,
                   "max_position_embeddings": 64, "dropout": 0.0, "attention_dropout": 0.0,
                   "seq_classif_dropout": 0.0},
    "mpnet": _ENCODER,
    "deberta": {**_ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"],
                "pooler_hidden_size": 32, "pooler_dropout": 0.0, "cls_dropout": 0.0},
    "deberta-v2": {**_ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"],
                   "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True,
                   "pooler_hidden_size": 32, "pooler_dropout": 0.0, "cls_dropout": 0.0},
    "modernbert": {**_ENCODER, "global_attn_every_n_layers": 2, "local_attention": 4,
                   "cls_token_id": 3, "sep_token_id": 4},
    "esm": {**_ENCODER, "mask_token_id": 5, "position_embedding_type": "rotary",
            "token_dropout": True},
    "nomic_bert": _ENCODER,
    "megatron-bert": _ENCODER,
    "roformer": _ENCODER,
    "rembert": {**_ENCODER, "input_embedding_size": 16, "output_embedding_size": 16,
                "classifier_dropout_prob": 0.0},
    "ernie": _ENCODER,
    "longformer": {**_ENCODER, "attention_window": [4, 4, 4]},
    "xmod": {**_ENCODER, "pad_token_id": 1, "bos_token_id": 0, "languages": ["en_XX", "de_DE"],
             "default_language": "en_XX"},
    "layoutlm": {**_ENCODER, "max_2d_position_embeddings": 1024},
    "layoutlmv3": {**_ENCODER, "max_2d_position_embeddings": 1024, "coordinate_size": 6,
                   "shape_size": 4, "visual_embed": False, "rel_pos_bins": 8,
                   "rel_2d_pos_bins": 8},
    "xlnet": {**_TOKENS, "d_model": 32, "n_layer": BLOCKS, "n_head": 4, "d_inner": 48,
              "dropout": 0.0, "summary_last_dropout": 0.0},
    "albert": {**_ENCODER, "embedding_size": 16},
    "t5": {**_TOKENS, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": BLOCKS, "num_heads": 4,
           "dropout_rate": 0.0, "classifier_dropout": 0.0, "decoder_start_token_id": 0},
    "bart": {**_TOKENS, "d_model": 32, "encoder_layers": BLOCKS, "decoder_layers": BLOCKS,
             "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
             "decoder_ffn_dim": 48, "decoder_start_token_id": 2},
    "jamba": {**_EXPERTS, "attn_layer_period": 3, "attn_layer_offset": 1,
              "use_mamba_kernels": False, "mamba_d_state": 4, "mamba_d_conv": 2},
    "recurrent_gemma": {**_DECODER, "head_dim": 8, "lru_width": 32},
    "falcon_h1": {**_DECODER, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_state": 8},
    "bamba": {**_DECODER, "attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_state": 8},
    "qwen3_next": {**_EXPERTS, "head_dim": 8, "linear_num_key_heads": 2,
                   "linear_num_value_heads": 4, "linear_key_head_dim": 8,
                   "linear_value_head_dim": 8},
    "lfm2": {**_DECODER, "layer_types": ["conv", "full_attention", "conv"]},
    "rwkv": {**_TOKENS, "hidden_size": 32, "num_hidden_layers": BLOCKS, "context_length": 64},
    "mamba": {**_TOKENS, "hidden_size": 32, "num_hidden_layers": BLOCKS, "state_size": 4},
    "vit": _IMAGES,
    "deit": {**_IMAGES, "architectures": ["DeiTForImageClassification"]},
    "beit": {**_IMAGES, "use_relative_position_bias": True, "use_mean_pooling": True},
    "data2vec-vision": {**_IMAGES, "use_shared_relative_position_bias": True},
    "dinov2": _IMAGES,
    "dinov2_with_registers": {**_IMAGES, "num_register_tokens": 2},
    "dinov3_vit": {**_IMAGES, "num_register_tokens": 2},
    "ijepa": _IMAGES,
    "vit_msn": _IMAGES,
    "siglip_vision_model": _IMAGES,
    "swin": {"image_size": 16, "patch_size": 4, "embed_dim": 8, "depths": [1, 1],
             "num_heads": [2, 2], "window_size": 2},
    "convnext": {"num_channels": 3, "hidden_sizes": [8, 16], "depths": [1, 1], "image_size": 16,
                 "num_stages": 2},
    "clip": {"projection_dim": 16},
    "videomae": {**_IMAGES, "num_frames": 4, "tubelet_size": 2},
    "wav2vec2": {"hidden_size": 32, "num_hidden_layers": BLOCKS, "num_attention_heads": 4,
                 "intermediate_size": 48, "vocab_size": 40, "conv_dim": [16, 16],
                 "conv_stride": [5, 2], "conv_kernel": [10, 3], "num_feat_extract_layers": 2,
                 "num_conv_pos_embedding_groups": 4, "num_conv_pos_embeddings": 16},
    "whisper": {"vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2,
                "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
                "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "pad_token_id": 0,
                "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
    "llava": {},
}  # fmt: skip
"""Arguments of each model type's configuration; all dropout is off."""

HEADS = {
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "text": "AutoModelForSequenceClassification",
    "token": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
    "image": "AutoModelForImageClassification",
    "choice": "AutoModelForMultipleChoice",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "video": "AutoModelForVideoClassification",
    "audio": "AutoModelForAudioClassification",
    "both": "AutoModelForZeroShotImageClassification",
    "vision-text": "AutoModelForImageTextToText",
    "none": "AutoModel",
}
"""What the table calls a head -> the class of transformers that makes it."""


def tiny_config(architecture: str, **options: Any) -> PretrainedConfig:
    """The configuration of a tiny model with options over its sizes."""
    return CONFIG_MAPPING[architecture](**{**SIZES[architecture], **options})


def tiny_model(architecture: str, head: str, seed: int = 0, **options: Any) -> PreTrainedModel:
    """A tiny model with random weights from ``seed``."""
    labelled = {"num_labels": CLASSES} if head in ("text", "token", "image") else {}
    config = tiny_config(architecture, **{**labelled, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, HEADS[head]).from_config(config)
    assert isinstance(model, PreTrainedModel)
    return model
