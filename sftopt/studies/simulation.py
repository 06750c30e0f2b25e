"""A simulation from Python: one call, its rows and figures as one object."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftopt.core.asked import asked_plainly
from sftopt.core.channel_models import ChannelKind, ChannelModel, ChannelSource, SimulatedChannel
from sftopt.core.data_frame import data_frame
from sftopt.core.errors import InputError
from sftopt.core.html_table import html_table
from sftopt.core.instance import Instance
from sftopt.core.parse import parse_model
from sftopt.core.rows import ROWS_NAME
from sftopt.studies import traces
from sftopt.studies.simulate import SimulationSettings
from sftopt.studies.simulate import simulate as run
from sftopt.studies.summary import POLICIES

if TYPE_CHECKING:
    import pandas

SCENARIO_SEED_OFFSET = 1_000_003
"""Scenarios are drawn by another seed than the channel, so that no plan knows what comes."""


@dataclass(frozen=True)
class Sources:
    """Where gains come from, and what tells this simulation from another."""

    channel: ChannelSource
    scenarios: ChannelSource
    identity: dict[str, Any]


def sources_of(
    settings: SimulationSettings,
    seed: int,
    kind: str = "instance",
    options: Mapping[str, Any] | None = None,
    trace: Path | None = None,
) -> Sources:
    """Return the channel of a simulation: drawn by seed, or measured gains read from ``trace``.

    ``options`` are fields of :class:`~sftopt.core.channel_models.ChannelModel`. Raises InputError
    naming what cannot be.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; at least 0 is needed")
    model = parse_model(ChannelModel, {"kind": kind, **(options or {})}, "channel")
    known = {name: value for name, value in vars(settings).items() if name != "rounds"}
    source: ChannelSource = SimulatedChannel(model, seed)
    if trace is None:
        known["channel"] = model.model_dump(mode="json")
    else:
        source = traces.read_trace(trace)
        known["trace_sha256"] = hashlib.sha256(trace.read_bytes()).hexdigest()
    fading = model.model_copy(update={"kind": ChannelKind.INSTANCE, "correlation": 0.0})
    scenarios = SimulatedChannel(fading, seed + SCENARIO_SEED_OFFSET)
    return Sources(source, scenarios, {**known, "seed": seed})


@dataclass(frozen=True)
class Simulation:
    """Rounds of one cell over time: ``rows`` as in rows.jsonl, ``summary`` as in summary.json."""

    instance: str
    summary: dict[str, Any]
    rows: tuple[dict[str, Any], ...]

    def to_dataframe(self) -> pandas.DataFrame:
        """Return one row per round: delay in seconds by policy. Needs pandas."""
        return data_frame(flat_rounds(self.rows), "Simulation", "round")

    def __repr__(self) -> str:
        means = ", ".join(
            f"{name.removesuffix('_s')} {spread['mean_s']:.6g} s"
            for name, spread in self.summary["policies"].items()
        )
        return f"Simulation({self.instance}: {len(self.rows)} rounds; mean {means})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        rows = [
            (label, spread["mean_s"], spread["median_s"], spread["p95_s"], spread["max_s"])
            for name, label in POLICIES.items()
            if (spread := self.summary["policies"].get(name)) is not None
        ]
        head = ("round delay in s", "mean", "median", "p95", "max")
        return html_table(f"{self.instance}: {len(self.rows)} rounds", head, rows)


def flat_rounds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what tables show of each round: its frame, its status and seconds by policy."""
    kept = ("round", "frame", "status", *POLICIES)
    return [{name: row.get(name) for name in kept} for row in rows]


@asked_plainly
def simulate(
    instance: Instance,
    rounds: int = 200,
    *,
    channel: str = "instance",
    channel_options: Mapping[str, Any] | None = None,
    trace: str | os.PathLike[str] | None = None,
    scenarios: int = 0,
    round_solver: str = "native-spectrum",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Simulation:
    """Simulate rounds of a cell: planned by statistics, shares solved anew by each round's gains.

    ``channel``: ``instance`` (its own fading), ``uma`` or ``umi`` (3GPP TR 38.901); ``trace``: a
    table of measured gains in place of it. ``scenarios``: draws of a sample-average plan beside the
    nominal one. With ``out`` rows and plans are kept there, and ``resume`` goes on. Delays are in
    seconds, recomputed by the judge. Raises InputError, InfeasibleError, NoPointError.
    """
    settings = SimulationSettings(rounds=rounds, round_solver=round_solver, scenarios=scenarios)
    given = sources_of(
        settings, seed, channel, channel_options, None if trace is None else Path(trace)
    )
    with tempfile.TemporaryDirectory(prefix="sftopt-simulation-") as scratch:
        folder = Path(scratch) / "run" if out is None else Path(out)
        summary = run(
            instance, given.channel, given.scenarios, settings, folder,
            identity=given.identity, resume=resume,
        )  # fmt: skip
        lines = (folder / ROWS_NAME).read_text(encoding="utf-8").splitlines()
    return Simulation(instance.name, summary, tuple(json.loads(line) for line in lines))
