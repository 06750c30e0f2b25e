"""Compiled: what a plan needs; heuristics only. Shares no function with the bound.

At prices of uplink share, downlink share and mean loss every device picks its best cut, option and
keep fraction; at fixed cuts and options the keep fractions and the barrier times are made exact.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sftopt.solvers.certify.plan.keep_fractions import (
    entropy,
    mean_loss,
    priced_keep,
    reprice,
    rough_keep,
    spend,
)
from sftopt.solvers.certify.plan.links import Plain, adapter_time, barrier, rate_at

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_FEW, _ROUGH, _FINE, _PACE = 6, 1e-9, 1e-11, 4.0
"""Settling ends at gains this small: roughly in up to _FEW turns, else finely; and where so many
times its last gain would not reach the ceiling."""


@njit(cache=True, inline="always")
def _bits_up(p: Plain, n: int, o: int, keep: float) -> float:
    return float(p.elements[n] * (p.up[o, 0] * keep + p.up[o, 1] * entropy(keep) + p.up[o, 2]))


@njit(cache=True)
def _least_bits(p: Plain) -> tuple[Array, Array]:
    """(L,) the fewest bits of any option, up and down; infinite where a cut has none."""
    options, blocks = p.low.shape
    up, down = np.full(blocks, np.inf), np.full(blocks, np.inf)
    for cut in range(blocks):
        for o in range(options):
            low = p.low[o, cut]
            if low <= p.high[o, cut]:
                up[cut] = min(up[cut], p.up[o, 0] * low + p.up[o, 1] * entropy(low) + p.up[o, 2])
                down[cut] = min(down[cut], p.down[o, 0] * low + p.down[o, 1])
    return up, down


@njit(cache=True, inline="always")
def _price_cuts(
    cut_low: int, cut_high: int, top_up: float, block_up: float, top_down: float,
    block_down: float, up: float, down: float, rate_down: float, per_block: float, idle: float,
    steps: float, server: float, in_turn: bool, least_up: Array, least_down: Array, fixed: Array,
    ups: Array, downs: Array, below: Array,
) -> int:  # fmt: skip
    """The cut of a device that may be least, or -1; and for its cuts what no option changes.

    ``fixed``, ``ups``, ``downs`` (L,): the cost without bits and that of one bit an element up
    and down; ``below`` (L,): a lower estimate of the cost, infinite where the cut has no time.
    ``top_*``: seconds left at no blocks, ``block_*``: seconds that a block takes of them.
    """
    first = -1
    for cut in range(cut_low, cut_high + 1):
        room_up = top_up - cut * block_up
        room_down = top_down - cut * block_down
        below[cut] = np.inf
        if room_up <= 0.0 or room_down <= 0.0:
            continue
        fixed[cut] = cut * per_block + idle
        if in_turn:
            fixed[cut] -= steps * cut * server
        ups[cut] = up / room_up
        downs[cut] = down / (rate_down * room_down)
        below[cut] = fixed[cut] + ups[cut] * least_up[cut] + downs[cut] * least_down[cut]
        if first < 0 or below[cut] < below[first]:
            first = cut
    return first


@njit(cache=True)
def choose(
    p: Plain, cut_low: Integers, cut_high: Integers, allowed: Integers, tau_up: float,
    tau_down: float, prices: Array, per_bit: Array, offset: Array, adapters: Array, saved: Array,
    cuts: Integers, choice: Integers, keep: Array, gains: Array, own_gain: bool,
) -> bool:  # fmt: skip
    """Every device's best item at ``prices`` (uplink, downlink, loss, memory) and barriers.

    ``allowed`` (N,): bit o is set where option o may be taken.
    ``per_bit`` (N,): uplink share per bit/s; ``offset`` (N,): its constant part (``total`` law).
    ``adapters`` (N,): seconds per block held; ``saved`` (N,): server memory freed per block.
    With ``own_gain`` the items given in ``cuts``, ``choice``, ``keep`` are priced first and
    ``gains`` says what the change saves. False where a device has no item at these barriers.
    """
    options = len(p.up)
    # attributes of a named tuple are counted references: taken once, not in the inner loops
    s1_base, s1_block, s5_base, s5_block = p.s1_base, p.s1_block, p.s5_base, p.s5_block
    s3_block, elements, rate_down, weight = p.s3_block, p.elements, p.rate_down, p.weight
    p_up, p_down, p_loss, p_low, p_high, factor = p.up, p.down, p.loss, p.low, p.high, p.factor
    steps, decay, loss_keep, mean, in_turn = p.steps, p.decay, p.loss_keep, p.mean, not p.parallel
    blocks = p_low.shape[1]
    least_up, least_down = _least_bits(p)
    fixed, ups, downs = np.empty(blocks), np.empty(blocks), np.empty(blocks)
    below = np.empty(blocks)
    near = np.empty(options)
    for n in range(len(weight)):
        near[:] = 0.3
        best, best_l, best_o, best_keep = np.inf, -1, -1, 0.0
        own = np.inf
        unit_price = prices[2] * weight[n] if mean else 0.0
        first = _price_cuts(
            cut_low[n], cut_high[n], tau_up - s1_base[n], s1_block[n], tau_down - s5_base[n],
            s5_block[n], prices[0] * elements[n] * per_bit[n], prices[1] * elements[n],
            rate_down[n], adapters[n] - prices[3] * saved[n], prices[0] * offset[n], steps,
            s3_block[n], in_turn, least_up, least_down, fixed, ups, downs, below,
        )  # fmt: skip
        # the most promising cut first: it makes the others easy to dismiss
        for turn in range(cut_low[n] - 1, cut_high[n] + 1):
            cut = first if turn < cut_low[n] else turn
            if cut < 0 or (turn >= cut_low[n] and cut == first):
                continue
            asked = own_gain and cut == cuts[n]
            if below[cut] == np.inf or (below[cut] >= best and not asked):
                continue
            up, down = ups[cut], downs[cut]
            for o in range(options):
                low, high = p_low[o, cut], p_high[o, cut]
                if low > high or (allowed[n] >> o) & 1 == 0:
                    continue
                unit = unit_price * loss_keep * factor[cut] * p_loss[o, 0]
                slope = up * p_up[o, 0] + down * p_down[o, 0] + unit_price * p_loss[o, 1]
                mask = up * p_up[o, 1]
                still = fixed[cut] + up * p_up[o, 2] + down * p_down[o, 1]
                still += unit_price * p_loss[o, 2]
                at = low
                if mean and low < high and unit > 1e-300:
                    S = slope / unit
                    rest = math.log(decay / S) / decay
                    if still + slope * (rest + 1.0 / decay) >= best and not (
                        own_gain and cut == cuts[n] and o == choice[n]
                    ):
                        continue  # already so without the mask's bits
                    at = rough_keep(decay, mask / unit, S, low, high, near[o])
                    near[o] = at
                value = still + slope * at + mask * entropy(at) + unit * math.exp(-decay * at)
                if own_gain and cut == cuts[n] and o == choice[n]:
                    at_own = keep[n]
                    own = still + slope * at_own + mask * entropy(at_own)
                    own += unit * math.exp(-decay * at_own)
                if value < best:
                    best, best_l, best_o, best_keep = value, cut, o, at
        if best_l < 0:
            return False
        unit = unit_price * loss_keep * factor[best_l] * p_loss[best_o, 0]
        if mean and unit > 1e-300 and p_low[best_o, best_l] < p_high[best_o, best_l]:
            up = prices[0] * elements[n] * per_bit[n] / (tau_up - s1_base[n] - best_l * s1_block[n])
            down = prices[1] * elements[n] / rate_down[n]
            down /= tau_down - s5_base[n] - best_l * s5_block[n]
            slope = up * p_up[best_o, 0] + down * p_down[best_o, 0] + unit_price * p_loss[best_o, 1]
            mask = up * p_up[best_o, 1]
            at = priced_keep(
                decay, mask / unit, slope / unit, p_low[best_o, best_l], p_high[best_o, best_l],
                best_keep,
            )  # fmt: skip
            best += slope * (at - best_keep) + mask * (entropy(at) - entropy(best_keep))
            best += unit * (math.exp(-decay * at) - math.exp(-decay * best_keep))
            best_keep = at
        cuts[n], choice[n], keep[n] = best_l, best_o, best_keep
        gains[n] = own - best
    return True


@njit(cache=True)
def settle(
    p: Plain, cuts: Integers, choice: Integers, keep: Array, rounds: int, ceiling: float,
    state: Array, shares: Array, shares_down: Array,
) -> float:  # fmt: skip
    """Make ``keep`` feasible and good at fixed cuts and options; the delay, or infinity.

    Gives up where it will not get below ``ceiling`` at the pace of its last turn.

    ``state`` (6,): in: guesses of (tau_u, tau_d, price of loss), 0 for none; out: these, and the
    prices of the uplink and the downlink shares. ``shares`` (N,) uplink shares.
    """
    N = len(cuts)
    low, high = np.empty(N), np.empty(N)
    fixed_up, fixed_down, tau_s, server = np.empty(N), np.empty(N), 0.0, 0.0
    for n in range(N):
        low[n], high[n] = p.low[choice[n], cuts[n]], p.high[choice[n], cuts[n]]
        if low[n] > high[n]:
            return np.inf
        fixed_up[n] = p.s1_base[n] + cuts[n] * p.s1_block[n]
        fixed_down[n] = p.s5_base[n] + cuts[n] * p.s5_block[n]
        work = p.s3_base[n] - cuts[n] * p.s3_block[n]
        server += work
        tau_s = max(tau_s, work)
    constant = p.steps * (tau_s if p.parallel else server) + adapter_time(p, cuts)
    bits, bits_down = np.empty(N), np.empty(N)
    bold = np.empty(N)
    trial = np.empty(N)
    free = p.mean and mean_loss(p, cuts, choice, low) > p.budget
    if free and mean_loss(p, cuts, choice, high) > p.budget:
        return np.inf
    if not free:
        keep[:] = low
    else:
        for n in range(N):
            keep[n] = min(max(keep[n], low[n]), high[n])
        spend(p, cuts, choice, high, keep)
    best = np.inf
    state[5] = 0.0
    for turn in range(rounds + 1):
        if turn == 0:
            trial[:] = keep
        for n in range(N):
            bits[n] = _bits_up(p, n, choice[n], trial[n])
            bits_down[n] = p.elements[n] * (p.down[choice[n], 0] * trial[n] + p.down[choice[n], 1])
        tau_up = barrier(p, True, fixed_up, bits, shares)
        tau_down = barrier(p, False, fixed_down, bits_down, shares_down)
        value = p.steps * (tau_up + tau_down) + constant
        improved = value < best
        gained = best - value
        small = gained <= (_FINE if rounds > _FEW else _ROUGH) * value
        hopeless = turn > 0 and improved and value - _PACE * gained > ceiling
        if improved:
            best = value
            keep[:] = trial
            state[0], state[1] = tau_up, tau_down
            weight_up, weight_down = 0.0, 0.0
            for n in range(N):
                rate = bits[n] / (tau_up - fixed_up[n])
                slope = rate_at(p, n, shares[n])[1]
                weight_up += rate / ((tau_up - fixed_up[n]) * slope)
                weight_down += shares_down[n] / (tau_down - fixed_down[n])
                bits[n] = 1.0 / (slope * (tau_up - fixed_up[n]))
            state[3], state[4] = p.steps / weight_up, p.steps / weight_down
            for n in range(N):
                bits[n] *= state[3] * p.elements[n]
                bits_down[n] = state[4] * p.elements[n]
                bits_down[n] /= p.rate_down[n] * (tau_down - fixed_down[n])
        if not free or turn == rounds or (turn > 0 and small and improved) or hopeless:
            break
        if not improved:
            if state[5] >= 2.0:
                break
            state[5] += 1.0
            for n in range(N):
                trial[n] = 0.5 * (trial[n] + keep[n])
            spend(p, cuts, choice, high, trial)
            continue
        state[2] = reprice(p, cuts, choice, keep, low, high, bits, bits_down, state[2], trial, bold)
    # the shares of the best point, not of the last trial
    for n in range(N):
        bits[n] = _bits_up(p, n, choice[n], keep[n])
        bits_down[n] = p.elements[n] * (p.down[choice[n], 0] * keep[n] + p.down[choice[n], 1])
    if free and rounds > 0:
        state[0] = barrier(p, True, fixed_up, bits, shares)
        state[1] = barrier(p, False, fixed_down, bits_down, shares_down)
    return best
