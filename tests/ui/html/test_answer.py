"""Answers as HTML: markdown, code, maths and thinking are drawn; nothing that a model writes can act."""

from __future__ import annotations

import gc
import html
import re
import time
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser

import pytest

from playground.results.thinking import split
from playground.ui.html import answer
from playground.ui.html.answer import answer_html, raw_html, thinking_html

OWN = {"data-key", "dir", "role", "tabindex", "aria-label", "class", "type", "data-do"}
"""Attributes that this module writes around what a model wrote."""


class Seen(HTMLParser):
    """All tags with their attributes; fails on one that is not closed in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(markup)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        ("# A", "h4"),
        ("**a**", "strong"),
        ("- a\n- b", "li"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "table"),
        ("~~a~~", "s"),
        ("```python\na\n```", "pre"),
        ("```\nunclosed", "pre"),
        ("$x^2$", "msup"),
        (r"\(x^2\)", "msup"),
        ("$$\n\\frac{1}{2}\n$$", "mfrac"),
        ("so\n\\[ \\frac{1}{2} \\]", "mfrac"),
        ("[a](https://a.example)", "a"),
    ],
)
def test_what_models_write_is_drawn(source: str, tag: str) -> None:
    assert tag in Seen(answer_html(source)).names()


@pytest.mark.parametrize(
    "source",
    [
        "It costs $5 and $10.",
        "$5/$10",
        "It costs $5 (about 4 euros) or 6$.",
        "US$5-US$6",
        "set $HOME and $PATH",
        "from $20-$30, or $1,000",
        r"a \$5 and \$6",
    ],
)
def test_prices_are_no_maths(source: str) -> None:
    assert "math" not in Seen(answer_html(source)).names()


def test_maths_that_cannot_be_read_stays_as_it_was_written() -> None:
    for source in ("$\\frac{$", r"$\nosuchcommand{x}$", "$$" + "{" * 900 + "$$"):
        drawn = answer_html(source)
        assert "math" not in Seen(drawn).names()
        assert source.strip("$") in text_of(drawn)


def test_a_formula_takes_no_more_room_than_its_place() -> None:
    drawn = answer_html(
        r"$\hspace{-100em}x + \hspace{900em}y$ $\style{position:fixed}{z+1}$ $\href{javascript:a}{x+1}$"
    )
    seen = Seen(drawn)
    assert "math" in seen.names()
    assert all(set(attributes) <= {"display"} for tag, attributes in seen.tags if tag.startswith("m"))


def test_tasks_are_boxes_to_read() -> None:
    drawn = answer_html("- [ ] one\n- [x] two\n- [y] three")
    assert "☐ one" in drawn
    assert "☑ two" in drawn
    assert "[y] three" in drawn
    assert "input" not in Seen(drawn).names()


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](https://evil.example/x.png)",
    "[x](javascript:alert(1)) [y](data:text/html,a) [z](//evil.example)",
    "<https://user:pw@evil.example>",
    "<style>*{display:none}</style><div style='position:fixed' id=run popover data-do=stop>x</div>",
    "<details open><summary>x</summary></details><form><input name=a><button data-do=remove>x</button></form>",
    '```"><script>alert(1)</script>\nx\n```',
    "```x' onload=alert(1) y\n</code></pre><script>alert(1)</script>\n```",
    "$\\text{<img src=x onerror=alert(1)>}+1$",
    "$\\text{</math><script>alert(1)</script>}+1$",
    "$$\\text{<style><img src=x onerror=alert(1)></style>}$$",
    "| <b onclick=alert(1)>a | b |\n|---|:-:|\n| <table> | </table> |",
    "<math><mtext><table><mglyph><style><img src onerror=alert(1)>",
    "a\ud800b\x00\x1b",
    "<table></table><pre></pre>",
]


@pytest.mark.parametrize("source", [*HOSTILE, "\n\n".join(HOSTILE), " ".join(HOSTILE)])
def test_nothing_that_a_model_writes_can_act(source: str) -> None:
    drawn = answer_html(source)
    drawn.encode("utf-8")
    for tag, attributes in Seen(drawn).tags:
        assert tag not in {"script", "img", "style", "form", "input", "iframe", "svg", "details", "b"}
        assert set(attributes) <= OWN | {"href", "title", "target", "rel", "align", "display", "start"}
        assert attributes.get("data-do") in (None, "copy-code")
        assert attributes.get("class") in (None, "scroll", "code-block", "code-head", "plain")
        if tag == "a":
            assert (attributes["href"] or "").startswith("https://")
            assert attributes["rel"] == "noopener noreferrer nofollow"


def test_writing_cannot_be_turned_around_beyond_its_line() -> None:
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", answer_html("a \u202e b\n\n```\n\u2066\n```"))


@pytest.mark.parametrize(
    "source", [*HOSTILE[:-2], "a\r\nb\r\n\r\n- c\n\n\n", "", " \n", "\n\n  x", "<think>", "a\u2028b\x0bc\n\nd"]
)
def test_raw_is_the_text_itself(source: str) -> None:
    assert text_of(raw_html(source)) == source


ANSWER = """# Blue

The *sky* is **blue** because $\\lambda$ is short.

- one
- two

  more of two

1. a
2. b

| a | b |
|---|---|
| 1 | 2 |

```python
if a < b:

    print("x")
```

> quoted

Title
=====

$$
x^2
$$

The end.
"""


def test_an_answer_drawn_as_it_grows_is_the_one_drawn_at_its_end() -> None:
    whole = answer_html(ANSWER)
    for length in range(1, len(ANSWER) + 1):
        growing = answer_html(ANSWER[:length], growing=True)
        assert growing == answer_html(ANSWER[:length]), ANSWER[:length]
    assert growing == whole


def test_blocks_that_are_finished_are_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(f"Paragraph {n} of this." for n in range(300))
    answer_html(text, growing=True)
    drawn: list[object] = []
    render = answer._rendered
    monkeypatch.setattr(answer, "_rendered", lambda group: drawn.append(group) or render(group))
    answer_html(text + " And more", growing=True)
    assert len(drawn) == 1


def taken_s(draw: Callable[[], object]) -> float:
    """Seconds of processor, to which neighbours add little and what other tests left behind nothing."""
    gc.disable()
    try:
        began = time.thread_time()
        draw()
        return time.thread_time() - began
    finally:
        gc.enable()


@pytest.mark.parametrize("separator", ["\n\n", "\n- ", " ", "\n"])
def test_an_update_of_a_long_answer_is_cheap(separator: str) -> None:
    """Beside drawing the same answer whole: at most a tenth of it was seen."""

    def answer_of(number: int) -> str:
        return separator.join([f"Some *words* of `an` answer {number}, and more"] * 420)

    def update_s(words: str) -> float:
        lengths = range(len(words) // 2, len(words), 60)
        return sum(taken_s(partial(answer_html, words[:length], growing=True)) for length in lengths) / len(lengths)

    # None of the answers was drawn before.
    updates = [update_s(answer_of(number)) for number in range(3)]
    whole = [taken_s(partial(answer_html, answer_of(number))) for number in range(3, 6)]
    assert min(updates) < 0.3 * min(whole)


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "a",
            "a ",
            "a\n",
            "a\n\n",
            "> ",
            "- ",
            "  - a\n",
            "*",
            "*a ",
            "**a",
            "_a_",
            "[",
            "![",
            "[a](",
            "`",
            "$",
            "$$",
        ),
        *(
            "$a",
            "\\(",
            "\\[\n",
            "$$\n",
            "|",
            "|a|b|\n|-|-|\n",
            "```\n",
            "<",
            "<a",
            "&",
            "~~",
            "1. ",
            "#\n",
            "e\u0301\u202e",
        ),
    ],
)
def test_four_times_the_text_takes_about_four_times_the_time(piece: str) -> None:
    def drawn_s(characters: int) -> float:
        return taken_s(lambda: Seen(answer_html(piece * (characters // len(piece)))))

    few, many = (min(drawn_s(characters) for _ in range(2)) for characters in (12_000, 48_000))
    assert many < 8 * few + 0.1, "sixteen times would be quadratic"


def test_what_is_beyond_the_most_that_is_rendered_costs_next_to_nothing() -> None:
    most = "some *words*\n\n" * (answer.MAX_TEXT // 14)
    assert taken_s(lambda: answer_html(most * 5)) < 2 * taken_s(lambda: answer_html(most))


def test_thinking_is_folded_with_its_size_and_open_while_it_goes_on() -> None:
    done = thinking_html(split("<think>one *two* three</think>Paris."))
    assert "Thought · 3 words" in text_of(done)
    assert "<em>two</em>" in done
    assert " open>" not in done
    going = thinking_html(split("<think>one"), tokens=7, growing=True)
    assert "Thinking · 7 tokens" in text_of(going)
    assert " open>" in going
    assert thinking_html(split("Paris.")) == ""
