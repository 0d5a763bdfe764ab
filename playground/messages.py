"""What readers are told, so that it can be told in another language: English templates with named values.

A message is made where it is known what to say, by ``msg`` or ``plural``, and is a ``str``: the English sentence. It
remembers its template and values, which travel with it between processes and into files; ``render`` puts a translation
of the template in place of the English one. So nobody below the front ends asks which language is read, and nobody
fills in a sentence himself: an f-string of a message is a plain ``str``, which type checks where a message is wanted.

    raise RunError(
        msg("{model} needs {need_mb:.0f} MB, and {free_mb:.0f} MB are free", model=name, need_mb=need, free_mb=free),
        msg("Choose a smaller precision."),
    )

Templates are those of ``str.format`` with names alone. A value is a number, a text (a name, a path, somebody else's
words), another message, or a sequence of those, which is shown as a list. The module knows templates and values; which
catalogue a reader needs, ``ui`` and ``cli`` know.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any, Protocol

LIST_SEPARATOR = ", "
SENTENCE_SEPARATOR = " "
CLAUSE_SEPARATOR = "; "
PLAIN_FORMAT = re.compile(r"[,_+]?(\.\d)?[a-z%]?")
MAX_DEPTH = 40
"""Levels of messages in messages, and lists, that are read from a file; ours have a handful."""
MAX_CHARS = 1_000_000
"""Characters that a message from a file is filled in with, the messages in it included: a few lines of templates in
templates stand for billions."""
UNFIT = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template raises that does not take its values."""


class Catalogue(Protocol):
    """What ``render`` needs of a language: ``gettext.NullTranslations`` and its kin have it."""

    def gettext(self, message: str, /) -> str: ...

    def ngettext(self, msgid1: str, msgid2: str, n: int, /) -> str: ...


class Translatable(str):
    """A text in English that can be said in another language.

    Attributes:
        template: The English template, which is the ``msgid`` of the catalogues; empty for texts of somebody else's.
        plural: The template for other numbers than one; empty where there is no such form.
        values: What the names in the template stand for.
    """

    __slots__ = ("plural", "template", "values")
    template: str
    plural: str
    values: Mapping[str, Any]

    def __new__(cls, template: str, values: Mapping[str, Any], plural: str = "") -> Translatable:
        form = plural if plural and values["n"] != 1 else template
        self = super().__new__(cls, form.format_map(_Shown(values, None)))
        self.template, self.plural, self.values = template, plural, values
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.template:
            return foreign, (str(self),)
        return Translatable, (self.template, self.values, self.plural)

    def to_json(self) -> dict[str, Any]:
        """``text``, the English sentence; ``code``, its template; ``values``. ``plural`` where there is such a form."""
        data: dict[str, Any] = {"text": str(self), "code": self.template, "values": _plain(self.values)}
        return data | {"plural": self.plural} if self.plural else data

    @classmethod
    def from_json(cls, data: Any) -> Translatable:
        """The message again. A plain string, as files before 0.2 have it, stays as it is in every language.

        Whoever wrote the file is not trusted: where a template does not take its values, asks for more than names, is
        nested deeply or makes a text without end, the ``text`` stays; what is no message at all is empty.
        """
        return _FromFile().message(data, 0)


def msg(template: str, /, **values: Any) -> Translatable:
    """A message. ``template`` has to be a literal: what is translated is found by reading the source.

    Raises:
        KeyError: The template names a value that is not given.
    """
    return Translatable(template, {name: _value(value) for name, value in values.items()})


def plural(singular: str, plural: str, /, n: int, **values: Any) -> Translatable:
    """A message with a form for one and one for other numbers, both of which may name ``n``."""
    return Translatable(singular, {name: _value(value) for name, value in ({"n": n} | values).items()}, plural)


def foreign(text: str) -> Translatable:
    """Somebody else's words (a library's error, a model's file), which are shown as they are."""
    if isinstance(text, Translatable):
        return text
    self = str.__new__(Translatable, text)
    self.template, self.plural, self.values = "", "", {}
    return self


def sentences(*parts: str) -> Translatable:
    """Several messages one behind the other; empty ones are left out."""
    return _in_a_row(_Sentences(foreign(part) for part in parts if part))


def clauses(*parts: str) -> Translatable:
    """Several messages in one place of a sentence: "a; b; c"; empty ones are left out."""
    return _in_a_row(_Clauses(foreign(part) for part in parts if part))


def _in_a_row(said: _Parts) -> Translatable:
    # A list and not a message in a message for each: hundreds of those would be nested too deeply to be said.
    return said[0] if len(said) == 1 else Translatable("{parts}", {"parts": said})


NOTHING = foreign("")


Instead = Callable[["Translatable"], "Translatable | None"]
"""What is said in place of a message; None where it stays."""
Worded = Callable[[str, str], str]
"""What is said in place of a text that is nobody's template, by the name of the value that it is."""


def changed(text: Translatable, instead: Instead, worded: Worded = lambda name, text: text) -> Translatable:
    """The message with others in place of those in it, wherever they stand; what becomes empty in a row is left out."""
    found = instead(text)
    if found is not None:
        return found
    values = {name: _changed(value, name, instead, worded) for name, value in text.values.items()}
    if all(values[name] is value for name, value in text.values.items()):
        return text
    return Translatable(text.template, values, text.plural)


def _changed(value: Any, name: str, instead: Instead, worded: Worded) -> Any:
    if isinstance(value, Translatable) and value.template:
        return changed(value, instead, worded)
    if isinstance(value, str):
        said = worded(name, value)
        return value if said == value else foreign(said)
    if not isinstance(value, (list, tuple)):
        return value
    items = [_changed(item, name, instead, worded) for item in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    return type(value)(item for item in items if item != "") if isinstance(value, _Parts) else items


def render(text: str, catalogue: Catalogue) -> str:
    """``text`` in the language of ``catalogue``, and as it is where that has no such template.

    A translation that names what the message has not is as good as none: the reader gets the English sentence.
    """
    if not isinstance(text, Translatable) or not text.template:
        return str(text)
    try:
        if text.plural:
            template = catalogue.ngettext(text.template, text.plural, int(text.values["n"]))
        else:
            template = catalogue.gettext(text.template)
        return template.format_map(_Shown(text.values, catalogue))
    except UNFIT:
        return str(text)


_ORDERS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""What a terminal takes for an order, or hides, or turns the order of letters with (bidi controls); a break of line and
a tabulator are none, nor are the joiners that Indic scripts and emoji are written with."""


def spelt_out(text: str) -> str:
    """A text of anybody's, safe to be shown on a terminal or kept in a log: ``\\x1b`` in place of an escape."""
    return _ORDERS.sub(_code_of, text)


def _code_of(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _is_plain(template: str) -> bool:
    """Whether names and short formats are all that a template from a file asks for: no attributes, no widths."""
    try:
        fields = list(Formatter().parse(template))
    except ValueError:
        return False
    return all(
        name is None or (name.isidentifier() and not conversion and PLAIN_FORMAT.fullmatch(spec or ""))
        for _, name, spec, conversion in fields
    )


class _Parts(list[Any]):
    """Items, which are shown with the separator between them."""

    separator = LIST_SEPARATOR
    kind = ""


class _Sentences(_Parts):
    separator, kind = SENTENCE_SEPARATOR, "sentences"


class _Clauses(_Parts):
    separator, kind = CLAUSE_SEPARATOR, "clauses"


_KINDS: dict[str, type[_Parts]] = {each.kind: each for each in (_Sentences, _Clauses)}


class _Shown(dict[str, Any]):
    """Values as a template shows them."""

    def __init__(self, values: Mapping[str, Any], catalogue: Catalogue | None) -> None:
        super().__init__({name: _shown(value, catalogue) for name, value in values.items()})


def _shown(value: Any, catalogue: Catalogue | None) -> Any:
    if isinstance(value, Translatable):
        return str(value) if catalogue is None else render(value, catalogue)
    if isinstance(value, (list, tuple)):
        separator = value.separator if isinstance(value, _Parts) else LIST_SEPARATOR
        if catalogue is not None:
            separator = catalogue.gettext(separator)
        return separator.join(str(_shown(item, catalogue)) for item in value)
    return value


def _value(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, numbers.Integral):  # NumPy's numbers, which JSON does not take
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Sequence):
        return [_value(item) for item in value]
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Translatable):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, _Parts):
        return {value.kind: [_plain(item) for item in value]}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


class _FromFile:
    """Reads one message and those in it, which share what may be filled in."""

    def __init__(self) -> None:
        self._left = MAX_CHARS

    def message(self, data: Any, depth: int) -> Translatable:
        if isinstance(data, str):
            return foreign(data)
        if not isinstance(data, Mapping):
            return NOTHING
        template, text, plural = (_text(data.get(name)) for name in ("code", "text", "plural"))
        if depth >= MAX_DEPTH or not template or not _is_plain(template) or not _is_plain(plural):
            return foreign(text)
        try:
            values = {str(name): self._value(value, depth + 1) for name, value in (data.get("values") or {}).items()}
            if plural:
                int(values["n"])  # what a language's rule is asked with
            self._left -= max(_longest(form, _Shown(values, None)) for form in (template, plural))
            return Translatable(template, values, plural) if self._left >= 0 else foreign(text)
        except UNFIT:
            return foreign(text)

    def _value(self, value: Any, depth: int) -> Any:
        if not isinstance(value, (list, tuple, Mapping)):
            return value
        if depth >= MAX_DEPTH:
            raise ValueError("nested too deeply")
        if not isinstance(value, Mapping):
            return [self._value(item, depth + 1) for item in value]
        for name, kind in _KINDS.items():
            if isinstance(value.get(name), list):
                return kind(self._value(item, depth + 1) for item in value[name])
        return self.message(value, depth)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _longest(template: str, shown: Mapping[str, Any]) -> int:
    """Characters that the template with these values has at most."""
    length = 0
    for literal, name, _, _ in Formatter().parse(template):
        value = shown[name] if name else ""
        # A number in any short format: 309 digits before the point, nine behind it; an integer, its bits with "_".
        digits = 2 * value.bit_length() if isinstance(value, int) else 0
        length += len(literal) + (len(value) if isinstance(value, str) else 400 + digits)
    return length
