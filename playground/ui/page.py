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
from playground.ui.blocks import Blocks
from playground.ui.html import asked, costs, panel
from playground.ui.html.format import esc
from playground.ui.running import Parts, Running
from playground.ui.sessions import Sessions
from playground.ui.tabs import benchmark, cards, catalog, choose, compare, diff, form, history, learn, outputs, replay
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground

TITLE = "Open-Model Playground"
LOOK_S, REST_S = 2.0, 20.0
"""Between two looks of a page at how preparations come on; and while there are none. A look costs a browser 50 ms:
two pages at rest took 12 % of a core from the models when they looked every two seconds."""
QUEUE_LOOK_S = 0.03
"""Between two looks at gradio's queue of events: the most it adds to a click."""


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
        Page(playground, sessions).connect(demo)
        api.build(playground, sessions)
    limit = playground.settings.limits.max_sessions
    demo.queue(max_size=limit * 8, default_concurrency_limit=limit, api_open=False)
    # gradio has no public name for it. A default of 1 ms kept an idle app at 6 % of a core, taken from the models.
    demo._queue.sleep_when_free = QUEUE_LOOK_S
    # Nor for this: gradio forgets a session's messages after so many others, and would keep its events for good.
    demo._queue.pending_event_ids_session = LRUCache(demo._queue.pending_messages_per_session.max_size)
    return demo


class Page:
    """The components of the page and their events. No visitor's data is kept here: that is the session's."""

    def __init__(self, playground: Playground, sessions: Sessions) -> None:
        self.playground = playground
        remembered, measured = history.remembered(), benchmark.remembered()
        html(head_html, elem_id="title")
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab(msg("Compare"), id="compare"):
                self.compare = compare.build(playground)
            with gr.Tab(msg("Measure"), id="measure"):
                self.measure = benchmark.build(playground, measured)
            with gr.Tab(msg("Models"), id="models"), gr.Tabs(elem_id="models-tabs", overflow_behavior="wrap"):
                with gr.Tab(msg("Catalogue"), id="catalogue"):
                    self.catalogue = catalog.build(playground)
                with gr.Tab(msg("Choose"), id="choose") as choose_tab:
                    self.chooser = choose.build(playground, choose_tab)
            with gr.Tab(msg("History"), id="history", alignment="right") as history_tab:
                self.history = history.build(remembered)
                self.replay = replay.build()
            with gr.Tab(msg("Learn"), id="learn", alignment="right"):
                learn.build(playground)
        self.tabs, self.history_tab = tabs, history_tab
        self.seen = unseen("seen")
        self.ran = unseen("ran")
        self.timer = gr.Timer(LOOK_S)
        self.form = self.compare.form
        self.running = Running(playground, sessions, Parts(tabs, self.compare, self.history, self.ran))

    def connect(self, demo: gr.Blocks) -> None:
        """Say which event does what. Only the API's own endpoints are callable from outside."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        # Not preprocessed: gradio would check a choice against the list the page was built with.
        raw = {**quiet, "preprocess": False}
        at_once = {**raw, "queue": False}
        form_, running = self.form, self.running
        form_.run.click(
            running.run,
            [self.history.ids, *form_.inputs],
            running.outputs,
            trigger_mode="once",
            concurrency_limit=self.playground.settings.limits.max_sessions,
            concurrency_id="compare",
            **raw,
        )
        form_.stop.click(running.stop, None, [form_.stop], queue=False, **quiet)
        form_.models.change(
            self.choose,
            [form_.models],
            [form_.system, self.compare.cards.facts, *self.compare.cards.rest.values()],
            trigger_mode="always_last",
            **at_once,
        )
        form_.models.change(self.empty, [self.ran, form_.models], list(self.compare.panels), **at_once)
        gr.on(
            [demo.load, self.timer.tick, form_.models.change],
            self.look,
            [self.seen, form_.models],
            [self.seen, self.timer, form_.states, self.compare.cards.facts],
            **at_once,
        )
        changed = [form_.mode.change, form_.system.blur, *(field.change for field in form_.fields)]
        gr.on(changed, self.summary, form_.asked, form_.parameters, trigger_mode="always_last", **at_once)
        sized = [demo.load, form_.mode.change, form_.prompt.blur, form_.fields[0].release, form_.models.change]
        sizes = [form_.mode, form_.prompt, form_.fields[0], form_.models]
        gr.on(sized, self.plan_memory, sizes, form_.memory, trigger_mode="always_last", **at_once)
        history.connect(self.playground, self.history, demo, [self.history_tab.select])
        benchmark.connect(self.playground, self.measure, form_, demo)
        diff.connect(self.playground, self.compare.diff, form_, demo)
        replay.connect(self.playground, self.replay, self.history, demo)
        catalog.connect(self.playground, self.catalogue, form_.models)
        choose.connect(self.playground, self.chooser, form_.choices)
        demo.unload(self.leave)

    def leave(self, request: gr.Request) -> None:
        """The tab was closed or reloaded: nobody waits for its answers any more."""
        self.running.sessions.leave(request.session_hash or "")

    def choose(self, chosen: Any) -> dict[Any, Any]:
        """Other models were chosen: show their cards, and whether a system prompt reaches them."""
        variants = self._variants(chosen)
        return {
            self.form.system: gr.update(**form.system_options(panel.labels(self.playground, variants))),
            **cards.chosen_changed(self.playground, self.compare.cards, variants),
        }

    def empty(self, ran: str, chosen: Any) -> dict[Any, Any]:
        """Columns for the models that are chosen, until the first run; from then on answers stay until the next one."""
        if ran:
            return {panel_: gr.skip() for panel_ in self.compare.panels}
        return outputs.waiting(self.compare.panels, panel.labels(self.playground, self._variants(chosen)))

    def summary(self, *values: Any) -> Any:
        """What the closed parameters say."""
        try:
            mode, request = form.read_asked(values)
        except PlaygroundError:
            return gr.skip()
        return gr.update(label=asked.summary(request, mode))

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
        names = [form.variant_of(text) for text in offered.names([chosen])]
        return tuple(offered.known(self.playground, names))[: len(self.compare.panels)]


def unseen(name: str) -> gr.Textbox:
    """Something the page keeps to itself, in the browser: the app may have forgotten a page that comes back."""
    return gr.Textbox("", elem_id=name, elem_classes="unseen", container=False, show_label=False)
