"""Pictures of a cell, a plan and a round; matplotlib is imported when one is drawn."""

from sftopt.core.pictures.cell_map import map_figure
from sftopt.core.pictures.gantt import gantt_figure
from sftopt.core.pictures.round_parts import parts_figure
from sftopt.core.pictures.svg import svg_of

__all__ = ["gantt_figure", "map_figure", "parts_figure", "svg_of"]
