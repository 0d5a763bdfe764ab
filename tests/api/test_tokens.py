"""Tokens, templates, models and properties, as llama.cpp's and vLLM's servers tell them."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

pytestmark = pytest.mark.waits


def post(web: httpx2.Client, path: str, **body: Any) -> Any:
    answer = web.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_text_becomes_ids_and_ids_the_text(web: httpx2.Client) -> None:
    said = post(web, "/tokenize", content="one two three")
    assert said["count"] == len(said["tokens"]) == 3
    assert said["max_model_len"] == 512
    assert post(web, "/detokenize", tokens=said["tokens"])["content"] == "one two three"
    pieces = post(web, "/tokenize", content="one two", with_pieces=True)["tokens"]
    assert [each["piece"] for each in pieces] == ["one ", "two"]


def test_vllms_names_do_as_well(web: httpx2.Client) -> None:
    assert post(web, "/tokenize", model="base", prompt="one two", add_special_tokens=True)["count"] == 2
    messages = [{"role": "user", "content": "one two"}]
    assert post(web, "/tokenize", messages=messages)["count"] > 2


def test_a_conversation_is_told_as_the_model_reads_it(web: httpx2.Client) -> None:
    said = post(web, "/apply-template", model="fast", messages=[{"role": "user", "content": "Hi"}])
    assert said["prompt"] == "[user] user: Hi [assistant]"


@pytest.mark.parametrize("body", [{}, {"content": "a", "messages": [{"role": "user", "content": "a"}]}])
def test_one_text_is_wanted(web: httpx2.Client, body: dict[str, Any]) -> None:
    assert web.post("/tokenize", json=body).status_code == 400


@pytest.mark.parametrize("name", ["content", "prompt"])
def test_half_a_character_is_no_text(web: httpx2.Client, name: str) -> None:
    sent = f'{{"{name}": "\\ud800"}}'
    answer = web.post("/tokenize", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == name


def test_models_say_what_is_known_of_them(web: httpx2.Client) -> None:
    found = web.get("/v1/models/base").json()
    assert found["id"] == "base@fake-none"
    assert found["meta"]["kind"] == "base"
    assert found["meta"]["n_ctx"] == 512
    assert web.get("/v1/models/nothing").status_code == 404


def test_properties_are_those_of_the_model_asked_for(web: httpx2.Client) -> None:
    assert web.get("/props").json()["model_alias"] == "fast@fake-none"
    found = web.get("/props", params={"model": "endless"}).json()
    assert found["default_generation_settings"]["n_ctx"] == 4096
    assert found["default_generation_settings"]["params"]["n_predict"] == 256
    assert found["total_slots"] == 1
    assert web.get("/props", params={"model": "nothing"}).status_code == 404


def test_it_lives(web: httpx2.Client) -> None:
    assert web.get("/health").json() == {"status": "ok"}
