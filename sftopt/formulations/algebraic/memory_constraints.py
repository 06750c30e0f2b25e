"""Server memory, equation (11). Device memory (10) and the in-turn server are bounds of l_n."""

from __future__ import annotations

import pyomo.environ as pyo

from sftopt.core.errors import InfeasibleError
from sftopt.core.instance import ServerOrder
from sftopt.formulations.algebraic.compression import Modes
from sftopt.formulations.algebraic.frame import Frame, linear


def add_server_memory(frame: Frame, modes: Modes) -> None:
    """Add SUM b_n (L - l_n) m_a <= what is left of M_s, equation (11) under ``parallel``.

    m_a is that of the tokens sent.

    ``con_server_memory``, divided by what all blocks of all devices would take. Raises
    InfeasibleError where even the fixed part does not fit.
    """
    derived = frame.derived
    if derived.server_order is not ServerOrder.PARALLEL:
        return
    saved, budget = derived.server_activation_bytes, derived.server_activation_budget_bytes
    whole = float(saved.sum()) * derived.blocks
    if budget < 0.0:
        raise InfeasibleError("the server's memory does not hold the model and the boundary data")
    if budget >= whole:
        return
    blocks = [frame.model.var_blocks[d] for d in frame.ids]
    spared = linear(0.0, saved / whole, blocks)
    if not derived.plain:
        more = (derived.option_server_activation_bytes - saved[:, None]) / whole
        for device in frame.ids:
            spared = spared - derived.blocks * modes.more(device, more)
            spared = spared + modes.more_blocks(device, more)
    frame.model.con_server_memory = pyo.Constraint(expr=spared >= (whole - budget) / whole)
