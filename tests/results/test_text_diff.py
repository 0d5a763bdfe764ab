"""Two texts by words, and which of several say the same."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.results.text_diff import (
    AGREE_AT,
    MAX_WORDS,
    TextDiff,
    agreement,
    final_answer,
    terms,
    text_diff,
    words,
)


def changes(diff: TextDiff) -> list[tuple[str, str]]:
    return [(piece.left, piece.right) for piece in diff.pieces if not piece.alike]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don’t stop: it's 3.14 or 1,000.", ["Don’t", "stop", ":", "it's", "3.14", "or", "1,000", "."]),
        ("from -5 to 2020-2021", ["from", "-5", "to", "2020", "-", "2021"]),
        ("日本のコンピューターは、速い。", [*"日本の", "コンピューター", *"は、速い。"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("e\u0301te\u0301 👩‍👩‍👧!", ["e\u0301te\u0301", "👩‍👩‍👧", "!"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("", []),
    ],
)
def test_words_are_those_of_each_script(text: str, found: list[str]) -> None:
    assert [word.text for word in words(text)] == found


def test_a_changed_word_stands_between_what_is_alike() -> None:
    diff = text_diff("The quick brown fox jumps.", "The quick red fox  jumps!")
    assert changes(diff) == [("brown ", "red "), (".", "!")]
    assert (diff.left_words, diff.right_words, diff.common, diff.removed, diff.added) == (5, 5, 4, 1, 1)


def test_what_was_added_and_what_was_left_out_have_an_empty_side() -> None:
    assert changes(text_diff("one two three", "one two and a half three")) == [("", "and a half ")]
    assert changes(text_diff("one two and a half three", "one two three")) == [("and a half ", "")]


def test_one_letter_encoded_in_two_ways_and_other_white_space_are_no_difference() -> None:
    assert text_diff("caf\u00e9 au lait", "cafe\u0301 au\nlait").same
    assert text_diff("", "").same
    assert not text_diff("", "something").same


def test_a_common_word_does_not_chop_a_rewritten_sentence_into_bits() -> None:
    diff = text_diff("Plants make the sugar in leaves of green.", "Rayleigh scattering of the shorter waves of light.")
    assert len(changes(diff)) == 1


def test_japanese_is_told_by_characters() -> None:
    assert changes(text_diff("日本の首都は東京です。", "日本の首都は京都です。")) == [("東京", "京都")]


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_pieces_are_the_two_texts(left: str, right: str) -> None:
    diff = text_diff(left, right)
    for text, side in ((left, [piece.left for piece in diff.pieces]), (right, [piece.right for piece in diff.pieces])):
        assert "".join(side) == (text if words(text) else "")
    assert all(piece.left or piece.right for piece in diff.pieces)
    assert 0 <= diff.common <= min(diff.left_words, diff.right_words)
    assert (diff.common == diff.left_words == diff.right_words) or not diff.same


@pytest.mark.parametrize("vocabulary", [1, 2, 50, 3000])
def test_answers_of_4000_words_take_no_time_whatever_they_repeat(vocabulary: int) -> None:
    choose = random.Random(1)
    one, other = (" ".join(f"w{choose.randrange(vocabulary)}" for _ in range(4000)) for _ in range(2))
    began = time.thread_time()
    text_diff(one, other)
    agreement([one, other] * 4)
    assert time.thread_time() - began < 1.0  # 0.1 s here; difflib takes minutes for two words in random order


def test_a_text_without_end_is_compared_as_far_as_that_is_quick() -> None:
    long = "word " * (MAX_WORDS * 4)
    began = time.thread_time()
    diff = text_diff(long + "end", long + "other")
    assert time.thread_time() - began < 5.0
    assert diff.cut
    assert not diff.pieces[-1].alike
    assert diff.common == MAX_WORDS


def test_answers_agree_by_the_words_that_the_prompt_does_not_have() -> None:
    answers = ["The capital of Japan is Tokyo.", "Tokyo.", "The capital of Japan is Kyoto.", "It’s TOKYO!"]
    found = agreement(answers, "What is the capital of Japan?")
    assert found.similarity[0] == (1.0, 1.0, 0.0, pytest.approx(2 / 3))
    assert found.groups == ((0, 1, 3), (2,))
    assert not found.by_final_answer


def test_an_answer_that_repeats_itself_says_the_same_as_once() -> None:
    assert agreement(["Birds fly south.", "Birds fly south. " * 9]).groups == ((0, 1),)


def test_japanese_answers_agree_by_pairs_of_characters() -> None:
    found = agreement(["日本の首都は東京です。", "東京です", "京都です。"], "日本の首都はどこですか。")
    assert found.groups == ((0, 1), (2,))
    assert terms("東京 は") == {"東京", "は"}


def test_final_answers_decide_where_both_name_one() -> None:
    answers = [
        r"Six times seven is forty-two, so \boxed{42}",
        "We add and add and add. The answer is **42**.",
        "Answer: 43",
        "#### -42",
    ]
    found = agreement(answers, "What is 6 · 7?")
    assert found.groups == ((0, 1), (2,), (3,))
    assert found.by_final_answer


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{1} then \boxed{x^2}", "x^2"),
        ("The answer is Paris. It is in France.", "Paris"),
        ("答えは42です。", "42です"),
        ("The answer is 3.14.", "3.14"),
        ("I don't know.", ""),
    ],
)
def test_the_final_answer_is_the_last_one_named(text: str, found: str) -> None:
    assert final_answer(text) == found


def test_each_in_a_group_agrees_with_each() -> None:
    chain = ["a b c d e", "c d e f g", "e f g h i"]
    found = agreement([*chain, "a b c d e x"])
    assert found.groups == ((0, 3), (1, 2))
    for group in found.groups:
        assert all(found.similarity[i][j] >= AGREE_AT for i in group for j in group)


def test_groups_do_not_depend_on_the_order_of_the_answers() -> None:
    texts = ["red green blue", "red green", "black white", "green blue red", "white black grey"]
    named = {frozenset(texts[place] for place in group) for group in agreement(texts).groups}
    for seed in range(10):
        mixed = random.Random(seed).sample(texts, len(texts))
        assert {frozenset(mixed[place] for place in group) for group in agreement(mixed).groups} == named


def test_empty_answers_are_alike_and_unlike_any_other() -> None:
    assert agreement(["", "…", "words"]).groups == ((0, 1), (2,))
    assert agreement([]).groups == ()
