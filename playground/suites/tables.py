"""Rows of a table become tests: columns are variables, but for promptfoo's special ones that begin with ``__``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from playground.config.validation import closest
from playground.messages import msg
from playground.suites import assertions, cases, prompts, template
from playground.suites.assertions import Assertion, Reader
from playground.suites.cases import Case
from playground.suites.kinds import KINDS
from playground.suites.spots import Spot, short
from playground.suites.suite import NOT

SPECIAL = ("__expected", "__prefix", "__suffix", "__description", "__metric", "__threshold", "__metadata", "__config",
           "__id", "__system")  # fmt: skip
_EXPECTED = re.compile(r"__expected(?P<number>[0-9]*)")
_CONFIG = re.compile(r"__config:__expected(?P<number>[0-9]*):(?P<key>\w+)")
_UNESCAPED = re.compile(r"(?<!\\),")


def check_header(names: list[str], spot: Spot) -> None:
    """Refuse columns that look special and are not.

    Raises:
        UsageError: Naming the column and the nearest that there is.
    """
    for name in names:
        here = spot.at(msg("column {name}", name=short(name)))
        if name.startswith("__") and not _is_special(name):
            if name == "__providerOutput":
                raise here.error(msg("answers come from models here"), msg("Remove the column."))
            if name == "__metadata":
                raise here.error(msg("metadata needs a name"), msg("Write __metadata:NAME."))
            if name.startswith("__config"):
                raise here.error(msg("this sets nothing"), msg("Write __config:__expected:threshold."))
            raise here.error(msg("there is no such special column"), closest(name, SPECIAL))
        if re.match(r"_(expected|prefix|suffix|description|metric|threshold|metadata)", name):
            raise here.error(msg("special columns begin with two underscores"), msg("Write _{name}.", name=short(name)))


def _is_special(name: str) -> bool:
    if name in ("__prefix", "__suffix", "__description", "__metric", "__threshold", "__id", "__system"):
        return True
    if (config := _CONFIG.fullmatch(name)) is not None:
        return config["key"] in ("threshold", "weight")
    return _EXPECTED.fullmatch(name) is not None or (name.startswith("__metadata:") and len(name) > len("__metadata:"))


def case_of(cells: Mapping[str, Any], here: Spot, reader: Reader) -> Case:
    """A row by the names of its header.

    Raises:
        UsageError: A check can't be read; with the column.
    """

    def column(name: str) -> Spot:
        return here.at(msg("column {name}", name=short(name)))

    def said(name: str) -> str:
        return prompts.text(cells.get(name) or "", column(name))

    config = _config(cells, column)
    found: list[Assertion] = []
    for name in cells:
        match = _EXPECTED.fullmatch(name)
        if match is None or not (text := said(name)).strip():
            continue
        own = reader.short(text, column(name))
        given: dict[str, Any] = {"metric": said("__metric").strip()}
        for key in ("threshold", "weight"):
            value = config.get((match["number"], key), config.get(("", key)))
            if value is not None:
                given[key] = value
        whole = {**vars(own), **given}
        found.append(assertions.checked(Assertion(**whole), KINDS[own.type.removeprefix(NOT)]))
    options = {key: said(f"__{key}") for key in ("prefix", "suffix", "system") if cells.get(f"__{key}")}
    return Case(
        here,
        said("__id").strip(),
        said("__description"),
        {name: value for name, value in cells.items() if not name.startswith("__")},
        tuple(found),
        cases.row_threshold(cells.get("__threshold"), column("__threshold")),
        _metadata(cells),
        options,
    )


def _config(cells: Mapping[str, Any], column: Any) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for name, cell in cells.items():
        match = _CONFIG.fullmatch(name)
        if match is not None and (value := assertions.limit(cell, column(name))) is not None:
            found[(match["number"], match["key"])] = value
    return found


def _metadata(cells: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name, cell in cells.items():
        if not name.startswith("__metadata:") or cell in (None, ""):
            continue
        key = name.removeprefix("__metadata:")
        if key.endswith("[]"):
            parts = _UNESCAPED.split(template.text_of(cell))
            found[key[:-2]] = ", ".join(part.replace("\\,", ",").strip() for part in parts)
        else:
            found[key] = cases.short_list(cell)
    return found
