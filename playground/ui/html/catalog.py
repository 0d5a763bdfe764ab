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
from playground.messages import LIST_SEPARATOR, Translatable, msg, plural, sentences
from playground.records import ModelFacts, Variant
from playground.ui.html import panel, tables
from playground.ui.html.format import NOTHING, card_word, count, esc, link, megabytes, rich
from playground.ui.i18n import say

ELSEWHERE = msg(
    "Serve it on a larger machine (vLLM, llama.cpp server, Ollama) or choose an inference provider, and name it under "
    "`app.remotes` in spaces.yaml: then it is compared here as `remote:NAME`."
)
ESTIMATE = msg("Estimate from the number of parameters, the precision and 2,048 tokens of context; 20 % off is usual.")


def list_html(found: Sequence[Listed], total: int) -> str:
    """The models that fit the filters, as a table that becomes blocks on a narrow screen."""
    if not found:
        none, advice = msg("No model fits"), msg("Take a filter away, or try other words.")
        return f'<div class="empty"><h3>{esc(none)}</h3><p>{esc(advice)}</p></div>'
    heads = tuple(map(say, HEADS))
    head = "".join(f'<th scope="col">{esc(name)}</th>' for name in heads)
    body = "".join(_line(item, heads) for item in found)
    told = sentences(
        plural("{n:,} model of {total:,}.", "{n:,} models of {total:,}.", len(found), total=total),
        msg("A model whose fact is unknown is left out as soon as you filter by that fact."),
    )
    return (
        f'<p class="note">{esc(told)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(msg("Models that fit"))}">'
        f'<table class="facts listing"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _line(item: Listed, heads: Sequence[str]) -> str:
    spec = item.entry.spec
    cells = (
        esc(say(LIST_SEPARATOR).join(say(card_word(each)) for each in item.specialisations)) or NOTHING,
        _size(item.facts.parameters.value),
        count(spec.context_length) if spec.context_length else NOTHING,
        f"{esc(item.license_id or msg('unknown'))}<small>{esc(_commercial(item))}</small>",
        esc(msg("{n} of {all}", n=item.open_items, all=5)),
        _memory(item.footprint) if item.footprint else NOTHING,
        f"{esc(msg('refused'))}<small>{esc(msg('needs code of its own'))}</small>"
        if item.refused
        else esc(_FITS[item.fits]),
    )
    drawn = "".join(f'<td data-model="{esc(name)}">{cell}</td>' for name, cell in zip(heads[1:], cells, strict=True))
    name = f'<button type="button" class="pick" data-pick="{esc(spec.id)}">{esc(spec.name)}</button>'
    return f'<tr data-row><th scope="row">{name}<small>{esc(item.family)}</small></th>{drawn}</tr>'


HEADS = (
    *(msg("Model"), msg("Made for"), msg("Parameters"), msg("Context"), msg("Licence")),
    *(msg("Open items"), msg("Memory (estimate)"), msg("Runs here")),
)
_FITS = {True: msg("yes"), False: msg("too large"), None: msg("unknown")}
_ALLOWED = {
    "yes": msg("commercial use: yes"),
    "no": msg("commercial use: no"),
    "conditional": msg("commercial use: with conditions"),
    "unknown": msg("commercial use: unknown"),
}


def _commercial(item: Listed) -> Translatable:
    return _ALLOWED.get(item.commercial, _ALLOWED["unknown"])


def _refused(item: Listed) -> str:
    code = item.entry.card.own_code
    source = link(code.source if code else "", msg("source"))
    head = rich(msg("**Refused here.**"))
    advice = rich(
        msg("Take `{model}` instead, or serve it elsewhere and compare it as `remote:NAME`.", model=item.instead)
    )
    return f'<p class="note warn">{head} {esc(item.refused)} ({source}) {advice}</p>'


def _memory(footprint: Footprint) -> str:
    """To run is what stays; preparing needs its own once."""
    once = msg("once, to prepare: {memory}", memory=megabytes(footprint.prepare_mb))
    return f"{megabytes(footprint.run_mb)}<small>{esc(once)}</small>"


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
        (msg("Revision"), f"<code>{esc(info.revision)}</code>"),
        (msg("To download"), megabytes(info.download_bytes / 1e6) if info.download_bytes else NOTHING),
        (msg("Access"), _access(info)),
        (msg("What it does"), esc(WORDS[kind]) if (kind := kind_told(info.config, info.tags)) else NOTHING),
        (msg("How it would run"), esc(info.refusal or info.way)),
        *((msg("Note"), esc(note)) for note in info.notes),
    ]
    drawn = "".join(f'<tr><th scope="row">{esc(name)}</th><td>{cell}</td></tr>' for name, cell in rows)
    shown = info.name.source.removeprefix("hub:")
    label = panel.Label(shown, Variant(info.name.source))
    card = card_html(info) + _rest(info)
    read = f'<details class="rest"><summary>{esc(msg("Its card, as its authors wrote it"))}</summary>{card}</details>'
    return (
        f"<h3>{link(info.url, shown)}</h3>"
        + (_verdict(fits, expected, limit_mb) if not info.refusal else _warning(info.refusal))
        + f'<table class="facts"><caption>{esc(msg("Before a download"))}</caption><tbody>{drawn}</tbody></table>'
        + tables.cards_html([facts], [label])
        + (read if info.card else "")
    )


def _rest(info: HubInfo) -> str:
    address = rest_url(info)
    if not address:
        return ""
    words = msg("The card goes on; the rest is on its page.")
    return f'<p class="note">{esc(words)} {link(address, msg("Open it"))}</p>'


def problem_html(message: str) -> str:
    return f'<p class="problem" data-say="alert">{esc(message)}</p>'


def _verdict(fits: bool | None, expected: Footprint | None, limit_mb: float) -> str:
    if expected is None:
        words = (
            msg("It runs here.")
            if fits
            else msg("How much memory it needs is unknown: no source gives its number of parameters.")
        )
        return f'<p class="note">{esc(words)}</p>'
    sizes = msg(
        "Weights {weights}, running {run}, preparing {prepare}; this machine allows {limit}.",
        weights=megabytes(expected.weights_mb),
        run=megabytes(expected.run_mb),
        prepare=megabytes(expected.prepare_mb),
        limit=megabytes(limit_mb),
    )
    figures = esc(sentences(sizes, ESTIMATE))
    if fits:
        return f'<p class="note">{rich(msg("**It should run here.**"))} {figures}</p>'
    too_large = msg("**Too large to be prepared here.**")
    if expected.run_mb > limit_mb:
        too_large = msg("**Too large to run here.**")
    return f'<p class="note warn">{rich(too_large)} {figures} {rich(ELSEWHERE)}</p>'


def _instead(siblings: Sequence[Listed]) -> str:
    if not siblings:
        none = msg("No smaller model of its family or purpose that runs here is in the catalogue.")
        return f'<p class="note">{esc(none)}</p>'
    names = "".join(f"<li>{esc(_sibling(item))}</li>" for item in siblings)
    title = msg("Smaller relatives that run here")
    return f'<div class="note"><strong>{esc(title)}</strong><ul>{names}</ul></div>'


def _sibling(item: Listed) -> Translatable:
    return msg(
        "{model}: {parameters} parameters, {memory}",
        model=item.entry.spec.name,
        parameters=_size(item.facts.parameters.value),
        memory=megabytes(item.footprint.need_mb) if item.footprint else NOTHING,
    )


def _access(info: HubInfo) -> str:
    if not info.gated:
        return esc(msg("open"))
    words = msg("gated: accept its licence on its page, then start the app with HF_TOKEN set")
    return f"{esc(words)} ({link(info.url, msg('its page'))})"


def _warning(words: str) -> str:
    return f'<p class="note warn">{rich(msg("**It does not run here.**"))} {esc(words)}</p>'


def _size(parameters: int | None) -> str:
    if not parameters:
        return NOTHING
    return f"{parameters / 1e9:.1f} B" if parameters >= 999_500_000 else f"{parameters / 1e6:.0f} M"
