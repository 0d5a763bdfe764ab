"""Completions: texts and ids, one and many, gone on with and scored."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from playground.service import Playground
from tests.support.door import served

pytestmark = pytest.mark.waits

SCRIPT = "and so on and so forth"


def ask(web: httpx2.Client, **body: Any) -> dict[str, Any]:
    answer = web.post("/v1/completions", json={"model": "base", "prompt": "one two"} | body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(web: httpx2.Client, text: str) -> list[int]:
    found: list[int] = web.post("/tokenize", json={"model": "base", "content": text}).json()["tokens"]
    return found


def test_a_completion_has_openais_fields(web: httpx2.Client) -> None:
    said = ask(web)
    assert said["object"] == "text_completion"
    assert said["choices"] == [{"index": 0, "text": SCRIPT, "logprobs": None, "finish_reason": "stop"}]
    assert said["usage"]["prompt_tokens"] == 2
    assert said["timings"]["predicted_n"] == 6


def test_sixteen_tokens_are_openais_default(web: httpx2.Client) -> None:
    assert ask(web, min_tokens=16)["usage"]["completion_tokens"] == 16


def test_a_chat_model_reads_a_completions_prompt_as_it_stands(web: httpx2.Client) -> None:
    said = ask(web, model="fast")
    assert said["usage"]["prompt_tokens"] == 2
    assert ask(web, model="fast", prompt=ids(web, "one two"))["usage"]["prompt_tokens"] == 2


def test_several_prompts_have_choices_in_their_order(web: httpx2.Client) -> None:
    said = ask(web, prompt=["one", "one two three"], n=2, echo=True)
    assert [choice["index"] for choice in said["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in said["choices"]] == [
        f"{p}{SCRIPT}" for p in ("one", "one two three") for _ in "ab"
    ]
    assert said["usage"]["prompt_tokens"] == 4, "a prompt counts once, however many choices it has"
    assert said["usage"]["completion_tokens"] == 24


def test_ids_are_echoed_as_their_text(web: httpx2.Client) -> None:
    assert (
        ask(web, prompt=[ids(web, "one two "), ids(web, "three ")], echo=True)["choices"][1]["text"]
        == f"three {SCRIPT}"
    )


def test_log_probabilities_of_an_answer(web: httpx2.Client) -> None:
    found = ask(web, logprobs=2)["choices"][0]["logprobs"]
    assert found["tokens"] == ["and ", "so ", "on ", "and ", "so ", "forth"]
    assert found["text_offset"] == [0, 4, 7, 10, 14, 17]
    assert [len(row) for row in found["top_logprobs"]] == [2] * 6
    assert found["token_logprobs"][0] == found["top_logprobs"][0]["and "]


def test_log_probabilities_of_chosen_tokens_alone(web: httpx2.Client) -> None:
    found = ask(web, logprobs=0)["choices"][0]["logprobs"]
    assert len(found["token_logprobs"]) == 6
    assert found["top_logprobs"] is None


def test_a_prompt_is_scored_as_lm_eval_asks_for_it(web: httpx2.Client, models: Playground) -> None:
    """Its ``local-completions`` reads ``token_logprobs[ctxlen:-1]`` and compares with the largest of each row."""
    context, continuation = "one two ", "on and maybe"
    prompts = [ids(web, context) + ids(web, continuation), ids(web, "and so on ")]
    said = ask(web, prompt=prompts, echo=True, logprobs=1, max_tokens=1, temperature=0, seed=1234)
    scored = models.score_tokens("base", prompts, top=1)
    for choice, sent, truth in zip(said["choices"], prompts, scored, strict=True):
        found = choice["logprobs"]
        assert found["token_logprobs"][: len(sent)] == [each.logprob for each in truth]
        assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
        assert len(found["tokens"]) == len(found["token_logprobs"]) == len(found["top_logprobs"]) == len(sent) + 1
        assert choice["finish_reason"] == "length"
    rows = said["choices"][0]["logprobs"]
    greedy = [
        value == max(row.values())
        for value, row in zip(rows["token_logprobs"][2:-1], rows["top_logprobs"][2:-1], strict=True)
    ]
    assert greedy == [True, True, False], "the script says 'on and so'"
    assert said["usage"]["completion_tokens"] == 2


def test_figures_are_told_from_the_token_on_that_they_are_wanted_from(web: httpx2.Client) -> None:
    prompts = [ids(web, "one two on and maybe"), ids(web, "and so on")]
    whole = ask(web, prompt=prompts, echo=True, logprobs=1, max_tokens=0)["choices"]
    part = ask(web, prompt=prompts, echo=True, logprobs=1, max_tokens=0, logprobs_from=[2, 3])["choices"]
    for all_of_it, told, start in zip(whole, part, [2, 3], strict=True):
        for name in ("token_logprobs", "top_logprobs"):
            assert told["logprobs"][name] == [None] * start + all_of_it["logprobs"][name][start:]
        assert told["logprobs"]["tokens"] == all_of_it["logprobs"]["tokens"]
        assert told["text"] == all_of_it["text"]


@pytest.mark.parametrize(
    "more",
    [
        {"logprobs_from": [1, 1, 1], "logprobs": 1, "echo": True},
        {"logprobs_from": [99], "logprobs": 1, "echo": True},
        {"logprobs_from": [1], "logprobs": 1},
        {"logprobs_from": [1], "echo": True},
    ],
)
def test_a_start_that_means_nothing_is_refused(web: httpx2.Client, more: dict[str, Any]) -> None:
    asked = {"model": "base", "prompt": "and so on", "max_tokens": 1, **more}
    refused = web.post("/v1/completions", json=asked)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"]


def test_the_token_behind_a_scored_prompt_is_the_one_that_generating_gives(web: httpx2.Client) -> None:
    """A scripted model scores by places, so the first place of the answer behind an echoed prompt is the script's."""
    said = ask(web, prompt=ids(web, "and so "), echo=True, logprobs=1, max_tokens=1)
    assert said["choices"][0]["text"] == "and so on "


def test_no_token_is_answered_where_none_is_wanted(web: httpx2.Client) -> None:
    said = ask(web, prompt="and so on", echo=True, logprobs=1, max_tokens=0)
    assert said["choices"][0]["text"] == "and so on"
    assert len(said["choices"][0]["logprobs"]["tokens"]) == 3
    assert said["usage"]["completion_tokens"] == 0
    assert ask(web, echo=True, max_tokens=0)["choices"][0]["text"] == "one two"


def test_scored_and_gone_on_with(web: httpx2.Client) -> None:
    said = ask(web, echo=True, logprobs=1, max_tokens=3)["choices"][0]
    assert said["text"] == "one twoand so on "
    assert said["logprobs"]["text_offset"] == [0, 4, 7, 11, 14]
    assert said["logprobs"]["token_logprobs"][0] is None


def test_a_completion_streams(web: httpx2.Client) -> None:
    body = {"model": "base", "prompt": ["one ", "two "], "echo": True, "stream": True, "logprobs": 1, "max_tokens": 2}
    with web.stream("POST", "/v1/completions", json=body) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    texts = ["", ""]
    tokens: list[list[str]] = [[], []]
    for event in events:
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["text"]
        tokens[choice["index"]] += (choice["logprobs"] or {}).get("tokens", [])
    assert texts == ["one and so ", "two and so "]
    assert tokens == [["one ", "and ", "so "], ["two ", "and ", "so "]]
    assert "receipt" in events[-1]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[], [1]]}, "prompt[0]"),
        ({"prompt": [1, -1]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["a"] * 200}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"stop": [""]}, "stop"),
        ({"logprobs": 21}, "logprobs"),
        ({"suffix": "the end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"n": 0}, "n"),
        ({"prompt": [1] * 800, "n": 128, "echo": True, "logprobs": 20, "max_tokens": 0}, "prompt"),
        ({"prompt": [[1] * 2000] * 8, "n": 128, "echo": True, "max_tokens": 0}, "prompt"),
        ({"prompt": ["a " * 900] * 32, "n": 4, "echo": True, "logprobs": 20, "max_tokens": 1}, "prompt"),
    ],
)
def test_what_can_not_be_is_refused_by_its_name(web: httpx2.Client, body: dict[str, Any], param: str | None) -> None:
    answer = web.post("/v1/completions", json={"model": "base", "prompt": "a"} | body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert (error["param"] or "").startswith(param or "")


def test_ids_beyond_a_models_vocabulary_are_refused(web: httpx2.Client) -> None:
    body = {"model": "base", "prompt": [1, 50_001], "echo": True, "logprobs": 1, "max_tokens": 1}
    answer = web.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert "50001" in answer.json()["error"]["message"]


def test_a_default_that_is_more_than_the_server_allows_is_what_it_allows(models: Playground) -> None:
    limits = replace(models.settings.limits, max_new_tokens=2)
    with Playground(replace(models.settings, limits=limits)) as few, served(few) as url:
        asked = {"model": "endless", "prompt": "one two"}
        with httpx2.Client(base_url=url, timeout=30, verify=False) as web:
            said = ask(web, **asked)
            assert (said["usage"]["completion_tokens"], said["choices"][0]["finish_reason"]) == (2, "length")
            refused = web.post("/v1/completions", json={**asked, "max_tokens": 16})
            assert refused.status_code == 400 and "allows 2 at most" in refused.json()["error"]["message"]
            told = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}
            assert web.post("/apply-template", json=told).status_code == 200  # nothing is answered, so nothing is long
