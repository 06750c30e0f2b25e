"""Tiny model folders as people have them: weights, configuration, tokenizer or image processor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

WORDS = 320
"""Words of the tokenizers: 256 bytes, a few special tokens and merges."""

SENTENCES = (
    "the film was a joy from start to end", "a dull and tired story about nothing",
    "she is the best actor of her time", "they should give us our money back",
    "warm, clever and very funny", "slow, loud and far too long",
    "one of the great films of the year", "i fell asleep before the end",
)  # fmt: skip

CHATML = """{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' and loop.last and not add_generation_prompt %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{{- message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
"""As Qwen3's: the last answer has an empty thought before it, earlier ones have not."""


def trained_tokenizer(special: list[str], texts: Iterable[str] = SENTENCES) -> Tokenizer:
    """A byte-level BPE of WORDS words, trained here."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def roberta_tokenizer() -> PreTrainedTokenizerFast:
    """Marks around every text, padding token 1, room for 62 tokens."""
    tokenizer = trained_tokenizer(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", cls_token="<s>", sep_token="</s>", mask_token="<mask>",
        model_max_length=62,
    )  # fmt: skip


def chat_tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Qwen's special tokens and its way of writing chats."""
    tokenizer = trained_tokenizer(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )  # fmt: skip
    made.chat_template = template
    return made


def save_roberta(folder: Path, seed: int = 0) -> Path:
    """A masked language model of 4 blocks, hidden 32, as one finds before fine-tuning."""
    config = RobertaConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=1, bos_token_id=0,
        eos_token_id=2, type_vocab_size=1,
    )  # fmt: skip
    _save(RobertaForMaskedLM, config, folder, seed)
    roberta_tokenizer().save_pretrained(folder)
    return folder


def save_qwen3(folder: Path) -> Path:
    """A causal language model of 4 blocks, hidden 32, with its chat template."""
    config = Qwen3Config(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, intermediate_size=64, max_position_embeddings=256,
        pad_token_id=0, eos_token_id=2, bos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    _save(Qwen3ForCausalLM, config, folder)
    chat_tokenizer().save_pretrained(folder)
    return folder


def save_dinov2(folder: Path) -> Path:
    """A picture model of 4 blocks, hidden 32; its processor crops to less than its largest size."""
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=4, mlp_ratio=2, image_size=42,
        patch_size=7,
    )  # fmt: skip
    _save(Dinov2Model, config, folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "BitImageProcessor", "do_resize": True,
        "size": {"shortest_edge": 32}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": 28, "width": 28}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }))  # fmt: skip
    return folder


def _save(kind: type[PreTrainedModel], config: object, folder: Path, seed: int = 0) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kind(config).save_pretrained(folder)
