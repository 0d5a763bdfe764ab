"""Files with mistakes: each is named with its place before anything runs, in bounded time and memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from playground.errors import UsageError
from playground.suites.reading import read_suite, read_suite_file
from playground.suites.spots import STRANGERS
from playground.suites.suite import Suite


def refused(text: str | bytes, name: str) -> str:
    with pytest.raises(UsageError) as caught:
        read_suite(text, name)
    return str(caught.value)


def test_a_mistake_is_said_with_the_file_the_place_and_the_next_step() -> None:
    assert refused("prompts: [a]\ntests:\n- vars: {a: 1}\n  asert: []\n", "s.yaml") == (
        "s.yaml, test 1 (line 3): unknown key 'asert'. Did you mean assert?"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt: [a]", "line 1: unknown key 'prompt'. Did you mean prompts?"),
        ("a", "this is no suite"),
        ("prompts: []", "prompts (line 1): there are no prompts"),
        ("prompts: ['']", "prompts, prompt 1 (line 1): the prompt is empty"),
        ("prompts: [a]\nscenarios: []", "scenarios (line 2): this key is not supported. Write its tests out"),
        ("prompts: [a]\nprompts: [b]", "column 1 (line 2): the key 'prompts' stands twice, first on line 1"),
        ("prompts: [a]\ntests:\n- vars:\n    a: 1\n    a: 2\n", "column 5 (line 5): the key 'a' stands twice"),
        ("prompts: [a\n", "this is not valid YAML"),
        ("prompts: [\ta]\n  b: c", "(line 2): this is not valid YAML"),
        ("prompts: [a]\n---\nprompts: [b]", "but found another document"),
        ("prompts: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python/object/apply:os.system"),
        ("prompts: !!binary aGk=", "the tag"),
        ("prompts: &a [*a]", "an alias stands within what it stands for"),
        ("prompts: [*a]", "undefined alias"),
        ("? [a]\n: b", "a key must be a plain word"),
        ("prompts: [a]\ntests: [{threshold: .inf}]", ".inf is not a number"),
        ("prompts: [a]\ntests: [{threshold: 1e999}]", "too large a number"),
        ("prompts: [a]\ntests: [{threshold: 2}]", "a mean score is never above 1"),
        ("prompts: [[a]]", "this must be a text, not ['a']"),
        ("prompts: [{raw: a, id: b}]", "a prompt has either 'raw' or 'id'"),
        ("prompts: [{raw: a, config: {}}]", "'config' of a prompt is not supported"),
        ("prompts: [{raw: a, lable: b}]", "unknown key 'lable'. Did you mean label?"),
        ("prompts: ['[{\"role\": \"user\"}, 3]']", "turn 1"),
        ("prompts: ['[{\"role\": \"user\", \"content\": \"a\"}, 3]']", "turn 2 (line 1): a turn is a block with role"),
        ("prompts: [a]\nproviders: [3]", "a model is a name"),
        ("prompts: [a]\nproviders: [{label: x, config: {}}]", "the key 'id' is missing"),
        ("prompts: [a]\nproviders: [{id: m, config: {top_k: 1.5}}]", "it must be a whole number of at least 0"),
        ("prompts: [a]\nproviders: [{id: m, config: {stop: [1]}}]", "a text or a list of texts"),
        ("prompts: [a]\nproviders: [{id: m, config: {system: 1}}]", "it must be a text"),
        ("prompts: [a]\nproviders: [{id: m, config: {response_format: {type: xml}}}]", "none of text, json_object"),
        ("prompts: [a]\nproviders: [{id: m, config: {response_format: {type: json_schema}}}]", "needs a schema"),
        ("prompts: [a]\nproviders: [{id: m, config: {response_format: {type: json_schema, schema: {$ref: '#'}}}}]",
         "comes back to itself"),
        ("prompts: [a]\nproviders: [m]\ntargets: [m]", "it says the same as providers"),
        ("prompts: [a]\nevaluateOptions: [1]", "this must be a block of keys"),
        ("prompts: [a]\nevaluateOptions: {repeats: 2}", "unknown key 'repeats'. Did you mean repeat?"),
        ("prompts: [a]\ntests: [{vars: [1]}]", "vars must be a block of variables"),
        ("prompts: [a]\ntests: [{metadata: x}]", "metadata must be a block"),
        ("prompts: [a]\ntests: [{options: x}]", "options must be a block of keys"),
        ("prompts: [a]\ntests: [{options: {sufix: x}}]", "unknown key 'sufix'. Did you mean suffix?"),
        ("prompts: [a]\ntests: [{options: {disableVarExpansion: 1}}]", "this is true or false"),
        ("prompts: [a]\ntests: [{options: {response_format: x}}]", "options, response_format (line 2)"),
        ("prompts: [a]\ntests: [{options: {prefix: '{{x}}'}}]", "prefix (line 2): {{x}} has no value"),
        ("prompts: [a]\ntests: [{assert: x}]", "assert must be a list of checks"),
        ("prompts: [a]\ntests: [{assert: [x]}]", "a check is a block of keys"),
        ("prompts: [a]\nassertionTemplates: {x: y}\ntests: [{assert: [{$ref: '#/assertionTemplates/x'}]}]",
         "is no check"),
        ("prompts: [a]\nassertionTemplates: {short: {}}\ntests: [{assert: [{$ref: '#/assertionTemplates/shrot'}]}]",
         "Did you mean short?"),
        ("prompts: ['{{a}}']\ntests: [{vars: {a: ' '}}]", "its prompt is empty"),
        ("prompts: [a]\ntests: 3", "tests (line 2): tests must be a list"),
        ("prompts: [a]\ntests: [3]", "test 1 (line 2): a test is a block of keys"),
        ("prompts: [a]\ntests: [x.csv]", "Write file://x.csv"),
        ("prompts: ['{{a}}']\ntests: [{vars: {b: 1}}]",
         "test 1, column a (line 2): prompts, prompt 1 (line 1): {{a}} has no value; there are b"),
        ("prompts: ['{{a}}']\ntests: [{vars: {a: }}]", "{{a}} has no value"),
        ("prompts: ['{{a.b}}']\ntests: [{vars: {a: {c: 1}}}]", "{{a.b}} has no value"),
        ("prompts: ['{{a | upper}}']", "the filter 'upper' is not supported in templates"),
        ("prompts: ['{% for x in y %}{% endfor %}']", "the loop {% for %}"),
        ("prompts: ['{% if a %}b{% endif %}']", "{% if %} is not supported"),
        ("prompts: ['{{ f(1) }}']", "calling a function"),
        ("prompts: ['{{ a + 1 }}']", "an expression (Add)"),
        ("prompts: ['{{ env.KEY }}']", "{{env.KEY}} has no value"),
        ("prompts: ['{{ a']", "line 1 of the template"),
        ("prompts: ['" + "{{" + "(" * 5000 + "a" + ")" * 5000 + "}}']", "nested too deeply"),
        ("prompts: ['[{\"role\": \"tool\", \"content\": \"a\"}]']", "the role 'tool' is none of"),
        ("prompts: ['[{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]']",
         "'image_url' is not supported"),
        ("prompts: ['[{\"role\": \"user\", \"content\": a}]']", "not valid JSON"),
        ("prompts: [a]\nproviders: [{id: m, config: {temprature: 1}}]", "Did you mean temperature?"),
        ("prompts: [a]\nproviders: [{id: m, config: {temperature: hot}}]", "it must be a number, not 'hot'"),
        ("prompts: [a]\nproviders: [{id: m, config: {max_tokens: 1, max_new_tokens: 2}}]", "says again"),
        ("prompts: [a]\nproviders: [{id: m, prompts: [a]}]", "'prompts' of a provider is not supported"),
        ("prompts: [a]\nproviders: ['x@y']", "providers, provider 1 (line 2): 'x@y' is not MODEL"),
        ("prompts: [a]\nproviders: ['']", "the name is empty"),
        ("prompts: [a]\nevaluateOptions: {repeat: 0}", "evaluateOptions, repeat (line 2): it must be a whole number"),
        ("prompts: [a]\ntests: [{id: x}, {id: x}]", "test 2 (line 2): the id 'x' stands already at test 1 (line 2)"),
        ("prompts: [a]\ntests: [{vars: {a: []}}]", "a variable has an empty list"),
        ("prompts: ['{{a}}']\ntests: [{vars: {a: '{{b}}{{b}}', b: '" + "x" * 60_000 + "'}}]", "longer than 100,000"),
        ("prompts: ['{{a}}{{a}}']\ntests: [{vars: {a: '" + "x" * 60_000 + "'}}]",
         "its prompt (line 2): with its variables filled in"),
    ],
)  # fmt: skip
def test_mistakes_of_a_file_are_named_with_their_place(text: str, words: str) -> None:
    assert words in refused(text, "s.yaml")


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("{type: contians, value: a}", "unknown type of check 'contians'. Did you mean contains?"),
        ("{value: a}", "the key 'type' is missing"),
        ("{type: javascript, value: 'true'}", "'javascript' is not supported: it is a script"),
        ("{type: not-python, value: 'true'}", "'python' is not supported: it is a script"),
        ("{type: llm-rubric, value: nice}", "it needs a model to judge by"),
        ("{type: similar, value: nice}", "it needs a model to judge by"),
        ("{type: webhook, value: http://x}", "it asks a service on the network"),
        ("{type: tool-call-f1, value: [a]}", "tool calls"),
        ("{type: bleu, value: a}", "not built yet"),
        ("{type: 'promptfoo:redteam:pii'}", "red teaming"),
        ("{type: contains}", "contains needs a value"),
        ("{type: contains, value: ''}", "an empty text is in every answer"),
        ("{type: contains, value: {a: 1}}", "it takes a text"),
        ("{type: contains, value: a, threshold: 1}", "'threshold' does nothing"),
        ("{type: contains, value: a, transform: output}", "'transform' of a check is not supported"),
        ("{type: contains, value: a, wieght: 2}", "unknown key 'wieght'. Did you mean weight?"),
        ("{type: contains, value: a, weight: -1}", "-1 is below 0"),
        ("{type: contains-any, value: 'a, \"b'}", "a double quote in the list is not closed"),
        ("{type: contains-any, value: []}", "it takes a list of texts"),
        ("{type: latency}", "latency needs a limit"),
        ("{type: latency, value: 500}", "latency takes no value"),
        ("{type: regex, value: '(?=a)b'}", "regex can't be checked; RE2 has no look-around"),
        ("{type: regex, value: '('}", "RE2 takes"),
        ("{type: is-json, value: {$ref: '#'}}", "comes back to itself"),
        ("{type: is-json, value: {type: objekt}}", "is-json can't be checked"),
        ("{type: is-json, value: '{\"type\": '}", "neither JSON nor YAML"),
        ("{type: not-is-json, enforce: true}", "can't be held to what it must not be"),
        ("{type: is-json, enforce: 1}", "enforce is true or false"),
        ("{type: numeric, value: many}", "it takes a number"),
        ("{type: numeric, value: 1, tolerance: -1}", "tolerance is a number"),
        ("{type: language, value: klingon}", "'klingon' is no language"),
        ("{type: same-answer, value: 1}", "at least 2"),
        ("{type: same-answer, value: 1000}", "at most 100 samples"),
        ("{type: finish-reason, value: tool_calls}", "models here end by"),
        ("{type: word-count, value: {min: 3, max: 2}}", "min is above max"),
        ("{type: rouge-n, value: a, threshold: 75}", "at most 1"),
        ("{type: assert-set}", "an assert-set needs a list"),
        ("{type: assert-set, assert: [{type: assert-set, assert: [{type: is-json}]}]}", "can't stand in a set"),
        ("{type: assert-set, assert: [{type: contians}]}", "check 1 of the set (line 3): unknown type"),
        ("{$ref: '#/assertionTemplates/x'}", "there is no template"),
        ("{type: contains, value: '{{nothing}}'}", "{{nothing}} has no value"),
    ],
)
def test_mistakes_of_a_check_are_named_with_its_place(check: str, words: str) -> None:
    said = refused(f"prompts: [a]\ntests:\n- assert: [{check}]\n", "s.yaml")
    assert words in said
    assert "samples" in words or said.startswith("s.yaml, test 1, check 1")


def test_a_check_of_every_test_names_the_row_whose_value_it_can_not_take() -> None:
    text = (
        "prompts: [a]\n"
        "defaultTest: {assert: [{type: regex, value: '{{p}}'}]}\n"
        "tests: [{vars: {p: a}}, {vars: {p: '('}}]"
    )
    assert "s.yaml, test 2, defaultTest, check 1" in refused(text, "s.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('prompt,__expected\n"a"b,c\n', "row 2, column 1 (line 2): “b,c” stands behind a closing quote"),
        ('prompt,__expected\n"a\nb",c\nd,"e\nf\n', "row 3, column 2 (line 4): a double quote is opened and not closed"),
        ("prompt,__expected\na,b,c\n", "row 2, column 3: the row has 3 cells, the header 2 columns"),
        ("prompt,__expected\na\n", "row 2, column __expected: the row ends after 1 cells of 2"),
        ("prompt,prompt\na,b\n", "row 1, column 2: the column 'prompt' stands twice"),
        ("prompt,,b\na,b,c\n", "row 1, column 2: the header names no column here"),
        ("question,__expected\na,b\n", "row 2, column prompt: {{prompt}} has no value; there are question"),
        ("prompt,__expected\na {{b}},c\n", "row 2, column b: {{b}} has no value"),
        ("prompt,__expectd\na,b\n", "there is no such special column. Did you mean __expected"),
        ("prompt,_expected\na,b\n", "special columns begin with two underscores. Write __expected."),
        ("prompt,__metadata\na,b\n", "metadata needs a name"),
        ("prompt,__config:x\na,b\n", "this sets nothing"),
        ("prompt,__providerOutput\na,b\n", "answers come from models here"),
        ("prompt,__expected\na,contians:b\n", "'contians' is no type of check. Did you mean contains?"),
        ("prompt,__expected\na,fn:true\n", "row 2, column __expected: the check 'fn' is not supported"),
        ("prompt,__expected\na,grade:nice\n", "the check 'grade' is not supported"),
        ("prompt,__expected\na,similar(0.8):nice\n", "the check 'similar' is not supported"),
        ("prompt,__expected\na,file://check.py\n", "it is a script"),
        ("prompt,__expected\na,latency:5\n", "latency takes no value"),
        ("prompt,__threshold\na,x\n", "row 2, column __threshold: it takes a number"),
        ("prompt,__id\na,1\nb,1\n", "row 3: the id '1' stands already at row 2"),
        ("prompt\n", "there are no rows"),
        ("\n\n", "it is empty"),
        ("prompt\n\x00\n", "column 1 (line 2): a character that is no text (U+0000)"),
        ("prompt\n" + "x" * 110_000, "row 2, column prompt: this has 110,000 characters, at most 100,000 are taken"),
        ("prompt\n" + "x" * 140_000, "row 2, column 1 (line 2): this has more than 131,072 characters"),
        (b"prompt\nabc\nd\xe4\n", "column 2 (line 3): the file is not UTF-8 text"),
        ("prompt\nä\n".encode("utf-16-le"), "looks like UTF-16 without its mark"),
        ("prompt\n".encode("utf-16") + b"x", "begins as UTF-16"),
        ("prompt\n".encode("utf-32"), "UTF-32"),
    ],
)  # fmt: skip
def test_mistakes_of_a_table_are_named_by_row_and_column(text: str | bytes, words: str) -> None:
    assert words in refused(text, "s.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"prompt": "a"}\n{"prompt": "a", "prompt": "b"}', "line 2: the key 'prompt' stands twice"),
        ('{"prompt": "a"}\n{"prompt": ', "column 11 (line 2): this is not valid JSON"),
        ('{"prompt": "a"}\n[1]', "row 2: each line must be a block"),
        ('{"prompt": NaN}', "NaN is not JSON"),
        ('{"prompt": 1e999}', "too large a number"),
        ('{"prompt": ' + "9" * 5000 + "}", "too many digits"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"prompt": "\\ud800"}', "a character that is no text (U+D800)"),
        ('{"vars": {}, "asert": []}', "row 1: unknown key 'asert'"),
        ('{"prompt": "a", "__expectd": "b"}', "row 1, column __expectd: there is no such special column"),
        ('{"prompt": "' + "x" * 110_000 + '"}', "row 1, column prompt: this has 110,000 characters"),
    ],
)
def test_mistakes_of_json_lines_are_named_by_their_line(text: str, words: str) -> None:
    assert words in refused(text, "s.jsonl")


@pytest.mark.parametrize(
    "check",
    [
        '"threshold": 1N, "assert": [{"type": "contains", "value": "a"}]',
        '"assert": [{"type": "contains", "value": "a", "weight": 1N}]',
        '"assert": [{"type": "word-count", "value": 1N}]',
        '"assert": [{"type": "numeric", "value": 1N, "tolerance": 1N}]',
    ],
)
@pytest.mark.parametrize("digits", [309, 400, 4000])
def test_a_number_of_hundreds_of_digits_is_refused_like_any_other_mistake(check: str, digits: int) -> None:
    text = '{"prompt": "a", ' + check.replace("1N", "1" + "0" * digits) + "}"
    assert len(refused(text, "s.jsonl")) < 400


def test_pasted_lines_with_a_variable_say_what_to_do() -> None:
    assert "row 2, column name: {{name}} has no value. Add a column name" in refused("Hi\nHello {{name}}\n", "")
    with pytest.raises(UsageError, match="it has 2"):
        read_suite("a", prompts=["{{a}} {{b}}"])


def test_rows_that_repeat_a_long_value_are_counted_as_long() -> None:
    text = f"prompts: ['{{{{a}}}}']\ndefaultTest: {{vars: {{a: {'x' * 19_000}}}}}\ntests:\n" + "- {}\n" * 400
    with pytest.raises(UsageError, match=r"test 106 \(line 109\): the rows up to here have more than 4,000,000"):
        read_suite(text, "s.yaml", strangers=True)


def test_checks_that_take_long_to_read_end_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "prompt,p,__expected\n" + "".join(f"a,{n},regex:x{{{{p}}}}\n" for n in range(400))
    assert len(read_suite(text, "s.csv", strangers=True).rows) == 400
    monkeypatch.setattr("playground.suites.reading.STRANGERS", replace(STRANGERS, max_seconds=0.001))
    with pytest.raises(UsageError, match=r"row \d+: the checks up to here took more than 0.001 seconds"):
        read_suite(text, "s.csv", strangers=True)


def test_an_id_of_ones_own_is_no_other_rows_digest() -> None:
    digest = read_suite("prompts: [a]", "s.yaml").rows[0].id
    assert "stands already at" in refused(f"prompts: [a]\ntests: [{{}}, {{id: {digest}}}]", "s.yaml")
    found = read_suite(f"prompts: [a]\ntests: [{{id: {digest}}}, {{}}, {{}}]", "s.yaml")
    assert [row.id for row in found.rows] == [digest, f"{digest}-2", f"{digest}-3"]


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path, Path("/dev/zero")):
        with pytest.raises(UsageError, match="no such file"):
            read_suite_file(path)


# -- too much of everything ---------------------------------------------------------------------------------------

BOMB = "\n".join(
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)),
        "prompts: *a29",
    ]
)
MERGES = "\n".join(
    [
        "m0: &m0 {a: 1}",
        *(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}" for n in range(1, 30)),
        "prompts: [a]",
    ]
)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (BOMB, "s.yaml", "400,000 values"),
        (MERGES, "s.yaml", "400,000 values"),
        ("prompts: " + "[" * 200_000, "s.yaml", "50 levels"),
        ("prompts: " + "{a: " * 200_000, "s.yaml", "50 levels"),
        ("prompt,__expected\na,b\nc," + "x" * 50_000_000, "s.csv", "row 3, column 2"),
        ('prompt,__expected\na,b\nc,"' + "x" * 50_000_000, "s.csv", "row 3, column 2"),
        ('{"prompt": "a"}\n{"prompt": "' + "x" * 50_000_000, "s.jsonl", "longest line (line 2): it has 50.0 MB"),
        ("prompts:\n- " + "x" * 50_000_000, "s.yaml", "longest line (line 2): it has 50.0 MB"),
        ("prompt,x\n" + ("{{x}}," + "y" * 90_000 + "\n") * 170, "s.csv", ""),
        ("prompts: ['" + "{{a}}" * 9_000 + "']\ntests: [{vars: {a: '" + "x" * 99_000 + "'}}]", "s.yaml", "characters"),
    ],
)  # fmt: skip
def test_what_is_too_much_ends_soon_and_in_little_memory(text: str, name: str, words: str) -> None:
    began = time.monotonic()
    tracemalloc.start()
    try:
        if words:
            assert words in refused(text, name)
        else:
            read_suite(text, name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 400_000_000
    assert time.monotonic() - began < 60  # a wide limit: what it must not do is never end


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("prompts:\n" + "- a\n" * 500_000, "s.yaml", "400,000 values"),
        ("prompts:\n" + "- a\n" * 200, "s.yaml", "more than 100 prompts"),
        ("prompt\n" + "a\n" * 100_000, "s.csv", "row 20002: there are more than 20,000 rows"),
        ('{"prompt": "a"}\n' * 100_000, "s.jsonl", "row 20001: there are more than 20,000 rows"),
        ("a\n" * 100_000, "s.txt", "row 20001: there are more than 20,000 rows"),
        ("prompts: ['{{a}}']\ntests: [{vars: {a: &l [" + "1," * 1000 + "], b: *l, c: *l, d: *l, e: *l}}]", "s.yaml",
         "test 1 (line 2): there are more than 20,000 rows"),
        ("prompts: [a]\ntests: [{assert: [" + "{type: is-json}," * 101 + "]}]", "s.yaml", "more than 100 checks"),
        ("prompts: [a]\ntests: [{assert: [{type: assert-set, assert: [" + "{type: is-json}," * 100 + "]}]}]", "s.yaml",
         "more than 100 checks"),
    ],
)  # fmt: skip
def test_too_many_of_a_kind_are_counted_before_they_are_made(text: str, name: str, words: str) -> None:
    began = time.monotonic()
    assert words in refused(text, name)
    assert time.monotonic() - began < 60


ANYTHING = st.text(st.characters(codec="utf-8"), max_size=200)
WORDS = st.sampled_from(
    ["prompts", "tests", "vars", "assert", "type", "contains", "value", ": ", "- ", "\n", "  ", "[", "]", "{", "}",
     "{{a}}", "'", '"', "&a ", "*a", "<<", "1", "threshold", "a", ",", "---", "|", "__expected", "prompt", "regex",
     "\t", "#", "!!x ", "is-json", "\\", "{%", "%}", "$ref", "file://x", "null", ".5"]
)  # fmt: skip
SOUP = st.lists(WORDS, max_size=60).map("".join)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(ANYTHING, SOUP, st.binary(max_size=200)), st.sampled_from(["s.yaml", "s.json", "s.jsonl", "s.csv", ""])
)
def test_whatever_is_in_a_file_a_suite_or_a_usage_error_comes_of_it(text: str | bytes, name: str) -> None:
    try:
        suite = read_suite(text, name, strangers=True)
    except UsageError as error:
        assert str(error)
        return
    assert suite.rows
    assert Suite.from_json(json.loads(json.dumps(suite.to_json()))) == suite
    json.dumps(suite.to_json(), ensure_ascii=False).encode("utf-8")
    assert len({row.id for row in suite.rows}) == len(suite.rows)


BLOCKS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["a", "{{a}}", "", "("]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["prompts", "tests", "vars", "assert", "type", "value", "threshold", "weight", "defaultTest",
                         "options", "providers", "id", "config", "metadata", "a", "raw", "label", "description"]),
        inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["prompts", "tests", "defaultTest", "providers", "evaluateOptions"]), BLOCKS))
def test_blocks_of_the_wrong_kind_are_usage_errors(block: dict[str, object]) -> None:
    try:
        read_suite(json.dumps(block), "s.json", strangers=True)
    except UsageError as error:
        assert str(error)
