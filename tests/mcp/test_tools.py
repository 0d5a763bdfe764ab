"""The tools as the official client of the Model Context Protocol sees them, on the scripted models."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra mcp is not installed")

from mcp import Client
from mcp.types import CallToolResult

from playground.errors import StorageError
from playground.mcp.server import create_server
from playground.mcp.tools import TOOLS
from playground.messages import msg
from playground.owners import MEND
from playground.records import Request
from playground.service import Playground

pytestmark = pytest.mark.waits

MODES = ["auto", "legacy"]
"""The protocol of 2026, and the handshake that came before it."""


def with_client(playground: Playground, work: Callable[[Client], Awaitable[Any]], protocol: Any = "auto") -> Any:
    async def run() -> Any:
        async with Client(create_server(playground), mode=protocol) as client:
            return await work(client)

    return asyncio.run(run())


def call(playground: Playground, tool: str, protocol: Any = "auto", **arguments: Any) -> CallToolResult:
    return with_client(playground, lambda client: client.call_tool(tool, arguments), protocol)


def answered(playground: Playground, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool answers; the client has held it against the schema that the tool promises."""
    result = call(playground, tool, **arguments)
    assert not result.is_error, result.content
    assert json.loads(result.content[0].text) == result.structured_content  # type: ignore[union-attr]
    assert isinstance(result.structured_content, dict)
    return result.structured_content


def problem(playground: Playground, tool: str, **arguments: Any) -> str:
    result = call(playground, tool, **arguments)
    assert result.is_error and result.structured_content is None
    return str(result.content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", MODES)
def test_every_tool_is_listed_with_bounds_and_with_what_it_answers(playground: Playground, mode: str) -> None:
    listed = with_client(playground, lambda client: client.list_tools(), mode).tools
    assert [tool.name for tool in listed] == [tool.name for tool in TOOLS]
    by_name = {tool.name: tool for tool in listed}
    asked = by_name["compare"].input_schema
    assert asked["additionalProperties"] is False and asked["required"] == ["prompt", "models"]
    limits = playground.settings.limits
    assert asked["properties"]["max_new_tokens"]["maximum"] == limits.max_new_tokens
    assert asked["properties"]["prompt"]["maxLength"] == limits.max_prompt_chars
    assert asked["properties"]["models"]["maxItems"] == limits.max_models
    for tool in listed:
        assert tool.description and tool.output_schema and tool.annotations
        assert all("description" in told for told in tool.input_schema["properties"].values()), tool.name


@pytest.mark.parametrize("mode", MODES)
def test_a_comparison_answers_with_texts_figures_and_receipts(playground: Playground, mode: str) -> None:
    result = call(playground, "compare", mode, prompt="Capital of France?", models=["fast", "fails"])
    assert result.structured_content is not None
    fast, fails = result.structured_content["answers"]
    assert fast["model"] == "fast@fake-none" and fast["text"].startswith("Paris is") and fast["error"] is None
    assert fast["figures"]["decode_tok_s"]["value"] > 0 and fast["figures"]["decode_tok_s"]["means"]
    assert fast["receipt"]["threads"] == 2 and fast["receipt"]["mode"] == "fair"
    assert fails["error"] and fails["text"].strip() == "One two"
    assert result.structured_content["id"] is None and playground.comparisons(5) == []
    assert "one model at a time" in result.structured_content["about_figures"]


def test_a_comparison_in_fast_mode_says_that_it_ranks_nothing(playground: Playground) -> None:
    told = answered(playground, "compare", prompt="Hi", models=["fast", "base"], mode="fast", save=True)
    assert "rank nothing" in told["about_figures"]
    assert playground.comparison(told["id"]) is not None


def test_progress_grows_and_names_the_models(playground: Playground) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async def work(client: Client) -> Any:
        arguments = {"prompt": "Hi", "models": ["slow", "fast"]}
        return await client.call_tool("compare", arguments, progress_callback=on_progress)

    with_client(playground, work)
    shares = [share for share, _, _ in heard]
    assert len(heard) >= 2 and shares == sorted(set(shares)) and shares[-1] <= 1
    assert {total for _, total, _ in heard} == {1.0}
    assert any("slow@fake-none" in (message or "") for _, _, message in heard)


def test_inspecting_tells_how_far_the_preparation_is(playground: Playground) -> None:
    heard: list[str | None] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async def work(client: Client) -> Any:
        arguments = {"model": "slow-to-prepare", "prompt": "Hi"}
        return await client.call_tool("inspect", arguments, progress_callback=on_progress)

    assert not with_client(playground, work).is_error
    assert any("preparing" in (message or "") for message in heard)


@pytest.mark.alone
def test_a_call_that_is_taken_back_stops_the_models(playground: Playground) -> None:
    async def work(client: Client) -> None:
        asking = asyncio.create_task(client.call_tool("compare", {"prompt": "Hi", "models": ["endless"]}))
        deadline = time.monotonic() + 20
        while not any(model.busy for model in playground.pool.loaded()):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        deadline = time.monotonic() + 3
        while any(model.busy for model in playground.pool.loaded()):
            assert time.monotonic() < deadline, "the model goes on though nobody listens"
            await asyncio.sleep(0.05)

    with_client(playground, work)


@pytest.mark.alone
def test_calls_of_one_client_wait_for_each_other_in_the_queue_alone(playground: Playground) -> None:
    async def work(client: Client) -> Any:
        slow = asyncio.create_task(client.call_tool("compare", {"prompt": "Hi", "models": ["slow"]}))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        card = await client.call_tool("card", {"model": "fast"})
        took = time.monotonic() - began
        return took, card, await slow

    took, card, slow = with_client(playground, work)
    assert not card.is_error and not slow.is_error
    assert took < 1, "a card needs no model"


def test_inspect_shows_the_prompt_as_the_model_reads_it(playground: Playground) -> None:
    told = answered(playground, "inspect", model="fast", prompt="Hello there", max_tokens_shown=2)
    view = playground.inspect("fast", Request("Hello there"))
    assert told["rendered"] == view.rendered and told["n_tokens"] == len(view.token_ids)
    assert [token["id"] for token in told["tokens"]] == list(view.token_ids[:2])
    assert told["context_length"] == 512


def test_a_card_has_facts_with_sources_and_leaves_out_what_nobody_says(playground: Playground) -> None:
    told = answered(playground, "card", model="fast")
    assert told["model"] == "fast" and told["prose"] is None
    assert isinstance(told["facts"], dict) and "model" not in told["facts"]
    assert answered(playground, "card", model="fast", prose=True)["prose"] is not None


def test_choose_says_what_decided_and_lists_the_models_there_are(playground: Playground) -> None:
    told = answered(playground, "choose")
    assert {verdict["model"] for verdict in told["verdicts"]} >= {"fast@fake-none", "slow@fake-none"}
    limited = answered(playground, "choose", models=["fast"], min_speed=1.0)
    assert limited["verdicts"][0]["state"] == "undecided" and limited["verdicts"][0]["decided_by"]
    assert sum(limited["counts"].values()) == 1
    assert len(answered(playground, "choose", most=1)["verdicts"]) == 1


SUITE = """
prompts: ["{{question}}"]
tests:
  - vars: {question: "Capital of France?"}
    assert: [{type: contains, value: Paris}]
  - vars: {question: "And of Italy?"}
    assert: [{type: contains, value: Rome}]
"""


def test_a_suite_answers_with_rates_intervals_tests_and_what_did_not_pass(playground: Playground) -> None:
    told = answered(playground, "suite", file=SUITE, models=["fast", "base"], repeats=1)
    assert (told["status"], told["cells"], told["total"], told["passed"]) == ("done", 4, 4, 1)
    fast, base = told["columns"]
    assert fast["model"] == "fast@fake-none" and fast["shared"] is False
    assert fast["rate"]["share"] == 0.5 and 0 < fast["rate"]["interval"]["low"] < 0.5
    assert base["rate"]["share"] == 0
    assert told["differences"][0]["first_is"] == "no difference seen"
    assert len(told["failures"]) == 3
    failure = told["failures"][0]
    assert failure["answer"] and failure["checks"][0]["type"] == "contains" and failure["checks"][0]["why"]
    assert playground.suite_run(told["id"]) is not None
    again = answered(playground, "suite", file=SUITE, models=["fast"], against=told["id"], failures_shown=0)
    assert again["regression"]["same"] == 2 and again["failures"] == []


def test_a_suite_that_is_taken_back_is_paused_and_gone_on_with(playground: Playground) -> None:
    async def work(client: Client) -> Any:
        heard = asyncio.Event()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            if progress > 0.2:
                heard.set()

        rows = "\n".join(f"question {n}" for n in range(6))
        arguments = {"file": rows, "format": "txt", "models": ["slow"]}
        asking = asyncio.create_task(client.call_tool("suite", arguments, progress_callback=on_progress))
        await asyncio.wait_for(heard.wait(), 40)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        [entry] = playground.suites()
        deadline = time.monotonic() + 5
        while (run := playground.suite_run(entry.id)) and run.status != "paused":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        done = len(playground.suite_cells(entry.id).cells)
        assert 0 < done < 6
        return await client.call_tool("suite", {"resume": entry.id})

    result = with_client(playground, work)
    assert result.structured_content["status"] == "done" and result.structured_content["cells"] == 6


CHOICE = """
models: [fast, base]
limits: {min_pass_rate: 40 %}
suite:
  prompts: ["{{question}}"]
  tests:
    - vars: {question: "Capital of France?"}
      assert: [{type: contains, value: Paris}]
    - vars: {question: "And of Italy?"}
      assert: [{type: contains, value: Rome}]
"""


def test_a_choice_by_a_suite_says_what_to_run_and_uses_what_was_run(playground: Playground) -> None:
    before = answered(playground, "choose", file=CHOICE)
    assert set(before["missing"]["suite"]) == {"fast@fake-none", "base@fake-none"}
    assert {verdict["state"] for verdict in before["verdicts"]} == {"undecided"}
    answered(playground, "suite", file=SUITE, models=["fast", "base"])
    after = answered(playground, "choose", file=CHOICE)
    rates = {verdict["model"]: verdict["pass_rate"] for verdict in after["verdicts"]}
    assert rates["fast@fake-none"] and after["missing"]["suite"] == []


MERGES = "\n".join(
    ["limits: {min_context: 1}", "m0: &m0 {" + ", ".join(f"k{n}: 1" for n in range(10)) + "}"]
    + [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}" for n in range(1, 30)]
)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("compare", {"prompt": "Hi", "models": ["fsat"]}, "Did you mean fast"),
        ("compare", {"prompt": "Hi", "models": []}, "compare: models must be a list of at least 1"),
        ("compare", {"prompt": "", "models": ["fast"]}, "The prompt is empty"),
        ("compare", {"models": ["fast"]}, "the key 'prompt' is missing"),
        ("compare", {"prompt": "Hi", "models": ["fast"], "max_tokens": 5}, "Did you mean max_new_tokens"),
        ("compare", {"prompt": "Hi", "models": ["fast"], "max_new_tokens": 10**6}, "max_new_tokens"),
        ("compare", {"prompt": "Hi", "models": ["fast"], "temperature": "hot"}, "temperature must be a number"),
        ("compare", {"prompt": "Hi" * 100_000, "models": ["fast"]}, "characters"),
        ("compare", {"prompt": "Hi", "models": ["fast"] * 9}, "too many"),
        ("compare", {"prompt": "Hi", "models": ["fast", "fast"]}, "chosen twice"),
        ("inspect", {"model": "fails-to-prepare", "prompt": "Hi"}, "no recipe fits it"),
        ("card", {"model": "nothing"}, "Unknown model 'nothing'"),
        ("card", {"model": "fast", "online": True}, "Leave --online out"),
        ("choose", {"min_openness": 9}, "min_openness"),
        ("choose", {"file": CHOICE, "min_context": 10}, "Limits are given beside the file"),
        ("choose", {"file": "limits: {min_pass_rate: 40 %}\nsuite: /etc/hosts"}, "no files are read here"),
        ("choose", {"file": "limits: {min_pass_rate: 40 %}\nsuite: /etc/nothing-there"}, "no files are read here"),
        ("choose", {"file": MERGES}, "more than 100,000 keys"),
        ("choose", {"file": "limits: {}\nmodels: [" + "1," * 100_000 + "]"}, "models[0] must be text"),
        ("compare", {"prompt": "Hi", "models": [1] * 1_000_000}, "models has 1,000,000 entries"),
        ("compare", {"prompt": "Hi", "models": ["fast"]} | {f"n{i}": 1 for i in range(200_000)}, "unknown key 'n0'"),
        ("choose", {"file": "limit: {}"}, "Did you mean limits"),
        ("suite", {}, "one of them"),
        ("suite", {"file": SUITE}, "model"),
        ("suite", {"file": SUITE, "models": ["fsat"]}, "Did you mean fast"),
        ("suite", {"file": SUITE.replace("assert:", "asert:"), "models": ["fast"]}, "assert"),
        ("suite", {"file": "tests: file:///etc/hosts", "models": ["fast"]}, "file"),
        ("suite", {"resume": "nothing"}, "No suite has the id 'nothing'"),
        ("suite", {"file": SUITE, "models": ["fast"], "against": "nothing"}, "No suite has the id"),
        ("suite", {"file": SUITE, "models": ["fast"], "repeats": 0}, "repeats"),
        ("compere", {}, "Did you mean compare"),
    ],
)
def test_what_is_wrong_is_told_with_the_next_step(
    playground: Playground, tool: str, arguments: dict[str, Any], said: str
) -> None:
    told = problem(playground, tool, **arguments)
    assert said in told and told.endswith((".", "?"))
    assert playground.pool.loaded() == []


def test_a_slip_of_ours_is_told_without_its_words(
    playground: Playground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(playground, "card", lambda *_: 1 / 0)
    told = problem(playground, "card", model="fast")
    assert "division" not in told and "card failed unexpectedly" in told
    number = told.partition("under ")[2].partition(";")[0]
    assert number in caplog.text and "ZeroDivisionError" in caplog.text


def test_where_strangers_come_only_the_models_of_the_catalogue_can_be_named(make_settings: Any) -> None:
    with Playground(make_settings(PLAYGROUND_HOSTS="play.example.org")) as playground:
        for name in ("path:/etc", "hub:OWNER/NAME", "fake:text=x"):
            assert "is not offered here" in problem(playground, "card", model=name)
        assert not call(playground, "card", model="fast").is_error


def test_visitors_agents_are_told_what_they_can_do_and_nothing_of_the_owners(
    make_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise StorageError(msg("The disk is full"), msg("Free some space on that disk."))

    for env, step in (({"PLAYGROUND_HOSTS": "play.example.org"}, MEND), ({}, "Free some space on that disk.")):
        with Playground(make_settings(**env)) as playground:
            if env:
                unknown = problem(playground, "card", model="zzz")
                assert "The tool choose lists them" in unknown and "playground models" not in unknown
            monkeypatch.setattr(playground, "card", full)
            assert problem(playground, "card", model="fast") == f"The disk is full. {step}"
