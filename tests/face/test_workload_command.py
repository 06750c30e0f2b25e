"""sftopt workload: what it refuses, and what it says beside its answer."""

from __future__ import annotations

from pathlib import Path

import pytest

import sftopt
from sftopt.core.errors import InputError
from tests.face.command_line import Run, Write

LLAMA = {
    "model_type": "llama", "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 200, "vocab_size": 97,
    "max_position_embeddings": 64, "torch_dtype": "float16",
}  # fmt: skip
"""A file that a 16-bit model was saved with."""


def test_the_command_refuses_and_remarks(run: Run, write: Write, tmp_path: Path) -> None:
    half = write("half.json", LLAMA)
    words = ["workload", "--from-config", half, "--tokens", "9", "--json"]
    assert run(*words).code == 2
    ran = run(*words, "--dtype-bits", "16")
    assert ran.code == 0
    assert ran.data["workload"]["reference_bits"] == 16
    (tmp_path / "huge.json").write_text('{"model_type": "vit", "hidden_size": 1e309}')
    ran = run("workload", "--from-config", tmp_path / "huge.json")
    assert ran.code == 2
    assert "Traceback" not in ran.err
    bare = run("workload", "--from-config", write("bare.json", {"model_type": "vit"}), "--json")
    assert bare.code == 0
    assert "hidden_size 768" in bare.err
    assert bare.data["remarks"]


def test_a_quantised_file_is_refused(run: Run, write: Write) -> None:
    config = {**LLAMA, "quantization_config": {"bits": 4, "quant_method": "gptq"}}
    ran = run("workload", "--from-config", write("gptq.json", config), "--tokens", "9",
              "--dtype-bits", "16", "--json")  # fmt: skip
    assert ran.code == 2
    assert [fault["field"] for fault in ran.data["error"]["faults"]] == ["quantization_config"]
    assert "take the key out of a copy" in ran.err


def test_a_misspelt_setting_is_told_with_the_nearest_name() -> None:
    with pytest.raises(TypeError, match=r"workload\(\) has no argument 'rank'.*'lora_rank'"):
        sftopt.workload({"model_type": "vit"}, rank=4)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="lora_rank: is 0"):
        sftopt.workload({"model_type": "vit"}, lora_rank=0)


@pytest.mark.train
def test_a_model_without_a_formula_is_counted(run: Run, write: Write) -> None:
    config = {key: value for key, value in LLAMA.items() if key != "torch_dtype"}
    qwen = write("qwen3.json", {**config, "model_type": "qwen3", "head_dim": 12})
    ran = run("workload", "--from-config", qwen, "--tokens", "9", "--json")
    assert ran.code == 0
    assert ran.data["workload"]["model_type"] == "qwen3"
    assert ran.data["workload"]["block_forward_flops"] > 0
    assert "counted" in ran.data["remarks"][0]
    asked = {**config, "model_type": "qwen3", "head_dim": 12}
    made = sftopt.workload(asked, tokens=9)
    assert made.model_dump(mode="json") == ran.data["workload"], "Python and command line agree"
    less = sftopt.workload(config=asked, tokens=9, lora_rank=4, adapter_targets=["o_proj"])
    assert less.lora_rank == 4
    assert 2.0 * less.adapter_parameters_per_rank == pytest.approx(
        made.adapter_parameters_per_rank * (48 + 48) * 2 / (48 + 48 + 48 + 24)
    )
    headed = {**config, "architectures": ["LlamaForSequenceClassification"], "pad_token_id": 0}
    counted = sftopt.workload(headed, tokens=9, labels=3)
    plain = sftopt.workload(config, tokens=9)
    assert counted.head_parameters == 3 * 48, "a classifier in place of words"
    assert counted.block_forward_flops == pytest.approx(plain.block_forward_flops, rel=1e-6)
    own = {**config, "architectures": ["OwnForSequenceClassification"]}
    with pytest.raises(InputError, match="OwnForSequenceClassification"):
        sftopt.workload(own, tokens=9)
    t5 = run("workload", "--from-config", write("t5.json", {"model_type": "t5"}), "--tokens", "9")
    assert t5.code == 2
    assert "Traceback" not in t5.err
