"""The report of a race: words, tables, pictures, the page and how it stands in a browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from sftopt.face.plots.race import draw, profile_figure
from sftopt.face.plots.race_page import page
from sftopt.solvers.run import solve
from sftopt.studies.race.checks import find_wrong
from sftopt.studies.race.folder import Folder
from sftopt.studies.race.history import history_of
from sftopt.studies.race.insights import insights
from sftopt.studies.race.report import markdown, write_tables
from sftopt.studies.race.row import RaceRow, latest
from sftopt.studies.race.suite import load_suite
from tests.samples import sample_instance
from tests.studies.race.made_up import row

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def folder_of(rows: list[RaceRow], missing: int = 0) -> Folder:
    keys = [one.key for one in rows] + [f"missing-{number}" for number in range(missing)]
    planned = [{"key": key, "name": key} for key in keys]
    return Folder(Path("made-up"), load_suite("smoke"), planned, rows)


def a_race(instances: int = 22) -> list[RaceRow]:
    """certify proves everything, SCIP half of it, a heuristic is off, one solver is refused."""
    rows = []
    for number in range(instances):
        name = f"cell{number:05d}"
        common: dict[str, Any] = {
            "devices": (2, 3, 5)[number % 3],
            "context": {"machine": {"reference_s": 0.01 + 1e-4 * (number % 5)}},
        }
        proof = {
            "verdict": "optimal",
            "termination": "gap_limit",
            "proven_for": "problem",
            "objective_s": 10.0,
            "bound_s": 9.9995,
        }
        scip = proof if number % 2 else {
            **proof, "verdict": "feasible", "termination": "time_limit", "bound_s": 8.0,
        }  # fmt: skip
        rows += [
            row("certify/native", name, **proof, **common, times_s={"engine": 0.1}),
            row("scip/joint-product", name, **scip, **common, times_s={"engine": 2.0}),
            row("greedy/native", name, objective_s=12.0, **common, times_s={"engine": 0.01}),
            row("gurobi/joint-grid-milp", name, verdict="refused", **common),
        ]
    points = [{"elapsed_s": 0.05, "incumbent_s": 11.0}, {"elapsed_s": 0.1, "incumbent_s": 10.0}]
    cost = rows[0].cost.model_copy(update={"trace": points})
    return [
        RaceRow.model_validate(rows[0].model_copy(update={"cost": cost}).model_dump()),
        *rows[1:],
    ]


def test_the_words_come_from_the_rows() -> None:
    rows = a_race()
    rows.append(
        row("bad/native", "cell00000", verdict="error", refuted=True, message="no such plan")
    )
    folder = folder_of(rows, missing=2)
    told = insights(folder, find_wrong(folder.counting))
    text = "\n".join(told)
    assert told[0] == (
        "89 of 91 planned runs have a row, 2 are missing; 1 is wrong and is listed below."
    )
    assert "certify/native proved a gap of 0.0001 on 22 of 22 instances" in text
    assert "scip/joint-product on 11 of 22" in text
    assert "20 times faster than the best peer (scip/joint-product)" in text
    assert "Where ours lose: greedy/native is more than 0.1 % above the best plan on 22" in text
    assert "by 20 %" in text
    assert "44 bounds were held against every verified plan: 0 lie above one." in text
    page_text = markdown(folder, find_wrong(folder.counting), "the command")
    assert "- bad/native on cell00000: no such plan" in page_text
    assert "## Missing" in page_text


def at_commits(**seconds: float) -> list[RaceRow]:
    """The same five runs at several commits, a day apart, each as long as is said."""
    proof = {"verdict": "optimal", "termination": "gap_limit", "proven_for": "problem",
             "objective_s": 10.0, "bound_s": 9.9995}  # fmt: skip
    return [
        row("certify/native", f"cell{number}", **proof, times_s={"engine": took},
            context={"commit": commit, "began_at": f"2026-01-0{day}T00:00:00"})
        for day, (commit, took) in enumerate(seconds.items(), 1)
        for number in range(5)
    ]  # fmt: skip


def test_several_commits_are_a_history() -> None:
    rows = at_commits(first=1.0, second=3.0)
    rows.append(rows[0].model_copy(update={"key": "only at the first"}))
    (steps,) = history_of(rows).values()
    assert [(one.commit, one.runs, one.proved) for one in steps] == [
        ("first", 5, 5), ("second", 5, 5),
    ]  # fmt: skip
    assert [one.mean_s for one in steps] == pytest.approx([1.0, 3.0])
    assert history_of(rows[:5]) == {}
    folder = folder_of(latest(rows))
    folder = Folder(folder.path, folder.suite, folder.planned, rows)
    text = markdown(folder, [], "the command")
    assert "certify/native is 3.00 times slower at second than at first" in text
    assert "| certify/native | second | 2026-01-02 | 5 | 5 | 3 |" in text
    assert '"name":"history"' in page(folder, [], "the command")


def test_a_peer_that_is_faster_is_told() -> None:
    rows = [one for one in a_race(6) if one.entry.solver != "certify"]
    slow = {"verdict": "optimal", "termination": "gap_limit", "proven_for": "problem"}
    rows.append(row("certify/native", "cell00001", **slow, objective_s=10.0, bound_s=9.9995,
                    times_s={"engine": 8.0}, devices=3))  # fmt: skip
    text = "\n".join(insights(folder_of(rows), []))
    assert "scip/joint-product is 4 times FASTER than certify/native" in text
    assert "scip/joint-product proved the gap sooner than certify/native on 1 instances" in text


def test_tables_hold_every_row_with_its_verdict(tmp_path: Path) -> None:
    rows = a_race(2)
    rows.append(row("bad/native", "cell00000", verdict="error", refuted=True, message="no,\nno"))
    paths = write_tables(folder_of(rows), tmp_path, "the command", ["counts.png"])
    assert [path.name for path in paths] == ["report.md", "rows.csv", "rows.parquet"]
    with (tmp_path / "rows.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert len(read) == len(table) == 9
    assert table[-1]["verdict"] == read[-1]["verdict"] == "wrong"
    assert table[0]["objective_s"] == float(read[0]["objective_s"]) == 10.0
    assert table[0]["peak_bytes"] is None
    assert "![counts](counts.png)" in (tmp_path / "report.md").read_text()


def test_pictures_that_the_rows_allow(tmp_path: Path) -> None:
    rows = a_race()
    names = {path.name for path in draw(rows, [], "a race", tmp_path)}
    assert names == {
        f"{name}.{ending}"
        for name in ("counts", "profile", "time_against_devices", "gap_against_time")
        for ending in ("png", "pdf")
    }
    assert profile_figure(rows[:40], "of ten instances a profile says too little") is None
    assert draw([], [], "none", tmp_path) == []


WATCH = """<script>
const faults = [];
addEventListener("error", (event) => faults.push(String(event.message)));
addEventListener("unhandledrejection", (event) => faults.push(String(event.reason)));
</script>"""
"""Put before everything else: hears of every fault."""
CLICKS = """<script>
(async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const has = (what) => document.querySelector(what) !== null;
  for (let turn = 0; turn < 600 && !document.body.dataset.ready && has(".plot"); turn += 1) {
    await wait(50);
  }
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const seen = {};
  for (const button of document.querySelectorAll("button")) {
    if (!button.hidden) button.click();
  }
  for (const box of document.querySelectorAll("select")) {
    box.selectedIndex = box.options.length - 1;
    box.dispatchEvent(new Event("change"));
  }
  seen.filtered = document.querySelectorAll("#body tr").length;
  seen.hash = location.hash;
  const find = document.getElementById("find");
  if (find) {
    find.value = "no such text";
    find.dispatchEvent(new Event("input"));
    seen.found = document.querySelectorAll("#body tr").length;
  }
  const clear = document.getElementById("clear");
  if (clear) clear.click();
  const line = document.querySelector("#body tr");
  if (line) line.click();
  const detail = document.getElementById("detail");
  seen.detail = detail ? detail.textContent : "";
  seen.count = document.getElementById("count") ? document.getElementById("count").textContent : "";
  seen.sorted = document.querySelectorAll("th[aria-sort]").length;
  // a figure that is taller than its place lies on the next heading
  const high = (what) => what.getBoundingClientRect().height;
  const tall = (plot) =>
    [...plot.querySelectorAll(".main-svg")].some((svg) => high(svg) > high(plot) + 1);
  seen.tall = [...document.querySelectorAll(".plot")].filter(tall).map((plot) => plot.id);
  seen.plots = document.querySelectorAll(".plot .main-svg").length;
  const told = document.createElement("pre");
  told.id = "told";
  const requests = performance.getEntriesByType("resource").map((one) => one.name);
  told.textContent = JSON.stringify({ ...seen, wide, faults, requests, width: innerWidth });
  document.body.append(told);
  if (parent !== window) parent.postMessage(told.textContent, "*");
})();
</script>"""
"""Put behind everything else: clicks everything and says what came of it."""


FRAME = """<!doctype html><title>a phone</title>
<iframe src="{page}" style="width: {width}px; height: 900px; border: 0"></iframe>
<script>
addEventListener("message", (event) => {{
  const told = document.createElement("pre");
  told.id = "told";
  told.textContent = event.data;
  document.body.append(told);
}});
</script>"""
"""Around a page that is narrower than the browser's window can be."""
LEAST_WIDTH = 500
"""Chromium's windows are no narrower, whatever is asked for."""


def in_browser(html: str, tmp_path: Path, width: int) -> dict[str, Any]:
    """What the page did in headless Chromium, everything clicked."""
    path = tmp_path / f"page{width}.html"
    path.write_text(html.replace("<head>", "<head>" + WATCH).replace("</body>", CLICKS + "</body>"))
    shown = path
    if width < LEAST_WIDTH:
        shown = tmp_path / "frame.html"
        shown.write_text(FRAME.format(page=path.name, width=width))
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
         "--virtual-time-budget=60000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
         shown.as_uri()],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    text = found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    told: dict[str, Any] = json.loads(text)
    return told


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (apt: chromium)")


@needs_browser
@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_in_a_browser(width: int, tmp_path: Path) -> None:
    rows = a_race() + [row(f"entry{number}/x", "cell00000") for number in range(12)]
    parts = solve(sample_instance(2, 0), solver="constructive").breakdown
    outcome = rows[0].outcome.model_copy(update={"breakdown": parts})
    rows[0] = rows[0].model_copy(update={"outcome": outcome})
    told = in_browser(page(folder_of(rows), [], "the command"), tmp_path, width)
    assert told["tall"] == []
    assert told["faults"] == []
    assert told["requests"] == []
    assert told["width"] == width
    assert told["wide"] <= 0, "nothing is wider than the window"
    assert told["count"] == "100 of 100 rows"
    assert told["sorted"] == 13
    assert told["found"] == 0
    assert "devices=5" in told["hash"]
    assert told["plots"] >= 5
    assert "sftopt race replay DIR" in told["detail"]
    assert "server, all devices" in told["detail"]
    assert "device backward" in told["detail"], "the legend of the step's chart"


@needs_browser
@pytest.mark.parametrize("kind", ["none", "one", "refused"])
def test_pages_of_next_to_nothing(kind: str, tmp_path: Path) -> None:
    rows = {
        "none": [],
        "one": [row("a/x", objective_s=1.0)],
        "refused": [row("a/x", str(k), verdict="refused") for k in range(3)],
    }[kind]
    told = in_browser(page(folder_of(rows, missing=1), [], "the command"), tmp_path, 1400)
    assert told["faults"] == []
    assert told["count"] == (f"{len(rows)} of {len(rows)} rows" if rows else "")


def test_the_page_is_small_whole_and_safe() -> None:
    nasty = "</script><script>alert(1)</script>"
    rows = [*a_race(), row("a/x", "nasty", verdict="error", message=nasty)]
    html = page(folder_of(rows), [], "the command")
    assert len(html.encode()) < 3_000_000
    assert nasty not in html
    assert re.search(r"<(script|link|img)[^>]*(src|href)=(?!\"data:)", html) is None


def test_a_page_of_ten_thousand_rows_holds_them_all() -> None:
    rows = a_race(2_500)
    html = page(folder_of(rows), [], "the command")
    assert html.count("cell02499") >= 4
    assert len(html.encode()) < 12_000_000
