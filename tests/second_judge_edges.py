"""Cases at edges that random ones seldom touch: each shows one rule of the two judges at work.

An edge is a case of :class:`tests.second_judge_draws.Draw`, moved to where one rule decides: the
reference bits that end a mask, a first block under tokens, the least keep fraction that nobody
gave, an accuracy that nobody measured, and a rate just at the outage limit.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.second_judge_draws import Case, Draw, Scope
from tests.second_judge_parts import Part
from tests.second_judge_terms import DEVICE_PLAN, PLAN, Object, filled, keep_end


def case_at(edge: str, seed: int) -> Case:
    """Draw a case whose verdict one rule decides, to either side of it."""
    draw = Draw(seed, Scope(orders=("parallel",), ranks=False))
    prepare, adjust = EDGES[edge]
    cell = draw.cell()
    while cell["workload"]["is_decoder"]:  # tokens are for encoders
        cell = draw.cell()
    cell["accuracy"]["scope"] = "mean"
    prepare(draw, cell)
    plan = draw.plan(cell, "parallel")
    adjust(draw, cell, plan)
    draw.limits(cell, plan)
    return Case(cell, plan)


def _one_mode(cell: Object, keep_min: float | None, **mode: object) -> None:
    modes = [{"side_bits_per_element": 0.0, **mode}]
    cell["compression"] = {"modes": modes, "keep_min": keep_min, "keep_max": 1.0}


def _wide_values(_: Draw, cell: Object) -> None:
    """Values of more bits than the reference: the mask ends where it costs as much."""
    cell["workload"]["reference_bits"] = 16
    _one_mode(cell, 0.02, kind="topk", bits=20)


def _about_the_end(draw: Draw, cell: Object, plan: Object) -> None:
    whole = filled(cell)
    end = keep_end(whole, whole["compression"]["modes"][0])
    for row in plan["devices"]:
        row["keep_fraction"] = end * draw.pick((0.98, 0.999, 1.001, 1.1))


def _tokens(cell: Object, loss: float | None) -> None:
    sent = max(1, cell["workload"]["tokens"] // 2)
    _one_mode(cell, None, kind="tokens", bits=8, tokens=sent, loss=loss)
    for device in cell["devices"]:
        device["blocks_min"], device["blocks_max"] = 0, None


def _first_block(draw: Draw, cell: Object, plan: Object) -> None:
    for row in plan["devices"]:
        row["blocks"] = draw.pick((0, 1))


def _no_least_keep(draw: Draw, cell: Object) -> None:
    cell["accuracy"]["keep_decay"] = draw.between(5.0, 12.0)  # 1.2 / a_2 is above 0.05
    _one_mode(cell, None, kind="topk", bits=8)


def _about_the_least(draw: Draw, cell: Object, plan: Object) -> None:
    for row in plan["devices"]:
        least = 1.2 / cell["accuracy"]["keep_decay"]
        row["keep_fraction"] = least * draw.pick((0.9, 0.999, 1.001, 1.2))


def _about_the_rate(draw: Draw, cell: Object, plan: Object) -> None:
    whole = filled(cell)
    rates = []
    for device, row in zip(whole["devices"], plan["devices"], strict=True):
        part = Part(whole, device, DEVICE_PLAN | row, PLAN | plan, None)
        rates.append(min(part.rates.uplink(1.0), part.rates.downlink(1.0)))
    cell["radio"]["outage_rate_bits_per_s"] = max(min(rates) * draw.pick((0.999, 1.001)), 1e-3)


def _as_it_is(*_: object) -> None:
    """Change nothing."""


EDGES: dict[str, tuple[Callable[[Draw, Object], None], Callable[[Draw, Object, Object], None]]] = {
    "reference bits": (_wide_values, _about_the_end),
    "first block": (lambda _, cell: _tokens(cell, 0.01), _first_block),
    "least keep": (_no_least_keep, _about_the_least),
    "unknown accuracy": (lambda _, cell: _tokens(cell, None), _as_it_is),
    "outage": (_as_it_is, _about_the_rate),
}
"""How a cell and a plan are moved to each edge."""
