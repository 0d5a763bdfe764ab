"""What was asked, in one line: the prompt and the parameters that count. Knows requests, not gradio."""

from __future__ import annotations

from playground.messages import Translatable, foreign, msg
from playground.records import Mode, Request
from playground.ui.html.format import esc
from playground.ui.i18n import say

SHORTEST = 120
"""Characters of a prompt that stand above the answers before the rest is folded."""


def parameters(request: Request) -> list[Translatable]:
    """Length and temperature, then whatever else is not as it is by default, each in a few words."""
    default = Request()
    parts = [
        msg("{n:,} tokens", n=request.max_new_tokens),
        msg("temp. {value:g}", value=request.temperature),
    ]
    if request.top_k != default.top_k:
        parts.append(msg("top-k {value}", value=request.top_k))
    if request.top_p != default.top_p:
        parts.append(msg("top-p {value:g}", value=request.top_p))
    if request.min_p != default.min_p:
        parts.append(msg("min-p {value:g}", value=request.min_p))
    if request.repetition_penalty != default.repetition_penalty:
        parts.append(msg("repetition penalty {value:g}", value=request.repetition_penalty))
    if request.seed is None:
        parts.append(msg("a new seed"))
    elif request.seed != default.seed:
        parts.append(msg("seed {value}", value=request.seed))
    if request.stop:
        parts.append(msg("own stop strings"))
    if request.system:
        parts.append(msg("system prompt"))
    if request.reuse:
        parts.append(msg("reuses what was read"))
    return parts


def summary(request: Request, mode: Mode) -> Translatable:
    """The closed parameters: ``One at a time · 128 tokens · temp. 0`` and what was changed."""
    how = msg("All at once") if mode == "fast" else msg("One at a time")
    said: Translatable = how
    for part in parameters(request):
        said = msg("{one} · {other}", one=said, other=part)
    return said


def asked_html(request: Request, mode: Mode, *, note: str = "") -> str:
    """The prompt above its answers, whole behind a long one's first line.

    Args:
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
        f'<div class="asked-line" data-asked="{esc(prompt)}" aria-label="{esc(say(msg("Asked")))}">'
        f"{words}{marked}<small>{told}</small>{note}</div>"
    )
