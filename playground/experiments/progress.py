"""What may be seen of an experiment while it goes on: a picture that others may take, and one model's part in it.

Values, and a record that ``compare`` changes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from playground.errors import PlaygroundError
from playground.messages import NOTHING, Translatable
from playground.records import Artifact, EventKind, FinishReason, ModelRun, ModelSpec, Request, Timings, Variant


@dataclass(frozen=True)
class LiveRun:
    """Where one model stands now.

    Attributes:
        variant: What was asked for.
        kind: Of the last event.
        text: All of the answer so far.
        n_tokens: Tokens of the answer so far; of the prompt while ``kind`` is prefill.
        progress: 0 to 1 where it is known.
        message: The step of a preparation, what it waits for, or what went wrong.
        run: The finished run, once there is one.
        started_at: When loading or answering began, by ``time.monotonic()``; None while it waits.
        first_token_at: The worker's stamp of the first token.
        last_token_at: The worker's stamp of the newest token.
        first_tokens: Tokens that the first piece of text brought: one, or more where several come at once.
    """

    variant: Variant
    kind: EventKind = "queued"
    text: str = ""
    n_tokens: int = 0
    progress: float | None = None
    message: Translatable = NOTHING
    run: ModelRun | None = None
    started_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    first_tokens: int = 1

    @property
    def rate(self) -> float | None:
        """Tokens a second between the first piece of text and the newest; None before there are two."""
        first, last = self.first_token_at, self.last_token_at
        if first is None or last is None or last <= first or self.n_tokens <= self.first_tokens:
            return None
        return (self.n_tokens - self.first_tokens) / (last - first)


@dataclass(frozen=True)
class Snapshot:
    """Where an experiment stands now.

    Attributes:
        step: What is being done, for a reader; empty where ``lives`` say it all.
        progress: 0 to 1, None where unknown.
        lives: The answers it has asked for, in the order of its columns; empty before, and where nobody reads them.
        problem: Why it could not be stored as far as it is; it goes on none the worse.
        ahead: How many others have the machine first.
    """

    step: Translatable = NOTHING
    progress: float | None = None
    lives: tuple[LiveRun, ...] = ()
    problem: Translatable = NOTHING
    ahead: int = 0


@dataclass(eq=False)
class ModelProgress:
    """One column of a comparison: a model and what it is asked.

    Attributes:
        place: Its position among the columns.
        request: What it is asked.
        own: Whether that is not the request of all.
        carried: A run of an earlier comparison, which stands here as it is; nothing is run.
        stop: Set where this column alone is to end.
        expected_mb: Peak memory that is expected of it; None where nothing is known.
        refusal: Why it is not even prepared.
        ready_at: From then on it waits for nothing but its turn.
    """

    place: int
    variant: Variant
    spec: ModelSpec | None
    request: Request
    own: bool = False
    carried: ModelRun | None = None
    live: LiveRun = field(init=False)
    artifact: Artifact | None = None
    expected_mb: float | None = None
    refusal: PlaygroundError | None = None
    ready_at: float = 0.0
    pieces: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.live = LiveRun(self.variant)
        if run := self.carried:
            kind: EventKind = "failed" if run.error else "stopped" if run.finish_reason == "stopped" else "done"
            n_tokens = run.timings.output_tokens or 0
            self.live = replace(self.live, kind=kind, text=run.text, n_tokens=n_tokens, run=run)

    @property
    def text(self) -> str:
        """All of the answer so far."""
        if self.live.run:
            return self.live.run.text
        return "".join(self.pieces)


def ended(lane: ModelProgress, reason: FinishReason, error: Translatable | None = None) -> ModelRun:
    """A run of what is known here, without a worker's word."""
    variant = lane.artifact.variant if lane.artifact else lane.variant
    return ModelRun(
        variant=lane.variant,
        runtime=variant.runtime,
        precision=variant.precision,
        text=lane.text,
        finish_reason=reason,
        timings=Timings(expected_memory_mb=lane.expected_mb if lane.refusal else None),
        error=error,
    )
