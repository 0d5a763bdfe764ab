"""A model's own card on the Hub as facts: its YAML block, config.json, the metadata of its safetensors, and the results
of evaluations beside it (``.eval_results``).

Each fact names the exact revision it was read at. Whatever has the wrong type is left out. Reads what ``hub.py``
brought; asks nobody itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.catalog.card_text import BadFrontMatter, front_matter, repository_url, safe_url, split
from playground.catalog.eval_results import results_of
from playground.catalog.hub import HubInfo, fetch_model_info
from playground.messages import NOTHING, Translatable, msg, sentences
from playground.records import UNKNOWN, Fact, ModelFacts

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

MAX_ITEMS = 100
MAX_CHARS = 300
MODEL_CARD = msg("Model card")
CONFIG = msg("config.json")
RELATIONS = ("finetune", "adapter", "quantized", "merge")


def hub_facts(info: HubInfo) -> ModelFacts:
    """The facts of a repository at its revision; what its card does not say is unknown."""
    place = repository_url(info.repo, info.revision)
    card, config = f"{place}README.md", f"{place}config.json"
    try:
        block, note = front_matter(split(info.card)[0]), NOTHING
    except BadFrontMatter as error:
        block, note = {}, msg("Its card is not read: {reason}.", reason=error.message)
    data = _card_data(block)
    bases = _texts(data.base_model)
    relation = _relation(block, info.tags) if bases else ""
    counted = msg("The Hub's own data") if info.bits else msg("Metadata of the safetensors files")
    results, unread = results_of(info.eval_results, info.repo, info.revision)

    def fact(value: Any, url: str, words: Translatable = MODEL_CARD) -> Fact:
        source = msg("{source} at revision {revision}", source=words, revision=info.revision[:12])
        return Fact(value, source, url, "card") if value else UNKNOWN

    extra = {
        "architecture": fact(info.architecture, config, CONFIG),
        "gated": fact("yes" if info.gated else "no", info.url, msg("The Hub's own data")),
        "tags": fact(_texts(data.tags), card),
        "card_note": fact(sentences(note, *unread), card),
    }
    return ModelFacts(
        model=info.repo,
        license=_license(data, card, fact),
        parameters=fact(info.parameters, f"{info.url}/tree/{info.revision}", counted),
        context_length=fact(info.context_length, config, CONFIG),
        languages=fact(_texts(data.language), card),
        base_model=fact(bases[0] if len(bases) == 1 else bases, card),
        base_model_relation=fact(relation, card),
        datasets=fact(_texts(data.datasets), card),
        quality=_quality(data, card, info) | results,
        extra={key: value for key, value in extra.items() if value != UNKNOWN},
    )


def card_html(info: HubInfo) -> str:
    """The card to read, made safe; of a very long one its beginning (``rest_url``)."""
    from playground.catalog.card_html import safe_html

    return safe_html(info.card, repository_url(info.repo, info.revision))


def rest_url(info: HubInfo) -> str:
    """Where the whole card is read; "" where ``card_html`` has all of it."""
    from playground.catalog.card_html import is_cut

    return repository_url(info.repo, info.revision).replace("/blob/", "/tree/") if is_cut(info.card) else ""


def read(repo: str, revision: str, home: Path, *, online: bool, tag: str = "") -> HubInfo | None:
    """What the Hub says now, or what was last read of it.

    Raises:
        SourceError: Only if ``online``: why the Hub can't be asked.
    """
    if not online:
        return remembered(repo, home, tag)
    info = fetch_model_info(repo, revision, tag)
    keep(info, home)
    return info


def keep(info: HubInfo, home: Path) -> None:
    """Remember what was read, for a day without network. A disk that refuses loses nothing but that."""
    path = _path(home, info.repo, info.tag)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_suffix(".new")
        staged.write_text(json.dumps(info.to_json()), encoding="utf-8")
        staged.replace(path)
    except OSError:
        pass


def remembered(repo: str, home: Path, tag: str = "") -> HubInfo | None:
    """What was last read of a repository, or of one quantisation in it."""
    try:
        return HubInfo.from_json(json.loads(_path(home, repo, tag).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def _path(home: Path, repo: str, tag: str) -> Path:
    name = "--".join(
        filter(None, (*repo.lower().split("/"), tag.lower()))
    )  # no name of the Hub has two dashes in a row
    return home / "hub-cards" / f"{name}.json"


def _card_data(block: Mapping[str, Any]) -> ModelCardData:
    from huggingface_hub import ModelCardData

    block = {
        key: value for key, value in block.items() if key not in ("ignore_metadata_errors", "self", "eval_results")
    }
    try:
        return ModelCardData(**block, ignore_metadata_errors=True)
    except Exception:  # whatever a stranger's model-index or tags make the parser stumble over
        plain = {key: value for key, value in block.items() if key not in ("model-index", "tags")}
        return ModelCardData(**plain, ignore_metadata_errors=True)


def _license(data: ModelCardData, card: str, fact: Any) -> Fact:
    names = _texts(data.license)
    if not names:
        return UNKNOWN
    given = _texts(data.license_name)
    links = _texts(data.license_link)
    address = safe_url(links[0], card) if links else ""
    name = given[0] if names == ["other"] and given else ", ".join(names)
    found: Fact = fact(name, address or card)
    return found


def _relation(block: Mapping[str, Any], tags: tuple[str, ...]) -> str:
    """What the card says, else what the Hub worked out (its tags read ``base_model:RELATION:ID``)."""
    said = block.get("base_model_relation")
    if isinstance(said, str) and said in RELATIONS:
        return said
    worked_out = (tag.split(":")[1] for tag in tags if tag.startswith("base_model:") and tag.count(":") > 1)
    return next((name for name in worked_out if name in RELATIONS), "")


def _quality(data: ModelCardData, card: str, info: HubInfo) -> dict[str, Fact]:
    found: dict[str, Fact] = {}
    for result in (data.eval_results or [])[:MAX_ITEMS]:
        value = result.metric_value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
            continue
        name = f"{str(result.dataset_name)[:80]} {str(result.metric_name or result.metric_type)[:60]}".strip()
        source = msg("Model card at revision {revision}; not measured by us", revision=info.revision[:12])
        found.setdefault(name, Fact(value, source, card, "card", name))
    return found


def _texts(value: Any) -> list[str]:
    """One text or a list of them; anything else in it is left out."""
    items = value if isinstance(value, list) else [value]
    return [" ".join(item.split())[:MAX_CHARS] for item in items[:MAX_ITEMS] if isinstance(item, str) and item.strip()]
