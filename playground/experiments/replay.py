"""Replay: a stored comparison run once more, and for each model whether it gave the same answer.

Decoding here is meant to be repeatable: the same request and seed on the same machine, software and artifact give the
same tokens. This says whether they did, where they part, and what is no longer as it was. The module compares answers
and environments; it does not know which of the changes made a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from playground.errors import PlaygroundError, Stopped, UsageError
from playground.experiments.base import Job, Machine
from playground.experiments.progress import Snapshot
from playground.experiments.token_diff import Difference, first_difference, first_text_difference
from playground.messages import NOTHING, Translatable, msg, sentences
from playground.records import (
    Cancelled,
    Column,
    Comparison,
    DecodedTokens,
    Environment,
    LoadSpec,
    ModelRun,
    Record,
    Variant,
)
from playground.workers import protocol

if TYPE_CHECKING:
    from playground.experiments.compare import CompareJob, Comparer

Sameness = Literal["identical", "different", "unknown"]


@dataclass(frozen=True)
class Change(Record):
    """Something that is no longer as it was; "" where it is or was absent."""

    what: Translatable
    was: str
    now: str


@dataclass(frozen=True)
class ModelReplay(Record):
    """One model's answer then and now.

    Attributes:
        verdict: ``unknown`` where one of the two has no whole answer; ``detail`` says why.
        compared: ``tokens`` by their ids; ``text`` where ids are not known on both sides.
        count: How many tokens (characters, for a text) were found the same.
        difference: The first token that differs: ``one`` then, ``other`` now.
        changes: What changed of this run: artifact, recipe, threads, …
    """

    variant: Variant
    verdict: Sameness
    compared: Literal["tokens", "text"] = "tokens"
    count: int = 0
    difference: Difference | None = None
    detail: Translatable = NOTHING
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Replay(Record):
    """A stored comparison and its rerun.

    Attributes:
        stored: Id of the stored one.
        created_at: When it was made.
        changes: Of the machine and the software.
    """

    stored: str
    created_at: str
    rerun: Comparison
    models: tuple[ModelReplay, ...]
    changes: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        """Whether every model answered as before."""
        return all(model.verdict == "identical" for model in self.models)


class Replayer:
    """Runs stored comparisons again and compares."""

    def __init__(self, machine: Machine, comparer: Comparer) -> None:
        self._machine, self._comparer = machine, comparer

    def start(self, stored: Comparison) -> ReplayJob:
        """The same columns with what each was asked, seeds included, and the mode, in the background. Models that are
        gone, and answers that can't be repeated, are left out.

        Raises:
            UsageError: It can't be repeated; nothing was begun.
        """
        why = [self._missing(stored, column) for column in range(len(stored.runs))]
        places = [column for column, reason in enumerate(why) if not reason]
        if not places:
            raise UsageError(
                msg("{id} can't be run again", id=stored.id), sentences(*dict.fromkeys(reason for reason in why))
            )
        columns = [Column(stored.runs[place].variant, stored.asked(place)) for place in places]
        rerun = self._comparer.start(stored.request, columns, stored.mode)
        replaying = ReplayJob(self._machine, self, stored, rerun, places)
        self._machine.begin(replaying)
        return replaying

    def report(
        self,
        stored: Comparison,
        rerun: Comparison,
        places: Sequence[int] | None = None,
        cancelled: Cancelled = lambda: False,
    ) -> Replay:
        """Compare a stored comparison with its finished rerun. Waits for a turn only where a difference is spelt out,
        since that may need the model loaded; called off, it gives the ids of tokens instead of their texts.

        Args:
            places: The stored column that each run of the rerun repeats; None where it repeats all of them.
        """
        now = dict(zip(range(len(stored.runs)) if places is None else places, rerun.runs, strict=True))
        models = []
        for place, run in enumerate(stored.runs):
            if place in now:
                models.append(self._model(run, now[place], cancelled))
            else:
                models.append(ModelReplay(run.variant, "unknown", detail=self._missing(stored, place)))
        changes = tuple(_environment_changes(stored.environment, rerun.environment))
        return Replay(stored.id, stored.created_at, rerun, tuple(models), changes)

    def _missing(self, stored: Comparison, column: int) -> Translatable:
        """Why a column can't be run again, empty if it can."""
        run, asked = stored.runs[column], stored.asked(column)
        try:
            self._machine.catalog.resolve(str(run.variant))
        except PlaygroundError as error:
            return error.message
        if asked.temperature > 0 and asked.seed is None:
            return msg(
                "{model} drew its tokens with a random seed that was not kept: set a seed, or temperature 0, for "
                "answers that can be repeated.",
                model=run.variant,
            )
        return NOTHING

    def _model(self, was: ModelRun, now: ModelRun, cancelled: Cancelled) -> ModelReplay:
        told = ModelReplay(was.variant, "unknown", changes=tuple(_run_changes(was, now)))
        if was.error:
            return replace(told, detail=msg("It failed then: {error}", error=was.error))
        if now.error:
            return replace(told, detail=msg("It failed now: {error}", error=now.error))
        if now.finish_reason == "stopped":
            return replace(told, detail=msg("It was stopped now."))
        cut = was.finish_reason == "stopped"
        if cut:
            told = replace(told, detail=msg("The stored run was stopped: compared as far as it went."))
        if was.token_ids is None or now.token_ids is None:
            reason = msg("Only texts are known of a model served elsewhere.")
            if now.token_ids is not None:
                reason = msg("It was stored before token ids were: compared by text.")
            told = replace(told, compared="text", detail=sentences(reason, told.detail))
            found = first_text_difference(was.text, now.text[: len(was.text)] if cut else now.text)
            return _judged(told, len(was.text), found)
        ids = now.token_ids[: len(was.token_ids)] if cut else now.token_ids
        if ids == was.token_ids:
            # Another version of the tokenizer may write the same tokens otherwise.
            return _judged(told, len(ids), None if cut else first_text_difference(was.text, now.text))
        decoded = self._decoded(now, (was.token_ids, ids), cancelled)
        return _judged(told, 0, first_difference(was.token_ids, decoded[0], ids, decoded[1]))

    def _decoded(self, run: ModelRun, answers: Sequence[tuple[int, ...]], cancelled: Cancelled) -> list[DecodedTokens]:
        """Both answers by the tokenizer of now. A model that can't tell any more leaves the bare ids."""
        machine = self._machine
        spec, variant = machine.catalog.resolve(str(run.variant))
        try:
            with machine.pool.turns.hold(cancelled, lambda _: None) as mine:
                if not mine:
                    raise Stopped(msg("Stopped"))
                artifact = machine.preparer.prepare(variant, lambda *_: None, cancelled)
                load = LoadSpec(spec, artifact, run.timings.threads or 1)
                return list(self._ask(load, answers, cancelled))
        except PlaygroundError:
            names = [tuple(f"<{token}>" for token in ids) for ids in answers]
            return [DecodedTokens(name, name, ()) for name in names]

    def _ask(self, load: LoadSpec, answers: Sequence[tuple[int, ...]], cancelled: Cancelled) -> Iterator[DecodedTokens]:
        for ids in answers:
            reply = self._machine.pool.ask(load, partial(protocol.decode_tokens, ids=ids), cancelled)
            yield DecodedTokens.from_json(reply["decoded"])


class ReplayJob(Job[Replay]):
    """A replay that is going on; made by ``Replayer.start``. Stopped, it tells of the models that had answered."""

    def __init__(
        self, machine: Machine, replayer: Replayer, stored: Comparison, rerun: CompareJob, places: Sequence[int]
    ) -> None:
        super().__init__(machine, msg("The replay of {id}", id=stored.id))
        self._replayer, self._stored = replayer, stored
        self._at, self._part = Snapshot(), rerun
        self._rerun, self._places = rerun, places

    def _run(self) -> Replay:
        rerun = self._wait_for(self._rerun)
        self._tell(msg("comparing the answers"))
        return self._replayer.report(self._stored, rerun, self._places, self._stop.is_set)


def _judged(told: ModelReplay, whole: int, found: Difference | None) -> ModelReplay:
    """``whole``: how much is the same where nothing was ``found`` to differ."""
    if found is None:
        return replace(told, verdict="identical", count=whole)
    return replace(told, verdict="different", count=found.position, difference=found)


_RUN_FIELDS = {
    "runtime": msg("runtime"),
    "precision": msg("precision"),
    "recipe": msg("export recipe"),
    "engine": msg("engine"),
    "revision": msg("revision of the weights"),
    "artifact_sha256": msg("artifact (sha256)"),
}
_TIMING_FIELDS = {
    "threads": msg("threads"),
    "prompt_tokens": msg("tokens of the prompt"),
    "reused_tokens": msg("of them reused"),
}


def _run_changes(was: ModelRun, now: ModelRun) -> Iterator[Change]:
    yield from _changed(was, now, _RUN_FIELDS)
    yield from _changed(was.timings, now.timings, _TIMING_FIELDS)


_MACHINE = {
    "cpu": msg("processor"),
    "cores": msg("cores"),
    "memory_limit_mb": msg("memory limit, MB"),
    "commit": msg("commit of the playground"),
}


def _environment_changes(was: Environment, now: Environment) -> Iterator[Change]:
    yield from _changed(was, now, _MACHINE)
    for name in sorted(was.versions.keys() | now.versions.keys()):
        if was.versions.get(name) != now.versions.get(name):
            yield Change(msg("version of {name}", name=name), was.versions.get(name, ""), now.versions.get(name, ""))


def _changed(was: Record, now: Record, names: dict[str, Translatable]) -> Iterator[Change]:
    """Fields that differ; what was not noted down then is not called changed."""
    for name, words in names.items():
        old, new = getattr(was, name), getattr(now, name)
        if old is not None and old != new:
            yield Change(words, _shown(old), _shown(new))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}"
    return "" if value is None else str(value)
