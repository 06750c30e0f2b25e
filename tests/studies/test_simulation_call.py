"""A simulation from Python: the command's figures, as one object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sftopt
from sftopt.core.errors import InputError
from sftopt.face.cli import main


def test_the_same_figures_as_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = sftopt.generate("tight-memory", 2, 0)
    made = sftopt.simulate(cell, 3, seed=5)
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(cell.to_dict()))
    words = ["simulate", str(path), "--rounds", "3", "--seed", "5", "--out", str(tmp_path / "run")]
    assert main([*words, "--no-plots", "--quiet", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["policies"] == made.summary["policies"]
    assert len(made.rows) == 3
    assert list(made.to_dataframe().columns)[:2] == ["frame", "status"]
    assert "3 rounds" in repr(made)
    assert "shares solved anew" in made._repr_html_()


def test_rows_are_kept_where_asked_and_a_run_goes_on(tmp_path: Path) -> None:
    cell = sftopt.generate("tight-memory", 2, 0)
    first = sftopt.simulate(cell, 2, out=tmp_path / "run")
    more = sftopt.simulate(cell, 3, out=tmp_path / "run", resume=True)
    assert more.rows[:2] == first.rows


def test_wrong_input_is_said() -> None:
    cell = sftopt.load("tight-memory")
    with pytest.raises(InputError, match="at least 1"):
        sftopt.simulate(cell, 0)
    with pytest.raises(InputError, match="channel"):
        sftopt.simulate(cell, 1, channel="rural")
    with pytest.raises(TypeError, match="scenarios"):
        sftopt.simulate(cell, scenario=3)  # type: ignore[call-arg]
