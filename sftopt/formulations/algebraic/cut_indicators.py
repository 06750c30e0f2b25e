"""Binaries of the cut, for the two options that need them, in two algebraic forms.

Only a factor on a_1 by cut, equation (12), and multicast adapters, equation (8), look at the cut
other than linearly; without them nothing here is built.
"""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from sftopt.core.instance import AdapterDownlink
from sftopt.formulations.algebraic.frame import Expr, Frame


def needs_indicators(frame: Frame) -> bool:
    """Tell whether equation (8) or (12) of this instance looks at the cut by blocks."""
    multicast = frame.derived.adapter_downlink is AdapterDownlink.MULTICAST
    return frame.derived.cuts_interact or (multicast and frame.derived.adapter_bits_per_block > 0)


class IncrementalCuts:
    """g_nj = 1 where l_n >= j: l_n = cut_low + SUM_j g_nj, g_nj falling in j (product form)."""

    def __init__(self, frame: Frame, integral: bool) -> None:
        self.frame = frame
        derived, model = frame.derived, frame.model
        self.low = dict(zip(frame.ids, derived.cut_low.tolist(), strict=True))
        self.high = dict(zip(frame.ids, derived.cut_high.tolist(), strict=True))
        index = [(d, j) for d in frame.ids for j in range(self.low[d] + 1, self.high[d] + 1)]
        model.var_held = pyo.Var(
            index, domain=pyo.Binary if integral else pyo.UnitInterval, doc="1 where l_n >= block"
        )
        held = model.var_held
        model.con_held = pyo.Constraint(
            frame.ids,
            rule={
                d: model.var_blocks[d]
                == self.low[d] + sum(held[d, j] for j in range(self.low[d] + 1, self.high[d] + 1))
                for d in frame.ids
            },
        )
        order = [(d, j) for d, j in index if j > self.low[d] + 1]
        model.con_held_order = pyo.Constraint(
            order, rule={(d, j): held[d, j] <= held[d, j - 1] for d, j in order}
        )

    def held(self, device: str, block: int) -> Expr:
        """Return what is 1 where the device holds this block, for blocks above cut_low."""
        return self.frame.model.var_held[device, block]

    def factor(self, device: str) -> Expr:
        """Return the factor on a_1 of equation (12), linear in the binaries."""
        return self.level(device, self.frame.derived.cut_factor.tolist())

    def level(self, device: str, levels: list[float]) -> Expr:
        """Return the entry of ``levels`` (L,) at the device's cut, linear in the binaries."""
        steps = np.diff(levels)
        return float(levels[self.low[device]]) + sum(
            float(steps[j - 1]) * self.held(device, j)
            for j in range(self.low[device] + 1, self.high[device] + 1)
            if steps[j - 1] != 0.0
        )


class OneHotCuts:
    """z_nc = 1 where l_n = c: SUM_c z_nc = 1, l_n = SUM_c c z_nc (epigraph-ratio form)."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        derived, model = frame.derived, frame.model
        low = dict(zip(frame.ids, derived.cut_low.tolist(), strict=True))
        high = dict(zip(frame.ids, derived.cut_high.tolist(), strict=True))
        self.cuts = {d: list(range(low[d], high[d] + 1)) for d in frame.ids}
        index = [(d, c) for d in frame.ids for c in self.cuts[d]]
        model.var_cut = pyo.Var(index, domain=pyo.Binary, doc="1 where l_n = cut")
        cut = model.var_cut
        model.con_cut = pyo.Constraint(
            frame.ids, rule={d: sum(cut[d, c] for c in self.cuts[d]) == 1 for d in frame.ids}
        )
        model.con_cut_blocks = pyo.Constraint(
            frame.ids,
            rule={
                d: model.var_blocks[d] == sum(c * cut[d, c] for c in self.cuts[d])
                for d in frame.ids
            },
        )

    def held(self, device: str, block: int) -> Expr:
        """Return what is 1 where the device holds this block, for blocks above cut_low."""
        cut = self.frame.model.var_cut
        return sum(cut[device, c] for c in self.cuts[device] if c >= block)


Cuts = IncrementalCuts | OneHotCuts
