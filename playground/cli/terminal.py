"""A console through which no text reaches the terminal as an order to it, whoever wrote or prints it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.segment import Segment

from playground.messages import spelt_out


class SafeConsole(Console):
    """rich's console; what its own colours and cursor need is left to it, all texts are spelt out."""

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        return super()._render_buffer(
            Segment(spelt_out(text), style) if not control else Segment(text, style, control)
            for text, style, control in buffer
        )
