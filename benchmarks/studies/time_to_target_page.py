"""The page of the study of time to target, from its result."""

from __future__ import annotations

from typing import Any


def page_of(data: dict[str, Any]) -> str:
    """Write the Markdown page of a result of ``benchmarks.studies.time_to_target``."""
    return "\n".join([*_head(data), *_laws(data["laws"]), *_predictions(data), *_plans(data)])


def _head(data: dict[str, Any]) -> list[str]:
    laws = data["laws"]
    return [
        "# Time to target on digit-scenes",
        "",
        "Made by `OMP_NUM_THREADS=1 python -m benchmarks.studies.time_to_target --work DIR`: short "
        f"fine-tunings at a constant learning rate of {laws['learning_rate']:g}, rounds of "
        f"{laws['local_steps']} local steps, the metric taken on 500 held-out scenes after every "
        "round; a run reaches a level where its metric first does, between two rounds in "
        "proportion. Omega is what the bundled calibration's fit of equation (12) says.",
        "",
    ]


def _laws(laws: dict[str, Any]) -> list[str]:
    lines = [
        "## Laws",
        "",
        f"Seeds {', '.join(map(str, laws['seeds']))} of the uncompressed run and of four settings.",
        "",
        "| target | R_0 | +- | k_g | +- |",
        "|--:|--:|--:|--:|--:|",
    ]
    for level in laws["linear"]["levels"]:
        numbers = [level[name] for name in ("rounds", "rounds_half_width", "slope",
                                            "slope_half_width")]  # fmt: skip
        lines.append(f"| {level['target']:g} | " + " | ".join(map(_number, numbers)) + " |")
    error = laws["linear"]["error"]
    if error is not None:
        lines += ["", f"Each setting predicted by a linear fit without it: {_error(error)}."]
    if laws["saturating"] is not None:
        law = laws["saturating"]
        lines += [
            "",
            f"Saturating: T_g = {law['scale_rounds']:.4g} rounds (+- "
            f"{_number(law['scale_half_width'])}), m_start = {law['start']:.4g} (+- "
            f"{_number(law['start_half_width'])}).",
        ]
    for factor in laws["factors"]:
        lines += [
            "",
            f"mu of {_kind(factor)}: {factor['factor']:.4g} (+- {_number(factor['half_width'])}).",
        ]
    return [*lines, ""]


def _predictions(data: dict[str, Any]) -> list[str]:
    lines = [
        "## Rounds predicted and measured: five settings that no law has seen",
        "",
        "| keep | bits | Omega | target | measured | linear | saturating |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in data["predictions"]:
        measured = "never" if row["measured"] is None else f"{row['measured']:.3g}"
        predicted = ["never" if row.get(kind) is None else f"{row[kind]:.3g}"
                     for kind in ("linear", "saturating")]  # fmt: skip
        lines.append(
            f"| {row['keep']:g} | {row['bits']} | {row['loss']:.4f} | {row['target']:g} | "
            f"{measured} | {' | '.join(predicted)} |"
        )
    lines.append("")
    for kind, error in data["errors"].items():
        if error is not None:
            met = "met" if error["median_abs_rel"] <= data["goal"] else "**missed**"
            lines += [
                f"* {kind}: {_error(error)}; goal {100 * data['goal']:.0f} %: {met}",
            ]
    return [*lines, ""]


def _plans(data: dict[str, Any]) -> list[str]:
    lines = [
        f"## Seconds to {data['target']:g}: two plans of one cell",
        "",
        "Two devices, measured speeds; `accuracy.minimum` lets a plan lose 0.03. By the law the "
        f"plan of least time takes {data['predicted_s']:.4g} s, and none takes less than "
        f"{data['bound_s']:.4g} s.",
        "",
        "| plan | round s | accuracy | rounds predicted | devices |",
        "|---|--:|--:|--:|---|",
    ]
    for name, plan in data["plans"].items():
        devices = "; ".join(
            f"{d['blocks']} blocks, {d['bits']} bits, keep {d['keep']:.3f}" for d in plan["devices"]
        )
        lines.append(
            f"| {name} | {plan['round_s']:.4g} | {plan['accuracy']:.4f} | "
            f"{plan['predicted_rounds']:.3g} | {devices} |"
        )
    if data["compared"] is None:
        return [*lines, "", "The two plans have not been run yet.", ""]
    lines += [
        "",
        "| seed | " + " | ".join(f"{name}: rounds | s" for name in data["plans"]) + " |",
        "|--:" + "|--:|--:" * len(data["plans"]) + "|",
    ]
    by = {(row["arm"], row["seed"]): row for row in data["runs"]}
    for seed in sorted({row["seed"] for row in data["runs"]}):
        cells = []
        for name in data["plans"]:
            row = by[name, seed]
            sign = "" if row["reached"] else "> "
            cells += [f"{sign}{row['rounds']:.2f}", f"{sign}{row['time_s']:.3f}"]
        lines.append(f"| {seed} | " + " | ".join(cells) + " |")
    found = data["compared"]
    seconds, relative, rounds = found["seconds"], found["relative"], found["rounds"]
    own, other = data["plans"].values()
    longer = own["round_s"] / other["round_s"] - 1.0
    lines += [
        "",
        f"Time to target less round delay, paired by seed: {seconds['mean']:+.3f} s "
        f"(95 %: {seconds['low']:+.3f} to {seconds['high']:+.3f}; {seconds['runs']} seeds), "
        f"{100 * relative['mean']:+.1f} % ({100 * relative['low']:+.1f} to "
        f"{100 * relative['high']:+.1f} %). Rounds alone: {100 * rounds['mean']:+.1f} % "
        f"({100 * rounds['low']:+.1f} to {100 * rounds['high']:+.1f} %), of which the judge counts "
        f"each {100 * longer:+.1f} % long; the virtual clock goes by CPU seconds as they were "
        "measured, beside other work. Runs that did not get there within their rounds count with "
        f"all of them: {found['not_reached']}.",
        "",
    ]
    return lines


def _kind(factor: dict[str, Any]) -> str:
    words = [] if factor["rank"] is None else [f"rank {factor['rank']}"]
    words.append(factor["order"])
    if factor["aggregation"] is not None:
        words.append(factor["aggregation"])
    return ", ".join(words)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _error(error: dict[str, Any]) -> str:
    return (
        f"off by {100 * error['median_abs_rel']:.1f} % in the median (95 %: "
        f"{100 * error['low']:.1f} to {100 * error['high']:.1f} %)"
    )
