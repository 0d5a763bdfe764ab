"""What the Catalogue tab says, as HTML: the list of models, one model with what it needs, a repository of the Hub.

Pure: facts in, HTML out. Everything a card says is escaped, or made safe by ``catalog.hub_cards``.
"""

from __future__ import annotations

from collections.abc import Sequence

from playground.catalog.cards import card_markdown
from playground.catalog.footprint import Footprint
from playground.catalog.hub import HubInfo
from playground.catalog.hub_cards import card_html, rest_url
from playground.catalog.kinds import WORDS, kind_told
from playground.catalog.search import Listed
from playground.records import ModelFacts, Variant
from playground.ui.html import panel, tables
from playground.ui.html.format import NOTHING, count, esc, link, megabytes
from playground.ui.i18n import say

ELSEWHERE = (
    "Serve it on a larger machine (vLLM, llama.cpp server, Ollama) or choose an inference provider, and name it under "
    "<code>app.remotes</code> in spaces.yaml: then it is compared here as <code>remote:NAME</code>."
)
ESTIMATE = "Estimate from the number of parameters, the precision and 2,048 tokens of context; 20 % off is usual."


def list_html(found: Sequence[Listed], total: int) -> str:
    """The models that fit the filters, as a table that becomes blocks on a narrow screen."""
    if not found:
        return '<div class="empty"><h3>No model fits</h3><p>Take a filter away, or try other words.</p></div>'
    heads = ("Model", "Made for", "Parameters", "Context", "Licence", "Open items", "Memory (estimate)", "Runs here")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(_line(item, heads) for item in found)
    return (
        f'<p class="note" role="status">{count(len(found), "model")} of {total:,}. '
        "A model whose fact is unknown is left out as soon as you filter by that fact.</p>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Models that fit">'
        f'<table class="facts listing"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _line(item: Listed, heads: Sequence[str]) -> str:
    spec = item.entry.spec
    cells = (
        esc(", ".join(item.specialisations)) or NOTHING,
        _size(item.facts.parameters.value),
        count(spec.context_length) if spec.context_length else NOTHING,
        f"{esc(item.license_id or 'unknown')}<small>commercial use: {esc(item.commercial)}</small>",
        f"{item.open_items} of 5",
        _memory(item.footprint) if item.footprint else NOTHING,
        "refused<small>needs code of its own</small>" if item.refused else _FITS[item.fits],
    )
    drawn = "".join(f'<td data-model="{name}">{cell}</td>' for name, cell in zip(heads[1:], cells, strict=True))
    name = f'<button type="button" class="pick" data-pick="{esc(spec.id)}">{esc(spec.name)}</button>'
    return f'<tr data-row><th scope="row">{name}<small>{esc(item.family)}</small></th>{drawn}</tr>'


_FITS = {True: "yes", False: "too large", None: "unknown"}


def _refused(item: Listed) -> str:
    code = item.entry.card.own_code
    source = link(code.source if code else "", "source")
    return (
        f'<p class="note warn"><strong>Refused here.</strong> {esc(item.refused)} ({source}) '
        f"Take <code>{esc(item.instead)}</code> instead, or serve it elsewhere and compare it as "
        "<code>remote:NAME</code>.</p>"
    )


def _memory(footprint: Footprint) -> str:
    """To run is what stays; preparing needs its own once."""
    return f"{megabytes(footprint.run_mb)}<small>once, to prepare: {megabytes(footprint.prepare_mb)}</small>"


def detail_html(item: Listed, facts: ModelFacts, siblings: Sequence[Listed], limit_mb: float) -> str:
    """One model: whether it runs here, what to do where it does not, every fact."""
    spec = item.entry.spec
    label = panel.Label(spec.name, Variant(spec.id), 0, spec.kind, item.entry.terms)
    terms = f'<p class="note">{panel.terms_html(item.entry.terms)}</p>' if item.entry.terms else ""
    return (
        f"<h3>{esc(spec.name)}</h3>{terms}"
        + (_refused(item) if item.refused else _verdict(item.fits, item.footprint, limit_mb))
        + (_instead(siblings) if item.fits is False else "")
        + tables.cards_html([facts], [label])
    )


def rest(item: Listed) -> str:
    """The card's prose, as markdown whose every character is escaped."""
    return card_markdown(item.entry, say)


def hub_html(info: HubInfo, facts: ModelFacts, limit_mb: float) -> str:
    """A repository of the Hub, before anything but its card is downloaded."""
    expected = info.footprint()
    fits = None if expected is None else expected.fits(limit_mb)
    rows = [
        ("Revision", f"<code>{esc(info.revision)}</code>"),
        ("To download", megabytes(info.download_bytes / 1e6) if info.download_bytes else NOTHING),
        ("Access", _access(info)),
        ("What it does", esc(WORDS[kind]) if (kind := kind_told(info.config, info.tags)) else NOTHING),
        ("How it would run", esc(info.refusal or info.way)),
        *(("Note", esc(note)) for note in info.notes),
    ]
    drawn = "".join(f'<tr><th scope="row">{name}</th><td>{cell}</td></tr>' for name, cell in rows)
    label = panel.Label(info.repo, Variant(f"hub:{info.repo}"))
    card = card_html(info) + _rest(info)
    read = f'<details class="rest"><summary>Its card, as its authors wrote it</summary>{card}</details>'
    return (
        f"<h3>{link(info.url, info.repo)}</h3>"
        + (_verdict(fits, expected, limit_mb) if not info.refusal else _warning(info.refusal))
        + f'<table class="facts"><caption>Before a download</caption><tbody>{drawn}</tbody></table>'
        + tables.cards_html([facts], [label])
        + (read if info.card else "")
    )


def _rest(info: HubInfo) -> str:
    address = rest_url(info)
    return (
        f'<p class="note">The card goes on; the rest is on its page. {link(address, "Open it")}</p>' if address else ""
    )


def problem_html(message: str) -> str:
    return f'<p class="problem" role="alert">{esc(message)}</p>'


def _verdict(fits: bool | None, expected: Footprint | None, limit_mb: float) -> str:
    if expected is None:
        words = (
            "It runs here."
            if fits
            else "How much memory it needs is unknown: no source gives its number of parameters."
        )
        return f'<p class="note">{words}</p>'
    figures = (
        f"Weights {megabytes(expected.weights_mb)}, running {megabytes(expected.run_mb)}, preparing "
        f"{megabytes(expected.prepare_mb)}; this machine allows {megabytes(limit_mb)}. {ESTIMATE}"
    )
    if fits:
        return f'<p class="note"><strong>It should run here.</strong> {figures}</p>'
    what = "run" if expected.run_mb > limit_mb else "be prepared"
    return f'<p class="note warn"><strong>Too large to {what} here.</strong> {figures} {ELSEWHERE}</p>'


def _instead(siblings: Sequence[Listed]) -> str:
    if not siblings:
        return '<p class="note">No smaller model of its family or purpose that runs here is in the catalogue.</p>'
    names = "".join(
        f"<li>{esc(item.entry.spec.name)}: {_size(item.facts.parameters.value)} parameters, "
        f"{megabytes(item.footprint.need_mb) if item.footprint else NOTHING}</li>"
        for item in siblings
    )
    return f'<div class="note"><strong>Smaller relatives that run here</strong><ul>{names}</ul></div>'


def _access(info: HubInfo) -> str:
    if not info.gated:
        return "open"
    return f"gated: accept its licence on {link(info.url, 'its page')}, then start the app with HF_TOKEN set"


def _warning(words: str) -> str:
    return f'<p class="note warn"><strong>It does not run here.</strong> {esc(words)}</p>'


def _size(parameters: int | None) -> str:
    if not parameters:
        return NOTHING
    return f"{parameters / 1e9:.1f} B" if parameters >= 999_500_000 else f"{parameters / 1e6:.0f} M"
