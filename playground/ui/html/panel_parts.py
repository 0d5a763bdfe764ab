"""What stands around an answer in its column: the earlier turns of its conversation, what it was asked otherwise, the
buttons below it, and its length. Knows records and words, not gradio.

A button is told by ``data-do`` and its column by ``data-column``: a script answers those of the page itself (copy,
expand, move), and sends the others to the app.
"""

from __future__ import annotations

import re

from playground.messages import NOTHING, Translatable, msg, plural
from playground.records import ModelRun, Request
from playground.ui.html.format import count, esc

WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0eff]")
"""Writing without spaces between words, or whose spaces do not part words as elsewhere."""
LOW_CONTEXT = 0.25
FEW_LINES_CHARS = 600
"""Shorter answers have no more than some 24 lines in any column, and are never folded."""

Item = tuple[str, Translatable]
"""What a button does and its word."""

COPY: Item = ("copy", msg("Copy"))
STOP: Item = ("stop", msg("Stop this one"))
GO_ON: Item = ("go-on", msg("Go on"))
HERE: tuple[Item, ...] = (
    ("raw", msg("Raw or rendered")),
    ("expand", msg("Full width or column")),
    ("pin", msg("Pin or unpin")),
    ("left", msg("Move left")),
    ("right", msg("Move right")),
)
"""What the page does without the app."""


def button(item: Item, name: str, column: int, more: str = "") -> str:
    """A button whose name for a screen reader holds whose it is."""
    do, word = item
    told = esc(msg("{action}: {name}", action=word, name=name))
    told = f'data-do="{do}" data-column="{column}" aria-label="{told}"{more}'
    return f'<button type="button" {told}>{esc(word)}</button>'


def bar(progress: float) -> str:
    """How far something is, 0 to 1."""
    return f'<span class="progress"><span style="width:{max(0.0, min(1.0, progress)) * 100:.1f}%"></span></span>'


def actions(run: ModelRun, name: str, column: int, kind: str, where: str, *, full: bool) -> str:
    """The row below an answer that has ended.

    Args:
        kind: Of the model.
        full: Whether the app's own actions are offered too: not in a stored comparison that is only read.
    """
    first = [COPY] if run.text else []
    further: list[Item] = []
    if full:
        first += [("again", msg("Again")), ("read", msg("What it read"))]
        if kind == "chat" and run.text:
            further.append(("reply", msg("Reply to this one")))
        if run.token_ids:
            further.append(("tokens", msg("Tokens")))
        further += [("parameters", msg("Own parameters")), ("add-again", msg("Add again")), ("remove", msg("Remove"))]
    row = [button(item, name, column) for item in first]
    if full and run.finish_reason == "length" and run.token_ids:
        row.insert(0, f"<span>{esc(msg('Cut off at the limit'))}</span>{button(GO_ON, name, column)}")
    return f'<div class="actions">{"".join(row)}{_menu([*further, *HERE], name, column, where)}</div>'


def _menu(items: list[Item], name: str, column: int, where: str) -> str:
    key = f"menu-{esc(where)}-{column}"
    told = esc(msg("More for {name}", name=name))
    close = f' popovertarget="{key}" popovertargetaction="hide"'
    buttons = "".join(button(item, name, column, close) for item in items)
    return (
        f'<button type="button" class="more" popovertarget="{key}" aria-label="{told}">⋯</button>'
        f'<div popover id="{key}" class="menu" role="group" aria-label="{told}">{buttons}</div>'
    )


def fold_button(name: str, text: str) -> str:
    """Shows all of a long answer, or folds it; the script shows it where the answer is long."""
    if len(text) < FEW_LINES_CHARS and text.count("\n") < 16:
        return ""
    words = {"more": msg("Show all"), "less": msg("Show less")}
    labels = {f"{key}-label": msg("{action}: {name}", action=word, name=name) for key, word in words.items()}
    data = "".join(f' data-{key}="{esc(word)}"' for key, word in (words | labels).items())
    told = f'aria-expanded="true" aria-label="{esc(labels["less-label"])}"'
    return f'<button type="button" class="fold" data-do="collapse" {told}{data}>{esc(words["less"])}</button>'


def length(text: str) -> str:
    """Words and characters; characters alone in writing that does not part words."""
    parts = [] if WIDE.search(text) else [count(len(text.split()), "word")]
    return " · ".join([*parts, count(len(text), "character")])


def context_left(run: ModelRun, context: int) -> Translatable:
    """How much more fits into the model's context, where less than a quarter is left."""
    used = (run.timings.prompt_tokens or 0) + (run.timings.output_tokens or 0)
    if not context or not run.timings.prompt_tokens or context - used >= context * LOW_CONTEXT:
        return NOTHING
    return plural(
        "{n:,} token of its context of {context:,} is left.",
        "{n:,} tokens of its context of {context:,} are left.",
        n=max(0, context - used),
        context=context,
    )


def differing(own: Request | None, shared: Request | None) -> list[Translatable]:
    """What one model was asked otherwise than the others, in a few words each."""
    if own is None or shared is None:
        return []
    told = [
        ("max_new_tokens", msg("{value:,} tokens", value=own.max_new_tokens)),
        ("min_new_tokens", msg("at least {value:,} tokens", value=own.min_new_tokens)),
        ("temperature", msg("temp. {value:g}", value=own.temperature)),
        ("top_k", msg("top-k {value}", value=own.top_k)),
        ("top_p", msg("top-p {value:g}", value=own.top_p)),
        ("min_p", msg("min-p {value:g}", value=own.min_p)),
        ("repetition_penalty", msg("repetition penalty {value:g}", value=own.repetition_penalty)),
        ("seed", msg("a new seed") if own.seed is None else msg("seed {value}", value=own.seed)),
        ("stop", msg("own stop strings") if own.stop else msg("no stop strings")),
        ("system", msg("own system prompt") if own.system else msg("no system prompt")),
    ]
    return [words for name, words in told if getattr(own, name) != getattr(shared, name)]


def turns(request: Request | None, name: str, column: int, *, full: bool) -> str:
    """The conversation before this answer: earlier turns folded, what was last said to the model in full."""
    messages = request.messages if request else ()
    if len(messages) < 2:
        return ""
    drawn, turn = [], 0
    for message in messages:
        if message.role == "user":
            edit = button(("resend", msg("Edit")), name, column, f' data-turn="{turn}"') if full else ""
            drawn.append(_turn(message.content, msg("You"), edit))
            turn += 1
        elif message.role == "assistant":
            drawn.append(_turn(message.content, msg("Answer")))
    earlier = turn - 1
    title = plural("{n} earlier turn", "{n} earlier turns", n=earlier)
    folded = f'<details data-keep="turns"><summary>{esc(title)}</summary>{"".join(drawn[:-1])}</details>'
    return (folded if earlier else "") + drawn[-1]


def _turn(text: str, who: Translatable, edit: str = "") -> str:
    return f'<div class="turn"><strong>{esc(who)}</strong>{edit}<p dir="auto">{esc(text)}</p></div>'
