"""One model's arithmetic as the decoding loop sees it: token ids in, one row of logits out.

What is inside (onnxruntime, torch), an engine knows alone; what becomes of the logits, the loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from playground.errors import Reason
from playground.messages import NOTHING, Translatable

PREFILL_CHUNK = 128
"""Prompt tokens computed at once. Stop is heard between chunks; larger ones are hardly faster on a CPU and want more
scratch memory."""

MAX_ROWS = 4_000_000
"""Logits of several rows that are held at once: 16 MB in fp32."""

CACHE_GROWTH = 256
"""Tokens by which a cache of its own place grows: 32k of context are not allocated for a short answer."""

Logits = NDArray[Any]


class Interrupted(Exception):
    """``interrupt`` ended a run; the engine wants a reset."""


class EngineError(Reason, RuntimeError):
    """What was asked for can't be computed here."""


class Engine:
    """One model's arithmetic and its KV cache.

    Attributes:
        name: What computes, as it stands in receipts.
        chunk: How many prompt tokens ``prefill`` wants at most; 0: the whole prompt at once.
        starts_with: What the model's own sequence begins with, where the prompt is not a part of it
            (encoder-decoder models); None where the answer continues the prompt.
        warnings: What a reader of its answers should know.
        context_limit: Most tokens of prompt and answer for which it computes what the model means, where that is less
            than the model's own context; None otherwise.
        context_note: Why, as a sentence, and what reads more.
        cache_note: What to know of the cache, where it is another than usual.
        alike_in_parts: Whether a token read in company gives the same bits as alone. Else an answer that is given back
            is read token by token, as it was written.
    """

    name: str = ""
    chunk: int = PREFILL_CHUNK
    starts_with: tuple[int, ...] | None = None
    warnings: tuple[Translatable, ...] = ()
    context_limit: int | None = None
    context_note: Translatable = NOTHING
    cache_note: Translatable = NOTHING
    alike_in_parts: bool = False

    def reset(self, length: int) -> None:
        """Forget everything and make room for ``length`` tokens of prompt and answer.

        Raises:
            RuntimeError, MemoryError: There is none. Of whatever fails in an engine, these are what the loop knows.
        """
        raise NotImplementedError

    def keep_bits(self, bits: int) -> bool:
        """Keep keys and values in that many bits from the next ``reset`` on, which has to follow.

        Returns:
            Whether it can. Where it can't, nothing changes.
        """
        return False

    def rewind(self, kept: int, length: int) -> bool:
        """Forget all but the first ``kept`` tokens read since ``reset``, and make room for ``length`` in all. An
        encoder's prompt is counted, before the answer.

        Returns:
            False where that can't be done; then nothing is promised but that ``reset`` works. Where all is kept,
            most can.
        """
        return False

    def reads_in_parts(self, total: int) -> bool:
        """Whether a prompt of ``total`` tokens is read ``chunk`` by ``chunk``; only such a one can be gone on from."""
        return self.chunk > 0

    def prefill(self, ids: Sequence[int]) -> Logits:
        """Read ``ids`` behind what was read so far; logits ``[vocab]`` behind the last, valid until the next call.

        Raises:
            Interrupted: Another thread called ``interrupt``.
            RuntimeError, MemoryError: It can't be computed.
        """
        raise NotImplementedError

    def step(self, token: int) -> Logits:
        """Like ``prefill`` of one token, as fast as it can be.

        Raises:
            RuntimeError, MemoryError: It can't be computed.
        """
        raise NotImplementedError

    def rows_hold(self) -> bool:
        """Whether a text can be scored in one go: it gives the rows inside a text, and what follows changes nothing of
        those before. Else a text is forced token by token behind its start, and what two texts share tells nothing.
        """
        return True

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        """Read ``ids`` as ``prefill`` does; the logits behind each of the last ``wanted`` of them, in order, each valid
        until the next is asked for. All is read when there are no more.

        Here a token at a time: engines whose arithmetic gives several rows at once have a way of their own.

        Raises:
            Interrupted, RuntimeError, MemoryError: See ``prefill``.
        """
        first = len(ids) - wanted + 1
        yield self.prefill(ids[:first])
        for token in ids[first:]:
            yield self.step(token)

    def interrupt(self) -> None:
        """End a running ``prefill`` soon, where the library underneath can; called from another thread."""

    def close(self) -> None:
        """Give the memory back."""
