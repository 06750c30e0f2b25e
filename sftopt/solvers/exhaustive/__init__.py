"""Ground truth on small instances: problem (13) by enumeration of all cuts and options.

Every combination of cuts and options leaves an inner problem over the keep fractions, which is
solved globally or shown to be no better than the incumbent. The devices' fixed times s_n, server
time, memory and adapter exchange are constants of a combination (equations (4), (5), (8), (10),
(11)): modes with figures of their own and tokens change them with the option, which a combination
holds, and their one payload and loss make beta and f_n constants, which every statement allows.
Written with v_n = ln beta(rho_n), s_n the fixed time and x_n the share of device n:

Statement 1 (scopes ``each`` and ``common``). beta' > 0 on the domain, so tau_u and tau_d do not
    fall in any rho_n. The loss is convex in rho_n, so its limit leaves an interval; the lower end
    is optimal. ``common``: the largest of the devices' lower ends, if no upper end is below it.

Statement 2 (tau_u is convex in v). x_n = R_n^-1(e^z) with z = ln(e^(v_n) + c) + ln D_n -
    ln(tau - s_n), where c >= 0 are the side bits per element, is jointly convex in (v_n, tau): z
    is (ln(e^v + c) has the derivative p = e^v/(e^v + c) and then p (1 - p) >= 0), R^-1 is convex
    and rising (R is concave and rising), and both exp and R^-1 keep convexity. tau_u(v) = min
    {tau: SUM x_n(v_n, tau) <= 1} is the partial minimum of a jointly convex problem.

Statement 3 (tau_d is convex in v). By Statement 2 it is convex in ln beta_g, where it rises; so it
    is enough that ln beta_g is convex in v, that is beta'/beta - beta''/beta' >= eta/beta_g.
    With h = rho eta + omega H2, beta = h + sigma, beta_g = eta rho + sigma, q = -beta''/beta' and
    beta'' = -omega/(ln 2 rho (1-rho)), multiply by (h + sigma)(eta rho + sigma):
    sigma^0: h' eta rho - eta h + q h eta rho >= 0, since h - rho h' = -omega log2(1-rho) and
        h >= rho h' give q h rho >= -beta'' rho^2 = omega rho/(ln 2 (1-rho))
        >= -omega log2(1-rho), as rho/(1-rho) >= -ln(1-rho);
    sigma^1: h' - eta + q (h + eta rho) >= 0: for rho <= 1/2 h' >= eta; else
        eta - h' = omega log2(rho/(1-rho)) <= -omega log2(1-rho) <= q h rho <= q h;
    sigma^2: q >= 0. (omega = 0: equality. Dense downlink: tau_d is constant.)

Statement 4 (certificate). Let f_n(v) be at most the loss and convex on the row's intervals,
    F = tau_u + tau_d, G = SUM w_n f_n - budget. For any v^ in the intervals and any price >= 0

        F(v) >= F(v^) + price G(v^) + SUM min over the interval of
                (dF/dv_n + price w_n f_n'(v^_n)) (v_n - v^_n)

    for every v that meets the mean limit: both are convex, and G(v) <= 0 there. The minimum of a
    linear function on an interval is at an end. F(v^) is itself taken from below, with tangent
    planes of the rate laws (``links``). Each bound is lowered by 4e-12 of itself.

Statement 5 (where (16) holds). The loss falls up to its minimum in rho, beyond which nothing is
    gained, and is convex in v where (16) holds, which is decided by interval bounds
    (``curves``). There f_n is the loss itself and the inner problem is convex:
    Statement 4 is tight at its optimum and an interior-point method closes the gap.

Statement 6 (elsewhere). f_n is the exact convex envelope of the loss on the row's interval. If it
    is below the loss at the relaxed optimum, the interval is split there, best bound first; both
    envelopes then meet the loss at the splitting point, and the error on an interval falls with
    the square of its width, so the search ends.

A combination is dropped only if its bound is not below the incumbent by more than 1e-7 of it; the
bound that is reported is the least over all rows, dropped, solved or still open.
"""

from __future__ import annotations

import math

import numpy as np

from sftopt.core.derived import Derived
from sftopt.core.spectrum import LinearRate, least_time
from sftopt.core.status import Termination
from sftopt.formulations.base import Problem, ProblemClass
from sftopt.solvers.base import Availability, Outcome, Solver, Takes, Task
from sftopt.solvers.exhaustive.search import Search
from sftopt.solvers.exhaustive.space import combination_count, cut_counts

COMBINATION_LIMIT = 200_000
"""More combinations of cuts and options than this are refused."""


class ExhaustiveSolver(Solver):
    """Enumerates cuts and options; the inner problems are solved to a certified 1e-7."""

    name = "exhaustive"
    kind = "global"
    takes = (Takes("native", {ProblemClass.NATIVE}, Problem.PLAN),)
    default = "native"
    honours = frozenset({"time_limit"})
    native_options = False
    wants_start = False
    in_process = True
    summary = "ground truth for small instances: all cuts and modes, inner problem to 1e-7"

    def available(self) -> Availability:
        """Check that a two-variable root search gives its known answer; all else is NumPy."""
        tau, _ = least_time(np.zeros(2), np.ones(2), LinearRate(np.array([1.0, 3.0])))
        if abs(tau - 4.0 / 3.0) > 1e-12:
            return Availability(False, f"the probe gave {tau!r} in place of 4/3")
        return Availability(
            True, engine_version=f"NumPy {np.__version__}", linked_library="none (pure Python)"
        )

    def refusal(self, task_derived: Derived) -> str | None:
        """Refuse more than :data:`COMBINATION_LIMIT` combinations."""
        count = combination_count(task_derived)
        if count <= COMBINATION_LIMIT:
            return None
        cuts = "x".join(str(c) for c in cut_counts(task_derived)[:8])
        cuts += "x..." if task_derived.devices > 8 else ""
        amount = f"{count:,}" if count < 10**12 else f"about 1e{int(math.log10(count))}"
        return (
            f"exhaustive would have to settle {amount} combinations of cuts ({cuts}) and "
            f"{len(task_derived.options)} compression options; its limit is "
            f"{COMBINATION_LIMIT:,}. Use fewer devices, cuts or modes, or another solver "
            f"(scip for a proven bound)."
        )

    def run(self, task: Task) -> Outcome:
        """Enumerate; on a limit the incumbent and the bound so far are kept."""
        derived = task.derived
        hopeless = _hopeless(derived)
        if hopeless is not None:
            return Outcome(Termination.INFEASIBLE_PROVEN, message=hopeless)
        return Search(task).run()


def _hopeless(derived: Derived) -> str | None:
    """Why no combination exists at all; None where one may."""
    if np.any(derived.outage):
        names = [derived.ids[i] for i in np.flatnonzero(derived.outage)[:5]]
        return f"outage: the whole band gives too low a rate to {', '.join(names)}"
    for device, count in zip(derived.ids, cut_counts(derived), strict=True):
        if count == 0:
            return f"device {device}: memory (its own or the server's) leaves no cut to choose"
    if not derived.options:
        return "no compression mode has a keep fraction within its limits"
    return None


SOLVER = ExhaustiveSolver()
