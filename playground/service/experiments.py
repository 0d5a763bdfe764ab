"""Experiments that are going on: begun, found again by their id, and kept as they go.

It knows which comparisons there are and who asked for them; it knows nothing of how any experiment works.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from playground.catalog.config_names import CONTEXT_LENGTH, whole
from playground.catalog.entries import Catalog
from playground.catalog.template_files import read_json
from playground.config.settings import Settings
from playground.errors import Busy
from playground.experiments.benchmark import BenchmarkJob, Measurer
from playground.experiments.compare import CompareJob, Comparer
from playground.experiments.diff import DiffJob, VariantDiffer
from playground.experiments.presets import Preset, presets
from playground.experiments.replay import Replayer, ReplayJob
from playground.experiments.token_view import TokenViewer, TokenViewJob
from playground.experiments.turns import ContextUse, Turn, again, context_use, go_on, reply, resend, why_no_reply
from playground.export import Preparer
from playground.messages import NOTHING, Translatable, msg, sentences
from playground.records import Column, Comparison, Mode, ModelRun, Request, Variant, as_id
from playground.results.store import Store
from playground.service.audience import Admitting
from playground.service.callers import Callers
from playground.service.limiter import wait_words
from playground.service.presence import Presence
from playground.workers.fleet import Fleet

END_WAIT_S = 3.0
UNKNOWN_S = 5.0
"""After which to try again where nothing has run yet."""


@dataclass(frozen=True)
class GoingOn:
    """The comparisons that have not ended, by id, each with its owner.

    Attributes:
        beginning: Held while one is begun: of two that are pressed at once, one may be too many.
    """

    jobs: dict[str, tuple[CompareJob, str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    beginning: threading.Lock = field(default_factory=threading.Lock)


class Experiments(Admitting):
    """A part of ``Playground``: what it runs."""

    settings: Settings
    catalog: Catalog
    preparer: Preparer
    store: Store
    comparer: Comparer
    measurer: Measurer
    differ: VariantDiffer
    replayer: Replayer
    token_viewer: TokenViewer
    going_on: GoingOn
    presence: Presence
    callers: Callers
    pool: Fleet

    # -- comparisons ----------------------------------------------------------------------------------------------

    def compare(
        self,
        request: Request,
        columns: Sequence[Variant | Column],
        mode: Mode = "fair",
        *,
        owner: str = "",
        parent: Comparison | None = None,
        keep: bool = True,
    ) -> CompareJob:
        """Begin a comparison. It goes on to its end whoever leaves meanwhile; ``running`` finds it.

        Args:
            request: Of all columns that have none of their own.
            owner: The visitor it is kept for.
            parent: What it goes on from.
            keep: Whether to store it: when it begins, at the end of each model, and at the end of all.

        Raises:
            UsageError: A request, a model or the list is wrong; no work was begun.
            Busy: The owner, their address or all visitors have too many going on; says when to try again.
        """
        turn = Turn(request, tuple(columns), mode, parent.id if parent else "")
        return self._begin(turn, owner, keep=keep)

    def reply(
        self, stored: Comparison, text: str, columns: Sequence[int] | None = None, *, owner: str = ""
    ) -> CompareJob:
        """Begin the next turn of the conversations with these columns, or with all that can be replied to.

        Raises:
            UsageError: As ``compare``; or one of them can't be replied to.
        """
        return self._begin(reply(stored, text, columns, self.cannot_reply), owner)

    def resend(
        self, stored: Comparison, turn: int, text: str, columns: Sequence[int] | None = None, *, owner: str = ""
    ) -> CompareJob:
        """Begin anew from an earlier turn (0 is the first) with another text; later turns are dropped.

        Raises:
            UsageError: As ``compare``; or there is no such turn.
        """
        return self._begin(resend(stored, turn, text, columns, self.cannot_reply), owner)

    def again(self, stored: Comparison, column: int, *, request: Request | None = None, owner: str = "") -> CompareJob:
        """Begin one column anew, perhaps with another request; the others stay as they are.

        Raises:
            UsageError: As ``compare``; or there is no such column.
        """
        return self._begin(again(stored, column, request), owner)

    def go_on(
        self, stored: Comparison, column: int, *, at: int | None = None, token: int | None = None, owner: str = ""
    ) -> CompareJob:
        """Begin to continue one answer at its end; or behind ``at`` of its tokens, with ``token`` as the next one.

        Raises:
            UsageError: As ``compare``; or the answer can't be continued there.
        """
        turn = go_on(stored, column, at, token, reuse=not self.settings.strangers)
        return self._begin(turn, owner)

    def cannot_reply(self, variant: Variant) -> Translatable:
        """Why a model can't be replied to; empty where it can."""
        return why_no_reply(variant, self.catalog.resolve(str(variant))[0].kind)

    def context_use(self, stored: Comparison, column: int) -> ContextUse | None:
        """How full a model's context is after its answer; None where its tokens were not counted."""
        run = stored.runs[column]
        artifact = self.preparer.state(run.variant).artifact
        config = read_json(Path(artifact.path) / "config.json", or_empty=True) if artifact else {}
        told = (self.catalog.resolve(str(run.variant))[0].context_length, whole(config, *CONTEXT_LENGTH))
        return context_use(run, min(filter(None, told), default=0))

    def presets(self, variant: Variant) -> tuple[Preset, ...]:
        """Ready-made ways to choose tokens for a model, each with its source; its own files' once it is prepared."""
        artifact = self.preparer.state(variant).artifact
        return presets(self.catalog.entry(variant.model), Path(artifact.path) if artifact else None)

    def running(self, id: str) -> CompareJob | None:
        """The comparison of that id while it goes on, whoever began it; its end is stored before it is gone here."""
        with self.going_on.lock:
            found = self.going_on.jobs.get(as_id(id))
        return found[0] if found else None

    def begun_by(self, id: str) -> str | None:
        """The visitor who began a comparison that is going on; None where none is."""
        with self.going_on.lock:
            found = self.going_on.jobs.get(as_id(id))
        return found[1] if found else None

    def _begin(
        self, turn: Turn, owner: str, *, keep: bool = True, note: Callable[[str], object] = lambda id: None
    ) -> CompareJob:
        """Begin a comparison.

        Args:
            note: Is told the id before the comparison can be found or is stored; where it raises, nothing goes on.
        """
        noted = threading.Event()

        def save(comparison: Comparison) -> None:
            noted.wait()
            self.store.save(comparison, owner)

        with self.going_on.beginning, self.admitted(owner, _fresh(turn.columns)):
            self._check_unfinished(owner)
            job = self.comparer.start(
                turn.request, turn.columns, turn.mode, parent=turn.parent, save=save if keep else None
            )
            try:
                note(job.id)
            except BaseException:
                job.stop()
                raise
            finally:
                noted.set()
            with self.going_on.lock:
                self.going_on.jobs[job.id] = job, owner
        job.when_done(lambda: self._ended(job, owner))
        self.make_room()
        return job

    def _ended(self, job: CompareJob, owner: str) -> None:
        timings = [live.run.timings for live in job.snapshot().lives if live.run and not live.run.taken_in]
        try:  # before its place is free for the next one
            self.limiter.spend(owner, sum((each.prompt_tokens or 0) + (each.output_tokens or 0) for each in timings))
        finally:
            with self.going_on.lock:
                self.going_on.jobs.pop(job.id, None)

    def make_room(self) -> None:
        """End comparisons of visitors who have left, where others wait for the machine. Where nobody does, they go on:
        who comes back finds them.
        """
        if not self.settings.strangers:
            return
        with self.going_on.lock:
            jobs = list(self.going_on.jobs.values())
        left = [job for job, owner in jobs if self.presence.left(owner, self.settings.limits.left_s)]
        if left and (len(left) < len(jobs) or self.callers.waiting):
            for job in left:
                job.stop()

    def _check_unfinished(self, owner: str) -> None:
        """Strangers must not fill the queue: a comparison goes on when its visitor leaves.

        Raises:
            Busy: There are as many as may be; with the seconds until one has ended, as far as is known.
        """
        if not self.settings.strangers:
            return
        limits = self.settings.limits
        with self.going_on.lock:
            owners = [other for _, other in self.going_on.jobs.values()]
        if len(owners) >= limits.max_unfinished_of_all:
            raise self._busy(msg("{n} comparisons of all visitors are waiting here already", n=len(owners)), 1)
        each_once = len({self.limiter.fair_name(other) for other in owners})  # a turn of everybody's is before mine
        mine = owners.count(owner) if owner else 0
        if mine >= limits.max_unfinished:
            words = msg("Wait for one of them, or stop it: History shows them.")
            raise self._busy(msg("{n} of your comparisons are still going on", n=mine), each_once, words)
        # A new name costs nothing: who comes from one address leaves half of the places to others.
        address = self.limiter.address(owner)
        near = sum(self.limiter.address(other) == address for other in owners) if address else 0
        if near >= limits.max_unfinished_of_all // 2:
            raise self._busy(msg("{n} comparisons from your address are still going on", n=near), each_once)

    def _busy(self, what: Translatable, turns: int, instead: Translatable = NOTHING) -> Busy:
        """What is told where too many comparisons go on.

        Args:
            turns: So many at the machine have ended when another one may begin.
        """
        self.limiter.refused("unfinished")
        wait_s, words = self.try_again(turns)
        return Busy(what, sentences(instead, words), retry_after_s=wait_s)

    def try_again(self, turns: int = 1) -> tuple[float, Translatable]:
        """When so many turns at the machine will have ended, in seconds and in words; a guess where none has yet."""
        known = self.pool.turns.expected_s(turns)
        wait_s = UNKNOWN_S if known is None else max(1.0, known)
        return wait_s, wait_words(wait_s)

    def _wait_for_ends(self) -> None:
        """Give comparisons that were told to end the time to be stored."""
        with self.going_on.lock:
            jobs = [job for job, _ in self.going_on.jobs.values()]
        deadline = time.monotonic() + END_WAIT_S
        for job in jobs:
            job.wait(max(0.0, deadline - time.monotonic()))

    # -- the others -----------------------------------------------------------------------------------------------

    def benchmark(
        self, request: Request, variants: Sequence[Variant], repeats: int, *, owner: str = ""
    ) -> BenchmarkJob:
        """Begin a measurement.

        Raises:
            UsageError: The request, a model or the number of repeats is wrong; no work was begun.
        """
        tokens = len(variants) * repeats * request.max_new_tokens
        with self.admitted(owner, variants, tokens):
            return self.measurer.start(request, variants, repeats)

    def diff(
        self,
        request: Request,
        reference: str | Variant,
        candidate: str | Variant,
        *,
        with_prompt: bool = False,
        owner: str = "",
    ) -> DiffJob:
        """Begin to compare two variants of one model token by token.

        Raises:
            UsageError: The request is wrong, or the two can't be compared by tokens; no work was begun.
        """
        both = [self.catalog.resolve(str(each))[1] for each in (reference, candidate)]
        with self.admitted(owner, both, 2 * request.max_new_tokens):
            return self.differ.start(request, reference, candidate, with_prompt=with_prompt)

    def replay(self, stored: Comparison, *, owner: str = "") -> ReplayJob:
        """Begin to run a stored comparison once more.

        Raises:
            UsageError: It can't be run again; no work was begun.
        """
        tokens = sum(run.timings.output_tokens or 0 for run in stored.runs)
        with self.admitted(owner, [run.variant for run in stored.runs], tokens):
            return self.replayer.start(stored)

    def token_view(self, stored: Comparison, column: int, *, owner: str = "") -> TokenViewJob:
        """Begin to look at a stored answer token by token.

        Raises:
            UsageError: There is no such column, or its answer can't be looked at; no work was begun.
        """
        looked = stored.runs[column : column + 1]
        tokens = sum(run.timings.output_tokens or 0 for run in looked)
        with self.admitted(owner, [run.variant for run in looked], tokens):
            return self.token_viewer.start(stored, column)


def _fresh(columns: Sequence[str | Variant | Column | ModelRun]) -> Iterator[Variant]:
    """The variants that are to answer, without runs that are carried over."""
    for each in columns:
        if isinstance(each, Column):
            yield each.variant
        elif isinstance(each, Variant):
            yield each
