"""Keys of a configuration against transformers: defaults, what has no part, what is refused."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from sftopt.core.config_checks import config_remarks
from sftopt.core.config_keys import (
    ARCHITECTURES,
    ASSUMED,
    ASSUMED_OF,
    DEFAULTS,
    PARTLESS,
    READ_ELSEWHERE,
)
from sftopt.core.errors import InputError
from sftopt.core.workload import has_formula, workload_from_config
from tests.core.test_workload import TYPES, VIT_B_16, tiny_config

CLASSES = {"vit": "ViT", "bert": "Bert", "gpt2": "GPT2", "llama": "Llama", "qwen2": "Qwen2",
           "mistral": "Mistral"}  # fmt: skip
TEXT = [name for name in TYPES if name != "vit"]


def tokens(model_type: str) -> int | None:
    return None if model_type == "vit" else 16


def small(model_type: str, **changes: Any) -> dict[str, Any]:
    """The configuration of a tiny model, as transformers writes it."""
    return {**json.loads(tiny_config(model_type).to_json_string()), **changes}


def counted(config: dict[str, Any], **arguments: Any) -> Any:
    """The workload, and the dict of it, for comparisons."""
    return workload_from_config(config, tokens=tokens(config["model_type"]), **arguments)


def refusal(config: dict[str, Any], **arguments: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        counted(config, **arguments)
    assert caught.value.faults
    return caught.value


@pytest.mark.parametrize("model_type", TYPES)
def test_defaults_are_those_of_transformers(model_type: str) -> None:
    real = transformers.AutoConfig.for_model(model_type)
    fields = {field: getattr(type(real), field) for field in DEFAULTS[model_type]
              if hasattr(type(real), field)}  # fmt: skip
    assert fields.keys() | {"head_dim"} >= DEFAULTS[model_type].keys()
    assert {key: DEFAULTS[model_type][key] for key in fields} == fields


@pytest.mark.parametrize("model_type", TYPES)
def test_a_file_without_sizes_is_counted_as_transformers_builds_it(model_type: str) -> None:
    whole = json.loads(transformers.AutoConfig.for_model(model_type).to_json_string())
    bare = {"model_type": model_type}
    assert counted(bare, name="a") == counted(whole, name="a")
    assert config_remarks(bare)[0].startswith("not in the file, taken as transformers does: ")


@pytest.mark.parametrize("model_type", TYPES)
def test_every_key_of_transformers_is_accounted_for(model_type: str) -> None:
    """A key that a later release adds is looked at before it is believed."""
    keys = transformers.AutoConfig.for_model(model_type).to_dict().keys()
    known = {*DEFAULTS[model_type], *PARTLESS, *ASSUMED, *ASSUMED_OF[model_type], *READ_ELSEWHERE}
    assert keys <= known
    config = small(model_type)
    assert has_formula(config)
    assert not [text for text in config_remarks(config) if "not read" in text]


@pytest.mark.parametrize("model_type", TYPES)
def test_architectures_are_classes_of_transformers(model_type: str) -> None:
    stem = CLASSES[model_type]
    module = importlib.import_module(f"transformers.models.{model_type}.modeling_{model_type}")
    models = {name for name in module.__all__ if name.startswith(stem)}
    assert {n for n in ARCHITECTURES[model_type] if not n.startswith("LLaMA")} <= models
    for name in ARCHITECTURES[model_type]:
        assert counted(small(model_type, architectures=[name]))
    others = sorted(models - set(ARCHITECTURES[model_type]))
    for name in (*others, f"Jina{stem}Model"):
        assert name in str(refusal(small(model_type, architectures=[name])))


FAKE = [
    ("bert", "auto_map", {"AutoModel": "a/b--modeling.Own"}, "code of the model's own"),
    ("bert", "feed_forward_type", "geglu", "other blocks"),
    ("bert", "position_embedding_type", "alibi", "one table"),
    ("bert", "position_embedding_type", "relative_key_query", "one table"),
    ("bert", "is_decoder", True, "encoder"),
    ("bert", "chunk_size_feed_forward", 4, "one piece"),
    ("bert", "pruned_heads", {"0": [1]}, "every head"),
    ("bert", "gradient_checkpointing", True, "computed again"),
    ("bert", "problem_type", "multi_label_classification", "one label"),
    ("bert", "hidden_act", "geglu", "known: gelu"),
    ("bert", "head_dim", 20, "leave head_dim out"),
    ("vit", "head_dim", 20, "leave head_dim out"),
    ("vit", "use_swiglu_ffn", True, "other blocks"),
    ("vit", "num_register_tokens", 4, "other blocks"),
    ("gpt2", "add_cross_attention", True, "without cross-attention"),
    ("gpt2", "cross_attention_hidden_size", 64, "without cross-attention"),
    ("gpt2", "is_encoder_decoder", True, "one stack"),
    ("gpt2", "reorder_and_upcast_attn", True, "weights' dtype"),
    ("gpt2", "multi_query", True, "other blocks"),
    ("llama", "quantization_config", {"bits": 4}, "plain weights"),
    ("llama", "compression_config", {"format": "int"}, "plain weights"),
    ("llama", "load_in_4bit", True, "other blocks"),
    ("llama", "num_local_experts", 8, "other blocks"),
    ("llama", "vision_config", {"hidden_size": 4}, "other blocks"),
    ("llama", "qkv_bias", True, "no bias"),
    ("llama", "partial_rotary_factor", 0.5, "whole of every head"),
    ("llama", "rope_scaling", {"rope_type": "mrope", "mrope_section": [1]}, "rotations of type"),
    ("llama", "rope_parameters", {"partial_rotary_factor": 0.5}, "whole of every head"),
    ("llama", "position_embedding_type", "alibi", "rotations"),
    ("llama", "per_layer_config", {"0": {"head_dim": 8}}, "counted alike"),
    ("qwen2", "attention_bias", False, "have a bias"),
    ("qwen2", "layer_types", ["linear_attention"] * 3, "sliding_attention"),
    ("qwen2", "layer_types", ["full_attention"] * 2, "2 entries"),
    ("qwen2", "num_experts", 4, "other blocks"),
    ("mistral", "attention_bias", True, "no bias"),
    ("mistral", "mlp_bias", True, "no bias"),
    ("mistral", "final_logit_softcapping", 30.0, "other blocks"),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "key", "value", "words"), FAKE)
def test_blocks_of_another_kind_are_refused(
    model_type: str, key: str, value: Any, words: str
) -> None:
    error = refusal(small(model_type, **{key: value}))
    assert [fault.field.split(".")[0] for fault in error.faults] == [key] * len(error.faults)
    assert words in str(error)
    assert not has_formula(small(model_type, **{key: value})) or key in ("hidden_act", "head_dim")


@pytest.mark.parametrize(("name", "bits"), [("float16", 16), ("torch.bfloat16", 16)])
@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_a_16_bit_file_is_not_taken_for_32_bits_in_silence(key: str, name: str, bits: int) -> None:
    config = small("llama", **{key: name})
    error = refusal(config)
    assert key in str(error)
    assert name in str(error)
    assert "--dtype-bits 16" in str(error)
    assert counted(config, dtype_bits=16).reference_bits == bits
    assert counted(config, dtype_bits=32).reference_bits == 32
    assert counted(small("llama", **{key: "float32"})).reference_bits == 32


@pytest.mark.parametrize("value", ["float8_e4m3fn", "int8", "auto", 16, ["float16"]])
def test_a_dtype_that_is_not_counted_is_refused(value: Any) -> None:
    error = refusal(small("llama", torch_dtype=value), dtype_bits=16)
    assert "torch_dtype" in str(error)
    assert "float32, float16, bfloat16" in str(error)


def test_sizes_of_an_image_may_be_lists() -> None:
    lists = {"image_size": [224, 160], "patch_size": [16, 32]}
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                               intermediate_size=8, num_labels=3, **lists))  # fmt: skip
    work = workload_from_config(json.loads(model.config.to_json_string()))
    assert work.tokens == 1 + model.vit.embeddings.patch_embeddings.num_patches == 71
    embedding = sum(p.numel() for p in model.vit.embeddings.parameters())
    assert work.device_base_bytes == 4 * embedding
    assert workload_from_config(VIT_B_16 | {"image_size": [224, 224], "patch_size": [16, 16]}) == (
        workload_from_config(VIT_B_16)
    )


@pytest.mark.parametrize("value", [[224], [224, 224, 3], [224, "224"], [0, 224], [], {"h": 1}])
def test_a_list_that_is_no_size_of_an_image_is_named(value: Any) -> None:
    assert "image_size" in str(refusal(VIT_B_16 | {"image_size": value}))


def test_sizes_with_an_entry_a_block_are_read_where_all_are_alike() -> None:
    same = small("llama", intermediate_size=[200] * 3, num_key_value_heads=[2] * 3)
    assert counted(same) == counted(small("llama"))
    error = refusal(small("llama", intermediate_size=[200, 200, 100]))
    assert "intermediate_size[2]' is 100" in str(error)
    assert "3 blocks" in str(refusal(small("llama", intermediate_size=[200] * 2)))
    assert "intermediate_size[0]" in str(refusal(small("llama", intermediate_size=["a"] * 3)))


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral"])
def test_null_heads_of_keys_and_values_are_as_many_as_heads(model_type: str) -> None:
    null = counted(small(model_type, num_key_value_heads=None))
    assert null.key_value_heads == null.heads == 4


def test_second_names_of_gpt2_are_read() -> None:
    config = small("gpt2")
    for own, second in (("n_embd", "hidden_size"), ("n_layer", "num_hidden_layers"),
                        ("n_head", "num_attention_heads")):  # fmt: skip
        config[second] = config.pop(own)
    assert counted(config) == counted(small("gpt2"))
    error = refusal(small("gpt2", hidden_size=96))
    assert "n_embd" in str(error)
    assert "'hidden_size' is 96" in str(error)


@pytest.mark.parametrize(
    ("model_type", "wrong", "meant"),
    [("gpt2", "n_embed", "n_embd"), ("llama", "num_hidden_layer", "num_hidden_layers"),
     ("bert", "hidden_dim", "hidden_size"), ("llama", "num_kv_heads", "num_key_value_heads")],
)  # fmt: skip
def test_a_misspelt_size_is_no_default(model_type: str, wrong: str, meant: str) -> None:
    config = small(model_type)
    config[wrong] = config.pop(meant)
    assert f"'{meant}' is left out" in str(refusal(config))


BAD = ["768", None, -1, 0, 1.5, True, float("inf"), 10**30, 10**5000, {}, "\x1b[2J" * 99]


@pytest.mark.parametrize("model_type", TYPES)
def test_a_wrong_type_is_named_whatever_the_key(model_type: str) -> None:
    for key, default in DEFAULTS[model_type].items():
        for value in BAD:
            nullable = value is None and default in (None, 32, 8) and key in (
                "n_inner", "head_dim", "num_key_value_heads")  # fmt: skip
            if nullable or (isinstance(default, bool) and value is True):
                continue
            text = str(refusal(small(model_type, **{key: value})))
            assert key in text, (key, value)
            assert "\x1b" not in text
            assert len(text) < 2000


@pytest.mark.parametrize(
    ("key", "value"),
    [("rms_norm_eps", "1e-6"), ("rope_theta", float("nan")), ("attention_dropout", 2.0),
     ("use_cache", "yes"), ("sliding_window", [4]), ("rope_scaling", 2.0), ("layer_types", "full"),
     ("architectures", 3), ("is_decoder", "true"), ("torch_dtype", {})],
)  # fmt: skip
def test_a_wrong_type_of_a_key_without_part_is_named(key: str, value: Any) -> None:
    assert key in str(refusal(small("mistral", **{key: value})))


@pytest.mark.parametrize(
    "change", [{"id2label": ["a"]}, {"id2label": {}}, {"num_labels": "7", "id2label": None},
               {"num_labels": 0, "id2label": None}],
)  # fmt: skip
def test_labels_of_a_wrong_type_are_named(change: dict[str, Any]) -> None:
    assert next(iter(change)) in str(refusal(small("vit", **change)))


@pytest.mark.parametrize("value", [["llama"], {}, 3, None, "\x1b[2J" * 999])
def test_a_model_type_of_a_wrong_type_is_named(value: Any) -> None:
    with pytest.raises(InputError, match="model_type") as caught:
        workload_from_config({"model_type": value})
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_windows_rotations_and_ties_have_no_part() -> None:
    plain = counted(small("mistral"))
    for change in ({"sliding_window": 5}, {"sliding_window": None}, {"tie_word_embeddings": True},
                   {"rope_scaling": {"type": "linear", "factor": 2.0}}, {"is_decoder": True},
                   {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
                   {"num_labels": 9}, {"use_cache": False}, {"output_attentions": True},
                   {"my_own_note": "x"}):  # fmt: skip
        assert counted(small("mistral", **change)) == plain, change


def test_remarks_name_what_is_not_counted() -> None:
    remarks = config_remarks(small("gpt2", attn_pdrop=0.1, my_own_note="x"))
    assert any("'my_own_note'" in text for text in remarks)
    assert any("attn_pdrop 0.1" in text for text in remarks)
    assert config_remarks(small("gpt2")) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=4,
)
KEYS = sorted({*PARTLESS, *ASSUMED, *READ_ELSEWHERE, *(k for t in TYPES for k in DEFAULTS[t])})


@settings(max_examples=150, deadline=None)
@given(
    model_type=st.sampled_from(TYPES),
    change=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=9), VALUES, max_size=4),
)
def test_whatever_the_values_the_answer_is_a_workload_or_a_refusal(
    model_type: str, change: dict[str, Any]
) -> None:
    config = {**small(model_type), **change, "model_type": model_type}
    try:
        work = counted(config)
    except InputError:
        return
    assert work.blocks >= 2
    assert all(text.isprintable() for text in config_remarks(config))
