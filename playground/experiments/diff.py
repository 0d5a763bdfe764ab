"""Variant diff: one model in two variants, what each answers, and how far they are apart on the same text.

Both answer first, one after the other, as in any comparison. Then both are forced along one text, the answer of the
*reference* (the variant named first) behind the prompt as the reference reads it, and the *candidate*'s next-token
distributions are compared with the reference's at each of its tokens: by the models' own logits, without penalties,
filters or temperature. The module knows variants, answers and scores; it does not know how logits are made or how
anything is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from playground.catalog.kinds import has_encoder
from playground.catalog.template_files import read_json
from playground.errors import RunError, Stopped, UsageError
from playground.experiments.admission import check_request
from playground.experiments.base import Job, Machine
from playground.experiments.teacher_forcing import Divergence, Forced, TeacherForcing
from playground.experiments.token_diff import Difference, first_difference, same_vocabulary
from playground.messages import Translatable, msg
from playground.records import (
    Comparison,
    DecodedTokens,
    Environment,
    LoadSpec,
    ModelRun,
    PromptView,
    Record,
    Request,
    Variant,
)
from playground.workers import protocol

if TYPE_CHECKING:
    from playground.experiments.compare import Comparer
    from playground.records import ModelSpec


@dataclass(frozen=True)
class Side(Record):
    """One of the two.

    Attributes:
        run: Its answer and figures. They come from one run each: repeat them before they rank anything.
        size_bytes: Of its artifact on disk.
        pieces: The answer's text by token.
    """

    run: ModelRun
    size_bytes: int
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class VariantDiff(Record):
    """A finished diff.

    Attributes:
        comparison: Id under which the two answers can be kept.
        common_tokens: How many tokens the answers share from the start.
        difference: Where they part (``one`` is the reference's); None where they are the same.
        divergence: What each held for likely there; None also where one of the answers had ended.
        answer: Forced along the reference's answer.
        prompt: Forced along the prompt, where that was asked for.
        notes: What a reader should know.
    """

    comparison: str
    created_at: str
    request: Request
    environment: Environment
    reference: Side
    candidate: Side
    common_tokens: int
    difference: Difference | None
    divergence: Divergence | None
    answer: Forced
    prompt: Forced | None = None
    notes: tuple[Translatable, ...] = ()

    def answers(self) -> Comparison:
        """The two answers, as a comparison that can be kept."""
        runs = (self.reference.run, self.candidate.run)
        return Comparison(self.comparison, self.created_at, self.request, runs, self.environment, "fair")


class VariantDiffer:
    """Starts diffs; all share the machine through its queue."""

    def __init__(self, machine: Machine, comparer: Comparer) -> None:
        self._machine, self._comparer = machine, comparer

    def start(
        self, request: Request, reference: str | Variant, candidate: str | Variant, *, with_prompt: bool = False
    ) -> DiffJob:
        """Check what can be checked, then begin in the background.

        Args:
            reference: Its answer is the text both are forced along; divergence is measured from it.
            candidate: Another variant of the same model.
            with_prompt: Force both along the prompt's own tokens too; they are read one at a time for that.

        Raises:
            UsageError: The request is wrong, or the two can't be compared by tokens; no work was begun.
        """
        pair = [self._machine.catalog.resolve(str(name)) for name in (reference, candidate)]
        notes = _related(pair)
        check_request(request, self._machine.settings.limits)
        # A cache left by an earlier prompt would make one of the two answers different work.
        diffing = DiffJob(
            self._machine, self._comparer, replace(request, reuse=False), pair, with_prompt=with_prompt, notes=notes
        )
        self._machine.begin(diffing)
        return diffing


@dataclass
class _Open:
    """One of the two on its way."""

    load: LoadSpec
    view: PromptView
    decoded: DecodedTokens
    run: ModelRun | None = None
    ids: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return str(self.load.artifact.variant)


class DiffJob(Job[VariantDiff]):
    """A diff that is going on. Every method may be called from any thread; made by ``VariantDiffer.start``."""

    def __init__(
        self,
        machine: Machine,
        comparer: Comparer,
        request: Request,
        pair: Sequence[tuple[ModelSpec, Variant]],
        *,
        with_prompt: bool,
        notes: list[Translatable],
    ) -> None:
        (_, reference), (_, candidate) = pair
        super().__init__(
            machine, msg("The diff of {reference} and {candidate}", reference=reference, candidate=candidate)
        )
        self.request = request
        self._comparer, self._pair, self._with_prompt, self._notes = comparer, pair, with_prompt, notes

    def _run(self) -> VariantDiff:
        loads = [self._prepared(spec, variant) for spec, variant in self._pair]
        with self._turn():
            reference, candidate = (self._opened(load) for load in loads)
            self._check_tokens(reference, candidate)
        comparison = self._answers()
        for side, run in zip((reference, candidate), comparison.runs, strict=True):
            side.run, side.ids = run, run.token_ids or ()
        with self._turn():
            return self._compared(comparison, reference, candidate)

    def _prepared(self, spec: ModelSpec, variant: Variant) -> LoadSpec:
        return LoadSpec(spec, self._prepare(variant), self._machine.settings.threads)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._hold() as mine:
            if not mine:
                raise Stopped(msg("{subject} was stopped", subject=self.subject))
            yield

    def _opened(self, load: LoadSpec) -> _Open:
        self._tell(msg("{model}: loading", model=load.artifact.variant))
        ask = self._machine.pool.ask
        view = ask(load, partial(protocol.inspect, request=self.request), self._stop.is_set)["view"]
        return _Open(load, PromptView.from_json(view), self._decoded(load, ()))

    def _decoded(self, load: LoadSpec, ids: Sequence[int]) -> DecodedTokens:
        reply = self._machine.pool.ask(load, partial(protocol.decode_tokens, ids=ids), self._stop.is_set)
        return DecodedTokens.from_json(reply["decoded"])

    def _check_tokens(self, reference: _Open, candidate: _Open) -> None:
        if not same_vocabulary(reference.decoded, candidate.decoded):
            raise UsageError(
                msg(
                    "{reference} and {candidate} have different tokenizers: the same id is another token for each",
                    reference=reference.name,
                    candidate=candidate.name,
                ),
                msg("Only variants of one model can be compared token by token; `compare` shows any two side by side."),
            )
        if reference.name == candidate.name:
            self._notes.append(
                msg("Both ran as {model}: nothing better could be made of one of them.", model=reference.name)
            )
        one, other = reference.view.token_ids, candidate.view.token_ids
        if one != other:
            self._notes.append(
                msg(
                    "The two read this prompt as different tokens ({one:,} and {other:,}): each answers its own, both "
                    "are scored on the reference's.",
                    one=len(one),
                    other=len(other),
                )
            )

    def _answers(self) -> Comparison:
        """Both answers by an ordinary comparison, so that the figures are those of every other one."""
        self._tell(msg("answering"))
        running = self._comparer.start(self.request, [variant for _, variant in self._pair], "fair")
        comparison = self._wait_for(running)
        for run in comparison.runs:
            if run.error:
                raise RunError(run.error)
            if run.finish_reason == "stopped" or not run.token_ids:
                raise Stopped(msg("{model}: stopped before it had answered", model=run.variant))
        return comparison

    def _compared(self, comparison: Comparison, reference: _Open, candidate: _Open) -> VariantDiff:
        for side in (reference, candidate):
            side.decoded = self._decoded(side.load, side.ids)
        difference = first_difference(reference.ids, reference.decoded, candidate.ids, candidate.decoded)
        loads, home = (reference.load, candidate.load), self._machine.settings.home
        forcing = TeacherForcing(self._machine.pool, loads, home, self._stop.is_set, self._tell)
        ids = reference.view.token_ids
        answer, divergence = forcing.along(ids, reference.ids, reference.decoded, msg("the answer"), difference)
        prompt = None
        config = Path(reference.load.artifact.path) / "config.json"
        if self._with_prompt and has_encoder(read_json(config, or_empty=True)):
            self._notes.append(msg("An encoder reads the prompt as a whole: there are no next tokens in it to score."))
        elif self._with_prompt and len(ids) > 1:
            decoded = self._decoded(reference.load, ids[1:])
            prompt, _ = forcing.along(ids[:1], ids[1:], decoded, msg("the prompt"))
        return VariantDiff(
            comparison=comparison.id,
            created_at=comparison.created_at,
            request=self.request,
            environment=comparison.environment,
            reference=_side(reference),
            candidate=_side(candidate),
            common_tokens=difference.position if difference else len(reference.ids),
            difference=difference,
            divergence=divergence,
            answer=answer,
            prompt=prompt,
            notes=tuple(self._notes),
        )


def _side(opened: _Open) -> Side:
    assert opened.run
    return Side(opened.run, opened.load.artifact.size_bytes, opened.decoded.pieces)


def _related(pair: Sequence[tuple[ModelSpec, Variant]]) -> list[Translatable]:
    """What to note about two variants that may be one model's.

    Raises:
        UsageError: They can't be.
    """
    (one, first), (other, second) = pair
    if first == second:
        raise UsageError(
            msg("{variant} is named twice", variant=first),
            msg("Name two variants of the model, such as onnx-int8 and onnx-fp32."),
        )
    for spec, variant in pair:
        if spec.remote:
            raise UsageError(
                msg("{variant} is served elsewhere: a server gives texts, not logits", variant=variant),
                msg("Choose a variant that runs here."),
            )
    if first.model == second.model:
        return []
    known = [entry.upstream.lower() for entry in (one, other) if entry.upstream]
    if len(known) == 2 and known[0] != known[1]:
        raise UsageError(
            msg(
                "{first} and {second} are two models ({upstream} and {other})",
                first=first,
                second=second,
                upstream=one.upstream,
                other=other.upstream,
            ),
            msg("A diff takes two variants of one model; `compare` shows any two side by side."),
        )
    if len(known) < 2:
        return [msg("Nothing here says that the two are the same model; they are compared because their tokens are.")]
    return []
