"""The Prompt set tab: many prompts, each asked of each model, one at a time; what passed, and which models differ.

``html.prompt_set`` draws, ``ui.suite_views`` says what changes while a suite goes on; this file has the components and
their events. What goes on is told to the page outside of gradio's events, so an event here changes a piece or two and
no stream of them holds a place in the queue. scripts/prompt_set.js writes what was pressed into boxes out of sight;
what is in them comes from a browser and is not believed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.errors import PlaygroundError, UsageError
from playground.messages import Translatable, msg
from playground.records import Column, Request
from playground.ui import columns, offered
from playground.ui.html import asked
from playground.ui.html import prompt_set as view
from playground.ui.html.costs import money
from playground.ui.html.prompt_set_examples import examples_html
from playground.ui.suite_asked import MAX_REPEATS, Asked, fields_of, text_of
from playground.ui.suite_views import labels
from playground.ui.tabs import form
from playground.ui.tabs.buttons import problem_html
from playground.ui.theme import html
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from playground.records import SuiteRun
    from playground.results.costs import Tier
    from playground.service import Playground
    from playground.suites.suite import Suite

Changes = dict[Any, Any]
QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "queue": False,
    "preprocess": False,
}
LISTED = 30
MAX_CHARS = 2_000
COMPARED = "(id) => { if (id) window.playground.act({ do: 'open-comparison', id: id.split(' ')[0] }); }"
"""The second word makes opening the same row again another text."""


@dataclass(frozen=True)
class PromptSet:
    """The components.

    Attributes:
        tab: What they stand in.
        name: Out of sight: the name of the file that the prompts came from, which says how to read them.
        own: Whether the models that the file names are asked, and not those chosen here.
        look: Out of sight: changes when the prompts are to be read.
        action: Out of sight: what was pressed, as JSON.
        told: What was read, or what is wrong.
        compared: Out of sight: the id of a comparison that is to be opened in Compare.
    """

    tab: gr.Tab
    models: gr.Dropdown
    repeats: gr.Number
    system: gr.Textbox
    fields: tuple[Any, ...]
    parameters: gr.Accordion
    text: gr.Textbox
    name: gr.Textbox
    own: gr.Checkbox
    run: gr.Button
    look: gr.Textbox
    action: gr.Textbox
    told: gr.HTML
    entries: gr.HTML
    shown: gr.HTML
    compared: gr.Textbox

    @property
    def asked(self) -> list[Any]:
        """What a suite is begun with, in the order of ``Asked.of``."""
        return [self.text, self.name, self.models, self.own, self.repeats, self.system, *self.fields]


def build(playground: Playground, tab: gr.Tab) -> PromptSet:
    """Draw what is in ``tab``."""
    limits = playground.settings.limits
    first = playground.default_variants()[: min(limits.max_models, 4)]
    look, action = _unseen("suite-look"), _unseen("suite-action")
    name, compared = _unseen("suite-name"), _unseen("suite-compared")
    with gr.Row(elem_id="suite-models-row"):
        models = gr.Dropdown(
            form.choices(playground, first),
            value=[str(variant) for variant in first],
            multiselect=True,
            max_choices=limits.max_models,
            allow_custom_value=not playground.settings.strangers,
            label=msg("Models, up to {most}", most=limits.max_models),
            show_label=False,
            container=False,
            elem_id="suite-models",
            scale=4,
            min_width=280,
        )
        with gr.Accordion(asked.summary(Request(), "fair"), open=False, elem_id="suite-parameters") as parameters:
            repeats = gr.Number(
                1,
                precision=0,
                minimum=1,
                maximum=MAX_REPEATS,
                label=msg("Answers to each prompt"),
                info=msg("more than one shows how much they vary; the temperature must be above 0 for that"),
                elem_id="suite-repeats",
            )
            system = gr.Textbox("", label=msg("System prompt (optional)"), lines=1, max_lines=6, elem_id="suite-system")
            fields = form.parameter_fields(playground)
    with gr.Row(elem_id="suite-compose", equal_height=True):
        text = gr.Textbox(
            "",
            label=msg("Prompts"),
            show_label=False,
            container=False,
            lines=4,
            max_lines=10,
            elem_id="suite-text",
            placeholder=msg(
                "A prompt a line; or a table, JSONL or YAML, with variables and checks. Try an example below."
            ),
            scale=8,
            min_width=160,
        )
        with gr.Column(elem_id="suite-go", min_width=84, scale=0):
            run = gr.Button(msg("Run"), variant="primary", elem_id="suite-run", min_width=84)
            html(view.pause_html, elem_id="suite-pause")
    with gr.Row(elem_id="suite-told-row"):
        html(examples_html, elem_id="suite-examples")
        told = html("", elem_id="suite-told")
        own = gr.Checkbox(
            False, label=msg("Ask the models that the file names"), elem_id="suite-own", visible="hidden", min_width=220
        )
    entries = html("", elem_id="suite-entries")
    shown = html(view.empty_html, elem_id="suite-shown")
    return PromptSet(
        *(tab, models, repeats, system, fields, parameters, text, name, own, run, look, action, told, entries, shown),
        compared,
    )


def connect(playground: Playground, part: PromptSet, chosen: form.Form) -> None:
    """Say which event does what.

    Args:
        chosen: The form of Compare, whose models are taken over until others are chosen here.
    """
    doing = _Doing(playground, part)

    def read(*values: Any) -> Changes:
        return doing.read(values)

    def run_suite(request: gr.Request, *values: Any) -> Changes:
        return doing.run(visitor(request), values)

    def act(request: gr.Request, action: Any) -> Changes:
        return doing.act(visitor(request), action)

    def listed(request: gr.Request) -> str:
        return doing.listed(visitor(request))

    def summary(*values: Any) -> Any:
        return doing.summary(values)

    looks = [part.look.change, part.models.change, part.own.change, part.repeats.change]
    gr.on(looks, read, part.asked, [part.told, part.own], trigger_mode="always_last", **QUIET)
    part.run.click(run_suite, part.asked, [part.told, part.entries, part.shown], trigger_mode="once", **QUIET)
    filled = [part.text, part.name, part.models, part.repeats, part.system, *part.fields]
    part.action.change(
        act,
        [part.action],
        [part.told, part.entries, part.shown, part.compared, *filled],
        trigger_mode="multiple",
        **QUIET,
    )
    part.compared.change(None, [part.compared], None, js=COMPARED, show_progress="hidden", api_visibility="private")
    part.tab.select(listed, None, [part.entries], trigger_mode="always_last", **QUIET)
    took = TAKE_MODELS, {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    part.tab.select(None, [chosen.models, part.models], [part.models], js=took[0], **took[1])
    changed = [part.repeats.change, part.system.blur, *(field.change for field in part.fields)]
    gr.on(changed, summary, part.asked, [part.parameters], trigger_mode="always_last", **QUIET)


TAKE_MODELS = "(theirs, mine) => [window.playground.suite?.models(theirs, mine) ?? mine]"
"""The models of Compare, until somebody chooses others here."""


class _Doing:
    """What the events do."""

    def __init__(self, playground: Playground, part: PromptSet) -> None:
        self.playground = playground
        self.part = part

    def read(self, values: Sequence[Any]) -> Changes:
        """What the prompts in the box are, or what is wrong with them; nothing is run."""
        part = self.part
        if not text_of(values[0]).strip():
            return {part.told: "", part.own: gr.update(visible="hidden", value=False)}
        try:
            given = Asked.of(values)
            suite = self._suite(given)
            models = [column.model for column in suite.columns] if given.own else given.models
            checks = sum(map(len, suite.checks))
            told = view.found_html(len(suite.rows), checks, models, given.samples(suite), self._notes(suite))
        except PlaygroundError as error:
            return {part.told: problem_html(error.message), part.own: gr.skip()}
        if not suite.columns:
            return {part.told: told, part.own: gr.update(visible="hidden", value=False)}
        names = [column.label or column.model for column in suite.columns]
        label = msg("Ask the models that the file names: {models}", models=names)
        return {part.told: told, part.own: gr.update(visible=True, label=label)}

    def run(self, owner: str, values: Sequence[Any]) -> Changes:
        """Begin a suite and show it."""
        part = self.part
        try:
            given = Asked.of(values)
            suite = self._suite(given)
            tier = self._tier(suite)
            job = self.playground.begin_suite(
                suite,
                self._columns(given, suite),
                repeats=given.samples(suite),
                file=given.text,
                owner=owner,
                price_per_hour=tier.per_hour if tier else None,
            )
        except PlaygroundError as error:
            return {part.told: problem_html(error.message), part.entries: gr.skip(), part.shown: gr.skip()}
        return {
            part.told: "",
            part.entries: self.listed(owner, job.id),
            part.shown: self.frame(owner, job.id),
        }

    def act(self, owner: str, action: Any) -> Changes:
        """Do what was pressed."""
        what, id, row = _read(action)
        done: dict[str, Callable[[], Changes]] = {
            "open": lambda: {self.part.shown: self.frame(owner, id), self.part.entries: self.listed(owner, id)},
            "list": lambda: {self.part.entries: self.listed(owner, id)},
            "pause": lambda: self._pause(owner, id, at_once=False),
            "halt": lambda: self._pause(owner, id, at_once=True),
            "resume": lambda: self._resume(owner, id, retry=False),
            "retry": lambda: self._resume(owner, id, retry=True),
            "delete": lambda: self._delete(owner, id),
            "again": lambda: self._again(id),
            "compare": lambda: self._compare(owner, id, row),
        }
        try:
            if what not in done:
                raise UsageError(msg("The page asks for something that there is not"), msg("Reload it."))
            return done[what]()
        except PlaygroundError as error:
            return {self.part.told: problem_html(error.message)}

    def listed(self, owner: str, opened: str = "") -> str:
        """The visitor's earlier runs."""
        try:
            return view.list_html(self.playground, self.playground.suites(owner, limit=LISTED), opened)
        except PlaygroundError as error:
            return view.gone_html(error.message)

    def frame(self, owner: str, id: str) -> str:
        """A suite with room for its rows.

        Raises:
            UsageError: There is none.
        """
        run = self._known(id)
        earlier = {
            entry.id: f"{entry.created_at[:16].replace('T', ' ')} UTC · {entry.name}"
            for entry in self.playground.suites(owner, limit=LISTED)
            if entry.id != id and entry.judged
        }
        yours = self.playground.owns_suite(id, owner)
        return view.frame_html(run, labels(self.playground, run), earlier, yours=yours)

    def summary(self, values: Sequence[Any]) -> Any:
        """What the closed parameters say."""
        try:
            given = Asked.of(values)
        except PlaygroundError:
            return gr.skip()
        told = asked.summary(given.request, "fair")
        if given.repeats > 1:
            told = msg("{parameters} · {n} answers each", parameters=told, n=given.repeats)
        return gr.update(label=told)

    # -- what is pressed ------------------------------------------------------------------------------------------

    def _pause(self, owner: str, id: str, *, at_once: bool) -> Changes:
        self.playground.pause_suite(id, owner, at_once=at_once)
        return {self.part.told: ""}

    def _resume(self, owner: str, id: str, *, retry: bool) -> Changes:
        self.playground.resume_suite(id, owner, retry=retry)
        return {self.part.told: "", self.part.entries: self.listed(owner, id)}

    def _delete(self, owner: str, id: str) -> Changes:
        self.playground.delete_suite(id, owner)
        return {self.part.shown: view.empty_html(), self.part.entries: self.listed(owner), self.part.told: ""}

    def _again(self, id: str) -> Changes:
        """A run's prompts, models and parameters into the form, and no further."""
        run, part = self._known(id), self.part
        most = self.playground.settings.limits.max_models
        request = run.columns[0].request or Request()
        return {
            part.text: run.file,
            part.name: run.name,
            part.models: form.with_models(self.playground, [str(column.variant) for column in run.columns], most),
            part.repeats: run.repeats,
            part.system: request.system,
            **dict(zip(part.fields, fields_of(request), strict=True)),
        }

    def _compare(self, owner: str, id: str, row: int) -> Changes:
        """A row's answers as a comparison, kept once, to be opened in Compare."""
        run = self._known(id)
        if not 0 <= row < len(run.rows):
            raise UsageError(msg("There is no such prompt"), msg("Reload the page."))
        comparison = self.playground.suite_comparison(id, row, owner)
        return {self.part.compared: f"{comparison.id} {row}"}

    # -- what they need -------------------------------------------------------------------------------------------

    def _suite(self, given: Asked) -> Suite:
        if not given.text.strip():
            raise UsageError(msg("There is no prompt"), msg("Write one a line, open a file, or try an example."))
        return self.playground.read_suite(given.text, given.name)

    def _columns(self, given: Asked, suite: Suite) -> list[Column]:
        """The models that are asked, each with its request.

        Raises:
            UsageError: None is chosen, or one can't be named here.
        """
        if given.own and suite.columns:
            for column in suite.columns:
                offered.variant(self.playground, column.model)
            return self.playground.suite_columns(suite, given.request)
        names = list(dict.fromkeys(columns.variant_of(each) for each in given.models))
        if not names:
            raise UsageError(msg("No model is chosen"), msg("Choose at least one above."))
        return [
            Column(variant, columns.proposed(self.playground, variant, given.request))
            for variant in offered.variants(self.playground, names)
        ]

    def _tier(self, suite: Suite) -> Tier | None:
        """The hardware whose price answers are reckoned by, where a check asks what they cost."""
        priced = (tier for tier in self.playground.tiers if tier.per_hour > 0 and tier.currency == "USD")
        return next(priced, None) if suite.needs_cost else None

    def _notes(self, suite: Suite) -> list[Translatable]:
        """What of a file has no effect, and what its checks reckon with."""
        tier = self._tier(suite)
        if tier is None:
            return list(suite.notes)
        price = money(tier.per_hour, tier)
        return [*suite.notes, msg("Checks of cost reckon with {tier}, {price} an hour.", tier=tier.name, price=price)]

    def _known(self, id: str) -> SuiteRun:
        run = self.playground.suite_run(id)
        if run is None:
            raise UsageError(
                msg("There is no such prompt set here"), msg("It was deleted, or its time is over: run it again.")
            )
        return run


def _read(action: Any) -> tuple[str, str, int]:
    """What was pressed, on which suite and row; empty where it is nothing of ours."""
    try:
        sent = json.loads(action) if isinstance(action, str) and len(action) <= MAX_CHARS else None
    except (ValueError, RecursionError):
        sent = None
    given = sent if isinstance(sent, dict) else {}
    row = given.get("row")
    return text_of(given.get("do")), text_of(given.get("id"))[:64], row if type(row) is int else -1


def _unseen(name: str) -> gr.Textbox:
    return gr.Textbox("", elem_id=name, elem_classes="unseen", container=False, show_label=False)
