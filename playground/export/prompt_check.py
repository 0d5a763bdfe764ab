"""The prompts of an import beside those of transformers: the same text and token ids, for prompts of every kind.

What judges is transformers' own tokenizer object, read from the original files, and its ``apply_chat_template``. What
is judged is the ``Prompter`` as a worker will have it, reading the folder that the import wrote. Where the playground
means to differ, the expectation is written with transformers' own means: control tokens a user typed stay text, a
system prompt for which a template has no place is left out, and contents are given as the parts a template asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.catalog.template_files import find_template
from playground.errors import PlaygroundError, first_line
from playground.messages import NOTHING, Translatable, msg
from playground.records import Message, ModelSpec, Request
from playground.runtimes.generation.prompt import Prompter

TEXTS: dict[str, str] = {
    "plain words": "The quick brown fox jumps over the lazy dog.",
    "one word": "Hi",
    "one character": "a",
    "spaces around": "  two spaces before and two behind  ",
    "lines": "\n\nfirst line\n\n\tsecond line, after a tab\r\nthird\n",
    "digits": "1234567890 + 3.14159 = 0x7F, -5 % 3",
    "code": "def f(x: int) -> str:\n    return f'{x!r:>8}' if x else \"<none>\"  # {{ x }}\n",
    "Japanese": "日本の首都はどこですか。",
    "Arabic": "ما هي عاصمة فرنسا؟",
    "Hindi": "भारत की राजधानी क्या है?",
    "accents": "naïve café, Zürich, e\u0301",
    "emoji": "🙂 👨‍👩‍👧‍👦 🏳️‍🌈",
    "markup": "<b>bold</b> & [INST] {'role': 'user'} </s",
}
"""What is asked, by what is special about it."""

_SYSTEM, _ANSWER, _AGAIN = "Answer in one sentence.", "Paris is the capital.", "And of Japan?"
_KEEP = 3
"""Differences told in full; the rest is counted."""

Chat = list[dict[str, Any]]


@dataclass(frozen=True)
class PromptVerdict:
    """How the prompts compare.

    Attributes:
        compared: Number of prompts.
        differences: Each in words; empty where all are the same.
    """

    compared: int
    differences: tuple[Translatable, ...]


@dataclass(frozen=True)
class _Case:
    kind: str
    request: Request


def check_prompts(tokenizer: Any, folder: Path, spec: ModelSpec) -> PromptVerdict:
    """Compare the prompts of an import with transformers'. Raises nothing: what goes wrong is a difference.

    Args:
        tokenizer: transformers' own, from the original files.
        folder: What the import wrote: tokenizer.json, tokenizer_config.json, config.json and a template.
        spec: As the worker will have it.
    """
    try:
        prompter = Prompter(folder, spec)
        template = _template(tokenizer, folder, spec)
    except Exception as error:
        return PromptVerdict(0, (msg("the prompts can't be made ({reason})", reason=_reason(error)),))
    expected = _Chats(tokenizer, template) if template else _Plain(tokenizer)
    cases = list(_cases(tokenizer, prompter, bool(template)))
    found = [
        difference
        for case in cases
        if (difference := _difference(prompter, expected, case)) and _lasts(prompter, expected, case)
    ]
    if len(found) > _KEEP:
        found[_KEEP:] = [msg("and {n} more", n=len(found) - _KEEP)]
    return PromptVerdict(len(cases), tuple(found))


def _template(tokenizer: Any, folder: Path, spec: ModelSpec) -> str | None:
    """What a chat is to be rendered with; None where prompts are plain.

    The tokenizer's own, and where it has none what the import found beside it or the catalogue documents.
    """
    if spec.kind != "chat":
        return None
    if getattr(tokenizer, "chat_template", None):
        try:
            return str(tokenizer.get_chat_template())
        except ValueError:  # several, and none of them the default
            return None
    return find_template(folder) or spec.chat_template or None


def _cases(tokenizer: Any, prompter: Prompter, is_chat: bool) -> Iterator[_Case]:
    for kind, text in TEXTS.items():
        yield _Case(kind, Request(text))
    names = _control_names(tokenizer, prompter)
    if names:
        yield _Case("a control token typed by the user", Request(f"What does {names[-1]} mean?"))
    if not is_chat:
        return
    text = TEXTS["plain words"]
    yield _Case("a system prompt", Request(text, system=_SYSTEM))
    turns = (Message("user", text), Message("assistant", _ANSWER), Message("user", _AGAIN))
    yield _Case("two turns", Request(messages=turns))
    yield _Case("two turns and a system prompt", Request(messages=turns, system=_SYSTEM))
    if names:
        yield _Case("control tokens typed one after the other", Request(f"{''.join(names[:4])} and {names[0]}"))


def _control_names(tokenizer: Any, prompter: Prompter) -> list[str]:
    """What a user could type to fake a turn: special tokens, and whatever ends an answer."""
    ends = sorted(prompter.eos_ids & prompter.tokenizer.get_added_tokens_decoder().keys())
    names = [*getattr(tokenizer, "all_special_tokens", ()), *(prompter.tokenizer.id_to_token(end) for end in ends)]
    return [name for name in dict.fromkeys(map(str, names)) if name.strip()]


Expected = tuple[str, Sequence[int] | None]
"""The text, and its ids where transformers has any that are meant."""


def _difference(prompter: Prompter, expected: _Chats | _Plain, case: _Case) -> Translatable:
    """In words; empty where both agree, or transformers refuses what the playground refuses."""
    try:
        text, ids = expected.prompt(case.request)
    except Exception as error:  # a template or a tokenizer raises whatever it likes
        if _refuses(prompter, case):
            return NOTHING
        return msg("{prompt}: transformers refuses it ({reason})", prompt=case.kind, reason=_reason(error))
    try:
        ours = prompter.view(case.request)
    except PlaygroundError as error:
        # A template that leaves out what is asked is refused, and rightly.
        if not expected.reads:
            return NOTHING
        return msg("{prompt}: it is refused ({reason})", prompt=case.kind, reason=_reason(error))
    except Exception as error:
        return msg("{prompt}: it can't be made ({reason})", prompt=case.kind, reason=_reason(error))
    if ours.rendered != text:
        at = next((n for n, (a, b) in enumerate(zip(ours.rendered, text, strict=False)) if a != b), len(ours.rendered))
        at = min(at, len(text))
        return msg(
            "{prompt}: the text differs at character {place}, {ours} for {theirs}",
            prompt=case.kind,
            place=at + 1,
            ours=_near(ours.rendered, at),
            theirs=_near(text, at),
        )
    if ids is not None and list(ours.token_ids) != list(ids):
        at = next((n for n, (a, b) in enumerate(zip(ours.token_ids, ids, strict=False)) if a != b), len(ours.token_ids))
        at = min(at, len(ids))
        return msg(
            "{prompt}: {our_count} token ids for {their_count}, from the one numbered {place} on {ours} for {theirs}",
            prompt=case.kind,
            our_count=len(ours.token_ids),
            their_count=len(ids),
            place=at + 1,
            ours=str(list(ours.token_ids[at : at + 4])),
            theirs=str(list(ids[at : at + 4])),
        )
    return NOTHING


def _lasts(prompter: Prompter, expected: _Chats | _Plain, case: _Case) -> bool:
    """Whether a difference is one, and not that a template tells the time, which went on."""
    try:
        is_steady = expected.prompt(case.request)[0] == expected.prompt(case.request)[0]
    except Exception:  # refused whatever the time
        is_steady = True
    return is_steady and bool(_difference(prompter, expected, case))


def _refuses(prompter: Prompter, case: _Case) -> bool:
    try:
        prompter.view(case.request)
    except PlaygroundError:
        return True
    return False


def _near(text: str, at: int) -> str:
    return repr(text[max(at - 4, 0) : at + 16])


def _reason(error: BaseException) -> Translatable:
    return msg("{kind}: {reason}", kind=type(error).__name__, reason=first_line(error))


class _Plain:
    """What transformers makes of a text."""

    reads = True

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def prompt(self, request: Request) -> Expected:
        text = request.prompt
        ids: list[int] = list(self._tokenizer(text).input_ids)
        body = list(self._tokenizer(text, add_special_tokens=False).input_ids)
        start = next((at for at in range(len(ids) - len(body) + 1) if ids[at : at + len(body)] == body), None)
        if start is None:
            return text, ids
        around = ids[:start], ids[start + len(body) :]
        before, behind = ("".join(self._tokenizer.convert_ids_to_tokens(some)) for some in around)
        return before + text + behind, ids


class _Chats:
    """What transformers makes of a chat.

    Attributes:
        reads: Whether a model behind this template reads what it is asked, in whatever way that is given.
    """

    def __init__(self, tokenizer: Any, template: str) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._added = tuple(tokenizer.get_added_vocab())
        self._in_parts: set[str] = set()
        for role in ("user", "system", "assistant"):
            if not self._keeps(role):
                self._in_parts.add(role)
                if not self._keeps(role):  # neither way comes through: there is nothing that speaks for parts
                    self._in_parts.discard(role)
        self._has_system, self.reads = self._keeps("system"), self._keeps("user")

    def prompt(self, request: Request) -> Expected:
        turns = [(str(message.role), message.content) for message in request.messages] or [("user", request.prompt)]
        if request.system and self._has_system:
            turns.insert(0, ("system", request.system))
        chat = [self._message(role, text) for role, text in turns]
        text: str = self._apply(chat, tokenize=False)
        typed = [said for _, said in turns if any(name in said for name in self._added)]
        if not typed:
            return text, self._apply(chat, return_dict=False)
        if any(said.strip() not in text for said in typed):  # cut at a control token: marks around it cut elsewhere
            return text, None
        try:
            return text, self._apply(chat, return_dict=False, sanitize_control_tokens=True)
        except ValueError:  # transformers can't keep them apart; the prompter has ways of its own
            return text, None

    def _apply(self, chat: Chat, **options: Any) -> Any:
        return self._tokenizer.apply_chat_template(
            chat, chat_template=self._template, add_generation_prompt=True, **options
        )

    def _message(self, role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": text}] if role in self._in_parts else text}

    def _keeps(self, role: str) -> bool:
        """Whether a turn of this role comes through, given as is known so far."""
        word = "wordthatnobodywrites"
        turn, asked = self._message(role, word), self._message("user", "x")
        chats = {"user": [turn], "system": [turn, asked], "assistant": [asked, turn, asked]}
        try:
            text: str = self._apply(chats[role], tokenize=False)
            return word in text.lower()
        except Exception:
            return False
