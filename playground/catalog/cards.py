"""Catalogue entry (and artifact) → facts with where each comes from, and the rest of the card as markdown.

A fact's ``status`` says how far to trust it: ``card`` was read in the model card, the README, the config or
the licence text; ``catalogue`` is second-hand; ``measured`` was taken here; everything else is ``unknown`` and has no
value. It knows nothing of runtimes and nothing of the page the facts are shown on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from playground.catalog.entries import CatalogEntry
from playground.messages import Translatable, foreign, msg, sentences
from playground.records import UNKNOWN, Artifact, Fact, FactStatus, ModelFacts, Openness

if TYPE_CHECKING:
    from playground.catalog.card_schema import Card, Score

OPENNESS = ("training_data", "weights", "evaluation_code", "finetuning_code", "training_metrics")

PRIMARY = msg("Model card, licence or config of the developer")
SECOND_HAND = msg("Second-hand: a third party's copy or news")

HUB = "https://huggingface.co/"

Say = Callable[[Translatable], str]
_EXTRA = ("developer", "family", "release", "gated", "chat_template", "architecture", "parameters_active")
"""Card keys shown as facts beside those of the contract."""

MAIN = "; the link is the entry's main source"
"""Ends the source of a fact whose own address was not noted: it was read in one of the entry's sources."""
PAGE = "; the link is the model's page, to check it"

TITLES = {
    "license": msg("Licence"),
    "parameters": msg("Parameters"),
    "context_length": msg("Context length"),
    "languages": msg("Languages"),
    "base_model": msg("Base model"),
    "base_model_relation": msg("Relation to it"),
    "datasets": msg("Training datasets"),
    "specialisation": msg("Made for"),
    "training_data": msg("Training data"),
    "evaluation_code": msg("Evaluation code"),
    "finetuning_code": msg("Finetuning code"),
    "training_metrics": msg("Training metrics"),
    "developer": msg("Developer"),
    "family": msg("Family"),
    "release": msg("Release"),
    "gated": msg("Gated on the Hub"),
    "chat_template": msg("Chat template"),
    "architecture": msg("Architecture"),
    "parameters_active": msg("Active parameters"),
    "commercial_use": msg("Commercial use"),
    "prompt_format": msg("Prompt format"),
    "own_code": msg("Code of its own"),
    "weights": msg("Weights that run here"),
    "lineage": msg("Lineage"),
    "licence_caution": msg("Licence caution"),
    "tags": msg("Tags"),
    "card_note": msg("Card note"),
    "fetched": msg("How it was fetched"),
    "size_bytes": msg("Size on disk"),
    "top1_agreement": msg("Same top token"),
    "mean_kl": msg("Mean KL divergence (nats)"),
}
"""Names of facts for a reader. A benchmark is called as its publishers call it."""

EVIDENCE = msg("evidence")

MEASURED = ("size_bytes", "top1_agreement", "mean_kl", "fetched")
"""Facts of the export at hand."""

_NOTES = {"context_length": "context_note", "datasets": "datasets_note"}
"""Where the note to a key is not called KEY_note."""


def model_facts(entry: CatalogEntry, artifact: Artifact | None = None) -> ModelFacts:
    """What is known of a model.

    Args:
        entry: From the catalogue; one without a card gives facts that are all unknown.
        artifact: The export at hand, whose measured facts are added.
    """
    card = entry.card
    licence = card.license
    return ModelFacts(
        model=entry.spec.id,
        license=_fact(entry, "license", licence.name, url=licence.url, note=licence.note) if licence else UNKNOWN,
        parameters=_fact(entry, "parameters"),
        context_length=_fact(entry, "context_length"),
        languages=_fact(entry, "languages"),
        base_model=_base_model(entry),
        base_model_relation=(
            _fact(entry, "base_model.relation", card.base_model.relation) if card.base_model else UNKNOWN
        ),
        datasets=_fact(entry, "datasets"),
        specialisation=_fact(entry, "specialisation"),
        openness=Openness(**{item: _openness_item(entry, item) for item in OPENNESS}),
        quality={score.benchmark: _score(entry, score) for score in card.quality if not score.caution},
        extra={**_extra(entry), **(_measured(artifact) if artifact else {})},
    )


def fact_title(key: str) -> Translatable:
    """How a fact is called where people read it."""
    return TITLES.get(key) or foreign(_words(key))


def openness_score(facts: ModelFacts) -> tuple[int, int]:
    """How many of the five openness items are answered with a plain yes, and five. ``partial`` does not count."""
    return sum(getattr(facts.openness, item).value == "yes" for item in OPENNESS), len(OPENNESS)


def license_id(entry: CatalogEntry, facts: ModelFacts) -> str:
    """The licence's short id; "" where no source for it was read."""
    return entry.card.license.id if entry.card.license and facts.license.value else ""


def card_markdown(entry: CatalogEntry, say: Say = str) -> str:
    """The rest of the card to read: what does not fit a table cell. Links lead to http(s) addresses only.

    Args:
        say: Tells a message in the reader's language. What was researched stays in the language it was written in.
    """
    card = entry.card
    if not card:
        return say(
            msg("Nothing has been researched about {model}: its facts are unknown.", model=_escape(entry.spec.name))
        )
    sections = [
        (msg("Terms"), _terms(entry, say)),
        (msg("What runs here"), _weights(card)),
        (msg("Purpose"), _texts(card, "specialisation_note")),
        (msg("Limitations"), _texts(card, "limitations", "chat_template_note", "gated_note")),
        (msg("Prompt format"), _prompt_format(entry, say)),
        (msg("Licence"), _licence(card, say)),
        (msg("Training"), _training(card, say)),
        (msg("Datasets by stage"), _datasets(card)),
        (msg("Openness"), _openness(entry, say)),
        (msg("Figures of the card"), _figures(card, say)),
        (msg("Notes"), _texts(card, "languages_note", "release_note", "source_notes", "lifecycle_note", "cpu_note")),
        (msg("Sources"), "\n".join(f"- {_link(url, url)}" for url in card.sources)),
    ]
    return "\n\n".join(f"### {say(title)}\n\n{body}" for title, body in sections if body)


def _fact(entry: CatalogEntry, key: str, value: Any = None, url: str = "", note: str = "") -> Fact:
    """The fact behind a card key, if its source was read; ``key`` may be dotted, and then its parent counts too."""
    card = entry.card
    value = getattr(card, key, None) if value is None else value
    read_at = card.sources[0] if card.sources else ""
    status = _seen_at(entry, read_at, _how_read(card, key))
    if value is None or value in ([], "", "unknown") or status == "unknown":
        return UNKNOWN
    source = PRIMARY if status == "card" else SECOND_HAND
    if status != "card" and entry.spec.upstream:
        read_at = HUB + entry.spec.upstream
        loosely = msg("{source}; the link is the model's page, to check it", source=source)
    else:  # its own address was not noted: it was read in one of the entry's sources
        loosely = msg("{source}; the link is the entry's main source", source=source)
    return Fact(
        value=value,
        source=source if url or not read_at else loosely,
        url=url or read_at,
        status=status,
        note=note or getattr(card, _NOTES.get(key, f"{key}_note"), ""),
    )


def _how_read(card: Card, key: str) -> FactStatus:
    """``verified`` is a primary source; anything recalled or not listed at all stays unknown."""
    names = {key, key.partition(".")[0]}
    if names & set(card.verified):
        return "card"
    if names & set(card.verified_via_secondary):
        return "catalogue"
    return "unknown"


def _seen_at(entry: CatalogEntry, url: str, status: FactStatus) -> FactStatus:
    """``status``, but for what was read on somebody else's page of the Hub: of a copy, or of another model."""
    owner = url.removeprefix(HUB).partition("/")[0].lower() if url.startswith(HUB) else ""
    of_the_hub = owner in ("datasets", "spaces", "papers", "collections", "blog", "docs")
    upstream = (entry.spec.upstream or "").partition("/")[0].lower()
    if status != "card" or not owner or not upstream or of_the_hub or owner == upstream:
        return status
    return "catalogue"


def _base_model(entry: CatalogEntry) -> Fact:
    base = entry.card.base_model
    if base is None:
        return UNKNOWN
    value: str | None = base.id
    if value is None and base.relation == "pretrained":
        value = msg("none: trained from scratch")
    return _fact(entry, "base_model.id", value, url=HUB + base.id if base.id else "", note=base.note)


def _openness_item(entry: CatalogEntry, item: str) -> Fact:
    card = entry.card
    answer = getattr(card.openness, item, None)
    if answer is None or answer.status == "unknown" or not answer.evidence:
        return Fact(value="unknown", note=answer.note if answer else "")
    status = _seen_at(entry, answer.evidence, "card" if "openness" in card.verified else "catalogue")
    return Fact(
        value=answer.status,
        source=PRIMARY if status == "card" else SECOND_HAND,
        url=answer.evidence,
        status=status,
        note=answer.note,
    )


def _score(entry: CatalogEntry, score: Score) -> Fact:
    return Fact(
        value=score.value,
        source=msg("Published by the source linked here; not measured by us"),
        url=score.source,
        status=_seen_at(entry, score.source, "card" if "quality" in entry.card.verified else "catalogue"),
        note=f"{score.benchmark}, {score.setting}" if score.setting else score.benchmark,
    )


def _extra(entry: CatalogEntry) -> dict[str, Fact]:
    extra = {key: fact for key in _EXTRA if (fact := _fact(entry, key)).status != "unknown"}
    licence = entry.card.license
    commercial = _fact(entry, "license.commercial_use", licence.commercial_use, licence.url) if licence else UNKNOWN
    if commercial.status != "unknown":
        note = msg("What the licence text says in short; not legal advice.")
        extra["commercial_use"] = replace(commercial, note=note)
    if entry.prompt_format:
        extra["prompt_format"] = Fact(
            msg("as documented"),
            msg("The documentation linked here"),
            entry.prompt_format.source,
            "card",
            entry.prompt_format.note,
        )
    if code := entry.card.own_code:
        note = msg(
            "{note} It is refused here, because code from a repository is never run. Instead: {model}.",
            note=foreign(code.note),
            model=code.instead,
        )
        extra["own_code"] = Fact(msg("needed"), msg("The page linked here"), code.source, "card", note)
    if weights := entry.card.weights:
        extra["weights"] = Fact(weights.format, weights.source, weights.url, status="catalogue", note=weights.note)
    return extra


def _measured(artifact: Artifact) -> dict[str, Fact]:
    where = msg("Measured on {variant}", variant=str(artifact.variant))
    size = Fact(artifact.size_bytes, where, status="measured", note=msg("The exported model on this disk."))
    facts = {"size_bytes": size if artifact.size_bytes else Fact(note=msg("It does not lie on this disk."))}
    fidelity = artifact.fidelity
    if fidelity:
        against = msg(
            "{verdict} against {reference}, {positions} positions.",
            verdict=fidelity.verdict,
            reference=fidelity.reference,
            positions=fidelity.positions,
        )
        note = sentences(against, fidelity.reason)
        facts["top1_agreement"] = Fact(fidelity.top1_agreement, where, status="measured", note=note)
        facts["mean_kl"] = Fact(fidelity.mean_kl, where, status="measured", note=note)
    if artifact.notes:
        seen = msg("Seen when {variant} was prepared", variant=str(artifact.variant))
        facts["fetched"] = Fact(sentences(*artifact.notes), seen, status="measured")
    return facts


def _terms(entry: CatalogEntry, say: Say) -> str:
    if not entry.terms:
        return ""
    links = [_link(say(msg("Terms of use")), entry.terms.url)]
    if entry.terms.policy_url:
        links.append(_link(say(msg("Prohibited use policy")), entry.terms.policy_url))
    return f"{_escape(entry.terms.text)}\n\n{' · '.join(links)}"


def _weights(card: Card) -> str:
    weights = card.weights
    if not weights:
        return ""
    source = _link(weights.source, weights.url) if weights.url else _escape(weights.source)
    return f"{_escape(weights.note)}\n\n{_escape(weights.format)} · {source}"


def _texts(card: Card, *keys: str) -> str:
    return "\n\n".join(_escape(text) for key in keys if (text := getattr(card, key)))


def _licence(card: Card, say: Say) -> str:
    licence = card.license
    if not licence:
        return ""
    name = _link(licence.name, licence.url) if licence.url else _escape(licence.name)
    note = f"\n\n{_escape(licence.note)}" if licence.note else ""
    use = msg("{licence}. Commercial use: {answer}.", licence=name, answer=licence.commercial_use)
    return f"{say(use)}{note}"


def _prompt_format(entry: CatalogEntry, say: Say) -> str:
    """What is documented of it, and the template this product brings where the tokenizer has none."""
    said = _texts(entry.card, "prompt_format")
    if not entry.prompt_format:
        return said
    source = _link(say(msg("Documented here")), entry.prompt_format.source)
    template = "\n".join(f"    {line}" for line in entry.spec.chat_template.splitlines())
    note = f"{_escape(entry.prompt_format.note)} {source}."
    return "\n\n".join(filter(None, (said, note, template)))


def _training(card: Card, say: Say) -> str:
    rows = []
    for key, value in card.training.model_dump(exclude_unset=True).items() if card.training else ():
        shown = _link(value, value) if key == "paper" else _escape(value)
        rows.append(f"- {_words(key)}: {shown}")
    detail = card.architecture_detail.model_dump(exclude_unset=True) if card.architecture_detail else {}
    if detail:
        shape = ", ".join(f"{key.replace('_', ' ')} {_escape(_yes_no(value))}" for key, value in detail.items())
        said = msg("Architecture: {architecture} ({shape})", architecture=_escape(card.architecture), shape=shape)
        rows.append(f"- {say(said)}")
    return "\n".join(rows)


def _datasets(card: Card) -> str:
    stages: dict[str, list[str]] = {}
    for item in card.datasets_detail:
        note = f" ({_escape(item.note)})" if item.note else ""
        stages.setdefault(item.stage, []).append(_escape(item.name) + note)
    rows = [f"- {_first_upper(_escape(stage))}: {'; '.join(names)}" for stage, names in stages.items()]
    if not rows:
        rows = [f"- {_escape(name)}" for name in card.datasets]
    if card.datasets_note:
        rows.append(f"\n{_escape(card.datasets_note)}")
    return "\n".join(rows)


def _openness(entry: CatalogEntry, say: Say) -> str:
    rows = []
    for item in OPENNESS:
        fact = _openness_item(entry, item)
        evidence = f" {_link(say(EVIDENCE), fact.url)}" if fact.url else ""
        rows.append(f"- {say(fact_title(item))}: **{fact.value}**. {_escape(fact.note)}{evidence}")
    return "\n".join(rows) if entry.card.openness else ""


def _figures(card: Card, say: Say) -> str:
    """Scores as published, the doubtful ones named as such, and those of the base model apart."""
    rows = []
    for score in card.quality:
        where = _link(say(msg("source")), score.source)
        setting = f" ({_escape(score.setting)})" if score.setting else ""
        if score.caution:
            said = msg(
                "{benchmark}: not shown as a score. {caution}",
                benchmark=_escape(score.benchmark),
                caution=foreign(_escape(score.caution)),
            )
            rows.append(f"- {say(said)} {where}")
        else:
            rows.append(f"- {_escape(score.benchmark)}: {score.value}{setting} {where}")
    for score in card.quality_base_model:
        setting = f" ({_escape(score.setting)})" if score.setting else ""
        base = msg("Base model, {benchmark}: {value}", benchmark=_escape(score.benchmark), value=score.value)
        rows.append(f"- {say(base)}{setting}")
    if card.quality_note:
        rows.append(f"\n{_escape(card.quality_note)}")
    return "\n".join(rows)


def _words(key: str) -> str:
    return _first_upper(key.replace("_", " "))


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _yes_no(value: Any) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _escape(text: str) -> str:
    """Plain text as markdown: nothing in it becomes a tag, a link, emphasis or a table cell."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", " ".join(text.split()))


def _link(label: str, url: str) -> str:
    if not re.fullmatch(r"https?://[^\s<>()\[\]]+", url):
        return _escape(label)
    shown = label if label == url else _escape(label)
    return f"<{url}>" if shown == url else f"[{shown}]({url})"
