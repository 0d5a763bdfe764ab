"""A file becomes a suite: YAML or JSON as promptfoo has it, a table, JSON Lines, or lines that somebody pasted.

All of it is read and checked here, so that nothing runs of a file that has a mistake in its last row. Every mistake
is a ``UsageError`` that names the place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from playground.messages import Translatable, foreign, msg
from playground.suites import cases, csv_text, decoding, json_text, prompts, providers, tables, yaml_text
from playground.suites.assertions import Reader
from playground.suites.cases import Case, Rows
from playground.suites.files import PREFIX, Folder, read_bytes
from playground.suites.prompts import Prompt
from playground.suites.spots import OWN, STRANGERS, Spot, short
from playground.suites.suite import Suite, SuiteColumn

Format = Literal["yaml", "json", "jsonl", "csv", "lines"]
SUFFIXES: dict[str, Format] = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "lines",
}
KEYS = ("description", "prompts", "providers", "targets", "tests", "defaultTest", "evaluateOptions",
        "assertionTemplates")  # fmt: skip
NO_EFFECT = ("$schema", "tags", "metadata", "outputPath", "sharing", "writeLatestResults", "commandLineOptions")
"""Keys of promptfoo that change nothing of what is asked and judged; they are told in ``Suite.notes``."""
UNSUPPORTED = {
    "scenarios": msg("Write its tests out under tests."),
    "extensions": msg("Scripts are not run; remove it."),
    "env": msg("Set the environment of the command; remove it."),
    "nunjucksFilters": msg("Scripts are not run; remove it."),
    "derivedMetrics": msg("Exports have every score; remove it."),
    "redteam": msg("Remove it."),
    "tracing": msg("Remove it."),
}
EVALUATE = ("repeat",)
EVALUATE_NO_EFFECT = ("maxConcurrency", "delay", "cache", "showProgressBar", "timeoutMs", "maxEvalTimeMs")
_YAML_KEY = re.compile(r"^(?:prompts|providers|targets|tests|defaultTest|description|evaluateOptions)[ \t]*:", re.M)
_RULE = re.compile(r"^---[ \t]*$", re.MULTILINE)


def read_suite_file(path: Path, *, prompts: Sequence[str] = ()) -> Suite:
    """The suite of a file of one's own; files that it names are read from beside it.

    Raises:
        UsageError: The file can't be read, or has a mistake.
    """
    spot = Spot(path.name)
    try:
        if not path.is_file():
            raise spot.error(msg("there is no such file"), msg("Check its name; docs/suites.md has such a file."))
        data = read_bytes(path, spot, OWN)
    except (OSError, ValueError) as error:
        said = foreign(getattr(error, "strerror", "") or type(error).__name__)
        raise spot.error(msg("it can't be read ({said})", said=said), msg("Check the file.")) from error
    return read_suite(data, path.name, path.parent, prompts=prompts)


def read_suite(
    text: str | bytes,
    name: str = "",
    folder: Path | None = None,
    *,
    strangers: bool = False,
    prompts: Sequence[str] = (),
) -> Suite:
    """A suite from the text of its file.

    Args:
        name: What the file is called; its ending says what it is. Without one the text itself is looked at.
        folder: Where files that it names by ``file://`` are; None: it may name none.
        strangers: Whether somebody else wrote it: no files are read, and the limits are those of a Space.
        prompts: Templates for a file that has only rows: a table, JSON Lines, or lines, which are then the values of
            the template's one variable.

    Raises:
        UsageError: It has a mistake; the words name the place, by row and column or by line.
    """
    limits = STRANGERS if strangers else OWN
    spot = Spot(name or msg("the suite"))
    if len(text) > limits.max_bytes and SUFFIXES.get(Path(name).suffix.lower()) == "csv":
        csv_text.refuse_long_cell(decoding.text_of(text[: limits.max_bytes], spot, limits), spot, limits)
    content = decoding.text_of(text, spot, limits)
    if not content.strip():
        raise spot.error(msg("it is empty"), msg("Write prompts, one a line, or a table."))
    reader = Reader(Folder(None if strangers else folder, limits))
    form = SUFFIXES.get(Path(name).suffix.lower()) or form_of(content)
    whole = _Document(spot, reader)
    if form in ("yaml", "json"):
        parse = json_text.parse if form == "json" else partial(yaml_text.parse, most=limits.max_values)
        whole = whole.of_value(parse(content, spot), tuple(prompts))
    elif form == "lines":
        whole = whole.of_lines(content, tuple(prompts))
    else:
        found = whole.rows_of(form, content, spot)
        whole = replace(whole, tests=tuple(found), prompts=tuple(whole.given(prompts)))
    return whole.suite(name)


def form_of(text: str) -> Format:
    """What a text without a name is."""
    head = text.lstrip()
    if head.startswith("[") or (head.startswith("{") and head.split("\n", 1)[0].strip() == "{"):
        return "json" if not head.startswith("[[") else "lines"
    if head.startswith("{") and '"' in head.split("\n", 1)[0]:
        return "jsonl"
    if _YAML_KEY.search(text):
        return "yaml"
    first = head.split("\n", 1)[0]
    sign = csv_text.delimiter_of(head)
    names = [part.strip().strip('"') for part in first.split(sign)]
    special = any(each.startswith("__") or each == "prompt" for each in names)
    return "csv" if special and not _RULE.search(text) else "lines"


@dataclass(frozen=True)
class _Document:
    """A file as far as it is read."""

    spot: Spot
    reader: Reader
    prompts: tuple[Prompt, ...] = ()
    tests: tuple[Case, ...] = ()
    columns: tuple[SuiteColumn, ...] = ()
    default: Case | None = None
    repeats: int = 1
    notes: tuple[Translatable, ...] = ()
    title: str = ""

    def suite(self, name: str) -> Suite:
        """All of it put together."""
        rows = Rows(list(self.prompts), self.reader.folder.limits)
        for test in self.tests:
            rows.add(self.default.under(test) if self.default else test)
        if not rows.made:
            raise self.spot.error(msg("there are no rows"), msg("Write at least one test."))
        found = Suite(
            name=self.title or Path(name).stem or "suite",
            rows=tuple(each.row for each in rows.made),
            checks=tuple(each.checks for each in rows.made),
            thresholds=tuple(each.threshold for each in rows.made),
            schemas=tuple(each.schema for each in rows.made),
            columns=self.columns,
            repeats=self.repeats,
            notes=self.notes,
        )
        if found.samples > self.reader.folder.limits.max_repeats:
            raise self.spot.error(
                msg("same-answer compares at most {n} samples", n=self.reader.folder.limits.max_repeats),
                msg("Ask for fewer."),
            )
        return replace(found, repeats=max(found.repeats, found.samples))

    def given(self, texts: Sequence[str]) -> list[Prompt]:
        """The prompts that came with the file, or the one that is its row's own."""
        spot = Spot(msg("the prompt"))
        found = [
            each
            for number, text in enumerate(texts or (prompts.PASSTHROUGH,), 1)
            for each in prompts.of_text(text, spot if len(texts) < 2 else spot.at(msg("prompt {n}", n=number)),
                                        self.reader.folder)
        ]  # fmt: skip
        return found if texts else [replace(each, spot=Spot(self.spot.file), own=True) for each in found]

    # -- YAML and JSON ------------------------------------------------------------------------------------------------

    def of_value(self, value: Any, texts: tuple[str, ...]) -> _Document:
        """A whole configuration, or a list of tests alone."""
        if isinstance(value, list):
            tests = self._tests(value, self.spot)
            return replace(self, tests=tuple(tests), prompts=tuple(self.given(texts)))
        if not isinstance(value, dict):
            raise self.spot.error(msg("this is no suite"), msg("Write prompts and tests, or a list of tests."))
        notes = list[Translatable]()
        for key in value:
            if key in UNSUPPORTED:
                raise self._place(value, key).error(msg("this key is not supported"), UNSUPPORTED[key])
            if key in NO_EFFECT or key.startswith("x-"):
                notes.append(msg("'{key}' has no effect here", key=short(key)))
            elif key not in KEYS:
                line = yaml_text.line_of(value, key)
                raise replace(self.spot, line=line).unknown(key, KEYS)
        reader = replace(self.reader, templates=self._block(value, "assertionTemplates"))
        document = replace(self, reader=reader)
        repeats = document._evaluate(self._block(value, "evaluateOptions"), notes)
        asked = document._prompts(value, texts)
        default = value.get("defaultTest")
        return replace(
            document,
            title=short(prompts.text(value.get("description") or "", self._place(value, "description"))),
            prompts=tuple(asked),
            columns=document._columns(value),
            default=None if default is None else document._default(default, self._place(value, "defaultTest")),
            tests=tuple(document._all_tests(value)),
            repeats=repeats,
            notes=tuple(notes),
        )

    def _place(self, value: Any, key: str) -> Spot:
        return self.spot.key(key, yaml_text.line_of(value, key))

    def _block(self, value: Any, key: str) -> dict[str, Any]:
        block = value.get(key)
        if block is None:
            return {}
        if not isinstance(block, dict):
            raise self._place(value, key).error(msg("this must be a block of keys"), msg("Mend it."))
        return block

    def _evaluate(self, block: dict[str, Any], notes: list[Translatable]) -> int:
        most = self.reader.folder.limits.max_repeats
        here = self.spot.key("evaluateOptions")
        for key in block:
            if key in EVALUATE_NO_EFFECT:
                notes.append(msg("'{key}' has no effect here", key=f"evaluateOptions.{key}"))
            elif key not in EVALUATE:
                raise here.unknown(key, EVALUATE)
        repeat = block.get("repeat", 1)
        if isinstance(repeat, bool) or not isinstance(repeat, int) or not 1 <= repeat <= most:
            place = here.key("repeat", yaml_text.line_of(block, "repeat"))
            raise place.error(msg("it must be a whole number from 1 to {most}", most=most), msg("Mend it."))
        return repeat

    def _prompts(self, value: dict[str, Any], texts: tuple[str, ...]) -> list[Prompt]:
        if texts or value.get("prompts") is None:
            return self.given(texts)
        return prompts.read(value["prompts"], self._place(value, "prompts"), self.reader.folder)

    def _columns(self, value: dict[str, Any]) -> tuple[SuiteColumn, ...]:
        keys = [key for key in ("providers", "targets") if value.get(key) is not None]
        if len(keys) == 2:
            raise self._place(value, "targets").error(msg("it says the same as providers"), msg("Keep one of them."))
        if not keys:
            return ()
        return providers.read(value[keys[0]], self._place(value, keys[0]), self.reader.folder.limits)

    def _default(self, value: Any, here: Spot) -> Case:
        if isinstance(value, str) and value.startswith(PREFIX):
            name, content = self.reader.folder.read(value, here)
            here = Spot(name)
            value = (json_text if name.endswith(".json") else yaml_text).parse(content, here)
        return cases.case_of(value, here, self.reader)

    def _all_tests(self, value: dict[str, Any]) -> list[Case]:
        tests = value.get("tests")
        here = self._place(value, "tests")
        if tests is None:  # promptfoo runs each prompt once, as it stands
            return [Case(self.spot)]
        if isinstance(tests, str):
            return self._test_file(tests, here)
        if not isinstance(tests, list):
            raise here.error(msg("tests must be a list"), msg("Begin each test with '- vars:'."))
        return self._tests(tests, self.spot)

    def _tests(self, tests: list[Any], spot: Spot) -> list[Case]:
        found: list[Case] = []
        for block, here in cases.blocks(tests, spot):
            if isinstance(block, str):
                found += self._test_file(block, here)
            else:
                found.append(cases.case_of(block, here, self.reader))
            if len(found) > self.reader.folder.limits.max_rows:
                raise csv_text.too_many_rows(here, self.reader.folder.limits)
        return found

    def _test_file(self, reference: str, here: Spot) -> list[Case]:
        if not reference.startswith(PREFIX):
            raise here.error(
                msg("'{text}' is no test", text=short(reference)), msg("Write file://{name}.", name=short(reference))
            )
        name, content = self.reader.folder.read(reference, here)
        spot, form = Spot(name), SUFFIXES.get(Path(name).suffix.lower())
        if form in (None, "lines"):
            raise here.error(msg("tests are not read from such a file"), msg("Write CSV, JSONL, JSON or YAML."))
        if form in ("csv", "jsonl"):
            return self.rows_of(form, content, spot)
        value = (json_text if form == "json" else yaml_text).parse(content, spot)
        if not isinstance(value, list):
            value = [value]
        return [cases.case_of(block, place, self.reader) for block, place in cases.blocks(value, spot)]

    # -- tables, JSON Lines and lines ---------------------------------------------------------------------------------

    def rows_of(self, form: Format, content: str, spot: Spot) -> list[Case]:
        """The tests of a table, or of JSON Lines."""
        if form == "csv":
            table = csv_text.read(content, spot, self.reader.folder.limits)
            if table:
                tables.check_header(list(table[0].cells), spot.at(msg("row {n}", n=1)))
            return [tables.case_of(row.cells, row.spot, self.reader) for row in table]
        return [self._line(number, line, spot) for number, line in self._lines(content, spot)]

    def _lines(self, content: str, spot: Spot) -> list[tuple[int, str]]:
        """The lines that are not blank, if they are not too many."""
        found, most = json_text.lines(content), self.reader.folder.limits.max_rows
        if len(found) > most:
            raise csv_text.too_many_rows(spot.at(msg("row {n}", n=found[most][0])), self.reader.folder.limits)
        return found

    def _line(self, number: int, line: str, spot: Spot) -> Case:
        """The test of a line of JSON Lines: a test's keys, or plain cells as a table's row has them."""
        value = json_text.parse(line.strip(), replace(spot, line=number))
        here = spot.at(msg("row {n}", n=number))
        if not isinstance(value, dict):
            raise here.error(msg("each line must be a block of keys"), msg("Write {{…}}."))
        if "vars" in value or "assert" in value:
            return cases.case_of(value, here, self.reader)
        tables.check_header(list(value), here)
        self._plain_cells(value, here)
        return tables.case_of(value, here, self.reader)

    def _plain_cells(self, value: dict[str, Any], here: Spot) -> None:
        most = self.reader.folder.limits.max_cell
        for name, cell in value.items():
            if isinstance(cell, str) and len(cell) > most:
                raise csv_text.too_long(
                    here.at(msg("column {name}", name=short(name))), len(cell), self.reader.folder.limits
                )

    def of_lines(self, content: str, texts: tuple[str, ...]) -> _Document:
        """Prompts, one a line; or a prompt, a line ``---`` and a table of its variables; or values of one variable."""
        parts = _RULE.split(content.replace("\r\n", "\n").replace("\r", "\n"))
        if len(parts) > 2:
            raise self.spot.error(
                msg("there is more than one line ---"), msg("Write a prompt, one line ---, and a table of variables.")
            )
        if len(parts) == 2:
            above = "\n" * parts[0].count("\n")  # so that rows are counted as the lines of the whole
            asked = prompts.of_text(parts[0].strip("\n"), self.spot.at(msg("the prompt")), self.reader.folder)
            return replace(self, prompts=tuple(asked), tests=tuple(self.rows_of("csv", above + parts[1], self.spot)))
        name, asked = self._variable(texts)
        tests = []
        for number, line in self._lines(parts[0], self.spot):
            here = self.spot.at(msg("row {n}", n=number))
            if len(line) > self.reader.folder.limits.max_cell:
                raise csv_text.too_long(here, len(line), self.reader.folder.limits)
            tests.append(Case(here, vars={name: line.strip()}))
        return replace(self, prompts=tuple(asked), tests=tuple(tests))

    def _variable(self, texts: tuple[str, ...]) -> tuple[str, list[Prompt]]:
        asked = self.given(texts)
        names = list(dict.fromkeys(name for each in asked for name in each.names))
        if len(names) != 1:
            raise Spot(msg("the prompt")).error(
                msg("lines are the values of one variable, and it has {n}", n=len(names)),
                msg("Write a table with a column for each, or one variable, {{{{text}}}}."),
            )
        return names[0], asked
