"""What a scheme is: a row of rules, and no arithmetic.

A scheme says by which rule each decision of a round is taken: blocks, compression, shares, ranks,
the server's speed, and in what order devices work. :mod:`sftopt.studies.compare` turns a scheme and
an instance into a plan; what that plan costs is the judge's business alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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
        """Refuse what is of another kind, and rules that do not go together."""
        fault = _kind_fault(self) or _rule_fault(self)
        if fault is not None:
            raise ValueError(f"scheme '{self.name}': {fault}")

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


_MARKS = ",:= "
"""What a name cannot hold: ``a:option=value,b`` is how schemes are asked for."""
_MOST_BITS = 32
"""Of an element."""
_KINDS: dict[str, type | tuple[type, ...]] = {
    "summary": str, "order": Order, "cut": CutRule, "compression": CompressionRule,
    "shares": ShareRule, "objective": str, "source": str, "ours": str, "ranks": RankRule,
    "server_speed": SpeedRule, "aggregation": (Aggregation, type(None)), "solver": str,
    "options": tuple, "fair": bool,
}  # fmt: skip
"""What each field of a scheme holds."""


def _kind_fault(scheme: Scheme) -> str | None:
    """What a field holds that it cannot; None where all is well."""
    if not _is_name(scheme.name):
        return "a name is a word without commas, colons, equals signs and blanks"
    for name, kind in _KINDS.items():
        value = getattr(scheme, name)
        if not isinstance(value, kind):
            wanted = kind if isinstance(kind, type) else kind[0]
            known = ", ".join(f"{wanted.__name__}.{one.name}" for one in wanted) if issubclass(
                wanted, StrEnum) else f"a {wanted.__name__}"  # fmt: skip
            return f"{name} is {value!r}; it must be {known}"
    bits = scheme.bits
    if bits is not None and not (type(bits) is int and 1 <= bits <= _MOST_BITS):
        return f"bits is {bits!r}; it must be a whole number of 1 to {_MOST_BITS}, or None"
    own: Any = scheme.own_cuts
    if own is not None and not callable(own):
        return f"own_cuts is {own!r}; it must be a function of instance and options"
    names, options = [], list[Any](scheme.options)
    for option in options:
        if not isinstance(option, SchemeOption) or not _is_name(option.name):
            return f"options holds {option!r}; each must be a SchemeOption with a name of one word"
        if not _suits(option, option.default):
            return f"option '{option.name}': its default is {option.default!r}, which it refuses"
        names.append(option.name)
    doubled = [name for name in names if names.count(name) > 1]
    return f"option '{doubled[0]}' is there twice" if doubled else None


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name != "" and not any(mark in name for mark in _MARKS)


def _suits(option: SchemeOption, value: Value | None) -> bool:
    """Whether an option may hold ``value``."""
    if value is None:
        return True
    if option.choices:
        return value in option.choices
    kinds = (int,) if option.whole else (int, float)
    return isinstance(value, kinds) and option.least <= value <= option.most


def _rule_fault(scheme: Scheme) -> str | None:
    """Which two rules do not go together; None where all do."""
    order, cut, compression = scheme.order, scheme.cut, scheme.compression
    options = {option.name for option in scheme.options}
    solved = cut in (CutRule.FREE, CutRule.COMMON)
    shares = {
        Order.PARALLEL: (ShareRule.BEST,) if solved else (ShareRule.BEST, ShareRule.EQUAL),
        Order.SEQUENTIAL: (ShareRule.WHOLE,),
        Order.FEDERATED: (ShareRule.EQUAL,),
    }[order]
    alone = {order is Order.FEDERATED, cut is CutRule.ALL,
             compression is CompressionRule.NO_BOUNDARY}  # fmt: skip
    costs = {cut is CutRule.COST, scheme.server_speed is SpeedRule.COST}
    tests = (
        ((cut is CutRule.OWN) == (scheme.own_cuts is not None),
         "rule 'own' and own_cuts go together"),
        (compression is not CompressionRule.DENSE or scheme.bits is not None,
         "rule 'dense' needs bits"),
        (compression is not CompressionRule.TOKENS or "bits" in options or scheme.bits is not None,
         "rule 'tokens' needs bits, or an option 'bits'"),
        (len(alone) == 1, "order 'federated', cut 'all' and 'no-boundary' go together"),
        (len(costs) == 1 and (cut is not CutRule.COST or "w" in options),
         "cut 'cost' and server speed 'cost' go together, with an option 'w'"),
        (compression is not CompressionRule.FREE or cut is CutRule.FREE,
         "compression 'free' needs cut 'free'"),
        (compression is not CompressionRule.COMMON or cut is CutRule.COMMON,
         "compression 'common' needs cut 'common'"),
        (order is Order.PARALLEL or not (solved or cut is CutRule.BY_SPEED),
         f"cut '{cut}' needs order 'parallel'"),
        (order is Order.SEQUENTIAL or scheme.server_speed is SpeedRule.GIVEN,
         f"server speed '{scheme.server_speed}' needs order 'sequential'"),
        (not solved or scheme.ranks is RankRule.WORKLOAD,
         f"ranks '{scheme.ranks}' need a cut that is not '{cut}'"),
        (cut is CutRule.FREE or not scheme.solver, "a solver needs cut 'free'"),
        (scheme.shares in shares,
         f"at order '{order}' and cut '{cut}' shares are "
         f"{' or '.join(map(repr, map(str, shares)))}, not '{scheme.shares}'"),
    )  # fmt: skip
    return next((fault for holds, fault in tests if not holds), None)
