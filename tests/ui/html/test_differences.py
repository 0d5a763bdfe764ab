"""What the Differences tab shows of answers."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from playground.records import Variant
from playground.ui.html.differences import Answer, differences_html, empty_html, pair_html
from playground.ui.html.panel import Label


class Sides(HTMLParser):
    """The text of each side, without what the other side alone has."""

    def __init__(self) -> None:
        super().__init__()
        self.text = {"left": "", "right": ""}
        self.side = ""
        self.inside = False
        self.marks: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = (dict(attrs).get("class") or "").split()
        if tag == "section" and "side" in classes:
            self.side = "left" if "left" in classes else "right"
        if tag == "div" and "words" in classes:
            self.inside = True
        if tag in ("ins", "del"):
            self.marks.append(tag)
        if tag == "span":
            self.marks.append(classes[0].removeprefix("of-") if classes else tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self.inside = False
        if tag in ("ins", "del", "span"):
            self.marks.pop()

    def handle_data(self, data: str) -> None:
        hidden = "ins" if self.side == "left" else "del"
        if self.inside and hidden not in self.marks:
            self.text[self.side] += data


def answer(position: int, text: str, *, whole: bool = True) -> Answer:
    return Answer(Label(f"Model {position}", Variant(f"m{position}", "onnx", "int8"), position), text, whole)


def test_each_side_reads_as_its_own_answer() -> None:
    left, right = "The sky  is <b>blue</b>,\nalways so.", "The sky is <i>red</i>, always so & more."
    sides = Sides()
    sides.feed(pair_html(answer(0, left), answer(1, right)))
    assert sides.text == {"left": left, "right": right}


def test_a_paragraph_that_was_added_keeps_its_lines() -> None:
    sides = Sides()
    sides.feed(pair_html(answer(0, "First.\n\nLast."), answer(1, "First.\n\nAdded\nlines.\n\nLast.")))
    assert sides.text["right"] == "First.\n\nAdded\nlines.\n\nLast."


def test_what_a_model_wrote_is_never_markup() -> None:
    drawn = differences_html([answer(0, "<script>x</script>"), answer(1, "<img src=x>")], "<u>?", 0, None)
    assert not re.search(r"<(script|img|u)\b", drawn)


def test_changes_are_told_by_elements_and_words_are_counted() -> None:
    drawn = pair_html(answer(0, "one two three"), answer(1, "one 2 three four"))
    assert "<del>" in drawn and "<ins>" in drawn
    assert "2 words in both, in the same order · 1 only in the first · 2 only in the second" in drawn
    assert "word by word" in pair_html(answer(0, "a  b"), answer(1, "a b"))


def test_all_are_compared_with_the_reference_or_one() -> None:
    answers = [answer(place, f"word{place}") for place in (0, 2, 5)]
    assert differences_html(answers, "", 1, None).count('<article class="pair"') == 2
    assert differences_html(answers, "", 1, 2).count('<article class="pair"') == 1


def test_groups_are_named_and_the_measure_stands_beside_them() -> None:
    answers = [answer(0, "It is Tokyo."), answer(1, "Tokyo is it!"), answer(2, "Kyoto.")]
    drawn = differences_html(answers, "What is the capital of Japan?", 0, None)
    assert "The 3 answers say 2 different things" in drawn
    assert re.search(r"2 say the same:</span>.*1 · Model 0.*2 · Model 1.*Alone:", drawn, re.DOTALL)
    assert "60%" in drawn and "nothing of what is true" in drawn
    assert drawn.count("<td data-model=") == 9


def test_an_answer_that_still_grows_is_said_to() -> None:
    drawn = differences_html([answer(0, "one"), answer(1, "one", whole=False)], "", 0, 1)
    assert "compared as far as it goes: 2 · Model 1 onnx-int8" in drawn


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_answers_are_told_so(n: int) -> None:
    assert differences_html([answer(place, "x") for place in range(n)], "", 0, None) == empty_html()
