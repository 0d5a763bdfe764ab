"""Better small models: a line each, with one button that has it prepared and chosen.

Nothing is shown where the Hub can't be reached. The service knows what there is; ``html.suggestions`` draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError
from playground.messages import msg
from playground.service.suggestions import SUGGESTED, Suggestions
from playground.ui.html import suggestions as view
from playground.ui.tabs.buttons import QUIET, problem_html
from playground.ui.theme import html

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

    @property
    def outputs(self) -> list[Any]:
        """What ``shown`` changes."""
        return [self.part, self.head, *(each for line in self.lines for each in (line.row, line.told, line.prepare))]


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
    return Suggested(part, head, tuple(lines), problem)


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

    def look() -> dict[Any, Any]:
        return shown(tab, playground.suggestions())

    def prepare(model: str, chosen: Any) -> dict[Any, Any]:
        try:
            variant = str(playground.prepare_suggested(model))
        except PlaygroundError as error:
            return {tab.problem: problem_html(error.message)}
        names = [text for text in chosen or [] if isinstance(text, str)]
        fits = variant not in names and len(names) < most
        now = [*names, variant] if fits else names
        return {
            tab.problem: "",
            models: gr.update(choices=choices(now), value=now) if fits else gr.skip(),
            **shown(tab, playground.suggestions()),
        }

    gr.on(list(refresh), look, None, tab.outputs, **at_once)
    for line in tab.lines:
        line.prepare.click(partial(prepare, line.model), models, [tab.problem, models, *tab.outputs], **at_once)


def shown(tab: Suggested, found: Suggestions) -> dict[Any, Any]:
    """The lines of what is suggested now."""
    known = {item.listed.entry.spec.id: item for item in found.models}
    if not known:
        return {tab.part: gr.update(visible=False)}
    changes: dict[Any, Any] = {tab.part: gr.update(visible=True), tab.head: view.head_html(found)}
    for line in tab.lines:
        item = known.get(line.model)
        changes[line.row] = gr.update(visible=item is not None)
        if item:
            changes[line.told] = view.model_html(item)
            idle = item.preparation.status in ("missing", "failed")
            changes[line.prepare] = gr.update(interactive=idle)
    return changes
