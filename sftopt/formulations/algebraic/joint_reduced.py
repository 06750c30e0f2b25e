"""``joint-reduced``: problem (13) without shares: what is left are times, cuts, modes and keeps."""

from __future__ import annotations

import pyomo.environ as pyo
from pyomo.common.gc_manager import PauseGC

from sftopt.core.candidate import Candidate
from sftopt.core.derived import Derived
from sftopt.core.instance import PowerLaw
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
    add_objective,
    add_parallel_server,
    add_reduced_downlink,
    add_reduced_uplink,
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
    add_uplink_shares,
)
from sftopt.formulations.base import Formulation, ProblemClass, Start


def build_reduced(derived: Derived, start: Start | None, *, name: str) -> pyo.ConcreteModel:
    """Build problem (13) with shares eliminated where the rate is linear in them."""
    model = pyo.ConcreteModel(name=name)
    frame = new_frame(model, derived, start)

    add_cuts(frame, integral=True)
    add_modes(frame, integral=True)
    add_keep(frame)
    add_barriers(frame)
    add_losses(frame)

    modes = ProductModes(frame)
    modes.add_keep_limits()
    modes.add_cut_limits()
    cuts = IncrementalCuts(frame, integral=True) if needs_indicators(frame) else None

    if derived.power is PowerLaw.PSD:
        add_reduced_uplink(frame, modes)
    else:
        add_uplink_shares(frame)
        add_uplink_products(frame, modes, add_uplink_rates(frame, logs_of_ratios, tangents=True))
    add_reduced_downlink(frame, modes)
    add_parallel_server(frame, modes)
    add_adapter_products(frame, add_adapter_rates(frame, logs_of_ratios, tangents=True))
    add_multicast(frame, cuts)
    add_server_memory(frame, modes)
    add_loss_products(frame, modes, cuts)
    add_mean_accuracy(frame)
    add_objective(frame, modes, adapter_time(frame))

    load_point(frame, least_loss_candidate(derived) if start is None else start.candidate)
    return model


class JointReduced(Formulation):
    """Problem (13), exact, shares eliminated: SUM_n payload_n / (tau_u - s1_n(l_n)) <= 1.

    Source: MODEL.md (13). Nothing is ignored. A device needs the share payload / (tau - fixed time)
    and no more, where its rate is linear in the share: always down, and up under ``psd``; under
    ``total`` uplink shares stay, as in ``joint-product``, all of whose other variables it has. The
    fewest variables of the exact forms: 18 in place of 22 and 38 with two devices.
    """

    name = "joint-reduced"
    promise = Promise.EXACT
    problem_class = ProblemClass.MINLP
    layer = "pyomo"
    summary = "problem (13), exact, shares eliminated where rates are linear in them"

    def build(self, derived: Derived, start: Start | None) -> pyo.ConcreteModel:
        """Build the Pyomo model, in model units. Raises InfeasibleError where a domain is empty."""
        with PauseGC():  # a model is no garbage: collecting while it grows tripled the time
            return build_reduced(derived, start, name=self.name)

    def read(self, derived: Derived, model: pyo.ConcreteModel) -> Candidate:
        """Read the candidate at the model's present variable values."""
        return read_candidate(derived, model)


FORMULATION = JointReduced()
