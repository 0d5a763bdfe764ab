"""The upper part of the page: prompt, models with their states, parameters, Run and Stop.

It builds the components and reads them back as a ``Request``; it does not run anything.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.catalog.kinds import WORDS
from playground.catalog.search import Filters
from playground.errors import PlaygroundError, UsageError
from playground.messages import msg
from playground.records import Mode, Request, Variant
from playground.ui import offered
from playground.ui.html import panel
from playground.ui.html.format import esc, precision_words
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.catalog.entries import CatalogEntry
    from playground.service import Playground

FIRST_PROMPT = "Explain in two sentences why the sky is blue."
EXAMPLES = {
    "Question": FIRST_PROMPT,
    "Code": "Write a Python function that returns the n-th Fibonacci number. Answer with the code only.",
    "Japanese": "日本の首都はどこですか。一文で答えてください。",
    "Text to continue": "The most important invention of the nineteenth century was",
}
MODES = [("Fair: one at a time", "fair"), ("Fast: all at once", "fast")]
MODE_HELP = "Fair gives each model the whole machine, so its figures can be compared. Fast is sooner done; they cannot."


@dataclass(frozen=True)
class Form:
    """The components. ``inputs`` is what Run sends: the choices of each model, then the fields of ``read_request``.

    The last of ``choices`` is ``added``: further models of the catalogue, or of the Hub where the app is one's own.
    """

    entries: tuple[CatalogEntry, ...]
    first: tuple[Variant, ...]
    choices: tuple[gr.CheckboxGroup | gr.Dropdown, ...]
    added: gr.Dropdown
    states: tuple[gr.HTML, ...]
    prompt: gr.Textbox
    system: gr.Textbox
    fields: tuple[Any, ...]
    mode: gr.Radio
    run: gr.Button
    stop: gr.Button
    notice: gr.HTML
    memory: gr.HTML

    @property
    def inputs(self) -> list[Any]:
        return [*self.choices, self.mode, self.prompt, self.system, *self.fields]


def build(playground: Playground) -> Form:
    """Draw the form. The served models' default variants are chosen, as many as one run may have."""
    limits = playground.settings.limits
    entries = playground.served()
    first = playground.default_variants()[: limits.max_models]
    with gr.Row(elem_id="compose", equal_height=False):
        with gr.Column(scale=3, min_width=300):
            prompt = gr.Textbox(
                FIRST_PROMPT,
                label="Prompt",
                lines=4,
                max_lines=14,
                elem_id="prompt",
                placeholder="What should the models answer?",
            )
            with gr.Row(elem_id="examples"):
                html("Try:", elem_classes="try")
                for name, text in EXAMPLES.items():
                    example = gr.Button(name, size="sm", min_width=0)
                    example.click(None, None, prompt, js=f"() => {json.dumps(text)}", api_visibility="private")
            system = gr.Textbox(
                "",
                label="System prompt (optional)",
                lines=1,
                max_lines=6,
                elem_id="system",
                **system_options(panel.labels(playground, first)),
            )
            with gr.Row(elem_id="actions"):
                run = gr.Button("Run", variant="primary", elem_id="run", min_width=120, scale=2)
                stop = gr.Button("Stop", variant="stop", elem_id="stop", min_width=80, interactive=False)
            notice = html('<p class="hint">Ctrl or ⌘ + Enter runs.</p>', elem_id="notice")
        with gr.Column(scale=2, min_width=300):
            with gr.Column(elem_id="models"):
                html(
                    f"<h2>Models</h2><p>Choose up to {limits.max_models}, also one model in several precisions.</p>",
                    elem_classes="group-head",
                )
                picked: list[tuple[gr.CheckboxGroup | gr.Dropdown, gr.HTML]] = [
                    _model(playground, entry, first) for entry in entries
                ]
                added, added_state = _added(playground, entries)
                memory = html("", elem_id="memory-plan")
            with gr.Accordion("Parameters", open=False, elem_id="parameters"):
                mode, fields = _parameters(limits.max_new_tokens, reusing=not playground.settings.on_space)
    picked.append((added, added_state))
    choices, states = tuple(c for c, _ in picked), tuple(s for _, s in picked)
    return Form(entries, first, choices, added, states, prompt, system, fields, mode, run, stop, notice, memory)


def system_options(labels: tuple[panel.Label, ...]) -> dict[str, Any]:
    """The system prompt's box for these models: off where none of them would read it, with a note who does not."""
    ignored = bool(labels) and all(label.kind != "chat" for label in labels)
    return {"interactive": not ignored, "info": panel.system_note(labels) or None}


def _model(playground: Playground, entry: CatalogEntry, first: tuple[Variant, ...]) -> tuple[gr.CheckboxGroup, gr.HTML]:
    pickable = [(precision_words(v.runtime, v.precision), str(v)) for v in entry.variants]
    defaults = [str(variant) for variant in first if variant.model == entry.spec.id]
    kind = esc(WORDS[entry.spec.kind])
    with gr.Column(elem_classes="model", min_width=0):
        terms = f'<p class="terms">{panel.terms_html(entry.terms)}</p>' if entry.terms else ""
        html(f"<h3>{esc(entry.spec.name)}</h3><small>{kind}</small>{terms}", elem_classes="model-head")
        choice = gr.CheckboxGroup(pickable, value=defaults, label=entry.spec.name, show_label=False, container=False)
        state = html(states_html(playground, defaults), elem_classes="model-state")
    return choice, state


def _added(playground: Playground, entries: tuple[CatalogEntry, ...]) -> tuple[gr.Dropdown, gr.HTML]:
    """The picker of further models: those of the catalogue that fit into memory. On a Space these and no others."""
    served_ids = {entry.spec.id for entry in entries}
    fitting = [
        (item.entry.spec.name, item.entry.spec.id)
        for item in playground.search(Filters(runs_here=True))
        if item.entry.spec.id not in served_ids
    ]
    own = not playground.settings.on_space
    with gr.Column(elem_classes="further", min_width=0, visible=bool(fitting) or own):
        picker = gr.Dropdown(
            fitting,
            value=[],
            multiselect=True,
            allow_custom_value=own,
            label="More models",
            info="The Catalogue tab tells what they are." + (" hub:OWNER/NAME works too." if own else ""),
            elem_id="more-models",
        )
        return picker, html("", elem_classes="model-state")


def states_html(playground: Playground, chosen: list[str]) -> str:
    """The states of the chosen variants of one model."""
    lines = [
        panel.state_html(variant, playground.preparation(variant)) for variant in offered.known(playground, chosen)
    ]
    return f"<ul>{''.join(lines)}</ul>" if lines else '<p class="off">not chosen</p>'


def added_html(playground: Playground, chosen: list[str]) -> str:
    """The states of further models, each with its name; what can't be named is said."""
    lines = []
    for text in chosen:
        try:
            spec, variant = playground.resolve(str(offered.variant(playground, text)))
        except PlaygroundError as error:
            said = f'<span class="problem">{esc(error.message)}</span>'
            lines.append(f'<li class="is-failed"><i aria-hidden="true"></i>{said}</li>')
            continue
        lines.append(f"<li>{esc(spec.name)}</li>{panel.state_html(variant, playground.preparation(variant))}")
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _parameters(most_tokens: int, reusing: bool) -> tuple[gr.Radio, tuple[Any, ...]]:
    mode = gr.Radio(MODES, value="fair", label="How they run", info=MODE_HELP)
    defaults = Request()
    with gr.Row():
        tokens = gr.Slider(1, most_tokens, min(defaults.max_new_tokens, most_tokens), step=1, label="Max new tokens")
        temperature = gr.Slider(
            0, 2, defaults.temperature, step=0.05, label="Temperature", info="0: always the likeliest token"
        )
    with gr.Row():
        top_p = gr.Slider(0.05, 1, defaults.top_p, step=0.05, label="Top-p", info="1: off")
        min_p = gr.Slider(0, 1, defaults.min_p, step=0.01, label="Min-p", info="0: off")
    with gr.Row():
        top_k = gr.Number(defaults.top_k, precision=0, minimum=0, label="Top-k", info="0: off", min_width=120)
        penalty = gr.Number(1.0, minimum=0.1, step=0.05, label="Repetition penalty", info="1: off", min_width=120)
        seed = gr.Number(defaults.seed, precision=0, minimum=0, label="Seed", info="empty: a new one", min_width=120)
    reuse = gr.Checkbox(
        False,
        label="Reuse what was read",
        info="a warm model skips what two prompts begin with alike; a new prompt takes longer than these figures say",
        visible=reusing,
    )
    stop = gr.Textbox("", label="Stop strings", info="one a line; the answer ends before the first one", lines=2)
    return mode, (tokens, temperature, top_k, top_p, min_p, penalty, seed, stop, reuse)


def read_request(values: tuple[Any, ...], models: int) -> tuple[list[str], Mode, Request]:
    """What ``Form.inputs`` sent: the chosen variants, the mode and the request.

    Emptied number boxes arrive as None; they take the field's default (the seed: a new one each time).

    Args:
        models: How many of the values are choices of models.

    Raises:
        UsageError: A number is none.
    """
    chosen = offered.names(values[:models])
    mode, prompt, system, tokens, temperature, top_k, top_p, min_p, penalty, seed, stop, reuse = values[models:]
    request = Request(
        prompt=prompt or "",
        system=system or "",
        max_new_tokens=whole("Max new tokens", tokens),
        temperature=number("Temperature", temperature),
        top_k=whole("Top-k", top_k or 0),
        top_p=number("Top-p", top_p),
        min_p=number("Min-p", min_p),
        repetition_penalty=1.0 if penalty is None else number("Repetition penalty", penalty),
        seed=None if seed is None else whole("Seed", seed),
        stop=tuple(line for line in (stop or "").splitlines() if line),
        reuse=bool(reuse),
    )
    return chosen, mode, request


def number(name: str, value: Any) -> float:
    """The number in a field: gradio lets through what a client sends in its place.

    Raises:
        UsageError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(msg("{name} is {value}", name=name, value=repr(str(value)[:40])), msg("It must be a number."))
    return float(value)


def whole(name: str, value: Any) -> int:
    """The whole number in a field, cut where it is not one.

    Raises:
        UsageError: It is no number.
    """
    return value if type(value) is int else int(number(name, value))
