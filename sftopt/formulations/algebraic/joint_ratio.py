"""``joint-ratio``: problem (13) with quotients in epigraphs and no product with a binary."""

from __future__ import annotations

import pyomo.environ as pyo
from pyomo.common.gc_manager import PauseGC

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.limits import least_loss_candidate
from sftopt.core.status import Promise
from sftopt.formulations.algebraic.accuracy_constraints import add_loss_by_cut, add_mean_accuracy
from sftopt.formulations.algebraic.adapter_constraints import (
    adapter_time,
    add_adapter_rates,
    add_adapter_ratios,
    add_multicast,
)
from sftopt.formulations.algebraic.compression import DisaggregatedModes
from sftopt.formulations.algebraic.cut_indicators import OneHotCuts, needs_indicators
from sftopt.formulations.algebraic.delay_constraints import (
    add_downlink_ratios,
    add_objective,
    add_parallel_server,
    add_uplink_ratios,
)
from sftopt.formulations.algebraic.frame import new_frame
from sftopt.formulations.algebraic.memory_constraints import add_server_memory
from sftopt.formulations.algebraic.rates import add_uplink_rates, differences_of_logs
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


def build_ratios(derived: Derived, start: Start | None, *, name: str) -> pyo.ConcreteModel:
    """Build problem (13) in epigraph-ratio form."""
    model = pyo.ConcreteModel(name=name)
    frame = new_frame(model, derived, start)

    add_cuts(frame, integral=True)
    add_modes(frame, integral=True)
    add_keep(frame)
    add_shares(frame)
    add_barriers(frame)
    add_losses(frame)

    modes = DisaggregatedModes(frame)
    modes.add_keep_limits()
    modes.add_cut_limits()
    cuts = OneHotCuts(frame) if needs_indicators(frame) else None

    rate = add_uplink_rates(frame, differences_of_logs, tangents=True)
    add_uplink_ratios(frame, modes, rate)
    add_downlink_ratios(frame, modes)
    add_parallel_server(frame, modes)
    add_adapter_ratios(frame, add_adapter_rates(frame, differences_of_logs, tangents=True))
    add_multicast(frame, cuts)
    add_server_memory(frame, modes)
    add_loss_by_cut(frame, modes, cuts)
    add_mean_accuracy(frame)
    add_objective(frame, modes, adapter_time(frame))

    load_point(frame, least_loss_candidate(derived) if start is None else start.candidate)
    return model


class JointRatio(Formulation):
    """Problem (13), exact, with quotients: tau_u >= s1_n(l_n) + s2_n, s2_n >= payload_n / R_n.

    Source: MODEL.md (13). Nothing is ignored. Keep fractions are disaggregated by option, so no
    binary is multiplied; cuts, where they need binaries, are one-hot; the total law is a difference
    of logarithms. Nothing but linear families is shared with ``joint-product``: the two check each
    other. Variables beside those of ``joint-product``: ``var_keep_option[dev, option]``,
    ``var_uplink_bits[dev]``, ``var_uplink_send[dev]``, ``var_downlink_send[dev]``.
    """

    name = "joint-ratio"
    promise = Promise.EXACT
    problem_class = ProblemClass.MINLP
    layer = "pyomo"
    summary = "problem (13), exact, epigraphs of quotients, disaggregated keep fractions"

    def build(self, derived: Derived, start: Start | None) -> pyo.ConcreteModel:
        """Build the Pyomo model, in model units. Raises InfeasibleError where a domain is empty."""
        with PauseGC():  # a model is no garbage: collecting while it grows tripled the time
            return build_ratios(derived, start, name=self.name)

    def read(self, derived: Derived, model: pyo.ConcreteModel) -> Candidate:
        """Read the candidate at the model's present variable values."""
        return read_candidate(derived, model)


FORMULATION = JointRatio()
