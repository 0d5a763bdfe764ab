"""Measure: several models on one prompt, repeated in rotated order, each answer of the same length.

A measurement holds the machine's turn from its first warm-up to its last answer, so whoever else wants to run
something waits. The module does not know the screen or the database, or what is made of the figures.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from playground.config.settings import Settings
from playground.errors import PlaygroundError, UsageError
from playground.experiments.admission import check_request
from playground.experiments.base import tokenizer_words
from playground.records import Artifact, Cancelled, LoadSpec, ModelRun, ModelSpec, Request, Variant
from playground.results.figures import QUANTITIES, Figure, Measured, Measurement, characters_per_s, figure
from playground.system import contention
from playground.system.contention import CpuContention
from playground.system.environment import environment
from playground.workers.pool import Pool

if TYPE_CHECKING:
    from playground.catalog.entries import Catalog
    from playground.export import Preparer

Progress = Callable[[str, float | None], None]
"""What is being done, and the share of answers given so far (0 to 1) where that is known."""

REPEATS, MAX_REPEATS = 5, 50
LOOK_S, NAP_S = 1.0, 0.05
"""How long the idle machine is watched, and how often Stop is looked for meanwhile."""
STOPPED = "Stopped before it was measured"

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Lane:
    """One model of a measurement; with an error, it is out."""

    variant: Variant
    spec: ModelSpec
    load: LoadSpec | None = None
    load_s: float | None = None
    runs: list[ModelRun] = field(default_factory=list)
    reloads: int = 0
    disturbance: CpuContention = field(default_factory=CpuContention)
    error: str | None = None


class Measurer:
    """Takes measurements; those that share a pool with comparisons share the machine through its queue."""

    def __init__(self, settings: Settings, catalog: Catalog, preparer: Preparer, pool: Pool) -> None:
        self._settings, self._catalog, self._preparer, self._pool = settings, catalog, preparer, pool

    def run(
        self,
        request: Request,
        variants: Sequence[str | Variant],
        repeats: int = REPEATS,
        progress: Progress = lambda step, share: None,
        cancelled: Cancelled = lambda: False,
    ) -> Measurement:
        """Measure, and wait for it.

        Args:
            request: Its ``max_new_tokens`` is the length of every answer; stop strings and reuse are left out.
            variants: ``MODEL`` or ``MODEL@RUNTIME-PRECISION``, in the order of the result.
            repeats: Answers of each model that count, after one that does not.
            progress: Called by this thread, at least whenever another model's turn begins.
            cancelled: After it says True the measurement ends within 2 s, with the rounds it has.

        Raises:
            UsageError: The request, a model or the number is wrong; no work was begun.
        """
        if isinstance(repeats, bool) or not 1 <= repeats <= MAX_REPEATS:
            raise UsageError(f"{repeats} repeats are asked for", f"Choose from 1 to {MAX_REPEATS}.")
        lanes = self._lanes(request, variants)
        request = replace(request, min_new_tokens=request.max_new_tokens, stop=(), reuse=False)
        return _Session(request, repeats, lanes, progress, cancelled).run(
            self._preparer, self._pool, self._settings.threads
        )

    def _lanes(self, request: Request, variants: Sequence[str | Variant]) -> list[_Lane]:
        limits = self._settings.limits
        if not variants:
            raise UsageError("No model is chosen", "Choose at least one.")
        if len(variants) > limits.max_models:
            raise UsageError(
                f"{len(variants)} models are too many for one measurement", f"Choose at most {limits.max_models}."
            )
        check_request(request, limits.max_new_tokens, limits.max_prompt_chars)
        lanes: list[_Lane] = []
        for wanted in variants:
            spec, variant = self._catalog.resolve(str(wanted))
            if any(lane.variant == variant for lane in lanes):
                raise UsageError(f"{variant} is chosen twice", "Choose each variant once.")
            lanes.append(_Lane(variant, spec))
        return lanes


@dataclass
class _Session:
    """One measurement on its way."""

    request: Request
    repeats: int
    lanes: list[_Lane]
    progress: Progress
    cancelled: Cancelled
    before: CpuContention = field(default_factory=CpuContention)
    answers: int = 0

    def run(self, preparer: Preparer, pool: Pool, threads: int) -> Measurement:
        created_at = datetime.now(UTC)
        there = environment()  # read before anything is measured: it asks git and the package metadata
        for lane in self.lanes:
            self._prepare(lane, preparer, threads)
        with pool.turns.hold(self.cancelled, self._tell_wait) as mine:
            if mine and self._left():
                with preparer.paused():
                    self._measure(pool)
        return Measurement(
            id=f"{created_at:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}",
            created_at=created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            request=self.request,
            repeats=self.repeats,
            models=tuple(self._measured(lane) for lane in self.lanes),
            environment=there,
            warnings=tuple(self._warnings()),
            other_cpu_cores=self.before.cores,
        )

    # -- the work -----------------------------------------------------------------------------------------------

    def _left(self) -> list[_Lane]:
        return [] if self.cancelled() else [lane for lane in self.lanes if lane.error is None]

    def _prepare(self, lane: _Lane, preparer: Preparer, threads: int) -> None:
        def tell(step: str, share: float | None) -> None:
            self.progress(f"{lane.variant}: {step}", share)

        try:
            artifact = preparer.prepare(lane.variant, tell, self.cancelled)
        except Exception as error:
            self._fail(lane, error)
        else:
            lane.load = LoadSpec(lane.spec, artifact, threads)

    def _tell_wait(self, ahead: int) -> None:
        self.progress(f"waiting for the machine: {ahead} ahead", None)

    def _measure(self, pool: Pool) -> None:
        """A look at the idle machine, a warm-up each, then the rounds; each begins with another model."""
        self._watch()
        for lane in self._left():
            self._tell(lane, "warm-up")
            run = self._answer(pool, lane)
            if run and run.timings.cold:
                lane.load_s = run.timings.load_s
        for number in range(self.repeats):
            first = number % len(self.lanes)
            for lane in self.lanes[first:] + self.lanes[:first]:
                if lane in self._left():
                    self._tell(lane, f"repeat {number + 1} of {self.repeats}")
                    self._repeat(pool, lane)

    def _watch(self) -> None:
        self.progress("looking whether the machine is idle", None)
        before, end = contention.read(), time.monotonic() + LOOK_S
        while time.monotonic() < end and not self.cancelled():
            time.sleep(NAP_S)
        self.before = contention.between(before, contention.read())

    def _repeat(self, pool: Pool, lane: _Lane) -> None:
        """One answer that counts. If the worker had to be loaded again (the models may not fit into memory together),
        that answer was its warm-up, and another one counts.
        """
        before = contention.read()
        run = self._answer(pool, lane)
        if run and run.timings.cold:
            lane.reloads += 1
            before = contention.read()
            run = self._answer(pool, lane)
        if run:
            lane.disturbance += contention.between(before, contention.read())
            lane.runs.append(run)

    def _answer(self, pool: Pool, lane: _Lane) -> ModelRun | None:
        """One answer; None if there is none that counts, because it failed or was stopped."""
        assert lane.load
        run: ModelRun | None = None
        try:
            for event in pool.generate(lane.load, self.request, self.cancelled):
                run = event.run or run
        except Exception as error:
            self._fail(lane, error)
            return None
        self.answers += 1
        if run is None or run.error:
            lane.error = (run and run.error) or f"{lane.variant}: it ended without an answer."
            return None
        return None if run.finish_reason == "stopped" else run

    def _fail(self, lane: _Lane, error: Exception) -> None:
        if isinstance(error, PlaygroundError):
            lane.error = STOPPED + "." if self.cancelled() else str(error)
        else:
            _log.error("%s", lane.variant, exc_info=error)
            what = f"{lane.variant}: {type(error).__name__}: {error}"
            lane.error = f"{what}. This is a bug of the playground; please report it."

    def _tell(self, lane: _Lane, step: str) -> None:
        every = len(self.lanes) * (self.repeats + 1)
        self.progress(f"{lane.variant}: {step}", min(1.0, self.answers / every))

    # -- the result ---------------------------------------------------------------------------------------------

    def _measured(self, lane: _Lane) -> Measured:
        artifact = lane.load.artifact if lane.load else None
        if lane.error or not lane.runs or artifact is None:
            return Measured(lane.variant, error=lane.error or STOPPED + ".")
        run = lane.runs[-1]
        return Measured(
            variant=lane.variant,
            runtime=run.runtime,
            precision=run.precision,
            recipe=artifact.recipe,
            engine=run.engine,
            fidelity=artifact.fidelity,
            threads=run.timings.threads,
            prompt_tokens=run.timings.prompt_tokens,
            output_tokens=_one({run.timings.output_tokens for run in lane.runs}),
            figures=figures(lane.runs),
            notes=tuple(self._notes(lane, artifact)),
            tokenizer=tokenizer_words(lane.spec, artifact),
            memory_method=run.timings.memory_method,
            load_s=lane.load_s,
            other_cpu_cores=lane.disturbance.cores,
        )

    def _notes(self, lane: _Lane, artifact: Artifact) -> list[str]:
        notes = list(dict.fromkeys([*artifact.fallbacks, *(note for run in lane.runs for note in run.warnings)]))
        lengths = sorted({run.timings.output_tokens or 0 for run in lane.runs})
        if lengths != [self.request.max_new_tokens]:
            said = " to ".join(map(str, dict.fromkeys((lengths[0], lengths[-1]))))
            unit = lane.runs[0].timings.unit
            notes.append(
                f"Its answers have {said} {unit}s instead of {self.request.max_new_tokens}: unequal work, not ranked."
            )
        if lane.reloads:
            notes.append(
                f"Loaded again {lane.reloads} time{'s' * (lane.reloads > 1)}, as its memory was wanted by others; each "
                "time an answer that does not count came first."
            )
        if len(lane.runs) < self.repeats:
            notes.append(f"Stopped after {len(lane.runs)} of {self.repeats} repeats.")
        return notes

    def _warnings(self) -> list[str]:
        warnings = []
        during = sum((lane.disturbance for lane in self.lanes), CpuContention())
        if self.before.busy:
            warnings.append(f"The machine was busy before: other programs used {_share(self.before)}.")
        if during.busy:
            warnings.append(f"The machine was busy: other programs used {_share(during)} while figures were taken.")
        if during.throttled_s > 0:
            warnings.append(f"The container's CPU quota held threads back for {during.throttled_s:.2f} s in all.")
        if self.cancelled():
            warnings.append("Stopped before the last repeat.")
        return warnings


def figures(runs: Sequence[ModelRun]) -> dict[str, Figure]:
    """Quartiles of each quantity that every one of the runs has."""
    made = {}
    for name, quantity in QUANTITIES.items():
        values = [_value(run, name) for run in runs]
        known = [value for value in values if value is not None]
        if known and len(known) == len(values):
            chunks = name == "decode_tok_s" and any(run.timings.unit == "chunk" for run in runs)
            made[name] = figure(name, "chunks/s" if chunks else quantity.unit, known)
    return made


def _value(run: ModelRun, name: str) -> float | None:
    if name == "decode_char_s":
        return characters_per_s(run.text, run.timings)
    value: float | None = getattr(run.timings, name)
    return value


def _one(values: set[int | None]) -> int | None:
    """The value where all agree."""
    return next(iter(values)) if len(values) == 1 else None


def _share(disturbance: CpuContention) -> str:
    cores = disturbance.cores or 0.0
    return f"{cores * 100:.0f} % of a core" if cores < 1 else f"{cores:.1f} cores"
