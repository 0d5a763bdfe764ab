"""A suite as a file: every format says the same, escapes what people wrote, and holds a few cells at a time."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from playground.errors import UsageError
from playground.messages import msg
from playground.records import Cell, CheckResult, Column, Request, SuiteRow, SuiteRun, Variant
from playground.results.suite_export import SUITE_MEDIA, SuiteDocument, suite_file_name, write
from playground.results.suite_outcomes import read_outcomes
from playground.results.suite_report import FEW_PAIRS, difference_lines, notes_of
from playground.results.suite_summary import Tally, outcomes, summarise
from tests.support.suite_runs import cell, suite_run

HOSTILE = "</pre><script>alert(1)</script> =HYPERLINK(1) | ** `x` \x00\x1b[31m \ud800 ]]> & \"'"


def document(run: SuiteRun, cells: Iterable[Cell]) -> SuiteDocument:
    kept = list(cells)
    by = {"rows": lambda each: (each.row, each.column, each.sample)}
    by["columns"] = lambda each: (each.column, each.row, each.sample)
    return SuiteDocument(run, summarise(run, kept), lambda order: iter(sorted(kept, key=by[order])))


def text_of(made: SuiteDocument, ending: str) -> str:
    file = io.StringIO(newline="")
    write(made, ending, file)
    return file.getvalue()


@pytest.fixture
def made() -> SuiteDocument:
    run = suite_run(rows=3)
    rows = (replace(run.rows[0], metadata={"topic": "=1+1"}), *run.rows[1:])
    run = replace(run, rows=rows)
    return document(
        run,
        [
            *(cell(run, 0, 0, text="+49 is a number"), cell(run, 1, 0, False), cell(run, 2, 0, None)),
            *(cell(run, 0, 1, finish="length"), cell(run, 1, 1, error="the worker died"), cell(run, 2, 1)),
        ],
    )


@pytest.fixture
def hostile() -> SuiteDocument:
    run = suite_run(rows=1, models=(HOSTILE,), name=HOSTILE)
    row = SuiteRow(HOSTILE, HOSTILE, prompt=HOSTILE, vars={HOSTILE: HOSTILE}, place=HOSTILE)
    run = replace(run, rows=(row,), columns=(Column(Variant(HOSTILE), Request(system=HOSTILE)),))
    check = CheckResult("contains", False, 0.0, msg("not {what}", what=HOSTILE), value=HOSTILE)
    return document(run, [replace(cell(run, 0, 0, False, text=HOSTILE), checks=(check,))])


# -- JSON, JSONL --------------------------------------------------------------------------------------------------


def test_json_is_one_document_with_promptfoos_names_and_our_records(made: SuiteDocument) -> None:
    found = json.loads(text_of(made, "json"))
    assert found["evalId"] == made.run.id
    assert SuiteRun.from_json(found["suite"]) == made.run
    assert found["results"]["version"] == 3
    assert found["results"]["stats"] | {"tokenUsage": None} == {
        "successes": 4,
        "failures": 1,
        "errors": 1,
        "tokenUsage": None,
    }
    results = found["results"]["results"]
    assert [(each["testIdx"], each["promptIdx"]) for each in results] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
    ]
    wrong, failed, unjudged = results[2], results[3], results[4]
    assert (wrong["success"], wrong["passed"], wrong["gradingResult"]["pass"]) == (False, False, False)
    assert wrong["gradingResult"]["componentResults"][0]["assertion"]["type"] == "contains"
    assert wrong["gradingResult"]["reason"] == "The answer does not have it"
    assert wrong["latencyMs"] == 1000.0
    assert wrong["response"]["output"] == "Well."
    assert (failed["success"], failed["error"]) == (False, "It failed: the worker died")
    assert (unjudged["success"], unjudged["passed"], unjudged["score"]) == (True, None, None)
    assert results[0]["provider"] == {"id": "one@fake-none", "label": "one@fake-none"}
    assert results[0]["vars"] == {"n": "1"}
    assert {key for each in results for key in each["run"]} >= {"text", "timings", "variant"}


def test_json_lines_are_whole_in_themselves(made: SuiteDocument) -> None:
    lines = [json.loads(line) for line in text_of(made, "jsonl").splitlines()]
    assert len(lines) == 6
    assert lines[0]["request"]["prompt"] == "What is 1?"
    assert lines[0]["model"] == "one@fake-none"
    assert lines[0]["metadata"] == {"topic": "=1+1"}
    assert lines[3]["run"]["error"]["text"] == "It failed: the worker died"


def test_what_a_cell_was_asked_more_than_its_row_says_is_in_it(made: SuiteDocument) -> None:
    asked = Request("What is 1?", logprobs=0)
    first = next(made.cells("rows"))
    own = document(made.run, [replace(first, run=replace(first.run, request=asked))])
    (line,) = text_of(own, "jsonl").splitlines()
    assert json.loads(line)["request"]["logprobs"] == 0


# -- CSV ----------------------------------------------------------------------------------------------------------


def test_csv_has_a_row_a_cell_and_no_formula(made: SuiteDocument) -> None:
    rows = list(csv.DictReader(io.StringIO(text_of(made, "csv"), newline="")))
    assert len(rows) == 6
    assert rows[0]["answer"] == "'+49 is a number"
    assert rows[0]["metadata.topic"] == "'=1+1"
    assert rows[2]["failed_checks"] == "contains: The answer does not have it"
    assert (rows[0]["passed"], rows[2]["passed"], rows[4]["passed"]) == ("true", "false", "")
    assert rows[0]["vars.n"] == "1"
    assert float(rows[0]["decode_tok_s [tokens/s]"]) == 20.0
    assert rows[0]["prompt"] == "What is 1?"


def test_a_hostile_cell_stays_one_cell(hostile: SuiteDocument) -> None:
    (row,) = csv.DictReader(io.StringIO(text_of(hostile, "csv"), newline=""))
    assert row["answer"] == HOSTILE
    run = replace(hostile.run, rows=(replace(hostile.run.rows[0], label="=cmd|' /C calc'!A0"),))
    (row,) = csv.DictReader(io.StringIO(text_of(document(run, hostile.cells("rows")), "csv"), newline=""))
    assert row["label"] == "'=cmd|' /C calc'!A0"


# -- JUnit --------------------------------------------------------------------------------------------------------

JUNIT: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"time", "skipped", "timestamp", "hostname", "id", "package"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": ({"name"}, {"time", "classname"}, {"failure", "error", "skipped", "system-out", "system-err"}),
    "failure": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}
"""What each element must have, may have and may hold, as Jenkins' schema of the format (junit-10.xsd) says."""


def check_junit(element: ElementTree.Element) -> None:
    must, may, holds = JUNIT[element.tag]
    assert must <= set(element.attrib) <= must | may, element.tag
    if "time" in element.attrib:
        assert re.fullmatch(r"[0-9]*(\.[0-9]*)?", element.attrib["time"])
    for child in element:
        assert child.tag in holds, f"{child.tag} in {element.tag}"
        check_junit(child)


def test_junit_is_as_its_readers_want_it_and_counts_what_it_holds(made: SuiteDocument) -> None:
    root = ElementTree.fromstring(text_of(made, "xml"))
    check_junit(root)
    assert root.attrib | {"time": ""} == {"name": "A suite", "tests": "6", "failures": "1", "errors": "1", "time": ""}
    one, two = root.findall("testsuite")
    assert (one.get("name"), one.get("tests"), one.get("failures"), one.get("errors")) == (
        "one@fake-none",
        "3",
        "1",
        "0",
    )
    assert (two.get("tests"), two.get("failures"), two.get("errors")) == ("3", "0", "1")
    assert one.get("timestamp") == "2026-01-02T03:04:05"
    for suite in (one, two):
        cases = suite.findall("testcase")
        assert str(len(cases)) == suite.get("tests")
        assert str(len(suite.findall("testcase/failure"))) == suite.get("failures")
        assert str(len(suite.findall("testcase/error"))) == suite.get("errors")
    failure = one.find("testcase/failure")
    assert failure is not None
    assert (failure.get("type"), failure.get("message")) == ("contains", "contains: The answer does not have it")


def test_junit_holds_no_character_that_xml_has_no_place_for(hostile: SuiteDocument) -> None:
    root = ElementTree.fromstring(text_of(hostile, "xml").encode("utf-8"))
    check_junit(root)
    (out,) = root.iter("system-out")
    assert out.text == HOSTILE.replace("\x00", "�").replace("\x1b", "�").replace("\ud800", "�")


def test_junit_of_repeats_names_each(made: SuiteDocument) -> None:
    run = replace(made.run, repeats=2)
    found = document(run, [cell(run, 0, 0, sample=sample) for sample in (0, 1)])
    names = [case.get("name") for case in ElementTree.fromstring(text_of(found, "xml")).iter("testcase")]
    assert names == ["r1: Prompt 1 #1", "r1: Prompt 1 #2"]


# -- the page, Markdown -------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_stands_alone_and_runs_nothing(hostile: SuiteDocument, made: SuiteDocument) -> None:
    for each in (hostile, made):
        page = Tags()
        page.feed(text_of(each, "html"))
        assert page.open == []
        assert {tag for tag, _ in page.tags} <= {
            *("html", "head", "meta", "title", "style", "body", "h1", "p", "table", "tr", "th", "td", "ul", "li"),
            *("details", "summary", "pre", "span", "br"),
        }
        assert not [
            name for _, attrs in page.tags for name in attrs if name.startswith("on") or name in ("src", "href")
        ]
        assert {
            "http-equiv": "Content-Security-Policy",
            "content": "default-src 'none'; style-src 'unsafe-inline'",
        } in [attrs for _, attrs in page.tags]
    assert "It failed: the worker died" in "".join(page.words)
    assert "2 of 2 passed" not in "".join(page.words)


def test_markdown_is_a_table_a_row_a_prompt(made: SuiteDocument, hostile: SuiteDocument) -> None:
    text = text_of(made, "md")
    assert "| one@fake-none | 1 of 2 passed (50 %, 95 % interval 9 to 91 %)" in text
    assert "| Prompt 2 | ✗ Well. | ! It failed: the worker died |" in text
    wide = [line for line in text_of(hostile, "md").splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (3, 7) for line in wide)
    assert "<script" not in text_of(hostile, "md")


# -- words --------------------------------------------------------------------------------------------------------


def test_what_a_reader_should_know_of_figures_stands_beside_them() -> None:
    run = suite_run(rows=2, models=("one",), repeats=2)
    cells = [
        cell(run, 0, 0, sample=0, prompt_tokens=100, reused_tokens=60, finish="length"),
        cell(run, 0, 0, sample=1, text="Other.", prompt_tokens=100, reused_tokens=60, mode="fast"),
        cell(run, 1, 0, sample=0, error="x"),
    ]
    (column,) = summarise(run, cells).columns
    said = "; ".join(notes_of(column))
    assert "60 % of the prompts' tokens stood in the cache" in said
    assert "1 answer failed" in said
    assert "1 answer was cut off" in said
    assert "1 of 1 prompts were answered differently (2.0 distinct answers each)" in said
    assert "rank nothing" in said


def test_of_many_pairs_those_that_differ_are_told() -> None:
    run = suite_run(rows=12, models=("a", "b", "c", "d", "e"))
    cells = [cell(run, row, column, column > 0) for row in range(12) for column in range(5)]
    summary = summarise(run, cells)
    assert len(summary.differences) == 10 > FEW_PAIRS
    lines = [str(line) for line, _ in difference_lines(summary)]
    assert len(lines) == 5
    assert lines[-1] == "between 6 other pairs of models: no difference seen"
    assert all("a@fake-none against" in line for line in lines[:4])


# -- reading back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_a_written_suite_is_read_back_for_a_regression(made: SuiteDocument, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"old.{ending}"
    path.write_text(text_of(made, ending))
    tally = Tally(made.run)
    for each in made.cells("rows"):
        tally.add(each)
    assert read_outcomes(path).shares == outcomes(made.run, tally).shares


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{", "the file is no JSON"),
        ("a.json", "[]", "the file is no object"),
        ("a.json", "{}", r"no results\.results"),
        ("a.json", '{"results": {"results": []}}', "holds no answer"),
        ("a.json", '{"results": {"results": [{"row": "a"}]}}', r"results\.results\[0\] has no row, model and outcome"),
        ("a.json", '{"results": {"results": [7]}}', r"results\.results\[0\] is no object"),
        ("a.jsonl", '{"row": "a", "model": "m", "passed": true}\nno', "line 2 is no JSON"),
        ("a.jsonl", '{"row": "a", "model": "m", "passed": 3}', "line 1 has no row"),
        ("a.jsonl", "", "holds no answer"),
        ("a.json", "[" * 100_000, "the file is no JSON"),
    ],
)
def test_a_file_that_is_no_export_is_refused_with_its_place(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError, match=words):
        read_outcomes(path)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        read_outcomes(tmp_path / "none.json")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_outcomes(tmp_path / "bytes.jsonl")


# -- size ---------------------------------------------------------------------------------------------------------


def test_a_format_that_there_is_not_is_named_with_those_that_there_are(made: SuiteDocument) -> None:
    with pytest.raises(UsageError, match=r"no format 'xlsx'.*csv, .*json, jsonl"):
        text_of(made, "xlsx")
    assert suite_file_name(replace(made.run, id="../../etc"), "csv") == "suite-etc.csv"


class Nowhere(io.TextIOBase):
    """A file that only counts."""

    written = 0

    def write(self, text: str) -> int:
        self.written += len(text)
        return len(text)


@pytest.mark.parametrize("ending", sorted(set(SUITE_MEDIA) - {"comparator"}))
def test_memory_does_not_grow_with_the_cells(ending: str) -> None:
    peaks, sizes = [], []
    for rows in (200, 2000):
        run = suite_run(rows=rows, models=("one",))
        first = cell(run, 0, 0, False, text="x" * 2000)
        summary = summarise(run, [first])

        def cells(order: str, first: Cell = first, rows: int = rows) -> Iterator[Cell]:
            for row in range(rows):
                yield replace(first, row=row, run=replace(first.run, text=f"{row}" + "x" * 2000))

        file = Nowhere()
        made = SuiteDocument(run, summary, cells)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        write(made, ending, file)  # type: ignore[arg-type]
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
        tracemalloc.stop()
        sizes.append(file.written)
    assert sizes[1] > 5 * sizes[0]
    # JSON has the suite's rows, which are in memory anyway, once more as text.
    assert peaks[1] - peaks[0] < 0.5 * (sizes[1] - sizes[0])
    if ending != "json":
        assert all(later < 2 * sooner + 100_000 for sooner, later in pairwise(peaks))


def test_every_format_takes_a_suite_without_cells() -> None:
    run = suite_run(rows=2)
    made: Any = document(run, [])
    for ending in sorted(set(SUITE_MEDIA) - {"comparator"}):
        assert text_of(made, ending) or ending == "jsonl"
