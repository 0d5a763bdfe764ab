"""Thinking is told from the answer, by the marks of every family, whole and while it grows."""

from __future__ import annotations

import time

import pytest

from playground.results.thinking import Split, parts, split, thinking_tokens


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nhm\n</think>\n\nParis.",
        "<thinking>hm</thinking>Paris.",
        "<reasoning>hm</reasoning>\nParis.",
        "<seed:think>hm</seed:think>Paris.",
        "[THINK]hm[/THINK]Paris.",
        "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Paris.<|END_RESPONSE|>",
        "◁think▷hm◁/think▷Paris.",
        "<|begin_of_thought|>hm<|end_of_thought|>\n<|begin_of_solution|>Paris.<|end_of_solution|>",
        "<|channel>thought\nhm<channel|>Paris.",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Paris.<|return|>",
        "analysishmassistantfinalParis.",
        "Here is my thought process: hm\n\nHere is my response: Paris.",
        "hm\n</think>\n\nParis.",
        "<think>h</think>\n<think>m</think>Paris.",
    ],
)
def test_thinking_and_answer_are_told_apart(text: str) -> None:
    thinking, answer = parts(text)
    assert thinking.replace("\n\n", "") == "hm"
    assert answer == "Paris."


@pytest.mark.parametrize(
    "text", ["", "Paris.", "The tag `</think>` ends it.", "Say <think> and </thinking>.", "analysis of data", "a < b"]
)
def test_an_answer_without_thinking_is_left_as_it_is(text: str) -> None:
    assert split(text) == Split("", text)


def test_empty_thinking_is_none() -> None:
    assert parts("<think>\n\n</think>\n\nParis.") == ("", "Paris.")


def test_thinking_that_has_not_ended_is_open() -> None:
    assert split("<think>\nhm, the capi").open
    assert split("<|channel|>analysis<|message|>hm").open
    assert split("hm", begun=True) == Split("hm", "", True, 2)
    assert not split("<think>hm</think>").open


def test_tokens_of_the_thinking_are_counted_with_its_marks() -> None:
    assert thinking_tokens(["<think>", "h", "m", "</think>", "Par", "is"]) == 4
    assert thinking_tokens(["<think>", "h", "m"]) == 3
    assert thinking_tokens(["Par", "is"]) is None


@pytest.mark.parametrize(
    "text",
    [
        "<think></think>" * 60_000,
        "<think>" * 150_000,
        "<|channel|>" * 90_000,
        "<|channel|>a<|message|>" * 40_000,
        "Here is my thought process:" * 40_000,
        "analysisassistant" * 60_000,
        "analysis" + "assistantcommentary" * 50_000,
        " " * 1_000_000,
        "`</think>`" * 100_000,
    ],
)
def test_a_million_characters_take_no_time(text: str) -> None:
    began = time.thread_time()
    parts(text)
    assert time.thread_time() - began < 1
