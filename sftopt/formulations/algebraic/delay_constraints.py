"""Barriers of the step, equations (4)-(7), in three forms; the objective, equation (9)."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
from numpy.typing import NDArray

from sftopt.core.instance import ServerOrder
from sftopt.formulations.algebraic.compression import Modes
from sftopt.formulations.algebraic.frame import Expr, Frame, linear


def device_forward(frame: Frame, modes: Modes, device: str) -> Expr:
    """Return s1_n of equation (4), linear in l_n and the modes, in step units."""
    row = frame.place[device]
    slope = float(frame.scaled.s1_block[row])
    time = slope * frame.model.var_blocks[device] + float(frame.scaled.s1_base[row])
    return time + modes.more(device, frame.scaled.s1_more)


def device_backward(frame: Frame, modes: Modes, device: str) -> Expr:
    """Return s5_n of equation (6), linear in l_n and the modes, in step units."""
    row = frame.place[device]
    slope = float(frame.scaled.s5_block[row])
    time = slope * frame.model.var_blocks[device] + float(frame.scaled.s5_base[row])
    return time + modes.more(device, frame.scaled.s5_more)


def add_uplink_products(frame: Frame, modes: Modes, rate: pyo.Var) -> None:
    """Add ``con_uplink_time``: (tau_u - s1_n(l_n)) R_n >= load_n beta_n, equations (4) and (7)."""
    model, load = frame.model, frame.scaled.uplink_load
    bits = {c: modes.uplink_bits(c) for c in frame.choosers}
    model.con_uplink_time = pyo.Constraint(
        frame.ids,
        rule={
            d: (model.var_tau_up - device_forward(frame, modes, d)) * rate[d]
            >= float(load[row]) * bits[frame.chooser(d)]
            for d, row in frame.place.items()
        },
    )


def add_downlink_products(frame: Frame, modes: Modes) -> None:
    """Add ``con_downlink_time``: (tau_d - s5_n(l_n)) y_n >= load_n beta_g,n, equations (6), (7)."""
    model, load = frame.model, frame.scaled.downlink_load
    bits = {c: modes.downlink_bits(c) for c in frame.choosers}
    model.con_downlink_time = pyo.Constraint(
        frame.ids,
        rule={
            d: (model.var_tau_down - device_backward(frame, modes, d)) * model.var_downlink_share[d]
            >= float(load[row]) * bits[frame.chooser(d)]
            for d, row in frame.place.items()
        },
    )


def add_uplink_ratios(frame: Frame, modes: Modes, rate: pyo.Var) -> None:
    """Add tau_u >= s1_n + s2_n and s2_n >= load_n beta_n / R_n, equations (4) and (7).

    ``con_uplink_time``, ``con_uplink_send`` and, for beta with its entropy, ``con_uplink_bits``.
    """
    model, scaled, bounds = frame.model, frame.scaled, frame.bounds
    room = scaled.tau_up.high - scaled.s1_base - frame.derived.cut_low * scaled.s1_block
    room = room - scaled.s1_more.min(axis=1)
    model.var_uplink_bits = pyo.Var(
        frame.choosers,
        bounds=(bounds.uplink_bits.low, bounds.uplink_bits.high * (1.0 + 1e-9)),
        doc="beta_n, bits per boundary element",
    )
    model.con_uplink_bits = pyo.Constraint(
        frame.choosers,
        rule={c: model.var_uplink_bits[c] >= modes.uplink_bits(c) for c in frame.choosers},
    )
    model.var_uplink_send = pyo.Var(
        frame.ids, bounds={d: (0.0, float(room[row])) for d, row in frame.place.items()}, doc="s2_n"
    )
    model.con_uplink_send = pyo.Constraint(
        frame.ids,
        rule={
            d: model.var_uplink_send[d]
            >= float(scaled.uplink_load[row]) * model.var_uplink_bits[frame.chooser(d)] / rate[d]
            for d, row in frame.place.items()
        },
    )
    model.con_uplink_time = pyo.Constraint(
        frame.ids,
        rule={
            d: model.var_tau_up >= device_forward(frame, modes, d) + model.var_uplink_send[d]
            for d in frame.ids
        },
    )


def add_downlink_ratios(frame: Frame, modes: Modes) -> None:
    """Add tau_d >= s5_n + s4_n and s4_n >= load_n beta_g,n / y_n, equations (6) and (7)."""
    model, scaled = frame.model, frame.scaled
    room = scaled.tau_down.high - scaled.s5_base - frame.derived.cut_low * scaled.s5_block
    room = room - scaled.s5_more.min(axis=1)
    bits = {c: modes.downlink_bits(c) for c in frame.choosers}
    model.var_downlink_send = pyo.Var(
        frame.ids, bounds={d: (0.0, float(room[row])) for d, row in frame.place.items()}, doc="s4_n"
    )
    model.con_downlink_send = pyo.Constraint(
        frame.ids,
        rule={
            d: model.var_downlink_send[d]
            >= float(scaled.downlink_load[row])
            * bits[frame.chooser(d)]
            / model.var_downlink_share[d]
            for d, row in frame.place.items()
        },
    )
    model.con_downlink_time = pyo.Constraint(
        frame.ids,
        rule={
            d: model.var_tau_down >= device_backward(frame, modes, d) + model.var_downlink_send[d]
            for d in frame.ids
        },
    )


def add_reduced_uplink(frame: Frame, modes: Modes) -> None:
    """Add SUM_n load_n beta_n / (tau_u - s1_n(l_n)) <= N under ``psd``: equations (4), (7), (13).

    ``con_uplink_share`` and, so that no quotient changes its sign, ``con_uplink_time``: the time
    left to send is at least what it takes with the largest share.
    """
    model, scaled = frame.model, frame.scaled
    bits = {c: modes.uplink_bits(c) for c in frame.choosers}
    left = {d: model.var_tau_up - device_forward(frame, modes, d) for d in frame.ids}
    least = scaled.uplink_load * frame.bounds.uplink_bits.low / scaled.uplink_share_high
    _add_share_sum(frame, "uplink", bits, left, scaled.uplink_load, least)


def add_reduced_downlink(frame: Frame, modes: Modes) -> None:
    """Add SUM_n load_n beta_g,n / (tau_d - s5_n(l_n)) <= N: equations (6), (7) and (13).

    ``con_downlink_share`` and ``con_downlink_time``, as :func:`add_reduced_uplink`.
    """
    model, scaled = frame.model, frame.scaled
    bits = {c: modes.downlink_bits(c) for c in frame.choosers}
    left = {d: model.var_tau_down - device_backward(frame, modes, d) for d in frame.ids}
    least = scaled.downlink_load * frame.bounds.downlink_bits.low / scaled.downlink_share_high
    _add_share_sum(frame, "downlink", bits, left, scaled.downlink_load, least)


def _add_share_sum(
    frame: Frame,
    link: str,
    bits: dict[str, Expr],
    left: dict[str, Expr],
    load: NDArray[np.float64],
    least: NDArray[np.float64],
) -> None:
    """The shares that all devices need for what they send in the time that is left to them."""
    sends = [d for d, row in frame.place.items() if load[row] > 0.0]
    needed = [float(load[frame.place[d]]) * bits[frame.chooser(d)] / left[d] for d in sends]
    whole = float(len(frame.ids))
    if needed:
        total = pyo.quicksum(needed) <= whole
        frame.model.add_component(f"con_{link}_share", pyo.Constraint(expr=total))
    floor = least * (1.0 - 1e-9)
    rules = {d: left[d] >= float(floor[row]) for d, row in frame.place.items()}
    frame.model.add_component(f"con_{link}_time", pyo.Constraint(frame.ids, rule=rules))
    known = getattr(frame.model, "least_denominator", float("inf"))
    frame.model.least_denominator = min(known, float(floor.min()))


def server_more(frame: Frame, modes: Modes, device: str) -> Expr:
    """Return what a mode adds to s3_n of equation (5): tokens change the server's work."""
    blocks = modes.more_blocks(device, frame.scaled.s3_block_more)
    return modes.more(device, frame.scaled.s3_more) - blocks


def add_parallel_server(frame: Frame, modes: Modes) -> None:
    """Add ``con_server_time``: tau_s >= s3_n(l_n) for every n, equation (7) under ``parallel``."""
    if frame.derived.server_order is not ServerOrder.PARALLEL:
        return
    model, scaled = frame.model, frame.scaled
    model.con_server_time = pyo.Constraint(
        frame.ids,
        rule={
            d: model.var_tau_server + float(scaled.s3_block[row]) * model.var_blocks[d]
            >= float(scaled.s3_base[row]) + server_more(frame, modes, d)
            for d, row in frame.place.items()
        },
    )


def server_time(frame: Frame, modes: Modes) -> Expr:
    """Return the server's part of a step, equations (5) and (7): a sum in turn, else tau_s."""
    model, scaled = frame.model, frame.scaled
    if frame.derived.server_order is ServerOrder.PARALLEL:
        return model.var_tau_server
    blocks = [model.var_blocks[d] for d in frame.ids]
    time = linear(scaled.s3_base.sum(), -scaled.s3_block, blocks)
    if frame.derived.plain:
        return time
    return time + sum(server_more(frame, modes, d) for d in frame.ids)


def add_objective(frame: Frame, modes: Modes, adapters: Expr) -> None:
    """Add min K (tau_u + server + tau_d) + tau_a, equation (9), in units of objective_unit_s."""
    model = frame.model
    model.obj_round_delay = pyo.Objective(
        expr=model.var_tau_up + model.var_tau_down + server_time(frame, modes) + adapters
    )
    model.objective_unit_s = frame.scaled.objective_unit_s
    model.step_unit_s = frame.scaled.step_unit_s
    model.share_unit = frame.scaled.share_unit
    model.loss_unit = frame.scaled.loss_unit
