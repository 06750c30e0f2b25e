"""``joint-product``: problem (13) with every quotient multiplied out."""

from __future__ import annotations

import pyomo.environ as pyo
from pyomo.common.gc_manager import PauseGC

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.limits import least_loss_candidate
from sftopt.core.status import Promise
from sftopt.formulations.algebraic.accuracy_constraints import add_loss_products, add_mean_accuracy
from sftopt.formulations.algebraic.adapter_constraints import (
    adapter_time,
    add_adapter_products,
    add_adapter_rates,
    add_multicast,
)
from sftopt.formulations.algebraic.compression import ProductModes
from sftopt.formulations.algebraic.cut_indicators import IncrementalCuts, needs_indicators
from sftopt.formulations.algebraic.delay_constraints import (
    add_downlink_products,
    add_objective,
    add_parallel_server,
    add_uplink_products,
)
from sftopt.formulations.algebraic.frame import new_frame
from sftopt.formulations.algebraic.memory_constraints import add_server_memory
from sftopt.formulations.algebraic.rates import add_uplink_rates, logs_of_ratios
from sftopt.formulations.algebraic.start_values import load_point, read_candidate
from sftopt.formulations.algebraic.variables import (
    add_barriers,
    add_cuts,
    add_keep,
    add_losses,
    add_modes,
    add_shares,
)
from sftopt.formulations.base import Formulation, ProblemClass, Start


def build_products(
    derived: Derived, start: Start | None, *, integral: bool, name: str
) -> pyo.ConcreteModel:
    """Build problem (13) in product form; ``integral=False`` is its continuous relaxation."""
    model = pyo.ConcreteModel(name=name)
    frame = new_frame(model, derived, start)

    add_cuts(frame, integral)
    add_modes(frame, integral)
    add_keep(frame)
    add_shares(frame)
    add_barriers(frame)
    add_losses(frame)

    modes = ProductModes(frame)
    modes.add_keep_limits()
    modes.add_cut_limits()
    cuts = IncrementalCuts(frame, integral) if needs_indicators(frame) else None

    rate = add_uplink_rates(frame, logs_of_ratios, tangents=integral)
    add_uplink_products(frame, modes, rate)
    add_downlink_products(frame, modes)
    add_parallel_server(frame, modes)
    add_adapter_products(frame, add_adapter_rates(frame, logs_of_ratios, tangents=integral))
    add_multicast(frame, cuts)
    add_server_memory(frame, modes)
    add_loss_products(frame, modes, cuts)
    add_mean_accuracy(frame)
    add_objective(frame, modes, adapter_time(frame))

    load_point(frame, least_loss_candidate(derived) if start is None else start.candidate)
    return model


class JointProduct(Formulation):
    """Problem (13), exact, with products: (tau_u - s1_n(l_n)) x_n R_n >= payload_n.

    Source: MODEL.md (13). Nothing is ignored. Variables: ``var_blocks[dev]`` (integer),
    ``var_mode[dev, option]`` (binary), ``var_keep[dev]``, ``var_uplink_share[dev]``,
    ``var_downlink_share[dev]``, ``var_adapter_share[dev]`` (total power), ``var_tau_up``,
    ``var_tau_down``, ``var_tau_server`` (parallel), ``var_tau_adapter_up`` (total power),
    ``var_loss[dev]``; MODEL.md lists the rest. Under scope common the index of mode and keep is
    ``all``.
    """

    name = "joint-product"
    promise = Promise.EXACT
    problem_class = ProblemClass.MINLP
    layer = "pyomo"
    summary = "problem (13), exact, quotients multiplied out (bilinear)"

    def build(self, derived: Derived, start: Start | None) -> pyo.ConcreteModel:
        """Build the Pyomo model, in model units. Raises InfeasibleError where a domain is empty."""
        with PauseGC():  # a model is no garbage: collecting while it grows tripled the time
            return build_products(derived, start, integral=True, name=self.name)

    def read(self, derived: Derived, model: pyo.ConcreteModel) -> Candidate:
        """Read the candidate at the model's present variable values."""
        return read_candidate(derived, model)


FORMULATION = JointProduct()
