"""``sftopt compare`` and ``sftopt schemes``: JSON, tables, files and exit codes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.face.command_line import Run, Write, small_data

FAIR = ["one-for-all", "int8-best", "fp16-best"]


def test_json_holds_what_the_contract_says(run: Run, small: Path) -> None:
    ran = run("compare", small, "--schemes", "splitlora,card:w=0.5", "--json")
    assert ran.code == 0, ran.err
    assert ran.data["command"] == "compare"
    assert ran.data["reference_bits"] == 32
    rows = ran.data["schemes"]
    assert [row["scheme"] for row in rows] == ["sft", "splitlora", "card:w=0.5", *FAIR]
    for row in rows:
        assert set(row["parts"]) == {
            "device_s", "uplink_s", "server_s", "downlink_s", "adapters_s"
        }  # fmt: skip
        assert sum(row["parts"].values()) == pytest.approx(row["round_s"], rel=1e-9)
        assert {"up", "down", "adapters", "side"} <= set(row["bytes"])
        assert set(row["energy"]) == {"server_j", "device_j"}
        assert row["energy"]["server_j"] is None  # no coefficient is given
        assert {
            "refused", "ratio_to_sft", "device_memory_max_bytes", "devices_over",
            "server_memory_bytes", "radiated_w_max", "accuracy", "accuracy_slack", "plan",
        } <= set(row)  # fmt: skip
        assert row["plan"]["order"] == ("sequential" if "card" in row["scheme"] else "parallel")
    assert rows[0]["bound_s"] <= rows[0]["round_s"]


def test_a_plan_in_it_is_verified_like_any_other(run: Run, small: Path, write: Write) -> None:
    found = run("compare", small, "--schemes", "int8", "--json").data["schemes"]
    row = next(row for row in found if row["scheme"] == "int8")
    verified = run("verify", small, write("int8.json", row["plan"]), "--json")
    assert verified.code == 0, verified.err
    assert verified.data["objective_s"] == row["round_s"]


def test_tables_fit_and_name_refusals(run: Run, write: Write) -> None:
    data = small_data()
    data["devices"][0]["blocks_min"] = 2
    file = write("floor.json", data)
    ran = run("compare", file, "--schemes", "splitlora")
    assert ran.code == 0, ran.err
    assert "b_ref     32 bits" in ran.out
    assert "!splitlora" in ran.out
    assert "refused: splitlora: domain of dev0.blocks missed by 1 blocks" in ran.out
    assert "fp16-best: judged with b_ref 16 bits" in ran.out
    assert max(len(line) for line in ran.out.splitlines()) <= 80


def test_files_beside_the_tables(run: Run, small: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("png", "csv", "tex")}
    ran = run("compare", small, "--schemes", "sl", "--plot", files["png"], "--csv", files["csv"],
              "--latex", files["tex"])  # fmt: skip
    assert ran.code == 0, ran.err
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(files["csv"].read_text(encoding="utf-8").splitlines()))
    assert [row["scheme"] for row in rows] == ["sft", "sl", *FAIR]
    assert float(rows[1]["ratio_to_sft"]) > 1.0
    assert rows[3]["changes"] == ""  # dense8 is on offer
    text = files["tex"].read_text(encoding="utf-8")
    assert text.count(r" \\") == 6
    assert r"\toprule" in text


def test_what_cannot_be_written_is_told_before_the_work(
    run: Run, small: Path, tmp_path: Path
) -> None:
    assert run("compare", small, "--csv", tmp_path).code == 2
    ran = run("compare", small, "--schemes", "sl", "--plot", tmp_path / "out.docx")
    assert ran.code == 2
    assert "use .png, .pdf or .svg" in ran.err
    assert "schemes 1/" not in ran.err
    kept = small.read_bytes()
    assert run("compare", small, "--csv", small).code == 2
    assert small.read_bytes() == kept


def test_misuse_and_an_infeasible_cell(run: Run, small: Path, infeasible: Path) -> None:
    ran = run("compare", small, "--schemes", "splitlore")
    assert ran.code == 2
    assert "Did you mean 'splitlora'?" in ran.err
    assert run("compare", small, "--schemes", ",").code == 2
    ran = run("compare", infeasible, "--schemes", "splitlora", "--json")
    assert ran.code == 3
    assert "sft has no plan" in ran.data["error"]["message"]
    rows = {row["scheme"]: row for row in ran.data["schemes"]}
    assert rows["sft"]["round_s"] is None
    assert rows["splitlora"]["round_s"] > 0.0
    assert "accuracy missed by" in rows["splitlora"]["refused"]


def test_schemes_are_listed_with_their_rules(run: Run) -> None:
    found = {row["name"]: row for row in run("schemes", "--json").data["schemes"]}
    assert found["card"]["free"] == {"blocks": "cost", "server speed": "cost"}
    assert found["card"]["fixed"]["compression"] == "none"
    assert "2412.00090" in found["card"]["source"]
    assert {option["name"] for option in found["card"]["options"]} == {"w", "power"}
    assert [name for name, row in found.items() if row["fair_baseline"]] == FAIR
    shown = run("schemes")
    assert "SplitLoRA, arXiv 2407.00952" in shown.out
    assert max(len(line) for line in shown.out.splitlines()) <= 80


def test_progress_says_which_schemes_are_done(run: Run, small: Path) -> None:
    """On standard error; --quiet has none."""
    ran = run("compare", small, "--schemes", "splitlora", "--json")
    assert "schemes 5/5" in ran.err
    assert "schemes" not in run("compare", small, "--schemes", "splitlora", "--quiet").err


def test_a_figure_for_a_paper_leaves_its_notes_to_the_caption(
    run: Run, small: Path, tmp_path: Path
) -> None:
    asked = ("compare", small, "--schemes", "splitlora", "--no-baselines")
    ran = run(*asked, "--plot", tmp_path / "c.pdf", "--width", "column", "--json")
    assert ran.code == 0, ran.err
    assert [row["scheme"] for row in ran.data["schemes"]] == ["sft", "splitlora"]
    assert "for the caption: Parts of a parallel round" in ran.err
    assert b"/Type3" not in (tmp_path / "c.pdf").read_bytes()
    ran = run(*asked, "--plot", tmp_path / "d.pdf", "--width", "wide")
    assert ran.code == 2
    assert "column (3.5)" in ran.err
    assert not (tmp_path / "d.pdf").exists()
