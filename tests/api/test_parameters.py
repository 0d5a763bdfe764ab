"""Every parameter is used or refused by its name, in OpenAI's shape of an error."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import httpx2
import pytest

from playground.api import parameters
from playground.api.errors import ApiError
from playground.api.schema import ChatBody, CompletionBody, DetokenizeBody

HI = [{"role": "user", "content": "Hi"}]


def refused(body: dict[str, Any], kind: Any = ChatBody) -> ApiError:
    with pytest.raises(ApiError) as raised:
        parameters.read(kind, {"model": "m", "messages": HI} | body)
    assert raised.value.status == 400
    return raised.value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("audio", {"voice": "alloy"}),
        ("modalities", ["text", "audio"]),
        ("logit_bias", {"50256": -100}),
        ("frequency_penalty", 0.5),
        ("service_tier", "priority"),
        ("grammar", "root ::= x"),
        ("ignore_eos", True),
    ],
)
def test_what_can_not_be_done_is_refused_by_its_name(name: str, value: Any) -> None:
    error = refused({name: value})
    assert error.param == name
    assert error.code == "unsupported_parameter"
    assert name in error.message


@pytest.mark.parametrize(
    "harmless",
    [
        {"tools": [], "tool_choice": "none", "functions": None, "logit_bias": {}, "parallel_tool_calls": True},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "service_tier": "auto", "modalities": ["text"]},
        {"seed": None, "stop": None, "temperature": None, "user": None, "response_format": None},
    ],
)
def test_what_asks_for_nothing_is_let_pass(harmless: dict[str, Any]) -> None:
    assert parameters.read(ChatBody, {"model": "m", "messages": HI} | harmless).model == "m"


def test_an_unknown_name_is_told_with_the_nearest_known_one() -> None:
    error = refused({"max_tokns": 3})
    assert error.code == "unknown_parameter"
    assert "Did you mean max_tokens?" in error.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"repetition_penalty": 1e-300}, "repetition_penalty"),
        ({"n": 1.5}, "n"),
        ({"n": 10**9}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"seed": -1}, "seed"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, "messages[0].name"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "messages[0].content"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema"),
        ({"model": None}, "model"),
        ({"stop": [1]}, "stop"),
        ({"user": "x" * 513}, "user"),
        ({"user": "\ud800"}, "user"),
        ({"model": "x" * 5000}, "model"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(body: dict[str, Any], param: str) -> None:
    error = refused(body)
    assert error.param is not None
    assert error.param.startswith(param)
    assert error.param in error.message


def test_a_long_value_is_not_repeated_whole() -> None:
    assert len(refused({"temperature": "x" * 10_000}).message) < 500
    assert len(refused({"y" * 10_000: 1}).message) < 500


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CompletionBody, {"messages": None, "prompt": [None] * 200_000}),
        (CompletionBody, {"messages": None, "prompt": [[None]] * 200_000}),
        (ChatBody, {"messages": [{}] * 200_000}),
        (ChatBody, {"messages": [{"role": "user", "content": [{}] * 200_000}]}),
        (ChatBody, {"messages": [{"role": "user", "content": "x"} | {f"n{i}": 1 for i in range(200_000)}]}),
        (ChatBody, {"stream_options": {f"n{i}": 1 for i in range(200_000)}}),
        (ChatBody, {"stop": [1] * 200_000}),
        (DetokenizeBody, {"messages": None, "tokens": [-1] * 200_000}),
    ],
)
def test_many_mistakes_are_found_in_little_memory(kind: Any, body: dict[str, Any]) -> None:
    tracemalloc.start()
    try:
        parameters_of = {name: value for name, value in ({"messages": HI} | body).items() if value is not None}
        with pytest.raises(ApiError):
            parameters.read(kind, {"model": "m"} | parameters_of)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_of_a_list_the_entry_is_named_that_is_unlike_those_before() -> None:
    with pytest.raises(ApiError, match=r"prompt\[2\] is a\. Input should be a valid integer"):
        parameters.read(CompletionBody, {"model": "m", "prompt": [1, 2, "a", 3]})
    with pytest.raises(ApiError, match=r"prompt\[1\]\[1\] is -1"):
        parameters.read(CompletionBody, {"model": "m", "prompt": [[1, 2], [3, -1], [5]]})


def test_completions_have_no_store() -> None:
    with pytest.raises(ApiError, match="store is not supported"):
        parameters.read(CompletionBody, {"model": "m", "prompt": "x", "store": True})
    assert parameters.read(CompletionBody, {"model": "m", "prompt": "x", "store": False}).prompt == "x"


def held_to(schema: str) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": json.loads(schema)}}}


@pytest.mark.waits
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"max_completion_tokens": 10**6}, "max_completion_tokens"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"stop": ["a"] * 17}, None),
        ({"stop": ""}, "stop"),
        ({"messages": [{"role": "user", "content": "x" * 2001}]}, None),
        ({"messages": [{"role": "user", "content": " "}]}, None),
        ({"messages": [{"role": "user", "content": "\0"}]}, "messages"),
        ({"messages": [*HI, {"role": "system", "content": "late"}]}, "messages"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (held_to(r'{"title": "\ud800"}'), None),
        (held_to(r'{"type": "string", "pattern": "\ud800"}'), None),
    ],
)
def test_what_no_model_could_answer_is_refused_before_any_work(
    web: httpx2.Client, body: dict[str, Any], param: str | None
) -> None:
    sent = json.dumps({"model": "fast", "messages": HI} | body)  # halves of characters too, escaped
    answer = web.post("/v1/chat/completions", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    if param:
        assert error["param"].startswith(param)


@pytest.mark.waits
@pytest.mark.parametrize("model", ["fst", "fast@onnx-int4", "hub:a/b/c", "path:/nowhere", "@", "x" * 5000])
def test_an_unknown_model_is_not_found(web: httpx2.Client, model: str) -> None:
    answer = web.post("/v1/chat/completions", json={"model": model, "messages": HI})
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    if model.startswith("f"):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"
