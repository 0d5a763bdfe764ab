"""What an engine has read, token by token, so that the next prompt need not be read from its first word again.

It compares ids; whether an engine can go back in its cache, the engine says. The module does not know text or time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from playground.runtimes.generation.engine import Engine, Logits

MIN_RECOMPUTED = 2
"""Tokens of a prompt that are always read: the logits behind the last are wanted, and a product with one row rounds
otherwise than one with several. Rows of any number above one gave the same bits in every graph that was tried."""


class PrefixCache:
    """An engine and the ids in its cache.

    Attributes:
        refused: Whether the last prompt shared words with the one before it and was read whole all the same, because
            the engine could not go back to where they part.

    What a prompt left there can be used again bit for bit. What an answer left was computed a token at a time and
    differs in its last bits from what reading the same ids at once would give, as it does while answering. An answer
    that is gone on with is no other text: every bit of it is kept, but for its last token, which was not read yet.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.refused = False
        self._ids: list[int] = []
        self._prompt = 0  # how many of them are the prompt's
        self._is_scored = False  # whether they are of a text that was scored

    def begin(self, ids: Sequence[int], length: int, reuse: bool, answer: Sequence[int] = ()) -> int:
        """Make ready for a prompt of ``ids``, the beginning of an answer to it, and ``length`` tokens in all.

        Returns:
            How many of ``ids`` and then of ``answer`` are in the cache already; 0 unless ``reuse``, and where the
            engine can't go back. If there are any of ``answer``, all of ``ids`` are.
        """
        shared = self._shared(ids, answer) if reuse else 0
        kept = shared if shared and self._able(ids, shared) and self.engine.rewind(shared, length) else 0
        if not kept:
            self.engine.reset(length)
        self.refused = shared > kept
        self._ids = [*ids, *answer][:kept]
        self._prompt, self._is_scored = len(ids), False
        return kept

    def resume(self, ids: Sequence[int], most: int) -> int:
        """Make ready to read ``ids`` as a text that is scored, of which at most the first ``most`` need not be read
        again. Only what was read so is gone on from: of an answer's prompt nothing is, for it may be somebody else's.

        Returns:
            How many are kept.
        """
        engine = self.engine
        shared = min(common(self._ids, ids), most) if self._is_scored else 0
        if not engine.alike_in_parts:
            shared = min(shared, len(ids) - MIN_RECOMPUTED)
        able = shared > 0 and engine.starts_with is None and engine.reads_in_parts(len(ids))
        kept = shared if able and engine.rewind(shared, len(ids)) else 0
        if not kept:
            engine.reset(len(ids))
        self._ids = list(ids[:kept])
        self._prompt, self._is_scored = len(ids), True
        return kept

    def forget(self) -> None:
        """Begin the next prompt anew."""
        self._ids = []

    def _shared(self, ids: Sequence[int], answer: Sequence[int]) -> int:
        found = common(self._ids, [*ids, *answer[:-1]])
        return found if answer and found >= len(ids) else min(found, max(0, len(ids) - MIN_RECOMPUTED))

    def _able(self, ids: Sequence[int], shared: int) -> bool:
        """Whether the engine may be asked to go back. Going on where it stands is no going back."""
        if shared == len(self._ids) and self._prompt == len(ids):
            return True
        return self.engine.starts_with is None and self.engine.reads_in_parts(len(ids))

    def prefill(self, ids: Sequence[int]) -> Logits:
        """See ``Engine.prefill``."""
        known, self._ids = self._ids, []  # whatever ends this early leaves a cache that nobody should trust
        logits = self.engine.prefill(ids)
        known.extend(ids)
        self._ids = known
        return logits

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        """See ``Engine.rows``."""
        known, self._ids = self._ids, []
        yield from self.engine.rows(ids, wanted)
        known.extend(ids)
        self._ids = known

    def step(self, token: int) -> Logits:
        """See ``Engine.step``."""
        known, self._ids = self._ids, []
        logits = self.engine.step(token)
        known.append(token)
        self._ids = known
        return logits


def common(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items two sequences share from the start."""
    most = min(len(one), len(other))
    return next((place for place in range(most) if one[place] != other[place]), most)
