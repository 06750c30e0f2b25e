"""Devices from CSV tables: units in headers, defaults that are said, every fault named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftopt.core.device_gains import Propagation
from sftopt.core.device_table import DeviceTable, read_device_table
from sftopt.core.errors import InputError
from sftopt.core.instance import Device, Radio
from sftopt.core.path_loss import URBAN_MICRO
from sftopt.core.unit_suffixes import in_si, spellings

HEAD = "id,compute_tflops,memory_gb,power_dbm,gain_db,batch,weight\n"


def read(tmp_path: Path, text: str, propagation: Propagation | None = None) -> DeviceTable:
    path = tmp_path / "devices.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_device_table(path, propagation)


def test_units_become_si(tmp_path: Path) -> None:
    made = read(tmp_path, HEAD + "a,1.5,8,23,-100,16,0.25\nb,0.5,4,20,-90,8,0.75\n")
    first, second = (Device.model_validate(one) for one in made.devices)
    assert first.compute_flops_per_s == pytest.approx(1.5e12, rel=1e-15)
    assert first.memory_bytes == 8e9
    assert first.transmit_power_w == pytest.approx(0.19952623149688797, rel=1e-12)
    assert first.uplink_gain == pytest.approx(1e-10, rel=1e-12)
    assert (second.batch, second.weight, second.downlink_gain) == (8, 0.75, None)
    assert [note.split(" where")[0] for note in made.notes] == ["blocks_min 0"]


@pytest.mark.parametrize(
    ("header", "value", "field", "si"),
    [
        ("compute_gflops", "800", "compute_flops_per_s", 8e11),
        ("compute_flops_per_s", "8e11", "compute_flops_per_s", 8e11),
        ("Memory_GiB", "2", "memory_bytes", 2.0**31),
        ("memory MB", "500", "memory_bytes", 5e8),
        ("power_mw", "200", "transmit_power_w", 0.2),
        ("transmit_power_dbm", "30", "transmit_power_w", 1.0),
        ("path_loss_db", "95", "uplink_gain", 10.0**-9.5),
        ("gain", "1e-9", "uplink_gain", 1e-9),
        ("codec_ns_per_element", "3", "codec_s_per_element", 3e-9),
    ],
)
def test_every_way_to_write_a_quantity(
    tmp_path: Path, header: str, value: str, field: str, si: float
) -> None:
    columns = {"compute_tflops": "1", "memory_gb": "8", "gain_db": "-90", "power_w": "0.1"}
    kin = {"compute": "compute_tflops", "memory": "memory_gb", "power": "power_w",
           "transmit": "power_w", "path": "gain_db", "gain": "gain_db"}  # fmt: skip
    columns.pop(kin.get(header.lower().replace(" ", "_").split("_")[0], ""), None)
    columns[header] = value
    made = read(tmp_path, ",".join(columns) + "\n" + ",".join(columns.values()) + "\n")
    assert made.devices[0][field] == pytest.approx(si, rel=1e-12)


@given(st.sampled_from([*Device.model_fields, *Radio.model_fields]), st.floats(1e-3, 1e3))
def test_every_spelling_leads_back_to_its_field(field: str, value: float) -> None:
    fields = {*Device.model_fields, *Radio.model_fields}
    for name in spellings(field):
        meant = in_si(name, fields)
        assert meant is not None
        assert meant[0] == field
        assert meant[1](value) > 0.0


def test_counts_samples_and_defaults(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        "id,count,compute_tflops,memory_gb,gain_db,samples,bandwidth_mhz\n"
        "phone,3,1,6,-95,100,20\ntablet,0,1,6,-95,100,20\nlaptop,1,3,16,-90,500,\n",
    )
    assert [one["id"] for one in made.devices] == ["phone-1", "phone-2", "phone-3", "laptop"]
    assert [one["weight"] for one in made.devices] == [0.125, 0.125, 0.125, 0.625]
    assert made.cell == {"radio.uplink_bandwidth_hz": 2e7, "radio.downlink_bandwidth_hz": 2e7}
    assert {one["batch"] for one in made.devices} == {16}
    assert [note.split(" where")[0] for note in made.notes] == [
        "batch 16",
        "transmit power 0.2 W (23 dBm)",
        "blocks_min 0",
    ]


def test_a_table_of_spreadsheets(tmp_path: Path) -> None:
    """Byte order mark, line ends of Windows, quoted cells, comments, empty lines."""
    text = (
        '\ufeff# a comment\r\nid,kind,compute_tflops,memory_gb,gain_db\r\n\r\n"a, b",x,1,8,-90\r\n'
    )
    made = read(tmp_path, text)
    assert made.devices[0]["id"] == "a, b"


def test_gains_from_positions_fall_with_the_distance(tmp_path: Path) -> None:
    rows = "compute_tflops,memory_gb,x_m,y_m\n" + "".join(f"1,8,{x},0\n" for x in (20, 60, 200))
    propagation = Propagation(URBAN_MICRO, 3.5e9, 0.0)
    made = read(tmp_path, rows, propagation)
    gains = [one["uplink_gain"] for one in made.devices]
    assert gains == sorted(gains, reverse=True)
    assert made.devices[1]["position_m"] == [60.0, 0.0]
    # 20 m, almost surely in sight: 32.4 + 21 log10(d_3D) + 20 log10(3.5) of table 7.4.1-1
    sight = 32.4 + 21.0 * math.log10(math.hypot(20.0, 8.5)) + 20.0 * math.log10(3.5)
    assert -10.0 * math.log10(gains[0]) == pytest.approx(sight, abs=0.2)
    with pytest.raises(InputError, match=r"lines 2, 3, 4: a position.*--path-loss umi"):
        read(tmp_path, rows)


def test_lines_are_those_of_the_file_and_named_once(tmp_path: Path) -> None:
    """Comments and empty lines count; a fault that all rows share is one fault."""
    text = "# one\ncompute_tflops,memory_gb,gain_db\n\n# two\n1,8,-90\n1,x,-90\n"
    with pytest.raises(InputError, match="line 6: memory_gb is 'x'"):
        read(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read(tmp_path, "compute_tflops,memory_gb\n" + "1,8\n" * 12)
    (fault,) = caught.value.faults
    assert fault.message.startswith("lines 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more: no gain")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs a header"),
        ("id,compute_tflops\n", "at least one row"),
        ("id;compute_tflops\na;1\n", "no commas between columns"),
        ("id,compute_tfops,memory_gb,gain_db\na,1,8,-90\n", "'compute_tfops' is not known"),
        ("compute_tflops,compute_gflops,memory_gb,gain_db\n1,1,8,-90\n", "the same thing twice"),
        ("gain_db,uplink_gain_db,compute_tflops,memory_gb\n-1,-1,1,8\n", "gain for both links"),
        ("compute_tflops,memory_gb,gain_db\n1,x,-90\n", "line 2: memory_gb is 'x'"),
        ('compute_tflops,memory_gb,gain_db\n"1,5",8,-90\n', "decimals need a point"),
        ("compute_tflops,memory_gb,gain_db\n1,8,90\n", "gain_db is 90; a link's gain is at most 0"),
        ("compute_tflops,memory_gb,path_loss_db\n1,8,-90\n", "gain_db is 90; a link's gain is"),
        ("compute_tflops,memory_gb,gain_db\n1,nan,-90\n", "no finite number"),
        ("compute_tflops,memory_gb,gain_db\n1,1e999,-90\n", "no finite number"),
        ("compute_tflops,memory_gb,gain_db,batch\n1,8,-90,1.5\n", "a whole number is needed"),
        ("compute_tflops,memory_gb,gain_db\n1,8,-90,7\n", "has 4 cells, the header 3"),
        ("compute_tflops,gain_db\n1,-90\n", "memory_bytes is missing; give a column memory_gb"),
        ("compute_tflops,memory_gb\n1,8\n", "no gain; give a column gain_db"),
        ("compute_tflops,memory_gb,x_m\n1,8,5\n", "both x_m and y_m"),
        ("compute_tflops,memory_gb,gain_db,count\n1,8,-90,100001\n", "devices at most"),
        ("compute_tflops,memory_gb,gain_db,count\n1,8,-90,0\n", "makes no device"),
        ("compute_tflops,memory_gb,gain_db,count\n1,8,-90,-3\n", "count -3"),
        ("compute_tflops,memory_gb,gain_db,samples\n1,8,-90,\n1,8,-90,4\n", "samples must be"),
        ("compute_tflops,memory_gb,gain_db,bandwidth_mhz\n1,8,-90,5\n1,8,-90,6\n", "has one value"),
        ('compute_tflops,memory_gb,gain_db\n"1,8,-90\n', "cannot be read as CSV"),
    ],
)  # fmt: skip
def test_faults_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


def test_all_faults_of_a_table_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, "compute_tflops,memory_gb,gain_db\nx,8,-90\n1,y,-90\n1,8,z\n")
    assert [fault.field for fault in caught.value.faults] == [
        "compute_tflops",
        "memory_gb",
        "gain_db",
    ]
