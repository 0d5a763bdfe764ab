"""The bar to vote with knows letters alone; the table of ratings says how little few votes say."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from playground.messages import msg
from playground.results.blind import blinded
from playground.results.ratings import Judgement, rate
from playground.results.votes import cast
from playground.ui.html import votes as view
from tests.support.votes import BASE, FAST, SLOW, answered

A_BEATS_B = Judgement(("a", "b"), "best", 0)


def buttons(html: str) -> list[tuple[str, str]]:
    return re.findall(r'data-vote="(\w+)"[^>]*>([^<]+?)\s*<', html)


def test_two_answers_have_four_buttons_numbered_for_the_keyboard() -> None:
    shown = view.bar_html(blinded(answered("c1", FAST, SLOW)))
    assert buttons(shown) == [
        ("0", "A is better"),
        ("1", "B is better"),
        ("tie", "Tie: equally good"),
        ("bad", "Both bad"),
    ]
    assert re.findall(r'aria-keyshortcuts="(\d)"', shown) == ["1", "2", "3", "4"]
    assert 'data-vote-on="c1"' in shown


def test_a_column_without_an_answer_has_no_button() -> None:
    three = answered("c1", FAST, SLOW, BASE)
    broken = replace(three.runs[1], text="", error=msg("slow broke"))
    shown = view.bar_html(blinded(replace(three, runs=(three.runs[0], broken, three.runs[2]))))
    assert [value for value, _ in buttons(shown)] == ["0", "2", "tie", "bad"]
    assert "slow" not in shown


def test_the_bar_names_nobody_and_shows_foreign_words_as_text() -> None:
    shown = view.bar_html(blinded(answered("c1", FAST, SLOW)), ['"><img src=x onerror=alert(1)>'])
    assert "fast" not in shown and "fake" not in shown
    assert "<img" not in shown


def test_after_the_vote_it_says_what_was_chosen_and_who_is_who() -> None:
    vote = cast(answered("c1", FAST, SLOW), "best", 1, at="", owner="", tag="code", note="<b>")
    shown = view.voted_html(vote, ["Fast", "Slow"])
    assert "You chose B: Slow." in shown and "A is Fast; B is Slow" in shown
    assert 'value="code"' in shown and 'value="&lt;b&gt;"' in shown
    assert [value for value, _ in buttons(shown)] == ["same"]


def test_without_votes_it_says_how_many_are_needed() -> None:
    assert "fewer than 5 votes" in view.ratings_html(rate([]), str).lower()


@pytest.mark.parametrize(("votes", "said"), [(4, True), (5, False)])
def test_few_votes_are_said_to_be_few(votes: int, said: bool) -> None:
    shown = view.ratings_html(rate([A_BEATS_B] * votes), str)
    assert ("Fewer than 5 votes" in shown) is said
    assert "1000 %" not in shown
    assert re.search(r"83 %|86 %", shown)


def test_groups_that_were_never_compared_are_apart() -> None:
    shown = view.ratings_html(rate([A_BEATS_B, Judgement(("x", "y"), "tie"), Judgement(("p", "q"), "bad")]), str)
    assert re.findall(r"<caption>([^<]+)</caption>", shown) == ["Group 1", "Group 2"]
    assert "No chain of votes" in shown and "Only called bad, so not rated: p, q." in shown


def test_the_interval_is_drawn_where_it_lies() -> None:
    shown = view.ratings_html(rate([A_BEATS_B] * 4, samples=20_000), str)
    low, high = map(float, re.findall(r'class="span" x1="([\d.]+)" y1="8" x2="([\d.]+)"', shown)[0])
    assert low / 200 == pytest.approx(0.478, abs=0.02)
    assert high / 200 == pytest.approx(0.995, abs=0.01)


def test_files_are_offered_where_there_are_votes() -> None:
    assert view.downloads_html("model_a\n", "") == ""
    assert view.downloads_html("a", "b").count("download=") == 2
