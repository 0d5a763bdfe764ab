"""What a suite's file says, in each of its forms, and what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from playground.errors import UsageError
from playground.records import Message, Request, SuiteRow
from playground.suites.reading import read_suite, read_suite_file
from playground.suites.suite import Check, Suite

CAPITALS = """\
# yaml-language-server: $schema=https://promptfoo.dev/config-schema.json
description: Capitals
prompts:
  - 'What is the capital of {{country}}?'
  - label: brief
    raw: '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of {{ country }}?"}]'
providers:
  - tiny@onnx-int8
  - id: small
    label: warm
    config: {temperature: 0.5, max_tokens: 20, stop: END, top_k: 40, seed: 7, system: Be kind.}
defaultTest:
  vars: {language: English}
  metadata: {kind: capital}
  assert:
    - type: latency
      threshold: 5000
      weight: 0
tests:
  - description: France
    vars: {country: France, expected: Paris}
    assert:
      - type: icontains
        value: '{{expected}}'
        metric: 'right in {{language}}'
        weight: 2
  - vars: {country: Norway, language: Norsk}
    threshold: 0.5
    metadata: {tags: [north, cold]}
evaluateOptions: {repeat: 2, maxConcurrency: 4}
outputPath: results.json
"""


def rows(text: str, name: str = "suite.yaml", **given: Any) -> tuple[SuiteRow, ...]:
    return read_suite(text, name, **given).rows


def test_a_file_of_promptfoo_becomes_rows_checks_and_columns() -> None:
    suite = read_suite(CAPITALS, "capitals.yaml")
    assert suite.name == "Capitals"
    assert suite.repeats == 2
    assert [(row.label, row.prompt) for row in suite.rows] == [
        ("France", "What is the capital of France?"),
        ("brief · France", ""),
        ("What is the capital of Norway?", "What is the capital of Norway?"),
        ("brief · Capital of Norway?", ""),
    ]
    assert suite.rows[1].messages == (Message("system", "Be brief."), Message("user", "Capital of France?"))
    assert suite.rows[0].vars == {"language": "English", "country": "France", "expected": "Paris"}
    assert suite.rows[2].metadata == {"kind": "capital", "tags": "north, cold"}
    assert suite.rows[2].place == "test 2 (line 27)"
    assert suite.checks[0] == (
        Check("latency", threshold=5000, weight=0),
        Check("icontains", "Paris", weight=2, metric="right in English"),
    )
    assert suite.thresholds == (None, None, 0.5, 0.5)
    assert [(column.model, column.label) for column in suite.columns] == [("tiny@onnx-int8", ""), ("small", "warm")]
    assert suite.columns[1].request(Request(top_p=0.9)) == Request(
        temperature=0.5, max_new_tokens=20, stop=("END",), top_k=40, seed=7, system="Be kind.", top_p=0.9
    )
    assert [str(note) for note in suite.notes] == [
        "'outputPath' has no effect here",
        "'evaluateOptions.maxConcurrency' has no effect here",
    ]


def test_a_suite_comes_back_from_its_json() -> None:
    suite = read_suite(CAPITALS, "capitals.yaml")
    assert Suite.from_json(json.loads(json.dumps(suite.to_json()))) == suite


def test_what_a_row_asks_is_its_prompt_in_the_columns_request() -> None:
    suite = read_suite(CAPITALS, "capitals.yaml")
    base = Request("old", system="Be kind.", temperature=0.3)
    assert suite.request(0, base) == Request("What is the capital of France?", system="Be kind.", temperature=0.3)
    assert suite.request(1, base) == Request(messages=suite.rows[1].messages, temperature=0.3)  # its own system prompt


def test_log_probabilities_are_asked_for_where_a_check_needs_them() -> None:
    suite = read_suite(
        "prompts: [a, b]\ntests:\n- assert: [{type: assert-set, assert: [{type: perplexity, threshold: 3}]}]\n- {}\n",
        "x.yaml",
    )
    assert [suite.request(row, Request()).logprobs for row in range(4)] == [0, 0, None, None]
    assert suite.request(0, Request(logprobs=5)).logprobs == 5


def test_a_check_of_samples_asks_for_as_many() -> None:
    suite = read_suite("prompts: [a]\ntests: [{assert: [{type: same-answer, value: 4}]}]", "x.yaml")
    assert (suite.samples, suite.repeats, suite.needs_cost) == (4, 4, False)
    costly = "prompts: [a]\nevaluateOptions: {repeat: 9}\ntests: [{assert: [{type: cost, threshold: 1}]}]"
    suite = read_suite(costly, "x.yaml")
    assert (suite.samples, suite.repeats, suite.needs_cost) == (1, 9, True)


def test_answers_are_held_to_a_schema_only_where_that_is_asked_for() -> None:
    schema = {"type": "object", "required": ["a"]}
    text = json.dumps(
        {
            "prompts": ["a"],
            "tests": [
                {"assert": [{"type": "is-json", "value": schema}]},
                {"assert": [{"type": "is-json", "value": schema, "enforce": True}]},
                {"assert": [{"type": "is-json", "enforce": True}]},
                {"options": {"response_format": {"type": "json_object"}}},
                {"options": {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}},
            ],
        }
    )
    suite = read_suite(text, "x.json")
    assert suite.schemas == ("", json.dumps(schema), "{}", "{}", json.dumps(schema))
    assert suite.request(1, Request()).json_schema == json.dumps(schema)
    assert suite.request(0, Request(json_schema="{}")).json_schema == "{}"


def test_lists_of_variables_are_multiplied_and_every_row_has_an_id_of_its_own() -> None:
    text = (
        "prompts: ['{{a}}-{{b}}', 'x {{a}}']\ntests:\n- vars: {a: [1, 2], b: [p, q, r]}\n- {id: me, vars: {a: 1, b: 2}}"
    )
    found = rows(text)
    assert [row.prompt for row in found[::2]] == ["1-p", "1-q", "1-r", "2-p", "2-q", "2-r", "1-2"]
    assert len({row.id for row in found}) == len(found) == 14
    assert [row.id.split(":")[0] for row in found[12:]] == ["me", "me"]
    assert rows("prompts: ['{{a}}']\ntests: [{id: me, vars: {a: 1}}]")[0].id == "me"
    kept = rows("prompts: ['{{a}}']\ntests: [{vars: {a: [1, 2]}, options: {disableVarExpansion: true}}]")
    assert [row.prompt for row in kept] == ["[1, 2]"]


def test_ids_stay_when_rows_are_added_and_equal_rows_are_told_apart() -> None:
    one = rows("prompts: ['{{a}}']\ntests: [{vars: {a: x}}, {vars: {a: y}}]")
    two = rows("prompts: ['{{a}}']\ntests: [{vars: {a: z}}, {vars: {a: x}}, {vars: {a: y}}, {vars: {a: x}}]")
    assert [row.id for row in one] == [row.id for row in two[1:3]]
    assert two[3].id == f"{one[0].id}-2"


def test_values_are_written_as_javascript_writes_them() -> None:
    values = "{a: 1.0, b: true, c: 12:30, d: yes, e: {f: [1, 2.5]}}"
    text = f"prompts: ['{{{{a}}}} {{{{b}}}} {{{{c}}}} {{{{d}}}} {{{{e.f[1]}}}} {{{{e}}}}']\ntests: [{{vars: {values}}}]"
    assert rows(text)[0].prompt == '1 true 12:30 yes 2.5 {"f": [1, 2.5]}'


def test_variables_within_variables_are_filled_in() -> None:
    text = "prompts: ['{{a}}']\ntests: [{vars: {a: 'Hi {{b}} {{unknown}} {{a}}', b: '{{c}}!', c: you}}]"
    assert rows(text)[0].prompt == "Hi you! {{unknown}} {{a}}"


def test_prefix_suffix_and_system_prompt_of_a_test() -> None:
    text = """
prompts: ['{{a}}', '[{"role": "user", "content": "{{a}}"}, {"role": "assistant", "content": "Well,"}]']
defaultTest: {options: {system: 'For {{a}}'}}
tests: [{vars: {a: 1}, options: {prefix: '<', suffix: '>'}}]
"""
    first, second = rows(text)
    assert (first.prompt, first.system) == ("<1>", "For 1")
    assert second.messages == (Message("user", "<1>"), Message("assistant", "Well,"))


def test_templates_of_checks_and_what_stands_in_every_test() -> None:
    suite = read_suite(
        """
prompts: [a]
assertionTemplates: {short: {type: tokens, threshold: 20}}
defaultTest: {assert: [{type: contains, value: x}]}
tests:
- assert: [{$ref: '#/assertionTemplates/short'}, {$ref: '#/assertionTemplates/short', threshold: 5}]
- options: {disableDefaultAsserts: true}
""",
        "x.yaml",
    )
    assert [(check.type, check.threshold) for check in suite.checks[0]] == [
        ("contains", None),
        ("tokens", 20),
        ("tokens", 5),
    ]
    assert suite.checks[1] == ()


def test_aliases_and_merged_blocks_of_yaml() -> None:
    text = "x-base: &base {a: 1, b: 2}\nprompts: ['{{a}} {{b}}']\ntests:\n- vars: {<<: *base, b: 3}\n- vars: *base\n"
    assert [row.prompt for row in rows(text)] == ["1 3", "1 2"]


def test_a_prompt_that_only_begins_with_a_bracket_is_a_text() -> None:
    assert [row.prompt for row in rows("prompts: ['[Task] Say your \"role\".']")] == ['[Task] Say your "role".']


def test_no_tests_means_each_prompt_once() -> None:
    assert [row.prompt for row in rows("prompts: [a, b]")] == ["a", "b"]


# -- files beside it ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "prompts/two.txt": "Capital of {{country}}?\n---\nName the capital of {{country}}.\n",
        "prompts/chat.json": json.dumps([{"role": "user", "content": "{{country}}?"}]),
        "prompts/chat.yaml": "- role: system\n  content: Be brief.\n- role: user\n  content: '{{country}}?'\n",
        "tests/more.csv": "country,__expected\nNorway,icontains:Oslo\n",
        "tests/more.jsonl": '{"vars": {"country": "Italy"}}\n',
        "tests/more.yaml": "- vars: {country: file://../country.txt}\n",
        "country.txt": "Chad\n",
        "schema.json": '{"type": "object"}',
        "default.yaml": "assert: [{type: is-json, value: file://schema.json}]\n",
        "suite.yaml": """
prompts: [file://prompts/two.txt, file://prompts/chat.json, {id: file://prompts/chat.yaml, label: chat}]
defaultTest: file://default.yaml
tests: [file://tests/more.csv, file://tests/more.jsonl, file://tests/more.yaml, {vars: {country: Peru}}]
""",
    }
    for name, content in files.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path / "own"


def test_files_below_the_suites_folder_are_read(folder: Path) -> None:
    (folder / "tests/more.yaml").write_text("- vars: {country: file://country.txt}\n")
    suite = read_suite_file(folder / "suite.yaml")
    assert [row.prompt or row.messages[-1].content for row in suite.rows[::4]] == [
        *("Capital of Norway?", "Capital of Italy?", "Capital of Chad?", "Capital of Peru?")
    ]
    assert [row.messages[0].role for row in suite.rows[2:4]] == ["user", "system"]
    assert suite.checks[0] == (Check("is-json", {"type": "object"}), Check("icontains", "Oslo"))
    assert read_suite_file(folder / "tests/more.csv", prompts=["{{country}}"]).rows[0].prompt == "Norway"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("file://../secret.txt", "outside of the suite's folder"),
        ("file://link.txt", "outside of the suite's folder"),
        ("file:///etc/passwd", "outside of the suite's folder"),
        ("file://missing.txt", "there is no file"),
        ("file://prompts", "there is no file"),
        ("file://make.py:prompt", "scripts are not run"),
        ("file://make.js", "scripts are not run"),
        ("file://prompts/*.txt", "stands for several files"),
        ("prompts/two.txt", "Write file://prompts/two.txt"),
        ("exec:./make.sh", "a command"),
        ("langfuse://x", "Langfuse"),
    ],
)
def test_other_files_are_not(folder: Path, reference: str, words: str) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    with pytest.raises(UsageError, match=words):
        read_suite(json.dumps({"prompts": [reference]}), "s.json", folder)


def test_strangers_have_no_files_and_smaller_limits(folder: Path) -> None:
    with pytest.raises(UsageError, match="more than 60,000 values"):
        read_suite("prompts: [a]\ntests: [" + "{}," * 60_000 + "]", "s.yaml", strangers=True)
    for text in ("prompts: [file://prompts/two.txt]", "prompts: [a]\ntests: file://tests/more.csv",
                 "prompts: ['{{a}}']\ntests: [{vars: {a: file://country.txt}}]",
                 "prompts: [a]\ntests: [{assert: [{type: contains, value: file://country.txt}]}]"):  # fmt: skip
        with pytest.raises(UsageError, match="is not read here"):
            read_suite(text, "s.yaml", folder, strangers=True)
    with pytest.raises(UsageError, match="row 502: there are more than 500 rows"):
        read_suite("prompt\n" + "a\n" * 501, "s.csv", strangers=True)
