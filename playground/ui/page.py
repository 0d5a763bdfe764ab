"""The page: form above, tabs below, and which event changes what.

``build_ui`` draws it for one ``Playground``. Nothing happens at import.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import LRUCache

from playground.errors import PlaygroundError, StorageError, UsageError
from playground.messages import NOTHING, Translatable, msg
from playground.records import Comparison, Mode, Request, Variant
from playground.ui import api, jobs, offered
from playground.ui.blocks import Blocks
from playground.ui.html import costs, panel
from playground.ui.html.format import count, esc
from playground.ui.sessions import Sessions
from playground.ui.tabs import about, benchmark, cards, catalog, choose, diff, form, history, outputs, replay, timings
from playground.ui.theme import html

if TYPE_CHECKING:
    from playground.service import Playground

TITLE = "Open-Model Playground"
HEAD = (
    "<header><h1>Open-Model Playground</h1><p>One prompt, several small open models, side by side: what each one says, "
    "how fast it really is on this CPU, and what its model card really promises.</p></header>"
)
LOOK_S, REST_S = 2.0, 20.0
"""Between two looks of a page at how preparations come on; and while there are none. A look costs a browser 50 ms:
two pages at rest took 12 % of a core from the models when they looked every two seconds."""
QUEUE_LOOK_S = 0.03
"""Between two looks at gradio's queue of events: the most it adds to a click."""
log = logging.getLogger(__name__)


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
        self.sessions = sessions
        most = playground.settings.limits.max_models
        remembered, measured = history.remembered(), benchmark.remembered()
        html(HEAD, elem_id="title")
        self.form = form.build(playground)
        first = self.form.first
        labels = panel.labels(playground, first)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Outputs", id="outputs"):
                self.panels = outputs.build(labels, most)
            with gr.Tab("Timings", id="timings"):
                self.timings = timings.build()
            with gr.Tab("Measure", id="measure"):
                self.measure = benchmark.build(playground, measured)
            with gr.Tab("Diff", id="diff"):
                self.diff = diff.build(playground)
            with gr.Tab("Model cards", id="cards"):
                self.cards = cards.build(playground, self.form.entries, first)
            with gr.Tab("Catalogue", id="catalogue"):
                self.catalogue = catalog.build(playground)
            with gr.Tab("Choose", id="choose") as choose_tab:
                self.chooser = choose.build(playground, choose_tab)
            with gr.Tab("History", id="history"):
                self.history = history.build(remembered)
                self.replay = replay.build()
                self.history.shown.render()
            with gr.Tab("About", id="about"):
                about.build()
        self.seen = gr.State([])
        self.ran = gr.State(False)
        self.timer = gr.Timer(LOOK_S)

    def connect(self, demo: gr.Blocks) -> None:
        """Say which event does what. Only the API's own endpoints are callable from outside."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        at_once = {**quiet, "queue": False}
        choices = list(self.form.choices)
        self.form.run.click(
            self.run,
            [self.history.ids, *self.form.inputs],
            [*self._run_outputs(), self.history.ids, self.ran],
            trigger_mode="once",
            concurrency_limit=self.playground.settings.limits.max_sessions,
            concurrency_id="compare",
            **quiet,
        )
        self.form.stop.click(self.stop, None, [self.form.stop], **at_once)
        chosen_outputs = [self.form.system, *self.panels, self.cards.facts, *self.cards.rest.values()]
        gr.on(
            [choice.change for choice in choices],
            self.choose,
            [self.ran, self.form.notice, *choices],
            [*chosen_outputs, self.form.notice],
            trigger_mode="always_last",
            **at_once,
        )
        gr.on(
            [demo.load, self.timer.tick, *(choice.change for choice in choices)],
            self.look,
            [self.seen, *choices],
            [self.seen, self.timer, *self.form.states, self.cards.facts],
            **at_once,
        )
        sizes = [self.form.mode, self.form.prompt, self.form.fields[0]]
        gr.on(
            [demo.load, self.form.mode.change, self.form.prompt.blur, self.form.fields[0].release]
            + [choice.change for choice in choices],
            self.plan_memory,
            [*sizes, *choices],
            self.form.memory,
            trigger_mode="always_last",
            **at_once,
        )
        listed = [self.history.head, self.history.entries, self.history.shown]
        gr.on([demo.load, self.history.ids.change], self.list_history, self.history.ids, listed, **at_once)
        opens = [self.history.entries, self.history.ids]
        # Not preprocessed: gradio would check the choice against the empty list the page was built with.
        self.history.entries.input(self.open_history, opens, self.history.shown, preprocess=False, **at_once)
        benchmark.connect(self.playground, self.measure, self.form, demo)
        diff.connect(self.playground, self.diff, self.form, self.history, demo)
        replay.connect(self.playground, self.replay, self.history, demo)
        catalog.connect(self.playground, self.catalogue, self.form.added)
        choose.connect(self.playground, self.chooser, choices)
        demo.unload(self.leave)

    def _run_outputs(self) -> list[Any]:
        return [self.form.run, self.form.stop, self.form.notice, self.timings, self.timer, *self.panels]

    async def run(self, request: gr.Request, kept: Any, *values: Any) -> AsyncIterator[dict[Any, Any]]:
        """Run the prompt; yields the panels as they grow. A usage error is shown in place and loses nothing."""
        try:
            chosen, mode, asked = form.read_request(values, len(self.form.choices))
            variants = tuple(offered.variants(self.playground, chosen))
            if not variants:
                raise UsageError(msg("No model is chosen"), msg("Choose at least one above."))
            async with aclosing(self._run(kept, request.session_hash or "", asked, variants, mode)) as updates:
                async for update in updates:
                    yield update
        except PlaygroundError as error:
            yield {**self._idle(), self.form.notice: _notice(error.message, "problem")}
        except Exception:
            log.exception("The comparison broke off")
            words = "Something broke in the app itself; its log says what. Your prompt is still here: try again."
            yield {**self._idle(), self.form.notice: _notice(words, "problem")}

    async def _run(
        self, kept: Any, session: str, asked: Request, variants: tuple[Variant, ...], mode: Mode
    ) -> AsyncGenerator[dict[Any, Any]]:
        labels = panel.labels(self.playground, variants)
        begun = False
        start = partial(self.playground.compare, asked, variants, mode)
        async with aclosing(jobs.follow(self.sessions, session, start)) as steps:
            async for step in steps:
                if not begun:
                    begun = True
                    yield {**outputs.waiting(self.panels, labels), **self._busy()}
                update = outputs.growing(self.panels, step.at.lives, labels)
                if step.result is None:
                    yield {**update, self.form.notice: _notice(_running_words(step, mode))}
                    continue
                problem = await jobs.keep(partial(self.playground.keep, step.result))
                notice = _not_stored(problem) if problem else NOTHING
                yield {
                    **outputs.finished(self.panels, step.result, labels),
                    **self._idle(),
                    self.form.notice: _notice(notice, "problem") if notice else _notice(_done_words(step)),
                    self.timings: timings.figures(step.result, labels, self.playground.tiers),
                    self.history.ids: gr.skip() if notice else history.added(kept, step.result),
                }

    def _busy(self) -> dict[Any, Any]:
        return {
            self.form.run: gr.update(interactive=False, value="Running…"),
            self.form.stop: gr.update(interactive=True, value="Stop"),
            self.timings: timings.BUSY,
            self.ran: True,
            self.timer: gr.Timer(LOOK_S) if self.playground.preparing else gr.skip(),
        }

    def _idle(self) -> dict[Any, Any]:
        return {
            self.form.run: gr.update(interactive=True, value="Run"),
            self.form.stop: gr.update(interactive=False, value="Stop"),
        }

    def stop(self, request: gr.Request) -> Any:
        """Stop this tab's comparison; ``run`` then sees it end and shows what there is."""
        self.sessions.stop(request.session_hash or "")
        return gr.update(interactive=False, value="Stopping…")

    def leave(self, request: gr.Request) -> None:
        """The tab was closed or reloaded: nobody waits for its answers any more."""
        self.sessions.leave(request.session_hash or "")

    def choose(self, ran: bool, noticed: str, *choices: list[str]) -> dict[Any, Any]:
        """Other models were chosen: show their cards, and whether a system prompt reaches them.

        Their empty panels appear only until the first run: answers stay until the next one. So does every notice but
        that of too many models: this one may come after a run has said something.
        """
        chosen = self._variants(choices)
        most = len(self.panels)
        labels = panel.labels(self.playground, chosen[:most])
        fewer = f"fewer: one run has at most {most}."
        if len(chosen) > most:
            notice = _notice(f"Choose {count(len(chosen) - most, 'model')} {fewer}", "problem")
        else:
            notice = _notice(HINT) if fewer in (noticed or "") else gr.skip()
        return {
            self.form.system: gr.update(**form.system_options(labels)),
            self.form.notice: notice,
            **({} if ran else outputs.waiting(self.panels, labels)),
            **cards.chosen_changed(self.playground, self.cards, chosen),
        }

    def plan_memory(self, mode: Mode, prompt: str, tokens: Any, *choices: list[str]) -> str:
        """What the chosen models are expected to take for this prompt, and what will become of what does not fit."""
        chosen = self._variants(choices)[: len(self.panels)]
        asked = Request(prompt or "", max_new_tokens=form.whole("Max new tokens", tokens or 1))
        return costs.plan_html(self.playground.memory_plan(chosen, asked), mode)

    def look(self, seen: list[str], *choices: list[str]) -> list[Any]:
        """Now and then: the models' states, sending only those that changed; and when to look again."""
        pace = LOOK_S if self.playground.preparing else REST_S
        states = [form.states_html(self.playground, chosen or []) for chosen in choices[:-1]]
        states.append(form.added_html(self.playground, choices[-1] or []))
        looked = [str(pace), *states]
        if looked == seen:
            return [gr.skip()] * (len(states) + 3)
        news = [gr.skip() if state == old else state for state, old in _pairs(states, seen[1:])]
        facts = cards.facts_html(self.playground, self._variants(choices))
        timer = gr.skip() if seen[:1] == looked[:1] else gr.Timer(pace)
        return [looked, timer, *news, facts]

    def list_history(self, kept: Any) -> dict[Any, Any]:
        """Fill the History tab from what this browser remembers."""
        return history.listed(self.playground, self.history, kept)

    def open_history(self, chosen: Any, kept: Any) -> str:
        """Show a stored comparison of this browser."""
        return history.opened(self.playground, chosen, kept)

    def _variants(self, choices: tuple[list[str], ...]) -> tuple[Variant, ...]:
        """What is chosen; a name typed wrong is left out here, its state and Run say so."""
        return tuple(offered.known(self.playground, offered.names(choices)))


HINT = "Ctrl or ⌘ + Enter runs."


def _pairs(states: list[str], seen: list[str]) -> list[tuple[str, str]]:
    return list(zip(states, seen if len(seen) == len(states) else [""] * len(states), strict=True))


def _notice(text: str, kind: str = "hint") -> str:
    role = "alert" if kind == "problem" else "status"
    return f'<p class="{kind}" role="{role}">{esc(text)}</p>'


def _not_stored(error: StorageError) -> Translatable:
    return msg("The result is on this page only, it was not stored: {error}", error=error.message)


def _running_words(step: jobs.Update[Comparison], mode: Mode) -> str:
    done = sum(live.run is not None for live in step.at.lives)
    how = "all at once" if mode == "fast" else "one at a time"
    return f"Running {how}: {done} of {count(len(step.at.lives), 'model')} done."


def _done_words(step: jobs.Update[Comparison]) -> str:
    failed = [live for live in step.at.lives if live.run is not None and live.run.error]
    if failed:
        return (
            f"Done; {count(len(failed), 'model')} failed, and {'its' if len(failed) == 1 else 'their'} column says why."
        )
    return "Done. The figures are in Timings."
