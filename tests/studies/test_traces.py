"""Measured channels: round trip, and every fault named with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sftopt.core.channel_models import ChannelModel, SimulatedChannel
from sftopt.core.errors import InputError
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
