"""The rows of the conformance table: architecture, head, option, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.training.conformance.batches import Batch

Change = Callable[[Batch], Batch]


@dataclass(frozen=True)
class Row:
    """One case: a tiny model, a batch, and whether its split is equal or refused."""

    architecture: str
    head: str
    option: str = ""
    """In words, as the page shows it."""
    config: dict[str, Any] = field(default_factory=dict)
    """Of the model's configuration, over its sizes."""
    split: dict[str, Any] = field(default_factory=dict)
    """Of the SplitConfig."""
    change: Change | None = None
    """What makes the row's batch of the plain one."""
    refusal: str | None = None
    """What the refusal says; None: equal to the unsplit model."""
    dtype: torch.dtype = torch.float32
    checkpointing: bool = False

    @property
    def name(self) -> str:
        """Name the row for tests."""
        return " ".join(filter(None, (self.architecture, self.head, self.option)))


def _plain(head: str, *architectures: str) -> tuple[Row, ...]:
    return tuple(Row(name, head) for name in architectures)


def _refused(text: str, *heads: tuple[str, str]) -> tuple[Row, ...]:
    return tuple(Row(name, head, refusal=f"model type '{name}' {text}") for name, head in heads)


def _without(*names: str) -> Change:
    return lambda batch: {name: value for name, value in batch.items() if name not in names}


def _with(**values: Any) -> Change:
    return lambda batch: {**batch, **values}


def _left(batch: Batch) -> Batch:
    """Padding on the left, with positions that start after it, as generation has them."""
    turned = {name: value.flip(-1) if value.ndim > 1 else value for name, value in batch.items()}
    positions = (turned["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    return {**turned, "position_ids": positions}


def _packed(batch: Batch) -> Batch:
    """Two texts in every row, told apart by positions that start anew; no mask."""
    length = batch["input_ids"].shape[1]
    positions = torch.cat((torch.arange(5), torch.arange(length - 5))).expand_as(batch["labels"])
    ids = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 7)
    labels = ids.clone()
    labels[:, 5] = -100
    return {"input_ids": ids, "position_ids": positions.clone(), "labels": labels}


def _pad_word(batch: Batch) -> Batch:
    """The padding token as a word: inside the first text and at its end."""
    ids = batch["input_ids"].clone()
    ids[0, 3] = ids[0, -1] = 0
    return {**batch, "input_ids": ids}


def _segments(batch: Batch) -> Batch:
    kinds = torch.zeros_like(batch["input_ids"])
    kinds[:, 4:] = 1
    return {**batch, "token_type_ids": kinds}


def _questions(batch: Batch) -> Batch:
    """Special tokens as words: beginning, separator, question, end, class."""
    ids = batch["input_ids"].clone()
    ids[:, 0] = 1
    ids[:2, 4] = 4
    ids[0, 5], ids[1, 3] = 9, 9
    ids[0, 7], ids[1, 5] = 2, 3
    return {**batch, "input_ids": ids}


def _first_label(batch: Batch) -> Batch:
    """No label but the first of each text: BART's decoder predicts it, others do not."""
    labels = torch.full_like(batch["labels"], -100)
    labels[:, 0] = batch["labels"][:, 0]
    return {**batch, "labels": labels}


def _embedded(batch: Batch) -> Batch:
    generator = torch.Generator().manual_seed(11)
    embeds = torch.randn(*batch["input_ids"].shape, 32, generator=generator)
    return {**_without("input_ids")(batch), "inputs_embeds": embeds}


def _pairs(batch: Batch) -> Batch:
    """For each token, those it sees: (batch, 1, tokens, tokens)."""
    words = batch["attention_mask"].bool()
    seen = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool).tril()
    return {**batch, "attention_mask": seen & words[:, None, None, :]}


def _one_unlabelled(batch: Batch) -> Batch:
    labels = batch["labels"].clone()
    labels[0] = -100
    return {**batch, "labels": labels}


def _empty_text(batch: Batch) -> Batch:
    mask = batch["attention_mask"].clone()
    mask[2] = 0
    return {**batch, "attention_mask": mask}


def _global(batch: Batch) -> Batch:
    found = torch.zeros_like(batch["input_ids"])
    found[:, 0] = 1
    return {**batch, "global_attention_mask": found}


def _packed_lengths(batch: Batch) -> Batch:
    return {**batch, "cu_seq_lens_q": torch.tensor([0, 5, 10])}


def _floats(batch: Batch) -> Batch:
    labels = batch["labels"]
    return {**batch, "labels": torch.linspace(-1.0, 1.0, labels.shape[0])}


def _many(batch: Batch) -> Batch:
    generator = torch.Generator().manual_seed(3)
    shape = (batch["labels"].shape[0], 3)
    return {**batch, "labels": torch.randint(0, 2, shape, generator=generator).float()}


_SIX = "only one stack can be split. Load the text or the vision model alone."
_BOTH_WAYS = (
    "is a causal language model, but its attention looks both ways, so that every token sees the "
    "one it predicts. Set is_decoder=True in its configuration, or take the head of a masked "
    "language model."
)
_NEEDS_MORE = (
    "loss or gradients are N off the unsplit model's (at most 1e-05); something that its blocks or "
    "its head behind the cut read does not cross it."
)
_TOKENS_MEND = (
    " With 'input_ids' in the batch and sent it is equal: name it in SplitConfig.side_keys "
    "(--side-keys input_ids)."
)
_HYBRID = (
    "is a hybrid stack (blocks of kind {0} among or instead of attention); the blocks of a split "
    "have to be equal in size and work."
)
_EXPERTS = {"output_router_logits": True}
_ROUTER = (
    "model type '{0}': output_router_logits adds a loss of all blocks' routers, and those below "
    "the cut are on the devices. Set output_router_logits=False in the model's configuration: "
    "training then leaves out the balancing of experts."
)

DECODERS = _plain(
    "causal",
    "gpt2", "gpt_bigcode", "openai-gpt", "gptj", "codegen", "gpt_neo", "gpt_neox", "opt", "bloom",
    "mpt", "falcon", "llama", "mistral", "ministral", "qwen2", "qwen3", "gemma", "gemma2",
    "gemma3_text", "phi", "phi3", "starcoder2", "stablelm", "cohere", "cohere2", "olmo", "olmo2",
    "olmo3", "granite", "glm", "glm4", "helium", "nemotron", "persimmon", "smollm3", "exaone4",
    "ernie4_5", "hunyuan_v1_dense", "seed_oss", "biogpt", "xglm", "mixtral", "qwen2_moe",
    "qwen3_moe", "olmoe", "phimoe", "granitemoe", "gpt_oss", "deepseek_v2", "deepseek_v3",
    "llama4_text",
    "arcee", "apertus", "bitnet", "cwm", "diffllama", "doge", "gemma4_text", "internlm3",
    "ministral3", "minicpm3", "modernbert-decoder", "nanochat", "vaultgemma", "dots1",
    "ernie4_5_moe", "exaone_moe", "flex_olmo", "glm4_moe", "hunyuan_v1_moe",
    "bart", "mbart", "pegasus", "marian", "plbart", "trocr", "prophetnet",
)  # fmt: skip
"""Causal language models, dense ones and mixtures of experts."""

ENCODERS = (
    *_plain("text", "bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert",
            "mpnet", "deberta", "deberta-v2", "modernbert", "esm", "nomic_bert", "megatron-bert",
            "roformer", "rembert", "ernie", "layoutlm", "big_bird", "convbert", "data2vec-text",
            "eurobert", "luke", "markuplm", "mobilebert", "nystromformer", "roberta-prelayernorm",
            "roc_bert", "xlm-roberta-xl", "yoso"),
    *_plain("token", "bert", "distilbert", "deberta-v2", "modernbert", "layoutlmv3"),
    *_plain("span", "bert", "roberta", "distilbert", "deberta-v2"),
    *_plain("masked", "bert", "roberta", "distilbert", "modernbert", "big_bird", "convbert"),
)  # fmt: skip
"""Encoders of text, with each head."""

IMAGES = _plain("image", "vit", "deit", "beit", "data2vec-vision", "dinov2",
                "dinov2_with_registers", "ijepa", "vit_msn")  # fmt: skip
"""Models of images."""

OPTIONS = (
    Row("gpt2", "text", "padding token as a word", change=_pad_word),
    Row("llama", "text", "padding token as a word", change=_pad_word),
    Row("llama", "text", "padding token as a word, no mask",
        change=lambda batch: _without("attention_mask")(_pad_word(batch))),
    Row("llama", "text", "padding on the left", change=_left),
    Row("qwen2", "text", "several labels at once",
        config={"problem_type": "multi_label_classification"}, change=_many),
    Row("bert", "text", "regression", config={"num_labels": 1}, change=_floats),
    Row("bert", "text", "token types", change=_segments),
    Row("mistral", "text"),
    Row("llama", "token"),
    Row("llama", "span"),
    Row("gpt2", "causal", "tied embeddings, padding on the left", change=_left),
    Row("llama", "causal", "tied embeddings", config={"tie_word_embeddings": True}),
    Row("llama", "causal", "packed texts", change=_packed),
    Row("gemma3_text", "causal", "packed texts", change=_packed),
    Row("mistral", "causal", "sliding window, padding on the left", change=_left),
    Row("qwen2", "causal", "sliding window from block 1 on",
        config={"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    Row("gemma2", "causal", "kinds of attention by block, other order",
        config={"layer_types": ["full_attention", "sliding_attention", "full_attention"]}),
    Row("llama", "causal", "rotary: yarn", config={"rope_parameters": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
        "original_max_position_embeddings": 16}}),
    Row("llama", "causal", "rotary: llama3", config={"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 16}}),
    Row("falcon", "causal", "ALiBi", config={"alibi": True}),
    Row("opt", "causal", "embeddings of another width", config={"word_embed_proj_dim": 16}),
    Row("gpt2", "causal", "gradient checkpointing", checkpointing=True),
    Row("qwen3", "causal", "gradient checkpointing", checkpointing=True),
    Row("llama", "causal", "bfloat16", dtype=torch.bfloat16),
    Row("vit", "image", "bfloat16", dtype=torch.bfloat16),
    Row("llama", "causal", "adapters on all matrices", split={"lora": {"target_modules": [
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}}),
    Row("bert", "text", "head not trained", split={"lora": {"trained_modules": []}}),
    Row("llama", "causal", "num_items_in_batch", change=_with(num_items_in_batch=77)),
    Row("llama", "causal", "num_items_in_batch as a tensor",
        change=_with(num_items_in_batch=torch.tensor(77))),
    Row("llama", "causal", "keys that nothing reads",
        change=_with(idx=torch.arange(3), length=torch.ones(3), sentence=["a", "b", "c"])),
    Row("llama", "causal", "plain arguments",
        change=_with(output_hidden_states=True, use_cache=True, logits_to_keep=0)),
    Row("rwkv", "causal", "adapters by name",
        split={"lora": {"target_modules": ["attention.key", "attention.value"]}}),
    Row("fnet", "text", "adapters by name",
        split={"lora": {"target_modules": ["intermediate.dense", "output.dense"]}}),
    Row("ctrl", "causal", "adapters by name",
        split={"lora": {"target_modules": ["Wq", "Wv"]}}),
    Row("splinter", "span", "tokens sent", split={"side_keys": ["input_ids"]},
        change=_questions),
    Row("big_bird", "span", "tokens sent, token types", split={"side_keys": ["input_ids"]},
        change=lambda batch: _segments(_questions(batch))),
    Row("bart", "causal", "only the first label counts", change=_first_label),
    Row("llama", "causal", "embeddings in place of tokens", change=_embedded),
    Row("longformer", "token", "embeddings in place of tokens", change=_embedded),
    Row("bert", "text", "mask of floating-point numbers",
        change=lambda batch: {**batch, "attention_mask": batch["attention_mask"].float()}),
    Row("bert", "text", "mask for each pair of tokens", change=_pairs),
    Row("llama", "causal", "mask for each pair of tokens", change=_pairs),
    Row("llama", "text", "special tokens as words", change=_questions),
    Row("bert", "token", "one text without labels", change=_one_unlabelled),
    Row("mistral", "causal", "an empty text", change=_empty_text),
    Row("bert", "causal", "is_decoder", config={"is_decoder": True}),
    Row("longformer", "text", "global attention, sent",
        split={"side_keys": ["global_attention_mask"]}, change=_global),
    Row("dinov2", "image", "images of another size", change=lambda batch: {
        **batch, "pixel_values": torch.nn.functional.pad(batch["pixel_values"], (4, 4, 4, 4))}),
    Row("vit", "image", "interpolated positions", change=lambda batch: {
        **batch, "pixel_values": torch.nn.functional.pad(batch["pixel_values"], (4, 4, 4, 4)),
        "interpolate_pos_encoding": True}),
    Row("mixtral", "causal", "without the routers' loss", config={"output_router_logits": False}),
)  # fmt: skip
"""What people set, on some architecture each."""

REFUSALS = (
    Row("bert", "causal", refusal=f"model type 'bert': BertLMHeadModel {_BOTH_WAYS}"),
    Row("roberta", "causal", refusal=f"model type 'roberta': RobertaForCausalLM {_BOTH_WAYS}"),
    Row("mixtral", "causal", "the routers' loss", config=_EXPERTS,
        refusal=_ROUTER.format("mixtral")),
    Row("qwen3_moe", "causal", "the routers' loss", config=_EXPERTS,
        refusal=_ROUTER.format("qwen3_moe")),
    Row("mixtral", "causal", "the routers' loss, asked for by the batch",
        change=_with(output_router_logits=True), refusal="device a: " + _ROUTER.format("mixtral")),
    Row("longformer", "text", "global attention, not sent", change=_global,
        refusal=f"model type 'longformer' cannot be split at block 1: {_NEEDS_MORE} With "
        "'global_attention_mask' in the batch and sent it is equal: name it in "
        "SplitConfig.side_keys (--side-keys global_attention_mask)."),
    Row("xlnet", "text", refusal="model type 'xlnet': hidden states go through its blocks as "
        "(2, 1, 32) for one sample; (batch, tokens, hidden) is needed."),
    Row("longformer", "text", "global attention to be sent, but not there",
        split={"side_keys": ["global_attention_mask"]},
        refusal="device a: the batch has no 'global_attention_mask', which model type 'longformer' "
        "makes of all tokens before its first block; neither side of a cut can. Put it into the "
        "batch."),
    Row("splinter", "span", change=_questions,
        refusal=f"model type 'splinter' cannot be split at block 1: {_NEEDS_MORE}{_TOKENS_MEND}"),
    Row("big_bird", "span", change=_questions,
        refusal=f"model type 'big_bird' cannot be split at block 1: {_NEEDS_MORE}{_TOKENS_MEND}"),
    Row("big_bird", "span", "tokens sent, no token types", split={"side_keys": ["input_ids"]},
        refusal="device a: the batch has no 'token_type_ids', which model type 'big_bird' makes of "
        "all tokens before its first block; neither side of a cut can. Put it into the batch."),
    Row("fnet", "text", refusal="model type 'fnet': no query and value projections found in a "
        "block; name lora.target_modules out of: intermediate.dense, output.dense."),
    Row("ibert", "text", refusal="model type 'ibert' gets no adapters from peft: Target module "
        "(QuantLinear() weight_bit=8, quant_mode=False) is not supported. Currently, only the "
        "following modules are supported: `torch.nn.Linear`, `torch.nn.Embedding`, "
        "`torch.nn.Conv1d`, `torch.nn.Conv2d`, `torch.nn.Conv3d`, "
        "`transformers.pytorch_utils.Conv1D`, `torch.nn.MultiheadAttention.`."),
    Row("deepseek_v3", "causal", "adapters on all linear layers",
        split={"lora": {"target_modules": ["all-linear"]}},
        refusal="model type 'deepseek_v3': peft gives 'model.layers.1.mlp.experts.base_layer' "
        "adapters of rank 16 (experts that lie in one tensor); name lora.target_modules that are "
        "matrices of their own, such as those of the attention."),
    Row("reformer", "text", refusal="model type 'reformer' cannot be split at block 1: run in two "
        "parts it fails (AttributeError: 'tuple' object has no attribute 'attn_output')."),
    Row("canine", "text", refusal="model type 'canine' cannot be split: it refuses a plain input "
        "(RuntimeError: max_pool1d() Invalid computed output size: 0)."),
    Row("perceiver", "text", refusal="model type 'perceiver' takes 'inputs'; models whose input is "
        "one text (input_ids) or one image (pixel_values) can be split."),
    Row("funnel", "text", refusal="model type 'funnel' cannot be split: it refuses a plain input "
        "(RuntimeError: index 8 is out of bounds for dimension 0 with size 8)."),
    Row("squeezebert", "text", refusal="model type 'squeezebert': its 3 blocks are not called once "
        "each in order with hidden states (batch, tokens, hidden) in and out, so it cannot be cut "
        "between them."),
    Row("xlm", "text", refusal="model type 'xlm': one list of 3 blocks is needed, found 4 of them: "
        "transformer.attentions, transformer.layer_norm1, transformer.ffns, "
        "transformer.layer_norm2. Which models can be split: docs/reference/conformance.md."),
    Row("xmod", "text", refusal="model type 'xmod' cannot be split at block 1: run in two parts it "
        "fails (AttributeError: 'PassThrough' object has no attribute 'output')."),
    Row("gemma3n_text", "causal", refusal="model type 'gemma3n_text': its 3 blocks are not called "
        "once each in order with hidden states (batch, tokens, hidden) in and out, so it cannot be "
        "cut between them."),
    *_refused(_HYBRID.format("hybrid"), ("falcon_h1", "causal")),
    Row("llama", "causal", "a key that is read but not sent", change=_packed_lengths,
        refusal="device a: the batch's 'cu_seq_lens_q' is read by the forward of model type "
        "'llama' behind the cut, where only labels, mask and positions are known: name it in "
        "SplitConfig.side_keys (--side-keys cu_seq_lens_q) to send it, or leave it out of the "
        "batch."),
    Row("bert", "none", refusal="BertModel gives no loss for labels; use a model with a task head "
        "(causal or masked language model, classification of texts, tokens or images, question "
        "answering)."),
    *_refused("is an encoder-decoder; only one stack can be split.",
              ("t5", "seq2seq"), ("bart", "seq2seq")),
    Row("t5", "token", refusal=f"model type 't5' cannot be split at block 1: {_NEEDS_MORE}"),
    *_refused("shares its blocks' weights (1 groups of parameters for all blocks), so that no "
              "block can belong to one side of a cut.", ("albert", "text")),
    *_refused("is hierarchical: 2 stages of different shapes, not one stack of equal blocks.",
              ("swin", "image"), ("convnext", "image")),
    *_refused("is a model of sound (its input is 'input_values'); models of text and of images "
              "can be split.", ("wav2vec2", "audio")),
    *_refused("is a model of video; models of text and of single images can be split.",
              ("videomae", "video")),
    *_refused(f"has several towers (text, vision), as CLIP has; {_SIX}", ("clip", "both")),
    *_refused(_HYBRID.format("linear_attention"),
              ("jamba", "causal"), ("bamba", "causal"), ("qwen3_next", "causal"),
              ("mamba", "causal")),
    *_refused(_HYBRID.format("conv"), ("lfm2", "causal")),
    *_refused(_HYBRID.format("linear_attention"), ("recurrent_gemma", "causal")),
    *_refused("with a head for multiple choice runs several texts for one label, which the "
              "messages of a split do not carry; use a classification head.", ("bert", "choice")),
)  # fmt: skip
"""What cannot be split, and what is said."""

ROWS = (*DECODERS, *ENCODERS, *IMAGES, *OPTIONS, *REFUSALS)
"""The whole table."""
