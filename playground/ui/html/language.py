"""The choice of a language at the foot of the page, and which one the page is in."""

from __future__ import annotations

from playground.messages import msg
from playground.ui import i18n
from playground.ui.html.format import esc

NAMES = {"en": "English", "ja": "日本語"}
"""Languages as they call themselves. One that is not named here is called by its code."""


def language_html() -> str:
    """Buttons for the languages there are messages in, and ``data-current`` for the script that tells the browser which
    one the page is in; those alone where there is one language. ``data-remove`` names buttons that gradio only numbers.
    """
    current = i18n.language()
    buttons = "".join(
        f'<button type="button" data-language="{esc(name)}" lang="{esc(name)}" '
        f'aria-pressed="{"true" if name == current else "false"}">{esc(NAMES.get(name, name))}</button>'
        for name in i18n.known()
    )
    shown = buttons if len(i18n.known()) > 1 else ""
    remove = esc(msg("{action}: {name}", action=msg("Remove"), name="{model}"))
    return (
        f'<div class="language" role="group" aria-label="{esc(msg("Language"))}" data-current="{esc(current)}" '
        f'data-remove="{remove}">'
        f"{shown}</div>"
    )
