"""Parameters of a column's own: the form's fields once more, for one model, with presets.

It has the components and their events; what a column is asked is made in ``ui/columns``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError
from playground.messages import msg
from playground.records import Request, Variant
from playground.ui import columns, offered
from playground.ui.columns import OWN
from playground.ui.html import asked, panel
from playground.ui.html.format import esc, link
from playground.ui.i18n import say
from playground.ui.tabs import form
from playground.ui.tabs.form import Form
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground


@dataclass(frozen=True)
class Own:
    """The components; ``fields`` in the order of ``columns.OWN``.

    Attributes:
        choice: Out of sight: the column's choice.
    """

    box: gr.Column
    head: gr.HTML
    choice: gr.Textbox
    presets: gr.Radio
    source: gr.HTML
    fields: tuple[Any, ...]
    use: gr.Button
    same: gr.Button
    close: gr.Button

    @property
    def outputs(self) -> list[Any]:
        """What opening changes."""
        return [self.box, self.head, self.choice, self.presets, self.source, *self.fields]

    def opened(
        self, playground: Playground, choice: str, changed: columns.Changes, shared: Sequence[Any]
    ) -> dict[Any, Any]:
        """Open it for a column, with what it has now.

        Args:
            shared: What the form says, in the order of ``Form.asked``.
        """
        request = _asked(playground, choice, shared)
        own = changed.get(choice, {})
        values = [own.get(name, getattr(request, name)) for name in OWN]
        found = offered.known(playground, [columns.variant_of(choice)])
        name = panel.labels(playground, found)[0].name if found else choice
        time = columns.time_of(choice)
        named = f"{name} ({time})" if time > 1 else name
        chat = not found or panel.labels(playground, found)[0].kind == "chat"
        return {
            self.box: gr.update(visible=True),
            self.head: f'<h3 tabindex="-1">{esc(msg("Parameters of {model} alone", model=named))}</h3>',
            self.choice: choice,
            self.presets: gr.update(choices=_presets(playground, found), value=None),
            self.source: "",
            self.fields[0]: gr.update(value=values[0], interactive=chat),
            **dict(zip(self.fields[1:], values[1:], strict=True)),
        }


def build(playground: Playground) -> Own:
    """Draw it; out of sight until a column's button opens it."""
    most = playground.settings.limits.max_new_tokens
    with gr.Column(elem_id="own", visible=False) as box:
        head = html("", elem_id="own-head")
        choice = gr.Textbox("", elem_id="own-choice", elem_classes="unseen", container=False, show_label=False)
        presets = gr.Radio([], label=msg("Presets"), elem_id="own-presets")
        source = html("", elem_id="own-source")
        with gr.Row():
            tokens = gr.Slider(1, most, 128, step=1, label=msg("Max new tokens"), min_width=160)
            temperature = gr.Slider(0, 2, 0, step=0.05, label=msg("Temperature"), min_width=160)
            top_p = gr.Slider(0.05, 1, 1, step=0.05, label=msg("Top-p"), min_width=160)
            min_p = gr.Slider(0, 1, 0, step=0.01, label=msg("Min-p"), min_width=160)
        with gr.Row():
            top_k = gr.Number(0, precision=0, minimum=0, label=msg("Top-k"), min_width=120)
            penalty = gr.Number(1.0, minimum=0.1, step=0.05, label=msg("Repetition penalty"), min_width=120)
            seed = gr.Number(0, precision=0, minimum=0, label=msg("Seed"), min_width=120)
            system = gr.Textbox("", label=msg("System prompt (optional)"), lines=1, max_lines=6, min_width=240, scale=3)
        with gr.Row(elem_id="own-buttons"):
            use = gr.Button(msg("Use for this column"), variant="primary", min_width=160, scale=0, elem_id="own-use")
            same = gr.Button(msg("Same as the others"), min_width=160, scale=0, elem_id="own-same")
            close = gr.Button(msg("Close"), min_width=100, scale=0, elem_id="own-close")
    fields = (system, tokens, temperature, top_k, top_p, min_p, penalty, seed)
    return Own(box, head, choice, presets, source, fields, use, same, close)


def connect(playground: Playground, part: Own, chosen: Form) -> None:
    """Say which event does what."""
    raw: dict[str, Any] = {
        "show_progress": "hidden",
        "api_visibility": "private",
        "preprocess": False,
        "queue": False,
    }

    def use(choice: str, changed: str, *values: Any) -> list[Any]:
        given, shared = values[: len(OWN)], values[len(OWN) :]
        request = _asked(playground, choice, shared)
        try:
            own = read(given)
        except PlaygroundError as error:
            return [gr.skip(), gr.skip(), f'<p class="problem" data-say="alert">{esc(error.message)}</p>']
        differs = {name: value for name, value in own.items() if value != getattr(request, name)}
        found = columns.read_changes(changed)
        found.pop(choice, None)
        words = msg("The next run asks it so.")
        return [
            columns.written({**found, choice: differs} if differs else found),
            gr.update(visible=False),
            form.notice_html(words),
        ]

    def same(choice: str, changed: str) -> list[Any]:
        found = columns.read_changes(changed)
        found.pop(choice, None)
        return [
            columns.written(found),
            gr.update(visible=False),
            form.notice_html(msg("It is asked as the others are.")),
        ]

    def preset(id: Any, choice: str, *shared: Any) -> list[Any]:
        found = offered.known(playground, [columns.variant_of(choice)])
        preset = next((each for each in playground.presets(found[0]) if each.id == id), None) if found else None
        if preset is None:
            return [gr.skip()] * (len(OWN) + 1)
        request = preset.on(_asked(playground, choice, shared))
        source = esc(preset.source) + (f" {link(preset.url, preset.url)}" if preset.url else "")
        return [f'<p class="note">{source}</p>', *(getattr(request, name) for name in OWN)]

    told = [chosen.changes, part.box, chosen.notice]
    part.use.click(use, [part.choice, chosen.changes, *part.fields, *chosen.asked], told, **raw)
    part.same.click(same, [part.choice, chosen.changes], told, **raw)
    part.close.click(lambda: gr.update(visible=False), None, part.box, **raw)
    part.presets.input(preset, [part.presets, part.choice, *chosen.asked], [part.source, *part.fields], **raw)


def read(values: Sequence[Any]) -> dict[str, Any]:
    """What stands in the fields.

    Raises:
        UsageError: A number is none.
    """
    system, tokens, temperature, top_k, top_p, min_p, penalty, seed = values
    return {
        "system": str(system or ""),
        "max_new_tokens": form.whole(msg("Max new tokens"), tokens),
        "temperature": form.number(msg("Temperature"), temperature),
        "top_k": form.whole(msg("Top-k"), top_k or 0),
        "top_p": form.number(msg("Top-p"), top_p),
        "min_p": form.number(msg("Min-p"), min_p),
        "repetition_penalty": 1.0 if penalty is None else form.number(msg("Repetition penalty"), penalty),
        "seed": None if seed is None else form.whole(msg("Seed"), seed),
    }


def told_html(playground: Playground, changed: str, request: Request) -> str:
    """Which chosen columns are asked otherwise, and how: a line below the form, until they have run."""
    lines = []
    for choice, own in columns.read_changes(changed).items():
        found = offered.known(playground, [columns.variant_of(choice)])
        if found:
            differs = asked.differences(request, own)
            time = columns.time_of(choice)
            name = f"{panel.labels(playground, found)[0].name}{f' ({time})' if time > 1 else ''}"
            lines.append(f"<li><strong>{esc(name)}</strong> {esc(' · '.join(map(say, differs)))}</li>")
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _asked(playground: Playground, choice: str, shared: Sequence[Any]) -> Request:
    """What the column would be asked without parameters of its own."""
    request = form.read_asked(shared)[1]
    found = offered.known(playground, [columns.variant_of(choice)])
    return columns.proposed(playground, found[0], request) if found else request


def _presets(playground: Playground, found: Sequence[Variant]) -> list[tuple[str, str]]:
    return [(preset.name, preset.id) for preset in playground.presets(found[0])] if found else []
