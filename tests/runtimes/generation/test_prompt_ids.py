"""Prompts that are given as tokens, and prompts that are read past the chat template."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.config.settings import Limits
from playground.errors import BadRequest
from playground.experiments.admission import check_request
from playground.records import Message, Request
from playground.runtimes import create_runtime
from playground.runtimes.generation.prompt import Prompter
from tests.support.scripted_models import scripted
from tests.support.tiny import spec, write_tokenizer


@pytest.fixture
def chat(tmp_path: Path) -> Prompter:
    return Prompter(write_tokenizer(tmp_path), spec())


def test_ids_are_read_as_they_are(chat: Prompter) -> None:
    ids = chat.view(Request("the fox", plain=True)).token_ids
    view = chat.view(Request(prompt_ids=ids))
    assert view.token_ids == ids
    assert view.rendered == "the fox"
    assert view.warnings == ()


def test_a_plain_prompt_meets_no_template(chat: Prompter) -> None:
    view = chat.view(Request("the fox", plain=True))
    assert view.rendered == "the fox"
    assert view.token_ids == chat.encode("the fox", special=True)
    assert view.warnings == ()


def test_ids_of_another_model_are_refused(chat: Prompter) -> None:
    request = Request(prompt_ids=(0, 10_000_000))
    with pytest.raises(BadRequest, match="token 2 of the prompt is 10000000"):
        chat.fit(chat.view(request), request)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(prompt_ids=(1, -1)), r"prompt_ids\[1\] is -1"),
        (Request(prompt_ids=(1,), messages=(Message("user", "Hi"),)), "both given"),
        (Request(prompt_ids=(1,) * 2001), "2,001 tokens"),
        (Request(prompt_ids=[1]), "not a tuple"),  # type: ignore[arg-type]
    ],
)
def test_ids_are_checked_before_any_work(request_: Request, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        check_request(request_, Limits(max_new_tokens=128, max_prompt_chars=2000))


def test_the_scripted_model_reads_ids_and_plain_prompts_too() -> None:
    runtime = create_runtime("fake")
    runtime.load(scripted("fake:text=Hello"))
    ids = runtime.encode("one two", True)
    assert runtime.inspect(Request(prompt_ids=ids)).rendered == "one two"
    assert runtime.inspect(Request("one two", plain=True)).token_ids == ids
