"""The page of a race: one HTML file that works from disk and asks nothing of any network.

plotly's code is in it once, packed; rows are in it as data, and a script of ours filters and sorts.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sftopt import __version__
from sftopt.face.plots.race import COLOURS, of_every_size, style_of
from sftopt.studies.race.checks import Finding
from sftopt.studies.race.folder import Folder
from sftopt.studies.race.history import commits_of, history_of
from sftopt.studies.race.insights import insights
from sftopt.studies.race.measures import (
    PROFILE_FROM,
    entries_of,
    gap_curves,
    lines_of,
    noise_of,
    profile,
    times_table,
)
from sftopt.studies.race.report import HEAD, cells_of, flat_rows, machine_lines, settings_sentence
from sftopt.studies.race.row import RaceRow
from sftopt.studies.race.worker import finite

_HERE = Path(__file__).parent
"""Where the template and the script are."""
_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
"""matplotlib's words for lines -> plotly's."""
_MOST_STEPS = 300
"""Number of rows whose delay parts go into the page, of cells of at most 100 devices."""
_LAYOUT = {
    "template": "plotly_white",
    "showlegend": False,  # ours is outside: plotly's covers the axis on a phone
    "margin": {"l": 62, "r": 16, "t": 30, "b": 52},
    "hovermode": "closest",
}
"""What holds for every figure."""


def page(folder: Folder, wrong: Sequence[Finding], command: str) -> str:
    """Render the page of a race."""
    from jinja2 import Environment, select_autoescape
    from markupsafe import Markup

    rows = folder.counting
    environment = Environment(autoescape=select_autoescape(default_for_string=True))
    template = environment.from_string((_HERE / "race_page.html").read_text(encoding="utf-8"))
    figures = _figures(folder, wrong)
    return template.render(
        suite=folder.suite.name,
        description=folder.suite.description,
        insights=[(_kind(text), text) for text in insights(folder, wrong)],
        rows=rows,
        settings=settings_sentence(folder) if rows else "",
        entry_head=HEAD,
        entry_lines=[cells_of(line) for line in lines_of(rows, wrong)],
        figures=figures,
        wrong=[{"text": str(one), "replay": one.replay} for one in wrong],
        machines=machine_lines(rows),
        command=command,
        version=__version__,
        data=Markup(_json(_data(rows, wrong, figures))),
        plotly=_packed_plotly() if rows else "",
        script=Markup((_HERE / "race_page.js").read_text(encoding="utf-8")),
    )


def _kind(sentence: str) -> str:
    if sentence.startswith("Where ours lose") or "FASTER" in sentence:
        return "loss"
    return "bad" if "listed below" in sentence else ""


def _packed_plotly() -> str:
    """plotly's whole code, packed to a third for the page; the browser unpacks it."""
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode(), 9, mtime=0)
    return base64.b64encode(packed).decode()


def _json(data: Any) -> str:
    """JSON that can stand inside a script element, whatever texts it holds."""
    text = json.dumps(finite(data), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(
    rows: Sequence[RaceRow], wrong: Sequence[Finding], figures: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    flat = flat_rows(rows, wrong)
    styles = style_of(entries_of(rows))
    return {
        "columns": list(flat[0]) if flat else [],
        "rows": [list(one.values()) for one in flat],
        "entries": [
            {"name": name, "colour": style["color"], "dash": _DASHES[style["linestyle"]]}
            for name, style in styles.items()
        ],
        "figures": [{key: one[key] for key in ("name", "traces", "layout", "by_entry")}
                    for one in figures],
        "layout": _LAYOUT,
        "colours": COLOURS,
        "steps": {row.key: _step(row) for row in rows[:_MOST_STEPS] if _has_step(row)},
    }  # fmt: skip


def _has_step(row: RaceRow) -> bool:
    return row.outcome.breakdown is not None and bool(row.outcome.breakdown.devices)


def _step(row: RaceRow) -> dict[str, Any]:
    """The round's delay by parts, and beginning and length of each in one step, by device."""
    found = row.outcome.breakdown
    assert found is not None
    up, server = found.tau_u_s, found.server_s
    parts = []
    for one in found.devices:
        spans = [(0.0, one.s1_s), (one.s1_s, one.s2_s), (up, server)]
        spans += [(up + server, one.s4_s), (up + server + one.s4_s, one.s5_s)]
        parts.append([[round(begin, 9), round(length, 9)] for begin, length in spans])
    delay = {
        "device forward + uplink": found.tau_u_s,
        "server, all devices": found.server_s,
        "downlink + device backward": found.tau_d_s,
        "one step": found.step_s,
        "adapter exchange": found.tau_a_s,
        "round": found.round_s,
    }
    return {"ids": [one.id for one in found.devices], "parts": parts, "delay": delay}


def _figures(folder: Folder, wrong: Sequence[Finding]) -> list[dict[str, Any]]:
    rows = folder.counting
    made = [_counts(rows, wrong), _profile(rows), _sizes(rows), _gaps(rows, wrong)]
    made += [_history(folder.rows, style_of(entries_of(rows))), _clock(rows)]
    return [one for one in made if one is not None]


def _line(
    entry: str, style: dict[str, Any], x: Any, y: Any, shape: str = "linear", **more: Any
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": entry,
        "x": [float(one) for one in x],
        "y": [round(float(one), 9) for one in y],
        "line": {
            "color": style["color"],
            "dash": _DASHES[style["linestyle"]],
            "width": 2,
            "shape": shape,
        },
        **more,
    }


def _counts(rows: Sequence[RaceRow], wrong: Sequence[Finding]) -> dict[str, Any] | None:
    lines = lines_of(rows, wrong)
    if not lines:
        return None
    parts = (
        ("proved the gap", [line.proved for line in lines], "#009e73"),
        ("a plan, no proof", [max(line.planned - line.proved, 0) for line in lines], "#56b4e9"),
        ("wrong", [line.wrong for line in lines], "#d55e00"),
        ("failed", [line.failed for line in lines], "#e69f00"),
        ("refused", [line.refused for line in lines], "#bbbbbb"),
    )
    names = [line.entry for line in lines]
    return {
        "name": "counts",
        "title": "Who proved what",
        "text": "Runs by verdict. Green: the gap asked for is proven, by a plan that the judge "
        "accepts and a bound that the driver believes. Light blue: a verified plan without that "
        "proof. Vermilion: refuted. Amber: crashed, killed or out of memory. Grey: refused.",
        "by_entry": False,
        "traces": [
            {"type": "bar", "orientation": "h", "name": name, "x": counts, "y": names,
             "marker": {"color": colour}, "hovertemplate": f"%{{y}}: %{{x}} {name}<extra></extra>"}
            for name, counts, colour in parts
        ],
        "layout": {
            "barmode": "stack", "height": 110 + 26 * len(lines),
            "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
            "xaxis": {"title": {"text": "runs"}},
        },
    }  # fmt: skip


def _profile(rows: Sequence[RaceRow]) -> dict[str, Any] | None:
    instances, entries, times = times_table(rows)
    if len(instances) < PROFILE_FROM or not np.isfinite(times).any():
        return None
    taus = np.geomspace(1.0, 1e4, 160)
    shares, styles = profile(times, taus), style_of(entries)
    return {
        "name": "profile",
        "title": "Time to a proof (Dolan-More profile)",
        "text": f"Fraction of {len(instances)} instances that an entry proved within so many times "
        "the least time of all. A run without a proof never gets there.",
        "by_entry": True,
        "traces": [
            _line(entry, styles[entry], taus, shares[place], "hv")
            for place, entry in enumerate(entries)
            if np.isfinite(times[:, place]).any()
        ],
        "layout": {
            "xaxis": {"type": "log", "title": {"text": "time over the least of all"}},
            "yaxis": {"range": [0, 1.03], "title": {"text": "fraction of instances"}},
        },
    }


def _sizes(rows: Sequence[RaceRow]) -> dict[str, Any] | None:
    kept = of_every_size(rows)
    sizes = sorted({row.instance.devices for row in kept})
    if len(sizes) < 2:
        return None
    entries = entries_of(kept)
    styles = style_of(entries_of(rows))
    traces = []
    for entry in entries:
        mine = [row for row in kept if row.entry.name == entry and row.outcome.verdict != "refused"]
        here = [size for size in sizes if any(row.instance.devices == size for row in mine)]
        times = [
            float(np.median([row.solve_s for row in mine if row.instance.devices == size]))
            for size in here
        ]
        traces.append(_line(entry, styles[entry], here, times, mode="lines+markers"))
    families = sorted({row.instance.family for row in kept})
    return {
        "name": "sizes",
        "title": "Time against the number of devices",
        "text": "Median of build and engine seconds over families that are there at every size: "
        f"{', '.join(families)}. Runs that were cut off count with what they took.",
        "by_entry": True,
        "traces": traces,
        "layout": {
            "xaxis": {"type": "log", "title": {"text": "number of devices"}, "tickvals": sizes},
            "yaxis": {"type": "log", "title": {"text": "seconds"}},
        },
    }


def _gaps(rows: Sequence[RaceRow], wrong: Sequence[Finding]) -> dict[str, Any] | None:
    longest = max((row.limit_s for row in rows), default=1.0)
    times = np.geomspace(1e-3, longest, 120)
    curves = gap_curves(rows, wrong, times)
    if not curves:
        return None
    styles = style_of(entries_of(rows))
    return {
        "name": "gaps",
        "title": "Gap against time",
        "text": "How far the incumbent is above the best bound of anybody, median over instances, "
        "for solvers that tell while they run. Values are the solvers' claims.",
        "by_entry": True,
        "traces": [
            _line(entry, styles[entry], times, np.maximum(gaps, 1e-7), "hv")
            for entry, gaps in curves.items()
        ],
        "layout": {
            "xaxis": {"type": "log", "title": {"text": "seconds"}},
            "yaxis": {"type": "log", "title": {"text": "fraction above the best bound"}},
        },
    }


def _history(rows: Sequence[RaceRow], styles: dict[str, Any]) -> dict[str, Any] | None:
    history = {entry: steps for entry, steps in history_of(rows).items() if entry in styles}
    if not history:
        return None
    commits = [f"{commit[:8] or 'no commit'} ({date})" for commit, date in commits_of(rows)]
    names = {commit: text for (commit, _), text in zip(commits_of(rows), commits, strict=True)}
    return {
        "name": "history",
        "title": "From commit to commit",
        "text": "Shifted geometric mean of times to a proof, over the instances that an entry has "
        "at each of its commits.",
        "by_entry": True,
        "traces": [
            {"type": "scatter", "mode": "lines+markers", "name": entry,
             "x": [names[one.commit] for one in steps], "y": [one.mean_s for one in steps],
             "text": [f"proved {one.proved} of {one.runs}" for one in steps],
             "line": {"color": styles[entry]["color"], "dash": _DASHES[styles[entry]["linestyle"]]}}
            for entry, steps in history.items()
        ],
        "layout": {
            "xaxis": {"type": "category", "categoryorder": "array", "categoryarray": commits,
                      "automargin": True, "tickangle": 0},
            "yaxis": {"type": "log", "title": {"text": "mean seconds to a proof"}},
        },
    }  # fmt: skip


def _clock(rows: Sequence[RaceRow]) -> dict[str, Any] | None:
    if noise_of(rows) is None:
        return None
    there = [row for row in rows if row.context.machine.reference_s is not None]
    return {
        "name": "clock",
        "title": "The noise of the clock",
        "text": "The same small computation, timed just before every run, in the order of runs. "
        "Where it rises, something else was using the machine.",
        "by_entry": False,
        "traces": [
            {"type": "scatter", "mode": "markers", "name": "reference",
             "x": list(range(1, len(there) + 1)),
             "y": [1e3 * (row.context.machine.reference_s or 0.0) for row in there],
             "text": [f"{row.entry.name} on {row.instance.name}" for row in there],
             "marker": {"size": 4, "color": "#0072b2"}}
        ],
        "layout": {
            "height": 260,
            "xaxis": {"title": {"text": "run"}},
            "yaxis": {"title": {"text": "milliseconds"}, "rangemode": "tozero"},
        },
    }  # fmt: skip


__all__ = ["page"]
