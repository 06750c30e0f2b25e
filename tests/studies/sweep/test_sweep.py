"""Sweeps: what an axis may say, the cells it makes, resuming, files and figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import sftopt
from sftopt.core.errors import InputError, UnknownNameError
from sftopt.core.families import generate
from sftopt.studies.compare import Settings, compare_cell
from sftopt.studies.sweep import axis_of
from sftopt.studies.sweep.cells import Cells

BAND = "radio.uplink_bandwidth_hz"
SCHEMES = ["sft", "splitlora"]


def test_axes_say_their_values() -> None:
    assert axis_of("devices=4,10,30").values == (4, 10, 30)
    assert axis_of(f"{BAND}=5e6:20e6:3log").values == (5e6, 1e7, 2e7)
    assert axis_of(f"{BAND}=5e6:20e6:4lin").values == (5e6, 1e7, 1.5e7, 2e7)
    assert axis_of("devices=2:4:9lin").values == (2, 3, 4)
    assert axis_of("radio.power=psd,total").values == ("psd", "total")
    assert axis_of("accuracy.minimum_each=null,0.8").values == (None, 0.8)
    assert axis_of("scale:devices[*].memory_bytes=0.5,2").scales


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BAND, "write PATH=VALUES"),
        (f"{BAND}=5e6:20e6", "a range is LOW:HIGH:COUNTlog"),
        (f"{BAND}=0:20e6:3log", "must begin above 0"),
        (f"{BAND}=5:4:3lin", "does not rise"),
        (f"{BAND}=a:4:3lin", "'a' is no number"),
        (f"{BAND}=1:4:1lin", "2 to 1,000"),
        (f"{BAND}=5e6,5e6", "a value twice"),
        ("devices=0,4", "whole, from 1 on"),
        ("devices=2.5", "whole, from 1 on"),
        (f"devices+{BAND}=4,5", "stands alone"),
        ("scale:server.memory_bytes=a", "a number to multiply by"),
    ],
)
def test_axes_that_cannot_be(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("[", r"\[")):
        axis_of(text)


def cells(*texts: str, given: Any = "gpt2-e2e", seeds: int = 1) -> Cells:
    return Cells(given, [axis_of(text) for text in texts], seeds)


def made(of: Cells) -> list[sftopt.Instance]:
    return [of.instance(point) for point in of.points(0, 1)]


def test_cells_are_the_familys_with_the_edits_made() -> None:
    plain = generate("gpt2-e2e", 2, 0)
    one, two = made(cells("devices=2", f"{BAND}+radio.downlink_bandwidth_hz=5e6,8e6"))
    assert one.devices == plain.devices
    assert (one.radio.uplink_bandwidth_hz, one.radio.downlink_bandwidth_hz) == (5e6, 5e6)
    assert two.radio.downlink_bandwidth_hz == 8e6
    assert one.replace(**{
        BAND: plain.radio.uplink_bandwidth_hz,
        "radio.downlink_bandwidth_hz": plain.radio.downlink_bandwidth_hz,
    }).hash == plain.hash  # fmt: skip


def test_every_device_is_scaled_and_whole_fields_stay_whole() -> None:
    plain = generate("gpt2-e2e")
    half, _ = made(cells("scale:devices[*].memory_bytes=0.5,1"))
    assert [d.memory_bytes for d in half.devices] == [d.memory_bytes / 2 for d in plain.devices]
    steps = made(cells("training.local_steps=1:16:3log"))
    assert [one.training.local_steps for one in steps] == [1, 4, 16]


def test_paths_in_other_units_mean_the_same_cells(tmp_path: Path) -> None:
    """Values stand in rows and figures as they were written."""
    both = f"{BAND}+radio.downlink_bandwidth_hz"
    of = cells("radio.bandwidth_mhz=5,8", "devices[*].power_dbm=20", "server.memory_gib=4")
    si = cells(f"{both}=5e6,8e6", "devices[*].transmit_power_w=0.1", f"server.memory_bytes={2**32}")
    assert [one.hash for one in made(of)] == [one.hash for one in made(si)]
    assert of.axes[0].values == (5, 8)
    with pytest.raises(InputError, match="varied twice"):
        sftopt.sweep(
            "gpt2-e2e", {BAND: [5e6], "radio.bandwidth_mhz": [5]}, out=tmp_path / "o"
        )  # fmt: skip
    with pytest.raises(InputError, match="no field 'memory_xb'"):
        made(cells("server.memory_xb=4"))


def test_what_scales_with_the_number_of_devices_is_told() -> None:
    found = cells("devices=2,8", given="jetson-vit-b").scaling(0)
    assert "server.compute_flops_per_s" in found
    assert found["server.compute_flops_per_s"][0] < found["server.compute_flops_per_s"][1]
    assert cells(f"{BAND}=5e6,8e6").scaling(0) == {}


def test_what_is_set_or_varied_does_not_scale() -> None:
    """The note on what grows with N named the axes themselves."""
    axes = [axis_of("devices=2,8"), axis_of("server.compute_tflops=3,6")]
    found = Cells("jetson-vit-b", axes, 1, {"server.memory_gib": 8}).scaling(0)
    assert "server.compute_flops_per_s" not in found
    assert "server.memory_bytes" not in found
    assert "server.transmit_power_w" in found
    scaled = cells("devices=2,8", "scale:server.memory_bytes=0.5,2", given="jetson-vit-b")
    assert "server.memory_bytes" in scaled.scaling(0)


def test_what_is_set_holds_in_every_cell_in_the_units_written() -> None:
    of = Cells(
        "jetson-vit-b", [axis_of("devices=2,3")], 1,
        {"server.compute_tflops": 5, "devices[*].power_dbm": 20, "radio.bandwidth_mhz": 7},
    )  # fmt: skip
    for one in made(of):
        assert one.server.compute_flops_per_s == 5e12
        assert [d.transmit_power_w for d in one.devices] == pytest.approx([0.1] * len(one.devices))
        assert one.radio.uplink_bandwidth_hz == one.radio.downlink_bandwidth_hz == 7e6
    scaled = Cells("jetson-vit-b", [axis_of("scale:server.memory_bytes=0.5")], 1,
                   {"server.memory_gb": 4})  # fmt: skip
    assert made(scaled)[0].server.memory_bytes == 2e9


@pytest.mark.parametrize(
    ("axis", "fixed", "told"),
    [
        ("radio.bandwidth_mhz=5,8", {BAND: 5e6}, "is varied, and set by"),
        (f"{BAND}=5e6,8e6", {"devices": 8}, "--vary devices=8"),
        (f"{BAND}=5e6,8e6", {"server.memory_gb": 4, "server.memory_bytes": 4e9}, "set twice"),
        (f"{BAND}=5e6,8e6", {"server.memry_gb": 4}, "no field"),
        ("scale:devices[*].gain_db=2", {}, "decibels are not multiplied"),
    ],
)
def test_what_cannot_be_set(axis: str, fixed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        made(Cells("gpt2-e2e", [axis_of(axis)], 1, fixed))


def test_one_cell_has_no_other_seeds_or_numbers() -> None:
    with pytest.raises(InputError, match="a seed draws the devices of a family"):
        cells(f"{BAND}=5e6,8e6", given=generate("gpt2-e2e"), seeds=2)
    with pytest.raises(InputError, match="name a family to vary"):
        cells("devices=2,3", given=generate("gpt2-e2e"))


def test_bad_paths_and_schemes_are_told_before_the_work(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"did you mean .*uplink_bandwidth_hz"):
        sftopt.sweep("gpt2-e2e", {"radio.uplink_bandwith_hz": [5e6]}, out=out)
    with pytest.raises(InputError, match="uplink_bandwidth_hz"):
        sftopt.sweep("gpt2-e2e", {BAND: [5e6, -1.0]}, out=out)
    with pytest.raises(UnknownNameError, match="splitlora"):
        sftopt.sweep("gpt2-e2e", {BAND: [5e6]}, schemes=["splitlra"], out=out)
    with pytest.raises(InputError, match="varied twice"):
        sftopt.sweep("gpt2-e2e", {BAND: [5e6], f"{BAND}+radio.snr_gap": [5e6]}, out=out)
    assert not out.exists()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("sweep")
    found = sftopt.sweep(
        "gpt2-e2e", {BAND: [5e6, 2e7], "devices": [1, 2]}, schemes=SCHEMES, seeds=2, out=out
    )
    return out, found


def test_rows_are_those_of_compare(swept: tuple[Path, Any]) -> None:
    _, found = swept
    assert len(found.rows) == 8
    row = next(r for r in found.rows if r.values == {BAND: 2e7, "devices": 2} and r.seed == 1)
    cell = generate("gpt2-e2e", 2, 1).replace(**{BAND: 2e7})
    assert row.instance_hash == cell.hash
    own = compare_cell(cell, SCHEMES, Settings(60.0, 1e-4, 1))
    assert [one["round_s"] for one in row.schemes] == [one.round_s for one in own]
    spread = {(r[BAND], r["devices"], r["scheme"]): r for r in found.spread()}
    two = [r.schemes[0]["round_s"] for r in found.rows if r.values == row.values]
    mid = spread[2e7, 2, "sft"]
    assert (mid["least"], mid["most"]) == (min(two), max(two))
    assert mid["median"] == pytest.approx(math.fsum(two) / 2)


def test_a_torn_sweep_goes_on_and_ends_the_same(swept: tuple[Path, Any], tmp_path: Path) -> None:
    folder, found = swept
    lines = (folder / "rows.jsonl").read_text().splitlines()
    (tmp_path / "settings.json").write_text((folder / "settings.json").read_text())
    (tmp_path / "rows.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])
    asked = {BAND: [5e6, 2e7], "devices": [1, 2]}
    with pytest.raises(InputError, match="--resume"):
        sftopt.sweep("gpt2-e2e", asked, schemes=SCHEMES, seeds=2, out=tmp_path)
    with pytest.raises(InputError, match="other settings"):
        sftopt.sweep("gpt2-e2e", asked, schemes=["sft"], seeds=2, out=tmp_path, resume=True)
    again = sftopt.sweep("gpt2-e2e", asked, schemes=SCHEMES, seeds=2, out=tmp_path, resume=True)
    assert again.spread() == found.spread()
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    cells_there = [json.loads(line)["cell"] for line in lines]
    assert len(set(cells_there)) == len(cells_there) == 8


def test_figures_are_drawn_of_known_figures_only(swept: tuple[Path, Any], tmp_path: Path) -> None:
    _, found = swept
    found.plot(tmp_path / "a.png")
    found.plot(tmp_path / "a.pdf", "bytes.up")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UnknownNameError, match="round_s"):
        found.plot(metric="rounds_s")
    with pytest.raises(InputError, match="no format"):
        found.plot(tmp_path / "a.txt")
    assert repr(found) == f"Sweep(gpt2-e2e: {BAND} (2) x devices (2), 2 seeds, 8 cells, "\
        f"{len(found.schemes)} schemes)"  # fmt: skip
    assert len(found.to_dataframe()) == 8 * len(found.schemes)
