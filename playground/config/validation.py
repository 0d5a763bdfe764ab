"""YAML read, and pydantic's errors told as ours: the place, what is wrong there, and what to do.

Places read ``catalog.yaml: gemma-3-270m: card.license.url``: who asks for a check passes the part up to the last
colon, with ``": "`` at its end. What a block may hold, ``schema.py`` and the schemas of other packages say; they load
pydantic, this module does not. It knows nothing of models or Spaces.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import yaml

from playground.errors import ConfigError, all_of, first_line
from playground.messages import Translatable, foreign, msg, sentences

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    Block = TypeVar("Block", bound=BaseModel)

Place = tuple[int | str, ...]
_WORD = re.compile(r"[A-Za-z][A-Za-z_]{0,19}")
Tell = Callable[[str], ConfigError]
"""The error about what stands at a place."""

RESTORE = msg("Restore the file.")

MAX_REPEATED = 200
"""Characters of a wrong value that a message repeats."""
MOST_TOLD = 100
"""Mistakes of one document: a list of a million has a million, and looking for what was meant takes its time."""
HIDDEN: Any = object()
"""Stands for a value that no message may repeat."""

MOST_MERGED = 100_000
"""Keys of one block with those that it merges (``<<``)."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys(_Loader):  # type: ignore[misc]
    """PyYAML keeps the last of two equal keys without a word; a catalogue should not lose facts that way."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):  # a list or a block, which is no key of ours
                continue
            name = key.value
            if name in seen:
                # PyYAML writes lines and columns around it; both are shown as they are.
                problem = msg("the key '{name}' stands twice", name=str(name))
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(name)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Blocks that merge blocks that merge blocks have ten times the keys at each step."""
        super().flatten_mapping(node)
        if len(node.value) > MOST_MERGED:
            problem = msg("a block of more than {most:,} keys", most=MOST_MERGED)
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def read_yaml(path: Path, restore: Translatable = RESTORE) -> Any:
    """Parse a YAML file; equal keys in one mapping are an error.

    Args:
        restore: What to do where it can't be read.

    Raises:
        ConfigError: The file can't be read or is not YAML; the message has the line.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        reason = foreign(str(error.strerror))
        raise ConfigError(msg("{path} can't be read ({reason})", path=path, reason=reason), restore) from error
    except UnicodeDecodeError as error:
        raise ConfigError(msg("{path} is not UTF-8 text", path=path), msg("Save it as UTF-8.")) from error
    except yaml.YAMLError as error:
        reason = foreign(str(error))
        raise ConfigError(
            msg("{path} is not valid YAML: {reason}", path=path, reason=reason), msg("Mend the line it names.")
        ) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Of a path with a NUL, or of PyYAML's conversions, which let raw errors through: 2026-02-30, !!bool x.
        said = first_line(error)
        reason = said if "'" not in said else foreign(type(error).__name__)  # what is quoted may be a key
        raise ConfigError(
            msg("{path} holds a value that can't be read ({reason})", path=_printable(path), reason=reason),
            sentences(msg("Look for dates, huge numbers and tags (!!) that are none."), restore),
        ) from error


def _printable(path: Path) -> str:
    return "".join(char if char.isprintable() else "?" for char in str(path))


def checked(block: type[Block], value: Any, where: str) -> Block:
    """``value`` as a block.

    Raises:
        ConfigError: About the first mistake: a key that is unknown before one that is missing before a wrong value.
    """
    from pydantic import ValidationError

    try:
        return block.model_validate(value)
    except ValidationError as error:
        found = mistakes(block, error, where)
    raise found[0]  # not "from" pydantic's error, which repeats values


def problems(block: type[BaseModel], value: Any, where: str) -> list[ConfigError]:
    """Every mistake in ``value``, so that one does not hide the next."""
    from pydantic import ValidationError

    try:
        block.model_validate(value)
    except ValidationError as error:
        return mistakes(block, error, where)
    return []


def mistakes(block: type[BaseModel], error: Any, where: str) -> list[ConfigError]:
    """What pydantic found (a ``ValidationError`` about ``block``), in our words.

    Of a block that says it is ``private``, no value is repeated, and no key that is no plain word: somebody may have
    pasted a secret in its place.
    """
    details: list[ErrorDetails] = error.errors(include_url=False)
    private = bool(getattr(block, "private", False))
    unknown = [each for each in details if each["type"] == "extra_forbidden"]
    missing: dict[Place, list[str]] = {}
    for each in details:
        if each["type"] == "missing":
            missing.setdefault(each["loc"][:-1], []).append(str(each["loc"][-1]))
    others = [each for each in details if each["type"] not in ("extra_forbidden", "missing")]
    found = chain(
        (
            unknown_key(str(each["loc"][-1]), _keys(block, each["loc"][:-1]), _block(where, each), private=private)
            for each in unknown
        ),
        (_missing(names, place_of(where, loc).rstrip(": ")) for loc, names in missing.items()),
        (_wrong(block, {**each, "input": HIDDEN} if private else each, where) for each in others),
    )
    return list(islice(found, MOST_TOLD))


def unknown_key(key: str, known: Sequence[str], place: str, *, private: bool = False) -> ConfigError:
    if private and not _WORD.fullmatch(key):
        return ConfigError(
            msg("{place}: unknown key (not repeated: it may be an API key)", place=place), closest("", known)
        )
    return ConfigError(msg("{place}: unknown key '{key}'", place=place, key=key), closest(key, known))


def closest(name: str, known: Iterable[str]) -> Translatable:
    """The next step for a misspelt name."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return msg("Did you mean {name}?", name=close[0]) if close else msg("Known: {names}.", names=names)


def place_of(where: str, loc: Place) -> str:
    """Where something stands, in the words of a reader: ``where`` and then keys and positions."""
    for step in loc:
        if isinstance(step, int):
            where += f"[{step}]"
        else:
            where += step if where.endswith(": ") else f".{step}"
    return where


def _block(where: str, detail: ErrorDetails) -> str:
    """The block that a key stands in."""
    return place_of(where, detail["loc"][:-1]).rstrip(": ")


def _missing(names: list[str], place: str) -> ConfigError:
    add = msg("Add {names}.", names=all_of(names))
    if len(names) == 1:
        return ConfigError(msg("{place}: the key '{name}' is missing", place=place, name=names[0]), add)
    return ConfigError(
        msg("{place}: the keys {names} are missing", place=place, names=all_of([f"'{name}'" for name in names])), add
    )


def _wrong(block: type[BaseModel], detail: ErrorDetails, where: str) -> ConfigError:
    place, value, context = place_of(where, detail["loc"]), detail["input"], detail.get("ctx", {})
    if "tell" in context:  # raised by a check of ours
        told: ConfigError = context["tell"](place)
        return told
    if detail["type"] in ("model_type", "model_attributes_type"):
        return not_a_block(place.rstrip(": "), value, _keys(block, detail["loc"]))
    if detail["type"] == "literal_error":
        return _not_one_of(place, value, re.findall(r"'([^']*)'", context["expected"]))
    if detail["type"] in ("list_type", "too_short"):
        least = context.get("min_length", 0)
        what = msg("{place} must be a list of at least {least}", place=place, least=least)
        return ConfigError(what if least else msg("{place} must be a list", place=place), msg("Write [a, b]."))
    return _not_a_value(detail["type"], place, value, context, foreign(detail["msg"]))


def _repeated(value: Any) -> str:
    """A wrong value as a message shows it."""
    if value is HIDDEN:
        return msg("what stands there")
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits than Python writes
        text = type(value).__name__
    return text if len(text) <= MAX_REPEATED else f"{text[:MAX_REPEATED]}…"


def not_text(value: Any, place: str) -> ConfigError:
    what = msg("{place} must be text, not {value}", place=place, value=_repeated(value))
    return ConfigError(what, msg("Write it in quotes."))


def not_an_address(value: Any, place: str) -> ConfigError:
    what = msg("{place} must be an http(s) address, not {value}", place=place, value=_repeated(value))
    return ConfigError(what, msg("Give a full address."))


def not_a_block(place: str, value: Any, known: Sequence[str]) -> ConfigError:
    what = msg("{place} must be a block of keys, not {value}", place=place, value=_repeated(value))
    return ConfigError(what, msg("Known keys: {names}.", names=known))


def _not_one_of(place: str, value: Any, choices: list[str]) -> ConfigError:
    if isinstance(value, bool):
        what = msg(
            "{place} is {value} (quote it: YAML reads yes and no as true and false)",
            place=place,
            value=_repeated(value),
        )
    elif value is HIDDEN:
        return ConfigError(msg("{place} is none of {names}", place=place, names=choices), msg("Write one of them."))
    else:
        what = msg("{place} is {value}", place=place, value=_repeated(value))
    return ConfigError(what, closest(str(value), choices))


def _not_a_value(kind: str, place: str, value: Any, context: Mapping[str, Any], reason: Translatable) -> ConfigError:
    named = {"place": place, "value": _repeated(value)}
    leave_out = msg("Leave it out where it is unknown.")
    if kind.startswith("string"):
        return not_text(value, place)
    if kind.startswith("bool"):
        return ConfigError(msg("{place} must be true or false, not {value}", **named), msg("Write it without quotes."))
    if kind.startswith("int") or (kind == "greater_than" and isinstance(context["gt"], int)):
        return ConfigError(msg("{place} must be a whole number above 0, not {value}", **named), leave_out)
    if kind in ("float_type", "finite_number"):
        return ConfigError(msg("{place} must be a number, not {value}", **named), msg("Mend it."))
    if kind == "greater_than":
        what = msg("{place} must be a number above {least:g}, not {value}", least=context["gt"], **named)
        return ConfigError(what, msg("Mend it."))
    if kind == "greater_than_equal":
        what = msg("{place} must be a number of at least {least:g}, not {value}", least=context["ge"], **named)
        return ConfigError(what, msg("Mend it."))
    if kind.startswith("date"):
        return ConfigError(msg("{place} must be a date like 2026-07-21, not {value}", **named), msg("Mend it."))
    return ConfigError(msg("{place} is {value}: {reason}", reason=reason, **named), msg("Mend it."))


def _keys(block: type[BaseModel], loc: Place) -> list[str]:
    """The keys of the block at a place of ``block``."""
    found: type[BaseModel] = block
    for step in loc:
        if isinstance(step, str):
            found = _block_in(found.model_fields[step].annotation) or found
    return list(found.model_fields)


def _block_in(annotation: Any) -> type[BaseModel] | None:
    """The block that a type is made of: ``list[Score]``, ``License | None``."""
    if hasattr(annotation, "model_fields"):
        block: type[BaseModel] = annotation
        return block
    return next((found for each in get_args(annotation) if (found := _block_in(each))), None)
