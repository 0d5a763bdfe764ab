"""What a choice's file may hold, as pydantic models; ``file`` reads it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from playground.config.schema import Amount, Block, Count, Text


class LimitsBlock(Block):
    """``limits``: each as the option of ``playground choose`` is called; what is left out asks for nothing."""

    max_memory: Amount | None = None
    max_ttft: Amount | None = None
    min_speed: Amount | None = None
    commercial: bool = False
    min_openness: int | None = Field(default=None, ge=0, le=5)
    min_context: Count | None = None
    min_pass_rate: float | int | str | None = None
    min_scores: dict[str, float | int] = Field(default_factory=dict)


class ChoiceBlock(Block):
    """The whole document."""

    suite: str | dict[str, Any] | None = None
    models: list[Text] = Field(default_factory=list)
    limits: LimitsBlock | None = None
    repeats: Count | None = None
