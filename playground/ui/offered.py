"""Which models whoever uses the page may name: each function of the page asks here before it looks at a name.

A name like ``path:FOLDER`` makes the app look at its disk, so it counts only where nobody but the people at this
machine, or whom its settings call its own people, can call the app. Elsewhere these count: the names of the catalogue
and of what the app was told to serve. What can't be named is refused by its form alone; nothing is looked up for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from playground.errors import PlaygroundError, UnknownModel, UsageError
from playground.messages import msg, sentences
from playground.records import Variant

if TYPE_CHECKING:
    from playground.service import Playground

MAX_NAMES = 500
"""More than the catalogue has variants."""
MAX_LETTERS = 500


def variant(playground: Playground, text: Any) -> Variant:
    """The variant that ``text`` names.

    Raises:
        UsageError: It is no name, or not one that may be given here.
    """
    if not isinstance(text, str):
        kind = type(text).__name__
        raise UsageError(msg("A model's name is text, not {kind}", kind=kind), msg("Choose one of the list."))
    if len(text) > MAX_LETTERS:
        raise UsageError(
            msg("A model's name has at most {most} characters", most=MAX_LETTERS), msg("Choose one of the list.")
        )
    try:
        model = Variant.parse(text).model
    except ValueError:
        model = text.strip().rpartition("@")[0]
    if not playground.may_be_named(model):
        raise UsageError(
            msg("'{model}' is not offered here", model=model),
            sentences(
                UnknownModel(model, playground.ids(), msg("Models ▸ Find lists those there are.")).next_step,
                msg("Folders and files can be named only where the app is used from its own machine alone."),
            ),
        )
    return playground.resolve(text)[1]


def variants(playground: Playground, texts: Iterable[Any]) -> list[Variant]:
    """The variants that ``texts`` name, in their order.

    Raises:
        UsageError: One of them is no name, or not one that may be given here.
    """
    return [variant(playground, text) for text in _few(texts)]


def known(playground: Playground, texts: Iterable[Any]) -> list[Variant]:
    """As ``variants``, each once, and without what can't be named: where a state or Run says so already."""
    found: dict[Variant, None] = {}
    for text in _few(texts):
        with suppress(PlaygroundError):
            found[variant(playground, text)] = None
    return list(found)


def names(choices: Iterable[Any]) -> list[Any]:
    """The names in what several pickers sent, as far as they sent lists."""
    return [text for choice in choices if isinstance(choice, (list, tuple)) for text in choice]


def _few(texts: Iterable[Any]) -> list[Any]:
    listed = list(texts)
    if len(listed) > MAX_NAMES:
        raise UsageError(msg("{n:,} models are named", n=len(listed)), msg("Name at most {most}.", most=MAX_NAMES))
    return listed
