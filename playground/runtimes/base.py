"""The seam between a worker process and whatever runs a model.

A runtime loads one artifact and answers requests one at a time. It stamps time beside the token
and knows nothing of other runtimes, of processes, of the screen or of the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from playground.records import Cancelled, DecodedTokens, Event, LoadSpec, PromptView, Request
from playground.runtimes.generation.token_scores import ScoredIds, ScoreIds

if TYPE_CHECKING:  # the app loads no numpy for this
    from numpy.typing import NDArray


class Runtime(Protocol):
    """One model in memory, or behind an address: loaded once, then asked by one caller at a time, from one thread.

    A runtime is made without arguments by ``create_runtime`` and holds nothing until ``load``, which every other method
    wants. An iterator that is left early gives back what it holds when it is closed; the next request then begins as if
    it had not been.
    """

    def load(self, load: LoadSpec) -> None:
        """Bring the model into memory, warmed up: the first request pays nothing for set-up.

        Raises:
            PlaygroundError: With the model's name and the next step.
        """

    def inspect(self, request: Request) -> PromptView:
        """What the model would read for this request; generates nothing.

        Raises:
            RunError: The model's template refuses the messages, or loses what the user wrote.
        """

    def generate(self, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        """Answer. Yields ``prefill`` (n_tokens: of the prompt; progress) once or more, ``token`` for each piece of
        text, and ends with exactly one ``done`` or ``stopped`` whose ``run`` holds text, finish reason and
        the timings a runtime can know (tokenize_s … total_s, token_stamps, threads, unit).

        Args:
            cancelled: Asked between two steps, and while the model works on one for long.

        Raises:
            ContextOverflow: The prompt leaves no room for an answer.
            RunError: It can't be computed; a served model: can't be had.
        """

    def score(
        self, prompt: Sequence[int], answer: Sequence[int], cancelled: Cancelled
    ) -> Iterator[NDArray[Any] | None]:
        """Teacher forcing: the logits ``[vocab]`` from which each token of ``answer`` would have been chosen behind
        ``prompt`` and the true tokens before it, one row a token, each valid until the next is asked for; None now and
        then while the prompt is read. Nothing of an earlier prompt is reused, and no penalty or filter applied.

        Raises:
            Stopped: ``cancelled`` said so.
            ContextOverflow: Prompt and answer do not fit the model's context.
            RunError: It can't be done here.
        """

    def score_ids(self, task: ScoreIds, cancelled: Cancelled, tell: Callable[[float], object]) -> ScoredIds:
        """How likely each token of some texts was behind the true ones before it. What texts have in common, and a text
        with the last one scored (``ScoreIds.reuse``), is read once; the rest of a text in one go, where the model can.

        Args:
            tell: Told the share that is done, 0 to 1.

        Raises:
            Stopped: ``cancelled`` said so.
            UsageError: A text holds what is no token of the model.
            ContextOverflow: A text does not fit the model's context.
            RunError: It can't be done here.
        """

    def encode(self, text: str, special: bool) -> tuple[int, ...]:
        """A text's token ids; ``special``: with what the tokenizer puts around a text.

        Raises:
            RunError: This runtime knows no tokens.
        """

    def decode(self, ids: Sequence[int]) -> DecodedTokens:
        """An answer's token ids as text.

        Raises:
            RunError: This runtime knows no tokens.
        """

    def close(self) -> None:
        """Give the memory back."""
