"""The closed loops' committed results as one page.

``sftopt closed-loop --data TASK --out DIR --result FILE`` makes a result,
``benchmarks/results/closed_loop_*.json``; ``python -m benchmarks.studies.closed_loop`` writes
``closed_loop.md`` from those that are there; those of a menu are ``closed_loop_menu_*.json``.
Nothing is computed here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
"""Folder of committed results."""


def page(results: list[dict[str, Any]]) -> str:
    """Write the Markdown page of all results: goals, the plan, traffic arms."""
    lines = [
        "# Closed loops: calibrate, plan, fine-tune, compare",
        "",
        "Written by `python -m benchmarks.studies.closed_loop` from the results beside it.",
    ]
    for result in results:
        heading = f"{result['task']}, with a menu" if "menu" in result else result["task"]
        lines += ["", f"## {heading}", "", f"`{_command(result)}`", ""]
        lines += [*_goals(result), "", *(_rows(result) if "from_rows" in result else _plan(result))]
        if "menu" in result:
            lines += ["", *_menu(result)]
        if result["traffic"]:
            lines += ["", *_traffic(result)]
        if "chain_tried" in result:
            lines += ["", *_chain(result)]
        if "note" in result:
            lines += ["", f"Note: {result['note']}."]
        if "restated" in result:
            lines += ["", f"Restated: {result['restated']}; the runs are those of before."]
    return "\n".join(lines) + "\n"


def _command(result: dict[str, Any]) -> str:
    """The command without the folders it was run in."""
    words = str(result["command"]).split()
    kept = []
    for index, word in enumerate(words):
        after = words[index - 1] if index else ""
        kept.append({"--out": "DIR", "--result": "FILE"}.get(after, word))
    return " ".join(word for word in kept if word != "--resume")


def _goals(result: dict[str, Any]) -> list[str]:
    lines = ["| goal | limit | reached | |", "|---|--:|--:|---|"]
    for goal in result["goals"]:
        met = "met" if goal["met"] else f"**missed**{_short(goal)}"
        lines.append(
            f"| {goal['goal']} | {_text(goal['limit'])} | {_text(goal['value'])} | {met} |"
        )
    return lines


def _short(goal: dict[str, Any]) -> str:
    """By how much, where that can be said."""
    if isinstance(goal["limit"], bool):
        return ""
    return f" by {abs(goal['value'] - goal['limit']):.3g}"


def _rows(result: dict[str, Any]) -> list[str]:
    """Where the runs of a menu on rows come from, and what its fine-tuning by the plan showed."""
    gain = result["menu"]
    by_plan, tuned = sum(run["by_plan"] for run in gain["runs"]), gain["fine_tuned"]
    finals = ", ".join(f"{run['final_metric']:.5g}" for run in tuned["runs"])
    lines = [
        "Bits and losses are those of the seeds of [equal bytes](equal_bytes.md), 500 steps of one "
        "device of two blocks, which is what a plan for one device runs; the limit is what the "
        "chain (Top-K 0.30 at 4 bits) just meets by the upper end of its interval; other cuts are "
        f"not on offer. {by_plan} of the {len(gain['runs'])} runs of the menu's codec were made by "
        "the plan, on a processor, the others on a GPU. Profile and seconds were measured on "
        f"{result['machine']}.",
        "",
        f"Fine-tuned by a plan: {_devices(tuned)}. It was made before these runs, from one of 200 "
        f"steps at half a bit, and promised {tuned['accuracy']:.5g}. Final {result['metric']}: "
        f"{finals}. Predicted and measured, seed 0:",
        "",
        "| quantity | unit | predicted | measured | error |",
        "|---|---|--:|--:|--:|",
    ]
    first: dict[str, dict[str, Any]] = {}
    for row in gain["predicted_against_measured"]:  # the whole cell's come first
        if row["goal_rel"] is not None or row["quantity"] in ("round", result["metric"]):
            first.setdefault(row["quantity"], row)
    for row in first.values():
        error = "" if row["error_rel"] is None else f"{100 * row['error_rel']:+.2f} %"
        lines.append(
            f"| {row['quantity']} | {row['unit']} | {row['predicted']:.5g} "
            f"| {row['measured']:.5g} | {error} |"
        )
    return lines


def _plan(result: dict[str, Any]) -> list[str]:
    plan, fit = result["plan"], result["calibration"]["fit"]
    finals = ", ".join(f"{run['final_metric']:.5g}" for run in result["runs"])
    return [
        f"Fit of equation (12): a_0 = {fit['uncompressed']:.5g}, a_1 = {fit['keep_loss']:.4g}, "
        f"a_2 = {fit['keep_decay']:.4g}, a_3 = {fit['quantisation_loss']:.4g}; largest half width "
        f"of the 95 % band {result['calibration']['half_width']:.3g}; the plan is made on the "
        "lower curve.",
        "",
        f"Plan{_by(plan)}: {_devices(plan)}; limit {plan['accuracy_minimum']:.5g}, slack "
        f"{plan['accuracy_slack']:.2g}; round {plan['round_s']:.4g} s, "
        f"{plan['loosened_round_s']:.4g} s with the limit {plan['loosened_by']:.3g} lower. "
        f"Final {result['metric']} of its runs: {finals}.",
    ]


def _devices(plan: dict[str, Any]) -> str:
    """What each device holds and how it sends; points by their name."""
    told = []
    for part in plan["devices"]:
        mode = f"{part['mode']} {part['bits']} bits, keep {part['keep_fraction']:.3f}"
        if part["mode"] != "topk" and "mode_name" in part:
            mode = part["mode_name"]
        told.append(f"{part['id']}: {part['blocks']} blocks, {mode}")
    return "; ".join(told)


def _menu(result: dict[str, Any]) -> list[str]:
    """What was on offer, what the plan took, and what it gained over Top-K alone."""
    gain = result["menu"]
    image = result["metric"] == "accuracy"
    unit, name = ("points", "points of accuracy") if image else (
        "perplexity_percent", "per cent of perplexity"
    )  # fmt: skip
    plan = gain["plan"]
    finals = ", ".join(f"{run['final_metric']:.5g}" for run in gain["runs"])
    offer = "On offer" if "from_rows" in result else "On offer besides Top-K"
    lines = [
        f"{offer} (loss: upper end of the paired 95 % interval at the cuts measured, at least 0):",
        "",
        "| codec | bits up | down | seconds of Top-K's | loss by cut |",
        "|---|--:|--:|--:|---|",
    ]
    for one in gain["offered"]:
        losses = ", ".join(f"{cut}: {one['loss'][cut]:.4f}" for cut in one["cuts"])
        lines.append(
            f"| {one['mode']} | {one['value_bits']:.3f} | {one['gradient_bits']:.3f} "
            f"| {one['codec_seconds_factor']:.1f} | {losses} |"
        )
    lines += [
        "",
        f"Plan with the menu{_by(plan)}: {_devices(plan)}; round {plan['round_s']:.4g} s against "
        f"{gain['alone_round_s']:.4g} s of Top-K alone. Final {result['metric']} of its runs: "
        f"{finals}; against Top-K alone, paired by seed: {gain[unit]:+.2f} "
        f"({gain[unit + '_low']:+.2f} to {gain[unit + '_high']:+.2f}) {name}.",
        "",
        "| band | Top-K alone, s | payload's share | with the menu, s | less |",
        "|--:|--:|--:|--:|--:|",
    ]
    for row in gain["bands"]:
        lines.append(
            f"| {row['band']:g} | {row['alone_round_s']:.4g} "
            f"| {100 * row['alone_payload_share']:.0f} % | {row['round_s']:.4g} "
            f"| {100 * row['less_delay']:.1f} % |"
        )
    return lines


def _by(plan: dict[str, Any]) -> str:
    """Who made the plan and how well it is proven, where the result says so."""
    if "solver" not in plan:
        return ""
    return f" (by {plan['solver']}, gap {plan['gap_rel']:.1g})"


def _traffic(result: dict[str, Any]) -> list[str]:
    image = result["metric"] == "accuracy"
    unit = "points" if image else "perplexity_percent"
    name = "points of accuracy" if image else "per cent of perplexity"
    lines = [
        f"Cuts of the traffic, headers, scales, labels and masks counted; {name} against the "
        "uncompressed run of the same seed, mean and 95 % interval (Student, paired):",
        "",
        f"| codec | runs | up, of fp32 | down | total | up, of fp16 | down | total | {name} |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for arm in result["traffic"]:
        cuts = [
            _percent(arm[f"cut_of_{reference}"][link])
            for reference in ("fp32", "fp16")
            for link in ("uplink", "downlink", "total")
        ]
        lines.append(
            f"| {arm['arm']} | {len(arm['seeds'])} | {' | '.join(cuts)} | {arm[unit]:+.2f}"
            f" ({arm[unit + '_low']:+.2f} to {arm[unit + '_high']:+.2f}) |"
        )
    return lines


def _chain(result: dict[str, Any]) -> list[str]:
    """How the chain's form was chosen: every form that was tried, at its own keep fraction."""
    tried = result["chain_tried"]
    most = max(len(one["seeds"]) for one in tried)
    lines = [
        f"The chain's form was chosen by fine-tunings of seeds 0 to {most - 1}, judged on the "
        "validation part: every number of bits and kind of scale with one seed, at the keep "
        "fraction that fills the bytes on the base model; the best three with all, at the one that "
        "fills them by that run.",
        "",
        f"| bits | scales | keep | uplink, less than fp32 | seeds | {result['metric']}, validation "
        "| |",
        "|--:|---|--:|--:|--:|--:|---|",
    ]
    for one in tried:
        scales = "one a token" if one["group"] is None else "one a boundary"
        lines.append(
            f"| {one['bits']} | {scales} | {one['keep']:.4f} | {_percent(one['uplink_cut'])} "
            f"| {len(one['seeds'])} | {sum(one['metric']) / len(one['metric']):.5g} "
            f"| {'chosen' if one['chosen'] else ''} |"
        )
    return lines


def _percent(value: float) -> str:
    return f"{100.0 * value:.2f} %"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}"


def main() -> None:
    """Write the page."""
    files = sorted(RESULTS.glob("closed_loop_*.json"))
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    (RESULTS / "closed_loop.md").write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
