"""The scripted runtime does what its script says, and its figures are those of a stopwatch beside it."""

from __future__ import annotations

import itertools
import time

import pytest

from playground.errors import ContextOverflow, RunError, UsageError
from playground.records import Event, Message, ModelRun, Request
from playground.runtimes import create_runtime
from playground.runtimes.fake_script import Script
from tests.support.scripted_models import scripted

NEVER = bool


def play(source: str, request: Request | None = None) -> list[Event]:
    runtime = create_runtime("fake")
    runtime.load(scripted(source))
    return list(runtime.generate(request or Request("one two three"), NEVER))


def run_of(events: list[Event]) -> ModelRun:
    assert [event.run is not None for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1].run
    return events[-1].run


def test_the_scripted_text_arrives_word_by_word_and_is_the_same_joined() -> None:
    events = play("fake:text=To+be,+or+not.")
    tokens = [event for event in events if event.kind == "token"]
    assert [token.text for token in tokens] == ["To ", "be, ", "or ", "not."]
    assert [token.n_tokens for token in tokens] == [1, 2, 3, 4]
    assert run_of(events).text == "To be, or not."
    assert run_of(events).finish_reason == "stop"


def test_prefill_is_reported_before_the_first_token_and_ends_at_the_whole_prompt() -> None:
    events = play("fake:text=hi")
    kinds = [kind for kind, _ in itertools.groupby(event.kind for event in events)]
    assert kinds == ["prefill", "token", "done"]
    last_prefill = [event for event in events if event.kind == "prefill"][-1]
    assert last_prefill.progress == 1
    assert last_prefill.n_tokens == run_of(events).timings.prompt_tokens == 5  # three words between two markers


@pytest.mark.alone
def test_figures_are_those_of_the_script_and_of_a_stopwatch() -> None:
    began = time.monotonic()
    events = play("fake:text=a+b+c+d+e+f+g+h+i+j+k&prefill_s=0.2&step_s=0.05")
    elapsed = time.monotonic() - began
    timings = run_of(events).timings
    assert timings.ttft_s == pytest.approx(0.2, abs=0.03)
    assert timings.prefill_tok_s == pytest.approx(timings.prompt_tokens / 0.2, rel=0.1)
    assert timings.decode_tok_s == pytest.approx(20, rel=0.06)
    assert timings.total_s == pytest.approx(elapsed, abs=0.03)
    assert len(timings.token_stamps) == timings.output_tokens == 11
    assert sorted(timings.token_stamps) == list(timings.token_stamps)


@pytest.mark.alone
def test_stamps_of_tokens_are_taken_when_they_are_made() -> None:
    runtime = create_runtime("fake")
    runtime.load(scripted("fake:text=a+b+c&step_s=0.02"))
    for event in runtime.generate(Request("x"), NEVER):
        assert 0 <= time.monotonic() - event.at < 0.02


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (("not",), "To be, or "),
        (("be, or",), "To "),
        (("T",), ""),
        (("zebra",), "To be, or not."),
        (("or", "be"), "To "),
    ],
)
def test_text_ends_before_the_first_stop_string(stop: tuple[str, ...], text: str) -> None:
    events = play("fake:text=To+be,+or+not.", Request("x", stop=stop))
    assert run_of(events).text == text == "".join(event.text for event in events if event.kind == "token")
    assert run_of(events).finish_reason == "stop"


def test_max_new_tokens_cuts_the_answer() -> None:
    run = run_of(play("fake:text=To+be,+or+not.", Request("x", max_new_tokens=2)))
    assert (run.text, run.finish_reason, run.timings.output_tokens) == ("To be, ", "length", 2)


def test_an_answer_as_long_as_allowed_is_complete() -> None:
    assert run_of(play("fake:text=To+be.", Request("x", max_new_tokens=2))).finish_reason == "stop"


def test_a_prompt_beyond_the_context_is_refused_by_name() -> None:
    with pytest.raises(ContextOverflow, match=r"^scripted: the prompt has 602 tokens, its context holds 512"):
        play("fake:", Request("word " * 600))


@pytest.mark.alone
def test_cancelling_ends_the_answer_with_the_text_so_far() -> None:
    runtime = create_runtime("fake")
    runtime.load(scripted("fake:text=a+b+c+d+e+f&step_s=0.05"))
    began = time.monotonic()
    events = list(runtime.generate(Request("x"), lambda: time.monotonic() - began > 0.12))
    run = run_of(events)
    assert events[-1].kind == "stopped"
    assert (run.text, run.finish_reason) == ("a b c ", "stopped")
    assert time.monotonic() - began < 0.4


def test_a_scripted_failure_comes_after_the_tokens_before_it() -> None:
    runtime = create_runtime("fake")
    runtime.load(scripted("fake:text=a+b+c&fail_at=2"))
    arrived = []
    with pytest.raises(RunError, match="token 2"):
        arrived.extend(event.text for event in runtime.generate(Request("x"), NEVER) if event.kind == "token")
    runtime.load(scripted("fake:text=a+b+c"))
    assert run_of(list(runtime.generate(Request("x"), NEVER))).text == "a b c"


def test_loading_takes_its_time_and_fails_when_told_to() -> None:
    began = time.monotonic()
    create_runtime("fake").load(scripted("fake:load_s=0.1"))
    assert time.monotonic() - began >= 0.1
    with pytest.raises(RunError, match=r"scripted: .*loading fails"):
        create_runtime("fake").load(scripted("fake:fail_load=1"))


def test_a_base_model_gets_the_prompt_as_it_stands_and_says_that_it_has_no_system_prompt() -> None:
    runtime = create_runtime("fake")
    runtime.load(scripted("fake:template=0"))
    view = runtime.inspect(Request("once upon", system="be brief"))
    assert view.rendered == "once upon" == "".join(view.tokens)
    assert len(view.warnings) == 1
    assert "system prompt" in view.warnings[0]


def test_a_chat_model_sees_system_prompt_and_messages() -> None:
    runtime = create_runtime("fake")
    runtime.load(scripted("fake:"))
    view = runtime.inspect(Request("hi", system="be brief"))
    assert view.rendered == "[user] system: be brief\nhi [assistant]"
    view = runtime.inspect(Request(messages=(Message("user", "hi"), Message("assistant", "ho"))))
    assert "user: hi\nassistant: ho" in view.rendered
    assert len(view.token_ids) == len(view.tokens)


@pytest.mark.parametrize("script", ["speed=1", "step_s=soon", "step_s=-1", "die_at=1.5", "parse=1", "__doc__=1"])
def test_a_script_with_a_mistake_is_refused(script: str) -> None:
    with pytest.raises(UsageError, match=script.partition("=")[0]):
        Script.parse(f"fake:{script}")
