"""What a scheme is: a row of rules, and no arithmetic.

A scheme says by which rule each decision of a round is taken: blocks, compression, shares, ranks,
the server's speed, and in what order devices work. :mod:`sftopt.studies.compare` turns a scheme and
an instance into a plan; what that plan costs is the judge's business alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sftopt.core.instance import Instance
from sftopt.core.plan import Aggregation, Order

Value = int | float | str
"""What an option holds."""
CutsOf = Callable[[Instance, Mapping[str, Value]], Sequence[int]]
"""Blocks of every device, from the instance and the scheme's options."""


class CutRule(StrEnum):
    """How many blocks each device holds."""

    FREE = "free"
    """Problem (13) decides, device by device."""
    COMMON = "common"
    """One count for all, the one of least delay."""
    QUARTER = "quarter"
    """c = max(1, floor(L/4)) for all, or the option ``cut``."""
    BY_SPEED = "by-speed"
    """round(c f_n / median f), moved into [max(1, l_min), what memory allows]."""
    COST = "cost"
    """Device by device the count of least weighted delay and energy, by trying all."""
    MOST = "most"
    """As many as floors and memories allow, device by device."""
    LEAST = "least"
    """As few as floors and memories allow, device by device."""
    ALL = "all"
    """All L: nothing is split."""
    OWN = "own"
    """The scheme's ``own_cuts`` says it (plug-ins)."""


class CompressionRule(StrEnum):
    """What crosses the boundary."""

    FREE = "free"
    """Problem (13) decides mode and keep fraction, device by device."""
    COMMON = "common"
    """One mode and keep fraction for all, those of least delay within the accuracy limit."""
    NONE = "none"
    """Every element at the reference precision."""
    DENSE = "dense"
    """Every element in the scheme's ``bits``."""
    TOKENS = "tokens"
    """Fewer tokens, every element of them in so many bits."""
    NO_BOUNDARY = "no-boundary"
    """Nothing: no boundary is there."""


class ShareRule(StrEnum):
    """How the band is shared."""

    BEST = "best"
    """The shares of least delay."""
    EQUAL = "equal"
    """1/N for the boundary both ways and for adapters."""
    WHOLE = "whole"
    """The whole band for one device after another."""


class RankRule(StrEnum):
    """Which rank a device's adapters have."""

    WORKLOAD = "workload"
    """The workload's."""
    BY_SPEED = "by-speed"
    """The largest of 1, 2, 4 .. r within memory and r f_n / max f."""


class SpeedRule(StrEnum):
    """How fast the server works for a device."""

    GIVEN = "given"
    """At the instance's speed."""
    COST = "cost"
    """In [f_min, f_max], at the speed of least weighted delay and energy."""
    MOST = "most"
    """At f_max."""


FREE_RULES = frozenset(
    {
        CutRule.FREE, CutRule.COMMON, CutRule.COST, CompressionRule.FREE, CompressionRule.COMMON,
        ShareRule.BEST, SpeedRule.COST,
    }
)  # fmt: skip
"""Rules under which a decision is optimised; under the others it is fixed."""


@dataclass(frozen=True)
class SchemeOption:
    """A number or word that the user of a scheme may set.

    ``default`` None: it follows from the instance. A number lies in [least, most]; it is whole
    where ``whole``. A word is one of ``choices``.
    """

    name: str
    text: str
    default: Value | None = None
    least: float = 0.0
    most: float = float("inf")
    whole: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scheme:
    """One system as rules: what it leaves free, what it fixes, where it comes from."""

    name: str
    summary: str
    order: Order
    cut: CutRule
    compression: CompressionRule
    shares: ShareRule
    objective: str
    """What its authors minimise, in words."""
    source: str
    """Where it was published; empty for a baseline of ours."""
    ours: str
    """What the source does not say and was chosen here."""
    ranks: RankRule = RankRule.WORKLOAD
    server_speed: SpeedRule = SpeedRule.GIVEN
    aggregation: Aggregation | None = Aggregation.AVERAGING
    """How adapters are put together; None: handed from one device to the next."""
    bits: int | None = None
    """Bits of :attr:`CompressionRule.DENSE`, reference bits of ``NONE``; None: the instance's."""
    solver: str = ""
    """The solver of problem (13) that decides what is ``FREE``; empty: the default one."""
    options: tuple[SchemeOption, ...] = ()
    fair: bool = False
    """Whether it stands in every comparison, named or not: what is left out flatters sft."""
    own_cuts: CutsOf | None = None

    def __post_init__(self) -> None:
        """Refuse rules that do not go together."""
        if (self.cut is CutRule.OWN) != (self.own_cuts is not None):
            raise ValueError(f"scheme '{self.name}': rule 'own' and own_cuts go together")
        if self.compression is CompressionRule.DENSE and self.bits is None:
            raise ValueError(f"scheme '{self.name}': rule 'dense' needs bits")

    def _rules(self) -> dict[str, StrEnum]:
        return {
            "blocks": self.cut,
            "compression": self.compression,
            "shares": self.shares,
            "ranks": self.ranks,
            "server speed": self.server_speed,
        }

    @property
    def free(self) -> dict[str, str]:
        """Return the decisions that the scheme optimises, with the rule of each."""
        return {name: r.value for name, r in self._rules().items() if r in FREE_RULES}

    @property
    def fixed(self) -> dict[str, str]:
        """Return the decisions that the scheme fixes, with the rule of each."""
        return {name: r.value for name, r in self._rules().items() if r not in FREE_RULES}

    def option(self, name: str) -> SchemeOption | None:
        """Return the option called ``name``; None where the scheme has none."""
        return next((option for option in self.options if option.name == name), None)
