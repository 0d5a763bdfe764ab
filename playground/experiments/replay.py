"""Same again? A stored comparison run once more, and for each model whether it gave the same answer.

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
from playground.experiments.token_diff import Difference, first_difference, first_text_difference
from playground.records import Cancelled, Comparison, DecodedTokens, Environment, LoadSpec, ModelRun, Record, Variant
from playground.workers import protocol
from playground.workers.pool import Pool

if TYPE_CHECKING:
    from playground.catalog.entries import Catalog
    from playground.experiments.compare import Comparer, Running
    from playground.export import Preparer

Sameness = Literal["identical", "different", "unknown"]


@dataclass(frozen=True)
class Change(Record):
    """Something that is no longer as it was; "" where it is or was absent."""

    what: str
    was: str
    now: str


@dataclass(frozen=True)
class ModelAgain(Record):
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
    detail: str = ""
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Again(Record):
    """A stored comparison and its rerun.

    Attributes:
        stored: Id of the stored one.
        created_at: When it was made.
        changes: Of the machine and the software.
    """

    stored: str
    created_at: str
    rerun: Comparison
    models: tuple[ModelAgain, ...]
    changes: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        """Whether every model answered as before."""
        return all(model.verdict == "identical" for model in self.models)


class Replayer:
    """Runs stored comparisons again and compares."""

    def __init__(self, catalog: Catalog, preparer: Preparer, pool: Pool, comparer: Comparer) -> None:
        self._catalog, self._preparer, self._pool, self._comparer = catalog, preparer, pool, comparer

    def start(self, stored: Comparison) -> Running:
        """The same request, seed, variants and mode, in the background. Models that are gone are left out.

        Raises:
            UsageError: It can't be repeated; nothing was begun.
        """
        request = stored.request
        if request.temperature > 0 and request.seed is None:
            raise UsageError(
                f"{stored.id} drew its tokens with a random seed that was not kept, so it can't be repeated",
                "Set a seed, or temperature 0, for answers that can be.",
            )
        known = [run.variant for run in stored.runs if not self._missing(run.variant)]
        if not known:
            reasons = " ".join(self._missing(run.variant) for run in stored.runs)
            raise UsageError(f"None of the models of {stored.id} is known any more", reasons)
        return self._comparer.start(request, known, stored.mode)

    def report(self, stored: Comparison, rerun: Comparison, cancelled: Cancelled = lambda: False) -> Again:
        """Compare a stored comparison with its finished rerun. Waits for a turn only where a difference is spelt out,
        since that may need the model loaded.

        Raises:
            Stopped: Called off while waiting.
        """
        now = {str(run.variant): run for run in rerun.runs}
        models = []
        for run in stored.runs:
            if again := now.get(str(run.variant)):
                models.append(self._model(run, again, cancelled))
            else:
                models.append(ModelAgain(run.variant, "unknown", detail=self._missing(run.variant)))
        changes = tuple(_environment_changes(stored.environment, rerun.environment))
        return Again(stored.id, stored.created_at, rerun, tuple(models), changes)

    def _missing(self, variant: Variant) -> str:
        """Why a variant can't be run any more, "" if it can."""
        try:
            self._catalog.resolve(str(variant))
        except PlaygroundError as error:
            return str(error)
        return ""

    def _model(self, was: ModelRun, now: ModelRun, cancelled: Cancelled) -> ModelAgain:
        told = ModelAgain(was.variant, "unknown", changes=tuple(_run_changes(was, now)))
        for run, when in ((was, "then"), (now, "now")):
            if run.error:
                return replace(told, detail=f"It failed {when}: {run.error}")
        if now.finish_reason == "stopped":
            return replace(told, detail="It was stopped now.")
        cut = was.finish_reason == "stopped"
        if cut:
            told = replace(told, detail="The stored run was stopped: compared as far as it went.")
        if was.token_ids is None or now.token_ids is None:
            reason = "Only texts are known of a model served elsewhere."
            if now.token_ids is not None:
                reason = "It was stored before token ids were: compared by text."
            told = replace(told, compared="text", detail=f"{reason} {told.detail}".strip())
            found = first_text_difference(was.text, now.text[: len(was.text)] if cut else now.text)
            return _judged(told, len(was.text), found)
        ids = now.token_ids[: len(was.token_ids)] if cut else now.token_ids
        if ids == was.token_ids:
            # The same tokens may be spelt otherwise by another version of the tokenizer.
            return _judged(told, len(ids), None if cut else first_text_difference(was.text, now.text))
        spelt = self._spelt(now, (was.token_ids, ids), cancelled)
        return _judged(told, 0, first_difference(was.token_ids, spelt[0], ids, spelt[1]))

    def _spelt(self, run: ModelRun, answers: Sequence[tuple[int, ...]], cancelled: Cancelled) -> list[DecodedTokens]:
        """Both answers by the tokenizer of now. A model that can't tell any more leaves the bare ids."""
        spec, variant = self._catalog.resolve(str(run.variant))
        try:
            with self._pool.turns.hold(cancelled, lambda _: None) as mine:
                if not mine:
                    raise Stopped("Stopped")
                artifact = self._preparer.prepare(variant, lambda *_: None, cancelled)
                load = LoadSpec(spec, artifact, run.timings.threads or 1)
                return list(self._ask(load, answers, cancelled))
        except Stopped:
            raise
        except PlaygroundError:
            names = [tuple(f"<{token}>" for token in ids) for ids in answers]
            return [DecodedTokens(name, name, ()) for name in names]

    def _ask(self, load: LoadSpec, answers: Sequence[tuple[int, ...]], cancelled: Cancelled) -> Iterator[DecodedTokens]:
        for ids in answers:
            reply = self._pool.ask(load, partial(protocol.decode_tokens, ids=ids), cancelled)
            yield DecodedTokens.from_json(reply["decoded"])


def _judged(told: ModelAgain, whole: int, found: Difference | None) -> ModelAgain:
    """``whole``: how much is the same where nothing was ``found`` to differ."""
    if found is None:
        return replace(told, verdict="identical", count=whole)
    return replace(told, verdict="different", count=found.position, difference=found)


_RUN_FIELDS = {
    "runtime": "runtime",
    "precision": "precision",
    "recipe": "export recipe",
    "engine": "engine",
    "revision": "revision of the weights",
    "artifact_sha256": "artifact (sha256)",
}
_TIMING_FIELDS = {"threads": "threads", "prompt_tokens": "tokens of the prompt", "reused_tokens": "of them reused"}


def _run_changes(was: ModelRun, now: ModelRun) -> Iterator[Change]:
    yield from _changed(was, now, _RUN_FIELDS)
    yield from _changed(was.timings, now.timings, _TIMING_FIELDS)


_MACHINE = {
    "cpu": "processor",
    "cores": "cores",
    "memory_limit_mb": "memory limit, MB",
    "commit": "commit of the playground",
}


def _environment_changes(was: Environment, now: Environment) -> Iterator[Change]:
    yield from _changed(was, now, _MACHINE)
    for name in sorted(was.versions.keys() | now.versions.keys()):
        if was.versions.get(name) != now.versions.get(name):
            yield Change(f"version of {name}", was.versions.get(name, ""), now.versions.get(name, ""))


def _changed(was: Record, now: Record, names: dict[str, str]) -> Iterator[Change]:
    """Fields that differ; what was not noted down then is not called changed."""
    for name, words in names.items():
        old, new = getattr(was, name), getattr(now, name)
        if old is not None and old != new:
            yield Change(words, _shown(old), _shown(new))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}"
    return "" if value is None else str(value)
