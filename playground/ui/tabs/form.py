"""The upper part of Compare: the models, the prompt, Run and Stop, the parameters.

It builds the components and reads them back as a ``Request``; it does not run anything.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.catalog.search import Filters
from playground.errors import PlaygroundError, UsageError
from playground.experiments.defaults import BASE_PENALTY, EXAMPLES
from playground.messages import Translatable, msg
from playground.records import Mode, Request, Variant
from playground.ui import offered
from playground.ui.columns import time_of, variant_of
from playground.ui.html import asked, panel
from playground.ui.html.format import esc, precision_words
from playground.ui.i18n import say
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground

MODES: list[tuple[Translatable, Mode]] = [(msg("Fair: one at a time"), "fair"), (msg("Fast: all at once"), "fast")]
MODE_HELP = msg(
    "Fair gives each model the whole machine: its figures can be compared. Fast is done sooner; its figures can't."
)


MOST_STORED = 50
"""Of what other programs keep: a list to choose from, not an inventory."""
MOST_STATES = 64
"""Chosen models whose state is told; more can't be run at once."""


@dataclass(frozen=True)
class Form:
    """The components. ``inputs`` is what a measurement is asked with: the models, then the fields of ``read_request``.

    Attributes:
        changes: Out of sight: the columns' own parameters, as ``columns.read_changes`` reads them.
    """

    first: tuple[Variant, ...]
    models: gr.Dropdown
    changes: gr.Textbox
    prompt: gr.Textbox
    system: gr.Textbox
    fields: tuple[Any, ...]
    mode: gr.Radio
    parameters: gr.Accordion
    run: gr.Button
    stop: gr.Button
    notice: gr.HTML
    memory: gr.HTML
    states: gr.HTML
    own: gr.HTML
    examples: gr.HTML

    @property
    def choices(self) -> tuple[Any, ...]:
        """What says which models are chosen."""
        return (self.models,)

    @property
    def asked(self) -> list[Any]:
        """What makes the request, in the order of ``read_asked``."""
        return [self.mode, self.prompt, self.system, *self.fields]

    @property
    def inputs(self) -> list[Any]:
        return [*self.choices, *self.asked]


def build(playground: Playground) -> Form:
    """Draw the form. The served models' default variants are chosen, as many as one run may have."""
    limits = playground.settings.limits
    first = playground.default_variants()[: min(limits.max_models, 4)]
    own = not playground.settings.strangers
    with gr.Row(elem_id="models-row"):
        models = gr.Dropdown(
            choices(playground, first),
            value=[str(variant) for variant in first],
            multiselect=True,
            max_choices=limits.max_models,
            allow_custom_value=own,
            label=msg("Models, up to {most}", most=limits.max_models),
            show_label=False,
            container=False,
            elem_id="models",
            scale=4,
            min_width=280,
        )
        changes = gr.Textbox("", elem_id="changes", elem_classes="unseen", container=False, show_label=False)
        with gr.Accordion(asked.summary(Request(), "fair"), open=False, elem_id="parameters") as parameters:
            mode, system, fields = _parameters(playground, first)
    with gr.Row(elem_id="compose", equal_height=True):
        prompt = gr.Textbox(
            EXAMPLES[0].text,
            label=msg("Prompt"),
            show_label=False,
            container=False,
            lines=2,
            max_lines=10,
            elem_id="prompt",
            placeholder=msg("What should the models answer?"),
            scale=8,
            min_width=160,
        )
        with gr.Column(elem_id="go", min_width=84, scale=0):
            run = gr.Button(msg("Run"), variant="primary", elem_id="run", min_width=84)
            stop = gr.Button(msg("Stop"), variant="stop", elem_id="stop", min_width=84, visible="hidden")
    with gr.Row(elem_id="told"):
        examples = html(examples_html, elem_id="examples")
        notice = html(notice_html, elem_id="notice")
    own = html("", elem_id="own-told")
    states = html("", elem_id="states", elem_classes="model-state")
    memory = html("", elem_id="memory-plan")
    return Form(
        first,
        models,
        changes,
        prompt,
        system,
        fields,
        mode,
        parameters,
        run,
        stop,
        notice,
        memory,
        states,
        own,
        examples,
    )


def notice_html(text: str = "", kind: str = "hint") -> str:
    """What is going on, or what went wrong. scripts/page.js says it to screen readers, in one place that stays."""
    return f'<p class="{kind}" data-say="{"alert" if kind == "problem" else "status"}">{esc(text)}</p>' if text else ""


def examples_html() -> str:
    """Prompts to begin with; scripts/page.js puts one into the box, but never over words of the reader's own."""
    buttons = "".join(
        f'<button type="button" data-try="{esc(example.text)}">{esc(example.name)}</button>' for example in EXAMPLES
    )
    kept = esc(msg("Your prompt is kept: empty the box to try an example."))
    return f'<div class="examples"><span>{esc(msg("Try:"))}</span>{buttons}<small hidden>{kept}</small></div>'


def states_html(playground: Playground, chosen: Sequence[Any]) -> str:
    """What has to happen before chosen models can answer, and what can't be named; nothing where all are ready."""
    lines = []
    for text in islice(dict.fromkeys(map(variant_of, chosen)), MOST_STATES):
        try:
            spec, variant = playground.resolve(str(offered.variant(playground, text)))
        except PlaygroundError as error:
            said = f'<span class="problem">{esc(error.message)}</span>'
            lines.append(f'<li class="is-failed"><i aria-hidden="true"></i>{said}</li>')
            continue
        prepared = playground.preparation(variant)
        if prepared.status != "ready":
            lines.append(panel.state_html(variant, prepared, spec.name))
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def choices(playground: Playground, more: Sequence[Any] = ()) -> list[tuple[str, str]]:
    """What can be chosen: the served models in all their variants, those of the catalogue that fit this machine, what
    Ollama and LM Studio have here, without those that visitors may not run; and ``more``, what is chosen already.
    """
    served = playground.served()
    ids = {entry.spec.id for entry in served}
    named = {str(variant): _name(entry.spec.name, variant) for entry in served for variant in entry.variants}
    for item in playground.search(Filters(runs_here=True)):
        if item.entry.spec.id not in ids and item.entry.variants:
            variant = item.entry.variants[0]
            named[str(variant)] = _name(item.entry.spec.name, variant)
    for stored in playground.stored_models()[:MOST_STORED]:
        variant = Variant(stored.source, "onnx", "int8")
        named[str(variant)] = _name(stored.source, variant)
    if playground.settings.adding == "nobody":
        named = {text: name for text, name in named.items() if playground.may_run(Variant.parse(text), "")}
    for text in map(str, more):
        if text in named:
            continue
        time = time_of(text)
        found = offered.known(playground, [variant_of(text)])
        if found:
            label = panel.labels(playground, found)[0]
            name = _name(label.name, label.variant)
            named[text] = f"{name} ({time})" if time > 1 else name
    return [(name, value) for value, name in named.items()]


def _name(name: str, variant: Variant) -> str:
    words = precision_words(variant.runtime, variant.precision) if variant.runtime else ""
    return f"{name} · {say(words)}" if words and variant.runtime != "remote" else name


def system_options(labels: tuple[panel.Label, ...]) -> dict[str, Any]:
    """The system prompt's box for these models: off where none of them would read it, with a note who does not."""
    ignored = bool(labels) and all(label.kind != "chat" for label in labels)
    return {"interactive": not ignored, "info": panel.system_note(labels) or None}


def _parameters(playground: Playground, first: tuple[Variant, ...]) -> tuple[gr.Radio, gr.Textbox, tuple[Any, ...]]:
    mode = gr.Radio(MODES, value="fair", label=msg("How they run"), info=MODE_HELP)
    system = gr.Textbox(
        "",
        label=msg("System prompt (optional)"),
        lines=1,
        max_lines=6,
        elem_id="system",
        **system_options(panel.labels(playground, first)),
    )
    return mode, system, parameter_fields(playground)


def parameter_fields(playground: Playground) -> tuple[Any, ...]:
    """The fields of ``Form.fields``, drawn where it is called."""
    most_tokens = playground.settings.limits.max_new_tokens
    defaults = Request()
    with gr.Row():
        tokens = gr.Slider(
            1, most_tokens, min(defaults.max_new_tokens, most_tokens), step=1, label=msg("Max new tokens")
        )
        temperature = gr.Slider(
            0, 2, defaults.temperature, step=0.05, label=msg("Temperature"), info=msg("0: always the likeliest token")
        )
    with gr.Row():
        top_p = gr.Slider(0.05, 1, defaults.top_p, step=0.05, label=msg("Top-p"), info=msg("1: off"))
        min_p = gr.Slider(0, 1, defaults.min_p, step=0.01, label=msg("Min-p"), info=msg("0: off"))
    with gr.Row():
        narrow: dict[str, Any] = {"min_width": 120}
        top_k = gr.Number(defaults.top_k, precision=0, minimum=0, label=msg("Top-k"), info=msg("0: off"), **narrow)
        off = msg("1: off, but for base models, which get {penalty} by themselves", penalty=BASE_PENALTY)
        penalty = gr.Number(1.0, minimum=0.1, step=0.05, label=msg("Repetition penalty"), info=off, **narrow)
        seed = gr.Number(
            defaults.seed, precision=0, minimum=0, label=msg("Seed"), info=msg("empty: a new one"), **narrow
        )
    reuse = gr.Checkbox(
        False,
        label=msg("Reuse what was read"),
        info=msg(
            "a warm model skips what two prompts begin with alike; a new prompt takes longer than these figures say"
        ),
        visible=not playground.settings.strangers,
    )
    stop = gr.Textbox(
        "", label=msg("Stop strings"), info=msg("one a line; the answer ends before the first one"), lines=2
    )
    return tokens, temperature, top_k, top_p, min_p, penalty, seed, stop, reuse


def read_request(values: Sequence[Any], models: int) -> tuple[list[str], Mode, Request]:
    """What ``Form.inputs`` sent: the chosen variants, the mode and the request.

    Args:
        models: How many of the values are choices of models.

    Raises:
        UsageError: A number is none.
    """
    mode, request = read_asked(values[models:])
    return [variant_of(text) for text in offered.names(values[:models])], mode, request


def read_asked(values: Sequence[Any]) -> tuple[Mode, Request]:
    """What ``Form.asked`` sent. Emptied number boxes arrive as None; they take the field's default (the seed: a new one
    each time).

    Raises:
        UsageError: A number is none.
    """
    mode, prompt, system, tokens, temperature, top_k, top_p, min_p, penalty, seed, stop, reuse = values
    request = Request(
        prompt=prompt or "",
        system=system or "",
        max_new_tokens=whole(msg("Max new tokens"), tokens),
        temperature=number(msg("Temperature"), temperature),
        top_k=whole(msg("Top-k"), top_k or 0),
        top_p=number(msg("Top-p"), top_p),
        min_p=number(msg("Min-p"), min_p),
        repetition_penalty=1.0 if penalty is None else number(msg("Repetition penalty"), penalty),
        seed=None if seed is None else whole(msg("Seed"), seed),
        stop=tuple(line for line in str(stop or "").splitlines() if line),
        reuse=bool(reuse),
    )
    return mode, request


def number(name: str, value: Any) -> float:
    """The number in a field: gradio lets through what a client sends in its place.

    Raises:
        UsageError: It is none.
    """
    # Not isfinite, which raises for a whole number that is beyond every float.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise UsageError(msg("{name} is {value}", name=name, value=repr(str(value)[:40])), msg("It must be a number."))
    return float(value)


def whole(name: str, value: Any) -> int:
    """The whole number in a field, cut where it is not one.

    Raises:
        UsageError: It is no number.
    """
    return value if type(value) is int else int(number(name, value))


def with_models(playground: Playground, chosen: Sequence[Any], most: int) -> Any:
    """The picker with these models chosen, each by the name that the list has for it; what names nothing stays as it
    was typed, for Run to say so.
    """
    kept: dict[str, None] = {}
    for text in dict.fromkeys(chosen):
        if len(kept) >= most:  # a list without end would have each of its names looked up
            break
        found, time = offered.known(playground, [variant_of(text)]), time_of(text)
        name = str(found[0]) if found else str(text)
        kept[f"{name} ({time})" if time > 1 and found else name] = None
    return gr.update(choices=choices(playground, list(kept)), value=list(kept))
