"""Bad input: every fault at once, in the user's words; files are whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sftopt.core.errors import InputError
from sftopt.core.files import read_json, write_json, write_text
from sftopt.core.instance import Instance, parse_instance
from sftopt.core.parse import parse_model
from sftopt.core.plan import Plan
from tests.samples import sample_instance


def data() -> dict[str, Any]:
    return sample_instance(2, 1).to_dict()


def faults_of(bad: dict[str, Any]) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_instance(bad)
    return caught.value


def test_a_written_instance_reads_back_the_same() -> None:
    assert parse_instance(data()).hash == sample_instance(2, 1).hash


def test_all_faults_are_named_at_once_with_field_device_value_and_limit() -> None:
    bad = data()
    bad["devices"][1]["memory_bytes"] = -5
    bad["devices"][0]["batch"] = 0
    bad["radio"]["uplink_bandwith_hz"] = 1e6
    bad["server"]["compute_flops_per_s"] = "fast"
    del bad["workload"]["blocks"]
    error = faults_of(bad)
    fields = {(f.field, f.device) for f in error.faults}
    assert fields == {
        ("devices[1].memory_bytes", "dev1"),
        ("devices[0].batch", "dev0"),
        ("radio.uplink_bandwith_hz", None),
        ("server.compute_flops_per_s", None),
        ("workload.blocks", None),
    }
    (memory,) = [f for f in error.faults if f.field.endswith("memory_bytes")]
    assert (memory.value, memory.limit, memory.unit) == (-5, 0.0, "bytes")
    assert "did you mean 'uplink_bandwidth_hz'" in str(error)
    assert "device dev1: memory_bytes: is -5 bytes; it must be above 0.0 bytes" in str(error)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"devices": []}, "devices"),
        ({"schema_version": 7}, "schema_version is 7; this sftopt reads versions 1 and 2"),
        ({"schema_version": True}, "schema_version"),
        ({"surprise": 1}, "there is no such field"),
    ],
)
def test_top_level_faults(change: dict[str, Any], text: str) -> None:
    assert text in str(faults_of({**data(), **change}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0, None, "1", [1], True])
def test_values_that_are_no_bandwidth(value: Any) -> None:
    bad = data()
    bad["radio"]["uplink_bandwidth_hz"] = value
    assert faults_of(bad).faults[0].field == "radio.uplink_bandwidth_hz"


def test_whole_numbers_are_numbers() -> None:
    good = data()
    good["radio"]["uplink_bandwidth_hz"] = 4_000_000
    assert parse_instance(good).radio.uplink_bandwidth_hz == 4e6


def test_one_block_cannot_be_split() -> None:
    bad = data()
    bad["workload"]["blocks"] = 1
    assert "at least 2" in str(faults_of(bad))


def test_references_between_fields() -> None:
    bad = data()
    bad["devices"][1]["id"] = "dev0"
    bad["devices"][0]["weight"] = 0.9
    bad["devices"][0]["blocks_min"] = 12
    bad["accuracy"]["cut_factor"] = [1.0, 1.0]
    bad["compression"]["modes"].append(bad["compression"]["modes"][0])
    bad["compression"]["keep_min"] = 0.6
    bad["compression"]["keep_max"] = 0.5
    assert {f.field for f in faults_of(bad).faults} == {
        "devices.id",
        "devices.weight",
        "blocks_min",
        "accuracy.cut_factor",
        "compression.modes",
        "compression.keep_min",
    }


def test_a_very_faulty_file_is_summed_up_in_a_few_lines() -> None:
    bad = data()
    bad["devices"] = [{**bad["devices"][0], "id": f"d{n}", "batch": -1} for n in range(500)]
    error = faults_of(bad)
    assert len(error.faults) == 500
    assert len(str(error).splitlines()) < 20


def test_plan_values_out_of_range_are_left_to_the_judge() -> None:
    entry = {"id": "a", "blocks": 99, "mode": "topk", "bits": 4, "keep_fraction": 2.0,
             "uplink_share": -1.0, "downlink_share": 3.0}  # fmt: skip
    plan = parse_model(Plan, {"instance_hash": "x", "devices": [entry]}, "plan")
    assert plan.devices[0].blocks == 99
    with pytest.raises(InputError, match="blocks"):
        parse_model(Plan, {"instance_hash": "x", "devices": [{**entry, "blocks": 1.5}]}, "plan")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"name": "half \\ud800"}', "half a character"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "git lfs pull"),
        ('{"a": NaN}', "NaN is not a number JSON allows"),
        ('{"a": Infinity}', "Infinity"),
        ('{"a": 1e999}', "too large for a double"),
        ('{"a": 1, "a": 2}', "given twice"),
        ("[1]", "an object is needed"),
        ("[" * 100_000, "instance file"),
    ],
)
def test_files_that_are_no_instance(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_json(path, "instance")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_json(tmp_path / "none.json", "instance")
    with pytest.raises(InputError, match="is a folder"):
        read_json(tmp_path, "instance")
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_json(tmp_path / "b", "instance")


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    write_json(path, {"old": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_writing_to_a_full_device_or_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left"):
        write_text("/dev/full", "x" * 100_000)
    with pytest.raises(InputError, match="folder"):
        write_text(tmp_path, "x")


def test_written_files_are_readable_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "er" / "x.txt", "hello")
    assert (tmp_path / "deep" / "er" / "x.txt").stat().st_mode & 0o600 == 0o600


def test_the_published_schema_accepts_what_we_write() -> None:
    import jsonschema

    jsonschema.validate(data(), Instance.model_json_schema())
