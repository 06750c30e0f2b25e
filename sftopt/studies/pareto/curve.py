"""Delay against energy: problem (13) solved at one server speed after another.

The server's speed is one scalar outside the planner. At each speed the bound says that no plan is
faster; that no plan at another speed is both faster and thriftier is not claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sftopt.core.asked import asked_plainly
from sftopt.core.data_frame import data_frame
from sftopt.core.errors import InputError
from sftopt.core.faults import Fault
from sftopt.core.fields import Reported
from sftopt.core.instance import Instance
from sftopt.core.schemes.registry import get_scheme
from sftopt.solvers.run import solve
from sftopt.studies.compare import Settings
from sftopt.studies.compare.decide import draft
from sftopt.studies.compare.request import Request
from sftopt.studies.compare.row import row_of
from sftopt.studies.pareto.points import CardPoint, CurvePoint

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

MOST_POINTS = 1_000
"""Speeds of one curve."""
SLOWEST = 0.25
"""The slowest speed of a server that names none, as a fraction of its own; CARD's default here."""
CARD_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Weights of delay against energy at which CARD's curve is drawn."""
_SPEED = "server.compute_flops_per_s"
"""The field that is varied."""


class Curve(Reported):
    """Delay against energy over the speeds of a server; every number is the judge's."""

    instance: str
    instance_hash: str
    points: tuple[CurvePoint, ...]
    card: tuple[CardPoint, ...] = ()
    note: str = (
        "At each server speed no plan is faster than its bound. That the curve is Pareto-optimal "
        "is not claimed. Energy without the server's radio, idle and codecs."
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the curve as plain JSON data."""
        return self.model_dump(mode="json")

    def to_dataframe(self) -> pandas.DataFrame:
        """Return one row per server speed, without plans. Needs pandas."""
        rows = [point.model_dump(mode="json", exclude={"plan"}) for point in self.points]
        return data_frame(rows, "Curve", "server_flops_per_s")

    def plot(
        self,
        path: str | Path | None = None,
        *,
        width: str | float | None = None,
        title: bool | None = None,
    ) -> Figure:
        """Draw round delay against server energy; write the picture to ``path``.

        ``width``: inches, ``"column"`` (3.5) or ``"page"`` (7.16); there is no title then unless
        ``title`` says so. Raises InputError where the width is none or the file cannot be written.
        """
        from sftopt.core.pictures.paper import look_of
        from sftopt.core.pictures.saving import save
        from sftopt.studies.pareto.figure import figure_of

        figure = figure_of(self.instance, self.points, self.card, look_of(width, title))
        if path is not None:
            save(figure, Path(path))
        return figure

    def __repr__(self) -> str:
        known = sum(point.round_s is not None for point in self.points)
        return f"Curve({self.instance}: {len(self.points)} server speeds, {known} with a plan)"

    __str__ = __repr__


@asked_plainly
def pareto(
    instance: Instance,
    *,
    points: int = 9,
    time_limit: float | None = 60.0,
    rel_gap: float = 1e-4,
    card: bool = True,
    on_point: Callable[[int, int, CurvePoint], None] | None = None,
) -> Curve:
    """Compute round delay in seconds and energy in joules at ``points`` speeds of the server.

    Speeds lie in equal ratios from the server's slowest to its fastest (a quarter of its speed to
    its speed, where the instance names none). ``time_limit`` (seconds) and ``rel_gap`` hold for
    each. ``card``: CARD's curve over its weight beside it. ``on_point`` hears of each point.

    Raises InputError where the server's energy coefficient is not given, and for less than 2
    points.
    """
    if not 2 <= points <= MOST_POINTS:
        raise InputError(f"points is {points}; 2 to {MOST_POINTS:,} are taken")
    if instance.server.energy_coefficient_j_s2_per_flop3 is None:
        field = "server.energy_coefficient_j_s2_per_flop3"
        text = (
            f"{field} is null, so the server's energy is not known; give kappa_s, the watts it "
            "draws divided by its speed cubed"
        )
        raise InputError(text, [Fault(field=field, message=text)])
    found = []
    for speed in server_speeds(instance, points):
        found.append(_point(instance, speed, time_limit, rel_gap))
        if on_point is not None:
            on_point(len(found), points, found[-1])
    return Curve(
        instance=instance.name,
        instance_hash=instance.hash,
        points=tuple(_marked(found)),
        card=tuple(_card(instance)) if card else (),
    )


def server_speeds(instance: Instance, points: int) -> list[float]:
    """Return ``points`` speeds in FLOP/s from the server's slowest to its fastest, in equal ratios.

    One speed where the two are the same.
    """
    server = instance.server
    own = server.compute_flops_per_s
    slowest = server.compute_min_flops_per_s or min(SLOWEST * own, own)
    fastest = server.compute_max_flops_per_s or max(own, slowest)
    if slowest == fastest:
        return [own]
    speeds = [float(speed) for speed in np.geomspace(slowest, fastest, points)]
    return [slowest, *speeds[1:-1], fastest]  # the ends to the last bit


def _point(
    instance: Instance, speed: float, time_limit: float | None, rel_gap: float
) -> CurvePoint:
    cell = instance.replace(**{_SPEED: speed})
    result = solve(cell, time_limit=time_limit, rel_gap=rel_gap)
    result.raise_if_interrupted()
    stated = result.breakdown if result.ok else None
    return CurvePoint(
        server_flops_per_s=speed,
        round_s=None if stated is None else stated.round_s,
        bound_s=result.bound_s,
        gap_rel=result.gap_rel,
        server_j=None if stated is None else stated.energy_server_j,
        device_j=None if stated is None else stated.energy_device_j,
        termination=result.termination,
        plan=result.plan if stated is not None else None,
    )


def _marked(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """The points, those marked that another one beats in delay and energy."""
    costs = [(point.round_s, point.server_j) for point in points]
    marked = []
    for point, (delay, energy) in zip(points, costs, strict=True):
        beaten = delay is not None and energy is not None and any(
            d is not None and e is not None and d <= delay and e <= energy
            and (d < delay or e < energy)
            for d, e in costs
        )  # fmt: skip
        marked.append(point.model_copy(update={"dominated": beaten}))
    return marked


def _card(instance: Instance) -> list[CardPoint]:
    found = []
    for weight in CARD_WEIGHTS:
        request = Request(get_scheme("card"), {"w": weight}, named=False)
        row = row_of(request, draft(instance, request, Settings()))
        energy = None if row.energy is None else row.energy.server_j
        found.append(CardPoint(w=weight, round_s=row.round_s, server_j=energy, refused=row.refused))
    return found
