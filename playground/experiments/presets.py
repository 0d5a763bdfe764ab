"""Ready-made ways to choose tokens: always the likeliest, freely drawn, and as the model's makers recommend.

Each says where its values are from. What nobody has said is not guessed: a model without recommendations has none here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.catalog.template_files import read_json
from playground.config.settings import Limits
from playground.errors import UsageError
from playground.experiments.admission import check_request
from playground.messages import Translatable, msg
from playground.records import Record, Request

if TYPE_CHECKING:
    from playground.catalog.entries import CatalogEntry

CHOOSING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
"""The parameters that a preset sets, all of them: what it says nothing of is off."""


@dataclass(frozen=True)
class Preset(Record):
    """A way to choose tokens.

    Attributes:
        id: ``deterministic``, ``creative``, ``card`` or ``files``.
        values: Parameters of a request, by name.
        source: Who says so, in a sentence.
        url: Where to check it.
    """

    id: str
    name: Translatable
    source: Translatable
    values: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def on(self, request: Request) -> Request:
        """The request with these values."""
        return replace(request, **self.values)


def presets(entry: CatalogEntry, folder: Path | None) -> tuple[Preset, ...]:
    """The presets for a model.

    Args:
        folder: Of its prepared files; None before there are any.
    """
    found = [
        Preset(
            "deterministic",
            msg("Deterministic"),
            msg("Always the likeliest token: the same answer each time."),
            _all({"temperature": 0.0}),
        ),
        Preset(
            "creative",
            msg("Creative"),
            msg("Tokens drawn freely, the least likely 5 % left out: our choice, no maker's advice."),
            _all({"temperature": 0.9, "top_p": 0.95}),
        ),
    ]
    if sampling := entry.card.sampling:
        values = {name: value for name in CHOOSING if (value := getattr(sampling, name)) is not None}
        source = msg("The model card recommends these values.")
        if sampling.note:
            source = msg("The model card recommends these values: {note}", note=sampling.note)
        found.append(Preset("card", msg("Recommended by the model card"), source, _all(values), sampling.source))
    if folder and (own := _of_files(folder)):
        found.append(
            Preset(
                "files",
                msg("Recommended by the model’s own files"),
                msg("The model’s makers set these values in its generation_config.json."),
                _all(own),
            )
        )
    return tuple(found)


def _all(values: Mapping[str, Any]) -> dict[str, Any]:
    neutral = Request()
    return {name: values.get(name, getattr(neutral, name)) for name in CHOOSING}


def _of_files(folder: Path) -> dict[str, Any]:
    """What generation_config.json says of drawing; empty where it says nothing, or something without a meaning.

    A file that asks for drawing and names no temperature means 1, transformers' default; one that asks for none means
    the likeliest token, whatever else it holds.
    """
    given = read_json(folder / "generation_config.json", or_empty=True)
    values = dict(_meant(given))
    if given.get("do_sample") is False:
        penalty = values.get("repetition_penalty")
        return {"temperature": 0.0} | ({"repetition_penalty": penalty} if penalty else {})
    drawn = values.keys() - {"repetition_penalty"}
    if given.get("do_sample") is not True and not drawn:
        return {}
    return {"temperature": 1.0} | values


def _meant(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in CHOOSING:
        value = given.get(name)
        if value is None:
            continue
        try:
            check_request(replace(Request("?"), **{name: value}), Limits())
        except UsageError:
            continue
        yield name, value
