"""Better small models: a line each, with one button that has it prepared and chosen.

Nothing is shown where the Hub can't be reached. The service knows what there is; ``html.suggestions`` draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError
from playground.messages import msg
from playground.service.suggestions import SUGGESTED, Suggestions
from playground.ui.html import suggestions as view
from playground.ui.tabs.buttons import QUIET, problem_html
from playground.ui.theme import html
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from playground.service import Playground


@dataclass(frozen=True)
class Line:
    """One model."""

    model: str
    row: gr.Row
    told: gr.HTML
    prepare: gr.Button


@dataclass(frozen=True)
class Suggested:
    """The components; hidden until there is something to suggest."""

    part: gr.Column
    head: gr.HTML
    lines: tuple[Line, ...]
    problem: gr.HTML
    seen: gr.Textbox

    @property
    def outputs(self) -> list[Any]:
        """What ``shown`` changes."""
        each = (part for line in self.lines for part in (line.row, line.told, line.prepare))
        return [self.part, self.head, self.seen, *each]


def build(playground: Playground) -> Suggested:
    """Draw it, hidden."""
    lines = []
    with gr.Column(visible=False, elem_id="suggestions") as part:
        head = html("")
        for model in SUGGESTED:
            with gr.Row(visible=False, elem_classes="one") as row:
                told = html("")
                name = playground.entry(model).spec.name if model in playground.ids() else model
                prepare = gr.Button(
                    msg("Prepare {model}", model=name), size="sm", scale=0, min_width=220, elem_id=f"prepare-{model}"
                )
            lines.append(Line(model, row, told, prepare))
        problem = html("", elem_id="suggestions-problem")
        seen = gr.Textbox("", elem_id="suggestions-seen", elem_classes="unseen", container=False, show_label=False)
    return Suggested(part, head, tuple(lines), problem, seen)


def connect(
    playground: Playground,
    tab: Suggested,
    models: gr.Dropdown,
    refresh: Sequence[Callable[..., Any]],
    choices: Callable[[Sequence[str]], list[tuple[str, str]]],
) -> None:
    """Say which event does what.

    Args:
        models: The picker of models: what is prepared is chosen there too, as long as there is room.
        refresh: Events after which to look again: the load of the page, and the timer that looks at preparations.
        choices: The picker's choices with these chosen, see ``form.choices``.
    """
    most = playground.settings.limits.max_models
    at_once: dict[str, Any] = {**QUIET, "queue": False, "preprocess": False}

    def suggestions(request: gr.Request) -> Suggestions:
        return playground.suggestions() if playground.may_add(visitor(request)) else Suggestions("unreachable")

    def look(request: gr.Request, seen: Any) -> dict[Any, Any]:
        return shown(tab, suggestions(request), seen)

    def preparing(model: str) -> Callable[[gr.Request, Any], dict[Any, Any]]:
        # A function and no partial: behind one gradio finds no request.
        def prepare_suggested(request: gr.Request, chosen: Any) -> dict[Any, Any]:
            return prepare(model, request, chosen)

        return prepare_suggested

    def prepare(model: str, request: gr.Request, chosen: Any) -> dict[Any, Any]:
        try:
            variant = str(playground.prepare_suggested(model, owner=visitor(request)))
        except PlaygroundError as error:
            return {tab.problem: problem_html(error.message)}
        names = [text for text in chosen or [] if isinstance(text, str)]
        fits = variant not in names and len(names) < most
        now = [*names, variant] if fits else names
        return {
            tab.problem: "",
            models: gr.update(choices=choices(now), value=now) if fits else gr.skip(),
            **shown(tab, suggestions(request)),
        }

    gr.on(list(refresh), look, tab.seen, tab.outputs, **at_once)
    for line in tab.lines:
        line.prepare.click(preparing(line.model), models, [tab.problem, models, *tab.outputs], **at_once)


def shown(tab: Suggested, found: Suggestions, seen: Any = None) -> dict[Any, Any]:
    """The lines of what is suggested now; nothing is sent again that a page has ``seen``."""
    known = {item.listed.entry.spec.id: item for item in found.models}
    told = "".join([view.head_html(found), *map(view.model_html, found.models)]) if known else ""
    mark = hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]
    if mark == seen:
        return {tab.seen: gr.skip()}
    if not known:
        return {tab.part: gr.update(visible=False), tab.seen: mark}
    changes: dict[Any, Any] = {tab.part: gr.update(visible=True), tab.head: view.head_html(found), tab.seen: mark}
    for line in tab.lines:
        item = known.get(line.model)
        changes[line.row] = gr.update(visible=item is not None)
        if item:
            changes[line.told] = view.model_html(item)
            idle = item.preparation.status in ("missing", "failed")
            changes[line.prepare] = gr.update(interactive=idle)
    return changes
