"""Single answers, for programs that ask over the network: each in its turn, with a receipt as a comparison has.

It knows models by name, whose turn it is and what was answered lately; it knows no protocol.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playground.catalog.config_names import CONTEXT_LENGTH, whole
from playground.catalog.template_files import find_template, read_json
from playground.config.settings import Settings
from playground.errors import Busy, Stopped, UnknownModel, UnknownVariant, some
from playground.experiments.admission import check_request
from playground.experiments.base import ASKING
from playground.experiments.finishing import completed
from playground.export import Preparer
from playground.messages import msg
from playground.records import (
    Artifact,
    Cancelled,
    Comparison,
    Event,
    LoadSpec,
    ModelRun,
    ModelSpec,
    Request,
    Variant,
    as_id,
)
from playground.results.receipts import with_receipts
from playground.results.store import Store
from playground.results.thinking import with_thinking_tokens
from playground.service.audience import Admitting
from playground.service.callers import Callers
from playground.sources.files import Progress
from playground.system.environment import environment
from playground.workers.fleet import Fleet

_OWNER: ContextVar[str] = ContextVar("owner", default="")
log = logging.getLogger(__name__)

MOST_HELD = 500
"""Answers whose receipts can be asked for; older ones are gone, unless they were stored."""
MOST_HELD_PARTS = 5_000_000
"""Tokens and figures of them, and characters by the dozen: some hundred megabytes. Of larger answers fewer are held."""


@dataclass(frozen=True)
class Lately:
    """What was answered lately, by the id of its receipt, with who asked."""

    held: OrderedDict[str, tuple[Comparison, str]] = field(default_factory=OrderedDict)
    parts: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, comparison: Comparison, owner: str) -> None:
        """For a while: until others came, or until their sizes together are too much."""
        with self.lock:
            self.held[comparison.id] = comparison, owner
            self.parts[comparison.id] = _parts(comparison)
            while len(self.held) > MOST_HELD or (len(self.held) > 1 and sum(self.parts.values()) > MOST_HELD_PARTS):
                del self.parts[self.held.popitem(last=False)[0]]


class Answers(Admitting):
    """A part of ``Playground``: answers for programs."""

    settings: Settings
    preparer: Preparer
    pool: Fleet
    store: Store
    callers: Callers
    lately: Lately

    @abstractmethod
    def make_room(self) -> None: ...

    @abstractmethod
    def resolve(self, text: str) -> tuple[ModelSpec, Variant]: ...

    @abstractmethod
    def prepare(self, variant: Variant, progress: Progress, cancelled: Cancelled = ...) -> Artifact: ...

    # -- which models may be asked ----------------------------------------------------------------------------------

    def asked(self, text: str, owner: str | None = None) -> Variant:
        """The variant that a program names.

        Args:
            owner: Who is to run it; None where it is only read of.

        Raises:
            UsageError: There is none, or not one that may be named or run here.
        """
        try:
            named = Variant.parse(text).model
        except ValueError:
            named = text.strip().rpartition("@")[0]
        if not self.may_be_named(named):
            ready = self.ready_variants()
            how = msg("GET /v1/models lists what can be asked for, written like {example}.", example=str(ready[0]))
            raise UnknownModel(named, self.ids() if self.may_add(owner or "") else {each.model for each in ready}, how)
        variant = self._resolved(text)
        if owner is not None and not self.may_run(variant, owner):
            names = some([str(each) for each in self.ready_variants()])
            self.check_may_run([variant], owner, msg("Ask for one of {names}: GET /v1/models lists them.", names=names))
        return variant

    def _resolved(self, text: str) -> Variant:
        """The variant that ``text`` names; a visitor that misspells it is told those they can ask for."""
        try:
            return self.resolve(text)[1]
        except UnknownVariant as error:
            if not self.settings.strangers:
                raise
            raise UnknownVariant(text.strip(), map(str, self.ready_variants())) from error

    def ready_variants(self) -> tuple[Variant, ...]:
        """Those that the app was told to serve, and what of the catalogue is prepared besides."""
        found = dict.fromkeys(self.default_variants())
        for id in self.ids():
            spec, _ = self.resolve(id)
            for precision in spec.precisions:
                variant = self.resolve(f"{id}@{precision}")[1]
                if variant not in found and self.preparation(variant).status == "ready":
                    found[variant] = None
        return tuple(found)

    def context_length(self, variant: Variant) -> int:
        """Most tokens of prompt and answer together, by the catalogue and by the model's own files; 0 where neither is
        known yet.
        """
        artifact = self.preparation(variant).artifact
        config = read_json(Path(artifact.path) / "config.json", or_empty=True) if artifact else {}
        part = config.get("text_config")
        told = (self.resolve(str(variant))[0].context_length, whole(part or config, *CONTEXT_LENGTH))
        return min(filter(None, told), default=0)

    def chat_template(self, variant: Variant) -> str:
        """The Jinja template that turns messages into a prompt; empty where there is none or it is not known yet."""
        spec, artifact = self.resolve(str(variant))[0], self.preparation(variant).artifact
        if spec.kind != "chat" or not artifact:
            return ""
        return find_template(Path(artifact.path)) or spec.chat_template

    # -- answers ----------------------------------------------------------------------------------------------------

    def check(self, request: Request) -> None:
        """Refuse what no model could answer.

        Raises:
            BadRequest: Names the field that is wrong and what it may be.
        """
        check_request(request, self.settings.limits)

    def too_many(self, n: int, *, of_one: bool) -> Busy:
        """What is told where so many requests wait already; see ``Callers.busy``."""
        return self.callers.busy(n, of_one=of_one)

    @contextmanager
    def asking(self, owner: str, cancelled: Cancelled, model: str = "") -> Iterator[None]:
        """This caller's turn among all that ask at once, for what belongs together: several answers, a text's score
        and its tokens.

        Args:
            model: Which is to stay on the disk meanwhile.

        Raises:
            Busy: Too much is waiting, or they have had the tokens of a day.
            Stopped: ``cancelled`` came first.
        """
        self.limiter.check_tokens(owner)
        with self.disk.wanted(model), self.callers.turn(owner, cancelled):
            self.make_room()
            ASKING.set(self.limiter.fair_name(owner))
            _OWNER.set(owner)
            try:
                yield
            finally:  # not reset: what was begun in one thread may be closed in another
                _OWNER.set("")
                ASKING.set("")

    def answer(
        self, model: str, request: Request, *, owner: str = "", cancelled: Cancelled = lambda: False
    ) -> Iterator[Event]:
        """One answer, as it comes: ``preparing`` where the model is not ready, ``loading`` where it is not warm,
        ``prefill``, ``token``, and last ``done``, ``stopped`` or ``failed``, whose run is complete. It waits for its
        turn, first among the callers, then among all that is measured here.

        Raises:
            UsageError: At once: no such model, or the request is wrong.
            Busy: Too many requests wait already.
            Stopped: ``cancelled`` came before the answer began.
            PlaygroundError: While iterating: the model can't be prepared.
        """
        self.check(request)
        self.resolve(model)
        return self._in_turn(model, request, owner, cancelled)

    def _in_turn(self, model: str, request: Request, owner: str, cancelled: Cancelled) -> Iterator[Event]:
        load = yield from self.make_ready(model, cancelled)
        with self.asking(owner, cancelled, model):
            yield from self.answer_now(model, load, request, cancelled)

    def make_ready(self, model: str, cancelled: Cancelled) -> Generator[Event, None, LoadSpec]:
        """Prepare a model that is not ready, which may take minutes: before ``asking``, so that nobody waits for it.

        Returns:
            What is to be loaded.

        Raises:
            PlaygroundError: It can't be prepared.
        """
        spec, variant = self.resolve(model)
        artifact = self.preparation(variant).artifact
        if artifact is None:
            yield Event(str(variant), "preparing", at=time.monotonic())
            artifact = self.prepare(variant, lambda step, share: None, cancelled)
        self.note_used(variant)
        return LoadSpec(spec, artifact, self.settings.threads)

    def answer_now(self, model: str, load: LoadSpec, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """As ``answer``, for whoever is ``asking`` already.

        Args:
            load: What ``make_ready`` returned.
        """
        variant = self.resolve(model)[1]
        ready = time.monotonic()
        owner, most = _OWNER.get(), (self.settings.strangers and self.settings.limits.max_run_s) or math.inf
        with self.pool.turns.hold(cancelled, lambda _: None, ASKING.get()) as mine:
            if not mine:
                raise Stopped(msg("{model}: stopped before the answer began", model=variant))
            waited, begun = time.monotonic() - ready, time.monotonic()

            def ends() -> bool:
                return cancelled() or time.monotonic() - begun > most

            with self.preparer.paused():
                for event in _finished(self.pool.generate(load, request, ends), load, variant, waited):
                    if event.run:
                        timings = event.run.timings
                        self.limiter.spend(owner, (timings.prompt_tokens or 0) + (timings.output_tokens or 0))
                    yield event if cancelled() else _cut(event)

    # -- receipts ---------------------------------------------------------------------------------------------------

    def receipt(self, runs: Sequence[ModelRun], owner: str = "", *, store: bool = False) -> str:
        """Hold what was answered for a while, so that its receipt can be asked for by this id, which nobody can guess.

        Args:
            runs: Each with the request it answers.
            store: Whether to keep it among the comparisons for good.

        Raises:
            StorageError: It can't be stored.
        """
        now = datetime.now(UTC)
        created = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(16)}"
        request = runs[0].request or Request()
        kept = tuple(replace(run, request=None) if run.request == request else run for run in runs)
        comparison = Comparison(id, created, request, kept, environment())
        self.lately.hold(comparison, owner)
        for run in runs:
            end = {"outcome": run.finish_reason, "tokens": run.timings.output_tokens}
            log.info("answer ended", extra={"run": id, "model": str(run.variant), **end})
        if store:
            self.store.save(comparison, owner)
        return id

    def answered_json(self, id: str) -> dict[str, Any] | None:
        """What was answered lately under this id, with the receipt of each figure."""
        found = self.answered(id)
        return with_receipts(self.all_told(found)) if found else None

    def answered(self, id: str) -> Comparison | None:
        """What was answered lately under this id."""
        with self.lately.lock:
            found = self.lately.held.get(as_id(id))
        return found[0] if found else None


def _cut(event: Event) -> Event:
    """An answer that took too long, told as one that was cut off."""
    if event.run is None or event.run.finish_reason != "stopped":
        return event
    return replace(event, kind="done", run=replace(event.run, finish_reason="length"))


def _parts(comparison: Comparison) -> int:
    """How much of memory a comparison takes, in parts of a few dozen bytes; what its runs share counts once."""
    requests = [comparison.request, *(run.request for run in comparison.runs if run.request)]
    ids = {id(each.prompt_ids): len(each.prompt_ids) for each in requests}
    texts = {id(text): len(text) // 12 for each in requests for text in (each.prompt, each.json_schema)}
    turns = {id(each.messages): sum(10 + len(turn.content) // 12 for turn in each.messages) for each in requests}
    figures = (2 + 2 * len(token.top_ids) for run in comparison.runs for token in run.logprobs)
    said = sum(len(run.text) // 12 + len(run.token_ids or ()) for run in comparison.runs)
    return sum(ids.values()) + sum(texts.values()) + sum(turns.values()) + sum(figures) + said


def _finished(events: Iterator[Event], load: LoadSpec, variant: Variant, waited: float) -> Iterator[Event]:
    """The events, the last one's run with what only the asking side knows."""
    pieces: list[str] = []
    for event in events:
        if event.kind == "loading":  # another server begins anew what one has broken off
            pieces.clear()
        elif event.kind == "token":
            pieces.append(event.text)
        if event.run is None:
            yield event
            continue
        timings = replace(event.run.timings, queue_s=waited + (event.run.timings.queue_s or 0.0), mode="fair")
        run = completed(replace(event.run, timings=timings), variant, load.spec, load.artifact)
        yield replace(event, run=with_thinking_tokens(run, pieces))
