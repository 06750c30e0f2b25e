"""The accuracy limit, equation (12), for every scope, with and without a factor by cut.

Losses a_0 - a are in units of loss_unit. Every device's loss is a variable whose upper bound is
a_0 - a_each (scope ``mean``) or a_0 - a_min (``each``, ``common``).
"""

from __future__ import annotations

import math

import pyomo.environ as pyo

from sftopt.core.instance import AccuracyScope
from sftopt.formulations.algebraic.compression import Modes
from sftopt.formulations.algebraic.cut_indicators import IncrementalCuts, OneHotCuts
from sftopt.formulations.algebraic.frame import EVERYONE, Frame, linear
from sftopt.formulations.algebraic.variables import loss_index
from sftopt.formulations.bounds import keep_range


def add_loss_products(frame: Frame, modes: Modes, cuts: IncrementalCuts | None) -> None:
    """Add ``con_accuracy``: loss_n >= a_1 factor(l_n) exp(-a_2 rho_n) + noise_n, equation (12).

    Measured losses that differ between cuts are multiplied with the binary of their mode.
    """
    loss, a_1 = frame.model.var_loss, frame.scaled.loss_keep
    rules = {}
    for index in loss_index(frame):
        chooser = EVERYONE if index == EVERYONE else frame.chooser(index)
        factor, own = 1.0, 0.0
        if frame.derived.cuts_interact and cuts is not None:
            factor = cuts.factor(index)
            own = sum(
                modes.mode(chooser, label) * cuts.level(index, losses)
                for label, losses in modes.losses_by_cut().items()
            )
        curve = a_1 * factor * modes.fade(chooser) + modes.noise(chooser)
        rules[index] = loss[index] >= curve + own
    frame.model.con_accuracy = pyo.Constraint(list(rules), rule=rules)


def add_loss_by_cut(frame: Frame, modes: Modes, cuts: OneHotCuts | None) -> None:
    """Add equation (12) without products: with a factor by cut, one inequality per cut.

    fade_n >= exp(-a_2 rho_n); loss_n >= a_1 factor_c (fade_n - top (1 - z_nc)) + noise_n, where
    fade_n <= top: ``con_fade`` and ``con_accuracy``. Measured losses e_oc that differ between cuts
    add SUM_o e_oc m_no - (1 - z_nc) max_o e_oc, which is at most 0 at other cuts.
    """
    model, a_1 = frame.model, frame.scaled.loss_keep
    loss, index = model.var_loss, loss_index(frame)
    if not frame.derived.cuts_interact or cuts is None:
        rules = {i: loss[i] >= a_1 * modes.fade(i) + modes.noise(i) for i in index
                 if i in frame.choosers}  # fmt: skip
        model.con_accuracy = pyo.Constraint(index, rule=rules)
        return
    keep = keep_range(frame.derived)
    top = math.exp(-frame.derived.decay * (1.0 if keep is None else keep.low))
    model.var_fade = pyo.Var(frame.choosers, bounds=(0.0, top), doc="exp(-a_2 rho_n)")
    model.con_fade = pyo.Constraint(
        frame.choosers, rule={c: model.var_fade[c] >= modes.fade(c) for c in frame.choosers}
    )
    by_cut, own = {}, modes.losses_by_cut()
    for device in index:
        chooser = frame.chooser(device)
        noise = modes.noise(chooser)
        for cut in cuts.cuts[device]:
            slope = a_1 * float(frame.derived.cut_factor[cut])
            off = 1.0 - model.var_cut[device, cut]
            measured = sum(modes.mode(chooser, k) * losses[cut] for k, losses in own.items())
            measured = measured - off * max((losses[cut] for losses in own.values()), default=0.0)
            by_cut[device, cut] = (
                loss[device] >= slope * (model.var_fade[chooser] - top * off) + noise + measured
            )
    model.con_accuracy = pyo.Constraint(list(by_cut), rule=by_cut)


def add_mean_accuracy(frame: Frame) -> None:
    """Add ``con_accuracy_mean``, equation (12): SUM w_n (a_0 - a_n) <= a_0 - a_min."""
    derived, model = frame.derived, frame.model
    if derived.scope is not AccuracyScope.MEAN:
        return
    losses = [model.var_loss[d] for d in frame.ids]
    model.con_accuracy_mean = pyo.Constraint(
        expr=linear(0.0, derived.weight, losses) <= derived.loss_budget / frame.scaled.loss_unit
    )
