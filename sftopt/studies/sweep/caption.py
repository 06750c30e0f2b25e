"""What a figure or table shows of a sweep, and in words: for titles and captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sftopt.studies.compare.metrics import metric_of
from sftopt.studies.compare.notes import POWER, POWER_NOTE
from sftopt.studies.sweep.axes import AxisNote
from sftopt.studies.sweep.near import near_schemes
from sftopt.studies.sweep.words import value_of, words_of


@dataclass(frozen=True)
class Shown:
    """One figure of a row over the points of a sweep, with what has to be said of it."""

    cells: str
    """The family or the instance."""
    axes: tuple[AxisNote, ...]
    fixed: dict[str, Any]
    seeds: int
    schemes: tuple[str, ...]
    reference_bits: tuple[int, ...]
    metric: str
    spread: list[dict[str, Any]]
    """Least, median and most by point and scheme."""

    @property
    def varied(self) -> tuple[AxisNote, ...]:
        """Return the axes of several values; where there is none, the first."""
        return tuple(axis for axis in self.axes if len(axis.values) > 1) or self.axes[:1]

    @property
    def held(self) -> str:
        """Return what is set in every cell and axes of one value: ``server compute 20 TFLOP/s``.

        Empty where there is none.
        """
        drawn = {axis.name for axis in self.varied}
        single = {axis.name: axis.values[0] for axis in self.axes if axis.name not in drawn}
        return ", ".join(
            f"{words_of(name)} {value_of(name, value)}"
            for name, value in {**self.fixed, **single}.items()
        )

    @property
    def bits(self) -> str:
        """Return the reference bits in words."""
        return " or ".join(map(str, self.reference_bits)) + " bits"

    @property
    def near(self) -> dict[str, str]:
        """Return for each scheme an earlier one that it cannot be told apart from."""
        return near_schemes(self.spread, self.schemes, [axis.name for axis in self.axes])

    @property
    def unknown(self) -> str | None:
        """Return why the figure is not known in any cell; None where it is in some."""
        asked = metric_of(self.metric)
        if any(row["median"] is not None for row in self.spread):
            return None
        return f"{asked.words} is not known in any cell: {asked.unknown}"

    @property
    def title(self) -> str:
        """Return the title of a figure: cells, what is held, what bars mean, reference bits."""
        parts = [f"{self.cells}: {self.held}" if self.held else self.cells]
        if self.seeds > 1:
            parts.append(f"median of {self.seeds} seeds, bars from least to most")
        return "; ".join([*parts, f"b_ref {self.bits}"])

    @property
    def caption(self) -> str:
        """Return a caption: figure, cells, axes, what is held, seeds, bits, near lines."""
        words = metric_of(self.metric).words
        over = " and ".join(words_of(axis.name) for axis in self.varied)
        told = [f"{words[:1].upper() + words[1:]} on {self.cells} over {over}"]
        if self.held:
            told.append(f"with {self.held}")
        if self.seeds > 1:
            told.append(f"median of {self.seeds} cells drawn by seed, with the least and the most")
        told.append(f"{self.bits} per boundary element uncompressed")
        sentences = [", ".join(told) + "."]
        sentences += [f"{one} is within 2 % of {other} at every point." for one, other in
                      self.near.items()]  # fmt: skip
        if any(POWER in scheme for scheme in self.schemes):
            sentences.append(POWER_NOTE)
        return " ".join(sentences)
