"""The History tab as HTML: the list at the left, what is open at its right.

Buttons carry what they do in ``data-history`` (scripts/history.js sends it) or, where the whole page is concerned, in
``data-do`` (scripts/actions.js). Times are UTC until the script has said them in the visitor's own time. Knows entries
and records, not gradio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from playground.messages import Translatable, foreign, msg, plural
from playground.records import Comparison
from playground.results.entries import TITLE_CHARS, Entry, one_line
from playground.ui.html import asked, panel
from playground.ui.html.format import esc
from playground.ui.html.panel import Label, Models

NAME_CHARS = 80
FILES = {"html": "HTML", "md": "MD", "json": "JSON", "jsonl": "JSONL", "csv": "CSV", "comparator": "LLM Comparator"}
"""Endings of the files that are offered, and what each is called; the last one is of two answers."""


@dataclass(frozen=True)
class Part:
    """A part of the list.

    Attributes:
        more: Whether there are older ones.
        filtered: Whether something is searched for, or left out.
        shared: Whether others use this app too, who have lists of their own.
    """

    entries: Sequence[Entry]
    more: bool = False
    filtered: bool = False
    shared: bool = False


def list_html(models: Models, part: Part, opened: str = "") -> str:
    """The list.

    Args:
        opened: The id of the entry that is open.
    """
    if not part.entries:
        return _empty(part)
    rows = "".join(_row(models, entry, opened=entry.id == opened) for entry in part.entries)
    more = ""
    if part.more:
        more = f'<button type="button" class="more" data-history="more">{esc(msg("Show older ones"))}</button>'
    return f'<ul class="entries" aria-label="{esc(msg("Comparisons, newest first"))}">{rows}</ul>{more}'


def _empty(part: Part) -> str:
    if part.filtered:
        head, words = msg("Nothing found"), msg("Search for fewer words, or for parts of them.")
    elif part.shared:
        head = msg("Nothing yet")
        words = msg(
            "What you run is kept here for a time, for this browser alone. Who has the link of one can read it."
        )
    else:
        head, words = msg("Nothing yet"), msg("Comparisons that are run on this machine are kept here.")
    return f'<div class="empty"><h3>{esc(head)}</h3><p>{esc(words)}</p></div>'


def _row(models: Models, entry: Entry, *, opened: bool) -> str:
    facts = [time_html(entry.created_at)]
    if entry.turns > 1:
        facts.append(esc(plural("{n} turn", "{n} turns", entry.turns)))
    if entry.running:
        facts.append(f'<strong class="at-work">{esc(msg("running"))}</strong>')
    names = ", ".join(_name(label) for label in panel.labels(models, entry.variants))
    return (
        f'<li class="entry{" is-open" if opened else ""}">'
        f'<button type="button" class="entry-open" data-history="open" data-id="{esc(entry.id)}"'
        f"{' aria-current=true' if opened else ''}>"
        f'<span class="entry-name" dir="auto">{esc(name_of(entry))}</span>'
        f'<span class="entry-facts">{esc(names)}</span><span class="entry-facts">{" · ".join(facts)}</span></button>'
        f"{star_html(entry)}</li>"
    )


def name_of(entry: Entry) -> Translatable:
    """What an entry is called: its title, or the beginning of its prompt."""
    return (
        foreign(one_line(entry.title or entry.prompt, NAME_CHARS)) if entry.title or entry.prompt else msg("No prompt")
    )


def star_html(entry: Entry) -> str:
    """The button that makes an entry a favourite."""
    name = msg("Favourite: {name}", name=name_of(entry))
    return (
        f'<button type="button" class="star" data-history="star" data-id="{esc(entry.id)}" aria-label="{esc(name)}" '
        f'aria-pressed="{"true" if entry.favourite else "false"}" title="{esc(msg("Favourite"))}">'
        f"{'★' if entry.favourite else '☆'}</button>"
    )


def time_html(created_at: str) -> str:
    """A time, which scripts/history.js says as the visitor's clock does."""
    shown = f"{created_at[:16].replace('T', ' ')} UTC"
    return f'<time datetime="{esc(created_at)}" title="{esc(shown)}">{esc(shown)}</time>'


def opened_html(models: Models, entry: Entry, comparison: Comparison, figures: str, *, yours: bool) -> str:
    """One comparison: what was asked, the answers and their figures.

    Args:
        figures: The table of figures, as HTML.
        yours: Whether the visitor may change it.
    """
    labels = panel.labels(models, [run.variant for run in comparison.runs])
    note = (
        f'<p class="note">{esc(msg("It is still running: open it in Compare to watch."))}</p>' if entry.running else ""
    )
    answers = panel.comparison_panels(comparison, labels) if comparison.runs else ""
    return (
        f'<section class="opened" data-id="{esc(entry.id)}" aria-label="{esc(name_of(entry))}">'
        f"{_head(entry, comparison, yours=yours)}{note}"
        f"{asked.asked_html(comparison.request, comparison.mode)}{answers}{figures}</section>"
    )


def gone_html(words: str) -> str:
    """What can't be opened, and why."""
    return f'<section class="opened is-gone">{_back()}<p class="problem" data-say="alert">{esc(words)}</p></section>'


def _head(entry: Entry, comparison: Comparison, *, yours: bool) -> str:
    own = f"{star_html(entry)}{_button('rename', msg('Rename'))}{_button('ask-delete', msg('Delete'))}" if yours else ""
    names = ",".join(str(run.variant) for run in comparison.runs)
    first = comparison.request.messages[0].content if comparison.request.messages else comparison.request.prompt
    id = esc(entry.id)
    use = (
        f'<button type="button" data-do="use" data-prompt="{esc(first)}" data-models="{esc(names)}">'
        f"{esc(msg('Use this prompt'))}</button>"
    )
    step = ""
    if entry.parent:
        step = (
            f'<button type="button" data-history="open" data-id="{esc(entry.parent)}">'
            f"{esc(msg('Earlier step'))}</button>"
        )
    files = "".join(
        f'<a href="/export/{id}.{ending}" download>{name}</a>'
        for ending, name in FILES.items()
        if ending != "comparator" or len(comparison.runs) > 1
    )
    return (
        f'<div class="opened-head">{_back()}<h2 dir="auto">{esc(name_of(entry))}</h2>{time_html(entry.created_at)}'
        f'<div class="tools"><button type="button" data-do="open-comparison" data-id="{id}">'
        f"{esc(msg('Open in Compare'))}</button>{use}{step}{own}"
        f'<a href="?c={id}">{esc(msg("Link"))}</a>'
        f'<details class="files"><summary>{esc(msg("Save"))}</summary><span>{files}</span></details></div>'
        f"{_rename(entry) + _delete() if yours else ''}</div>"
    )


def _back() -> str:
    return f'<button type="button" class="back" data-history="close">← {esc(msg("Back to the list"))}</button>'


def _button(what: str, label: Translatable) -> str:
    return f'<button type="button" data-history="{what}" aria-expanded="false">{esc(label)}</button>'


def _rename(entry: Entry) -> str:
    label = esc(msg("Title"))
    return (
        f'<div class="in-place" data-for="rename" hidden><input type="text" maxlength="{TITLE_CHARS}" '
        f'value="{esc(entry.title)}" placeholder="{esc(one_line(entry.prompt, NAME_CHARS))}" aria-label="{label}">'
        f'<button type="button" data-history="save-title">{esc(msg("Keep this title"))}</button>'
        f'<button type="button" data-history="never-mind">{esc(msg("Leave it"))}</button></div>'
    )


def _delete() -> str:
    words = msg("Delete this comparison and its earlier steps for good? Its link stops working.")
    return (
        f'<div class="in-place" data-for="ask-delete" role="group" hidden><span>{esc(words)}</span>'
        f'<button type="button" class="danger" data-history="delete">{esc(msg("Delete for good"))}</button>'
        f'<button type="button" data-history="never-mind">{esc(msg("Keep it"))}</button></div>'
    )


def _name(label: Label) -> str:
    return f"{label.name} {label.tail}".strip()
