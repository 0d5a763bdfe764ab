"""A model forced along given tokens: its logits for an answer, its figures for the tokens of texts.

The prompt is read as for an answer, by the same loop; nothing is chosen. It knows what is loaded and ids; it does not
know who compares the rows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from playground.errors import ContextOverflow, Stopped, UsageError
from playground.messages import msg
from playground.records import Cancelled, Event, Request
from playground.runtimes.generation.answering import Answer
from playground.runtimes.generation.engine import Interrupted, Logits
from playground.runtimes.generation.ids_scorer import Cut, Tell, wrong_start
from playground.runtimes.generation.loaded import Loaded
from playground.runtimes.generation.token_scores import ScoredIds, ScoreIds


class Forced(Answer):
    """An answer that is known."""

    def __init__(self, loaded: Loaded, cancelled: Cancelled) -> None:
        super().__init__(loaded, Request(), cancelled)

    def rows(self, prompt: Sequence[int], answer: Sequence[int]) -> Iterator[Logits | None]:
        """All that ``Runtime.score`` promises."""
        self._check_room(len(prompt), len(answer))
        self.ids = list(prompt)
        try:
            # Read as a prompt and then step by step, as when it was generated: the same kernels, the same rounding.
            self.loaded.cache.begin(self.ids, len(prompt) + len(answer), reuse=False)
            logits = yield from _signs(self.prefill())
            for token in answer[:-1]:
                self._check_running(logits)
                yield logits
                logits = self.loaded.cache.step(token)
            self._check_running(logits)
            yield logits
        except (RuntimeError, MemoryError, FloatingPointError) as error:
            raise self.failed(error) from error

    def texts(self, task: ScoreIds, tell: Tell) -> ScoredIds:
        """All that ``Runtime.score_ids`` promises."""
        self.check_texts(task)
        try:
            return self.loaded.scorer.score(task, self.cancelled, tell)
        except (Cut, Interrupted):
            raise self.stopped() from None
        except (RuntimeError, MemoryError, FloatingPointError) as error:
            raise self.failed(error) from error

    def _check_running(self, logits: Logits | None) -> None:
        if logits is None or self.cancelled():
            raise self.stopped()

    def stopped(self) -> Stopped:
        return Stopped(msg("{model}: scoring was stopped", model=self.name))

    def check_texts(self, task: ScoreIds) -> None:
        """Refuse texts that can't be scored, all of them before any work.

        Raises:
            UsageError: A token that the model does not have, or no place where an encoder's answer starts.
            ContextOverflow: A text is longer than the model's context.
        """
        rows = self.loaded.prompter.rows
        if wrong := wrong_start(task, self.loaded.engine):
            raise UsageError(
                msg("{model}: {reason}", model=self.name, reason=wrong),
                msg("Give a start of 1 or more for each text."),
            )
        for place, ids in enumerate(task.prompts):
            start = task.start(place)
            if strange := [token for token in ids if not 0 <= token < rows]:
                raise UsageError(
                    msg(
                        "{model}: text {number} holds the token {id}, and it has {rows:,} tokens",
                        model=self.name,
                        number=place + 1,
                        id=str(strange[0]),
                        rows=rows,
                    ),
                    msg("Encode the text by this model's own tokenizer."),
                )
            self._check_room(
                *((start, len(ids) - start) if self.loaded.engine.starts_with is not None else (len(ids), 0))
            )

    def _check_room(self, prompt: int, answer: int) -> None:
        room = self.loaded.prompter.context_length
        apart = self.loaded.engine.starts_with is not None  # an encoder's prompt takes none of the decoder's room
        if (max(prompt, answer) if apart else prompt + answer) > room:
            raise ContextOverflow(
                msg(
                    "{model}: prompt ({prompt:,} tokens) and answer ({answer:,}) exceed its context of {context:,}",
                    model=self.name,
                    prompt=prompt,
                    answer=answer,
                    context=room,
                ),
                msg("Shorten the prompt or the answer."),
            )


def _signs(events: Generator[Event, None, Logits | None]) -> Generator[None, None, Logits | None]:
    """The same work, with None for each event."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            logits: Logits | None = end.value
            return logits
        yield None
