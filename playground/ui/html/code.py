"""The page that shows how to ask the same again: one document without a script, made for one reader's address."""

from __future__ import annotations

from collections.abc import Collection

from playground.messages import msg
from playground.records import Comparison
from playground.results.code_of_run import code_of_run
from playground.ui.html.format import esc
from playground.ui.html.page_export import document_html
from playground.ui.i18n import say


def code_page(comparison: Comparison, base: str, served: Collection[str]) -> str:
    """What to run, a section a language; a click selects all of one."""
    parts = []
    for place, snippet in enumerate(code_of_run(comparison, base, served)):
        notes = "".join(f"<li>{esc(say(note))}</li>" for note in snippet.notes)
        code = (
            f'<pre class="all" tabindex="0" aria-labelledby="way-{place}"><code data-language="{snippet.language}">'
            f"{esc(snippet.code)}</code></pre>"
            if snippet.code
            else ""
        )
        heading = f'<h2 id="way-{place}">{esc(say(snippet.title))}</h2>'
        parts.append(f"<section>{heading}{code}{f'<ul>{notes}</ul>' if notes else ''}</section>")
    about = msg("Each of these asks the same models the same on this app. A click selects all of one, to be copied.")
    return document_html(say(msg("Code of this run")), f"<p>{esc(say(about))}</p>" + "".join(parts))
