"""Parts of OpenAI's answers that chat completions and completions share: usage, timings, events of a stream.

It knows runs; it does not know what was asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from playground.messages import Translatable
from playground.records import ModelRun, Timings

Tell = Callable[[Translatable], Translatable]
"""A message as whoever asks is told it."""
DONE = b"data: [DONE]\n\n"
WAITING = b": waiting\n\n"
"""A comment, which keeps a silent connection open."""

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def event(document: dict[str, Any]) -> bytes:
    """One event of a stream, https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    return b"data: " + _ENCODER.encode(document).encode("utf-8", "replace") + b"\n\n"


def usage(prompts: Sequence[ModelRun], runs: Sequence[ModelRun]) -> dict[str, Any] | None:
    """Tokens of all choices; None where a server that answers for us does not count them.

    Args:
        prompts: A run of each prompt: a prompt counts once, however many choices it has.
        runs: All.
    """
    if any(run.timings.unit != "token" or run.timings.prompt_tokens is None for run in runs):
        return None
    prompt = sum(run.timings.prompt_tokens or 0 for run in prompts)
    answer = sum(run.timings.output_tokens or 0 for run in runs)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": sum(run.timings.reused_tokens or 0 for run in runs)},
        "completion_tokens_details": {"reasoning_tokens": sum(run.thinking_tokens or 0 for run in runs)},
    }


def timings(taken: Timings) -> dict[str, float | int | bool | None]:
    """By llama.cpp's names (``tools/server/README.md``), in milliseconds and tokens a second, with a few of our own.

    ``prompt_ms`` is the time in which the prompt was read; ``predicted_ms`` passes from the first to the last token,
    and ``predicted_per_second`` counts the tokens behind the first one: as our rates do everywhere.
    """
    read = None if taken.prompt_tokens is None else taken.prompt_tokens - (taken.reused_tokens or 0)
    predicted = taken.output_tokens
    prompt_s = read / taken.prefill_tok_s if read and taken.prefill_tok_s else None
    predicted_s = (predicted - 1) / taken.decode_tok_s if predicted and taken.decode_tok_s else None
    return {
        "cache_n": taken.reused_tokens,
        "prompt_n": read,
        "prompt_ms": _ms(prompt_s),
        "prompt_per_token_ms": _ms(prompt_s / read if prompt_s and read else None),
        "prompt_per_second": taken.prefill_tok_s,
        "predicted_n": predicted,
        "predicted_ms": _ms(predicted_s),
        "predicted_per_token_ms": _ms(1 / taken.decode_tok_s if taken.decode_tok_s else None),
        "predicted_per_second": taken.decode_tok_s,
        "ttft_ms": _ms(taken.ttft_s),
        "total_ms": _ms(taken.total_s),
        "queue_ms": _ms(taken.queue_s),
        "load_ms": _ms(taken.load_s),
        "cold": taken.cold,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def told(runs: Sequence[ModelRun], receipt: str, tell: Tell) -> dict[str, Any]:
    """Our own fields of a whole answer: where its receipt is, and what a reader should know of it."""
    said = dict.fromkeys(str(tell(warning)) for run in runs for warning in (*run.fallbacks, *run.warnings))
    found: dict[str, Any] = {"receipt": receipt, "warnings": [each for each in said if each]}
    if len(runs) == 1:
        found["timings"] = timings(runs[0].timings)
    if runs[0].artifact_sha256:
        found["system_fingerprint"] = f"fp_{runs[0].artifact_sha256.removeprefix('sha256:')[:16]}"
    return found


def ending(run: ModelRun, more: dict[str, Any]) -> dict[str, Any]:
    """Our own fields of a choice's last chunk in a stream."""
    return {"timings": timings(run.timings), **more}
