"""Better small models to prepare, as HTML: what each would cost. Pure: values in, HTML out."""

from __future__ import annotations

from playground.catalog.kinds import WORDS
from playground.messages import Translatable, msg
from playground.service.suggestions import Suggestion, Suggestions
from playground.ui.html import panel
from playground.ui.html.format import esc, link, megabytes, seconds


def head_html(found: Suggestions) -> str:
    """What is offered, and how long it would take."""
    if found.bytes_per_s:
        time = msg(
            "Times are of the download, at the {speed} a second measured here.",
            speed=megabytes(found.bytes_per_s / 1e6),
        )
    else:
        time = msg("How long a download takes here is unknown until the first one was measured.")
    words = msg(
        "The two starters come without the Hub and are small; these follow a request better. A model is downloaded "
        "once, then exported and checked on this machine."
    )
    return f'<h3 class="below">{esc(msg("Better small models"))}</h3><p class="note">{esc(words)} {esc(time)}</p>'


def model_html(item: Suggestion) -> str:
    """One model: what it is and what it costs."""
    entry, needs = item.listed.entry, item.listed.footprint
    parts: list[str] = [_size(item)]
    if item.seconds is not None:
        parts.append(msg("about {time}", time=seconds(item.seconds)))
    if needs:
        parts.append(msg("about {mb} of memory when it runs", mb=megabytes(needs.run_mb)))
        parts.append(msg("{mb} while it is prepared", mb=megabytes(needs.prepare_mb)))
    costs = " · ".join(esc(part) for part in parts)
    gated = f'<p class="note">{_gated(entry.spec.upstream)}</p>' if item.gated else ""
    terms = f'<p class="terms">{panel.terms_html(entry.terms)}</p>' if entry.terms else ""
    state = ""
    if item.preparation.status != "missing":
        state = f'<ul class="model-state">{panel.state_html(item.variant, item.preparation)}</ul>'
    return (
        f'<div class="suggestion"><strong>{esc(entry.spec.name)}</strong> <small>{esc(WORDS[entry.spec.kind])}</small>'
        f'<p class="note">{costs}</p>{gated}{terms}{state}</div>'
    )


def _size(item: Suggestion) -> Translatable:
    if item.bytes is None:
        return msg("download of unknown size")
    size = megabytes(item.bytes / 1e6)
    return msg("about {size} to download", size=size) if item.estimated else msg("{size} to download", size=size)


def _gated(repo: str) -> str:
    words = msg("Gated: accept its licence on the Hub, and give the app a token of that account (HF_TOKEN).")
    return f"{esc(words)} {link(f'https://huggingface.co/{repo}', repo)}"
