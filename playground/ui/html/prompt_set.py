"""The Prompt set tab as HTML, but for its rows and its figures: what a file holds, a suite's frame, how far it is, and
the list of earlier ones.

Buttons say what they do by ``data-suite``; scripts/prompt_set.js answers them or sends them to the app. Knows records
and words, not gradio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from playground.messages import NOTHING, Translatable, msg, plural
from playground.records import SuiteRun, Variant
from playground.ui.html import panel
from playground.ui.html.format import count, esc
from playground.ui.html.history import time_html
from playground.ui.html.panel import Label, Models
from playground.ui.i18n import say
from playground.ui.matrix import Show, Sort

if TYPE_CHECKING:
    from playground.results.suites import SuiteEntry

SHOWN: dict[Show, Translatable] = {
    "all": msg("All"),
    "differs": msg("Models differ"),
    "failed": msg("Failed a check"),
    "error": msg("Errors"),
    "cut": msg("Cut off"),
    "slowest": msg("Slowest tenth"),
    "worse": msg("Worse than before"),
    "waiting": msg("Not finished"),
}
SORTED: dict[Sort, Translatable] = {
    "file": msg("as in the file"),
    "slowest": msg("slowest first"),
    "fewest": msg("fewest passed first"),
    "longest": msg("longest answer first"),
    "name": msg("by name"),
}
STATUS: dict[str, Translatable] = {
    "running": msg("running"),
    "paused": msg("paused"),
    "done": msg("finished"),
}
FILES: tuple[tuple[str, Translatable, Translatable], ...] = (
    ("html", msg("Web page"), msg("one file for any browser, without a script")),
    ("md", msg("Markdown"), msg("for a report or an issue")),
    ("csv", msg("CSV"), msg("a row an answer, for a spreadsheet")),
    ("jsonl", msg("JSONL"), msg("a line an answer, for a program")),
    ("json", msg("JSON"), msg("all of it, as it is kept")),
    ("xml", msg("JUnit XML"), msg("for a build server")),
    ("comparator", msg("LLM Comparator"), msg("the first two models, side by side in its page")),
)


@dataclass(frozen=True)
class Standing:
    """How far a suite is.

    Attributes:
        done: Answers that are there, of ``cells``.
        left: How long it will take from here, in words; empty where nothing is known.
        step: What it is doing, in words.
        problem: What its reader has to know.
    """

    status: str
    done: int
    cells: int
    left: Translatable = NOTHING
    step: Translatable = NOTHING
    problem: Translatable = NOTHING


def found_html(rows: int, checks: int, models: Sequence[str], repeats: int, notes: Sequence[str] = ()) -> str:
    """What was read of the prompts, and how many answers it will be.

    Args:
        models: As many as will be asked.
        repeats: Samples of each.
    """
    told = [plural("{n:,} prompt", "{n:,} prompts", n=rows)]
    told.append(plural("{n:,} check", "{n:,} checks", n=checks) if checks else msg("no checks"))
    if models:
        told.append(plural("{n} model", "{n} models", n=len(models)))
        told.append(plural("{n:,} answer", "{n:,} answers", n=rows * len(models) * max(1, repeats)))
    shown = " · ".join(map(esc, told))
    more = "".join(f'<p class="note">{esc(note)}</p>' for note in notes)
    return f'<p class="suite-found" data-say="status">{shown}</p>{more}'


def empty_html() -> str:
    """Before there is any suite."""
    words = msg(
        "Paste prompts, a line each, or open a CSV, JSONL or YAML file. Each prompt is asked of each model, one at a "
        "time, so the figures are true; with checks you see which model passes how many, and whether they differ."
    )
    return f'<div class="empty"><h3>{esc(msg("No answers yet"))}</h3><p>{esc(words)}</p></div>'


def frame_html(run: SuiteRun, labels: Sequence[Label], earlier: Mapping[str, str], *, yours: bool) -> str:
    """A suite with room for what scripts/prompt_set.js asks for: how far it is, its figures, its rows.

    Args:
        earlier: Runs that it may be compared with, name by id.
        yours: Whether the visitor may pause, resume and delete it.
    """
    id = esc(run.id)
    return (
        f'<section class="suite" data-suite-id="{id}" data-status="{esc(run.status)}" aria-label="{esc(run.name)}">'
        f'<header class="suite-head"><h2 dir="auto">{esc(_name(run.name))}</h2>{time_html(run.created_at)}'
        f'<div class="tools">{_buttons() if yours else ""}{_save(run.id, len(run.columns))}'
        f'<a href="?tab=prompts&amp;suite={quote(run.id)}" data-link="{esc(msg("Copied"))}">{esc(msg("Link"))}</a>'
        f"</div></header>{_delete() if yours else ''}"
        '<div class="suite-standing" aria-live="off"></div><div class="suite-sum"></div>'
        f"{_find(earlier)}{_table(labels)}"
        '<nav class="suite-pages" hidden></nav></section>'
    )


def _name(name: str) -> Translatable | str:
    return name or msg("Prompt set")


def _buttons() -> str:
    return (
        f'<button type="button" data-suite="resume" data-when="paused">{esc(msg("Resume"))}</button>'
        f'<button type="button" data-suite="retry" hidden>{esc(msg("Ask again what failed"))}</button>'
        f'<button type="button" data-suite="again" data-when="done">{esc(msg("Edit and run again"))}</button>'
        f'<button type="button" data-suite="ask-delete" aria-expanded="false">{esc(msg("Delete"))}</button>'
    )


def pause_html() -> str:
    """The button in the place of Run while a suite of the visitor's own is shown and goes on. The first press waits for
    the answer that is being given, the second one does not.
    """
    return (
        f'<button type="button" data-suite="pause" data-first="{esc(msg("Pause"))}" '
        f'data-then="{esc(msg("Stop at once"))}">{esc(msg("Pause"))}</button>'
    )


def _delete() -> str:
    words = msg("Delete this prompt set and all of its answers for good? Its link stops working.")
    return (
        f'<div class="in-place" data-for="suite-delete" role="group" aria-label="{esc(msg("Delete"))}" hidden>'
        f"<span>{esc(words)}</span>"
        f'<button type="button" class="danger" data-suite="delete">{esc(msg("Delete for good"))}</button>'
        f'<button type="button" data-suite="never-mind">{esc(msg("Keep it"))}</button></div>'
    )


def _save(id: str, columns: int) -> str:
    address = f"export/suite/{quote(id, safe='')}"
    files = "".join(
        f'<li><a href="{address}.{ending}" download>{esc(title)}</a> <small>{esc(what)}</small></li>'
        for ending, title, what in FILES
        if ending != "comparator" or columns > 1
    )
    return f'<details class="save-menu"><summary>{esc(msg("Save"))}</summary><ul>{files}</ul></details>'


def _find(earlier: Mapping[str, str]) -> str:
    chips = "".join(
        f'<button type="button" data-suite="show" data-show="{show}" aria-pressed="{str(show == "all").lower()}"'
        f"{' hidden' if show in ('worse', 'waiting') else ''}>{esc(words)} <span></span></button>"
        for show, words in SHOWN.items()
    )
    sorts = "".join(f'<option value="{sort}">{esc(words)}</option>' for sort, words in SORTED.items())
    against = ""
    if earlier:
        runs = "".join(f'<option value="{esc(id)}">{esc(name)}</option>' for id, name in earlier.items())
        against = (
            f'<label>{esc(msg("Compared with"))} <select data-suite="against">'
            f'<option value="">{esc(msg("no earlier run"))}</option>{runs}</select></label>'
        )
    words, sought = esc(msg("Words in prompts and answers")), esc(msg("Search in prompts and answers"))
    return (
        '<div class="suite-find">'
        f'<div class="suite-chips" role="group" aria-label="{esc(msg("Which prompts are shown"))}">{chips}</div>'
        f'<label>{esc(msg("Order"))} <select data-suite="sort">{sorts}</select></label>{against}'
        f'<input type="search" data-suite="words" maxlength="200" placeholder="{words}" aria-label="{sought}">'
        '<span class="suite-count" role="status"></span></div>'
    )


def _table(labels: Sequence[Label]) -> str:
    heads = "".join(
        f'<th scope="col" class="series-{label.position}"><span class="swatch" aria-hidden="true"></span>'
        f"{esc(label.name)} <code>{esc(label.tail)}</code></th>"
        for label in labels
    )
    told = esc(msg("Answers: a row a prompt, a column a model"))
    return (
        f'<div class="scroll suite-scroll" role="region" aria-label="{told}" tabindex="0">'
        f'<table class="facts suite-matrix" style="--models:{len(labels)}"><thead><tr>'
        f'<th scope="col">{esc(msg("Prompt"))}</th>{heads}</tr></thead><tbody></tbody></table></div>'
    )


def standing_html(at: Standing) -> str:
    """How far a suite is, with a bar."""
    share = at.done / at.cells if at.cells else 0.0
    words = msg("{done} of {cells} answers", done=count(at.done), cells=count(at.cells))
    told: list[Translatable] = [STATUS.get(at.status, NOTHING), words]
    if at.status == "running" and at.left:
        told.append(at.left)
    line = " · ".join(map(esc, filter(None, told)))
    step = f"<small>{esc(at.step)}</small>" if at.step and at.status == "running" else ""
    bar = ""
    if at.status != "done":
        bar = (
            f'<span class="progress" role="progressbar" aria-label="{esc(msg("Answers"))}" aria-valuemin="0" '
            f'aria-valuemax="{at.cells}" aria-valuenow="{at.done}"><span style="width:{share * 100:.1f}%"></span>'
            "</span>"
        )
    problem = f'<p class="problem" data-say="alert">{esc(at.problem)}</p>' if at.problem else ""
    return f'<p class="suite-far"><span>{line}</span>{step}</p>{bar}{problem}'


def count_words(matching: int, rows: int) -> str:
    """How many of the prompts are shown."""
    if matching == rows:
        return say(plural("{n:,} prompt", "{n:,} prompts", n=rows))
    return say(msg("{matching} of {rows} prompts", matching=count(matching), rows=count(rows)))


def pages_html(page: int, pages: int) -> str:
    """Where one is among the pages of rows; nothing where there is one."""
    if pages < 2:
        return ""
    before = f'<button type="button" data-suite="page" data-page="{page - 1}"{" disabled" if page == 0 else ""}>'
    after = f'<button type="button" data-suite="page" data-page="{page + 1}"{" disabled" if page == pages - 1 else ""}>'
    where = msg("Page {page} of {pages}", page=page + 1, pages=pages)
    return f"{before}← {esc(msg('Before'))}</button><span>{esc(where)}</span>{after}{esc(msg('Next'))} →</button>"


def list_html(models: Models, entries: Sequence[SuiteEntry], opened: str = "") -> str:
    """A visitor's earlier runs, the newest first; nothing where there is none."""
    if not entries:
        return ""
    rows = "".join(_entry(models, entry, opened=entry.id == opened) for entry in entries)
    title = msg("Earlier runs: {n}", n=len(entries))
    return (
        f'<details class="suite-more" data-keep="runs"{"" if opened else " open"}><summary>{esc(title)}</summary>'
        f'<ul class="entries" aria-label="{esc(msg("Prompt sets, newest first"))}">{rows}</ul></details>'
    )


def _entry(models: Models, entry: SuiteEntry, *, opened: bool) -> str:
    facts = [time_html(entry.created_at), esc(STATUS[entry.status])]
    facts.append(esc(msg("{done} of {cells} answers", done=count(entry.done), cells=count(entry.cells))))
    if entry.judged:
        facts.append(esc(msg("{passed} of {judged} passed", passed=count(entry.passed), judged=count(entry.judged))))
    if entry.failed:
        facts.append(esc(plural("{n} error", "{n} errors", n=entry.failed)))
    return (
        f'<li class="entry{" is-open" if opened else ""}"><button type="button" class="entry-open" data-suite="open" '
        f'data-id="{esc(entry.id)}"{" aria-current=true" if opened else ""}>'
        f'<span class="entry-name" dir="auto">{esc(_name(entry.name))}</span>'
        f'<span class="entry-facts">{esc(names(models, entry.variants))}</span>'
        f'<span class="entry-facts">{" · ".join(facts)}</span></button></li>'
    )


def names(models: Models, variants: Sequence[Variant]) -> str:
    """The models in a row."""
    return ", ".join(f"{label.name} {label.tail}".strip() for label in panel.labels(models, variants))


def gone_html(words: str) -> str:
    """What can't be shown, and why."""
    return f'<p class="problem" data-say="alert">{esc(words)}</p>'
