"""Measured channels: round trip, and every fault named with its place."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from sftopt.core.channel_models import ChannelModel, SimulatedChannel
from sftopt.core.errors import InputError
from sftopt.core.instance import Instance
from sftopt.studies.traces import read_trace, write_trace
from tests.samples import sample_instance

HEAD = "round,device,gain_db\n"


@pytest.mark.parametrize("name", ["trace.csv", "trace.parquet"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    instance = sample_instance(3, 1)
    source = SimulatedChannel(ChannelModel(), 4)
    write_trace(tmp_path / name, instance, source, 5, 5)
    back = read_trace(tmp_path / name)
    pairs = zip(source.samples(instance, 5, 5), back.samples(instance, 5, 5), strict=True)
    for drawn, read in pairs:
        np.testing.assert_allclose(drawn.channel.uplink_gain, read.channel.uplink_gain, rtol=1e-12)
        np.testing.assert_allclose(
            drawn.channel.downlink_gain, read.channel.downlink_gain, rtol=1e-12
        )


def test_a_frames_statistics_are_the_mean_of_its_rounds(tmp_path: Path) -> None:
    instance = sample_instance(2, 1)
    first, second = (device.id for device in instance.devices)
    rows = [f"{r},{d},{g}" for r, g in ((7, -90), (8, -80)) for d in (second, first)]
    (tmp_path / "t.csv").write_text(HEAD + "\n".join(rows) + "\n")
    samples = list(read_trace(tmp_path / "t.csv").samples(instance, 2, 2))
    assert [sample.round for sample in samples] == [0, 1]
    np.testing.assert_allclose(samples[0].uplink_mean_gain, 0.5 * (1e-9 + 1e-8))
    np.testing.assert_allclose(samples[0].channel.uplink_gain, 1e-9)
    np.testing.assert_array_equal(samples[1].channel.downlink_gain, samples[1].channel.uplink_gain)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("round,device,gain\n0,a,-90\n", "no column 'gain_db'"),
        ("round,device,gain_db,snr\n0,a,-90,3\n", "nobody reads: 'snr'"),
        (HEAD, "no rows"),
        (HEAD + "0,a,-90\n1,b,-90\n", "no gain for round 0, device 'b'"),
        (HEAD + "0,a,-90\n0,a,-91\n", "more than one gain for round 0, device 'a'"),
        (HEAD + "0,a,-90\n2,a,-90\n", "no gain for round 1"),
        (HEAD + "0,a,-900\n", "between -250 and 30"),
        (HEAD + "0,a,\n", "gain_db is None"),
        (HEAD + "0,a,1e-9\n0,b,2e-10\n", "look like linear gains"),
        (HEAD + "0.5,a,-90\n", "round is 0.5"),
        (HEAD + "-1,a,-90\n", "round is -1"),
        ("round,device,gain_db,link\n0,a,-90,sideways\n", "link 'sideways'"),
        ("round,device,gain_db\n0,a\n", "cannot be read as CSV"),
        ("round;device;gain_db\n0;a;-97,5\n", "semicolons as the separator"),
        ("round\tdevice\tgain_db\n0\ta\t-97\n", "tabs as the separator"),
        ("round,device,gain_db,gain_db\n0,a,-90,-91\n", "the column 'gain_db' more than once"),
        (HEAD + "0,a,-90\n" + HEAD + "1,a,-90\n", r"row 2: round is 'round' \(the header line"),
        (HEAD + "0,a,-90\n9223372036854775808,a,-90\n", "row 2: round is 9.2.*less than 9007"),
        (HEAD + "0,a,-90\n1e300,a,-90\n", "row 2: round is 1e.300"),
        (HEAD + "0,a,-90\ninf,a,-90\n", "row 2: round is inf"),
        (HEAD + "0,a,-90\n1,a,-90\n100000000,a,-90\n", "round runs from 0 to 100000000, and only"),
        (
            HEAD + "".join(f"{1639755 + 3 * n}000000000,a,-90\n" for n in range(4)),
            "are no such",
        ),
        (HEAD.replace("round", "round,block") + "0,1000000000,a,-90\n", "block runs from 0 to"),
        (HEAD + "0,a,1e-9\n0,b,2e-10\n1,a,5\n1,b,1e-9\n2,a,2e-9\n2,b,1e-9\n", "device 'a' is typ"),
        (HEAD + "0,a,nan\n", "gain_db is"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_trace(tmp_path / "t.csv")


def test_missing_files_devices_and_rounds_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_trace(tmp_path / "none.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(InputError, match="as Parquet"):
        read_trace(tmp_path / "bad.parquet")
    instance = sample_instance(2, 1)
    (tmp_path / "t.csv").write_text(HEAD + f"0,{instance.devices[0].id},-90\n")
    with pytest.raises(InputError, match=instance.devices[1].id):
        next(read_trace(tmp_path / "t.csv").samples(instance, 1, 1))
    both = "".join(f"0,{device.id},-90\n" for device in instance.devices)
    (tmp_path / "t.csv").write_text(HEAD + both)
    with pytest.raises(InputError, match="holds 1 rounds; 9 are asked"):
        next(read_trace(tmp_path / "t.csv").samples(instance, 9, 1))


def test_a_folder_is_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a plain file"):
        read_trace(tmp_path)


HARD_IDS = [
    ["001", "002", "003"], ["1.10", "1.20", "2.10"], ["12:34", "12:35", "12:36"],
    ["null", "NA", "nan"], ["490154203237518", "990000862471854", "1e5"], ["true", "false", "yes"],
    ["2024-01-01", "inf", "-0"], ["a,b", 'say "x"', "two\nlines"], [" a", "a ", "é\u2028"],
]  # fmt: skip


@pytest.mark.parametrize("name", ["trace.csv", "trace.parquet"])
@pytest.mark.parametrize("ids", HARD_IDS)
def test_ids_are_text_whatever_they_look_like(tmp_path: Path, ids: list[str], name: str) -> None:
    data = sample_instance(3, 1).to_dict()
    for device, new in zip(data["devices"], ids, strict=True):
        device["id"] = new
    instance = Instance.model_validate(data)
    write_trace(tmp_path / name, instance, SimulatedChannel(ChannelModel(), 4), 2, 2)
    back = read_trace(tmp_path / name)
    assert back.ids == tuple(ids)
    assert len(list(back.samples(instance, 2, 2))) == 2


def columns(**change: Any) -> dict[str, Any]:
    return {"round": [0, 0], "device": ["a", "b"], "gain_db": [-90, -80], **change}


@pytest.mark.parametrize(
    "table",
    [
        pa.table(columns(gain_db=pa.array([Decimal(-90), Decimal(-80)], pa.decimal128(5, 2)))),
        pa.table(columns(gain_db=pa.array([-90, -80], pa.float32()))),
        pa.table(columns(device=pa.array(["a", "b"]).dictionary_encode())),
        pa.table(columns(round=pa.array([0, 0], pa.uint64()), __index_level_0__=[5, 6])),
    ],
    ids=["decimal", "float32", "dictionary", "pandas index"],
)
def test_parquet_types_of_other_programs_are_read(tmp_path: Path, table: pa.Table) -> None:
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    back = read_trace(tmp_path / "t.parquet")
    assert back.ids == ("a", "b")
    np.testing.assert_allclose(back.uplink_gain[0, :, 0], [1e-9, 1e-8], rtol=1e-6)


def test_a_device_the_instance_does_not_have_is_named(tmp_path: Path) -> None:
    instance = sample_instance(2, 1)
    names = [*(device.id for device in instance.devices), "stranger"]
    (tmp_path / "t.csv").write_text(HEAD + "".join(f"0,{name},-90\n" for name in names))
    with pytest.raises(InputError, match="'stranger', which instance"):
        list(read_trace(tmp_path / "t.csv").samples(instance, 1, 1))


def test_gains_are_no_decibel_where_the_cells_own_are_far_below(tmp_path: Path) -> None:
    """Linear gains on another scale, or losses with the sign dropped: never below 0."""
    instance = sample_instance(2, 1)
    names = [device.id for device in instance.devices]
    (tmp_path / "t.csv").write_text(
        HEAD + "".join(f"{r},{name},0.02\n" for r in range(3) for name in names)
    )
    with pytest.raises(InputError, match=r"typically 0\.02.*10 log10"):
        list(read_trace(tmp_path / "t.csv").samples(instance, 1, 1))
    data = instance.to_dict()
    for device in data["devices"]:
        device["uplink_gain"] = device["downlink_gain"] = 1.0
    near = Instance.model_validate(data)
    assert len(list(read_trace(tmp_path / "t.csv").samples(near, 3, 1))) == 3
    write_trace(tmp_path / "own.csv", near, SimulatedChannel(ChannelModel(), 4), 3, 3)
    assert len(list(read_trace(tmp_path / "own.csv").samples(near, 3, 3))) == 3


def test_a_name_that_says_nothing_is_refused_before_the_work(tmp_path: Path) -> None:
    """A name that ended in .xlsx held CSV."""
    near = sample_instance()
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        write_trace(tmp_path / "own.xlsx", near, SimulatedChannel(ChannelModel(), 4), 3, 3)
    assert not list(tmp_path.iterdir())
