"""A prompt as HTML: pieces with ids, control tokens that can't be mistaken, and what of the context it takes."""

from __future__ import annotations

import re

from playground.messages import msg
from playground.records import PromptView, Variant
from playground.ui.html import prompt as drawing
from playground.ui.html.panel import Label

LABEL = Label("One", Variant("one", "onnx", "int8"))


def view(tokens: tuple[str, ...], **more: object) -> PromptView:
    return PromptView("one", "".join(tokens), tuple(range(10, 10 + len(tokens))), tokens, **more)  # type: ignore[arg-type]


def pieces(shown: str) -> list[str]:
    return re.findall(r'<span class="piece ([^"]*)"', shown)


def test_each_token_is_a_piece_with_its_id_and_control_tokens_are_boxed() -> None:
    """The second ``<|end|>`` was typed: it is text that looks like one."""
    shown = drawing.prompt_html(view(("<|end|>", "Hi", "<|end|>", "\n"), control=(0,)), LABEL)
    assert pieces(shown) == ["control", "tint-1", "tint-2", "tint-3"]
    assert 'data-id="11">Hi</span>' in shown
    assert "&lt;|end|&gt;" in shown and "<|end|>" not in shown
    assert '<span class="line">↵</span>\n' in shown
    assert "Show the number of each token" in shown
    assert shown.count('tabindex="0"') == 1


def test_it_says_what_of_the_context_is_taken_and_what_is_left() -> None:
    shown = drawing.prompt_html(view(("a", "b"), context_length=8, room=6), LABEL)
    assert "2 tokens · 25.0 % of its context of 8 · 6 tokens are left for the answer" in shown
    assert "is-tight" not in shown
    assert "is-tight" in drawing.prompt_html(view(("a",) * 8, context_length=8, room=0), LABEL)
    assert "context of" not in drawing.prompt_html(view(("a",)), LABEL), "unknown is not said"


def test_warnings_and_the_beginning_of_an_answer_are_shown() -> None:
    shown = drawing.prompt_html(view(("a",), warnings=(msg("Mind the <gap>."),), answer=("So", " be")), LABEL)
    assert "<li>Mind the &lt;gap&gt;.</li>" in shown
    assert "3 tokens" in shown and "as the beginning of its answer" in shown and "> be</span>" in shown


def test_the_middle_of_a_long_prompt_is_folded_and_nothing_is_lost() -> None:
    tokens = tuple(f"w{n} " for n in range(1240))
    shown = drawing.prompt_html(view(tokens), LABEL)
    assert "<summary>940 more tokens</summary>" in shown
    assert len(pieces(shown)) == 1240
    assert "<details>" not in drawing.prompt_html(view(tokens[:500]), LABEL)


def test_of_a_served_model_the_text_is_shown() -> None:
    shown = drawing.prompt_html(PromptView("far", "[<b>]", (), (), (msg("They can't be seen."),)), LABEL)
    assert "[&lt;b&gt;]</pre>" in shown and "They can&#x27;t be seen." in shown and pieces(shown) == []
