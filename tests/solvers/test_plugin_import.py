"""Plug-ins that hang, exit or raise at import are named with the reason, and end nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftopt.core import plugin_import
from sftopt.core.errors import RefusedError
from sftopt.formulations import registry as formulation_registry
from sftopt.solvers import registry
from sftopt.solvers.run import list_solvers, solve
from tests.solvers.fakes import tiny

FAULTY = {
    "sleeps": ("import time\ntime.sleep(60)", "did not end within 0.5 s"),
    "leaves": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "ends": ("import os\nos._exit(7)", "its import ended the process"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "generator": ("raise GeneratorExit", "GeneratorExit"),
    "crashes": ("import os\nos.kill(os.getpid(), 9)", "its import ended the process"),
    "raises": ("raise ValueError('no licence')", "ValueError: no licence"),
    "empty": ("", "AttributeError"),
    "chatty": ("print('loud')\nraise ImportError('late')", "ImportError: late"),
    "forks": (
        "import subprocess, time\nsubprocess.Popen(['sleep', '60'])\ntime.sleep(60)",
        "did not end within",
    ),
}  # fmt: skip


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every faulty module is a solver and a formulation of third parties."""
    for name, (text, _) in FAULTY.items():
        (tmp_path / f"faulty_{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = {name: f"faulty_{name}" for name in FAULTY}
    monkeypatch.setattr(registry, "_third_party", lambda: points)
    monkeypatch.setattr(formulation_registry, "_third_party", lambda: points)
    monkeypatch.setattr(plugin_import, "IMPORT_S", 0.5)
    plugin_import.why_not_importable.cache_clear()


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("name", FAULTY)
def test_why_it_cannot_load_is_said(name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        registry.get_solver(name)
    assert str(caught.value).startswith(f"solver '{name}' (a plug-in) cannot load: ")
    assert FAULTY[name][1] in str(caught.value)
    with pytest.raises(RefusedError, match=f"formulation '{name}'"):
        formulation_registry.get_formulation(name)


@pytest.mark.usefixtures("plugins")
def test_the_list_and_a_plan_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in list_solvers()["solvers"]}
    for name, (_, reason) in FAULTY.items():
        assert not rows[name]["available"]
        assert reason in rows[name]["reason"]
    assert rows["constructive"]["available"]
    assert solve(tiny(), formulation="joint-relaxed", solver="constructive").message
    assert "loud" not in capfd.readouterr().out


def test_a_plug_in_that_says_too_little_of_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty_bare.py").write_text("class SOLVER:\n    name = 'bare'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_third_party", lambda: {"bare": "faulty_bare"})
    with pytest.raises(RefusedError, match="lacks kind, honours, summary"):
        registry.get_solver("bare")
