"""Token views and prompts in a real browser, as pieces of HTML with the page's own styles and script: one popover for
all tokens, the keyboard, contrast in both themes, and two thousand tokens without a pause.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from playground.experiments.teacher_forcing import Choice
from playground.experiments.token_view import TokenAt, TokenView
from playground.records import PromptView, Variant
from playground.ui.html import prompt, tokens
from playground.ui.html.panel import Label
from playground.ui.theme import HERE
from tests.support.app import chromium
from tests.support.axe import faults

pytestmark = pytest.mark.ui

ONE, OTHER = Label("One", Variant("one", "onnx", "int8")), Label("Other", Variant("other", "onnx", "int8"), 1)
THEME = """
<style>
  :root { --body-text-color: #1e293b; --body-text-color-subdued: #64748b; --border-color-primary: #e2e8f0;
    --radius-lg: 6px; --radius-sm: 3px; --font: sans-serif; --font-mono: monospace; }
  .dark { --body-text-color: #f1f5f9; --body-text-color-subdued: #94a3b8; --border-color-primary: #334155; }
  body { background: #f8fafc; color: var(--body-text-color); } body.dark { background: #020617; }
</style>
"""
"""What of gradio's theme the styles are written with."""


def token(piece: str, probability: float, rank: int = 1, name: str = "") -> TokenAt:
    others = tuple(Choice(place + 20, f" other {place}", probability / (place + 2)) for place in range(5))
    return TokenAt(7, piece, name or piece, probability, rank, 0.7, (Choice(7, piece, probability), *others))


def view(*pieces: TokenAt, column: int = 0) -> TokenView:
    return TokenView(Variant("one", "onnx", "int8"), "c1", column, pieces, 3.5, 0.69, 50_000)


ANSWER = view(
    token("Paris", 0.97), token(" is", 0.6), token(" the", 0.3), token(" end", 0.1), token("!\n", 0.01, 1234),
    token("", 0.9, name="<end>"), column=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


def shown(browser: Any, body: str, theme: str = "light", width: int = 900) -> Any:
    page = browser.new_page(viewport={"width": width, "height": 700})
    read = [(HERE / "styles" / name).read_text() for name in ("page.css", "tokens.css")]
    script = (HERE / "scripts" / "tokens.js").read_text()
    page.set_content(
        f'<!doctype html><html lang="en"><title>t</title>{THEME}<style>{"".join(read)}</style><body class="{theme}">'
        f'<main class="gradio-container"><h1>t</h1><h2>t</h2>{body}</main><script>{script}</script></body></html>'
    )
    return page


def test_a_token_opens_its_figures_and_each_alternative_can_be_continued_from(browser: Any) -> None:
    page = shown(browser, tokens.view_html(ANSWER, ONE))
    assert page.locator("[popover]").count() == 1
    page.locator(".tok[data-at='4']").click()
    slip = page.locator(".token-slip")
    assert slip.is_visible()
    assert (
        "1,234" in slip.inner_text() and "1.0 %" in slip.inner_text() and "0.70 nats (1.01 bits)" in slip.inner_text()
    )
    assert slip.locator("li").count() == 6
    assert slip.locator("li.is-own b").inner_text() == "!↵"
    button = slip.locator("li").nth(2).locator("[data-do=go-on]")
    data = button.evaluate("b => [b.dataset.column, b.dataset.at, b.dataset.token, b.getAttribute('aria-label')]")
    assert data == ["3", "4", "21", "Continue from here: ␣other␣1"]
    box, at = slip.bounding_box(), page.locator(".tok[data-at='4']").bounding_box()
    assert abs(box["x"] - at["x"]) < 340 and (box["y"] >= at["y"] or box["y"] + box["height"] <= at["y"])
    page.locator(".tok[data-at='0']").click()
    assert "97.0 %" in slip.inner_text(), "the same popover is filled anew"
    button.click()
    assert not slip.is_visible()
    page.close()


def test_the_keyboard_goes_from_token_to_token_and_opens_and_closes_one(browser: Any) -> None:
    page = shown(browser, tokens.view_html(ANSWER, ONE))
    page.locator(".tok[data-at='0']").focus()
    focused = "() => document.activeElement.dataset.at"
    for key, place in (("ArrowRight", "1"), ("End", "5"), ("ArrowRight", "5"), ("ArrowLeft", "4"), ("Home", "0")):
        page.keyboard.press(key)
        assert page.evaluate(focused) == place
    page.keyboard.press("Enter")
    assert page.locator(".token-slip").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.dataset.do") == "go-on"
    page.keyboard.press("Escape")
    assert not page.locator(".token-slip").is_visible()
    assert page.evaluate(focused) == "0", "the focus is where it was"
    page.close()


def test_in_two_rows_the_arrows_go_along_one_and_across_to_the_other(browser: Any) -> None:
    other = view(token("Par", 0.5), token("is", 0.9), token(" is", 0.1), token(" a", 0.3), column=1)
    page = shown(browser, tokens.aligned_html(ANSWER, other, (ONE, OTHER)))
    pairs = page.locator(".pair")
    upper, lower = pairs.first.locator(".row-0").bounding_box(), pairs.first.locator(".row-1").bounding_box()
    assert lower["y"] > upper["y"] and abs(lower["x"] - upper["x"]) < 2
    page.locator(".row-0 .tok").first.focus()
    where = "() => [document.activeElement.dataset.column, document.activeElement.dataset.at]"
    for key, place in (
        ("ArrowRight", ["3", "1"]),
        ("ArrowDown", ["1", "2"]),
        ("ArrowLeft", ["1", "1"]),
        ("ArrowUp", ["3", "0"]),
    ):
        page.keyboard.press(key)
        assert page.evaluate(where) == place
    page.close()


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color, below) => {
    canvas.fillStyle = `rgb(${below})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const behind = (node) =>
    node ? rgb(getComputedStyle(node).backgroundColor, behind(node.parentElement)) : [255, 255, 255];
  const light = (c) => c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const looked = ".tok, .piece, .piece .line, .context, .token-view dt, .token-view .note";
  return [...document.querySelectorAll(looked)].map((node) => {
    const below = behind(node), ink = rgb(getComputedStyle(node).color, below);
    const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), node.className];
  });
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_piece_can_be_read_in_both_themes_and_levels_differ_by_more_than_colour(browser: Any, theme: str) -> None:
    read = PromptView("one", "", (1, 2, 3, 4, 5), ("<s>", "a\n", "b", "c", "d"), (), (0,), ("So",), 100, 95)
    page = shown(browser, tokens.view_html(ANSWER, ONE) + prompt.prompt_html(read, ONE), theme)
    found = page.evaluate(CONTRAST)
    assert len(found) > 15 and not [each for each in found if each[0] < 4.5]
    lines = page.evaluate(
        "() => [...document.querySelectorAll('.token-run .tok')].map(t => getComputedStyle(t).borderBottomWidth)"
    )
    assert lines[:5] == ["1px", "2px", "3px", "4px", "6px"]
    page.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_page(browser: Any, width: int) -> None:
    other = view(*ANSWER.tokens[:3], token(" a" * 60, 0.3), column=1)
    read = PromptView("one", "", tuple(range(900)), ("<s>", *["word "] * 899), (), (0,), (), 1000, 100)
    body = (
        tokens.view_html(ANSWER, ONE)
        + tokens.aligned_html(ANSWER, other, (ONE, OTHER))
        + prompt.prompt_html(read, ONE)
        + prompt.prompt_html(PromptView("far", "[]", (), ()), OTHER)
    )
    page = shown(browser, body, width=width)
    page.locator(".tok[data-at='1']").first.click()
    assert faults(page) == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.close()


def test_the_numbers_of_tokens_show_by_a_switch_and_by_the_keyboard(browser: Any) -> None:
    read = PromptView("one", "", (101, 102, 103), ("<s>", "a", "b"), (), (0,), (), 100, 97)
    page = shown(browser, prompt.prompt_html(read, ONE))
    number = "place => getComputedStyle(document.querySelectorAll('.piece')[place], '::after').content"
    assert page.evaluate(number, 1) == "none"
    page.locator(".piece").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(number, 1) == '"102"' and page.evaluate(number, 0) == "none"
    page.locator(".prompt-ids input").check()
    assert [page.evaluate(number, place) for place in range(3)] == ['"101"', '"102"', '"103"']
    page.close()


@pytest.mark.alone
def test_two_thousand_tokens_are_put_on_the_page_without_a_long_pause(browser: Any) -> None:
    long = view(*(token(f" word{n}" if n % 9 else "\n", (n % 97) / 100 + 0.01) for n in range(2000)))
    page = shown(browser, '<div id="place"></div>')
    took = page.evaluate(
        """async (drawn) => {
          const began = performance.now();
          document.querySelector("#place").innerHTML = drawn;
          document.body.offsetHeight;
          const put = performance.now() - began;
          const token = document.querySelectorAll(".tok[data-at]")[1500];
          const pressed = performance.now();
          token.click();
          document.body.offsetHeight;
          return [put, performance.now() - pressed, document.querySelectorAll("[popover]").length];
        }""",
        tokens.view_html(long, ONE),
    )
    assert took[0] < 1000 and took[1] < 200 and took[2] == 1, took
    page.close()
