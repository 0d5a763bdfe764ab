"""Tests of a file become rows: what stands in every test is laid under each, lists of variables are multiplied, and
each is put into every prompt.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from playground.errors import Reason
from playground.messages import msg
from playground.records import SuiteRow
from playground.suites import assertions, csv_text, json_text, prompts, providers, template, yaml_text
from playground.suites.assertions import Assertion, Reader
from playground.suites.files import PREFIX
from playground.suites.prompts import Prompt
from playground.suites.spots import Limits, Spot, short
from playground.suites.suite import Check

KEYS = ("id", "description", "vars", "assert", "threshold", "metadata", "options")
UNSUPPORTED = {
    "provider": msg("Every model is asked every row; make two suites."),
    "providers": msg("Every model is asked every row; make two suites."),
    "prompts": msg("Every prompt is put to every row; make two suites."),
    "providerOutput": msg("Answers come from models here; remove it."),
    "assertScoringFunction": msg("Scripts are not run; use weights and threshold."),
}
OPTION_KEYS = ("prefix", "suffix", "system", "response_format", "disableVarExpansion", "disableDefaultAsserts")
LABEL = 80
"""Characters of a row's label."""
MAX_METADATA = 50


@dataclass(frozen=True)
class Case:
    """One test of a file, or what stands in every one."""

    spot: Spot
    id: str = ""
    description: str = ""
    vars: Mapping[str, Any] = field(default_factory=dict)
    assertions: tuple[Assertion, ...] = ()
    threshold: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def under(self, test: Case) -> Case:
        """``test`` with this one, the file's ``defaultTest``, laid under it."""
        own = () if test.options.get("disableDefaultAsserts") else self.assertions
        return Case(
            test.spot,
            test.id,
            test.description or self.description,
            {**self.vars, **test.vars},
            (*own, *test.assertions),
            self.threshold if test.threshold is None else test.threshold,
            {**self.metadata, **test.metadata},
            {**self.options, **test.options},
        )


@dataclass(frozen=True)
class Made:
    """A row and what it is judged by."""

    row: SuiteRow
    checks: tuple[Check, ...]
    threshold: float | None
    schema: str


def case_of(block: Any, here: Spot, reader: Reader) -> Case:
    """A test as YAML, JSON and JSONL have it.

    Raises:
        UsageError: A key is unknown, or holds what it can't.
    """
    if not isinstance(block, dict):
        raise here.error(msg("a test is a block of keys"), msg("Write vars and assert."))
    for key in block:
        if key in UNSUPPORTED:
            raise here.error(msg("'{key}' of a test is not supported", key=key), UNSUPPORTED[key])
        if key not in KEYS:
            raise here.unknown(key, KEYS)

    def place(key: str) -> Spot:
        return here.key(key, yaml_text.line_of(block, key))

    return Case(
        here,
        prompts.text(block.get("id", ""), place("id")).strip(),
        prompts.text(block.get("description") or "", place("description")),
        _vars(block.get("vars"), place("vars"), reader),
        reader.read(block.get("assert"), here),
        row_threshold(block.get("threshold"), place("threshold")),
        _metadata(block.get("metadata"), place("metadata")),
        _options(block.get("options"), place("options")),
    )


def row_threshold(value: Any, here: Spot) -> float | None:
    found = assertions.limit(value, here)
    if found is not None and found > 1:
        raise here.error(msg("a mean score is never above 1"), msg("Write 0.5, for one."))
    return found


def _vars(value: Any, here: Spot, reader: Reader) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise here.error(msg("vars must be a block of variables"), msg("Write name: value."))
    return {
        str(name): _var(each, here.key(str(name), yaml_text.line_of(value, name)), reader)
        for name, each in value.items()
    }


def _var(value: Any, here: Spot, reader: Reader) -> Any:
    if isinstance(value, list):
        return [_var(each, here, reader) for each in value]
    if not isinstance(value, str):
        return value
    if value.startswith(PREFIX):
        name, content = reader.folder.read(value, here)
        if name.endswith(".json"):
            return json_text.parse(content, Spot(name))
        return yaml_text.parse(content, Spot(name)) if name.endswith((".yaml", ".yml")) else content
    if len(value) > reader.folder.limits.max_cell:
        raise csv_text.too_long(here, len(value), reader.folder.limits)
    return value


def _metadata(value: Any, here: Spot) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_METADATA:
        raise here.error(msg("metadata must be a block of at most {n} keys", n=MAX_METADATA), msg("Write name: value."))
    return {str(key): short_list(each) for key, each in value.items()}


def short_list(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, (str, int, float)) for each in value):
        return ", ".join(map(template.text_of, value))
    return template.text_of(value)


def _options(value: Any, here: Spot) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise here.error(msg("options must be a block of keys"), msg("Known keys: {names}.", names=OPTION_KEYS))
    found: dict[str, Any] = {}
    for key, each in value.items():
        place = here.key(key, yaml_text.line_of(value, key))
        if key not in OPTION_KEYS:
            raise here.unknown(key, OPTION_KEYS)
        if key.startswith("disable"):
            if not isinstance(each, bool):
                raise place.error(msg("this is true or false"), msg("Mend it."))
            found[key] = each
        elif key == "response_format":
            try:
                found[key] = providers.response_format(each)
            except Reason as error:
                raise place.error(error.reason, msg("Mend it.")) from error
        else:
            found[key] = prompts.text(each, place)
    return found


# -- rows -------------------------------------------------------------------------------------------------------------


class Rows:
    """Rows as they are made: each with an id of its own, and not more than the limits allow."""

    def __init__(self, asked: list[Prompt], limits: Limits) -> None:
        self._prompts = asked
        self._limits = limits
        self._ids: dict[str, str] = {}
        self._count: dict[str, int] = {}
        self._total = 0
        self._began = time.thread_time()
        self._sizes: dict[int, tuple[Any, int]] = {}
        self.made: list[Made] = []

    def add(self, case: Case) -> None:
        """The rows of a test.

        Raises:
            UsageError: A variable has no value, an id stands twice, or there is too much of something.
        """
        lists = _lists(case)
        count = math.prod(len(values) for values in lists.values()) * len(self._prompts)
        if len(self.made) + count > self._limits.max_rows:
            raise csv_text.too_many_rows(case.spot, self._limits)
        if count == 0:
            raise case.spot.error(msg("a variable has an empty list"), msg("Give it values, or remove it."))
        if sum(1 + len(each.members) for each in case.assertions) > self._limits.max_checks:
            raise case.spot.error(
                msg("there are more than {n} checks", n=self._limits.max_checks), msg("Split the test.")
            )
        if case.id:
            self._own_id(case)
        for combination in itertools.product(*lists.values()):
            values = {**case.vars, **dict(zip(lists, combination, strict=True))}
            try:
                values = template.resolved(values, self._limits.max_cell)
            except Reason as error:
                raise case.spot.error(error.reason, msg("Shorten it.")) from error
            for prompt in self._prompts:
                self._add(case, values, prompt, [template.text_of(each) for each in combination], count)

    def _own_id(self, case: Case) -> None:
        if case.id in self._ids:
            raise case.spot.error(
                msg("the id '{id}' stands already at {place}", id=short(case.id), place=self._ids[case.id]),
                msg("Give each its own id, or none."),
            )
        self._ids[case.id] = str(case.spot.words)

    def _add(self, case: Case, values: dict[str, Any], prompt: Prompt, chosen: list[str], count: int) -> None:
        before, behind = (self._around(case, key, values) for key in ("prefix", "suffix"))
        try:
            text, messages = prompt.fill(values, self._limits.max_cell, before, behind)
        except template.Missing as error:
            place = case.spot.at(msg("column {name}", name=short(error.name)))
            which = msg("{prompt}: {reason}", prompt=prompt.spot.words, reason=error.reason)
            step = msg("Give it a value.")
            if prompt.own:
                step = msg(
                    "Add a column prompt, or say the prompt: above a table that is pasted, with a line --- between "
                    "them; in the terminal by --prompt."
                )
            raise place.error(which if prompt.spot.steps else error.reason, step) from error
        except Reason as error:
            raise case.spot.at(msg("its prompt")).error(error.reason, msg("Shorten it.")) from error
        if prompt.own and (name := template.left_in(text)):
            raise self._unfilled(case, name)
        system = self._around(case, "system", values)
        length = len(text) + len(system) + sum(len(message.content) for message in messages)
        self._bound(case, length)
        if not text.strip() and not any(message.content.strip() for message in messages):
            raise case.spot.error(msg("its prompt is empty"), msg("Write a prompt, or remove the row."))
        texts = {name: template.text_of(each) for name, each in values.items()}
        checks = tuple(self._check(case, each, values) for each in case.assertions)
        self._count_up(case, sum(map(len, texts.values())) + sum(map(self._size, checks)))
        said = text or next((each.content for each in reversed(messages) if each.role == "user"), "")
        row = SuiteRow(
            id=self._id(case, prompt, values, system, before, behind, count),
            label=self._label(case, prompt, said, chosen),
            prompt=text,
            messages=messages,
            system=system,
            vars=texts,
            metadata=dict(case.metadata),
            place=str(case.spot.words),
        )
        schema = case.options.get("response_format", "") or assertions.schema_of(checks)
        self.made.append(Made(row, checks, case.threshold, schema))

    def _check(self, case: Case, assertion: Assertion, values: Mapping[str, Any]) -> Check:
        if time.thread_time() - self._began > self._limits.max_seconds:
            raise case.spot.error(
                msg("the checks up to here took more than {n:g} seconds to read", n=self._limits.max_seconds),
                msg("Write fewer rows, or shorter patterns and schemas."),
            )
        return assertion.check(values, case.spot, self._limits.max_cell)

    def _unfilled(self, case: Case, name: str) -> Exception:
        return case.spot.at(msg("column {name}", name=short(name))).error(
            msg("{{{{{name}}}}} has no value", name=short(name)),
            msg(
                "Add a column {name}; below pasted prompts, a line --- and a table with that column.", name=short(name)
            ),
        )

    def _around(self, case: Case, key: str, values: Mapping[str, Any]) -> str:
        given = case.options.get(key, "")
        try:
            return template.compiled(given).fill(values, self._limits.max_cell)
        except Reason as error:
            raise case.spot.key(key).error(error.reason, msg("Mend it.")) from error

    def _bound(self, case: Case, length: int) -> None:
        if length > self._limits.max_cell:
            raise csv_text.too_long(case.spot.at(msg("its prompt")), length, self._limits)
        self._count_up(case, length)

    def _count_up(self, case: Case, length: int) -> None:
        self._total += length
        if self._total > self._limits.max_total:
            raise case.spot.error(
                msg("the rows up to here have more than {n:,} characters", n=self._limits.max_total),
                msg("Split the file into several."),
            )

    def _size(self, check: Check) -> int:
        """Characters of what a check holds; the block of a schema is one of many rows, and measured once."""
        value = check.value
        if isinstance(value, str):
            size = len(value)
        elif isinstance(value, dict):
            known = self._sizes.setdefault(id(value), (value, 0))  # it is kept, so that its id stays its own
            size = known[1] or len(json.dumps(value))
            self._sizes[id(value)] = (value, size)
        else:
            size = sum(len(str(each)) for each in value) if isinstance(value, list) else 8
        return size + sum(map(self._size, check.checks))

    def _id(self, case: Case, prompt: Prompt, values: Mapping[str, Any], *rest: Any) -> str:
        *around, count = rest
        if case.id and count == 1:
            self._ids.setdefault(case.id, str(case.spot.words))
            return case.id
        known = json.dumps([prompt.text, values, *around], sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(known.encode()).hexdigest()[:12]
        name = f"{case.id}:{digest}" if case.id else digest
        seen = self._count.get(name, 0) + 1
        while (unique := name if seen == 1 else f"{name}-{seen}") in self._ids:
            seen += 1
        self._count[name] = seen
        self._ids[unique] = str(case.spot.words)
        return unique

    def _label(self, case: Case, prompt: Prompt, said: str, chosen: list[str]) -> str:
        parts = [prompt.label] if len(self._prompts) > 1 and prompt.label else []
        parts.append(case.description or said)
        if case.description and chosen:
            parts.append(", ".join(chosen))
        line = " · ".join(" ".join(part[: LABEL * 4].split()) for part in parts)
        return line if len(line) <= LABEL else f"{line[:LABEL]}…"


def _lists(case: Case) -> dict[str, list[Any]]:
    """The variables that are lists, whose values are multiplied with one another."""
    if case.options.get("disableVarExpansion"):
        return {}
    return {name: value for name, value in case.vars.items() if isinstance(value, list)}


def blocks(value: Any, spot: Spot) -> Iterator[tuple[Any, Spot]]:
    """The items of a list of tests, with the place of each."""
    for number, block in enumerate(value, 1):
        yield block, spot.at(msg("test {n}", n=number), yaml_text.line_of(value, number - 1))
