"""``sftopt calibrate --time-to-target``: what is asked of the runs, and the laws in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sftopt.core.errors import InputError
from sftopt.face.lists import names

if TYPE_CHECKING:
    from sftopt.core.target_laws import LawError, TargetLaws
    from sftopt.training.data import Task

Orders = Annotated[
    str | None,
    typer.Option(
        "--orders",
        help="With --time-to-target: other orders and aggregations, uncompressed: sequential, "
        "corrected, concatenation.",
        show_default="none",
    ),
]
"""The option that names orders and aggregations beside the usual one."""


def check_targets(
    measured: bool, targets: str | None, ranks: str | None, orders: str | None, fine_tunings: bool
) -> None:
    """Raise InputError for options that do not go together."""
    for name, value in (("--targets", targets), ("--ranks", ranks), ("--orders", orders)):
        if value is not None and not measured:
            raise InputError(f"{name} needs --time-to-target")
    if measured and not fine_tunings:
        raise InputError("--time-to-target and --no-fine-tunings contradict each other")


def rounds_measured(
    task: Task, targets: Sequence[float] | None, ranks: Sequence[float] | None,
    orders: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the settings that make laws of rounds; ranks of None: half the task's.

    ``orders``: names with commas between, or None.
    """
    own = task.training.lora_rank
    half = (own // 2,) if own > 1 else ()
    return {
        "schedule": "constant",
        "every_round": True,
        "targets": tuple(targets or ()),
        "ranks": half if ranks is None else tuple(ranks),
        "conducts": names(orders) if orders else (),
    }


def law_facts(laws: TargetLaws | None) -> list[tuple[str, str]]:
    """Return the laws as lines of facts; none where none were measured."""
    if laws is None:
        return []
    rows = []
    if laws.linear is not None:
        levels = [f"{one.target:g}: {one.rounds:.3g} (1 + {one.slope:.3g} loss)"
                  for one in laws.linear.levels]  # fmt: skip
        rows.append(("rounds to a target", "; ".join(levels)))
        rows.append(("linear law off by", error_text(laws.linear.error)))
    if laws.saturating is not None:
        law = laws.saturating
        rows.append(("saturating law", f"T_g {law.scale_rounds:.4g} rounds from {law.start:.4g}"))
        rows.append(("which is off by", error_text(law.error)))
    for factor in laws.factors:
        width = "" if factor.half_width is None else f" +- {factor.half_width:.2g}"
        what = f"rank {factor.rank}"
        if factor.rank is None:
            what = factor.aggregation.value if factor.aggregation else factor.order.value
        rows.append((f"mu at {what}", f"{factor.factor:.4g}{width}"))
    return rows


def error_text(error: LawError | None) -> str:
    """Say how far a law's rounds were off, in per cent."""
    if error is None:
        return "not known"
    low, high = 100.0 * error.low, 100.0 * error.high
    return (
        f"{100.0 * error.median_abs_rel:.3g} % in the median "
        f"({100.0 * error.confidence:.0f} %: {low:.3g} to {high:.3g} %; {error.text})"
    )
