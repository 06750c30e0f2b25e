"""Problem (13) over a list of items, for CVXPY: the body of every ``joint-grid-*`` formulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.instance import AccuracyScope
from sftopt.formulations.base import Start
from sftopt.formulations.conic.families import (
    add_accuracy,
    add_adapter_uplink,
    add_downlink,
    add_multicast,
    add_server,
    add_uplink,
    round_time,
)
from sftopt.formulations.conic.frame import ConicFrame, Link, new_conic_frame
from sftopt.formulations.conic.grid_items import Items, rows_of
from sftopt.formulations.conic.links import LinkRules, Root


@dataclass(frozen=True)
class GridModel:
    """A built model: its frame, and the links with the roots of their payloads."""

    frame: ConicFrame
    problem: Any
    """The ``cvxpy.Problem``; it carries this object as ``grid``."""
    links: tuple[tuple[Link, Root], ...]


def build_grid(
    derived: Derived, start: Start | None, items: Items, rules: LinkRules, *, integral: bool
) -> GridModel:
    """Build problem (13) on the keep fractions of ``items``; ``integral=False`` relaxes binaries.

    Raises InfeasibleError where a domain is empty.
    """
    tall = 1 if derived.scope is AccuracyScope.COMMON else derived.devices
    frame = new_conic_frame(derived, start, rows_of(items, tall), integral=integral)

    links = [(frame.uplink, add_uplink(frame, rules))]
    links.append((frame.downlink, add_downlink(frame, rules)))
    adapter = add_adapter_uplink(frame, rules)
    if frame.adapter is not None and adapter is not None:
        links.append((frame.adapter, adapter))
    add_server(frame)
    add_multicast(frame)
    add_accuracy(frame)

    problem = frame.builder.problem(round_time(frame), frame.scaled.objective_unit_s)
    found = GridModel(frame, problem, tuple(links))
    problem.grid = found
    problem.variable_index = _variable_index(frame)
    problem.step_unit_s = frame.scaled.step_unit_s
    problem.share_unit = frame.scaled.share_unit
    return found


def _variable_index(frame: ConicFrame) -> dict[str, tuple[tuple[str, ...], ...]]:
    """What the entries of every variable stand for, by its name: one tuple for each axis."""
    count, pairs = frame.derived.devices, frame.cut_pairs
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    items = tuple(str(g) for g in range(frame.items.count))
    cuts: tuple[str, ...] = ()
    if pairs is not None:
        ids = [frame.ids[n] for n in pairs.device]
        cuts = tuple(f"{name},{cut}" for name, cut in zip(ids, pairs.cut, strict=True))
    for name, variable in frame.variables.items():
        if name == "var_item":
            common = frame.derived.scope is AccuracyScope.COMMON
            found[name] = (("all",) if common else frame.ids, items)
        elif name == "var_cut":
            found[name] = (cuts,)
        elif name == "var_cut_item":
            found[name] = (cuts, items)
        elif name == "var_tau_block":
            found[name] = (tuple(str(block + 1) for block in range(variable.size)),)
        elif name.endswith("_term"):
            found[name] = (frame.builder.index[name.replace("var_", "con_")],)
        elif variable.shape == (count,):
            found[name] = (frame.ids,)
    return found


def read_grid(derived: Derived, problem: Any) -> Candidate:
    """Read the candidate at a model's present values; fractional where the values are."""
    grid: GridModel = problem.grid
    known, rows = grid.frame.variables, rows_of(grid.frame.items, derived.devices)
    chosen = np.broadcast_to(np.clip(known["var_item"].value, 0.0, None), rows.keep.shape)
    total = np.maximum(chosen.sum(axis=1), 1e-300)
    kinds = np.arange(len(derived.options))
    weights = ((rows.option[:, :, None] == kinds) * chosen[:, :, None]).sum(axis=1)
    weights = weights / total[:, None]
    best = weights.argmax(axis=1)
    # the keep fraction that goes with the heaviest option: a mean over options would be neither's
    own = chosen * (rows.option == best[:, None])
    keep = (own * rows.keep).sum(axis=1) / np.maximum(own.sum(axis=1), 1e-300)
    cuts = np.clip(known["var_blocks"].value, derived.cut_low, derived.cut_high)
    return Candidate(cuts=cuts, option_weights=weights, keep=keep)
