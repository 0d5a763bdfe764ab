"""What tools answer with: JSON, whose messages are told last, schemas of it, and which models an agent may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from playground.errors import UnknownModel, UsageError
from playground.messages import Translatable, msg, sentences
from playground.records import Variant

if TYPE_CHECKING:
    from playground.service import Playground

Document = dict[str, Any]
LISTED = msg("The tool choose lists them, without arguments.")


def document(value: Any) -> Any:
    """A value as JSON: records as objects without what is empty. Messages stay messages, for ``told``."""
    if isinstance(value, Variant):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        items = {each.name: document(getattr(value, each.name)) for each in fields(value)}
        return {name: item for name, item in items.items() if item not in (None, "", [], {})}
    if isinstance(value, Mapping):
        return {str(key): document(item) for key, item in value.items()}
    if isinstance(value, str):
        return value if isinstance(value, Translatable) else str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [document(item) for item in value]
    return value


def told(playground: Playground, made: Document) -> Document:
    """A document as whoever asked is told it, plain: its messages for visitors where strangers come, in English."""
    said: Document = _plain(playground.all_told(made))
    return said


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def schema(**properties: Any) -> Document:
    """An object with these properties and perhaps more; a type's name stands for a property of that type."""
    told = {name: {"type": kind} if isinstance(kind, str) else kind for name, kind in properties.items()}
    return {"type": "object", "properties": told, "required": list(told)}


def of_objects(**properties: Any) -> Document:
    """A list of such objects."""
    return {"type": "array", "items": schema(**properties)}


def named(playground: Playground, names: Sequence[str], owner: str | None = None) -> list[Variant]:
    """The variants that an agent named. Where strangers come, folders and files of this machine are nobody's to name.

    Args:
        owner: Who is to run them; None where they are only read of.

    Raises:
        UsageError: One of them names nothing, or what may not be named here.
    """
    if playground.settings.strangers:
        offered = {*playground.ids(), *(entry.spec.id for entry in playground.served())}
        for name in names:
            model = name.rpartition("@")[0] or name
            if model not in offered:
                raise UsageError(
                    msg("'{model}' is not offered here", model=model[:100]),
                    sentences(
                        UnknownModel(model[:100], offered, LISTED).next_step,
                        msg("Folders, files and repositories can be named only on the machine itself."),
                    ),
                )
    found = playground.variants(names)
    if owner is not None:
        playground.check_may_run(found, owner)
    return found
