"""Token views as HTML: every token a button with its figures, levels by probability, two answers aligned."""

from __future__ import annotations

import html
import json
import re
import time

from playground.experiments.teacher_forcing import Choice
from playground.experiments.token_view import TokenAt, TokenView
from playground.records import Variant
from playground.ui.html import tokens as drawing
from playground.ui.html.panel import Label

ONE, OTHER = Label("One", Variant("one", "onnx", "int8")), Label("Other", Variant("other", "onnx", "int8"), 1)


def token(piece: str, probability: float = 0.95, name: str = "", id: int = 7, given: bool = False) -> TokenAt:
    others = (Choice(id, piece, probability), Choice(9, " <b>", (1 - probability) / 2))
    return TokenAt(id, piece, name or piece, probability, 1, 0.7, others, given)


def view(*tokens: TokenAt, column: int = 0) -> TokenView:
    return TokenView(Variant("one", "onnx", "int8"), "c1", column, tokens, 3.5, 0.693147, 50_000)


def buttons(shown: str) -> list[str]:
    return re.findall(r'<button type="button" class="tok[^>]*>.*?</button>', shown)


def test_every_token_is_a_button_that_carries_its_figures() -> None:
    shown = drawing.view_html(view(token("Pa"), token("ris", 0.31, id=12), column=2), ONE)
    first, second = buttons(shown)
    assert 'data-at="1"' in second and 'data-column="2"' in second and 'data-id="12"' in second
    assert 'data-p="0.31"' in second and 'data-rank="1"' in second and "0.70 nats (1.01 bits)" in second
    others = re.search(r'data-others="([^"]*)"', second)
    assert others and json.loads(html.unescape(others[1])) == [[12, "ris", 0.31], [9, " <b>", 0.345]]
    assert "<b>" not in second, "what a model said is no markup"
    assert 'aria-label="ris, 31.0 %"' in second
    assert ('tabindex="0"' in first, 'tabindex="-1"' in second) == (True, True)


def test_the_head_says_perplexity_entropy_and_how_they_were_taken() -> None:
    shown = drawing.view_html(view(token("a")), ONE)
    assert ">3.50</dd>" in shown and "0.69 nats (1.00 bits)" in shown
    assert "softmax at temperature 1 over the whole vocabulary" in shown
    assert "exp of the mean of −ln p" in shown and "−Σ p ln p" in shown


def test_five_levels_of_probability_and_each_is_explained() -> None:
    shares = (1.0, 0.9, 0.89, 0.5, 0.2, 0.06, 0.01, 0.0)
    assert [drawing.level(share) for share in shares] == [0, 0, 1, 1, 2, 3, 4, 4]
    legend = drawing.view_html(view(token("a")), ONE).split("</p>")[0]
    assert all(f"level-{place}" in legend for place in range(5))
    assert drawing.share(0.00002) == "2e-03 %" and drawing.share(0.5) == "50.0 %"


def test_tokens_without_text_show_their_name_and_lines_end_where_the_text_has_them_end() -> None:
    shown = drawing.view_html(view(token("", name="<0xF0>"), token("👍\n\n"), token("", name="<|end|>")), ONE)
    first, second, third = buttons(shown)
    assert "control" in first and ">&lt;0xF0&gt;</button>" in first
    assert ">👍↵↵</button>" in second and f"{second}<br><br>" in shown
    assert ">&lt;|end|&gt;</button>" in third


def test_what_was_given_is_marked() -> None:
    first, second = buttons(drawing.view_html(view(token("a", given=True), token("b")), ONE))
    assert "given" in first.split('"')[3] and "given" not in second.split('"')[3]


def test_continuing_is_offered_only_where_it_can_be() -> None:
    assert 'data-do="go-on"' in drawing.view_html(view(token("a")), ONE)
    assert 'data-do="go-on"' not in drawing.view_html(view(token("a")), ONE, going_on=False)


def test_two_answers_stand_above_each_other_where_they_say_the_same() -> None:
    one = view(token("It"), token(" is"), token(" Paris"), token("", name="<end>"))
    other = view(token("It"), token(" i"), token("s"), token(" Lyon", 0.3), column=1)
    shown = drawing.aligned_html(one, other, (ONE, OTHER))
    pairs = re.findall(r'<span class="pair ([^"]*)">', shown)
    assert pairs == ["is-same", "is-same", "is-different"]
    assert len(buttons(shown)) == 8, "every token of both"
    assert shown.count('tabindex="0"') == 1
    assert shown.count("token-slip") == 1


def test_where_one_was_far_more_sure_is_marked() -> None:
    one = view(token("a", 0.9), token(" b", 0.9))
    other = view(token("a", 0.5), token(" ", 0.2), token("b", 0.3), column=1)
    shown = drawing.aligned_html(one, other, (ONE, OTHER))
    assert re.findall(r'<span class="pair ([^"]*)">', shown) == ["is-same", "is-same is-apart"]


def test_two_thousand_tokens_are_drawn_in_a_moment_and_sent_in_less_than_a_megabyte_and_a_half() -> None:
    likely = tuple(Choice(place, f" word{place}", 0.1) for place in range(10))
    one = view(*(TokenAt(5, f" word{n}", f" word{n}", 0.4, 2, 1.5, likely) for n in range(2000)))
    began = time.thread_time()
    shown = drawing.view_html(one, ONE)
    assert time.thread_time() - began < 1
    assert len(shown) < 1_500_000
