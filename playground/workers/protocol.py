"""What the app and a worker say to each other: one JSON object a line, over two pipes.

Commands go down (``do``: load, generate, inspect, score, score_ids, encode, decode, stop, exit), replies come up
(``say``: ready, event, view, progress, scored, scored_ids, encoded, decoded, error).
The module knows messages; it does not know processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from playground.errors import PlaygroundError, RunError
from playground.records import DecodedTokens, Event, LoadSpec, PromptView, Request
from playground.runtimes.generation.scoring import Scored, Task
from playground.runtimes.generation.token_scores import ScoredIds, ScoreIds
from playground.system.child import Message, decode, encode

__all__ = ["Message", "decode", "encode"]


def load(spec: LoadSpec) -> Message:
    return {"do": "load", "load": spec.to_json()}


def generate(number: int, request: Request) -> Message:
    return {"do": "generate", "id": number, "request": request.to_json()}


def inspect(number: int, request: Request) -> Message:
    return {"do": "inspect", "id": number, "request": request.to_json()}


def score(number: int, task: Task) -> Message:
    return {"do": "score", "id": number, "task": task.to_json()}


def score_ids(number: int, task: ScoreIds) -> Message:
    return {"do": "score_ids", "id": number, "task": task.to_json()}


def encode_text(number: int, text: str, special: bool) -> Message:
    return {"do": "encode", "id": number, "text": text, "special": special}


def decode_tokens(number: int, ids: Sequence[int]) -> Message:
    return {"do": "decode", "id": number, "ids": list(ids)}


def stop(number: int) -> Message:
    return {"do": "stop", "id": number}


def leave() -> Message:
    return {"do": "exit"}


def ready(at: float) -> Message:
    """The model is loaded and warmed up since ``at`` on the clock of ``time.monotonic()``."""
    return {"say": "ready", "at": at}


def event(number: int, value: Event) -> Message:
    return {"say": "event", "id": number, "event": value.to_json()}


def view(number: int, value: PromptView) -> Message:
    return {"say": "view", "id": number, "view": value.to_json()}


def progress(number: int, share: float) -> Message:
    """How much of a score is done, 0 to 1."""
    return {"say": "progress", "id": number, "share": share}


def scored(number: int, value: Scored) -> Message:
    return {"say": "scored", "id": number, "scored": value.to_json()}


def scored_ids(number: int, value: ScoredIds) -> Message:
    return {"say": "scored_ids", "id": number, "scored": value.to_json()}


def encoded(number: int, ids: Sequence[int]) -> Message:
    return {"say": "encoded", "id": number, "ids": list(ids)}


def decoded(number: int, value: DecodedTokens) -> Message:
    return {"say": "decoded", "id": number, "decoded": value.to_json()}


def error(number: int | None, raised: PlaygroundError) -> Message:
    """``number`` is None for an error while loading."""
    return {"say": "error", "id": number, "error": raised.to_json()}


def error_of(message: Message) -> PlaygroundError:
    """The error a worker reported, as the app raises it."""
    return PlaygroundError.from_json(message["error"], RunError)
