"""Every limit of spaces.yaml: beyond it there is a message with its value, in both languages, and the time where time
helps.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playground import translations
from playground.api.connections import SPARE
from playground.api.room import OWN_FILES
from playground.catalog.search import Filters
from playground.config.settings import Limits, load_settings
from playground.errors import Busy, ConfigError, PlaygroundError
from playground.messages import render
from playground.records import Request
from playground.service import Playground
from playground.service.guesses import Guesses
from playground.service.limiter import Kind
from tests.conftest import MakeSettings

pytestmark = pytest.mark.parallel

ASK = Request("Hello", max_new_tokens=4)


def compared(playground: Playground, request: Request = ASK, models: int = 1, owner: str = "me") -> Any:
    return playground.compare(request, playground.default_variants()[:models], owner=owner)


def many(n: int, owner: Callable[[int], str] = lambda n: "me") -> Callable[[Playground], Any]:
    def ask(playground: Playground) -> None:
        slow = playground.default_variants()[1]
        for number in range(n):
            playground.compare(replace(ASK, seed=number), [slow], owner=owner(number))

    return ask


def counted(kind: Kind) -> Callable[[Playground], Any]:
    def ask(playground: Playground) -> None:
        for _ in range(3):
            playground.count(kind, "me")

    return ask


def guessed(playground: Playground) -> None:
    guesses = Guesses(playground.settings.limits.max_wrong_passwords)
    for number in range(3):
        guesses.check("192.0.2.1", "ann")
        guesses.wrong(b"%d" % number, "192.0.2.1", "ann")


def spent(playground: Playground) -> None:
    playground.limiter.spend("me", 2)
    compared(playground)


def suite(playground: Playground) -> None:
    columns = playground.variants(["fast"])
    playground.suite("One\nTwo\nThree\nFour", "prompts.txt", list(map(str, columns)), request=ASK, owner="me")


def waiting(playground: Playground, each: int) -> None:
    with playground.callers.turn("first", bool):
        ask = playground.callers.turn("me", bool)
        for _ in range(each):
            playground.callers._enter("me", object())
        with ask:
            pass


CASES: dict[str, tuple[Any, Callable[[Playground], Any], str, type[PlaygroundError]]] = {
    "max_models": (2, lambda p: compared(p, models=3), "at most 2", PlaygroundError),
    "max_new_tokens": (3, compared, "from 1 to 3", PlaygroundError),
    "max_prompt_chars": (4, compared, "5 characters, 4 are allowed", PlaygroundError),
    "max_stop_strings": (1, lambda p: compared(p, replace(ASK, stop=("a", "b"))), "At most 1", PlaygroundError),
    "max_stop_chars": (2, lambda p: compared(p, replace(ASK, stop=("abc",))), "At most 2", PlaygroundError),
    "max_search_chars": (3, lambda p: p.search(Filters(search="four")), "4 characters, 3", PlaygroundError),
    "max_unfinished": (2, many(3), "2 of your comparisons", Busy),
    "max_unfinished_of_all": (2, many(3, str), "2 comparisons of all visitors", Busy),
    "max_suite_answers": (3, suite, "at most 3", PlaygroundError),
    "max_api_waiting": (2, lambda p: waiting(p, 2), "2 requests are waiting", Busy),
    "max_api_waiting_of_all": (2, lambda p: waiting(p, 2), "2 requests are waiting", Busy),
    "max_calls_per_minute": (2, counted("calls"), "2 calls a minute", Busy),
    "max_reads_per_minute": (2, counted("reads"), "2 looks a minute", Busy),
    "max_page_loads_per_minute": (2, counted("page_loads"), "2 times a minute", Busy),
    "max_wrong_passwords": (2, guessed, "2 wrong passwords", Busy),
    "max_tokens_per_day": (2, spent, "2 tokens a day", Busy),
}
"""Setting → its value in the test, what goes beyond it, what is said, and how it is told."""

ELSEWHERE = {
    "max_call_bytes", "max_api_call_bytes", "max_waiting", "max_pages", "max_pages_of_all", "max_run_s",
    "visitors_per_address", "left_s", "prepared_gb", "stall_timeout_s", "memory_mb", "max_sessions",
    "max_stored", "max_stored_each", "max_stored_days",
}  # fmt: skip
"""Those whose tests stand where they act: docs/operations.md says where."""


@pytest.mark.parametrize("limit", CASES)
def test_beyond_a_limit_its_value_is_told_in_both_languages(make_settings: MakeSettings, limit: str) -> None:
    value, beyond, said, kind = CASES[limit]
    settings = make_settings(PLAYGROUND_AUDIENCE="public")
    roomy = replace(settings.limits, max_models=8, max_prompt_chars=2000, max_new_tokens=256)
    settings = replace(settings, limits=replace(roomy, **{limit: value}))
    with Playground(settings) as playground, pytest.raises(kind, match=said) as caught:
        beyond(playground)
    words = render(caught.value.message, translations.for_page("ja", {}))
    assert str(value) in words
    assert re.search(r"[ぁ-ヿ]", words)
    assert words != str(caught.value.message)
    if isinstance(caught.value, Busy):
        assert caught.value.retry_after_s >= 1
        assert re.search(r"\d", str(caught.value.next_step)), "it says when"


def test_every_limit_is_tested_and_stands_in_the_table_of_the_documentation() -> None:
    names = set(Limits.__dataclass_fields__)
    assert names == CASES.keys() | ELSEWHERE
    table = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    for name in names:
        row = next((line for line in table.splitlines() if line.startswith(f"| `{name}`")), "")
        default = getattr(Limits(), name)
        shown = "" if default is None else f"{default:,.0f}"
        assert shown in row and row, f"{name} and its default {shown} are not in the table"
        for test in re.findall(r"`(test_\w+|tests/[\w/]+\.py)`", row):
            assert (Path(__file__).parents[2] / test).exists(), test


def test_as_many_pages_and_requests_as_may_be_have_their_connections() -> None:
    for limits in (Limits(), Limits(max_pages_of_all=2000, max_api_waiting_of_all=9)):
        assert limits.connections >= 3 * limits.max_pages_of_all + limits.max_api_waiting_of_all
        assert limits.connections // 2 > 3 * (limits.max_pages_of_all // 2), "half of the pages are half of them"
        assert limits.api_connections > limits.max_api_waiting_of_all
    assert Limits().connections + SPARE + OWN_FILES <= 1024, "what most machines let a process open"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("max_run_s: none", {"max_run_s": None}),
        ("max_run_s: null", {"max_run_s": None}),
        ("max_calls_per_minute: none", {"max_calls_per_minute": None}),
        ("max_reads_per_minute: none", {"max_reads_per_minute": None}),
        ("max_page_loads_per_minute: 5", {"max_page_loads_per_minute": 5}),
        ("max_wrong_passwords: none", {"max_wrong_passwords": None}),
        ("max_tokens_per_day: 5", {"max_tokens_per_day": 5}),
        ("prepared_gb: none", {"prepared_gb": None}),
        ("prepared_gb: 0", {"prepared_gb": 0}),
        ("prepared_gb: 0.5", {"prepared_gb": 0.5}),
    ],
)
def test_none_lifts_a_limit_and_0_allows_nothing(tmp_path: Path, text: str, found: dict[str, Any]) -> None:
    path = tmp_path / "spaces.yaml"
    path.write_text(f"app: {{models: [m], limits: {{{text}}}}}")
    assert load_settings({"PLAYGROUND_SPACE": str(path)}).limits == Limits(**found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_run_s: 0", "app.limits.max_run_s must be a number above 0, or none, not 0"),
        ("max_run_s: .inf", "must be a number above 0, or none, not inf"),
        ("max_run_s: '600'", "must be a number above 0, or none, not '600'"),
        ("max_calls_per_minute: 1.5", "max_calls_per_minute must be a whole number above 0, or none, not 1.5"),
        ("max_tokens_per_day: true", "must be a whole number above 0, or none, not True"),
        ("prepared_gb: -1", "prepared_gb must be a number of at least 0, or none, not -1"),
        ("prepared_gb: much", "or none, not 'much'"),
        ("prepared_gb: []", r"or none, not \[\]"),
        ("max_models: none", "max_models must be a whole number above 0"),
    ],
)
def test_a_limit_that_is_none_of_these_is_refused_with_what_it_may_be(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "spaces.yaml"
    path.write_text(f"app: {{models: [m], limits: {{{text}}}}}")
    with pytest.raises(ConfigError, match=said):
        load_settings({"PLAYGROUND_SPACE": str(path)})


def test_limits_that_were_lifted_are_none(make_settings: MakeSettings) -> None:
    settings = make_settings(PLAYGROUND_AUDIENCE="public")
    lifted = replace(settings.limits, max_calls_per_minute=None, max_tokens_per_day=None, max_run_s=None)
    lifted = replace(lifted, max_reads_per_minute=None, max_page_loads_per_minute=None)
    with Playground(replace(settings, limits=lifted)) as playground:
        for _ in range(500):
            for kind in ("calls", "reads", "page_loads"):
                playground.count(kind, "me")
        playground.limiter.spend("me", 10**9)
        fast = playground.default_variants()[0]
        assert compared(playground).result().runs[0].finish_reason != "stopped"
        assert list(playground.answer(str(fast), ASK, owner="me"))[-1].kind == "done"


CATALOG = """
schema_version: 1
models:
{}
"""
MODEL = """
  - {{id: {id}, name: {id}, kind: chat, task: text-generation, context_length: 512, revision: "1",
     source: "fake:text=Paris.&prepare_s=0.01&disk_mb=0.6", download_bytes: 600000, variants: [fake-none]}}
"""


def test_models_that_visitors_add_take_what_they_may_of_the_disk_and_no_more(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.export.allowance.GRACE_S", 0.0)
    names = ("fast", "slow", "base", "one", "two", "three")
    file = tmp_path / "catalog.yaml"
    file.write_text(CATALOG.format("".join(MODEL.format(id=name) for name in names)))
    settings = make_settings(PLAYGROUND_AUDIENCE="public", PLAYGROUND_CATALOG=file)
    limits = replace(settings.limits, prepared_gb=0.0013)
    with Playground(replace(settings, may_add="everyone", limits=limits)) as playground:
        metrics = playground.meter()
        served = playground.default_variants()[0]
        playground.compare(ASK, [served], owner="me").result()
        assert playground.disk.bytes == 0, "what is served is nobody's"
        one, two, three = playground.variants(names[3:])
        for variant in (one, two, three):
            run = playground.compare(ASK, [variant], owner="me").result().runs[0]
            assert run.text == "Paris.", run.error
            playground.pool.unload(str(variant))
        states = [playground.preparation(variant).status for variant in (served, one, two, three)]
        assert states == ["ready", "missing", "ready", "ready"]
        with playground.disk.wanted("two"), playground.disk.wanted("three@fake-none"):
            run = playground.compare(ASK, [one], owner="me").result().runs[0]
            assert run.error is not None
            assert "one@fake-none" in run.error
            words = render(run.error, translations.for_page("ja", {}))
            assert re.search(r"[ぁ-ヿ]", words) and "one@fake-none" in words and "GB" in words
        told = metrics.text().decode()
        assert "playground_prepared_bytes 1.2e+06" in told
        assert "playground_prepared_limit_bytes 1.3e+06" in told
        assert "playground_evictions_total 1.0" in told
        assert "playground_evicted_bytes_total 600000.0" in told
