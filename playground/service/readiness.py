"""Whether the app can answer: which of the served models are ready, and how far the others are.

It knows preparations and whether the app is ending; of who asks, whether strangers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from playground.export import Preparer
from playground.messages import NOTHING, Translatable
from playground.service.audience import Admitting


@dataclass(frozen=True)
class ServedModel:
    """Where one served model stands, as ``Preparation`` says it."""

    variant: str
    status: str
    step: Translatable = NOTHING
    progress: float | None = None


@dataclass(frozen=True)
class Readiness:
    """Where the app stands.

    Attributes:
        ending: Whether it was told to end: it takes nothing new.
    """

    models: tuple[ServedModel, ...]
    ending: bool = False

    @property
    def ready(self) -> bool:
        """Whether every served model can answer."""
        return not self.ending and all(each.status == "ready" for each in self.models)

    def to_json(self) -> dict[str, Any]:
        """What ``/readyz`` says."""
        models: list[dict[str, Any]] = []
        for each in self.models:
            far = {"step": str(each.step), "progress": each.progress} if each.status == "preparing" else {}
            models.append({"model": each.variant, "status": each.status, **far})
        return {"ready": self.ready, "ending": self.ending, "models": models}


class Ready(Admitting):
    """A part of ``Playground``: whether it can answer."""

    preparer: Preparer
    ending = False

    def readiness(self) -> Readiness:
        """Where the served models stand now, as whoever asks is told it; looks at files."""
        models = []
        for variant in self.default_variants():
            state = self.preparation(variant)
            models.append(ServedModel(str(variant), state.status, self.told(state.step), state.progress))
        return Readiness(tuple(models), self.ending)
