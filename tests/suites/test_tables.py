"""Suites as tables, as JSON Lines, and as lines that somebody pasted."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.records import Message, SuiteRow
from playground.suites.reading import form_of, read_suite
from playground.suites.suite import Check


def rows(text: str, name: str, **given: Any) -> tuple[SuiteRow, ...]:
    return read_suite(text, name, **given).rows


TABLE = """\
prompt,__expected,__expected2,__description,__metric,__threshold,__metadata:area,__metadata:tags[],__id,__system
"What is 2+2?",equals: 4,contains-any: "1,000"; 4,Sum,right,0.5,math,"a,b\\,c",sum,Be exact.
Name a city,icontains:Paris,,,,,,,,
"""


def test_a_table_with_promptfoos_special_columns() -> None:
    suite = read_suite(TABLE.replace('contains-any: "1,000"; 4', '"contains-any: ""1,000"", 4"'), "sums.csv")
    first, second = suite.rows
    assert suite.name == "sums"
    assert (first.id, first.label, first.prompt, first.system) == ("sum", "Sum", "What is 2+2?", "Be exact.")
    assert first.metadata == {"area": "math", "tags": "a, b,c"}
    assert first.place == "row 2" and second.place == "row 3"
    assert suite.thresholds == (0.5, None)
    assert suite.checks[0] == (
        Check("equals", "4", metric="right"),
        Check("contains-any", ["1,000", "4"], metric="right"),
    )
    assert suite.checks[1] == (Check("icontains", "Paris"),)
    assert second.metadata == {}


@pytest.mark.parametrize(
    ("cell", "check"),
    [
        ("Paris", Check("equals", "Paris")),
        (" Paris ", Check("equals", "Paris")),
        ("equals:Paris", Check("equals", "Paris")),
        ("contains: Paris: the city", Check("contains", "Paris: the city")),
        ("not-contains:error", Check("not-contains", "error")),
        ("icontains-all:a, b", Check("icontains-all", ["a", "b"])),
        ('contains-any:"a, ""b""",c', Check("contains-any", ['a, "b"', "c"])),
        ("starts-with:The", Check("starts-with", "The")),
        ("regex:^a:b$", Check("regex", "^a:b$")),
        ("is-json", Check("is-json")),
        ('is-json:{"type": "object"}', Check("is-json", {"type": "object"})),
        ("not-contains-json", Check("not-contains-json")),
        ("levenshtein(3):kitten", Check("levenshtein", "kitten", threshold=3)),
        ("rouge-n(0.6):a b", Check("rouge-n", "a b", threshold=0.6)),
        ("latency(500)", Check("latency", threshold=500)),
        ("perplexity(1.5)", Check("perplexity", threshold=1.5)),
        ("cost(0.001)", Check("cost", threshold=0.001)),
        ("tokens-per-second(10)", Check("tokens-per-second", threshold=10)),
        ("first-token(200)", Check("first-token", threshold=200)),
        ("tokens(50)", Check("tokens", threshold=50)),
        ("language:en-GB", Check("language", "en")),
        ("numeric:1,234.5", Check("numeric", "1234.5")),
        ("numeric(0.5):42", Check("numeric", "42", options={"tolerance": "0.5"})),
        ("same-answer:3", Check("same-answer", 3)),
        ("cost", Check("equals", "cost")),  # the word, for there is no limit
        ("Note: it rains", Check("equals", "Note: it rains")),
        ("12:30", Check("equals", "12:30")),
        ("contains:{{city}}", Check("contains", "Oslo")),
        ("a\nb", Check("equals", "a\nb")),
    ],
)
def test_the_short_form_of_a_check(cell: str, check: Check) -> None:
    quoted = cell.replace('"', '""')
    assert read_suite(f'prompt,city,__expected\nHi,Oslo,"{quoted}"\n', "x.csv").checks == ((check,),)


def test_limits_of_checks_by_columns_of_their_own() -> None:
    text = "prompt,__expected1,__expected2,__config:__expected:threshold,__config:__expected2:threshold\n"
    suite = read_suite(f"{text}Hi,rouge-n:a,levenshtein:b,0.5,2\n", "x.csv")
    assert [check.threshold for check in suite.checks[0]] == [0.5, 2]


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_as_spreadsheets_write_it(sign: str, end: str, encoding: str) -> None:
    lines = ['"prompt";"__expected";', "Hé;ja;", "", ';"";', '"a""b;\nc";"x;y"']
    text = end.join(lines).replace(";", sign)
    found = read_suite(text.encode(encoding), "x.csv")
    assert [row.prompt for row in found.rows] == ["Hé", f'a"b{sign}\nc']
    assert found.checks[1] == (Check("equals", f"x{sign}y"),)


CELLS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="{"), max_size=12
)
CELLS |= st.text('",;\n a', max_size=8)


@settings(deadline=None)
@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from([0, 1]),
)
def test_a_table_is_read_as_it_was_written(table: list[tuple[str, str]], sign: str, quoting: int) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=sign, quoting=quoting, lineterminator="\r\n")
    writer.writerows([("first", "second"), *table])
    kept = [cells for cells in table if any(cell.strip() for cell in cells)]
    if not kept:
        return
    found = rows(written.getvalue(), "x.csv", prompts=["({{first}}|{{second}})"])
    wanted = [tuple(cell.removesuffix("\n") for cell in cells) for cells in kept]  # as promptfoo, one line break less
    assert [row.prompt for row in found] == [f"({one}|{two})" for one, two in wanted]


def test_json_lines_of_tests_and_of_plain_rows() -> None:
    text = """\
{"vars": {"x": 5, "y": 3}, "assert": [{"type": "equals", "value": "8"}]}

{"x": 10, "y": 7, "__expected": "17", "__metadata:kind": "sum"}
"""
    suite = read_suite(text, "sums.jsonl", prompts=["{{x}}+{{y}}=", "Add {{x}} to {{y}}."])
    assert [row.prompt for row in suite.rows] == ["5+3=", "Add 5 to 3.", "10+7=", "Add 10 to 7."]
    assert [checks[0] for checks in suite.checks[1:3]] == [Check("equals", "8"), Check("equals", "17")]
    assert suite.rows[2].metadata == {"kind": "sum"}


def test_lines_are_prompts_or_the_values_of_a_prompts_one_variable() -> None:
    assert [row.prompt for row in rows("What is 1+1?\n\n  What is {x}?\n", "")] == ["What is 1+1?", "What is {x}?"]
    assert [row.prompt for row in rows("cat\ndog\n", "", prompts=["Say {{text}}!"])] == ["Say cat!", "Say dog!"]


def test_a_pasted_prompt_with_a_table_below_it() -> None:
    suite = read_suite(
        "Translate to {{language}}:\n{{text}}\n---\n\ntext,language,__expected\ncat,French,icontains:chat\n"
    )
    assert [row.prompt for row in suite.rows] == ["Translate to French:\ncat"]
    assert suite.checks == ((Check("icontains", "chat"),),)
    assert suite.rows[0].place == "row 6"


def test_a_prompt_in_a_cell_is_a_template_and_may_be_a_conversation() -> None:
    chat = json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "To {{to}}: hi"}])
    text = 'prompt,to\nSay hi to {{to}},Ann\n"' + chat.replace('"', '""') + '",Bob\n'
    first, second = rows(text, "x.csv")
    assert first.prompt == "Say hi to Ann"
    assert second.messages == (Message("system", "Be brief."), Message("user", "To Bob: hi"))


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("prompts:\n- a\n", "yaml"),
        ("# a comment\ntests: []", "yaml"),
        ('{\n"prompts": []}', "json"),
        ('[{"vars": {}}]', "json"),
        ('{"vars": {}}\n{"vars": {}}', "jsonl"),
        ("prompt,__expected\na,b", "csv"),
        ("question;__expected\na;b", "csv"),
        ("What is it, and why?\nWho?", "lines"),
        ("Say {{a}}\n---\na,b", "lines"),
    ],
)
def test_a_text_without_a_name_is_taken_for_what_it_looks_like(text: str, form: str) -> None:
    assert form_of(text) == form
