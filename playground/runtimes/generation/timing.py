"""Stamps become figures: pure arithmetic, by the definitions of docs/measurement.md.

All stamps are ``time.monotonic()`` seconds of the process that ran the model. The module does not know who took them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from playground.records import Timings


@dataclass(frozen=True)
class Stamps:
    """What the loop around a model notes down.

    Attributes:
        began: Before the chat template was rendered.
        tokenized: The prompt's ids are known.
        prefilled: The logits behind the last prompt token are there; None if it never came so far.
        tokens: One for each token, taken when its id was known.
        ended: Nothing more will come.
    """

    began: float
    tokenized: float
    prefilled: float | None
    tokens: tuple[float, ...]
    ended: float


def timings(
    stamps: Stamps,
    prompt_tokens: int,
    threads: int | None = None,
    unit: Literal["token", "chunk"] = "token",
    *,
    reused_tokens: int | None = None,
    given_tokens: int = 0,
) -> Timings:
    """The figures of one run as far as a runtime can know them; load, queue and memory are others' to add.

    ``ttft_s`` runs from ``began`` to the first token's id. ``prefill_tok_s`` is the prompt's tokens that were read,
    without the ``reused_tokens`` that an earlier prompt had left in the cache, over the time from ``tokenized`` to
    ``prefilled``; None where ``given_tokens`` stood behind it, the beginning of an answer, which is not read as a
    prompt is. ``prompt_tokens`` holds those too. A figure without the stamps it needs is None, never 0.
    """
    prefill_s = None if stamps.prefilled is None else stamps.prefilled - stamps.tokenized
    prompt_tokens += given_tokens
    read_as_prompt = prompt_tokens and not given_tokens
    return Timings(
        tokenize_s=stamps.tokenized - stamps.began,
        prompt_tokens=prompt_tokens,
        reused_tokens=reused_tokens,
        output_tokens=len(stamps.tokens),
        ttft_s=stamps.tokens[0] - stamps.began if stamps.tokens else None,
        prefill_tok_s=(prompt_tokens - (reused_tokens or 0)) / prefill_s if prefill_s and read_as_prompt else None,
        decode_tok_s=decode_rate(stamps.tokens),
        total_s=stamps.ended - stamps.began,
        token_stamps=tuple(stamp - stamps.began for stamp in stamps.tokens),
        threads=threads,
        unit=unit,
    )


def decode_rate(stamps: Sequence[float]) -> float | None:
    """Tokens per second between the first and the last stamp: ``(n - 1) / (last - first)``.

    None below two tokens, and where the clock did not move between them.
    """
    if len(stamps) < 2:
        return None
    elapsed = stamps[-1] - stamps[0]
    return (len(stamps) - 1) / elapsed if elapsed > 0 else None
