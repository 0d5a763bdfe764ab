"""Scores texts by an engine: each row of logits is computed once, and serves every text that begins with the same ids.

Texts are taken in the order of their ids, so that those with a common beginning follow each other; the engine goes back
to where two of them part. It knows engines and ids; it does not know text, time or who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from playground.messages import Translatable, msg
from playground.records import Cancelled, TokenLogprob
from playground.runtimes.generation.engine import Engine, Logits
from playground.runtimes.generation.logprobs import Row
from playground.runtimes.generation.prefix_cache import PrefixCache, common
from playground.runtimes.generation.token_scores import ScoredIds, ScoreIds

Tell = Callable[[float], object]
"""Told the share that is done, 0 to 1."""


class Cut(Exception):
    """Whoever asked took it back."""


@dataclass
class _Text:
    """One text, and what is known of it so far.

    Attributes:
        start: From which token on figures are wanted; never 0, for nothing stands before a first token.
        found: By place.
    """

    ids: tuple[int, ...]
    start: int
    found: dict[int, TokenLogprob] = field(default_factory=dict)

    @property
    def missing(self) -> int | None:
        """The first place without figures."""
        return next((place for place in range(self.start, len(self.ids)) if place not in self.found), None)


class IdsScorer:
    """Scores for one engine; what it scored last is remembered."""

    def __init__(self, cache: PrefixCache) -> None:
        self._cache = cache
        self._last: tuple[_Text, int] | None = None  # and how many alternatives were told of it

    def score(self, task: ScoreIds, cancelled: Cancelled, tell: Tell) -> ScoredIds:
        """All of them.

        Raises:
            Cut: ``cancelled`` said so.
            Interrupted, RuntimeError, MemoryError, FloatingPointError: See ``Engine``; the logits are not numbers.
        """
        beside = self._engine.starts_with is not None or not self._engine.rows_hold()
        texts = [_Text(ids, max(task.start(place), 1)) for place, ids in enumerate(task.prompts)]
        if not task.reuse:
            self._cache.forget()
            self._last = None
        order = sorted(range(len(texts)), key=lambda place: texts[place].ids)
        if self._last and self._last[1] == task.top:
            for text in texts:
                _copy(self._last[0], text)
        reading = self._beside if beside else self._along
        read, done, total = 0, 0, max(1, sum(len(text.ids) for text in texts))
        for turn, place in enumerate(order):
            text, others = texts[place], [texts[other] for other in order[turn + 1 :]]
            read += reading(text, others, task.top, cancelled)
            done += len(text.ids)
            tell(done / total)
        if texts and not beside:
            self._last = texts[order[-1]], task.top
        return _answer(task, texts, read)

    @property
    def _engine(self) -> Engine:
        return self._cache.engine

    def _along(self, text: _Text, others: Sequence[_Text], top: int, cancelled: Cancelled) -> int:
        """Read a text as far as needed; returns how many tokens were read."""
        first = text.missing
        if first is None:
            return 0
        ids = text.ids[:-1]  # what comes behind the last one nobody asks
        shared = list(_alike(text, others, first))
        kept = self._cache.resume(ids, first - 1)
        place = first
        for row in self._rows(ids, kept, len(ids) - first + 1, cancelled):
            figures = Row(row, top)
            text.found[place] = figures.of(text.ids[place])
            for other, same in shared:
                if other.start <= place <= same and place < len(other.ids):
                    other.found[place] = figures.of(other.ids[place])
            place += 1
        return len(ids) - kept

    def _rows(self, ids: Sequence[int], kept: int, wanted: int, cancelled: Cancelled) -> Iterator[Logits]:
        """The rows behind the last ``wanted`` of ``ids``, of which ``kept`` were read."""
        engine, total = self._engine, len(ids)
        chunk = engine.chunk if engine.reads_in_parts(total) else total
        for start in range(kept, total, chunk):
            if cancelled():
                raise Cut
            end = min(start + chunk, total)
            rows = min(end - start, wanted - (total - end))
            if rows > 0:
                yield from self._cache.rows(ids[start:end], rows)
            else:
                self._cache.prefill(ids[start:end])

    def _beside(self, text: _Text, others: Sequence[_Text], top: int, cancelled: Cancelled) -> int:
        """What stands before the start is a prompt, an encoder's maybe; the model is forced along the rest as it would
        have written it.
        """
        prompt, answer = text.ids[: text.start], text.ids[text.start :]
        if not answer:
            return 0
        self._cache.begin(prompt, len(text.ids), reuse=False)
        row = self._cache.prefill(prompt)
        for place, token in enumerate(answer, start=text.start):
            if cancelled():
                raise Cut
            text.found[place] = Row(row, top).of(token)
            if place + 1 < len(text.ids):
                row = self._cache.step(token)
        return len(text.ids) - 1


def wrong_start(task: ScoreIds, engine: Engine) -> Translatable | None:
    """What is wrong with a start: a model with an encoder must be told what the encoder reads."""
    if engine.starts_with is not None and any(task.start(place) < 1 for place in range(len(task.prompts))):
        return msg("an encoder reads what stands before an answer: it has to be said where each answer starts")
    return None


def _alike(text: _Text, others: Sequence[_Text], first: int) -> Iterator[tuple[_Text, int]]:
    """Of those that follow in order, which share so much with ``text`` that its row before token ``first`` is theirs
    too, and how many tokens.
    """
    for other in others:
        same = common(text.ids, other.ids)
        if same < first:
            return
        yield other, same


def _copy(source: _Text, text: _Text) -> None:
    """What is known of a text holds for another as far as both are the same."""
    same = common(source.ids, text.ids)
    text.found = {place: found for place, found in source.found.items() if text.start <= place < same}


def _answer(task: ScoreIds, texts: Sequence[_Text], read: int) -> ScoredIds:
    nothing = TokenLogprob(0, None)
    rows = [
        [text.found.get(place, nothing) for place in range(task.start(number), len(text.ids))]
        for number, text in enumerate(texts)
    ]
    return ScoredIds(
        tuple(tuple(each.logprob for each in row) for row in rows),
        tuple(tuple(each.top_ids for each in row) for row in rows) if task.top else (),
        tuple(tuple(each.top_logprobs for each in row) for row in rows) if task.top else (),
        read,
    )
