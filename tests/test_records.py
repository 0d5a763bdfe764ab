"""Every record survives the way through JSON, whatever it holds."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground import records
from playground.records import (
    Artifact,
    Cell,
    CheckResult,
    Column,
    Comparison,
    DecodedTokens,
    Environment,
    Event,
    Fact,
    Fidelity,
    LoadSpec,
    Message,
    ModelFacts,
    ModelRun,
    ModelSpec,
    Openness,
    PromptView,
    Record,
    Remote,
    Request,
    SuiteRow,
    SuiteRun,
    Timings,
    TokenLogprob,
    Variant,
)

text = st.text(max_size=12)
number = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 2**53)
texts = st.lists(text, max_size=3).map(tuple)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def one_of(literal: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(literal))


variants = st.builds(Variant, text, text, text)
fidelities = st.builds(
    *(Fidelity, text, count, number, number, number, one_of(records.Verdict), text),
    relative_error=maybe(number),
    overturned=maybe(count),
    kl_by_text=st.dictionaries(text, number, max_size=2),
)
remotes = st.builds(Remote, text, text, text, text, text, st.sampled_from(["chat", "base"]), count, number)
specs = st.builds(
    ModelSpec,
    *[text] * 6,
    context_length=count,
    kind=one_of(records.ModelKind),
    precisions=texts,
    upstream=text,
    download_bytes=count,
    remote=maybe(remotes),
)
artifacts = st.builds(
    Artifact,
    variants,
    text,
    st.sampled_from(["fused", "dynamo", "optimum", "prebuilt", "none"]),
    text,
    text,
    count,
    st.dictionaries(text, text, max_size=2),
    maybe(fidelities),
    text,
    texts,
)
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), text)
requests = st.builds(
    Request,
    text,
    st.lists(messages, max_size=2).map(tuple),
    text,
    count,
    number,
    seed=maybe(count),
    stop=texts,
    answer_ids=st.lists(count, max_size=3).map(tuple),
    logprobs=maybe(count),
    json_schema=text,
)
timings = st.builds(
    Timings,
    queue_s=maybe(number),
    cold=maybe(st.booleans()),
    prompt_tokens=maybe(count),
    token_stamps=st.lists(number, max_size=4).map(tuple),
    mode=maybe(one_of(records.Mode)),
)
logprobs = st.builds(
    TokenLogprob,
    count,
    maybe(number),
    st.lists(count, max_size=3).map(tuple),
    st.lists(number, max_size=3).map(tuple),
)
runs = st.builds(
    ModelRun,
    variants,
    text,
    text,
    text,
    one_of(records.FinishReason),
    timings,
    error=maybe(text),
    fallbacks=texts,
    fidelity=maybe(fidelities),
    token_ids=maybe(st.lists(count, max_size=3).map(tuple)),
    request=maybe(requests),
    taken_in=text,
    logprobs=st.lists(logprobs, max_size=2).map(tuple),
)
columns = st.builds(Column, variants, maybe(requests))
events = st.builds(Event, text, one_of(records.EventKind), text, count, maybe(number), number, maybe(runs), count)
environments = st.builds(Environment, text, count, number, st.dictionaries(text, text, max_size=2), maybe(text))
comparisons = st.builds(
    Comparison, text, text, requests, st.lists(runs, max_size=2).map(tuple), environments, one_of(records.Mode), text
)
words = st.dictionaries(text, text, max_size=2)
checks = st.builds(CheckResult, text, st.booleans(), number, text, number, text)
rows = st.builds(SuiteRow, text, text, text, st.lists(messages, max_size=2).map(tuple), text, words, words, text)
suite_runs = st.builds(
    SuiteRun,
    text,
    text,
    text,
    st.lists(rows, max_size=2).map(tuple),
    st.lists(columns, max_size=2).map(tuple),
    environments,
    count,
    one_of(records.Mode),
    text,
    st.sampled_from(["running", "paused", "done"]),
)
facts = st.builds(Fact, maybe(text | count | st.lists(text, max_size=2)), text, text, one_of(records.FactStatus), text)
openness = st.builds(Openness, facts, facts)
model_facts = st.builds(ModelFacts, text, facts, openness=openness, quality=st.dictionaries(text, facts, max_size=2))
ids = st.lists(count, max_size=3).map(tuple)
views = st.builds(PromptView, text, text, ids, texts, texts, ids, texts, count, maybe(count))

EVERY: dict[type[Record], st.SearchStrategy[Any]] = {
    Variant: variants,
    Fidelity: fidelities,
    Remote: remotes,
    ModelSpec: specs,
    Artifact: artifacts,
    Column: columns,
    Message: messages,
    Request: requests,
    Timings: timings,
    ModelRun: runs,
    Event: events,
    Environment: environments,
    Comparison: comparisons,
    Fact: facts,
    Openness: openness,
    ModelFacts: model_facts,
    PromptView: views,
    TokenLogprob: logprobs,
    CheckResult: checks,
    Cell: st.builds(
        Cell, count, count, count, runs, st.lists(checks, max_size=2).map(tuple), maybe(st.booleans()), maybe(number)
    ),
    SuiteRow: rows,
    SuiteRun: suite_runs,
    LoadSpec: st.builds(LoadSpec, specs, artifacts, count),
    DecodedTokens: st.builds(DecodedTokens, texts, texts, texts),
}


def test_every_record_is_tried_here() -> None:
    named = {kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, Record)}
    assert named - {Record} == set(EVERY)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_record_comes_back_from_json_as_it_was(kind: type[Record], data: st.DataObject) -> None:
    value = data.draw(EVERY[kind])
    assert type(value) is kind
    assert kind.from_json(json.loads(json.dumps(value.to_json()))) == value


def test_fields_of_a_newer_version_are_left_out() -> None:
    data = Request("hi").to_json() | {"mood": "good"}
    assert Request.from_json(data) == Request("hi")


@pytest.mark.parametrize(
    ("written", "variant"),
    [
        ("smollm2", Variant("smollm2")),
        ("smollm2@onnx-int8", Variant("smollm2", "onnx", "int8")),
        (" smollm2@onnx-int8 ", Variant("smollm2", "onnx", "int8")),
        ("path:/a@b/c", Variant("path:/a@b/c")),
        ("path:/a@b/c@torch-fp32", Variant("path:/a@b/c", "torch", "fp32")),
    ],
)
def test_variants_are_read_as_they_are_written(written: str, variant: Variant) -> None:
    assert Variant.parse(written) == variant
    assert Variant.parse(str(variant)) == variant


@pytest.mark.parametrize("written", ["@onnx-int8", "smollm2@", "smollm2@onnx", "smollm2@onnx-", "smollm2@-int8"])
def test_half_a_variant_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not MODEL"):
        Variant.parse(written)
