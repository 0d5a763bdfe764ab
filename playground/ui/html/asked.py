"""What was asked, in one line: the prompt and the parameters that count. Knows requests, not gradio."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from playground.messages import Translatable, foreign, msg
from playground.records import Mode, Request
from playground.ui.html.format import esc
from playground.ui.i18n import say

SHORTEST = 120
"""Characters of a prompt that stand above the answers before the rest is folded."""


WORDS: dict[str, Callable[[Any], Translatable]] = {
    "max_new_tokens": lambda value: msg("{n:,} tokens", n=value),
    "temperature": lambda value: msg("temp. {value:g}", value=value),
    "top_k": lambda value: msg("top-k {value}", value=value),
    "top_p": lambda value: msg("top-p {value:g}", value=value),
    "min_p": lambda value: msg("min-p {value:g}", value=value),
    "repetition_penalty": lambda value: msg("repetition penalty {value:g}", value=value),
    "seed": lambda value: msg("a new seed") if value is None else msg("seed {value}", value=value),
    "stop": lambda value: msg("own stop strings"),
    "system": lambda value: msg("system prompt") if value else msg("no system prompt"),
    "reuse": lambda value: msg("reuses what was read"),
}
"""Each parameter in a few words."""
ALWAYS = ("max_new_tokens", "temperature")


def parameters(request: Request) -> list[Translatable]:
    """Length and temperature, then whatever else is not as it is by default, each in a few words."""
    default = Request()
    return [
        words(getattr(request, name))
        for name, words in WORDS.items()
        if name in ALWAYS or getattr(request, name) != getattr(default, name)
    ]


def differences(shared: Request, own: Mapping[str, object]) -> list[Translatable]:
    """What a column is asked otherwise than the rest, each in a few words."""
    return [WORDS[name](value) for name, value in own.items() if name in WORDS and getattr(shared, name) != value]


def summary(request: Request, mode: Mode) -> Translatable:
    """The closed parameters: ``One at a time · 128 tokens · temp. 0`` and what was changed."""
    how = msg("All at once") if mode == "fast" else msg("One at a time")
    said: Translatable = how
    for part in parameters(request):
        said = msg("{one} · {other}", one=said, other=part)
    return said


def begun_with(request: Request, own: Iterable[Request | None]) -> str:
    """The prompt that a conversation began with: after a reply it stands in the form still.

    Args:
        own: What single columns were asked, None where it was ``request``.
    """
    for each in own:
        if each and each.messages:
            return each.messages[0].content
    return request.messages[0].content if request.messages else request.prompt


def asked_html(request: Request, mode: Mode, *, note: str = "", own: Iterable[Request | None] = ()) -> str:
    """The prompt above its answers, whole behind a long one's first line.

    Args:
        own: What single columns were asked, None where it was ``request``.
        note: A remark that stands with it, as HTML: a reply's turn, a link's owner.
    """
    prompt = request.messages[0].content if request.messages else request.prompt
    how = msg("fast") if mode == "fast" else msg("fair")
    told = " · ".join(esc(part) for part in (*parameters(request), how))
    marked = f'<span class="earlier" hidden>{esc(msg("to an earlier prompt"))}</span>'
    line = " ".join(prompt.split())
    said = esc(foreign(line if len(line) <= SHORTEST else f"{line[:SHORTEST]}…"))
    words = f'<q dir="auto">{said}</q>'
    if line != prompt or len(line) > SHORTEST:
        words = f'<details><summary>{words}</summary><blockquote dir="auto">{esc(prompt)}</blockquote></details>'
    return (
        f'<div class="asked-line" data-asked="{esc(prompt)}" data-began="{esc(begun_with(request, own))}"'
        f' aria-label="{esc(say(msg("Asked")))}">'
        f"{words}{marked}<small>{told}</small>{note}{_raw_switch()}</div>"
    )


def _raw_switch() -> str:
    """Shows all answers as the models wrote them, or rendered again; which word is seen is the style's business."""
    words = f'<span class="to-raw">{esc(msg("Show raw text"))}</span>'
    words += f'<span class="to-rendered">{esc(msg("Show rendered"))}</span>'
    return f'<button type="button" class="raw-all" data-do="raw-all">{words}</button>'
