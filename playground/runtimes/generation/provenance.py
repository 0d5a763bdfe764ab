"""Whose each control token of a rendered chat is: the template's, or the user's who typed its name.

A template is shown the very text the user wrote, so that the prompt is the one transformers renders. Then it is shown
the same text in stand-ins, one private character for each character, so that lengths, lines and spaces stay: where both
prompts agree, every stand-in is a character of the user's. A template that looks into the text is told apart from what
it read by changing its own words instead. What can't be told is refused, and no stand-in goes on to the model. The
module knows templates; how a text becomes tokens it is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from playground.runtimes.generation.chat_template import ChatTemplate, Places, Refused, Turn

_PRIVATE = (range(0x100000, 0x10FFFE), range(0xF0000, 0xFFFFE))


@dataclass(frozen=True)
class Control:
    """One control token in a text: its id, its name, and where it stands."""

    id: int
    name: str
    start: int
    stop: int


Find = Callable[[str], Sequence[Control]]
"""The control tokens a tokenizer reads in a text."""


@dataclass(frozen=True)
class Provenance:
    """What is known of one prompt.

    Attributes:
        users: Control tokens that a user's text holds, which are to be read as plain text.
        unclear: Names of control tokens of which it can't be told whose they are.
        changed: Turns, by their number, of which the template leaves out or changes a part.
        lost: Turns of which it leaves out everything.
    """

    users: tuple[Control, ...] = ()
    unclear: tuple[str, ...] = ()
    changed: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()


def trace(template: ChatTemplate, turns: Sequence[Turn], text: str, find: Find) -> Provenance:
    """Whose the control tokens of ``text`` are, and what became of each turn.

    Args:
        template: What rendered the turns.
        turns: As the user wrote them.
        text: ``template.render(turns, generate=True)``.
        find: Of the model's tokenizer.
    """
    return _Trace(template, turns, text, find).result()


class Mask:
    """Stand-ins, one character for one: of private characters that none of the texts holds. Spaces stand for
    themselves, because templates strip them.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        taken = set().union(*texts)
        free = (chr(code) for code in chain(*_PRIVATE) if chr(code) not in taken)
        pairs = list(zip(sorted(character for character in taken if not character.isspace()), free, strict=False))
        self._put = {ord(character): stand_in for character, stand_in in pairs}
        self._off = {ord(stand_in): character for character, stand_in in pairs}

    def put(self, text: str) -> str:
        return text.translate(self._put)

    def put_on(self, names: Iterable[str], text: str) -> str:
        """Stand-ins for these words alone; the longest first, since one may hold another."""
        for name in sorted(names, key=len, reverse=True):
            text = text.replace(name, self.put(name))
        return text

    def off(self, text: str) -> str:
        return text.translate(self._off)

    def is_on(self, text: str, start: int, stop: int) -> bool:
        """Whether a stand-in stands between the two places."""
        return any(ord(character) in self._off for character in text[start:stop])


class _Trace:
    """One prompt beside others that were rendered of stand-ins."""

    def __init__(self, template: ChatTemplate, turns: Sequence[Turn], text: str, find: Find) -> None:
        self._template, self._turns, self._text, self._find = template, turns, text, find
        self._mask = Mask([template.source, text, *template.named.values(), *(said for _, said in turns)])
        self._masked = self._render((role, self._mask.put(said)) for role, said in turns)

    def result(self) -> Provenance:
        users, unclear = self._control_tokens()
        changed, lost = self._fates()
        return Provenance(users, unclear, changed, lost)

    def _render(self, turns: Iterable[Turn]) -> str | None:
        try:
            return self._template.render(list(turns), generate=True)
        except Refused:
            return None

    def _agrees(self, masked: str | None) -> bool:
        """Whether the template wrote the same around stand-ins: it does not look into what they stand for."""
        return masked is not None and self._mask.off(masked) == self._text

    # -- control tokens ---------------------------------------------------------------------------------------------

    def _control_tokens(self) -> tuple[tuple[Control, ...], tuple[str, ...]]:
        """The user's control tokens, and the names of those of which it can't be told."""
        found = self._find(self._text)
        if not found:
            return (), ()
        if self._masked is not None and self._agrees(self._masked):
            return self._under(found, self._masked), ()
        # The template looks into the text. Only what is typed, or stands there more often than the template writes it
        # around stand-ins, can be the user's.
        typed = [token for _, said in self._turns for token in self._find(said)]
        most = Counter(token.id for token in typed)
        own = Counter(token.id for token in self._find(self._masked)) if self._masked is not None else None
        here = Counter(token.id for token in found)
        suspects = [
            token for token in found if token.id in most or (own is not None and here[token.id] > own[token.id])
        ]
        if not suspects:
            return (), ()
        names = {token.name for token in typed}
        partly = self._render((role, self._mask.put_on(names, said)) for role, said in self._turns)
        if partly is not None and self._agrees(partly) and own is not None:
            users = self._under(found, partly)
            if not Counter(token.id for token in suspects if token not in users) - own:
                return users, ()
        rest = self._besides_the_templates_own(suspects)
        if rest is None or Counter(token.id for token in rest) - most:
            return (), tuple(sorted({token.name for token in suspects}))
        return rest, ()

    def _under(self, tokens: Sequence[Control], masked: str) -> tuple[Control, ...]:
        """Those that stand where ``masked`` has stand-ins."""
        return tuple(token for token in tokens if self._mask.is_on(masked, token.start, token.stop))

    def _besides_the_templates_own(self, suspects: Sequence[Control]) -> tuple[Control, ...] | None:
        """Those that no constant of the template wrote; None where its constants can't be changed without changing
        what it does.
        """
        names = {token.name for token in suspects}
        for where in (Places(True, True), Places(True, False), Places(False, True), Places(False, False)):
            try:
                marked = self._template.render_with(
                    lambda constant: self._mask.put_on(names, constant), where, self._turns, generate=True
                )
            except Refused:
                continue
            if self._agrees(marked):
                own = self._under(suspects, marked)
                return tuple(token for token in suspects if token not in own)
        return None

    # -- turns ------------------------------------------------------------------------------------------------------

    def _fates(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Numbers of the turns that do not reach the model whole, and of those of which nothing does."""
        changed, lost = [], []
        for number, (_, said) in enumerate(self._turns):
            whole = said.strip()
            if not whole or self._is_whole(whole):
                continue
            some, all_of_it = self._fate(number, whole)
            if not some:
                lost.append(number)
            elif not all_of_it:
                changed.append(number)
        return tuple(changed), tuple(lost)

    def _is_whole(self, said: str) -> bool:
        if self._masked is not None and self._agrees(self._masked):
            return self._mask.put(said) in self._masked
        return said.casefold() in self._text.casefold()  # some templates change a text's case

    def _fate(self, number: int, whole: str) -> tuple[bool, bool]:
        """Whether anything of a turn reaches the model, and whether all does."""
        turns = enumerate(self._turns)
        alone = self._render((role, self._mask.put(said) if at == number else said) for at, (role, said) in turns)
        if alone is None:
            return True, False
        return self._mask.is_on(alone, 0, len(alone)), self._agrees(alone) and self._mask.put(whole) in alone
