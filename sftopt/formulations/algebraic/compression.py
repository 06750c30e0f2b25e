"""Payload and accuracy as functions of mode and keep fraction, equations (1), (2) and (12).

Two algebraic forms side by side with one interface. Both are exact at integral modes and differ
everywhere else:

- :class:`ProductModes` has one keep fraction per device and multiplies it with the binaries.
- :class:`DisaggregatedModes` has one keep fraction per option, between lo*m and hi*m, and no
  product with a binary at all.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import pyomo.environ as pyo
from numpy.typing import NDArray

from sftopt.core.derived import Option
from sftopt.core.entropy import LN2
from sftopt.core.instance import DownlinkPayload, ModeKind
from sftopt.formulations.algebraic.frame import Expr, Frame
from sftopt.formulations.bounds import keep_range, keep_span

Array = NDArray[np.float64]


def binary_entropy(keep: Expr) -> Expr:
    """Return the expression H2(keep) in bits, for 0 < keep < 1: part of equation (1)."""
    return -(keep * pyo.log(keep) + (1.0 - keep) * pyo.log(1.0 - keep)) / LN2


class Modes(ABC):
    """Payloads and losses of one algebraic form; every method takes an index of ``choosers``."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.model = frame.model
        self.single = len(frame.options) == 1

    @abstractmethod
    def uplink_bits(self, chooser: str) -> Expr:
        """Return beta of equation (1) in bits per boundary element."""

    @abstractmethod
    def downlink_bits(self, chooser: str) -> Expr:
        """Return beta_g of equation (2) in bits per boundary element."""

    @abstractmethod
    def fade(self, chooser: str) -> Expr:
        """Return exp(-a_2 rho) of equation (12): what a_1 and the cut factor multiply."""

    @abstractmethod
    def blocks_on(self, device: str, label: str) -> Expr:
        """Return l_n m_no: the blocks of a device where it uses the option, else 0."""

    @abstractmethod
    def add_cut_limits(self) -> None:
        """Add l_n >= the least cut of the option in use, equation (11) in turn; tokens: 1."""

    @abstractmethod
    def noise(self, chooser: str) -> Expr:
        """Return the noise term of equation (12), in units of the scaled loss."""

    def mode(self, chooser: str, label: str) -> Expr:
        """Return the variable m_no, or the number 1 where there is only one option."""
        return 1.0 if self.single else self.model.var_mode[chooser, label]

    def weighted(self, chooser: str, values: dict[str, float]) -> Expr:
        """Return SUM_o value_o m_no over the options named, a number where it cannot vary."""
        alike = len(set(values.values())) <= 1
        if alike and len(values) == len(self.frame.options):
            return next(iter(values.values()))
        return sum(
            value * self.mode(chooser, label) for label, value in values.items() if value != 0.0
        )

    def constant_bits(self, down: bool) -> dict[str, float]:
        """Return, by option, the bits of beta or beta_g that do not depend on the keep fraction."""
        derived = self.frame.derived
        bits = derived.constant_down if down else derived.constant_up
        return {label: bits(option) for label, option in self.frame.options.items()}

    def constant_noise(self) -> dict[str, float]:
        """Return, by option, the part of the noise (loss) that does not depend on the keep.

        The measured loss of a mode that has its own, where that is the same at all cuts.
        """
        scales, unit = self.frame.derived.noise_scales, self.frame.scaled.loss_unit
        return {
            label: _alike(option.own_loss) / unit if option.own_loss is not None
            else 0.0 if option.has_mask and scales else option.noise / unit
            for label, option in self.frame.options.items()
        }  # fmt: skip

    def losses_by_cut(self) -> dict[str, list[float]]:
        """Return the measured losses, in units of the scaled loss, that differ between cuts."""
        unit = self.frame.scaled.loss_unit
        return {
            label: (option.own_loss / unit).tolist()
            for label, option in self.frame.options.items()
            if option.own_loss is not None and np.ptp(option.own_loss) > 0.0
        }

    def more(self, device: str, table: Array) -> Expr:
        """Return SUM_o table_no m_no for a device, (N, O), of what options have of their own."""
        row = table[self.frame.place[device]]
        values = dict(zip(self.frame.options, row.tolist(), strict=True))
        return self.weighted(self.frame.chooser(device), values)

    def more_blocks(self, device: str, table: Array) -> Expr:
        """Return SUM_o table_no l_n m_no for a device: 0 for all options of S tokens."""
        row = table[self.frame.place[device]]
        return sum(
            value * self.blocks_on(device, label)
            for label, value in zip(self.frame.options, row.tolist(), strict=True)
            if value != 0.0
        )

    @property
    def token_labels(self) -> list[str]:
        """Return the options that send tokens."""
        return [label for label, o in self.frame.options.items() if o.tokens is not None]

    def lowest_cuts(self, device: str) -> dict[str, float]:
        """Return the least cut of a device by option, equation (11) in turn, in blocks."""
        row = self.frame.derived.option_cut_low[self.frame.place[device]]
        return dict(zip(self.frame.options, row.astype(float).tolist(), strict=True))

    def dense_mass(self, chooser: str) -> Expr:
        """Return SUM m_no over dense options without a measured loss: their fade is exp(-a_2)."""
        options = self.frame.options.items()
        dense = [k for k, o in options if o.kind is ModeKind.DENSE and o.own_loss is None]
        return self.weighted(chooser, dict.fromkeys(dense, 1.0))

    def masked_mass(self, chooser: str) -> Expr:
        """Return SUM m_no over the options with a mask."""
        return self.weighted(chooser, dict.fromkeys(self.frame.masked, 1.0))


class ProductModes(Modes):
    """One keep fraction per device, multiplied with the binaries of the options."""

    def uplink_bits(self, chooser: str) -> Expr:
        """Return SUM (rho eta_o + H2(rho) omega_o + constant_o) m_no; equation (1)."""
        bits = self.weighted(chooser, self.constant_bits(down=False))
        masked = self.frame.masked
        if not masked:
            return bits
        keep = self.model.var_keep[chooser]
        slope = self.weighted(chooser, {k: o.eta for k, o in masked.items()})
        omega = {k: o.omega for k, o in masked.items()}
        bits = keep * slope + bits
        if any(omega.values()):
            bits = bits + self.weighted(chooser, omega) * binary_entropy(keep)
        return bits

    def downlink_bits(self, chooser: str) -> Expr:
        """Return rho SUM eta_o m_no + SUM constant_o m_no; equation (2)."""
        bits = self.weighted(chooser, self.constant_bits(down=True))
        masked = self.frame.masked
        if not masked or self.frame.derived.downlink is DownlinkPayload.DENSE:
            return bits
        slope = self.weighted(chooser, {k: o.eta for k, o in masked.items()})
        return self.model.var_keep[chooser] * slope + bits

    def fade(self, chooser: str) -> Expr:
        """Return exp(-a_2 rho) times the masked mass, plus the dense part; equation (12)."""
        decay = self.frame.derived.decay
        fade = math.exp(-decay) * self.dense_mass(chooser)
        if self.frame.masked:
            keep = self.model.var_keep[chooser]
            fade = self.masked_mass(chooser) * pyo.exp(-decay * keep) + fade
        return fade

    def noise(self, chooser: str) -> Expr:
        """Return rho SUM noise_o m_no + SUM constant_o m_no; equation (12)."""
        noise = self.weighted(chooser, self.constant_noise())
        masked, unit = self.frame.masked, self.frame.scaled.loss_unit
        if masked and self.frame.derived.noise_scales:
            slope = self.weighted(chooser, {k: o.noise / unit for k, o in masked.items()})
            noise = self.model.var_keep[chooser] * slope + noise
        return noise

    def blocks_on(self, device: str, label: str) -> Expr:
        """Return the product l_n m_no."""
        return self.model.var_blocks[device] * self.mode(self.frame.chooser(device), label)

    def add_cut_limits(self) -> None:
        """Add ``con_cut_mode``: l_n >= SUM_o low_no m_no, equation (11) in turn."""
        if self.single or self.frame.derived.plain:
            return
        blocks = self.model.var_blocks
        rules = {
            d: blocks[d] >= self.weighted(self.frame.chooser(d), self.lowest_cuts(d))
            for d in self.frame.ids
            if len(set(self.lowest_cuts(d).values())) > 1
        }
        self.model.con_cut_mode = pyo.Constraint(list(rules), rule=rules)

    def add_keep_limits(self) -> None:
        """Add lo_o <= rho_n <= hi_o for the option in use, equation (13).

        SUM lo_o m_no <= rho_n <= SUM hi_o m_no; options without a mask leave rho_n free.
        """
        limits = keep_range(self.frame.derived)
        if limits is None or self.single:
            return
        options, keep = self.frame.options, self.model.var_keep
        low = {k: o.keep_low if o.has_mask else limits.low for k, o in options.items()}
        high = {k: o.keep_high if o.has_mask else limits.high for k, o in options.items()}
        choosers = self.frame.choosers
        if len(set(low.values())) > 1:
            self.model.con_keep_low = pyo.Constraint(
                choosers, rule={c: keep[c] >= self.weighted(c, low) for c in choosers}
            )
        if len(set(high.values())) > 1:
            self.model.con_keep_high = pyo.Constraint(
                choosers, rule={c: keep[c] <= self.weighted(c, high) for c in choosers}
            )


class DisaggregatedModes(Modes):
    """One keep fraction per masked option, k_no in [lo_o m_no, hi_o m_no], and no products.

    f(rho) of a group of options with mass M = SUM m_no in {0, 1} is f(SUM k_no + lo (1 - M)) -
    (1 - M) f(lo): at M = 1 f of the option in use, at M = 0 it vanishes. The argument stays
    inside (0, 1), so H2 is never evaluated at its ends.
    """

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame)
        omegas = sorted({option.omega for option in frame.masked.values()} - {0.0})
        self.groups = {
            omega: {k: o for k, o in frame.masked.items() if o.omega == omega} for omega in omegas
        }

    def kept(self, chooser: str, label: str) -> Expr:
        """Return the variable k_no, or rho_n itself where there is only one option."""
        if self.single:
            return self.model.var_keep[chooser]
        return self.model.var_keep_option[chooser, label]

    def blocks_on(self, device: str, label: str) -> Expr:
        """Return the variable l_no, or l_n itself where there is only one option."""
        if self.single:
            return self.model.var_blocks[device]
        return self.model.var_blocks_option[device, label]

    def add_cut_limits(self) -> None:
        """Add l_no in [low_no m_no, high_n m_no] for tokens, and the rest of l_n likewise; (11).

        ``var_blocks_option``, ``con_cut_mode_low`` and ``con_cut_mode_high``.
        """
        if self.single or not self.token_labels:
            return
        frame, model, tokens = self.frame, self.model, self.token_labels
        high = dict(zip(frame.ids, frame.derived.cut_high.astype(float).tolist(), strict=True))
        index = [(d, label) for d in frame.ids for label in tokens]
        model.var_blocks_option = pyo.Var(
            index, bounds={(d, k): (0.0, high[d]) for d, k in index}, doc="l_n m_no, of tokens"
        )
        least, most = {}, {}
        for d in frame.ids:
            chooser, low = frame.chooser(d), self.lowest_cuts(d)
            for label in tokens:
                part, mode = model.var_blocks_option[d, label], self.mode(chooser, label)
                least[d, label] = part >= low[label] * mode
                most[d, label] = part <= high[d] * mode
            others = [low[k] for k in frame.options if k not in tokens]
            rest = model.var_blocks[d] - sum(model.var_blocks_option[d, k] for k in tokens)
            mass = 1.0 - sum(self.mode(chooser, k) for k in tokens)
            least[d, "rest"] = rest >= min(others, default=0.0) * mass
            most[d, "rest"] = rest <= high[d] * mass
        model.con_cut_mode_low = pyo.Constraint(list(least), rule=least)
        model.con_cut_mode_high = pyo.Constraint(list(most), rule=most)

    def add_keep_limits(self) -> None:
        """Add lo_o m_no <= k_no <= hi_o m_no and rho_n = SUM k_no + lo (1 - SUM m_no); (13)."""
        if self.single or not self.frame.masked:
            return
        model, masked, choosers = self.model, self.frame.masked, self.frame.choosers
        index = [(c, label) for c in choosers for label in masked]
        model.var_keep_option = pyo.Var(
            index, bounds={(c, k): (0.0, masked[k].keep_high) for c, k in index}
        )
        kept, mode = model.var_keep_option, model.var_mode
        model.con_keep_low = pyo.Constraint(
            index, rule={i: kept[i] >= masked[i[1]].keep_low * mode[i] for i in index}
        )
        model.con_keep_high = pyo.Constraint(
            index, rule={i: kept[i] <= masked[i[1]].keep_high * mode[i] for i in index}
        )
        model.con_keep = pyo.Constraint(
            choosers, rule={c: model.var_keep[c] == self.argument(c, masked) for c in choosers}
        )
        self._add_groups()

    def _add_groups(self) -> None:
        """The argument of H2 for each value of omega, equation (1), as a variable of its own.

        With the linear expression in its place SCIP 10 corrupted its heap.
        """
        apart = {w: g for w, g in self.groups.items() if len(g) < len(self.frame.masked)}
        if not apart:
            return
        index = [(c, omega) for c in self.frame.choosers for omega in apart]
        spans = {omega: keep_span(group.values()) for omega, group in apart.items()}
        self.model.var_keep_group = pyo.Var(
            index, bounds={(c, w): (spans[w].low, spans[w].high) for c, w in index}
        )
        group_keep = self.model.var_keep_group
        self.model.con_keep_group = pyo.Constraint(
            index, rule={(c, w): group_keep[c, w] == self.argument(c, apart[w]) for c, w in index}
        )

    def argument(self, chooser: str, group: dict[str, Option]) -> Expr:
        """Return SUM k_no + lo (1 - SUM m_no) over a group of options: linear."""
        total = sum(self.kept(chooser, label) for label in group)
        if len(group) == len(self.frame.options):
            return total
        mass = sum(self.mode(chooser, label) for label in group)
        return total + keep_span(group.values()).low * (1.0 - mass)

    def slope_sum(self, chooser: str, slopes: dict[str, float]) -> Expr:
        """Return SUM slope_o k_no: linear."""
        return sum(slope * self.kept(chooser, k) for k, slope in slopes.items() if slope != 0.0)

    def uplink_bits(self, chooser: str) -> Expr:
        """Return SUM eta_o k_no + SUM constant_o m_no + one H2 per value of omega; equation (1)."""
        masked = self.frame.masked
        bits = self.weighted(chooser, self.constant_bits(down=False))
        bits = bits + self.slope_sum(chooser, {k: o.eta for k, o in masked.items()})
        for omega, group in self.groups.items():
            whole = len(group) == len(masked)
            model = self.model
            keep = model.var_keep[chooser] if whole else model.var_keep_group[chooser, omega]
            bits = bits + omega * binary_entropy(keep)
            if len(group) < len(self.frame.options):
                mass = sum(self.mode(chooser, label) for label in group)
                bits = bits - omega * _entropy_bits(keep_span(group.values()).low) * (1.0 - mass)
        return bits

    def downlink_bits(self, chooser: str) -> Expr:
        """Return SUM eta_o k_no + SUM constant_o m_no, linear; equation (2)."""
        bits = self.weighted(chooser, self.constant_bits(down=True))
        if self.frame.derived.downlink is DownlinkPayload.DENSE:
            return bits
        return bits + self.slope_sum(chooser, {k: o.eta for k, o in self.frame.masked.items()})

    def fade(self, chooser: str) -> Expr:
        """Return exp(-a_2 rho) - (1 - M) exp(-a_2 lo), plus the dense part; equation (12)."""
        decay = self.frame.derived.decay
        fade = math.exp(-decay) * self.dense_mass(chooser)
        masked = self.frame.masked
        if not masked:
            return fade
        fade = pyo.exp(-decay * self.model.var_keep[chooser]) + fade
        if len(masked) < len(self.frame.options):
            rest = math.exp(-decay * keep_span(masked.values()).low)
            fade = fade - rest * (1.0 - self.masked_mass(chooser))
        return fade

    def noise(self, chooser: str) -> Expr:
        """Return SUM noise_o k_no + SUM constant_o m_no, linear; equation (12)."""
        noise = self.weighted(chooser, self.constant_noise())
        masked, unit = self.frame.masked, self.frame.scaled.loss_unit
        if self.frame.derived.noise_scales:
            slopes = {k: o.noise / unit for k, o in masked.items()}
            noise = noise + self.slope_sum(chooser, slopes)
        return noise


def _alike(losses: Array) -> float:
    """A measured loss that is the same at all cuts; 0 where it differs."""
    return float(losses[0]) if np.ptp(losses) == 0.0 else 0.0


def _entropy_bits(keep: float) -> float:
    return -(keep * math.log(keep) + (1.0 - keep) * math.log1p(-keep)) / LN2
