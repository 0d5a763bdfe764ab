"""Small checks for values read from YAML: each names the place it found wrong and what to do.

A check takes the value and where it stands, and raises ``ConfigError``. Places read ``catalog.yaml: gemma-3-270m:
card.license.url``: who starts a check passes the part up to the last colon, with ``": "`` at its end. It knows
nothing of models or Spaces; ``catalog/`` and ``deploy.py`` put checks together.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from playground.errors import ConfigError

Check = Callable[[Any, str], None]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys(_Loader):  # type: ignore[misc]
    """PyYAML keeps the last of two equal keys without a word; a catalogue should not lose facts that way."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = key.value
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{name}' stands twice", key.start_mark)
            seen.add(name)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def read_yaml(path: Path) -> Any:
    """Parse a YAML file; equal keys in one mapping are an error.

    Raises:
        ConfigError: The file can't be read or is not YAML; the message has the line.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror})", "Restore the file.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text", "Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}", "Mend the line it names.") from error


def text(value: Any, where: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where} must be text, not {value!r}", "Write it in quotes.")


def count(value: Any, where: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ConfigError(f"{where} must be a whole number above 0, not {value!r}", "Leave it out where it is unknown.")


def scalar(value: Any, where: str) -> None:
    if not isinstance(value, (str, int, float)) or value == "":
        raise ConfigError(f"{where} must be a number or text, not {value!r}", "Leave it out where it is unknown.")


def flag(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{where} must be true or false, not {value!r}", "Write it without quotes.")


def url(value: Any, where: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/]+\S*", value):
        raise ConfigError(f"{where} must be an http(s) address, not {value!r}", "Give a full address.")


def one_of(*choices: str) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in choices:
            hint = " (quote it: YAML reads yes and no as true and false)" if isinstance(value, bool) else ""
            raise ConfigError(f"{where} is {value!r}{hint}", closest(str(value), choices))

    return check


def nullable(check: Check) -> Check:
    def checked(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return checked


def list_of(check: Check, *, least: int = 0) -> Check:
    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) < least:
            raise ConfigError(f"{where} must be a list{f' of at least {least}' if least else ''}", "Write [a, b].")
        for position, item in enumerate(value):
            check(item, f"{where}[{position}]")

    return checked


def mapping(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """A block with known keys. Its errors name every key that is missing, or the first that is unknown or wrong."""
    known = {**required, **(optional or {})}

    def checked(value: Any, where: str) -> None:
        place = where.rstrip(": ")
        if not isinstance(value, dict):
            raise ConfigError(f"{place} must be a block of keys, not {value!r}", f"Known keys: {', '.join(known)}.")
        for key in value:
            if key not in known:
                raise ConfigError(f"{place}: unknown key '{key}'", closest(str(key), known))
        if missing := [key for key in required if key not in value]:
            names = " and ".join(f"'{key}'" for key in missing)
            what = f"the key {names} is missing" if len(missing) == 1 else f"the keys {names} are missing"
            raise ConfigError(f"{place}: {what}", f"Add {' and '.join(missing)}.")
        for key, item in value.items():
            known[key](item, where + key if where.endswith(": ") else f"{where}.{key}")

    return checked


def closest(name: str, known: Mapping[str, Any] | tuple[str, ...] | list[str]) -> str:
    """The next step for a misspelt name."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(known)}."
