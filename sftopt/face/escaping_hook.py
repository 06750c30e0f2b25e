"""The escapes of :mod:`sftopt.face.escaped` for everything that a console prints."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

from sftopt.face.escaped import visible_lines


class EscapingHook(RenderHook):
    """Makes a console show what tables and texts hold with control characters as escapes."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap everything that is printed."""
        return [_Escaped(renderable) for renderable in renderables]


class _Escaped:
    """A renderable whose text is shown with control characters as escapes."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._inner, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible_lines(segment.text), segment.style)


__all__ = ["EscapingHook"]
