"""The page of claims: what is claimed, what came out against whom, what is assumed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sftopt.studies.reproduce.findings import Finding, TrialFinding


def page_of(
    findings: Sequence[Finding], exact: Sequence[dict[str, Any]], cells: int, seed: int
) -> str:
    """Write the Markdown page of findings and published tables over ``cells`` cells."""
    lines = ["# Claims of the papers", ""]
    if findings:
        lines += [
            f"`sftopt reproduce` on {cells} cells of seed {seed}; the grid "
            "(`sftopt/data/claims/grid.json`) was fixed before the first run, and every cell is "
            "counted, refused schemes too. Each claim is tried against the baseline its text names "
            "and against better ones: what is left of it then is what the method itself brings.",
            "",
        ]
    for one in findings:
        lines += _section(one)
    if exact:
        lines += [
            "## Published tables that follow from their settings",
            "",
            "| table | what | published | ours | agrees |",
            "|---|---|--:|--:|---|",
        ]
        lines += [
            f"| {e['table']} | {e['what']} | {e['published']:g} {e['unit']} | {e['ours']:.4f} | "
            f"{'yes' if e['agrees'] else '**no**'} |"
            for e in exact
        ]
        lines.append("")
    return "\n".join(lines)


def _section(one: Finding) -> list[str]:
    return [
        f"## {one.claim}: {one.text}",
        "",
        f"Source: {one.source}. Public: {one.public}. Assumed: {one.assumed}.",
        "",
        "| against | what | reached in | least | median | most | where |",
        "|---|---|---|--:|--:|--:|---|",
        *(_line(trial, one.unit != "times") for trial in one.trials),
        "",
    ]


def _line(trial: TrialFinding, per_cent: bool) -> str:
    def told(value: float | None) -> str:
        if value is None:
            return "-"
        return f"{100.0 * value:.1f} %" if per_cent else f"{value:.2f}"

    scheme = "" if ":" not in trial.scheme else f" ({trial.scheme})"
    values = " | ".join(told(v) for v in (trial.least, trial.median, trial.most))
    return (
        f"| {trial.against} | {trial.figure}: {trial.note}{scheme} | {trial.reached} of "
        f"{trial.cells} | {values} | {trial.condition} |"
    )
