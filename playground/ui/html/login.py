"""Signing in with Hugging Face as the page shows it: the way there, who is signed in, and what to do when it failed."""

from __future__ import annotations

from playground.messages import Translatable, msg
from playground.ui import i18n
from playground.ui.html.format import esc


def login_html(name: str = "") -> str:
    """The link to sign in, or the name of whoever is signed in with the link out."""
    if not name:
        return f'<p class="login"><a href="/login/huggingface">{esc(msg("Sign in with Hugging Face"))}</a></p>'
    who = esc(msg("Signed in as {name}", name=name))
    return f'<p class="login"><span>{who}</span> <a href="/logout">{esc(msg("Sign out"))}</a></p>'


def failed_html(words: Translatable) -> str:
    """A page by itself, for whoever comes back from the Hub without being signed in: some browsers keep no cookies in
    another site's frame, so it also leads to a tab of its own.
    """
    return (
        f'<!doctype html><html lang="{esc(i18n.language())}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Open-Model Playground</title></head>'
        f'<body><p>{esc(words)}</p><p><a href="/login/huggingface">{esc(msg("Sign in with Hugging Face"))}</a> · '
        f'<a href="/">{esc(msg("Back to the playground"))}</a> · '
        f'<a href="/" target="_blank">{esc(msg("Open it in a tab of its own"))}</a></p></body></html>'
    )
