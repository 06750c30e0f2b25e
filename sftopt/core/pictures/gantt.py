"""The Gantt chart of one step: who computes, sends and waits, and where the two barriers are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sftopt.core.pictures.style import MOST_DEVICES_SHOWN, PARTS, WAIT, most_binding
from sftopt.core.plan import Breakdown, DeviceBreakdown, Order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Span = tuple[float, float, str]
"""Beginning in s, length in s, and the part of a round that it is."""


def gantt_figure(breakdown: Breakdown, order: Order = Order.PARALLEL) -> Figure:
    """Draw one step of a plan: a row for each device and, where devices work together, the server.

    Of more than thirty devices those that the barriers wait for longest are shown.
    """
    from matplotlib.patches import Patch

    from sftopt.core.pictures.picture import Picture

    shown = most_binding(
        breakdown.devices, [min(one.slack_u_s, one.slack_d_s) for one in breakdown.devices]
    )
    rows = [
        (one.id, spans) for one, spans in zip(shown, _spans(breakdown, shown, order), strict=True)
    ]
    if order is Order.PARALLEL:
        rows.append(("server", _server(breakdown)))
    figure = Picture(figsize=(9.0, 1.6 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (_, spans) in enumerate(rows):
        for begin, length, part in spans:
            colour = WAIT if part == "waits" else PARTS[part]
            axes.barh(place, length, left=begin, height=0.74, color=colour, linewidth=0)
    if order is Order.PARALLEL:
        _barriers(axes, breakdown)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("seconds of one step")
    axes.set_xlim(0.0, max((begin + length for _, spans in rows for begin, length, _ in spans),
                           default=1.0))  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    used = {part for _, spans in rows for _, _, part in spans}
    kinds = [(name, colour) for name, colour in (*PARTS.items(), ("waits", WAIT)) if name in used]
    axes.legend(
        handles=[Patch(color=colour, label=name) for name, colour in kinds],
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(kinds), frameon=False, fontsize=8,
    )  # fmt: skip
    left_out = len(breakdown.devices) - len(shown)
    if left_out > 0:
        axes.set_title(f"the {MOST_DEVICES_SHOWN} most binding of {len(breakdown.devices)} devices",
                       loc="right", fontsize=8)  # fmt: skip
    return figure


def _spans(breakdown: Breakdown, shown: list[DeviceBreakdown], order: Order) -> list[list[Span]]:
    if order is Order.SEQUENTIAL:
        return _in_turn(shown)
    if order is Order.FEDERATED:
        slowest = max(one.s1_s + one.s5_s for one in breakdown.devices)
        return [_alone(one, slowest) for one in shown]
    return [_together(breakdown, one) for one in shown]


def _together(breakdown: Breakdown, one: DeviceBreakdown) -> list[Span]:
    """Forward, uplink, wait for the others and the server, downlink, backward, wait."""
    back = breakdown.tau_u_s + breakdown.server_s
    end = back + breakdown.tau_d_s
    sent, done = one.s1_s + one.s2_s, back + one.s4_s + one.s5_s
    return [
        (0.0, one.s1_s, "device"),
        (one.s1_s, one.s2_s, "uplink"),
        (sent, max(back - sent, 0.0), "waits"),
        (back, one.s4_s, "downlink"),
        (back + one.s4_s, one.s5_s, "device"),
        (done, max(end - done, 0.0), "waits"),
    ]


def _server(breakdown: Breakdown) -> list[Span]:
    """The server waits for the last upload, works, and waits again."""
    back = breakdown.tau_u_s + breakdown.server_s
    return [
        (0.0, breakdown.tau_u_s, "waits"),
        (breakdown.tau_u_s, breakdown.server_s, "server"),
        (back, breakdown.tau_d_s, "waits"),
    ]


def _in_turn(shown: list[DeviceBreakdown]) -> list[list[Span]]:
    """One device after the other, each with the server to itself."""
    found, begin = [], 0.0
    for one in shown:
        spans: list[Span] = []
        parts = ((one.s1_s, "device"), (one.s2_s, "uplink"), (one.s3_s, "server"),
                 (one.s4_s, "downlink"), (one.s5_s, "device"))  # fmt: skip
        for length, part in parts:
            spans.append((begin, length, part))
            begin += length
        found.append(spans)
    return found


def _alone(one: DeviceBreakdown, slowest_s: float) -> list[Span]:
    """All of the model on the device: it computes, then waits for the slowest."""
    own = one.s1_s + one.s5_s
    return [(0.0, own, "device"), (own, max(slowest_s - own, 0.0), "waits")]


def _barriers(axes: Axes, breakdown: Breakdown) -> None:
    back = breakdown.tau_u_s + breakdown.server_s
    for at in (breakdown.tau_u_s, back, back + breakdown.tau_d_s):
        axes.axvline(at, color="#1c2430", linewidth=0.8, linestyle=":")
