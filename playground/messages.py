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

import re
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import Any, Protocol

LIST_SEPARATOR = ", "
SENTENCE_SEPARATOR = " "
PLAIN_FORMAT = re.compile(r"[,_+]?(\.\d)?[a-z%]?")


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
    def from_json(cls, data: str | Mapping[str, Any]) -> Translatable:
        """The message again. A plain string, as files before 0.2 have it, stays as it is in every language.

        A template that does not take its values (a file changed by hand) leaves the text.
        """
        if isinstance(data, str):
            return foreign(data)
        template, text = str(data.get("code") or ""), str(data.get("text", ""))
        if not template or not _is_plain(template):
            return foreign(text)
        try:
            return cls(template, _values(data.get("values") or {}), str(data.get("plural") or ""))
        except (KeyError, ValueError, IndexError, AttributeError, TypeError):
            return foreign(text)


def msg(template: str, /, **values: Any) -> Translatable:
    """A message. ``template`` has to be a literal: what is translated is found by reading the source.

    Raises:
        KeyError: The template names a value that is not given.
    """
    return Translatable(template, {name: _value(value) for name, value in values.items()})


def plural(singular: str, plural: str, /, n: int, **values: Any) -> Translatable:
    """A message with a form for one and one for other numbers, both of which may name ``n``."""
    return Translatable(singular, {"n": n} | {name: _value(value) for name, value in values.items()}, plural)


def foreign(text: str) -> Translatable:
    """Somebody else's words (a library's error, a model's file), which are shown as they are."""
    if isinstance(text, Translatable):
        return text
    self = str.__new__(Translatable, text)
    self.template, self.plural, self.values = "", "", {}
    return self


def sentences(*parts: str) -> Translatable:
    """Several messages one behind the other; empty ones are left out."""
    said = [foreign(part) for part in parts if part]
    return said[0] if len(said) == 1 else Translatable("{parts}", {"parts": _Sentences(said)})


NOTHING = foreign("")


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
    except (KeyError, ValueError, IndexError, AttributeError):
        return str(text)


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


class _Sentences(list[Any]):
    """Parts that are shown one behind the other, not as a list."""


class _Shown(dict[str, Any]):
    """Values as a template shows them."""

    def __init__(self, values: Mapping[str, Any], catalogue: Catalogue | None) -> None:
        super().__init__({name: _shown(value, catalogue) for name, value in values.items()})


def _shown(value: Any, catalogue: Catalogue | None) -> Any:
    if isinstance(value, Translatable):
        return str(value) if catalogue is None else render(value, catalogue)
    if isinstance(value, (list, tuple)):
        separator = SENTENCE_SEPARATOR if isinstance(value, _Sentences) else LIST_SEPARATOR
        if catalogue is not None:
            separator = catalogue.gettext(separator)
        return separator.join(str(_shown(item, catalogue)) for item in value)
    return value


def _value(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Sequence):
        return [_value(item) for item in value]
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Translatable):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, _Sentences):
        return {"sentences": [_plain(item) for item in value]}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _values(data: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): _again(value) for name, value in data.items()}


def _again(value: Any) -> Any:
    if isinstance(value, Mapping):
        if isinstance(value.get("sentences"), list):
            return _Sentences(_again(item) for item in value["sentences"])
        return Translatable.from_json(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_again(item) for item in value]
    return value
