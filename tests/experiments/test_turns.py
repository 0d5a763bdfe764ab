"""Going on from a stored comparison: replies, other first words, one column again, answers continued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from playground.errors import UsageError
from playground.experiments import turns
from playground.messages import NOTHING, Translatable, msg
from playground.records import Column, Comparison, Environment, Message, ModelRun, Request, Timings, Variant
from playground.service import Playground

ASKED = Request("Hello?", system="Be brief.", max_new_tokens=4)
CHAT, OTHER, BASE = (Variant(name, "fake", "none") for name in ("chat", "other", "base"))
USER, MODEL = "user", "assistant"


def run(variant: Variant, text: str = "Hi.", **more: Any) -> ModelRun:
    known: dict[str, Any] = {"finish_reason": "length", "token_ids": (1, 2, 3)}
    return ModelRun(variant, "fake", "none", text, **(known | more))


def stored(*runs: ModelRun, request: Request = ASKED) -> Comparison:
    return Comparison("c1", "", request, runs, Environment("cpu", 2, 1000.0))


def only_base(variant: Variant) -> Translatable:
    return turns.why_no_reply(variant, "base" if variant == BASE else "chat")


def column(turn: turns.Turn, place: int) -> Request:
    found = turn.columns[place]
    assert isinstance(found, Column)
    assert found.request
    return found.request


def said(request: Request) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in request.messages]


# -- replies ------------------------------------------------------------------------------------------------------


def test_each_model_keeps_its_own_history_and_the_system_prompt() -> None:
    before = stored(run(CHAT, "I am chat."), run(OTHER, "I am other."))
    turn = turns.reply(before, "Sure?", None, only_base)
    assert said(column(turn, 0)) == [(USER, "Hello?"), (MODEL, "I am chat."), (USER, "Sure?")]
    assert said(column(turn, 1)) == [(USER, "Hello?"), (MODEL, "I am other."), (USER, "Sure?")]
    for place in range(2):
        assert (column(turn, place).prompt, column(turn, place).system) == ("", "Be brief.")
    assert (turn.request.prompt, turn.request.messages, turn.parent) == ("Sure?", (), "c1")


def test_a_column_keeps_its_own_parameters_and_what_was_said_in_it() -> None:
    own = replace(
        ASKED,
        prompt="",
        temperature=0.7,
        system="Be long.",
        messages=(Message("user", "A?"), Message("assistant", "B."), Message("user", "C?")),
        answer_ids=(1, 2),
        reuse=True,
    )
    turn = turns.reply(stored(run(CHAT, "D.", request=own)), "E?", [0], only_base)
    assert said(column(turn, 0)) == [(USER, "A?"), (MODEL, "B."), (USER, "C?"), (MODEL, "D."), (USER, "E?")]
    asked = column(turn, 0)
    assert (asked.temperature, asked.system, asked.answer_ids, asked.reuse) == (0.7, "Be long.", (), False)


def test_thinking_is_left_out_of_the_history() -> None:
    text = "<think>\nHm. Well.\n</think>\n\nParis."
    turn = turns.reply(stored(run(CHAT, text)), "Sure?", None, only_base)
    assert said(column(turn, 0))[1] == (MODEL, "Paris.")


def test_who_is_not_replied_to_is_carried_over_with_what_it_was_asked() -> None:
    before = stored(run(CHAT), run(OTHER, "Earlier.", taken_in="c0"), run(BASE))
    turn = turns.reply(before, "Sure?", [0], only_base)
    kept = [each for each in turn.columns if isinstance(each, ModelRun)]
    assert [(each.variant, each.taken_in, each.request) for each in kept] == [
        (OTHER, "c0", ASKED),
        (BASE, "c1", ASKED),
    ]
    assert [type(each) for each in turns.reply(before, "Sure?", None, only_base).columns] == [Column, Column, ModelRun]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (run(BASE), "base model"),
        (run(CHAT, "Half", error=msg("It broke.")), "failed"),
        (run(CHAT, "", finish_reason="stopped"), "no text"),
        (run(CHAT, "<think>\nHm, let me", finish_reason="length"), "still thinking"),
    ],
)
def test_who_cannot_be_replied_to_says_why(bad: ModelRun, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        turns.reply(stored(run(OTHER), bad), "Sure?", [1], only_base)
    with pytest.raises(UsageError, match=words):
        turns.reply(stored(bad), "Sure?", None, only_base)
    assert isinstance(turns.reply(stored(run(OTHER), bad), "Sure?", None, only_base).columns[1], ModelRun)


def test_an_answer_that_was_stopped_can_be_replied_to() -> None:
    turn = turns.reply(stored(run(CHAT, "I was", finish_reason="stopped")), "Go on.", None, only_base)
    assert said(column(turn, 0))[1] == (MODEL, "I was")


def test_a_text2text_model_and_a_column_that_is_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="reads no conversation"):
        turns.reply(stored(run(CHAT)), "?", None, lambda variant: turns.why_no_reply(variant, "text2text"))
    for columns in ([1], [-1]):
        with pytest.raises(UsageError, match="There is no column"):
            turns.reply(stored(run(CHAT)), "?", columns, only_base)
    with pytest.raises(UsageError, match="No column is chosen"):
        turns.reply(stored(run(CHAT)), "?", [], only_base)


# -- an earlier turn otherwise ------------------------------------------------------------------------------------

LONG = replace(ASKED, prompt="", messages=(Message("user", "A?"), Message("assistant", "B."), Message("user", "C?")))


def test_a_turn_asked_otherwise_drops_what_came_after_it() -> None:
    before = stored(run(CHAT, "D.", request=LONG), run(BASE, "Other", request=ASKED))
    turn = turns.resend(before, 1, "X?", None, only_base)
    assert said(column(turn, 0)) == [(USER, "A?"), (MODEL, "B."), (USER, "X?")]
    assert isinstance(turn.columns[1], ModelRun)


def test_the_first_turn_asked_otherwise_is_a_plain_question_to_all() -> None:
    before = stored(run(CHAT, "D.", request=LONG), run(BASE, "Other", request=ASKED))
    turn = turns.resend(before, 0, "X?", None, only_base)
    assert turn.request == replace(ASKED, prompt="X?")
    assert [column(turn, place) for place in range(2)] == [turn.request] * 2


@pytest.mark.parametrize(
    ("turn", "columns", "words"), [(2, None, "no turn 3"), (1, [1], "no turn 2"), (-1, None, "no turn 0")]
)
def test_a_turn_that_is_not_there_is_refused(turn: int, columns: Sequence[int] | None, words: str) -> None:
    before = stored(run(CHAT, "D.", request=LONG), run(BASE, "Other", request=ASKED))
    with pytest.raises(UsageError, match=words):
        turns.resend(before, turn, "X?", columns, only_base)


# -- one column ---------------------------------------------------------------------------------------------------


def test_one_column_again_is_asked_from_the_start_of_its_answer_or_as_one_says() -> None:
    before = stored(run(CHAT, request=replace(ASKED, answer_ids=(1,), reuse=True)), run(OTHER))
    turn = turns.again(before, 0, None)
    assert column(turn, 0) == ASKED
    assert turn.columns[1] == replace(before.runs[1], request=ASKED, taken_in="c1")
    hot = replace(ASKED, temperature=1.0)
    assert column(turns.again(before, 1, hot), 1) == hot


def test_an_answer_goes_on_at_its_end_or_with_another_token() -> None:
    before = stored(run(CHAT), run(OTHER, finish_reason="stop"))

    def begins(place: int, *where: int | None, reuse: bool = True) -> Request:
        at, token = (*where, None, None)[:2]
        return column(turns.go_on(before, place, at, token, reuse=reuse), place)

    assert begins(0) == replace(ASKED, answer_ids=(1, 2, 3), reuse=True)
    assert begins(0, 1, 9).answer_ids == (1, 9)
    assert begins(0, 0, 9).answer_ids == (9,)
    assert begins(0, 2).answer_ids == (1, 2)
    assert begins(1, 3, 9).answer_ids == (1, 2, 3, 9)
    assert begins(0, reuse=False).reuse is False
    for place, at, words in (
        (1, None, "by itself"),
        (1, 3, "no token 3"),
        (0, 4, "no token 4"),
        (0, -1, "no token -1"),
    ):
        with pytest.raises(UsageError, match=words):
            begins(place, at)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (run(CHAT, token_ids=None), "are not known"),
        (run(CHAT, "", token_ids=(), finish_reason="stopped"), "had not begun"),
        (run(CHAT, error=msg("It broke.")), "failed"),
    ],
)
def test_what_cannot_go_on_says_why(bad: ModelRun, words: str) -> None:
    assert words in turns.cannot_go_on(bad)
    for at in (None, 0):
        with pytest.raises(UsageError, match=words):
            turns.go_on(stored(bad), 0, at, None, reuse=False)


def test_the_context_left_is_told_where_it_is_known() -> None:
    def used(length: int, **timings: Any) -> turns.ContextUse | None:
        return turns.context_use(run(CHAT, timings=Timings(**timings)), length)

    assert used(100, prompt_tokens=30, output_tokens=60) == turns.ContextUse(90, 10, 100)
    assert used(80, prompt_tokens=30, output_tokens=60) == turns.ContextUse(90, 0, 80)
    assert used(0, prompt_tokens=30, output_tokens=60) == turns.ContextUse(90, None, None)
    assert used(100, output_tokens=60) is None
    assert used(100, prompt_tokens=30, output_tokens=60, unit="chunk") is None


# -- by the service -----------------------------------------------------------------------------------------------


@pytest.mark.waits
def test_a_conversation_goes_on_over_several_comparisons(playground: Playground) -> None:
    first = playground.compare(ASKED, playground.variants(["slow", "base", "fast"])).result()
    second = playground.reply(first, "And then?").result()
    assert [each.taken_in for each in second.runs] == ["", first.id, ""]
    assert second.runs[1].text == first.runs[1].text
    assert second.parent == first.id
    assert said(second.asked(0))[1] == (MODEL, first.runs[0].text)
    third = playground.go_on(second, 2).result()
    assert third.runs[2].text.startswith(second.runs[2].text)
    assert len(third.runs[2].text) > len(second.runs[2].text)
    assert third.runs[0].taken_in == second.id
    anew = playground.resend(third, 0, "Other?", [0]).result()
    assert anew.runs[0].request is None
    assert anew.request == replace(ASKED, prompt="Other?")
    assert playground.comparison(anew.id) == anew
    use = playground.context_use(second, 0)
    assert use
    assert use.used == (second.runs[0].timings.prompt_tokens or 0) + 4
    assert use.left == 512 - use.used


def test_a_base_model_says_why_it_cannot_be_replied_to(playground: Playground) -> None:
    base, fast = playground.variants(["base", "fast"])
    assert "base@fake-none is a base model" in playground.cannot_reply(base)
    assert playground.cannot_reply(fast) == NOTHING


@pytest.mark.waits
def test_what_visitors_share_goes_on_without_the_cache(make_settings: Callable[..., Any]) -> None:
    for on_space in (False, True):
        with Playground(replace(make_settings(), on_space=on_space)) as shared:
            first = shared.compare(ASKED, shared.variants(["slow"]), owner="ann").result()
            longer = shared.go_on(first, 0, owner="ann").result()
        assert longer.asked(0).reuse is not on_space
        assert longer.runs[0].finish_reason == "length"
