"""What the fidelity check reads: texts of several kinds as a model's tokens, and how each is read.

Prose, code, Japanese, and a long text of many kinds: an export may be right in one and wrong in another. Each begins as
a prompt and goes on token by token. The module does not know who reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.catalog.config_names import CONTEXT_LENGTH

HERE = Path(__file__).parent

PROMPT = 48
"""Tokens of a text that are read as a prompt; each of the others is a decode step and one compared position."""

LONG_PROMPT = 516
"""The same of the long text: longer than 512 tokens, the sliding window of Gemma 3, on purpose."""

STEPS = 124
"""Decode steps of each text. With the position behind the prompt and those of the original's own continuation, four
texts give 515 positions."""

GREEDY = 16
"""Tokens that the original goes on with by itself behind a prompt; one of its steps takes as long as reading thirty
tokens at once."""


@dataclass(frozen=True)
class Text:
    """One text: its kind, its file, how many tokens of it are the prompt, and how many the original goes on with."""

    kind: str
    path: Path
    prompt: int
    greedy: int = 0

    @property
    def digest(self) -> str:
        """What tells it from another text, in few letters."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]


TEXTS = (
    Text("prose", HERE / "probe-prose.txt", PROMPT, GREEDY),
    Text("code", HERE / "probe-code.txt", PROMPT),
    Text("Japanese", HERE / "probe-japanese.txt", PROMPT),
    Text("long text", HERE / "probe.txt", LONG_PROMPT),
)
"""The one that the original goes on with comes first: what it shows holds for the others."""

QUICK_PROMPT, QUICK_STEPS = 64, 32
"""For a slow runtime: one text, of which few tokens are steps."""

WINDOWS = ("sliding_window", "attention_window_size", "window_size", "attention_chunk_size", "local_attention_window",
           "original_max_position_embeddings")  # fmt: skip
"""Lengths beyond which a model reads otherwise than before."""

Tokens = Callable[[str], Sequence[int]]
"""A tokenizer, as the check sees it."""


@dataclass(frozen=True)
class Passage:
    """A text, or as much of one as a model's context holds.

    Attributes:
        kind: What kind of text it is.
        ids: All of its tokens.
        prompt: How many of them are read as a prompt.
        greedy: How many tokens the original is to go on with behind the prompt.
    """

    kind: str
    ids: tuple[int, ...]
    prompt: int
    greedy: int = 0

    @property
    def steps(self) -> tuple[int, ...]:
        return self.ids[self.prompt :]


def passages(tokens: Tokens, config: Any, vocabulary: int | None = None) -> list[Passage]:
    """The texts as a model reads them.

    Args:
        tokens: Gives the ids of a text.
        config: transformers' configuration of the model, for the length of its context.
        vocabulary: Ids from here on have no embedding and are left out.
    """
    context = context_of(config)
    return [each for text in TEXTS for each in _parts(text, STEPS, _ids(text, tokens, vocabulary), context)]


def quick_passages(tokens: Tokens, config: Any, vocabulary: int | None = None) -> list[Passage]:
    """One text with few steps; its prompt leaves the shortest window behind. See ``passages``."""
    prompt = max(QUICK_PROMPT, min(LONG_PROMPT, _window(config) + GREEDY))
    text = Text("prose", HERE / "probe.txt", prompt, GREEDY)
    return _parts(text, QUICK_STEPS, _ids(text, tokens, vocabulary), context_of(config))


def context_of(config: Any) -> int | None:
    """Most tokens a model holds, as its configuration says it; None where it says nothing."""
    return next(iter(_numbers(config, CONTEXT_LENGTH)), None)


def _window(config: Any) -> int:
    """The shortest length from which on a model reads otherwise; 0 where there is none."""
    return min(_numbers(config, WINDOWS), default=0)


def _numbers(config: Any, names: Sequence[str]) -> list[int]:
    try:
        config = config.get_text_config(decoder=True)
    except ValueError:  # several language models in one, of which none is said to be the one
        pass
    found = [getattr(config, name, None) for name in names]
    return [each for each in found if isinstance(each, int) and each > 1]


def _ids(text: Text, tokens: Tokens, vocabulary: int | None) -> list[int]:
    ids = [int(each) for each in tokens(text.path.read_text(encoding="utf-8"))]
    return [each for each in ids if vocabulary is None or each < vocabulary]


def _parts(text: Text, steps: int, ids: Sequence[int], context: int | None) -> list[Passage]:
    """One passage, or where that is longer than the context, several that fill it each, with as many steps in all."""
    if len(ids) < 2:
        return []
    if context is None or text.prompt + steps <= context:
        # A text of few tokens (a vocabulary of whole words) keeps its steps rather than its prompt.
        prompt = min(text.prompt, max(1, len(ids) - steps))
        return [Passage(text.kind, tuple(ids[: prompt + steps]), prompt, text.greedy)]
    first = min(text.prompt, max(1, context // 3))
    greedy = min(text.greedy, context - first)
    found: list[Passage] = []
    start, left = 0, steps
    while left > 0 and len(ids) - start > first:
        part = tuple(ids[start : start + min(context, first + left)])
        found.append(Passage(text.kind, part, first, 0 if found else greedy))
        start += len(part)
        left -= len(part) - first
    return found
