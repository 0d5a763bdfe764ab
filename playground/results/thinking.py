"""What of an answer is thinking, and what is said: models write both into one text, each family with marks of its own.

It knows texts and marks; not models, tokens or the page. Whatever its length, a text is read a fixed number of times.

Marks are those of the chat templates on the Hub: ``<think>`` (Qwen3, DeepSeek-R1, SmolLM3 and most others),
``<thinking>``, ``<thought>``, ``<reasoning>``, ``<seed:think>``, ``[THINK]`` (Magistral), ``<|START_THINKING|>``
(Cohere), ``◁think▷`` (Kimi), ``<|begin_of_thought|>`` (OpenThinker), ``<|channel>thought`` (Gemma 4), the channels of
gpt-oss (Harmony) with and without their control tokens, and the sentences of Granite 3. Some templates open the block
in the prompt: then the text begins inside it, and only its end is seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from playground.records import ModelRun

TAGS = ("think", "thinking", "thought", "reasoning", "reason", "seed:think", "seed:cot_budget_reflect")
_PAIRS: dict[str, str] = {
    **{f"<{tag}>": f"</{tag}>" for tag in TAGS},
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|channel>thought": "<channel|>",
}
_OPENING = re.compile(r"\s*(" + "|".join(re.escape(mark) for mark in sorted(_PAIRS, key=len, reverse=True)) + ")")
_ENDS = re.compile(r"(?<!`)(?:</think>|</seed:think>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>)(?!`)")
"""Ends that may stand alone. One between backticks is spoken of, not used."""
_AROUND = re.compile(r"<\|(?:START_RESPONSE|END_RESPONSE|begin_of_solution|end_of_solution)\|>")
_HARMONY = re.compile(
    r"\s*(?:<\|start\|>assistant)?<\|channel\|>(?P<channel>[a-z]+)[^<]{0,80}<\|message\|>"
    r"(?P<said>.*?)(?:<\|(?:end|return|call)\|>|(?=<\|start\|>)|\Z)",
    re.DOTALL,
)
_BARE_HARMONY = re.compile(r"\s*analysis(?P<thinking>.*?)assistantfinal(?P<answer>.*)", re.DOTALL)
"""Harmony whose control tokens were left out when the tokens were decoded."""
_GRANITE = re.compile(
    r"\s*Here(?:'s| is) my thought process:(?P<thinking>.*?)Here(?:'s| is) my response:(?P<answer>.*)", re.DOTALL
)


@dataclass(frozen=True)
class Split:
    """A text in two.

    Attributes:
        open: Whether the thinking has not ended, so that there is no answer yet.
        ends: Where in the text the thinking ends, its closing mark included; 0 where there is none.
    """

    thinking: str
    answer: str
    open: bool = False
    ends: int = 0


def parts(text: str, *, begun: bool = False) -> tuple[str, str]:
    """Thinking and answer of a text; either may be empty. Marks belong to neither."""
    found = split(text, begun=begun)
    return found.thinking, found.answer


def split(text: str, *, begun: bool = False) -> Split:
    """Thinking and answer of a text that may still grow.

    Args:
        begun: Whether the prompt ended inside the thinking, so that the text is thinking until an end is seen.
    """
    if "<|channel|>" in text[:200]:
        return _harmony(text)
    for known in (_BARE_HARMONY, _GRANITE):
        if match := known.match(text):
            return Split(match["thinking"].strip(), match["answer"].lstrip(), ends=match.start("answer"))
    thought: list[str] = []
    at = 0
    while opening := _OPENING.match(text, at):
        closing = _PAIRS[opening[1]]
        end = text.find(closing, opening.end())
        if end < 0:
            return Split("\n\n".join([*thought, text[opening.end() :].strip()]).strip(), "", True, len(text))
        thought.append(text[opening.end() : end].strip())
        at = end + len(closing)
    if not at and (lone := _ENDS.search(text)):
        return Split(text[: lone.start()].strip(), _answer(text[lone.end() :]), ends=lone.end())
    if not at and begun:
        return Split(text.strip(), "", True, len(text))
    return Split("\n\n".join(filter(None, thought)), _answer(text[at:]) if at else text, ends=at)


def thinking_tokens(pieces: Sequence[str], *, begun: bool = False) -> int | None:
    """How many of an answer's tokens are thinking, its marks included; None where none is.

    Args:
        pieces: What each token adds to the text.
    """
    found = split("".join(pieces), begun=begun)
    if not found.thinking:
        return None
    length = 0
    for number, piece in enumerate(pieces):
        if length >= found.ends:
            return number
        length += len(piece)
    return len(pieces)


def _answer(text: str) -> str:
    return _AROUND.sub("", text).lstrip()


def _harmony(text: str) -> Split:
    """Messages of gpt-oss, each in a channel: ``final`` is the answer, all others lead to it."""
    thought: list[str] = []
    said: list[str] = []
    at = ends = 0
    while match := _HARMONY.match(text, at):
        if match.end() == at:
            break
        at = match.end()
        if match["channel"] == "final":
            said.append(match["said"])
            ends = ends or match.start("said")
        else:
            thought.append(match["said"].strip())
    rest = text[at:]
    if not thought and not said:
        return Split("", text)
    answer = "".join(said) + (rest if said else "")
    return Split("\n\n".join(thought), answer, not said, ends if said else len(text))


def with_thinking_tokens(run: ModelRun, pieces: list[str]) -> ModelRun:
    """The run with the length of its thinking, where each piece of its text was one token; an end of turn has none."""
    tokens = run.timings.output_tokens or 0
    if "".join(pieces) != run.text or len(pieces) not in (tokens - 1, tokens):
        return run
    return replace(run, thinking_tokens=thinking_tokens(pieces))
