"""The checks of a file: blocks of ``assert``, and the short form of CSV, ``contains:Paris``.

A check is read twice: its type, keys and limits when the file is read, its value when a row's variables are known.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from playground.config.validation import closest
from playground.errors import Reason
from playground.messages import NOTHING, Translatable, msg
from playground.suites import json_text, kinds, prompts, template, yaml_text
from playground.suites.files import PREFIX, SCRIPTS, Folder
from playground.suites.judging import SET
from playground.suites.kinds import KINDS, REFUSED
from playground.suites.spots import Spot, short
from playground.suites.suite import NOT, Check

KEYS = ("type", "value", "threshold", "weight", "metric")
SET_KEYS = ("type", "assert", "threshold", "weight", "metric")
UNSUPPORTED = ("transform", "contextTransform", "provider", "rubricPrompt", "config", "normalizeUnicode")
TEMPLATES = "#/assertionTemplates/"
_SHORT = re.compile(
    r"(?P<sign>not-)?(?P<type>[a-z][a-z:-]*?)(?:\((?P<limit>[0-9]+(?:\.[0-9]+)?)\))?(?::(?P<value>.*))?", re.DOTALL
)
_LIKE_A_TYPE = re.compile(r"(?:not-)?(?P<type>[a-z]+(?:-[a-z]+)*)(?:\([0-9.]+\))?:")


@dataclass(frozen=True)
class Assertion:
    """A check as the file has it, variables not filled in."""

    type: str
    spot: Spot
    value: Any = None
    threshold: float | None = None
    weight: float = 1.0
    metric: str = ""
    members: tuple[Assertion, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def check(self, values: Mapping[str, Any], row: Spot, longest: int) -> Check:
        """The check of a row, its variables filled in.

        Raises:
            UsageError: A variable has no value, or the value is none that the type takes, or is longer than
                ``longest`` characters.
        """
        own = self.spot.file == row.file and self.spot.steps[: len(row.steps)] == row.steps
        here = self.spot if own else Spot(row.file, (*row.steps, *self.spot.steps), self.spot.line)
        metric = _filled(self.metric, values, here.key("metric"), longest)
        if self.type == SET:
            members = tuple(each.check(values, row, longest) for each in self.members)
            return Check(SET, None, self.threshold, self.weight, str(metric), members)
        kind = KINDS[self.type.removeprefix(NOT)]
        value, options = self.value, dict(self.options)
        if kind.value is not None and value is not None:
            filled = _filled(value, values, here, longest)
            try:
                value = kind.value(filled)
            except Reason as error:
                what = msg("{type} can't be checked", type=self.type)
                raise here.because(what, error, msg("Mend its value.")) from error
        return Check(self.type, value, self.threshold, self.weight, str(metric), (), options)


def _filled(value: Any, values: Mapping[str, Any], here: Spot, longest: int) -> Any:
    """A text, or the texts of a list, with variables filled in; blocks are taken as they are, as in promptfoo."""
    if isinstance(value, list):
        return [_filled(each, values, here, longest) if isinstance(each, str) else each for each in value]
    if not isinstance(value, str):
        return value
    try:
        return template.compiled(value).fill(values, longest)
    except Reason as error:
        missing = isinstance(error, template.Missing)
        step = msg("Give the variable a value in this row.") if missing else msg("Shorten it.")
        raise here.error(error.reason, step) from error


@dataclass(frozen=True)
class Reader:
    """Reads the checks of one file.

    Attributes:
        folder: Where files that values name are.
        templates: The file's ``assertionTemplates``.
    """

    folder: Folder
    templates: Mapping[str, Any] = field(default_factory=dict)

    def read(self, value: Any, spot: Spot) -> tuple[Assertion, ...]:
        """The checks of a list ``assert``.

        Raises:
            UsageError: One is of an unknown or unsupported type, or has keys or limits that its type does not take.
        """
        if value is None:
            return ()
        if not isinstance(value, list):
            raise spot.error(msg("assert must be a list of checks"), msg("Begin each with '- type:'."))
        found = []
        for number, block in enumerate(value, 1):
            here = spot.at(msg("check {n}", n=number), yaml_text.line_of(value, number - 1))
            found.append(self._block(block, here))
        return tuple(found)

    def _block(self, block: Any, here: Spot, *, in_set: bool = False) -> Assertion:
        if not isinstance(block, dict):
            raise here.error(msg("a check is a block of keys"), msg("Write type and value."))
        block = self._resolved(block, here)
        name = block.get("type")
        if not isinstance(name, str):
            raise here.error(msg("the key 'type' is missing"), msg("Write one of {names}.", names=list(KINDS)))
        known(name, here, in_set=in_set)
        base = name.removeprefix(NOT)
        kind = KINDS.get(base)
        keys = SET_KEYS if kind is None else (*KEYS, *kind.options)
        for key in block:
            if key in UNSUPPORTED:
                raise here.error(msg("'{key}' of a check is not supported", key=key), msg("Remove it."))
            if key not in keys:
                raise here.unknown(key, keys)
        shared: dict[str, Any] = {
            "threshold": limit(block.get("threshold"), here.key("threshold", yaml_text.line_of(block, "threshold"))),
            "weight": limit(block.get("weight", 1.0), here.key("weight", yaml_text.line_of(block, "weight"))) or 0.0,
            "metric": prompts.text(block.get("metric", ""), here.key("metric")),
        }
        if kind is None:
            return self._set(block, here, shared)
        value = self._value(block.get("value"), here.key("value", yaml_text.line_of(block, "value")))
        options = {key: _option(key, block[key], here.key(key)) for key in kind.options if key in block}
        return checked(Assertion(name, here, value, options=options, **shared), kind)

    def _resolved(self, block: Mapping[str, Any], here: Spot) -> Mapping[str, Any]:
        """The template that a ``$ref`` names, with what stands beside it on top."""
        if "$ref" not in block:
            return block
        ref = block["$ref"]
        name = str(ref).removeprefix(TEMPLATES)
        if not str(ref).startswith(TEMPLATES) or name not in self.templates:
            raise here.error(
                msg("there is no template {ref}", ref=short(ref)),
                closest(name, self.templates) if self.templates else msg("Write it under assertionTemplates."),
            )
        found = self.templates[name]
        if not isinstance(found, dict) or "$ref" in found:
            raise here.error(msg("the template {ref} is no check", ref=short(ref)), msg("Write type and value."))
        return {**found, **{key: value for key, value in block.items() if key != "$ref"}}

    def _set(self, block: Mapping[str, Any], here: Spot, shared: Mapping[str, Any]) -> Assertion:
        members = block.get("assert")
        if not isinstance(members, list) or not members:
            raise here.error(msg("an assert-set needs a list 'assert'"), msg("Write the checks of the set below it."))
        found = []
        for number, each in enumerate(members, 1):
            place = here.at(msg("check {n} of the set", n=number), yaml_text.line_of(members, number - 1))
            found.append(self._block(each, place, in_set=True))
        if shared["threshold"] is not None and shared["threshold"] > 1:
            raise here.key("threshold").error(msg("a mean score is never above 1"), msg("Write 0.5, for one."))
        return Assertion(SET, here, members=tuple(found), **shared)

    def _value(self, value: Any, here: Spot) -> Any:
        if isinstance(value, list):
            return [self._value(each, here) if isinstance(each, str) else each for each in value]
        if not isinstance(value, str):
            return value
        if value.startswith("package:"):
            raise here.error(msg("{value} is a script, and scripts are not run", value=short(value)), msg("Remove it."))
        if not value.startswith(PREFIX):
            _compile(value, here)
            return value
        name, content = self.folder.read(value, here)
        if name.endswith(".json"):
            return json_text.parse(content, Spot(name))
        if name.endswith((".yaml", ".yml")):
            return yaml_text.parse(content, Spot(name))
        return content.removesuffix("\n")

    def short(self, text: str, here: Spot) -> Assertion:
        """A check as CSV has it: ``type:value``, ``type(limit):value``, or a text that is to be the answer."""
        text = text.strip()
        bare = text.removeprefix(NOT)
        for prefix in ("javascript:", "fn:", "eval:", "python:", "ruby:", "grade:"):
            if bare.startswith(prefix):
                raise refused(prefix[:-1], here)
        if bare.startswith(PREFIX):
            if any(f"{suffix}:" in f"{bare}:" for suffix in SCRIPTS):
                raise refused("javascript", here)
            return Assertion("equals", here, self._value(bare, here))
        match = _SHORT.fullmatch(text)
        name = match["type"] if match else ""
        if match is None or not (name in KINDS or name in REFUSED) or not (_says(match, name)):
            near = _LIKE_A_TYPE.match(text)
            if near and near["type"] not in KINDS and (guess := _near(near["type"])):
                raise here.error(
                    msg("'{type}' is no type of check", type=near["type"]),
                    msg("Did you mean {name}? If it is the answer itself: equals:{text}", name=guess, text=short(text)),
                )
            return self._of_short("equals", text, None, here)
        if name in REFUSED:
            raise refused(name, here)
        value = match["value"].strip() if match["value"] else None
        return self._of_short(f"{match['sign'] or ''}{name}", value, match["limit"], here)

    def _of_short(self, name: str, value: str | None, given: str | None, here: Spot) -> Assertion:
        kind = KINDS[name.removeprefix(NOT)]
        options: dict[str, Any] = {}
        threshold = None if given is None else float(given)
        if given is not None and "tolerance" in kind.options:
            threshold, options = None, {"tolerance": kinds.tolerance(given)}
        return checked(Assertion(name, here, self._value(value, here), threshold, options=options), kind)


def _says(match: re.Match[str], name: str) -> bool:
    """Whether a cell is a check and not the one word of an answer that is called as a check is."""
    if match["value"] is not None or match["limit"] is not None:
        return True
    return name in KINDS and KINDS[name].optional and KINDS[name].value is not None


def _near(name: str) -> str:
    hint = closest(name, KINDS)
    return str(hint.values.get("name", ""))


def known(name: str, here: Spot, *, in_set: bool) -> None:
    """Refuse a type that there is not, or that can't be checked here."""
    base = name.removeprefix(NOT)
    if name == SET and not in_set:
        return
    if base == SET:
        raise here.error(
            msg("a set of checks can't stand in a set, nor with 'not-'"), msg("Write its checks one by one.")
        )
    if base in REFUSED or base.startswith("promptfoo:"):
        raise refused(base, here)
    if base not in KINDS:
        raise here.error(msg("unknown type of check '{type}'", type=short(name)), closest(base, KINDS))


def refused(name: str, here: Spot) -> Exception:
    reason: Translatable = REFUSED.get(name, NOTHING) or msg("it belongs to promptfoo's red teaming")
    return here.error(
        msg("the check '{type}' is not supported: {reason}", type=short(name), reason=reason),
        msg("Remove it; docs/suites.md lists the checks that there are."),
    )


def checked(found: Assertion, kind: kinds.Kind) -> Assertion:
    """The assertion, if its value and limit are such as its type takes."""
    here, name = found.spot, found.type
    if kind.value is None and found.value is not None:
        raise here.error(
            msg("{type} takes no value; its limit is 'threshold'", type=name), msg("Write threshold: instead.")
        )
    if kind.value is not None and not kind.optional and found.value is None:
        raise here.error(msg("{type} needs a value", type=name), msg("Write value:."))
    if kind.threshold == "no" and found.threshold is not None:
        raise here.error(msg("{type} has no limit, so 'threshold' does nothing", type=name), msg("Remove it."))
    if kind.threshold == "must" and found.threshold is None:
        raise here.error(
            msg("{type} needs a limit", type=name), msg("Write threshold: 5; in a CSV file {type}(5).", type=name)
        )
    if kind.most is not None and found.threshold is not None and found.threshold > kind.most:
        raise here.error(
            msg("the limit of {type} is at most {most:g}, not {value:g}", type=name, most=kind.most,
                value=found.threshold),
            msg("Mend threshold."),
        )  # fmt: skip
    if "enforce" in found.options and name.startswith(NOT):
        raise here.error(msg("an answer can't be held to what it must not be"), msg("Remove enforce."))
    return found


def limit(value: Any, here: Spot) -> float | None:
    """A threshold or a weight; a text that is a number will do, as CSV brings it."""
    if value is None or value == "":
        return None
    try:
        found = kinds.number(value)
    except Reason as error:
        raise here.error(error.reason, msg("Mend it.")) from error
    if found < 0 or not math.isfinite(found):
        raise here.error(msg("{value:g} is below 0", value=found), msg("Mend it."))
    return found


def _option(key: str, value: Any, here: Spot) -> Any:
    if key == "enforce":
        if not isinstance(value, bool):
            raise here.error(msg("enforce is true or false"), msg("Mend it."))
        return value
    try:
        return kinds.tolerance(value)
    except Reason as error:
        raise here.error(error.reason, msg("Mend it.")) from error


def _compile(text: str, here: Spot) -> None:
    try:
        template.compiled(text)
    except Reason as error:
        raise here.error(error.reason, msg("Write out what it stands for.")) from error


def schema_of(checks: tuple[Check, ...]) -> str:
    """The schema that an answer is held to while it is decoded, by the first ``is-json`` that says enforce."""
    for check in checks:
        if check.options.get("enforce"):
            return json.dumps(check.value, ensure_ascii=False) if isinstance(check.value, dict) else "{}"
    return ""
