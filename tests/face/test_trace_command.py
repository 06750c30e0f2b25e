"""``sftopt trace``: tables of measurements become what simulate reads, as they are declared."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from tests.face.command_line import Run

WIDE = """time_s,a,b
10.0,-90,
10.4,-91,-100
11.5,-92,-101
12.6,-93,-102
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wide.csv").write_text(WIDE)


def traced(run: Run, file: str, *options: Any) -> dict[tuple[int, str], float]:
    ran = run("trace", file, *options, "--out", "t.csv")
    assert ran.code == 0, ran.err
    rows = csv.DictReader(Path("t.csv").read_text().splitlines())
    return {(int(row["round"]), row["device"]): float(row["gain_db"]) for row in rows}


TIMED = ("--time-column", "time_s", "--round-s", 1)
BOTH = ("--device", "dev01=a", "--device", "dev02=b")


def test_held_measurements_are_the_last_before_each_round(run: Run) -> None:
    """Rounds begin at 10.4 s, when both devices have been measured."""
    found = traced(run, "wide.csv", "--values", "gain-db", *BOTH, *TIMED)
    assert found == {
        (0, "dev01"): -91.0, (0, "dev02"): -100.0,
        (1, "dev01"): -91.0, (1, "dev02"): -100.0,
        (2, "dev01"): -92.0, (2, "dev02"): -101.0,
    }  # fmt: skip
    ran = run("trace", "wide.csv", "--values", "gain-db", *BOTH, *TIMED, "--out", "t.csv", "--json")
    assert (ran.data["rounds"], ran.data["measurements"]) == (3, 7)
    assert ran.data["longest_held_s"] == pytest.approx(1.0)


def test_means_are_of_linear_gains(run: Run) -> None:
    found = traced(run, "wide.csv", "--values", "gain-db", "--device", "x=a", *TIMED,
                   "--resample", "mean")  # fmt: skip
    mean = 10.0 * math.log10((10.0**-9.0 + 10.0**-9.1) / 2.0)
    assert found[0, "x"] == pytest.approx(mean, rel=1e-12)
    assert found[1, "x"] == pytest.approx(-92.0, rel=1e-12)


def test_losses_and_linear_gains_as_declared(run: Run) -> None:
    Path("loss.csv").write_text("n,a\n0,90\n1,100\n")
    numbered = ("--round-column", "n", "--device", "dev01=a")
    assert list(traced(run, "loss.csv", "--values", "loss-db", *numbered).values()) == [-90, -100]
    Path("linear.csv").write_text("n,a\n0,1e-9\n1,1e-10\n")
    assert list(traced(run, "linear.csv", "--values", "linear", *numbered).values()) == (
        pytest.approx([-90.0, -100.0], rel=1e-12)
    )
    ran = run("trace", "loss.csv", "--values", "gain-db", *numbered, "--out", "t.csv")
    assert ran.code == 2
    assert "row 1: a is 90; as gain-db it is no gain" in ran.err


def test_long_tables_with_dates(run: Run) -> None:
    Path("long.csv").write_text(
        "when,who,db\n2026-05-01T12:00:00,p,-90\n2026-05-01T12:00:00,q,-95\n"
        "2026-05-01T12:00:00,other,-50\n2026-05-01T12:00:10,q,-96\n2026-05-01T12:00:10,p,-91\n"
    )
    found = traced(
        run, "long.csv", "--values", "gain-db", "--device", "dev01=p", "--device", "dev02=q",
        "--device-column", "who", "--value-column", "db", "--time-column", "when",
        "--time-unit", "iso", "--round-s", 10,
    )  # fmt: skip
    assert found == {
        (0, "dev01"): -90.0, (0, "dev02"): -95.0, (1, "dev01"): -91.0, (1, "dev02"): -96.0
    }  # fmt: skip


def test_what_comes_out_is_simulated(run: Run, small: Path) -> None:
    import sftopt

    ids = [device.id for device in sftopt.load(str(small)).devices]
    lines = [",".join(["t", *ids])]
    lines += [",".join([str(at), *(f"{-90 - at - n}" for n in range(len(ids)))]) for at in range(3)]
    Path("m.csv").write_text("\n".join(lines) + "\n")
    devices = [word for name in ids for word in ("--device", f"{name}={name}")]
    traced(run, "m.csv", "--values", "gain-db", *devices, "--time-column", "t", "--round-s", 1)
    ran = run("simulate", small, "--rounds", 3, "--trace", "t.csv", "--no-clairvoyant",
              "--no-plots", "--quiet", "--out", "run")  # fmt: skip
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "dev01=a"), "--round-column, or --time-column"),
        (("--device", "dev01=a", "--time-column", "time_s"), "--time-column needs --round-s"),
        (("--device", "dev01", *TIMED), "write ID=NAME"),
        (("--device", "x=a", "--device", "y=a", *TIMED), "mapped to two devices"),
        (("--device", "x=c", *TIMED), "has no column 'c'; it has 'time_s', 'a', 'b'"),
        (("--device", "x=a", "--device-column", "a", *TIMED), "has both --device-column and"),
        ((*BOTH, "--time-column", "time_s", "--round-s", 0.1, "--resample", "mean"),
         "no measurement of device 'dev02' within round 0"),
        ((*BOTH, *TIMED, "--time-unit", "iso"), "no time of ISO 8601"),
        ((*BOTH, "--round-column", "time_s"), "is no whole number"),
        ((*BOTH, *TIMED, "--resample", "holt"), "hold"),
    ],
)  # fmt: skip
def test_what_is_left_open_or_wrong_is_named(run: Run, options: tuple[Any, ...], said: str) -> None:
    ran = run("trace", "wide.csv", "--values", "gain-db", *options, "--out", "t.csv")
    assert ran.code == 2
    assert said in " ".join(ran.err.split())
    assert not Path("t.csv").exists()
