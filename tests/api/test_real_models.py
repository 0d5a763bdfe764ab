"""The door before the real starter models: scores and answers are of one model, tokens join to the text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from playground.config.settings import load_settings
from playground.service import Playground
from tests.support.door import served

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

MODELS = ("smollm2-135m-instruct@onnx-int8", "gemma-3-270m@onnx-int8")
TEXT = "The capital of France is"
CLOSE = 2e-3
"""In nats: a text that is scored whole is rounded a little otherwise than one that is written step by step."""


@pytest.fixture(scope="module")
def real() -> Iterator[httpx2.Client]:
    with (
        Playground(load_settings()) as playground,
        served(playground) as url,
        httpx2.Client(base_url=url, timeout=300, verify=False) as client,
    ):
        yield client


def post(web: httpx2.Client, path: str, **body: Any) -> Any:
    answer = web.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def complete(web: httpx2.Client, **body: Any) -> Any:
    return post(web, "/v1/completions", **body)["choices"][0]


@pytest.mark.parametrize("model", MODELS)
def test_the_token_that_scoring_tells_is_the_one_that_is_written(real: httpx2.Client, model: str) -> None:
    ids = post(real, "/tokenize", model=model, content=TEXT, add_special=True)["tokens"]
    scored = complete(real, model=model, prompt=ids, echo=True, logprobs=1, max_tokens=1)
    written = complete(real, model=model, prompt=ids, logprobs=1, max_tokens=1)
    assert scored["logprobs"]["tokens"][-1] == written["logprobs"]["tokens"][0]
    assert scored["text"].endswith(TEXT + written["text"])
    assert scored["logprobs"]["token_logprobs"][-1] == pytest.approx(
        written["logprobs"]["token_logprobs"][0], abs=CLOSE
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_text_and_its_ids_are_one_prompt(real: httpx2.Client, model: str) -> None:
    ids = post(real, "/tokenize", model=model, content=TEXT, add_special=True)["tokens"]
    by_ids, by_text = (complete(real, model=model, prompt=prompt, max_tokens=12) for prompt in (ids, TEXT))
    assert by_ids["text"] == by_text["text"]


@pytest.mark.parametrize("model", MODELS)
def test_what_was_written_scores_as_it_was_written(real: httpx2.Client, model: str) -> None:
    ids = post(real, "/tokenize", model=model, content=TEXT, add_special=True)["tokens"]
    written = complete(real, model=model, prompt=ids, logprobs=3, max_tokens=8, return_tokens_as_token_ids=True)[
        "logprobs"
    ]
    answer = [int(token.removeprefix("token_id:")) for token in written["tokens"]]
    whole = complete(real, model=model, prompt=ids + answer, echo=True, logprobs=3, max_tokens=0)["logprobs"]
    assert whole["token_logprobs"][len(ids) :] == pytest.approx(written["token_logprobs"], abs=CLOSE)
    assert all(value == max(row.values()) for value, row in zip(written["token_logprobs"], written["top_logprobs"]))  # noqa: B905


def test_tokens_of_an_answer_join_to_its_text_byte_by_byte(real: httpx2.Client) -> None:
    messages = [{"role": "user", "content": "Answer with three emoji and the word naïve."}]
    said = post(
        real, "/v1/chat/completions", model=MODELS[0], messages=messages, logprobs=True, top_logprobs=2, max_tokens=40
    )["choices"][0]
    content = said["logprobs"]["content"]
    if said["finish_reason"] == "stop":
        content = content[:-1]
    raw = b"".join(bytes(each["bytes"]) for each in content)
    assert raw.decode("utf-8", "replace") == said["message"]["content"]


def test_the_template_is_the_models_own(real: httpx2.Client) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    prompt = post(real, "/apply-template", model=MODELS[0], messages=messages)["prompt"]
    assert prompt == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    props = real.get("/props", params={"model": MODELS[0]}).json()
    assert "<|im_start|>" in props["chat_template"]
    assert (
        props["default_generation_settings"]["n_ctx"] == 2048 or props["default_generation_settings"]["n_ctx"] == 8192
    )


def test_an_answer_is_held_to_a_schema(real: httpx2.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
        "required": ["city", "age"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    messages = [{"role": "user", "content": "Tell me about Ann, who is 30 and lives in Paris."}]
    body = {"model": MODELS[0], "messages": messages, "max_tokens": 60, "temperature": 1.0, "seed": 3, "n": 2}
    for choice in post(real, "/v1/chat/completions", **body, response_format=wanted)["choices"]:
        found = json.loads(choice["message"]["content"])
        assert set(found) == {"city", "age"}
        assert isinstance(found["age"], int)
        assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "https://example.org/x.json"},
        {"$ref": "#/$defs/none"},
        {"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(800)}},
    ],
)
def test_a_schema_that_can_not_be_held_to_is_the_callers_mistake(real: httpx2.Client, schema: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": MODELS[0], "messages": messages, "max_tokens": 5, "response_format": wanted}
    answer = real.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
