"""What is to be shipped, and all that others know of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playground.catalog.entries import Terms
from playground.messages import Translatable
from playground.records import Artifact, Environment, ModelFacts, ModelRun, ModelSpec, Variant


@dataclass(frozen=True)
class Known:
    """What others know of the model.

    Attributes:
        licence_id: As the Hub writes licences; empty where unknown.
        terms: Conditions that the catalogue shows wherever the model is offered.
        card: The model's card, as markdown.
        measured: The stored figures with how each was taken, as JSON.
        lines: The same for a reader: what, how much, how taken.
        notes: What to know before believing them.
        legal: Licence and notice files that came with the weights, by the names they are to have.
    """

    licence_id: str
    terms: Terms | None
    card: str
    measured: dict[str, Any] = field(default_factory=dict)
    lines: tuple[tuple[Translatable, Translatable, Translatable], ...] = ()
    notes: tuple[Translatable, ...] = ()
    legal: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Shipment:
    """All that is known of what is shipped.

    Attributes:
        spec, asked: The model, and the variant as it was asked for.
        artifact: What is prepared for it; its variant may be another one, and says why.
        facts: Of the model; its licence is one of them.
        known: Terms, card and figures, for the documents that go along.
        prompt: What the trial asks.
        ours: The playground's own greedy answer to it.
        others: Variants of the model to take instead of one that can't be shipped.
    """

    spec: ModelSpec
    asked: Variant
    artifact: Artifact
    facts: ModelFacts
    known: Known
    prompt: str
    ours: ModelRun
    environment: Environment
    others: tuple[str, ...] = ()
