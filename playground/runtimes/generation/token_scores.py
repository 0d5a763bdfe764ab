"""What a text's own tokens are worth to a model: what is asked, and what is answered, as values that travel.

``ids_scorer`` takes the figures. This module loads no numpy: the app has its values too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from playground.records import Record, TokenLogprob

MAX_TOP = 20
"""Most likely tokens that may be asked for at each place, as in OpenAI's protocol."""

LEAST_LOGPROB = -9999.0
"""What is told of a token that a model gives no probability at all: JSON has no infinity."""


@dataclass(frozen=True)
class ScoreIds(Record):
    """Texts whose tokens are to be scored, each behind the true ones before it.

    Attributes:
        prompts: The texts, as token ids. Of a model with an encoder, the encoder reads what stands before a text's
            start, the decoder is forced along the rest.
        starts: From which token of each text on figures are wanted; shorter than ``prompts``: from the first one.
        top: Most likely tokens to report at each place.
        reuse: Whether what the texts have in common with the last ones that the model scored is left unread. How long
            it takes then tells whether somebody scored such a text before.
    """

    prompts: tuple[tuple[int, ...], ...]
    top: int = 0
    starts: tuple[int, ...] = ()
    reuse: bool = True

    def start(self, place: int) -> int:
        """Of the text at ``place``."""
        return self.starts[place] if place < len(self.starts) else 0


@dataclass(frozen=True)
class ScoredIds(Record):
    """Figures of ``ScoreIds``; lists have an entry a text, and in it one a token from its start on.

    Attributes:
        logprobs: ln of the token's probability, by a softmax at temperature 1 over the model's own logits; None where
            nothing stands before it. ``LEAST_LOGPROB`` stands for no probability at all.
        top_ids, top_logprobs: The likeliest tokens there, the likeliest first; of equal ones the lower id.
        read: Tokens that the model read for all of it: what texts share is read once.
    """

    logprobs: tuple[tuple[float | None, ...], ...]
    top_ids: tuple[tuple[tuple[int, ...], ...], ...] = ()
    top_logprobs: tuple[tuple[tuple[float, ...], ...], ...] = ()
    read: int = 0

    def tokens(self, task: ScoreIds) -> list[tuple[TokenLogprob, ...]]:
        """As records, one a token from each text's start on."""
        found = []
        for place, logprobs in enumerate(self.logprobs):
            ids = task.prompts[place][task.start(place) :]
            tops: Sequence[tuple[int, ...]] = self.top_ids[place] if self.top_ids else [()] * len(ids)
            values: Sequence[tuple[float, ...]] = self.top_logprobs[place] if self.top_logprobs else [()] * len(ids)
            found.append(tuple(map(TokenLogprob, ids, logprobs, tops, values)))
        return found
