"""Measure: several models on one prompt, repeated in rotated order, each answer of the same length.

A measurement holds the machine's turn from its first warm-up to its last answer, so whoever else wants to run
something waits. The module does not know the screen or the database, or what is made of the figures.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from playground.catalog.tokenizer_source import tokenizer_words
from playground.errors import PlaygroundError, UsageError
from playground.experiments.base import Job, Machine, failure
from playground.messages import Translatable, foreign, msg, plural
from playground.records import Artifact, LoadSpec, ModelRun, ModelSpec, Request, Variant
from playground.results.figures import (
    QUANTITIES,
    Figure,
    Measured,
    Measurement,
    characters_per_s,
    figure,
    share_of_cores,
)
from playground.system import contention
from playground.system.contention import CpuContention
from playground.system.environment import environment

REPEATS, MAX_REPEATS = 5, 50
LOOK_S, NAP_S = 1.0, 0.05
"""How long the idle machine is watched, and how often Stop is looked for meanwhile."""
STOPPED = msg("Stopped before it was measured.")


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
    error: Translatable | None = None


class Measurer:
    """Starts measurements; those that share a machine with comparisons share it through its queue."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def start(self, request: Request, variants: Sequence[str | Variant], repeats: int = REPEATS) -> BenchmarkJob:
        """Check everything, then begin in the background.

        Args:
            request: Its ``max_new_tokens`` is the length of every answer; stop strings, schema, logprobs and reuse are
                left out.
            variants: ``MODEL`` or ``MODEL@RUNTIME-PRECISION``, in the order of the result.
            repeats: Answers of each model that count, after one that does not.

        Raises:
            UsageError: The request, a model or the number is wrong; no work was begun.
        """
        if isinstance(repeats, bool) or not 1 <= repeats <= MAX_REPEATS:
            raise UsageError(
                msg("{repeats} repeats are asked for", repeats=repeats),
                msg("Choose from 1 to {most}.", most=MAX_REPEATS),
            )
        chosen = self._machine.check(request, variants, msg("measurement"))
        freed = replace(request, stop=(), reuse=False, json_schema="", logprobs=None)
        request = replace(freed, min_new_tokens=request.max_new_tokens)
        measuring = BenchmarkJob(self._machine, request, repeats, [_Lane(variant, spec) for spec, variant in chosen])
        self._machine.begin(measuring)
        return measuring


class BenchmarkJob(Job[Measurement]):
    """A measurement that is going on; made by ``Measurer.start``.

    It always has a result: a model that fails says why, and after a stop there are the rounds until then.
    """

    def __init__(self, machine: Machine, request: Request, repeats: int, lanes: list[_Lane]) -> None:
        super().__init__(machine, msg("The measurement"))
        self.request, self.repeats = request, repeats
        self._lanes = lanes
        self._before = CpuContention()
        self._answers = 0

    def _run(self) -> Measurement:
        there = environment()  # read before anything is measured: it asks git and the package metadata
        for lane in self._lanes:
            self._open(lane)
        with self._hold() as mine:
            if mine and self._left():
                self._measure()
        return Measurement(
            id=self.id,
            created_at=self._created_words(),
            request=self.request,
            repeats=self.repeats,
            models=tuple(self._measured(lane) for lane in self._lanes),
            environment=there,
            warnings=tuple(self._warnings()),
            other_cpu_cores=self._before.cores,
        )

    # -- the work -----------------------------------------------------------------------------------------------

    def _left(self) -> list[_Lane]:
        return [] if self._stop.is_set() else [lane for lane in self._lanes if lane.error is None]

    def _open(self, lane: _Lane) -> None:
        try:
            lane.load = LoadSpec(lane.spec, self._prepare(lane.variant), self._machine.settings.threads)
        except Exception as error:
            self._fail(lane, error)

    def _measure(self) -> None:
        """A look at the idle machine, a warm-up each, then the rounds; each begins with another model."""
        self._watch()
        for lane in self._left():
            self._tell_of(lane, msg("warm-up"))
            run = self._answer(lane)
            if run and run.timings.cold:
                lane.load_s = run.timings.load_s
        for number in range(self.repeats):
            first = number % len(self._lanes)
            for lane in self._lanes[first:] + self._lanes[:first]:
                if lane in self._left():
                    self._tell_of(lane, msg("repeat {number} of {repeats}", number=number + 1, repeats=self.repeats))
                    self._repeat(lane)

    def _watch(self) -> None:
        self._tell(msg("looking whether the machine is idle"))
        before, end = contention.read(), time.monotonic() + LOOK_S
        while time.monotonic() < end and not self._stop.is_set():
            time.sleep(NAP_S)
        self._before = contention.between(before, contention.read())

    def _repeat(self, lane: _Lane) -> None:
        """One answer that counts. If the worker had to be loaded again (the models may not fit into memory together),
        that answer was its warm-up, and another one counts.
        """
        before = contention.read()
        run = self._answer(lane)
        if run and run.timings.cold:
            lane.reloads += 1
            before = contention.read()
            run = self._answer(lane)
        if run:
            lane.disturbance += contention.between(before, contention.read())
            lane.runs.append(run)

    def _answer(self, lane: _Lane) -> ModelRun | None:
        """One answer; None if there is none that counts, because it failed or was stopped."""
        assert lane.load
        run: ModelRun | None = None
        try:
            for event in self._machine.pool.generate(lane.load, self.request, self._stop.is_set):
                run = event.run or run
        except Exception as error:
            self._fail(lane, error)
            return None
        self._answers += 1
        if run is None or run.error:
            lane.error = msg("{model}: it ended without an answer.", model=lane.variant)
            if run and run.error:
                lane.error = foreign(run.error)
            return None
        return None if run.finish_reason == "stopped" else run

    def _fail(self, lane: _Lane, error: Exception) -> None:
        is_ours = not isinstance(error, PlaygroundError)
        stopped = self._stop.is_set() and not is_ours
        lane.error = STOPPED if stopped else failure(error, lane.variant).message

    def _tell_of(self, lane: _Lane, step: Translatable) -> None:
        every = len(self._lanes) * (self.repeats + 1)
        self._tell(msg("{model}: {step}", model=lane.variant, step=step), min(1.0, self._answers / every))

    # -- the result ---------------------------------------------------------------------------------------------

    def _measured(self, lane: _Lane) -> Measured:
        artifact = lane.load.artifact if lane.load else None
        if lane.error or not lane.runs or artifact is None:
            return Measured(lane.variant, error=lane.error or STOPPED)
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

    def _notes(self, lane: _Lane, artifact: Artifact) -> list[Translatable]:
        said = [*artifact.fallbacks, *(note for run in lane.runs for note in run.warnings)]
        notes = list(map(foreign, dict.fromkeys(said)))
        lengths = sorted({run.timings.output_tokens or 0 for run in lane.runs})
        if lengths != [self.request.max_new_tokens]:
            notes.append(self._unequal(lengths, chunks=lane.runs[0].timings.unit == "chunk"))
        if lane.reloads:
            notes.append(
                plural(
                    "Loaded again {n} time, as its memory was wanted by others; each time an answer that does not "
                    "count came first.",
                    "Loaded again {n} times, as its memory was wanted by others; each time an answer that does not "
                    "count came first.",
                    n=lane.reloads,
                )
            )
        if len(lane.runs) < self.repeats:
            notes.append(msg("Stopped after {done} of {repeats} repeats.", done=len(lane.runs), repeats=self.repeats))
        return notes

    def _unequal(self, lengths: Sequence[int], *, chunks: bool) -> Translatable:
        shortest, longest = lengths[0], lengths[-1]
        said = msg("{n}", n=shortest) if shortest == longest else msg("{low} to {high}", low=shortest, high=longest)
        wanted = self.request.max_new_tokens
        if chunks:
            return msg(
                "Its answers have {n} chunks instead of {wanted}: unequal work, not ranked.", n=said, wanted=wanted
            )
        return msg("Its answers have {n} tokens instead of {wanted}: unequal work, not ranked.", n=said, wanted=wanted)

    def _warnings(self) -> list[Translatable]:
        warnings = []
        during = sum((lane.disturbance for lane in self._lanes), CpuContention())
        if self._before.busy:
            warnings.append(
                msg(
                    "The machine was busy before: other programs used {share}.",
                    share=share_of_cores(self._before.cores or 0.0),
                )
            )
        if during.busy:
            warnings.append(
                msg(
                    "The machine was busy: other programs used {share} while figures were taken.",
                    share=share_of_cores(during.cores or 0.0),
                )
            )
        if during.throttled_s > 0:
            warnings.append(
                msg("The container's CPU quota held threads back for {s:.2f} s in all.", s=during.throttled_s)
            )
        if self._stop.is_set():
            warnings.append(msg("Stopped before the last repeat."))
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
