"""Chat completions: OpenAI's fields, and ours beside them, whole and as a stream."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from playground.records import Comparison
from playground.service import Playground

pytestmark = pytest.mark.waits

HI = [{"role": "user", "content": "Hi"}]
PARIS = "Paris is the capital of France."


def ask(web: httpx2.Client, **body: Any) -> dict[str, Any]:
    answer = web.post("/v1/chat/completions", json={"model": "fast", "messages": HI} | body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def chunks(web: httpx2.Client, path: str = "/v1/chat/completions", **body: Any) -> list[dict[str, Any]]:
    """The events of a stream, which ends as OpenAI's does."""
    body = {"model": "fast", "messages": HI, "stream": True} | body
    with web.stream("POST", path, json=body) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_an_answer_has_openais_fields(web: httpx2.Client) -> None:
    said = ask(web)
    assert said["object"] == "chat.completion"
    assert said["model"] == "fast@fake-none"
    (choice,) = said["choices"]
    assert choice["message"] == {"role": "assistant", "content": PARIS, "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"] is None
    assert said["usage"]["completion_tokens"] == 6
    assert said["usage"]["total_tokens"] == said["usage"]["prompt_tokens"] + 6


def test_timings_are_those_of_the_receipt(web: httpx2.Client, models: Playground) -> None:
    said = ask(web)
    kept = Comparison.from_json(web.get(f"/v1/receipts/{said['receipt']}").json())
    taken = kept.runs[0].timings
    assert said["timings"]["predicted_per_second"] == taken.decode_tok_s
    assert said["timings"]["prompt_per_second"] == taken.prefill_tok_s
    assert said["timings"]["ttft_ms"] == round((taken.ttft_s or 0) * 1000, 3)
    assert said["timings"]["predicted_n"] == 6
    assert kept.runs[0].text == PARIS
    assert models.comparison(said["receipt"]) is None


def test_a_stored_answer_is_in_the_history(web: httpx2.Client, models: Playground) -> None:
    kept = models.comparison(ask(web, store=True)["receipt"])
    assert kept
    assert kept.runs[0].text == PARIS
    assert kept.request.messages[0].content == "Hi"


def test_an_unknown_receipt_is_not_found(web: httpx2.Client) -> None:
    answer = web.get("/v1/receipts/none")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "receipt_not_found"


def test_a_stream_says_the_same_as_the_whole(web: httpx2.Client) -> None:
    events = chunks(web, stream_options={"include_usage": True})
    assert [event["object"] for event in events] == ["chat.completion.chunk"] * len(events)
    assert len({event["id"] for event in events}) == 1
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == PARIS
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == [None] * (len(events) - 2) + ["stop"]
    assert events[-2]["timings"]["predicted_n"] == 6
    assert events[-2]["receipt"]
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 6


def test_without_include_usage_every_chunk_has_a_choice(web: httpx2.Client) -> None:
    assert all(event["choices"] for event in chunks(web))


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_name_tokens_and_bytes(web: httpx2.Client, *, stream: bool) -> None:
    if stream:
        events = chunks(web, logprobs=True, top_logprobs=2)
        found = [event["choices"][0]["logprobs"] for event in events if event["choices"][0]["logprobs"]]
        content = [each for part in found for each in part["content"]]
    else:
        content = ask(web, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert "".join(each["token"] for each in content) == PARIS
    assert bytes(content[0]["bytes"]).decode() == content[0]["token"]
    assert [len(each["top_logprobs"]) for each in content] == [2] * 6
    assert content[0]["top_logprobs"][0]["logprob"] == content[0]["logprob"]
    assert content[0]["logprob"] == pytest.approx(-1.1847749)


def test_log_probabilities_without_likeliest_ones(web: httpx2.Client) -> None:
    content = ask(web, logprobs=True, return_tokens_as_token_ids=True)["choices"][0]["logprobs"]["content"]
    assert [each["top_logprobs"] for each in content] == [[]] * 6
    assert content[0]["token"].startswith("token_id:")
    assert bytes(content[0]["bytes"]).decode() == "Paris "


def test_several_choices_have_timings_of_their_own(web: httpx2.Client) -> None:
    said = ask(web, n=2)
    assert [choice["index"] for choice in said["choices"]] == [0, 1]
    assert all(choice["timings"]["predicted_n"] == 6 for choice in said["choices"])
    assert "timings" not in said
    assert said["usage"]["completion_tokens"] == 12
    one = ask(web)["usage"]["prompt_tokens"]
    assert said["usage"]["prompt_tokens"] == one
    assert len(web.get(f"/v1/receipts/{said['receipt']}").json()["runs"]) == 2


def test_several_choices_stream_one_after_the_other(web: httpx2.Client) -> None:
    events = chunks(web, n=2)
    assert [event["choices"][0]["index"] for event in events] == sorted(e["choices"][0]["index"] for e in events)
    texts = ["", ""]
    for event in events:
        texts[event["choices"][0]["index"]] += event["choices"][0]["delta"].get("content", "")
    assert texts == [PARIS, PARIS]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_an_answer_is_cut_at_the_length_asked_for(web: httpx2.Client, field: str) -> None:
    (choice,) = ask(web, **{field: 2})["choices"]
    assert choice["message"]["content"] == "Paris is "
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize("stop", ["capital", ["nothing", "capital"]])
def test_an_answer_ends_before_a_stop_string(web: httpx2.Client, stop: Any) -> None:
    (choice,) = ask(web, stop=stop)["choices"]
    assert choice["message"]["content"] == "Paris is the "
    assert choice["finish_reason"] == "stop"


def test_messages_may_be_parts_of_text_and_developer_is_system(web: httpx2.Client) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    said = ask(web, messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
    asked = web.get(f"/v1/receipts/{said['receipt']}").json()["request"]["messages"]
    assert asked == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


def test_a_seed_is_one_for_each_choice_and_none_stays_none(web: httpx2.Client) -> None:
    kept = web.get(f"/v1/receipts/{ask(web, n=2, seed=7)['receipt']}").json()
    assert [kept["request"]["seed"], kept["runs"][1]["request"]["seed"]] == [7, 8]
    kept = web.get(f"/v1/receipts/{ask(web)['receipt']}").json()
    assert kept["request"]["seed"] is None


def test_a_schema_reaches_the_request(web: httpx2.Client) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    answer = web.post("/v1/chat/completions", json={"model": "fast", "messages": HI, "response_format": wanted})
    if answer.status_code == 200:
        asked = web.get(f"/v1/receipts/{answer.json()['receipt']}").json()["request"]
        assert json.loads(asked["json_schema"]) == schema
    else:  # a scripted model can't be held to one, and says so
        assert "schema" in answer.json()["error"]["message"].lower()


@pytest.mark.parametrize("model", ["fails", "dies", "fails-to-load"])
def test_a_model_that_fails_is_an_error_of_the_server_that_is_not_tried_again(web: httpx2.Client, model: str) -> None:
    answer = web.post("/v1/chat/completions", json={"model": model, "messages": HI})
    assert answer.status_code == 500
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["type"] == "server_error"
    assert answer.json()["error"]["code"] == ("model_died" if model == "dies" else "model_failed")
    assert ask(web)["choices"][0]["message"]["content"] == PARIS


def test_a_failure_in_a_stream_is_its_last_event(web: httpx2.Client) -> None:
    events = chunks(web, model="fails")
    assert events[0]["choices"][0]["delta"]["content"]
    assert events[-1]["error"]["code"] == "model_failed"


def test_a_failure_before_a_streams_first_word_has_a_status(web: httpx2.Client) -> None:
    answer = web.post("/v1/chat/completions", json={"model": "fails-to-load", "messages": HI, "stream": True})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "model_failed"


def test_a_prompt_that_is_too_long_is_openais_error(web: httpx2.Client) -> None:
    messages = [{"role": "user", "content": "a " * 600}]
    answer = web.post("/v1/chat/completions", json={"model": "fast", "messages": messages})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
