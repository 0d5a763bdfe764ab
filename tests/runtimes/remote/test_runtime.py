"""The remote runtime against a server that behaves and one that does not, on loopback."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from playground.config.endpoints import load_remotes, remote_artifact, remote_spec
from playground.errors import BadRequest, ContextOverflow, RunError
from playground.paths import ROOT
from playground.records import Event, LoadSpec, Message, ModelRun, Request, Variant
from playground.runtimes import create_runtime
from playground.runtimes.base import Runtime
from playground.runtimes.remote import client
from tests.support import misbehaving_server as server_side
from tests.support.misbehaving_server import Reply, Server, chat, completion, event, refusal, serving, stream

pytestmark = pytest.mark.waits

KEY = "sk-Very-Secret-0123456789"
ASK = Request("Say hello", max_new_tokens=32)


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short back-off, no proxy."""
    monkeypatch.setattr(client, "BACKOFF_S", 0.05)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def load_spec(server: Server, **fields: Any) -> LoadSpec:
    block = {"name": "x", "url": f"http://{server.host}", "model": "tiny", "timeout_s": 5} | fields
    [remote] = load_remotes([block], {}, "test")
    spec = remote_spec(remote)
    return LoadSpec(spec, remote_artifact(Variant(spec.id, "remote", "served")), threads=2)


def loaded(server: Server, **fields: Any) -> Runtime:
    runtime = create_runtime("remote")
    runtime.load(load_spec(server, **fields))
    return runtime


def run_of(events: list[Event]) -> ModelRun:
    assert events[-1].run is not None and [event.run for event in events[:-1]] == [None] * (len(events) - 1)
    return events[-1].run


def answer(reply: Reply, request: Request = ASK, **fields: Any) -> ModelRun:
    with serving(reply) as server:
        return run_of(list(loaded(server, **fields).generate(request, lambda: False)))


def failure(*replies: Reply, request: Request = ASK, **fields: Any) -> RunError:
    with serving(*replies) as server:
        runtime = loaded(server, **fields)
        with pytest.raises(RunError) as caught:
            list(runtime.generate(request, lambda: False))
        text = str(caught.value)
        assert text.startswith(f"remote:x: {server.host} ") and caught.value.next_step
        return caught.value


# -- a server that behaves ------------------------------------------------------------------------------------------


def test_an_answer_streams_and_ends_with_one_run() -> None:
    with serving(stream(chat("Hel", "lo", "!", usage=(7, 4)))) as server:
        events = list(loaded(server).generate(ASK, lambda: False))
    assert [event.kind for event in events] == ["prefill", "token", "token", "token", "done"]
    assert [event.text for event in events[1:4]] == ["Hel", "lo", "!"]
    assert [event.n_tokens for event in events[1:]] == [1, 2, 3, 3]
    assert [event.at for event in events] == sorted(event.at for event in events)
    run = run_of(events)
    assert (run.text, run.finish_reason, run.runtime, run.precision) == ("Hello!", "stop", "remote", "served")
    assert str(run.variant) == "remote:x@remote-served" and run.error is None and run.warnings == ()


def test_what_cannot_be_known_from_outside_is_absent() -> None:
    timings = answer(stream(chat("a", "b", usage=(7, 2)))).timings
    assert timings.tokenize_s is timings.prefill_tok_s is timings.threads is timings.peak_memory_mb is None
    assert (timings.prompt_tokens, timings.output_tokens, timings.unit) == (7, 2, "token")


@pytest.mark.alone
def test_time_to_first_token_runs_from_the_request_to_the_first_content() -> None:
    role_first = chat("a", "b", usage=(3, 2))

    def reply(handler: server_side.Handler) -> None:
        handler.start()
        handler.send(role_first[0])  # a role and empty content are no answer yet
        time.sleep(0.3)
        for data in role_first[1:]:
            handler.send(data)
            time.sleep(0.1)

    timings = answer(reply).timings
    assert timings.ttft_s == timings.token_stamps[0] and timings.ttft_s is not None
    assert 0.3 <= timings.ttft_s < 0.6
    assert timings.decode_tok_s == pytest.approx(1 / (timings.token_stamps[1] - timings.token_stamps[0]))
    assert timings.total_s is not None and timings.total_s >= timings.token_stamps[-1]


def test_the_end_of_turn_token_is_counted_and_does_not_make_the_rate_an_estimate() -> None:
    run = answer(stream(chat("a", "b", "c", usage=(3, 4)), gap_s=0.02))
    stamps = run.timings.token_stamps
    assert run.timings.output_tokens == 4 and run.warnings == ()
    assert run.timings.decode_tok_s == pytest.approx(2 / (stamps[-1] - stamps[0]))


def test_pieces_of_several_tokens_give_the_servers_count_and_an_estimated_rate_that_says_so() -> None:
    run = answer(stream(chat("a b c", "d e f", "g h i", "j k l", usage=(3, 12)), gap_s=0.02))
    stamps = run.timings.token_stamps
    assert (run.timings.unit, run.timings.output_tokens, len(stamps)) == ("token", 12, 4)
    assert run.timings.decode_tok_s == pytest.approx(9 / (stamps[-1] - stamps[0]))
    assert any("12 tokens in 4 pieces" in warning for warning in run.warnings)


def test_hidden_reasoning_tokens_are_counted_but_not_in_the_rate() -> None:
    *messages, done = chat("a", "b", "c")
    details = {"completion_tokens_details": {"reasoning_tokens": 500}}
    counts = event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 503} | details})
    run = answer(stream([*messages, counts, done], gap_s=0.02))
    stamps = run.timings.token_stamps
    assert run.timings.output_tokens == 503
    assert run.timings.decode_tok_s == pytest.approx(2 / (stamps[-1] - stamps[0]))


def test_reasoning_sent_apart_counts_in_the_figures_and_not_in_the_text() -> None:
    run = answer(stream(chat("42", reasoning=["let ", "me "], usage=(3, 3))))
    assert run.text == "42" and len(run.timings.token_stamps) == 3
    assert any("2 pieces of reasoning" in warning for warning in run.warnings)


def test_without_a_count_pieces_are_called_pieces() -> None:
    run = answer(stream(chat("a b", "c d", "e"), gap_s=0.01))
    assert (run.timings.unit, run.timings.output_tokens, run.timings.prompt_tokens) == ("chunk", 3, None)
    assert any("count the pieces" in warning for warning in run.warnings)


@pytest.mark.parametrize("usage", [{"prompt_tokens": "7", "completion_tokens": 2}, {"prompt_tokens": 7}, [], "x", -1])
def test_a_count_that_is_none_is_not_believed(usage: Any) -> None:
    *messages, done = chat("a", "b")
    run = answer(stream([*messages, event({"choices": [], "usage": usage}), done]))
    assert run.text == "ab" and run.timings.unit == "chunk"


def test_a_base_model_is_asked_for_a_completion() -> None:
    with serving(stream(completion(" Paris", ".", finish="length", usage=(5, 2)))) as server:
        runtime = loaded(server, kind="base")
        run = run_of(list(runtime.generate(Request("The capital is", max_new_tokens=2), lambda: False)))
    [sent] = server.posts
    assert sent.path == "/v1/completions" and sent.body["prompt"] == "The capital is" and sent.body["stream"] is True
    assert (run.text, run.finish_reason, run.timings.output_tokens) == (" Paris.", "length", 2)


# -- what is sent ---------------------------------------------------------------------------------------------------


def sent(request: Request, **fields: Any) -> tuple[dict[str, Any], ModelRun]:
    with serving(stream(chat("a", usage=(1, 1)) if fields.get("kind") != "base" else completion("a"))) as server:
        run = run_of(list(loaded(server, **fields).generate(request, lambda: False)))
        return server.posts[0].body, run


def test_the_parameters_have_openais_names() -> None:
    request = Request("hi", system="Be brief", max_new_tokens=9, temperature=0.7, top_p=0.9, seed=3, stop=("\n",))
    body, run = sent(request)
    assert body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["\n"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert run.warnings == ()


@pytest.mark.parametrize("kind", ["chat", "base"])
def test_parameters_beyond_the_protocol_go_out_only_when_set_and_with_a_warning(kind: str) -> None:
    body, run = sent(Request("hi", top_k=5, repetition_penalty=1.2), kind=kind)
    assert (body["top_k"], body["repetition_penalty"]) == (5, 1.2) and "min_p" not in body and "extra_body" not in body
    assert any(warning.startswith("top_k and repetition_penalty: ") for warning in run.warnings)
    body, _ = sent(Request("hi", seed=None), kind=kind)
    assert not {"top_k", "min_p", "repetition_penalty", "seed", "stop"} & set(body)


@pytest.mark.parametrize("schema", ["{}", '{"type": "object"}'])
def test_a_schema_is_sent_on_and_said_to_be_the_servers_affair(schema: str) -> None:
    body, run = sent(Request("hi", json_schema=schema))
    wanted = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    whole = {"type": "json_schema", "json_schema": wanted}
    assert body["response_format"] == ({"type": "json_object"} if schema == "{}" else whole)
    assert any("hold the answer to a schema" in warning for warning in run.warnings)


@pytest.mark.parametrize("request_", [Request(prompt_ids=(1, 2)), Request("hi", plain=True)])
def test_a_chat_server_is_not_asked_past_its_template(request_: Request) -> None:
    with serving(stream(chat("x"))) as server:
        with pytest.raises(BadRequest, match="token ids"):
            list(loaded(server).generate(request_, lambda: False))
        assert server.posts == []


def test_a_conversation_is_sent_as_it_is_and_brings_its_own_system_prompt() -> None:
    said = (Message("system", "A"), Message("user", "B"), Message("assistant", "C"), Message("user", "D"))
    body, run = sent(Request(messages=said, system="E"))
    assert [message["content"] for message in body["messages"]] == ["A", "B", "C", "D"]
    assert any("system prompt is not used" in warning for warning in run.warnings)


def test_a_base_model_gets_no_system_prompt_and_says_so() -> None:
    body, run = sent(Request(messages=(Message("user", "A"), Message("user", "B")), system="S"), kind="base")
    assert body["prompt"] == "A\n\nB"
    assert any("base model; the system prompt" in warning for warning in run.warnings)
    assert any("joined by blank lines" in warning for warning in run.warnings)


def test_inspect_shows_what_is_sent_and_that_tokens_are_unseen() -> None:
    with serving(stream(chat("a"))) as server:
        view = loaded(server).inspect(Request("hé", system="s"))
        assert server.posts == []
    assert json.loads(view.rendered)[1] == {"role": "user", "content": "hé"} and "hé" in view.rendered
    assert (view.token_ids, view.tokens) == ((), ()) and "can't be seen" in view.warnings[0]


def test_an_answer_cannot_be_gone_on_with_by_a_server_and_nothing_is_sent() -> None:
    request = dataclasses.replace(ASK, answer_ids=(5, 6))
    with serving(stream(chat("a"))) as server:
        runtime = loaded(server)
        for ask in (runtime.inspect, lambda given: list(runtime.generate(given, lambda: False))):
            with pytest.raises(
                RunError, match=r"takes texts, no token ids\. Ask it again with a larger max_new_tokens"
            ):
                ask(request)
        assert server.posts == []


def test_a_provider_is_asked_through_the_router_under_the_models_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    with serving(stream(chat("a", usage=(1, 1)))) as server:
        monkeypatch.setattr("playground.config.endpoints.ROUTER", f"http://{server.host}/v1")
        for provider, model in (("auto", "OWNER/NAME"), ("together", "OWNER/NAME:together")):
            block = {"name": "p", "provider": provider, "model": "OWNER/NAME", "key_env": "SOME_KEY"}
            spec = remote_spec(load_remotes([block], {}, "test")[0])
            runtime = create_runtime("remote")
            runtime.load(LoadSpec(spec, load_spec(server).artifact, 1))
            assert run_of(list(runtime.generate(ASK, lambda: False))).text == "a"
            assert server.posts[-1].body["model"] == model
            assert server.posts[-1].headers["authorization"] == f"Bearer {KEY}"


# -- text -----------------------------------------------------------------------------------------------------------

ODD = ["日本", "語🎉", "e\u0301", "a\u2028b\u2029c\x85d", "\r\n\t", "data: x", "[DONE]", "\\u2028"]


@pytest.mark.parametrize("kind", ["chat", "base"])
def test_text_arrives_whole_however_its_bytes_are_split(kind: str) -> None:
    """U+2028, U+2029 and U+0085 end a line for ``str.splitlines``, not in an event stream."""
    events = chat(*ODD, usage=(1, 9)) if kind == "chat" else completion(*ODD, usage=(1, 9))
    run = answer(server_side.byte_by_byte(events), kind=kind)
    assert run.text == "".join(ODD)
    assert len(run.timings.token_stamps) == len(ODD)


def test_a_wrong_charset_does_not_spoil_the_text() -> None:
    assert answer(stream(chat("日本語"), kind="text/event-stream; charset=iso-8859-1")).text == "日本語"


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("split", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("kind", ["chat", "base"])
def test_lines_may_end_as_the_standard_allows_and_comments_are_no_content(end: bytes, split: bool, kind: str) -> None:
    events = (chat if kind == "chat" else completion)("a", "b", usage=(1, 2))
    data = b": hello\n\n" + b"".join(events).replace(b"\n\n", b"\n\n: ping\n\n:\n")
    data = data.replace(b"\n", end)
    assert answer(server_side.byte_by_byte([data]) if split else server_side.raw(data), kind=kind).text == "ab"


@pytest.mark.parametrize(
    "written",
    [
        b'\xef\xbb\xbfdata: {"choices": [{"text": "a"}]}\n\n',  # a byte order mark
        b'data:{"choices": [{"text": "a"}]}\n\n',  # no space, of which one would be left out
        b'data: {"choices":\ndata: [{"text": "a"}]}\n\n',  # lines of one event
        b'event: message\nid: 7\nretry: 10\ndata: {"choices": [{"text": "a"}]}\n\n',
        b'id\n\nretry: soon\nunknown: field\n\ndata: {"choices": [{"text": "a"}]}\n\n',
        b'data\n\ndata:\n\ndata: {"choices": [{"text": "a"}]}\n\n',  # events without data
    ],
)
def test_an_event_is_read_as_the_standard_writes_it(written: bytes) -> None:
    rest = b'data: {"choices": [{"text": "b", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    assert answer(server_side.raw(written + rest), kind="base").text == "ab"


def test_bytes_that_are_no_utf8_spoil_their_character_alone() -> None:
    events = b"".join(completion("a?", "b")).replace(b"?", b"\xff")
    assert answer(server_side.raw(events), kind="base").text == "a\ufffdb"


def test_what_stands_behind_the_end_mark_is_not_read() -> None:
    events = b"".join([*completion("a"), *completion("b")])
    assert answer(server_side.raw(events), kind="base").text == "a"


@pytest.mark.parametrize("respected", [True, False])
def test_a_stop_string_is_never_shown_whether_the_server_knows_it_or_not(respected: bool) -> None:
    texts = ["one, t", "wo, ", "th", "ree"] + ([] if respected else [" four", " five"])
    with serving(stream(chat(*texts, usage=(3, len(texts))), gap_s=0.01)) as server:
        runtime = loaded(server)
        events = list(runtime.generate(Request("count", stop=("three",)), lambda: False))
    run = run_of(events)
    assert (run.text, run.finish_reason) == ("one, two, ", "stop")
    assert "".join(event.text for event in events if event.kind == "token") == run.text
    assert run.timings.unit == ("token" if respected else "chunk")


def test_the_beginning_of_a_stop_string_at_the_end_is_shown() -> None:
    assert answer(stream(chat("a", "b st")), Request("x", stop=("stop",))).text == "ab st"


@pytest.mark.parametrize(
    ("said", "reason", "warned"),
    [
        ("length", "length", False),
        ("eos_token", "stop", False),
        ("content_filter", "stop", True),
        ("odd", "stop", True),
    ],
)
def test_finish_reasons_are_ours_and_odd_ones_are_told(said: str, reason: str, warned: bool) -> None:
    run = answer(stream(chat("a", finish=said, usage=(1, 1))))
    assert run.finish_reason == reason and any(said in warning for warning in run.warnings) == warned


def test_an_empty_answer_is_an_answer() -> None:
    run = answer(stream(chat(usage=(4, 1))))
    assert (run.text, run.finish_reason, run.timings.ttft_s, run.timings.decode_tok_s) == ("", "stop", None, None)


def test_a_server_that_does_not_end_is_cut_off() -> None:
    with serving(server_side.endless()) as server:
        run = run_of(list(loaded(server).generate(Request("x", max_new_tokens=10), lambda: False)))
        assert server.someone_left.wait(30)
    assert (run.finish_reason, run.text) == ("length", "x" * 36)
    assert any("ignores max_tokens" in warning for warning in run.warnings)


@pytest.mark.parametrize("kind", ["chat", "base"])
def test_a_line_or_an_event_without_end_is_not_read_for_ever(kind: str) -> None:
    for data in (b"data: " + b"x" * 3_000_000, b"data: x\n" * 500_000):
        assert "no part of an OpenAI-compatible stream" in str(failure(server_side.raw(data), kind=kind))


def test_a_stream_without_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "STREAM_BYTES", 1_000_000)
    empty = event({"choices": [], "padding": "x" * 1000})
    assert "no part of an OpenAI-compatible stream" in str(failure(stream([empty] * 3000)))


def test_comments_without_end_are_not_read_for_ever() -> None:
    def comments(handler: server_side.Handler) -> None:
        handler.start()
        try:
            while True:
                handler.send(b": ping\n\n" * 1000)
                time.sleep(0.01)
        except OSError:
            handler.server.someone_left.set()

    assert "sent nothing for 0.4 s" in str(failure(comments, timeout_s=0.4))


# -- no room: 429 and 503 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.alone
def test_no_room_is_asked_again_and_the_waiting_is_in_no_figure(status: int) -> None:
    good = stream(chat("a", "b", usage=(1, 2)))
    with serving(refusal(status, retry_after="1"), good) as server:
        began = time.monotonic()
        events = list(loaded(server).generate(ASK, lambda: False))
        took = time.monotonic() - began
        gap = server.posts[1].at - server.posts[0].at
    run = run_of(events)
    assert 1.0 <= gap < 2.0 < took + 1.0
    assert run.text == "ab" and run.timings.ttft_s is not None and run.timings.ttft_s < 0.5
    assert run.timings.total_s is not None and run.timings.total_s < 0.7
    assert any("1.0 s of waiting" in warning for warning in run.warnings)
    assert [event.text for event in events if f"HTTP {status}" in event.text] == [
        f"HTTP {status}, asking again in 1.0 s"
    ]


def test_a_date_in_retry_after_is_understood() -> None:
    with serving(refusal(503, retry_after=formatdate(time.time() + 2, usegmt=True)), stream(chat("a"))) as server:
        run_of(list(loaded(server).generate(ASK, lambda: False)))
        assert 0.5 < server.posts[1].at - server.posts[0].at < 2.5


def test_without_retry_after_the_pauses_grow_and_end() -> None:
    with serving(refusal(429, "slow down")) as server:
        with pytest.raises(RunError, match=r"HTTP 429\): slow down\. Wait a while"):
            list(loaded(server).generate(ASK, lambda: False))
        times = [seen.at for seen in server.posts]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(pauses) == client.RETRIES
    assert all(pause >= 0.05 * 2**n for n, pause in enumerate(pauses)) and sum(pauses) < 3


@pytest.mark.parametrize("asked", ["3600", "999999999999", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_server_that_asks_for_a_long_wait_is_not_waited_for(asked: str) -> None:
    with serving(refusal(429, retry_after=asked)) as server:
        with pytest.raises(RunError, match="HTTP 429"):
            list(loaded(server).generate(ASK, lambda: False))
        assert len(server.posts) == (1 if asked != "999999999999" else client.RETRIES + 1)


@pytest.mark.parametrize("status", [400, 404, 408, 422, 500, 502, 504])
def test_nothing_else_is_asked_again(status: int) -> None:
    with serving(refusal(status, "boom", retry_after="0")) as server:
        with pytest.raises(RunError, match=rf"HTTP {status}\): boom"):
            list(loaded(server).generate(ASK, lambda: False))
        assert len(server.posts) == 1


@pytest.mark.alone
def test_stop_is_heard_while_waiting_for_room() -> None:
    with serving(refusal(429, retry_after="15")) as server:
        events, took = stopped_after(loaded(server), 0.3)
    assert events[-1].kind == "stopped" and run_of(events).text == "" and took < 1.0


# -- silence and Stop -----------------------------------------------------------------------------------------------


def stopped_after(runtime: Runtime, seconds: float) -> tuple[list[Event], float]:
    """Press Stop after ``seconds``; the events, and how long it took to be heard."""
    pressed = time.monotonic() + seconds
    events = list(runtime.generate(ASK, lambda: time.monotonic() > pressed))
    return events, time.monotonic() - pressed


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (server_side.silence, ""),
        (server_side.then_stall(), ""),
        (server_side.then_stall(*chat("Hel", "lo")[:3]), "Hello"),
        (server_side.then_stall(b'data: {"choices": [{"del'), ""),
    ],
    ids=["before the status", "before the first piece", "inside the answer", "inside a line"],
)
@pytest.mark.alone
def test_stop_closes_the_connection_within_a_second_of_a_servers_silence(reply: Reply, text: str) -> None:
    with serving(reply) as server:
        events, took = stopped_after(loaded(server), 0.3)
        assert took < 1.0 and server.someone_left.wait(30)
        left_at = server.posts[0].left_at
        assert left_at is not None and left_at - server.posts[0].at < 1.3
    run = run_of(events)
    assert (events[-1].kind, run.finish_reason, run.text) == ("stopped", "stopped", text)
    assert (run.timings.ttft_s is None) == (not text)


def test_stop_is_heard_while_pieces_come_quicker_than_they_are_waited_for() -> None:
    events: list[Event] = []

    def three() -> bool:
        return sum(event.kind == "token" for event in events) >= 3

    with serving(server_side.endless()) as server:
        for each in loaded(server).generate(Request("Say hello", max_new_tokens=400), three):
            events.append(each)
    assert events[-1].kind == "stopped"
    assert 3 <= len(run_of(events).timings.token_stamps) < 6


def test_an_abandoned_answer_closes_the_connection() -> None:
    with serving(server_side.then_stall(*chat("a", "b")[:3])) as server:
        events = loaded(server).generate(ASK, lambda: False)
        while next(events).kind != "token":
            pass
        events.close()  # type: ignore[attr-defined]
        assert server.someone_left.wait(30)


@pytest.mark.alone
def test_a_server_that_never_begins_is_given_up_after_timeout_s() -> None:
    for reply in (server_side.silence, server_side.then_stall(chat()[0], b": ping\n\n")):
        began = time.monotonic()
        error = failure(reply, timeout_s=0.4)
        assert "took the request and sent nothing for 0.4 s" in str(error) and "timeout_s" in error.next_step
        assert time.monotonic() - began < 2


def test_signs_of_life_without_content_are_no_content() -> None:
    def pings(handler: server_side.Handler) -> None:
        handler.start()
        for _ in range(40):
            handler.send(event({"choices": [{"delta": {"content": ""}}]}))
            time.sleep(0.05)

    assert "sent nothing for 0.4 s" in str(failure(pings, timeout_s=0.4))


@pytest.mark.fault
def test_a_server_that_falls_silent_in_the_middle_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BETWEEN_S", 0.3)
    error = failure(server_side.then_stall(*chat("a", "b")[:3]))
    assert "fell silent inside its answer, for 0.3 s after 2 pieces" in str(error)


def test_a_server_that_keeps_the_connection_open_after_the_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "COUNT_S", 0.3)
    run = answer(server_side.then_stall(*chat("a", "b")[:4]))
    assert (run.text, run.finish_reason, run.timings.unit) == ("ab", "stop", "chunk")


def test_waiting_for_the_first_piece_is_told_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.runtimes.remote.runtime.HEARTBEAT_S", 0.1)
    with serving(stream(chat("a"), first_s=0.6)) as server:
        events = list(loaded(server).generate(ASK, lambda: False))
    assert [event.kind for event in events].count("prefill") >= 4


# -- answers that are none ------------------------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize("kind", ["chat", "base"])
def test_half_an_answer_is_an_error_and_not_an_answer(kind: str) -> None:
    events = chat("a", "b", finish=None) if kind == "chat" else completion("a", "b", finish=None)
    half_a_line = server_side.raw(b"".join(events) + b'data: {"choices": [{"de')
    for reply in (stream(events), server_side.cut_off(*events), half_a_line):
        assert "broke off its answer after 2 pieces" in str(failure(reply, kind=kind))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (server_side.raw(b""), "closed the connection without an answer"),
        (server_side.hang_up, "closed the connection without an answer"),
        (server_side.raw(b"data: {not json}\n\n"), "no part of an OpenAI"),
        (server_side.raw(b"data: [1, 2]\n\n"), "no part of an OpenAI"),
        (server_side.raw(b'data: "text"\n\n'), "no part of an OpenAI"),
        (server_side.raw(b"data: " + b"[" * 50_000 + b"\n\n"), "no part of an OpenAI"),
        (server_side.raw(b"\xff\xfe\x00garbage\n" * 9), "closed the connection without an answer"),
        (server_side.raw(b'data: {"choices": {"0": 1}}\n\n'), "closed the connection without an answer"),
        (server_side.raw(b"<html>Log in</html>", kind="text/html"), "answered with text/html, not with a stream"),
        (server_side.document({"choices": [{"message": {"content": "x"}}]}), "answered with application/json, not"),
        (server_side.document({"error": "overloaded"}), "not with a stream: overloaded"),
        (server_side.raw(b"data: {}", content_encoding="gzip"), "no part of an OpenAI"),
        (server_side.raw(b'data: {"error": {"message": "out of memory"}}\n\n'), "failed after 0 pieces: out of memory"),
        (server_side.raw(b'data: {"error": "worker died"}\n\n'), "failed after 0 pieces: worker died"),
        (server_side.raw(b'event: error\ndata: {"message": "no memory"}\n\n'), "failed after 0 pieces: no memory"),
        (refusal(500, "CUDA error"), "failed (HTTP 500): CUDA error. Look at the server's log."),
        (server_side.raw(b"<h1>Bad gateway</h1>", 502, "text/html"), "failed (HTTP 502). Look"),
        (
            server_side.document({"detail": "Unexpected fields"}, 422),
            "refused the request (HTTP 422): Unexpected fields",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["chat", "base"])
def test_an_answer_that_is_none_becomes_an_error_in_words(reply: Reply, words: str, kind: str) -> None:
    assert words in str(failure(reply, kind=kind))


def test_a_wrong_content_type_alone_does_no_harm() -> None:
    assert answer(stream(chat("a"), kind="text/plain")).text == "a"


def test_a_parameter_the_server_does_not_know_is_named_in_the_next_step() -> None:
    error = failure(server_side.document({"detail": "Unexpected fields"}, 422), request=Request("x", top_k=4))
    assert error.next_step == "Not every server knows top_k: set it back to the default."


def test_an_unknown_model_is_told_with_those_there_are() -> None:
    words = r"knows no model 'tiny'.*HTTP 404.*It offers: a, b\."
    with serving(refusal(404), models=server_side.listing("a", "b")) as server, pytest.raises(RunError, match=words):
        list(loaded(server).generate(ASK, lambda: False))


@pytest.mark.parametrize("error", [{"code": "context_length_exceeded"}, {"type": "exceed_context_size_error"}])
def test_a_full_context_is_a_context_overflow(error: dict[str, str]) -> None:
    reply = server_side.document({"error": error | {"message": "4,100 of 4,096 tokens"}}, 400)
    assert isinstance(failure(reply), ContextOverflow)


def test_a_redirect_is_not_followed() -> None:
    with serving(stream(chat("stolen"))) as elsewhere:
        moved = server_side.raw(b"", 307, location=f"http://{elsewhere.host}/v1/chat/completions")
        error = failure(moved)
        assert elsewhere.seen == []
    assert "redirects to 127.0.0.1 (HTTP 307); prompt and key are not sent on" in str(error)


def test_long_and_unprintable_words_of_a_server_are_tamed() -> None:
    text = str(failure(refusal(500, "bad\x1b[31m\n\nthing " + "x" * 5000)))
    assert text.isprintable() and "bad [31m thing x" in text and len(text) < 400


# -- the key --------------------------------------------------------------------------------------------------------


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("X_KEY", f" {KEY}\n")
    yield KEY


def test_the_key_comes_from_the_environment_and_reaches_the_server_alone(key: str) -> None:
    with serving(stream(chat("a", usage=(1, 1)))) as server:
        load = load_spec(server, key_env="X_KEY")
        runtime = create_runtime("remote")
        runtime.load(load)
        run = run_of(list(runtime.generate(ASK, lambda: False)))
        assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {key}"}
        view = runtime.inspect(ASK)
    assert key not in json.dumps([load.to_json(), run.to_json(), view.to_json()])


@pytest.mark.parametrize("kind", ["chat", "base"])
def test_without_key_env_no_key_is_sent_not_even_the_hubs(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_neverSendThis")
    events = chat("a") if kind == "chat" else completion("a")
    with serving(stream(events)) as server:
        list(loaded(server, kind=kind).generate(ASK, lambda: False))
        assert len(server.seen) == 2
        assert all("authorization" not in seen.headers for seen in server.seen)
        assert all(seen.headers["user-agent"].startswith("open-model-playground/") for seen in server.seen)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("wrap", ["{}", "Incorrect API key: {}", "x" * 190 + "{}", "{}" * 9])
def test_a_key_in_an_error_is_not_repeated(key: str, status: int, wrap: str, capfd: pytest.CaptureFixture[str]) -> None:
    error = failure(refusal(status, wrap.replace("{}", key)), key_env="X_KEY")
    told = str(error) + repr(error.args) + "".join(capfd.readouterr())
    assert key not in told and key[:12] not in told
    assert error.__cause__ is None and error.__suppress_context__


def test_a_key_inside_the_stream_or_a_redirect_is_not_repeated_either(key: str) -> None:
    for reply in (
        server_side.raw(event({"error": {"message": f"key {key} is used up"}})),
        server_side.raw(b"", 302, location=f"http://{key}.example.org/?key={key}"),
        server_side.raw(key.encode(), 400, "text/plain"),
        server_side.raw(b"data: " + key.encode() + b"\n\n"),
    ):
        assert key.lower() not in str(failure(reply, key_env="X_KEY")).lower()


def test_a_refused_key_names_its_variable(key: str) -> None:
    error = failure(refusal(401, "no"), key_env="X_KEY")
    assert "refused the key (HTTP 401)" in str(error) and error.next_step == "Check the key in X_KEY."
    assert "key_env" in failure(refusal(401, "no")).next_step


@pytest.mark.parametrize(
    ("value", "words"), [("", "is not set"), (" ", "is not set"), ("a\nb", "can't be a key"), ("schlüssel", "can't be")]
)
def test_a_missing_or_impossible_key_stops_before_anything_is_sent(
    value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X_KEY", value)
    with serving(stream(chat("a"))) as server:
        with pytest.raises(RunError, match=f"remote:x: .*X_KEY.* {words}") as caught:
            loaded(server, key_env="X_KEY")
        assert server.seen == [] and (not value.strip() or value not in str(caught.value))


# -- loading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "models",
    [
        refusal(404),
        refusal(405),
        refusal(500),
        server_side.raw(b"Internal Server Error", 500, "text/plain"),
        server_side.raw(b"<html>", 200, "text/html"),
        server_side.raw(b"", 204),
        server_side.document({"data": "odd"}),
        server_side.document({"data": [1, {"no": "id"}, {"id": 3}]}),
        server_side.document([]),
        refusal(429),
        server_side.cut_off(b"{"),
    ],
)
def test_a_server_without_a_list_of_models_will_do(models: Reply) -> None:
    with serving(stream(chat("a")), models=models) as server:
        assert run_of(list(loaded(server).generate(ASK, lambda: False))).text == "a"


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (refusal(401), "refused the key"),
        (refusal(403), "refused the key"),
        (refusal(502, "no upstream"), "HTTP 502.*no upstream"),
        (refusal(503, "Loading model"), "HTTP 503.*Loading model"),
        (server_side.silence, "sent nothing for 0.5 s"),
    ],
)
def test_loading_fails_where_the_server_is_not_there_for_us(models: Reply, words: str) -> None:
    words = rf"remote:x: 127\.0\.0\.1:\d+ .*{words}"
    with serving(stream(chat("a")), models=models) as server, pytest.raises(RunError, match=words):
        loaded(server, timeout_s=0.5)


def test_loading_waits_for_a_server_that_is_still_loading() -> None:
    turns = iter([refusal(503, "Loading model"), refusal(503, "Loading model"), server_side.listing("tiny")])

    def models(handler: server_side.Handler) -> None:
        next(turns)(handler)

    with serving(stream(chat("a")), models=models) as server:
        loaded(server)
        assert len(server.seen) == 3


@pytest.mark.alone
def test_a_server_that_is_not_running_is_named_with_its_address() -> None:
    with serving(stream(chat("a"))) as server:
        load = load_spec(server)
    began = time.monotonic()
    with pytest.raises(RunError, match=rf"remote:x: {server.host} can't be reached.*Check that the server runs"):
        create_runtime("remote").load(load)
    assert time.monotonic() - began < 2


def test_a_server_that_went_away_after_loading_is_an_error_of_the_run() -> None:
    with serving(stream(chat("a"))) as server:
        runtime = loaded(server)
    with pytest.raises(RunError, match="can't be reached"):
        list(runtime.generate(ASK, lambda: False))


def test_one_failed_answer_does_not_spoil_the_next() -> None:
    with serving(server_side.hang_up, refusal(500), stream(chat("a"))) as server:
        runtime = loaded(server)
        for _ in range(2):
            with pytest.raises(RunError):
                list(runtime.generate(ASK, lambda: False))
        assert run_of(list(runtime.generate(ASK, lambda: False))).text == "a"


def test_nothing_is_left_running_after_an_answer() -> None:
    with serving(stream(chat("a"))) as server:
        runtime = loaded(server)
        before = threading.active_count()
        for _ in range(5):
            list(runtime.generate(ASK, lambda: False))
        assert threading.active_count() <= before + 1  # the server's own thread for the last connection may linger


def test_no_library_that_computes_and_no_client_of_the_hub_is_loaded() -> None:
    unwanted = ("torch", "onnxruntime", "transformers", "gradio", "numpy", "huggingface_hub")
    code = (
        "import sys; from playground.runtimes import create_runtime; create_runtime('remote');"
        f"print([name for name in {unwanted} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
