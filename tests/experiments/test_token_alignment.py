"""Two models' tokens over the same characters."""

from __future__ import annotations

import random
import time

import pytest

from playground.experiments.token_alignment import Span, align


def told(one: list[str], other: list[str]) -> list[tuple[bool, str, str]]:
    return [
        (span.same, "".join(one[slice(*span.one)]), "".join(other[slice(*span.other)])) for span in align(one, other)
    ]


def test_tokens_that_end_at_the_same_characters_are_cut_there() -> None:
    one, other = ["the", " quick", " brown"], ["the", " qu", "ick", " bro", "wn"]
    assert align(one, other) == (
        Span(True, (0, 1), (0, 1)),
        Span(True, (1, 2), (1, 3)),
        Span(True, (2, 3), (3, 5)),
    )


def test_where_the_texts_differ_each_has_its_own() -> None:
    one, other = ["It", " is", " Paris", "."], ["It", " is", " surely", " Ly", "on", "."]
    assert told(one, other) == [
        (True, "It", "It"),
        (True, " is", " is"),
        (False, " Paris", " surely Lyon"),
        (True, ".", "."),
    ]


def test_words_with_the_space_behind_them_are_cut_as_well() -> None:
    assert told(["the ", "quick ", "brown ", "fox"], ["the ", "quick ", "red ", "fox"]) == [
        (True, "the ", "the "),
        (True, "quick ", "quick "),
        (False, "brown ", "red "),
        (True, "fox", "fox"),
    ]


def test_a_token_across_the_border_of_a_difference_belongs_to_it() -> None:
    assert told(["a", " b", " cat."], ["a", " b", " dog", "."]) == [
        (True, "a", "a"),
        (True, " b", " b"),
        (False, " cat.", " dog."),
    ]


def test_the_tokens_of_one_character_stay_together_and_the_end_of_turn_is_no_difference() -> None:
    one = ["日", "", "", "👍", "!", ""]  # the last "" is an end of turn
    other = ["", "日", "👍", "!"]
    assert align(one, other) == (
        Span(True, (0, 1), (0, 2)),
        Span(True, (1, 4), (2, 3)),
        Span(True, (4, 6), (3, 4)),
    )


def test_an_answer_that_is_empty_or_goes_on_is_a_difference() -> None:
    assert align([], []) == ()
    assert align(["a"], []) == (Span(False, (0, 1), (0, 0)),)
    assert told(["a", " b"], ["a", " b", " and", " c"])[-1] == (False, "", " and c")


@pytest.mark.parametrize("seed", range(20))
def test_every_token_of_both_stands_in_one_span(seed: int) -> None:
    rng = random.Random(seed)

    def pieces(text: str) -> list[str]:
        cut = sorted(rng.sample(range(1, len(text)), min(9, len(text) - 1)))
        found = [text[a:b] for a, b in zip([0, *cut], [*cut, len(text)], strict=True)]
        return [piece for part in found for piece in (["", part] if rng.random() < 0.2 else [part])]

    words = [rng.choice(["a", "bc", "dé", "日本", "x!"]) for _ in range(12)]
    changed = [word for word in words if rng.random() < 0.8] or ["q"]
    one, other = pieces(" ".join(words)), pieces(" ".join(changed))
    spans = align(one, other)
    for side, tokens in (("one", one), ("other", other)):
        ends = [getattr(span, side) for span in spans]
        assert [place for start, end in ends for place in range(start, end)] == list(range(len(tokens)))
    for span in spans:
        if span.same:
            assert "".join(one[slice(*span.one)]) == "".join(other[slice(*span.other)]) != ""


def test_long_answers_are_aligned_in_a_moment() -> None:
    rng = random.Random(1)
    words = [rng.choice(["the", "a", "model", "says", "of", "token", "."]) for _ in range(2000)]
    one = [f" {word}" for word in words]
    other = [piece for word in words if rng.random() < 0.7 for piece in (" ", word)]
    began = time.thread_time()
    align(one, other)
    assert time.thread_time() - began < 2
