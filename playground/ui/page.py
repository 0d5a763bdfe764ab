"""The page: its tabs, and which event changes what.

``build_ui`` draws it for one ``Playground``. Nothing happens at import.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import LRUCache

from playground.errors import PlaygroundError
from playground.messages import msg
from playground.records import Mode, Request, Variant
from playground.ui import api, offered
from playground.ui.actions import Actions, Seams
from playground.ui.blocks import Blocks
from playground.ui.columns import variant_of
from playground.ui.front import Front
from playground.ui.html import asked, costs, panel
from playground.ui.html.format import esc
from playground.ui.html.language import language_html
from playground.ui.html.login import login_html
from playground.ui.pages import Pages
from playground.ui.restore import EMPTY_UNLESS_SHOWN, KEEP_DRAFT, OPENED, READ_DRAFT, Restore
from playground.ui.running import QUEUE, Parts, Running
from playground.ui.sessions import Sessions
from playground.ui.tabs import (
    benchmark,
    cards,
    catalog,
    choose,
    compare,
    differences,
    form,
    history,
    learn,
    outputs,
    own,
    prompt_set,
    replay,
    suggestions,
    votes,
    what_they_read,
)
from playground.ui.theme import html
from playground.ui.visitors import account_of, visitor
from playground.ui.watching import WATCHED

if TYPE_CHECKING:
    from playground.service import Playground

TITLE = "Open-Model Playground"
IN_BROWSER: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""How events are registered that ask nothing of the app."""
IF_HISTORY = "(ended) => window.playground.atFront('history') ? ended : ''"
IF_DIFFERENCES = "(shown, ended) => window.playground.atFront('differences') ? `${shown} ${ended}` : ''"
WATCH = "(text) => { window.playground.watch(text); }"
LOOK_S, REST_S = 2.0, 20.0
"""Between two looks of a page at how preparations come on; and while there are none. A look costs a browser 50 ms:
two pages at rest took 12 % of a core from the models when they looked every two seconds."""
RAW: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "preprocess": False}
"""How the page's events are registered. Not preprocessed: gradio would check a choice against the list that the page
was built with. Their progress is hidden; gradio's page would still tell each component that an event can change, and
all of earlier events, with every message of an event: half of the processor time of a click."""
QUEUE_LOOK_S = 0.03
"""Between two looks at gradio's queue of events: the most it adds to a click."""
PROGRESS_LOOK_S = 1.0


def head_html() -> str:
    """The page's name and the place where scripts/page.js says what happens: out of sight, there from the start."""
    return (
        f"<h1>{esc(TITLE)}</h1>"
        '<p id="said" role="status" aria-live="polite"></p><p id="said-alert" role="alert" aria-live="assertive"></p>'
    )


def build_ui(playground: Playground) -> gr.Blocks:
    """Draw the page. The theme, the CSS and the script belong to ``app.launch``."""
    sessions = Sessions()
    with Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as demo:
        demo.visitors = playground.settings.strangers
        page = Page(playground)
        page.connect(demo)
        demo.when_left(sessions.leave)
        api.build(playground, sessions)
        for function in demo.fns.values():
            if function.show_progress == "hidden":
                function.show_progress_on = []  # see RAW
    limit = playground.settings.limits.max_sessions
    demo.queue(max_size=limit * 8, default_concurrency_limit=limit, api_open=False)
    # gradio has no public name for it. A default of 1 ms kept an idle app at 6 % of a core, taken from the models.
    demo._queue.sleep_when_free = QUEUE_LOOK_S
    # It looks as often for steps of gr.Progress, which nothing here has: a hundred times a second.
    demo._queue.progress_update_sleep_when_free = PROGRESS_LOOK_S
    # Nor for this: gradio forgets a session's messages after so many others, and would keep its events for good.
    demo._queue.pending_event_ids_session = LRUCache(demo._queue.pending_messages_per_session.max_size)
    demo.open_pages = page.running.pages = Pages(playground, demo._queue, demo.left)
    return demo


class Page:
    """The components of the page and their events. No visitor's data is kept here: that is the browser's."""

    def __init__(self, playground: Playground) -> None:
        self.playground = playground
        remembered, measured = history.remembered(), benchmark.remembered()
        html(head_html, elem_id="title")
        self.seen, self.shown, self.ended = unseen("seen"), unseen("shown"), unseen("ended")
        self.watching, self.listed, self.compared = unseen("watching"), unseen("listed"), unseen("compared")
        self.over = unseen("over")
        self.action, self.draft = unseen("action"), unseen("draft")
        self.front = Front()
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap"):
            with gr.Tab(msg("Compare"), id="compare"):
                self.compare = compare.build(playground)
            with gr.Tab(msg("Prompt set"), id="prompts") as prompts_tab:
                self.prompts = prompt_set.build(playground, prompts_tab)
            with gr.Tab(msg("Measure"), id="measure"):
                self.measure = benchmark.build(playground, measured)
            with gr.Tab(msg("Models"), id="models"), gr.Tabs(elem_id="models-tabs"):
                with gr.Tab(msg("Find"), id="catalogue"):
                    self.catalogue = catalog.build(playground)
                with gr.Tab(msg("Decide"), id="choose") as choose_tab:
                    self.chooser = choose.build(playground, choose_tab)
            with gr.Tab(msg("History"), id="history", alignment="right") as self.history_tab:
                self.history = history.build(
                    remembered, self._replay, longest=playground.settings.limits.max_search_chars
                )
            with gr.Tab(msg("Learn"), id="learn", alignment="right"):
                learn.build(playground)
        self.login = html(login_html, elem_id="login") if playground.settings.signing_in == "hugging-face" else None
        html(language_html, elem_id="language")
        self.timer = gr.Timer(LOOK_S)
        self.form = self.compare.form
        self.running = Running(playground, Parts(self.front, self.compare, self.shown, self.watching, self.ended))

    def _replay(self) -> None:
        self.replay = replay.build()

    def connect(self, demo: Blocks) -> None:
        """Say which event does what. Only the API's own endpoints are callable from outside."""
        self.front.connect()
        self._connect_form(demo)
        self._connect_running(demo)
        playground, shown = self.playground, self.compare
        benchmark.connect(playground, self.measure, self.form, demo)
        # Lists of what is at the back are read when it comes to the front.
        for listed, inputs, js in (
            (self.listed, [self.ended], IF_HISTORY),
            (self.compared, [self.shown, self.ended], IF_DIFFERENCES),
        ):
            gr.on([part.change for part in inputs], None, inputs, [listed], js=js, **IN_BROWSER)
        differences.connect(playground, shown.differences, self.shown, [self.compared.change], demo)
        look = [demo.load, self.timer.tick]
        suggestions.connect(
            playground, shown.suggested, self.form.models, look, lambda now: form.choices(playground, now)
        )
        prompt_set.connect(playground, self.prompts, self.form)
        history.connect(playground, self.history, demo, [self.listed.change, self.history_tab.select])
        replay.connect(playground, self.replay, self.history, demo)
        catalog.connect(playground, self.catalogue, self.form.models)
        choose.connect(playground, self.chooser, self.form.choices)
        votes.connect(playground, shown.voting, self.running.whole, self.running.outputs, visitor)
        own.connect(playground, shown.own, self.form)
        if self.login is not None:
            demo.load(signed_in, None, [self.login], queue=False, **RAW)

    def _connect_running(self, demo: gr.Blocks) -> None:
        """Run, Stop, replies, the buttons of the columns, and what comes back after a reload."""
        form_, running, shown = self.form, self.running, self.compare
        limit = self.playground.settings.limits.max_sessions
        works: dict[str, Any] = {**RAW, "concurrency_limit": limit, "concurrency_id": QUEUE}
        # Columns' buttons and pages that open have places of their own: a crowd at Run holds up neither.
        acts: dict[str, Any] = {**RAW, "concurrency_limit": limit * WATCHED, "concurrency_id": "act"}
        opens: dict[str, Any] = {**RAW, "concurrency_limit": limit * WATCHED, "concurrency_id": "open"}
        chosen = [form_.models, form_.changes]
        begins = [*chosen, shown.voting.switch, *form_.asked]
        form_.run.click(running.run, begins, running.outputs, trigger_mode="once", **works)
        replies = [self.shown, shown.reply.text, shown.reply.to]
        shown.reply.send.click(running.send, replies, running.outputs, trigger_mode="once", **works)
        form_.stop.click(running.stop, [self.shown], [form_.stop], queue=False, **RAW)
        events = what_they_read.connect(self.playground, shown.read, form_, self.shown, demo)
        actions = Actions(self.playground, running, self.catalogue, Seams(shown.read, events))
        pressed = [self.action, self.shown, *chosen, *form_.asked]
        self.action.change(actions.act, pressed, actions.outputs, trigger_mode="multiple", **acts)
        restore = Restore(self.playground, running)
        opening = demo.load(restore.fill, [self.draft], restore.outputs, js=READ_DRAFT, queue=False, **RAW)
        kept = [self.shown, *chosen, *form_.asked]
        gr.on([part.change for part in kept], None, kept, None, js=KEEP_DRAFT, **IN_BROWSER)
        self.watching.change(None, [self.watching], None, js=WATCH, **IN_BROWSER)
        self.over.change(running.over, [self.over, self.shown], running.outputs, trigger_mode="multiple", **acts)
        opening.then(None, None, None, js=OPENED, **IN_BROWSER)
        opening.then(restore.show, [self.draft], restore.outputs, js=READ_DRAFT, **opens)

    def _connect_form(self, demo: gr.Blocks) -> None:
        """What the form says of itself."""
        form_, shown = self.form, self.compare
        at_once: dict[str, Any] = {**RAW, "queue": False}
        about = [form_.system, shown.cards.facts, *shown.cards.rest.values()]
        form_.models.change(self.choose, [form_.models], about, trigger_mode="always_last", **at_once)
        chosen = [self.shown, form_.models]
        form_.models.change(self.empty, chosen, list(shown.panels), js=EMPTY_UNLESS_SHOWN, **at_once)
        looked = [self.seen, self.timer, form_.states, shown.cards.facts]
        events = [demo.load, self.timer.tick, form_.models.change]
        gr.on(events, self.look, [self.seen, form_.models], looked, **at_once)
        changed = [form_.mode.change, form_.system.blur, *(field.change for field in form_.fields)]
        told, says = [form_.changes, *form_.asked], [form_.parameters, form_.own]
        gr.on([*changed, form_.changes.change], self.summary, told, says, trigger_mode="always_last", **at_once)
        sized = [demo.load, form_.mode.change, form_.prompt.blur, form_.fields[0].release, form_.models.change]
        sizes = [form_.mode, form_.prompt, form_.fields[0], form_.models]
        gr.on(sized, self.plan_memory, sizes, form_.memory, trigger_mode="always_last", **at_once)

    def choose(self, chosen: Any) -> dict[Any, Any]:
        """Other models were chosen: show their cards, and whether a system prompt reaches them."""
        variants = self._variants(chosen)
        return {
            self.form.system: gr.update(**form.system_options(panel.labels(self.playground, variants))),
            **cards.chosen_changed(self.playground, self.compare.cards, variants),
        }

    def empty(self, shown: str, chosen: Any) -> dict[Any, Any]:
        """Columns for the models that are chosen, until the first run; from then on answers stay until the next one."""
        if shown:
            return {panel_: gr.skip() for panel_ in self.compare.panels}
        return outputs.waiting(self.compare.panels, panel.labels(self.playground, self._variants(chosen)))

    def summary(self, changed: str, *values: Any) -> list[Any]:
        """What the closed parameters say, and which columns have their own."""
        try:
            mode, request = form.read_asked(values)
        except PlaygroundError:
            return [gr.skip(), gr.skip()]
        return [gr.update(label=asked.summary(request, mode)), own.told_html(self.playground, changed, request)]

    def plan_memory(self, mode: Mode, prompt: str, tokens: Any, chosen: Any) -> str:
        """What the chosen models are expected to take for this prompt, where it is tight."""
        request = Request(prompt or "", max_new_tokens=form.whole(msg("Max new tokens"), tokens or 1))
        plan = self.playground.memory_plan(self._variants(chosen), request)
        return costs.plan_html(plan, mode) if plan.tight else ""

    def look(self, seen: str, chosen: Any) -> list[Any]:
        """Now and then: the states of models that are not ready, if they changed; and when to look again."""
        pace = LOOK_S if self.playground.preparing else REST_S
        states = form.states_html(self.playground, chosen or [])
        mark = f"{pace} {hashlib.sha256(states.encode('utf-8', 'replace')).hexdigest()[:16]}"
        if mark == seen:
            return [gr.skip()] * 4
        timer = gr.skip() if (seen or "").startswith(f"{pace} ") else gr.Timer(pace)
        return [mark, timer, states, cards.facts_html(self.playground, self._variants(chosen))]

    def _variants(self, chosen: Any) -> tuple[Variant, ...]:
        """What is chosen; a name typed wrong is left out here, its state and Run say so."""
        names = [variant_of(text) for text in offered.names([chosen])]
        return tuple(offered.known(self.playground, names))[: len(self.compare.panels)]


def signed_in(request: gr.Request) -> Any:
    """Who is signed in; the page was built for whoever is not."""
    name = account_of(visitor(request))
    return login_html(name) if name else gr.skip()


def unseen(name: str) -> gr.Textbox:
    """Something the page keeps to itself, in the browser: the app may have forgotten a page that comes back."""
    return gr.Textbox("", elem_id=name, elem_classes="unseen", container=False, show_label=False)
