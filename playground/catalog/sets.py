"""Sets of models to begin with, chosen by a rule from what the catalogue knows: each says the rule.

No list of names: a model that is added to the catalogue, or a fact of it, moves the sets. A fact that is unknown fits
no rule. The module knows facts and estimates; it does not know what is prepared or how a set is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from playground.catalog.search import Listed
from playground.messages import Translatable, msg

SetName = Literal["starter", "smallest", "multilingual", "japanese", "code", "open"]

MOST = 3
"""Models in a set: as many as can be compared at a glance."""
MULTILINGUAL = 5
"""Languages named by a card from which on a model counts as multilingual."""
CODE_SCORES = ("humaneval", "mbpp", "livecodebench")
"""Benchmarks of writing code, as their names begin."""
CARD_BYTES = 2
"""Of a parameter as released: bfloat16."""


@dataclass(frozen=True)
class ModelSet:
    """Models that have something in common.

    Attributes:
        rule: How they were chosen.
        models: At most ``MOST``, the first to be tried first; empty where the catalogue has none that runs here.
    """

    name: SetName
    title: Translatable
    rule: Translatable
    models: tuple[Listed, ...]


def download_bytes(item: Listed) -> int | None:
    """Bytes that fetching a model is expected to transfer: as the catalogue knows them, or an estimate of its weights
    as released (``CARD_BYTES`` a parameter); None where neither is known.
    """
    if item.entry.spec.download_bytes:
        return item.entry.spec.download_bytes
    parameters = item.facts.parameters.value
    return int(parameters) * CARD_BYTES if parameters else None


def model_sets(models: Iterable[Listed], served: Collection[str]) -> tuple[ModelSet, ...]:
    """The sets of a catalogue.

    Args:
        models: With what runs here already found out.
        served: Ids of the models that the app was told to serve.
    """
    known = list(models)
    fitting = [item for item in known if item.fits]
    answering = [item for item in fitting if item.entry.spec.kind == "chat"]
    return (
        ModelSet(
            "starter",
            msg("Starter"),
            msg("What this app serves, ready without any account."),
            tuple(item for item in known if item.entry.spec.id in served)[:MOST],
        ),
        ModelSet(
            "smallest",
            msg("Smallest"),
            msg("The fewest parameters of all that run here, whatever they are made for."),
            _first(fitting, _size),
        ),
        ModelSet(
            "multilingual",
            msg("Multilingual"),
            msg("Chat models whose card names {n} languages or more; the smallest first.", n=MULTILINGUAL),
            _first(filter(_multilingual, answering), _size),
        ),
        ModelSet(
            "japanese",
            msg("Japanese"),
            msg("Chat models made for Japanese, then those whose card names it; the smallest first."),
            _first(
                (
                    item
                    for item in known
                    if item.fits is not False and item.entry.spec.kind == "chat" and _japanese(item)
                ),
                lambda item: ("japanese" not in item.specialisations, *_size(item)),
            ),
        ),
        ModelSet(
            "code",
            msg("Code"),
            msg("Models that run here and have a published score for writing code; the smallest first."),
            _first((item for item in fitting if _code(item)), _size),
        ),
        ModelSet(
            "open",
            msg("Fully open"),
            msg("All five items are published (data, weights, two kinds of code, metrics); chat models first."),
            _first(
                (item for item in fitting if item.open_items == 5),
                lambda item: (item.entry.spec.kind != "chat", *_size(item)),
            ),
        ),
    )


def _first(items: Iterable[Listed], key: Callable[[Listed], Sequence[object]]) -> tuple[Listed, ...]:
    return tuple(sorted(items, key=key)[:MOST])  # type: ignore[arg-type]


def _size(item: Listed) -> tuple[float, str]:
    return float(item.facts.parameters.value or float("inf")), item.entry.spec.id


def _languages(item: Listed) -> list[str]:
    return [str(name).lower() for name in item.facts.languages.value or ()]


def _multilingual(item: Listed) -> bool:
    names = _languages(item)
    return "multilingual" in names or len(names) >= MULTILINGUAL


def _japanese(item: Listed) -> bool:
    return "ja" in _languages(item) or "japanese" in item.specialisations


def _code(item: Listed) -> bool:
    return "code" in item.specialisations or any(
        name.lower().startswith(CODE_SCORES) for name, fact in item.facts.quality.items() if fact.value is not None
    )
