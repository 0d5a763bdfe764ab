"""Catalogue entry (and artifact) → facts with where each comes from, and the rest of the card as markdown.

A fact's ``status`` says how far to trust it: ``card`` was read in the model card, the README, the config or
the licence text; ``catalogue`` is second-hand; ``measured`` was taken here; everything else is ``unknown`` and has no
value. It knows nothing of runtimes and nothing of the page the facts are shown on.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from playground.catalog.card_schema import OPENNESS
from playground.catalog.entries import CatalogEntry
from playground.records import UNKNOWN, Artifact, Fact, FactStatus, ModelFacts, Openness

PRIMARY = "Model card, licence or config of the developer"
SECOND_HAND = "Second-hand: a third party's copy or news"

MAIN = "; the link is the entry's main source"
"""Ends the source of a fact whose own address was not noted: it was read in one of the entry's sources."""
PAGE = "; the link is the model's page, to check it"

HUB = "https://huggingface.co/"
_EXTRA = ("developer", "family", "release", "gated", "chat_template", "architecture", "parameters_active")
"""Card keys shown as facts beside those of the contract."""

TITLES = {
    "license": "Licence",
    "specialisation": "Made for",
    "base_model_relation": "Relation to it",
    "datasets": "Training datasets",
    "parameters_active": "Active parameters",
    "weights": "Weights that run here",
    "own_code": "Code of its own",
    "fetched": "How it was fetched",
    "gated": "Gated on the Hub",
    "size_bytes": "Size on disk",
    "top1_agreement": "Same top token",
    "mean_kl": "Mean KL divergence (nats)",
}
"""Names of facts for a reader, where they are not simply the key."""

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
    licence = card.get("license", {})
    return ModelFacts(
        model=entry.spec.id,
        license=_fact(entry, "license", licence.get("name"), url=licence.get("url"), note=licence.get("note")),
        parameters=_fact(entry, "parameters"),
        context_length=_fact(entry, "context_length"),
        languages=_fact(entry, "languages"),
        base_model=_base_model(entry),
        base_model_relation=_fact(entry, "base_model.relation", card.get("base_model", {}).get("relation")),
        datasets=_fact(entry, "datasets", card.get("datasets") or None),
        specialisation=_fact(entry, "specialisation"),
        openness=Openness(**{item: _openness_item(card, item) for item in OPENNESS}),
        quality={
            score["benchmark"]: _score(card, score) for score in card.get("quality", []) if "caution" not in score
        },
        extra={**_extra(entry), **(_measured(artifact) if artifact else {})},
    )


def fact_title(key: str) -> str:
    """How a fact is called where people read it."""
    return TITLES.get(key) or _words(key)


def openness_score(facts: ModelFacts) -> tuple[int, int]:
    """How many of the five openness items are answered with a plain yes, and five. ``partial`` does not count."""
    return sum(getattr(facts.openness, item).value == "yes" for item in OPENNESS), len(OPENNESS)


def card_markdown(entry: CatalogEntry) -> str:
    """The rest of the card to read: what does not fit a table cell. Links lead to http(s) addresses only."""
    card = entry.card
    if not card:
        return f"Nothing has been researched about {_escape(entry.spec.name)}: its facts are unknown."
    sections = [
        ("Terms", _terms(entry)),
        ("What runs here", _weights(card)),
        ("Purpose", _texts(card, "specialisation_note")),
        ("Limitations", _texts(card, "limitations", "chat_template_note", "gated_note")),
        ("Prompt format", _prompt_format(entry)),
        ("Licence", _licence(card)),
        ("Training", _training(card)),
        ("Datasets by stage", _datasets(card)),
        ("Openness", _openness(card)),
        ("Figures of the card", _figures(card)),
        ("Notes", _texts(card, "languages_note", "release_note", "source_notes", "lifecycle_note", "cpu_note")),
        ("Sources", "\n".join(f"- {_link(url, url)}" for url in card.get("sources", []))),
    ]
    return "\n\n".join(f"### {title}\n\n{body}" for title, body in sections if body)


def _fact(entry: CatalogEntry, key: str, value: Any = None, url: str | None = None, note: str | None = None) -> Fact:
    """The fact behind a card key, if its source was read; ``key`` may be dotted, and then its parent counts too."""
    card = entry.card
    value = card.get(key) if value is None else value
    status = _how_read(card, key)
    if value is None or value in ([], "unknown") or status == "unknown":
        return UNKNOWN
    sources = card.get("sources") or [""]
    source, read_at, loosely = PRIMARY, sources[0], MAIN
    if status != "card":
        source = SECOND_HAND
        if entry.spec.upstream:
            read_at, loosely = HUB + entry.spec.upstream, PAGE
    return Fact(
        value=value,
        source=source if url or not read_at else source + loosely,
        url=url or read_at,
        status=status,
        note=note or card.get(_NOTES.get(key, f"{key}_note"), ""),
    )


def _how_read(card: dict[str, Any], key: str) -> FactStatus:
    """``verified`` is a primary source; anything recalled or not listed at all stays unknown."""
    names = {key, key.partition(".")[0]}
    if names & set(card.get("verified", [])):
        return "card"
    if names & set(card.get("verified_via_secondary", [])):
        return "catalogue"
    return "unknown"


def _base_model(entry: CatalogEntry) -> Fact:
    base = entry.card.get("base_model", {})
    value = base.get("id")
    if value is None and base.get("relation") == "pretrained":
        value = "none: trained from scratch"
    url = HUB + base["id"] if base.get("id") else None
    return _fact(entry, "base_model.id", value, url=url, note=base.get("note"))


def _openness_item(card: dict[str, Any], item: str) -> Fact:
    answer = card.get("openness", {}).get(item)
    if answer is None or answer["status"] == "unknown" or not answer.get("evidence"):
        return Fact(value="unknown", note=(answer or {}).get("note", ""))
    read = "openness" in card.get("verified", [])
    return Fact(
        value=answer["status"],
        source=PRIMARY if read else SECOND_HAND,
        url=answer["evidence"],
        status="card" if read else "catalogue",
        note=answer.get("note", ""),
    )


def _score(card: dict[str, Any], score: dict[str, Any]) -> Fact:
    return Fact(
        value=score["value"],
        source="Published by the source linked here; not measured by us",
        url=score["source"],
        status="card" if "quality" in card.get("verified", []) else "catalogue",
        note=f"{score['benchmark']}, {score['setting']}" if "setting" in score else score["benchmark"],
    )


def _extra(entry: CatalogEntry) -> dict[str, Fact]:
    extra = {key: fact for key in _EXTRA if (fact := _fact(entry, key)).status != "unknown"}
    licence = entry.card.get("license", {})
    commercial = _fact(entry, "license.commercial_use", licence.get("commercial_use"), url=licence.get("url"))
    if commercial.status != "unknown":
        extra["commercial_use"] = replace(commercial, note="What the licence text says in short; not legal advice.")
    if entry.prompt_format:
        extra["prompt_format"] = Fact(
            "as documented",
            "The documentation linked here",
            entry.prompt_format.source,
            "card",
            entry.prompt_format.note,
        )
    if code := entry.card.get("own_code"):
        instead = f"It is refused here, because code from a repository is never run. Instead: {code['instead']}."
        extra["own_code"] = Fact("needed", "The page linked here", code["source"], "card", f"{code['note']} {instead}")
    weights = entry.card.get("weights")
    if weights:
        extra["weights"] = Fact(
            weights["format"], weights["source"], weights.get("url", ""), status="catalogue", note=weights["note"]
        )
    return extra


def _measured(artifact: Artifact) -> dict[str, Fact]:
    where = f"Measured on {artifact.variant}"
    size = Fact(artifact.size_bytes, where, status="measured", note="The exported model on this disk.")
    facts = {"size_bytes": size if artifact.size_bytes else Fact(note="It does not lie on this disk.")}
    fidelity = artifact.fidelity
    if fidelity:
        against = f"{fidelity.verdict} against {fidelity.reference}, {fidelity.positions} positions."
        note = f"{against} {fidelity.reason}".strip()
        facts["top1_agreement"] = Fact(fidelity.top1_agreement, where, status="measured", note=note)
        facts["mean_kl"] = Fact(fidelity.mean_kl, where, status="measured", note=note)
    if artifact.notes:
        facts["fetched"] = Fact(
            " ".join(artifact.notes), f"Seen when {artifact.variant} was prepared", status="measured"
        )
    return facts


def _terms(entry: CatalogEntry) -> str:
    if not entry.terms:
        return ""
    links = [_link("Terms of use", entry.terms.url)]
    if entry.terms.policy_url:
        links.append(_link("Prohibited use policy", entry.terms.policy_url))
    return f"{_escape(entry.terms.text)}\n\n{' · '.join(links)}"


def _weights(card: dict[str, Any]) -> str:
    weights = card.get("weights")
    if not weights:
        return ""
    source = _link(weights["source"], weights["url"]) if "url" in weights else _escape(weights["source"])
    return f"{_escape(weights['note'])}\n\n{_escape(weights['format'])} · {source}"


def _texts(card: dict[str, Any], *keys: str) -> str:
    return "\n\n".join(_escape(card[key]) for key in keys if card.get(key))


def _licence(card: dict[str, Any]) -> str:
    licence = card.get("license")
    if not licence:
        return ""
    name = _link(licence["name"], licence["url"]) if "url" in licence else _escape(licence["name"])
    commercial = _escape(licence.get("commercial_use", "unknown"))
    note = f"\n\n{_escape(licence['note'])}" if licence.get("note") else ""
    return f"{name}. Commercial use: {commercial}.{note}"


def _prompt_format(entry: CatalogEntry) -> str:
    """What is documented of it, and the template this product brings where the tokenizer has none."""
    said = _texts(entry.card, "prompt_format")
    if not entry.prompt_format:
        return said
    source = _link("Documented here", entry.prompt_format.source)
    template = "\n".join(f"    {line}" for line in entry.spec.chat_template.splitlines())
    note = f"{_escape(entry.prompt_format.note)} {source}."
    return "\n\n".join(filter(None, (said, note, template)))


def _training(card: dict[str, Any]) -> str:
    rows = []
    for key, value in card.get("training", {}).items():
        shown = _link(value, value) if key == "paper" else _escape(value)
        rows.append(f"- {_words(key)}: {shown}")
    detail = card.get("architecture_detail", {})
    if detail:
        shape = ", ".join(f"{key.replace('_', ' ')} {_escape(_yes_no(value))}" for key, value in detail.items())
        rows.append(f"- Architecture: {_escape(card.get('architecture', ''))} ({shape})")
    return "\n".join(rows)


def _datasets(card: dict[str, Any]) -> str:
    stages: dict[str, list[str]] = {}
    for item in card.get("datasets_detail", []):
        note = f" ({_escape(item['note'])})" if "note" in item else ""
        stages.setdefault(item["stage"], []).append(_escape(item["name"]) + note)
    rows = [f"- {_first_upper(_escape(stage))}: {'; '.join(names)}" for stage, names in stages.items()]
    if not rows and card.get("datasets"):
        rows = [f"- {_escape(name)}" for name in card["datasets"]]
    if card.get("datasets_note"):
        rows.append(f"\n{_escape(card['datasets_note'])}")
    return "\n".join(rows)


def _openness(card: dict[str, Any]) -> str:
    rows = []
    for item in OPENNESS:
        fact = _openness_item(card, item)
        evidence = f" {_link('evidence', fact.url)}" if fact.url else ""
        rows.append(f"- {_words(item)}: **{fact.value}**. {_escape(fact.note)}{evidence}")
    return "\n".join(rows) if card.get("openness") else ""


def _figures(card: dict[str, Any]) -> str:
    """Scores as published, the doubtful ones named as such, and those of the base model apart."""
    rows = []
    for score in card.get("quality", []):
        where = _link("source", score["source"])
        setting = f" ({_escape(score['setting'])})" if "setting" in score else ""
        if "caution" in score:
            rows.append(f"- {_escape(score['benchmark'])}: not shown as a score. {_escape(score['caution'])} {where}")
        else:
            rows.append(f"- {_escape(score['benchmark'])}: {score['value']}{setting} {where}")
    for score in card.get("quality_base_model", []):
        setting = f" ({_escape(score['setting'])})" if "setting" in score else ""
        rows.append(f"- Base model, {_escape(score['benchmark'])}: {score['value']}{setting}")
    if card.get("quality_note"):
        rows.append(f"\n{_escape(card['quality_note'])}")
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
