"""Card text comes from strangers: whatever it holds, the HTML made of it can do nothing."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from markdown_it.renderer import RendererHTML

from playground.catalog import card_html
from playground.catalog.card_html import MAX_TEXT, is_cut, safe_html
from playground.catalog.card_text import BadFrontMatter, front_matter, repository_url, safe_url, split

BASE = repository_url("owner/name", "abc123")
ALLOWED = {
    "p",
    "h1",
    "h2",
    "ul",
    "li",
    "blockquote",
    "pre",
    "code",
    "em",
    "a",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
}
ALLOWED |= {"strong", "br", "hr"}


class Tags(HTMLParser):
    """The tags and attributes a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def assert_harmless(text: str) -> None:
    seen = Tags(text)
    assert seen.tags <= ALLOWED, seen.tags
    for tag, name, value in seen.attributes:
        assert (tag, name) in {("a", "href"), ("a", "target"), ("a", "rel"), ("p", "class")}, (tag, name)
        if name == "href":
            assert value.startswith(("https://", "http://")), value


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "text <b onclick=alert(1)>bold</b> <svg/onload=alert(1)>",
    "<details open ontoggle=alert(1)>\n\nx\n\n</details>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](java\tscript:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](  javascript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "[click](vbscript:x)",
    "[click](file:///etc/passwd)",
    "[click](\\\\evil.example\\x)",
    "[click](https://user:pw@evil.example/)",
    '[click](https://a.example/" onmouseover="alert(1))',
    "<javascript:alert(1)>",
    "[a]: javascript:alert(1)\n\n[a]",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    '![x" onerror="alert(1)](https://evil.example/p.png)',
    "[![x](https://evil.example/p.png)](javascript:alert(1))",
    "[![x](https://evil.example/p.png)](https://evil.example/)",
    "<scr<script>ipt>alert(1)</script>",
    "<<script>script>alert(1)<</script>/script>",
    "```html\n<script>alert(1)</script>\n```",
    "`<img src=x onerror=alert(1)>`",
    "| a |\n|---|\n| <script>alert(1)</script> |",
    "<!-- --><script>alert(1)</script>",
    "<style>@import url(https://evil.example)</style>",
    '<iframe src="https://evil.example"></iframe>',
    '<form action="https://evil.example"><input name=x></form>',
    '<a href="javascript:alert(1)">x</a>',
    "<math><mtext></mtext><script>alert(1)</script></math>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u202e<script>\x00alert(1)</script>\ud800",
    "<plaintext>",
    "<?php x ?><![CDATA[<script>]]>",
]


@pytest.mark.parametrize("card", HOSTILE)
def test_nothing_of_a_hostile_card_becomes_active(card: str) -> None:
    for text in (card, f"# T\n\n{card}\n\nmore", f"- {card}", f"> {card}", f"a *{card}* b"):
        assert_harmless(safe_html(text, BASE))


def test_the_check_above_would_see_a_script() -> None:
    with pytest.raises(AssertionError):
        assert_harmless("<p onclick=x>")
    with pytest.raises(AssertionError):
        assert_harmless("<script>")
    with pytest.raises(AssertionError):
        assert_harmless('<a href="javascript:x">')


def test_ordinary_markdown_reads_as_it_should() -> None:
    made = safe_html("# A *card*\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | `x<y` |\n\n```py\na < b\n```", BASE)
    for part in ("<h1>A <em>card</em></h1>", "<li>one</li>", "<td>1</td>", "<code>x&lt;y</code>", "a &lt; b"):
        assert part in made


def test_the_yaml_block_is_not_part_of_the_text() -> None:
    card = "---\nlicense: mit\n---\n# Title\n"
    assert split(card) == ("license: mit", "# Title\n")
    assert "license" not in safe_html(card, BASE)
    assert split("# no block\n---\n")[0] == ""


def test_words_inside_html_are_kept_and_its_tags_are_not() -> None:
    made = safe_html('<div align="center"><h1>Name</h1> of <i>it</i><script>evil()</script></div>', BASE)
    assert made == "<p>Name of it</p>"


def test_a_picture_is_a_link_with_its_words_and_loads_nothing() -> None:
    made = safe_html("![a chart](figures/loss.png)", BASE)
    assert "<img" not in made
    assert 'href="https://huggingface.co/owner/name/blob/abc123/figures/loss.png"' in made
    assert ">a chart</a>" in made


@pytest.mark.parametrize(
    ("link", "address"),
    [
        ("LICENSE", "https://huggingface.co/owner/name/blob/abc123/LICENSE"),
        ("./docs/a.md#part", "https://huggingface.co/owner/name/blob/abc123/docs/a.md#part"),
        ("/datasets/owner/data", "https://huggingface.co/datasets/owner/data"),
        ("https://arxiv.org/abs/1", "https://arxiv.org/abs/1"),
        ("//arxiv.org/abs/1", "https://arxiv.org/abs/1"),
        ("mailto:a@b.example", ""),
        ("https://", ""),
        ("http://[bad", ""),
        ("", BASE),
    ],
)
def test_links_are_made_absolute_or_dropped(link: str, address: str) -> None:
    assert safe_url(link, BASE) == address


def test_the_belt_alone_stops_what_the_rules_would_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a rule of ours were forgotten: markdown-it writes HTML and images as they stand."""
    monkeypatch.setattr(card_html, "_CardRenderer", RendererHTML)
    for card in HOSTILE:
        assert_harmless(safe_html(card, BASE))


def test_code_does_not_name_its_language_and_links_open_apart_from_the_page() -> None:
    made = safe_html("```py\nx\n```\n\n[a](https://a.example/b?c=d&e)", BASE)
    assert "<code>x" in made
    link = next(part for part in made.split("<") if part.startswith("a "))
    for part in ('href="https://a.example/b?c=d&amp;e"', 'target="_blank"', 'rel="noopener noreferrer nofollow"'):
        assert part in link


def test_words_of_two_cells_of_html_stay_apart() -> None:
    assert safe_html("<table><tr><td>a</td><td>b &amp; c</td></tr></table>", BASE) == "<p>a b &amp; c</p>"


def test_a_huge_card_is_cut_and_says_so() -> None:
    card = "word " * 1_000_000
    assert is_cut(card) and not is_cut("word")
    start = time.monotonic()
    made = safe_html(card, BASE)
    assert len(made) < MAX_TEXT + 1000
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "unit",
    [
        "<div>",
        "<b>",
        "<div>\n\n",
        "*a _b ",
        "[",
        "![",
        "[a](",
        "> ",
        "<",
        "`",
        "| a ",
        "- ",
        "\\",
        "&",
        "<a ",
        "***",
        "[a][b",
    ],
)
def test_no_pattern_makes_rendering_slow(unit: str) -> None:
    start = time.monotonic()
    assert_harmless(safe_html(unit * (20_000 // len(unit)), BASE))
    assert time.monotonic() - start < 10


def test_front_matter_gives_plain_values() -> None:
    assert front_matter("license: mit\ntags: [a, b]\n1: x") == {"license": "mit", "tags": ["a", "b"]}
    assert front_matter("") == {}


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(12)
)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (LAUGHS, "aliases"),
        ("a: &a\n  <<: *a", "aliases"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: {" * 200 + "}" * 200, "nested too deeply"),
        ("a: [" + "1," * 60_000 + "]", "too long"),
        ("a: " + "x" * 300_000, "300,003 characters"),
        ("a: [", "can't be read"),
        ("!!python/object/apply:os.system [ls]", "can't be read"),
        ("- a\n- b", "not a list of keys"),
        ("a: 2026-99-99", "can't be read"),
        ("a: !!bool foo", "can't be read"),
        ('a: !!int ""', "can't be read"),
        ('a: !!float ""', "can't be read"),
        ("a: !!timestamp foo", "can't be read"),
        ("? [a]\n: b", "can't be read"),
        ("\x07", "can't be read"),
    ],
)
def test_a_dangerous_yaml_block_is_refused_with_a_reason(block: str, reason: str) -> None:
    start = time.monotonic()
    with pytest.raises(BadFrontMatter, match=reason):
        front_matter(block)
    assert time.monotonic() - start < 5
