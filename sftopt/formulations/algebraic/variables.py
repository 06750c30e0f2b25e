"""The variables both algebraic forms share: decisions and barrier times, all with finite bounds.

``integral=False`` gives the continuous relaxation: cuts and option binaries become continuous.
"""

from __future__ import annotations

import pyomo.environ as pyo

from sftopt.core.instance import AccuracyScope, PowerLaw, ServerOrder
from sftopt.formulations.algebraic.frame import EVERYONE, Frame, pairs
from sftopt.formulations.bounds import keep_range


def add_cuts(frame: Frame, integral: bool) -> None:
    """Add ``var_blocks[dev]``: l_n in [cut_low, cut_high], equations (10) and (11) in turn."""
    derived = frame.derived
    frame.model.var_blocks = pyo.Var(
        frame.ids,
        domain=pyo.Integers if integral else pyo.Reals,
        bounds=pairs(derived.cut_low, derived.cut_high, frame.ids),
        doc="l_n, blocks on the device",
    )


def add_modes(frame: Frame, integral: bool) -> None:
    """Add ``var_mode[dev, option]`` with SUM_o m_no = 1, equation (13); none for one option."""
    if len(frame.options) == 1:
        return
    model, labels = frame.model, list(frame.options)
    model.var_mode = pyo.Var(
        [(chooser, label) for chooser in frame.choosers for label in labels],
        domain=pyo.Binary if integral else pyo.UnitInterval,
        doc="m_no, 1 where the device uses this option",
    )
    model.con_mode = pyo.Constraint(
        frame.choosers,
        rule={c: sum(model.var_mode[c, label] for label in labels) == 1 for c in frame.choosers},
        doc="every device uses one option",
    )


def add_keep(frame: Frame) -> None:
    """Add ``var_keep[dev]``, rho_n inside (0, 1), where an option has one; equation (13)."""
    keep = keep_range(frame.derived)
    if keep is not None:
        frame.model.var_keep = pyo.Var(
            frame.choosers, bounds=(keep.low, keep.high), doc="rho_n, fraction of elements kept"
        )


def add_shares(frame: Frame) -> None:
    """Add x_n, y_n > 0 with SUM x_n <= 1 and SUM y_n <= 1, equation (13), in units of 1/N."""
    model, scaled, ids = frame.model, frame.scaled, frame.ids
    add_uplink_shares(frame)
    down = pairs(scaled.downlink_share_low, scaled.downlink_share_high, ids)
    model.var_downlink_share = pyo.Var(ids, bounds=down, doc="y_n, in units of share_unit")
    model.con_downlink_share = pyo.Constraint(
        expr=pyo.quicksum(model.var_downlink_share.values()) <= float(len(ids))
    )


def add_uplink_shares(frame: Frame) -> None:
    """Add x_n > 0 with SUM x_n <= 1, equation (13), in units of 1/N."""
    model, scaled, ids = frame.model, frame.scaled, frame.ids
    up = pairs(scaled.uplink_share_low, scaled.uplink_share_high, ids)
    model.var_uplink_share = pyo.Var(ids, bounds=up, doc="x_n, in units of share_unit")
    model.con_uplink_share = pyo.Constraint(
        expr=pyo.quicksum(model.var_uplink_share.values()) <= float(len(ids))
    )


def add_barriers(frame: Frame) -> None:
    """Add the times of equations (7) and (8) that are variables, in model units."""
    model, scaled, derived = frame.model, frame.scaled, frame.derived
    model.var_tau_up = pyo.Var(bounds=(scaled.tau_up.low, scaled.tau_up.high))
    model.var_tau_down = pyo.Var(bounds=(scaled.tau_down.low, scaled.tau_down.high))
    if derived.server_order is ServerOrder.PARALLEL:
        model.var_tau_server = pyo.Var(bounds=(scaled.tau_server.low, scaled.tau_server.high))
    if sends_adapters(frame):
        model.var_tau_adapter_up = pyo.Var(
            bounds=(scaled.tau_adapter_up.low, scaled.tau_adapter_up.high)
        )


def sends_adapters(frame: Frame) -> bool:
    """Tell whether adapters' uplink shares are variables: total power, adapters of some size."""
    return frame.derived.power is PowerLaw.TOTAL and frame.derived.adapter_bits_per_block > 0.0


def add_losses(frame: Frame) -> None:
    """Add ``var_loss[dev]``: a_0 - a_n <= a_0 - a_each in units of loss_unit, equation (12)."""
    derived, scaled = frame.derived, frame.scaled
    frame.model.var_loss = pyo.Var(
        loss_index(frame),
        bounds=(min(0.0, derived.loss_budget_each / scaled.loss_unit),
                derived.loss_budget_each / scaled.loss_unit),
        doc="loss of accuracy against no compression, in units of loss_unit",
    )  # fmt: skip


def loss_index(frame: Frame) -> tuple[str, ...]:
    """Return who has a loss of its own: all, unless they choose alike and cuts do not matter."""
    common = frame.derived.scope is AccuracyScope.COMMON
    return (EVERYONE,) if common and not frame.derived.cuts_interact else frame.ids
