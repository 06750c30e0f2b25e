"""Pages of cells and plans: whole, no network, no script, names from files as text alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from tests.face.command_line import Run

VOID = {"meta", "link", "br", "use"}
"""Elements without an end."""


class Checked(HTMLParser):
    """Every element that begins also ends, and nothing is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.headings = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.headings += tag in ("h1", "h2")
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not str(value).startswith(("#", "data:")):
                self.loaded.append(f"{tag} {value}")
        if tag == "script":
            self.loaded.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def checked(path: Path) -> tuple[str, Checked]:
    text = path.read_text(encoding="utf-8")
    found = Checked()
    found.feed(text)
    assert found.open == []
    assert found.loaded == []
    assert '<meta name="viewport"' in text
    return text, found


def test_a_plan_with_a_page(run: Run, small: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    ran = run("plan", small, "--report", page, "--quiet", "--json")
    assert ran.code == 0
    assert ran.data["report_file"] == str(page)
    text, found = checked(page)
    assert found.headings == 5
    assert text.count('<svg role="img"') == 3
    for device in ran.data["plan"]["devices"]:
        assert f"<td>{device['id']}</td>" in text
    assert f"{ran.data['objective_s']:.5g}" in re.sub(r"<[^>]+>", "", text)


def test_a_cell_with_a_page(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "cell.html"
    assert run("instance", "show", "infeasible", "--report", page).code == 0
    text, _ = checked(page)
    assert "Each of these stands in the way" in text
    assert "privacy floor" in text


def test_names_from_files_are_text_alone(run: Run, tmp_path: Path) -> None:
    cell, page = tmp_path / "cell.json", tmp_path / "cell.html"
    name = 'name=<script>alert(1)</script>"&'
    assert run("instance", "set", "tight-memory", name, "--out", cell).code == 0
    assert run("instance", "show", cell, "--report", page).code == 0
    text, _ = checked(page)
    assert "<script" not in text


def test_a_page_never_replaces_an_input(run: Run, small: Path) -> None:
    before = small.read_bytes()
    assert run("plan", small, "--report", small).code == 2
    assert run("instance", "show", small, "--report", small).code == 2
    assert small.read_bytes() == before


def test_without_a_plan_there_is_no_page(run: Run, infeasible: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    ran = run("plan", infeasible, "--report", page, "--json")
    assert ran.code == 3
    assert ran.data["report_file"] is None
    assert not page.exists()


def test_rows_of_a_plan(run: Run, small: Path, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    ran = run("plan", small, "--table", table, "--quiet", "--json")
    lines = table.read_text().splitlines()
    assert len(lines) == 1 + len(ran.data["plan"]["devices"])
    assert {"id", "blocks", "uplink_share", "s1_s", "memory_bytes"} <= set(lines[0].split(","))
    refused = run("plan", small, "--table", tmp_path / "rows.xlsx")
    assert refused.code == 2
    assert ".parquet" in refused.err
