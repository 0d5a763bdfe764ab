"""Twin diff: one model in two variants, what each answers, and how far they are apart on the same text.

Both answer first, one after the other, as in any comparison. Then both are forced along one text, the answer of the
*reference* (the variant named first) behind the prompt as the reference reads it, and their next-token distributions
are compared at each of its tokens: by the models' own logits, without penalties, filters or temperature. The module
knows variants, answers and scores; it does not know how logits are made or how anything is shown.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from playground.catalog.kinds import has_encoder, read_json
from playground.config.settings import Settings
from playground.errors import PlaygroundError, RunError, Stopped, UsageError
from playground.experiments.admission import check_request
from playground.experiments.teacher_forcing import Divergence, Forced, TeacherForcing
from playground.experiments.token_diff import Difference, first_difference, same_vocabulary
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
from playground.workers.pool import Pool

if TYPE_CHECKING:
    from playground.catalog.entries import Catalog
    from playground.experiments.compare import Comparer, Running
    from playground.experiments.progress import LiveRun
    from playground.export import Preparer
    from playground.records import ModelSpec

_log = logging.getLogger(__name__)


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
        parting: None also where one of the answers had ended there.
        answer: Forced along the reference's answer.
        prompt: Forced along the prompt, where that was asked for.
        notes: What a reader should know.
    """

    comparison: str
    created_at: str
    request: Request
    environment: Environment
    reference: Side
    twin: Side
    common_tokens: int
    difference: Difference | None
    parting: Divergence | None
    answer: Forced
    prompt: Forced | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """Where a diff stands.

    Attributes:
        step: In words.
        progress: 0 to 1 within the step, None where unknown.
        lives: The two answers, as soon as they are asked for.
    """

    step: str
    progress: float | None = None
    lives: tuple[LiveRun, ...] = ()


class VariantDiffer:
    """Starts diffs; all share the machine through its queue."""

    def __init__(
        self, settings: Settings, catalog: Catalog, preparer: Preparer, pool: Pool, comparer: Comparer
    ) -> None:
        self._settings, self._catalog = settings, catalog
        self._machine = _Machine(settings, preparer, pool, comparer)
        self._running: weakref.WeakSet[DiffJob] = weakref.WeakSet()

    def start(
        self, request: Request, reference: str | Variant, twin: str | Variant, *, with_prompt: bool = False
    ) -> DiffJob:
        """Check what can be checked, then begin in the background.

        Args:
            reference: Its answer is the text both are forced along; divergence is measured from it.
            twin: Another variant of the same model.
            with_prompt: Force both along the prompt's own tokens too; they are read one at a time for that.

        Raises:
            UsageError: The request is wrong, or the two can't be twins; no work was begun.
        """
        pair = [self._catalog.resolve(str(name)) for name in (reference, twin)]
        notes = _related(pair)
        limits = self._settings.limits
        check_request(request, limits.max_new_tokens, limits.max_prompt_chars)
        # A cache left by an earlier prompt would make one of the two answers different work.
        diffing = DiffJob(replace(request, reuse=False), pair, with_prompt, notes, self._machine)
        self._running.add(diffing)
        diffing.begin()
        return diffing

    def close(self) -> None:
        """Stop every diff that is going on."""
        for diffing in tuple(self._running):
            diffing.stop()


@dataclass(frozen=True)
class _Machine:
    settings: Settings
    preparer: Preparer
    pool: Pool
    comparer: Comparer


@dataclass
class _Twin:
    """One of the two on its way."""

    load: LoadSpec
    view: PromptView
    spelling: DecodedTokens
    run: ModelRun | None = None
    ids: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return str(self.load.artifact.variant)


class DiffJob:
    """A diff that is going on. Every method may be called from any thread; made by ``TwinDiffer.start``."""

    def __init__(
        self,
        request: Request,
        pair: Sequence[tuple[ModelSpec, Variant]],
        with_prompt: bool,
        notes: list[str],
        machine: _Machine,
    ) -> None:
        self.request = request
        self._pair, self._with_prompt, self._notes, self._machine = pair, with_prompt, notes, machine
        self._stop = threading.Event()
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._progress = Progress("waiting for its turn")
        self._running: Running | None = None
        self._result: VariantDiff | PlaygroundError | None = None
        self.comparison: Comparison | None = None

    def begin(self) -> None:
        """Start the thread; called once."""
        threading.Thread(target=self._conduct, name="twin diff", daemon=True).start()

    def snapshot(self) -> Progress:
        """Where it stands now. Cheap enough for ten times a second."""
        with self._lock:
            running, progress = self._running, self._progress
        return replace(progress, lives=running.snapshot()) if running else progress

    def stop(self) -> None:
        """End it; ``result`` then raises ``Stopped``."""
        self._stop.set()
        with self._lock:
            running = self._running
        if running:
            running.stop()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; False if it did not come in time."""
        return self._done.wait(timeout)

    def result(self) -> VariantDiff:
        """Wait for the end.

        Raises:
            Stopped: It was stopped.
            PlaygroundError: One of the two failed, or they have different tokenizers; names the model.
        """
        self._done.wait()
        if isinstance(self._result, VariantDiff):
            return self._result
        assert self._result is not None
        raise self._result

    # -- the work -----------------------------------------------------------------------------------------------

    def _conduct(self) -> None:
        names = " and ".join(str(variant) for _, variant in self._pair)
        try:
            self._result = self._diff()
        except PlaygroundError as error:
            self._result = Stopped(f"The diff of {names} was stopped") if self._stop.is_set() else error
        except Exception as error:
            _log.exception("twin diff of %s", names)
            what = f"The diff of {names} failed: {type(error).__name__}: {error}"
            self._result = RunError(what, "This is a bug of the playground; please report it.")
        finally:
            self._done.set()

    def _diff(self) -> VariantDiff:
        loads = [self._prepared(spec, variant) for spec, variant in self._pair]
        with self._turn():
            reference, twin = (self._opened(load) for load in loads)
            self._check_tokens(reference, twin)
        comparison = self._answers()
        for side, run in zip((reference, twin), comparison.runs, strict=True):
            side.run, side.ids = run, run.token_ids or ()
        with self._turn():
            return self._compared(comparison, reference, twin)

    def _prepared(self, spec: ModelSpec, variant: Variant) -> LoadSpec:
        def tell(step: str, progress: float | None) -> None:
            self._tell(f"{variant}: {step}", progress)

        artifact = self._machine.preparer.prepare(variant, tell, self._stop.is_set)
        return LoadSpec(spec, artifact, self._machine.settings.threads)

    def _opened(self, load: LoadSpec) -> _Twin:
        self._tell(f"{load.artifact.variant}: loading")
        ask = self._machine.pool.ask
        view = ask(load, partial(protocol.inspect, request=self.request), self._stop.is_set)["view"]
        return _Twin(load, PromptView.from_json(view), self._spelt(load, ()))

    def _spelt(self, load: LoadSpec, ids: Sequence[int]) -> DecodedTokens:
        reply = self._machine.pool.ask(load, partial(protocol.decode_tokens, ids=ids), self._stop.is_set)
        return DecodedTokens.from_json(reply["decoded"])

    def _check_tokens(self, reference: _Twin, twin: _Twin) -> None:
        if not same_vocabulary(reference.spelling, twin.spelling):
            raise UsageError(
                f"{reference.name} and {twin.name} have different tokenizers: the same id is another token for each",
                "Only variants of one model can be compared token by token; `compare` shows any two side by side.",
            )
        if reference.name == twin.name:
            self._notes.append(f"Both ran as {reference.name}: nothing better could be made of one of them.")
        if reference.view.token_ids != twin.view.token_ids:
            self._notes.append(
                f"The two read this prompt as different tokens ({len(reference.view.token_ids):,} and "
                f"{len(twin.view.token_ids):,}): each answers its own, both are scored on the reference's."
            )

    def _answers(self) -> Comparison:
        """Both answers by an ordinary comparison, so that the figures are those of every other one."""
        self._tell("answering")
        running = self._machine.comparer.start(self.request, [variant for _, variant in self._pair], "fair")
        with self._lock:
            self._running = running
        if self._stop.is_set():
            running.stop()
        self.comparison = comparison = running.result()
        for run in comparison.runs:
            if run.error:
                raise RunError(run.error)
            if run.finish_reason == "stopped" or not run.token_ids:
                raise Stopped(f"{run.variant}: stopped before it had answered")
        return comparison

    def _compared(self, comparison: Comparison, reference: _Twin, twin: _Twin) -> VariantDiff:
        for side in (reference, twin):
            side.spelling = self._spelt(side.load, side.ids)
        difference = first_difference(reference.ids, reference.spelling, twin.ids, twin.spelling)
        home = self._machine.settings.home
        forcing = TeacherForcing(self._machine.pool, (reference.load, twin.load), home, self._stop.is_set, self._tell)
        ids = reference.view.token_ids
        answer, parting = forcing.along(ids, reference.ids, reference.spelling, "the answer", difference)
        prompt = None
        if self._with_prompt and has_encoder(read_json(Path(reference.load.artifact.path) / "config.json")):
            self._notes.append("An encoder reads the prompt as a whole: there are no next tokens in it to score.")
        elif self._with_prompt and len(ids) > 1:
            spelling = self._spelt(reference.load, ids[1:])
            prompt, _ = forcing.along(ids[:1], ids[1:], spelling, "the prompt")
        return VariantDiff(
            comparison=comparison.id,
            created_at=comparison.created_at,
            request=self.request,
            environment=comparison.environment,
            reference=_side(reference),
            twin=_side(twin),
            common_tokens=difference.position if difference else len(reference.ids),
            difference=difference,
            parting=parting,
            answer=answer,
            prompt=prompt,
            notes=tuple(self._notes),
        )

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        def wait(ahead: int) -> None:
            self._tell(f"{ahead} comparison{'s' if ahead > 1 else ''} ahead")

        with self._machine.pool.turns.hold(self._stop.is_set, wait) as mine:
            if not mine:
                raise Stopped("The diff was stopped")
            with self._machine.preparer.paused():
                yield

    def _tell(self, step: str, progress: float | None = None) -> None:
        with self._lock:
            self._progress = Progress(step, progress)


def _side(twin: _Twin) -> Side:
    assert twin.run
    return Side(twin.run, twin.load.artifact.size_bytes, twin.spelling.pieces)


def _related(pair: Sequence[tuple[ModelSpec, Variant]]) -> list[str]:
    """What to note about two variants that may be one model's.

    Raises:
        UsageError: They can't be.
    """
    (one, first), (other, second) = pair
    if first == second:
        raise UsageError(f"{first} is named twice", "Name two variants of the model, such as onnx-int8 and onnx-fp32.")
    for spec, variant in pair:
        if spec.remote:
            raise UsageError(
                f"{variant} is served elsewhere: a server gives texts, not logits", "Choose a variant that runs here."
            )
    if first.model == second.model:
        return []
    known = [entry.upstream.lower() for entry in (one, other) if entry.upstream]
    if len(known) == 2 and known[0] != known[1]:
        raise UsageError(
            f"{first} and {second} are two models ({one.upstream} and {other.upstream})",
            "A twin diff takes two variants of one model; `compare` shows any two side by side.",
        )
    if len(known) < 2:
        return ["Nothing here says that the two are the same model; they are compared because their tokens are."]
    return []
