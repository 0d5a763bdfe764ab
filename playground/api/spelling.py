"""Tokens with their log-probabilities, in the two shapes that OpenAI has for them.

A token is called by its text; bytes that are no whole character are spelt out, as ``<0xE3>``. Different tokens can be
spelt alike: ``return_tokens_as_token_ids`` calls them by their numbers instead. The module knows tokens; it does not
know answers.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from playground.records import Cancelled, DecodedTokens, TokenLogprob

MOST_NAMES = 500_000
"""Names of tokens that are remembered, of all models: two of the largest vocabularies."""
_BYTES = re.compile(r"(?:<0x[0-9A-F]{2}>)+")

Decode = Callable[[str, Sequence[int], Cancelled], DecodedTokens]


class Spelling:
    """Names of tokens by model; a worker is asked for those alone that nobody asked for yet.

    Args:
        decode: Asks the model's worker.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._lock = threading.Lock()
        self._names: dict[tuple[str, int], str] = {}

    def pieces(self, model: str, ids: Sequence[int], cancelled: Cancelled) -> tuple[str, ...]:
        """What each id adds to the text of those before it."""
        return self._asked(model, ids, cancelled).pieces if ids else ()

    def names(self, model: str, logprobs: Iterable[TokenLogprob], cancelled: Cancelled) -> dict[int, str]:
        """Of all tokens in there."""
        wanted = dict.fromkeys(id for each in logprobs for id in (each.id, *each.top_ids))
        with self._lock:
            unknown = [id for id in wanted if (model, id) not in self._names]
        if unknown:
            self._asked(model, unknown, cancelled)
        with self._lock:
            return {id: self._names.get((model, id), f"<{id}>") for id in wanted}

    def _asked(self, model: str, ids: Sequence[int], cancelled: Cancelled) -> DecodedTokens:
        found = self._decode(model, ids, cancelled)
        with self._lock:
            if len(self._names) > MOST_NAMES:
                self._names.clear()
            self._names |= {(model, id): name for id, name in zip(ids, found.names, strict=True)}
        return found


def by_number(names: dict[int, str]) -> dict[int, str]:
    """The same tokens, called by their ids."""
    return {id: f"token_id:{id}" for id in names}


def of_chat(logprobs: Iterable[TokenLogprob], names: dict[int, str], spelt: dict[int, str]) -> dict[str, Any]:
    """``choices[].logprobs`` of a chat completion.

    Args:
        names: What tokens are called.
        spelt: What their bytes are read from.
    """

    def entry(id: int, logprob: float | None) -> dict[str, Any]:
        return {"token": names[id], "logprob": logprob, "bytes": list(token_bytes(spelt[id]))}

    content = [
        {
            **entry(each.id, each.logprob),
            "top_logprobs": [entry(id, value) for id, value in zip(each.top_ids, each.top_logprobs, strict=True)],
        }
        for each in logprobs
    ]
    return {"content": content, "refusal": None}


def of_completion(
    logprobs: Sequence[TokenLogprob], names: dict[int, str], offsets: Sequence[int], *, top: bool
) -> dict[str, Any]:
    """``choices[].logprobs`` of a completion. The chosen token is among the likeliest always, as OpenAI has it; where
    two are called alike, the likelier one counts.

    Args:
        offsets: Where in the text each token begins, in characters.
        top: Whether the likeliest ones were asked for.
    """
    tops: list[dict[str, float] | None] | None = None
    if top:
        tops = []
        for each in logprobs:
            if each.logprob is None:
                tops.append(None)
                continue
            row: dict[str, float] = {}
            for id, value in zip(each.top_ids, each.top_logprobs, strict=True):
                row.setdefault(names[id], value)
            row.setdefault(names[each.id], each.logprob)
            tops.append(row)
    return {
        "tokens": [names[each.id] for each in logprobs],
        "token_logprobs": [each.logprob for each in logprobs],
        "top_logprobs": tops,
        "text_offset": list(offsets),
    }


def offsets(pieces: Iterable[str], start: int = 0) -> list[int]:
    """Where each piece of a text begins."""
    found = []
    for piece in pieces:
        found.append(start)
        start += len(piece)
    return found


def token_bytes(name: str) -> bytes:
    """A token's bytes, from its name."""
    if _BYTES.fullmatch(name):
        return bytes(int(byte, 16) for byte in re.findall(r"<0x(..)>", name))
    return name.encode("utf-8", "surrogatepass")
